"""Handing jobs over without async: the print provider for programs that live for one job.

It does what `client.Provider` does, in the calling thread and one job at a time, and loads neither
Trio nor anything else that takes long. It does not look in the background whether a preferred
server is well again: whoever lives that long uses `client`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from spoold.model.errors import OperationError
from spoold.net.blocking import CHECK_S, Check, connect, connect_local
from spoold.net.context import is_about_certificate, reason_of
from spoold.provider.closing import Closing
from spoold.provider.course import (
    PAUSE_FIRST_S,
    PAUSE_MAX_S,
    RECONNECT_S,
    SERVERS_MAX,
    TURNS_MAX,
    Course,
    Lost,
    Progress,
    default_timeout_s,
    hello_arguments,
    submit_arguments,
)
from spoold.provider.document import Document, Source
from spoold.provider.endpoint import Credentials, Endpoint, Roster
from spoold.provider.line import Line
from spoold.provider.racing import Opener, first_line
from spoold.provider.receipt import CHECK_SERVERS, Receipt, Unreachable


class _TooLate(BaseException):
    """The deadline of a submission is over; nothing on the way takes it for its own."""


@dataclass(slots=True, eq=False)
class _Server:
    endpoint: Endpoint
    line: Line | None = None

    @property
    def name(self) -> str:
        return self.endpoint.text

    @property
    def is_open(self) -> bool:
        return self.line is not None and self.line.is_open


def _nothing() -> None:
    """The check of those who are in no hurry."""


class DirectProvider(Closing):
    """Use it as a `with` block. The arguments are those of `client.Provider`.

    `check` is called a few times a second while something is waited for; what it raises ends the
    call, and comes out of it.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        *,
        tls: Credentials | None = None,
        name: str = "",
        kind: str = "provider",
        software: str = "spoold",
        connect_timeout_s: float = 5.0,
        answer_timeout_s: float = 60.0,
        doubt_timeout_s: float = 30.0,
        unreachable_timeout_s: float = 60.0,
        ping_s: float = 15.0,
        learns_endpoints: bool = True,
        check: Check = _nothing,
    ) -> None:
        """Nothing is connected before it is needed.

        Raises:
            ConfigError: an endpoint is none. IdentityError, OSError: a file of `tls` is no use.
            ValueError: there is no endpoint at all.
        """
        given = [Endpoint.parse(text) for text in dict.fromkeys(endpoints)]
        self._servers = [_Server(endpoint) for endpoint in given]
        if not self._servers:
            raise ValueError("a provider needs an endpoint")
        self._roster = Roster(given, SERVERS_MAX)
        self._hello = hello_arguments(kind, name, software, ping_s)
        self._context = None if tls is None else tls.context()
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._doubt_timeout_s = doubt_timeout_s
        self._unreachable_timeout_s = unreachable_timeout_s
        self._learns_endpoints = learns_endpoints
        self._checked = check
        self._ends_at = float("inf")
        self._current = self._servers[0]

    def close(self) -> None:
        for server in self._servers:
            if server.line is not None:
                server.line.close()

    @property
    def current(self) -> str:
        """The endpoint that the next job goes to first."""
        return self._current.name

    # -- submitting ------------------------------------------------------------------------------

    def submit(
        self,
        source: Source,
        *,
        job_uuid: UUID | None = None,
        digest_algorithm: str = "blake3",
        timeout_s: float | None = None,
        progress: Progress | None = None,
        **job: Any,
    ) -> Receipt:
        """See `client.Provider.submit`, also for what is raised; `job` are its other arguments."""
        uuid = uuid4() if job_uuid is None else job_uuid
        document = Document(source, digest_algorithm)
        try:
            args = submit_arguments(uuid, document.size, digest_algorithm, **job)
            course = Course(uuid, document.size, time.monotonic())
            if timeout_s is None:
                timeout_s = default_timeout_s(document.size)
            self._ends_at = time.monotonic() + timeout_s
            return self._deliver(args, document, progress, course)
        except _TooLate:
            raise course.given_up(f"no answer within {timeout_s:g} s") from None
        finally:
            self._ends_at = float("inf")
            document.close()

    def _deliver(
        self, args: dict[str, Any], document: Document, progress: Progress | None, course: Course
    ) -> Receipt:
        pause_s = PAUSE_FIRST_S
        servers: dict[str, _Server] = {}  # also those that have gone from the list meanwhile
        while True:
            names = [server.name for server in self._in_order()]
            servers |= {server.name: server for server in self._in_order()}
            candidates = course.candidates(names, time.monotonic())
            receipt = self._go_round(
                args, document, progress, course, [servers[name] for name in candidates]
            )
            if receipt is not None:
                return receipt
            names = [server.name for server in self._in_order()]
            course.check_hope(names, time.monotonic(), self._unreachable_timeout_s)
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def _go_round(
        self,
        args: dict[str, Any],
        document: Document,
        progress: Progress | None,
        course: Course,
        left: list[_Server],
    ) -> Receipt | None:
        """Try the servers, whoever is connected first, until one may have the job."""
        asked_first = course.asked_first
        while left and course.asked_first in ("", asked_first):
            server = self._first_of(left, course.note_no_connection)
            if server is None:
                break
            left.remove(server)
            receipt = self._take_turns(args, document, progress, course, server)
            if receipt is not None:
                return receipt
        return None

    def _take_turns(
        self,
        args: dict[str, Any],
        document: Document,
        progress: Progress | None,
        course: Course,
        server: _Server,
    ) -> Receipt | None:
        """Try one endpoint: again at once when the connection broke, so that an upload resumes."""
        for _ in range(TURNS_MAX):
            try:
                line = self._connected(server)
            except Lost as error:
                course.note_no_connection(server.name, error)
                return None
            course.reached_at = time.monotonic()
            guid = str(line.welcome["node_guid"])
            was_in_doubt = guid in course.doubts

            def on_end(guid: str = guid) -> None:
                course.doubts[guid] = server.name

            try:
                has_others = len(self._servers) > 1
                result = line.upload(args, document, on_end, progress, is_watched=has_others)
            except Lost as error:
                course.note_lost(
                    server.name,
                    guid,
                    was_in_doubt,
                    error,
                    now=time.monotonic(),
                    doubt_timeout_s=self._doubt_timeout_s,
                    kin=self._roster.kin_of(server.name),
                )
                if error.was_silent:
                    return None
            except OperationError as error:
                if not course.note_refusal(server.name, line.welcome, was_in_doubt, error):
                    return None
                self._sleep(PAUSE_FIRST_S)
            else:
                self._current = server
                return course.receipt(server.name, line.welcome, result, document.digest())
        return None

    # -- other operations ------------------------------------------------------------------------

    def call(
        self,
        op: str,
        args: dict[str, Any],
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """See `client.Provider.call`, also for what is raised."""
        causes: dict[str, str] = {}
        distrusted: list[str] = []

        def failed(name: str, error: Lost) -> None:
            causes[name] = str(error)
            distrusted.extend([name] if error.is_distrusted else [])

        server = self._first_of(self._in_order(), failed)
        if server is not None:
            try:
                return self._connected(server).call(op, args, on_event)
            except Lost as error:
                raise Unreachable(f"{server.name}: {error}.", "Ask again.") from error
        listed = "; ".join(f"{name}: {cause}" for name, cause in causes.items())
        message = f"no server could be reached ({listed})."
        raise Unreachable(message, CHECK_SERVERS, None, causes, distrusted)

    # -- servers ---------------------------------------------------------------------------------

    def _in_order(self) -> list[_Server]:
        return [self._current, *(one for one in self._servers if one is not self._current)]

    def _first_of(
        self, servers: list[_Server], failed: Callable[[str, Lost], None]
    ) -> _Server | None:
        """The first of `servers` to have a connection; those that have none are taken out of it,
        and `failed` hears why.
        """
        if servers[0].is_open:
            return servers[0]
        tried = list(servers)

        def left_out(number: int, error: Lost) -> None:
            servers.remove(tried[number])
            failed(tried[number].name, error)

        found = first_line([self._opener(one) for one in tried], left_out, self._check)
        if found is None:
            return None
        number, line = found
        self._adopt(tried[number], line)
        return tried[number]

    def _connected(self, server: _Server) -> Line:
        """The connection to `server`.

        Raises:
            Lost: there is none.
        """
        if server.line is None or not server.line.is_open:
            self._adopt(server, self._opener(server)(self._check))
        assert server.line is not None
        return server.line

    def _opener(self, server: _Server) -> Opener:
        """How to connect to `server`, in any thread; a line that is open is as good."""
        where, timeout_s = server.endpoint.where, self._connect_timeout_s
        if server.line is not None and len(self._servers) > 1:
            timeout_s = min(timeout_s, RECONNECT_S)

        def open_line(check: Check) -> Line:
            known, server.line = server.line, None
            if known is not None and known.is_open:
                return known
            try:
                if isinstance(where, Path):
                    stream = connect_local(where, timeout_s=timeout_s, check=check)
                else:
                    stream = connect(
                        where.host, where.port, self._context, timeout_s=timeout_s, check=check
                    )
            except OSError as error:
                raise Lost(reason_of(error), is_about_certificate(error)) from error
            return Line(
                stream, self._hello, timeout_s=timeout_s, answer_timeout_s=self._answer_timeout_s
            )

        return open_line

    def _adopt(self, server: _Server, line: Line) -> None:
        server.line = line
        if self._learns_endpoints:
            self._roster.hear(server.name, line.welcome.get("role"), line.welcome.get("endpoints"))
            self._arrange()

    def _arrange(self) -> None:
        """Have those that are listed, and those that are in use."""
        known = {server.name: server for server in self._servers}
        listed = [known.get(one.text) or _Server(one) for one in self._roster.listed()]
        in_use = [one for one in self._servers if one is self._current or one.is_open]
        self._servers = [*listed, *(one for one in in_use if one not in listed)]

    # -- time ------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._checked()
        if time.monotonic() >= self._ends_at:
            raise _TooLate

    def _sleep(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while (left_s := ends_at - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left_s, CHECK_S))
