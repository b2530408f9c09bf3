"""Handing jobs over, with fail-over: the print provider for Trio.

In: documents, and endpoints in order of preference. Out: a `Receipt` for each job, or an error that
says whether anything was accepted. A job keeps its job-uuid over every attempt, so that no server
makes a second one of it. What only one server can know (it got the whole job, and its answer was
lost) is asked there first, for a bounded time; when that fails the receipt says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

import trio

from spoold.codec.frame import VERSIONS
from spoold.model.errors import OperationError
from spoold.net.connect import TcpNetwork
from spoold.provider.connection import Connection, Lost, Progress
from spoold.provider.document import Document, Source
from spoold.provider.endpoint import Credentials, Network
from spoold.provider.receipt import (
    CHECK_SERVERS,
    AnswerUnknown,
    Receipt,
    SubmitRefused,
    Unreachable,
)
from spoold.provider.servers import Server, Servers

PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 5.0
SLOWEST_BYTES_S = 64 * 1024  # what the default deadline allows a document to take
TURNS_MAX = 3

# Refusals that say nothing about the job itself: the same server may take it in a moment, ...
TRANSIENT = frozenset({"busy", "timed-out", "internal-error"})
# ... or another server may take it now.
ELSEWHERE = frozenset({"spool-area-full", "not-accepting", "version-not-supported"})


@dataclass(slots=True, eq=False)
class _Course:
    """How one job fares. `doubts` are endpoints that got it whole and did not answer, by GUID."""

    args: dict[str, Any]
    document: Document
    progress: Progress | None
    doubts: dict[str, str] = field(default_factory=dict)
    asked_first: Server | None = None  # the one that must be asked before all others,
    asked_until: float = 0.0  # until then
    causes: dict[str, str] = field(default_factory=dict)  # why not, by endpoint
    distrusted: set[str] = field(default_factory=set)  # the endpoints where it is a certificate
    refusals: dict[str, OperationError] = field(default_factory=dict)
    # The bytes of an earlier attempt may have been others; another connection may have had it.
    second_chances: set[str] = field(default_factory=lambda: {"digest-mismatch", "conflict"})
    reached_at: float = 0.0

    def note(self, server: Server, error: Lost | OperationError) -> None:
        self.causes[server.name] = str(error)
        self.distrusted.discard(server.name)
        if isinstance(error, Lost) and error.is_distrusted:
            self.distrusted.add(server.name)


class Provider:
    """Use it as an `async with` block; its connections live as long. Any number of tasks may
    submit at once: their jobs share a connection, pipelined.

    `endpoints` are "host:port" or "unix:/path", the preferred one first. `tls` chooses TLS: with it
    a port 9192 or 9195 is expected, without it 9191. After a fail-over the endpoints before the
    one in use are tried again every `probe_interval_s`.
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
        probe_interval_s: float = 30.0,
        ping_s: float = 15.0,
        learns_endpoints: bool = True,
        network: Network | None = None,
    ) -> None:
        """Nothing is connected before it is needed.

        Raises:
            ConfigError: an endpoint is none. IdentityError, OSError: a file of `tls` is no use.
        """
        hello = {
            "versions": list(VERSIONS),
            "kind": kind,
            "name": name,
            "software": software,
            "ping_s": ping_s,
        }
        self._servers = Servers(
            endpoints,
            hello,
            TcpNetwork() if network is None else network,
            None if tls is None else tls.context(),
            connect_timeout_s=connect_timeout_s,
            answer_timeout_s=answer_timeout_s,
            probe_interval_s=probe_interval_s,
            learns_endpoints=learns_endpoints,
        )
        self._doubt_timeout_s = doubt_timeout_s
        self._unreachable_timeout_s = unreachable_timeout_s
        self._block: AbstractAsyncContextManager[None] | None = None

    async def __aenter__(self) -> Provider:
        self._block = self._opened()
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        raised: Exception | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(self._servers.run)
            try:
                yield
            except Exception as error:
                raised = error  # as it is, not as a group of one
            finally:
                nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised

    @property
    def current(self) -> str:
        """The endpoint that the next job goes to first."""
        return self._servers.current.name

    # -- submitting ------------------------------------------------------------------------------

    async def submit(
        self,
        source: Source,
        *,
        printer: str,
        user: str = "",
        title: str = "",
        copies: int = 1,
        priority: int = 50,
        hold: bool = False,
        format: str = "application/octet-stream",
        attributes: dict[str, Any] | None = None,
        job_uuid: UUID | None = None,
        digest_algorithm: str = "blake3",
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Receipt:
        """A server has the job, durably. `source` is bytes, a path, or an open binary file.

        `timeout_s` bounds it all; without it, 10 minutes and a second for each 64 KiB. `progress`
        is called with the bytes sent and the size.

        Raises:
            SubmitRefused: no server will take this job.
            Unreachable: no server took it in time; none has it.
            AnswerUnknown: it went out whole, and whether it was accepted is not known.
            OSError: the document cannot be read.
        """
        uuid = uuid4() if job_uuid is None else job_uuid
        if isinstance(source, bytes | bytearray | memoryview):
            document = Document(source, digest_algorithm)
        else:
            document = await trio.to_thread.run_sync(Document, source, digest_algorithm)
        args = {
            "job_uuid": str(uuid),
            "printer": printer,
            "user": user,
            "title": title,
            "copies": copies,
            "priority": priority,
            "hold": hold,
            "format": format,
            "attributes": attributes or {},
            "size": document.size,
            "digest_algorithm": digest_algorithm,
        }
        course = _Course(args, document, progress, reached_at=trio.current_time())
        if timeout_s is None:
            timeout_s = 600.0 + document.size / SLOWEST_BYTES_S
        try:
            with trio.move_on_after(timeout_s):
                return await self._deliver(course)
            raise self._given_up(course, f"no answer within {timeout_s:g} s")
        finally:
            document.close()

    async def _deliver(self, course: _Course) -> Receipt:
        """Try endpoints until one has the job.

        Raises:
            SubmitRefused, Unreachable, AnswerUnknown, OSError: see `submit`.
        """
        pause_s = PAUSE_FIRST_S
        while True:
            for server in self._candidates(course):
                receipt = await self._take_turns(course, server)
                if receipt is not None:
                    return receipt
                if course.asked_first is not None:
                    break
            if course.asked_first is None:
                self._check_hope(course)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def _candidates(self, course: _Course) -> list[Server]:
        first = course.asked_first
        if first is not None:
            if trio.current_time() < course.asked_until:
                return [first]
            course.asked_first = None
        servers = self._servers.in_order()
        if first is not None:
            servers.remove(first)
            servers.append(first)
        return servers

    def _check_hope(self, course: _Course) -> None:
        """Raises:
        SubmitRefused, Unreachable, AnswerUnknown: trying on is of no use.
        """
        if course.refusals and len(course.refusals) + len(course.causes) >= len(self._servers):
            refusal = next(iter(course.refusals.values()))
            raise self._refused(course, refusal)
        if trio.current_time() - course.reached_at > self._unreachable_timeout_s:
            raise self._given_up(course, "no server could be reached")

    async def _take_turns(self, course: _Course, server: Server) -> Receipt | None:
        """Try one endpoint: again at once when the connection broke, so that an upload resumes."""
        for _ in range(TURNS_MAX):
            try:
                connection = await self._servers.connected(server)
            except Lost as error:
                course.note(server, error)
                return None
            course.reached_at = trio.current_time()
            guid = connection.node_guid
            was_in_doubt = guid in course.doubts

            def on_end(guid: str = guid) -> None:
                course.doubts[guid] = server.name

            try:
                result = await connection.upload(
                    course.args, course.document, on_end, course.progress
                )
            except Lost as error:
                course.note(server, error)
                if guid in course.doubts and not was_in_doubt:
                    course.asked_first = server
                    course.asked_until = trio.current_time() + self._doubt_timeout_s
            except OperationError as error:
                if not (was_in_doubt and error.code in TRANSIENT):
                    course.doubts.pop(guid, None)
                    course.asked_first = None
                self._note(course, server, error)
                if error.code in ELSEWHERE:
                    return None
                await trio.sleep(PAUSE_FIRST_S)
            else:
                return self._receipt(course, server, connection, result)
        return None

    def _note(self, course: _Course, server: Server, error: OperationError) -> None:
        """Remember a refusal that is not the last word.

        Raises:
            SubmitRefused, AnswerUnknown: it is.
        """
        if error.code in ELSEWHERE:
            course.refusals[server.name] = error
        elif error.code in TRANSIENT or error.code in course.second_chances:
            course.second_chances.discard(error.code)
            course.note(server, error)
        else:
            raise self._refused(course, error) from error

    def _receipt(
        self, course: _Course, server: Server, connection: Connection, result: dict[str, Any]
    ) -> Receipt:
        self._servers.use(server)
        guid = connection.node_guid
        return Receipt(
            job_id=result["job_id"],
            job_uuid=UUID(course.args["job_uuid"]),
            position=result["position"],
            state=result["state"],
            is_duplicate=result["duplicate"],
            node_guid=guid,
            node_name=str(connection.welcome.get("node_name", "")),
            endpoint=server.name,
            size=course.document.size,
            digest=course.document.digest(),
            unknown=tuple(name for other, name in course.doubts.items() if other != guid),
        )

    def _refused(self, course: _Course, error: OperationError) -> SubmitRefused | AnswerUnknown:
        if course.doubts:
            return self._unknown(course, f"another server refused it: {error.message}")
        uuid = UUID(course.args["job_uuid"])
        return SubmitRefused(error.code, error.message, error.advice, uuid)

    def _given_up(self, course: _Course, message: str) -> Unreachable | AnswerUnknown:
        if course.doubts:
            return self._unknown(course, message)
        causes = "; ".join(f"{name}: {cause}" for name, cause in course.causes.items())
        message = f"{message} ({causes})." if causes else f"{message}."
        uuid = UUID(course.args["job_uuid"])
        return Unreachable(message, CHECK_SERVERS, uuid, course.causes, course.distrusted)

    def _unknown(self, course: _Course, message: str) -> AnswerUnknown:
        names = tuple(course.doubts.values())
        return AnswerUnknown(
            f"the job went out whole to {', '.join(names)}, whose answer was lost; {message}.",
            "Ask there, or submit it again there under the same job-uuid.",
            UUID(course.args["job_uuid"]),
            names,
        )

    # -- other operations ------------------------------------------------------------------------

    async def call(
        self,
        op: str,
        args: dict[str, Any],
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """The result of an operation at the first server that can be reached.

        With `on_event`, which gets the name and args of each event, it may take for ever.

        Raises:
            OperationError: it was refused.
            Unreachable: no server could be reached, or the one that was did not answer.
        """
        causes: dict[str, str] = {}
        for server in self._servers.in_order():
            try:
                connection = await self._servers.connected(server)
            except Lost as error:
                causes[server.name] = str(error)
                continue
            try:
                return await connection.call(op, args, on_event)
            except Lost as error:
                raise Unreachable(f"{server.name}: {error}.", "Ask again.") from error
        listed = "; ".join(f"{name}: {cause}" for name, cause in causes.items())
        raise Unreachable(f"no server could be reached ({listed}).", CHECK_SERVERS, None, causes)
