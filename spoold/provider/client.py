"""Handing jobs over, with fail-over: the print provider for Trio.

In: documents, and endpoints in order of preference. Out: a `Receipt` for each job, or an error that
says whether anything was accepted. A job keeps its job-uuid over every attempt, so that no server
makes a second one of it. What only one server can know (it got the whole job, and its answer was
lost) is asked there first, for a bounded time; when that fails the receipt says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

import trio

from spoold.model.errors import OperationError
from spoold.net.connect import TcpNetwork
from spoold.net.nursery import background_nursery
from spoold.provider.course import (
    PAUSE_FIRST_S,
    PAUSE_MAX_S,
    TURNS_MAX,
    Course,
    Lost,
    Progress,
    default_timeout_s,
    hello_arguments,
    submit_arguments,
)
from spoold.provider.document import Document, Source
from spoold.provider.endpoint import Credentials, Network
from spoold.provider.receipt import CHECK_SERVERS, Receipt, Unreachable
from spoold.provider.servers import Server, Servers


@dataclass(slots=True, eq=False)
class _Job:
    """A job on its way: what `submit` is told of it, its document, and how it fares."""

    args: dict[str, Any]
    document: Document
    progress: Progress | None
    course: Course


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
        hello = hello_arguments(kind, name, software, ping_s)
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
        async with background_nursery() as nursery:
            await nursery.start(self._servers.run)
            yield

    @property
    def current(self) -> str:
        """The endpoint that the next job goes to first."""
        return self._servers.current.name

    @property
    def endpoints(self) -> list[str]:
        """Those that are known by now: the one in use, then the others in order."""
        return [server.name for server in self._servers.in_order()]

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
        args = submit_arguments(
            uuid,
            document.size,
            digest_algorithm,
            printer=printer,
            user=user,
            title=title,
            copies=copies,
            priority=priority,
            hold=hold,
            format=format,
            attributes=attributes,
        )
        course = Course(uuid, document.size, trio.current_time())
        if timeout_s is None:
            timeout_s = default_timeout_s(document.size)
        try:
            with trio.move_on_after(timeout_s):
                return await self._deliver(_Job(args, document, progress, course))
            raise course.given_up(f"no answer within {timeout_s:g} s")
        finally:
            document.close()

    async def _deliver(self, job: _Job) -> Receipt:
        """Try endpoints until one has the job.

        Raises:
            SubmitRefused, Unreachable, AnswerUnknown, OSError: see `submit`.
        """
        course = job.course
        pause_s = PAUSE_FIRST_S
        servers: dict[str, Server] = {}  # also those that have gone from the list meanwhile
        while True:
            names = [server.name for server in self._servers.in_order()]
            servers |= {server.name: server for server in self._servers.in_order()}
            candidates = course.candidates(names, trio.current_time())
            receipt = await self._go_round(job, [servers[name] for name in candidates])
            if receipt is not None:
                return receipt
            names = [server.name for server in self._servers.in_order()]
            course.check_hope(names, trio.current_time(), self._unreachable_timeout_s)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def _go_round(self, job: _Job, servers: list[Server]) -> Receipt | None:
        """Try `servers`, whoever is connected first, until one may have the job."""
        course, left = job.course, {server.name: server for server in servers}
        asked_first = course.asked_first

        def failed(name: str, error: Lost) -> None:
            course.note_no_connection(name, error)
            del left[name]

        while left and course.asked_first in ("", asked_first):
            server = await self._servers.first_of(list(left.values()), failed)
            if server is None:
                break
            del left[server.name]
            receipt = await self._take_turns(job, server)
            if receipt is not None:
                return receipt
        return None

    async def _take_turns(self, job: _Job, server: Server) -> Receipt | None:
        """Try one endpoint: again at once when the connection broke, so that an upload resumes."""
        course = job.course
        for _ in range(TURNS_MAX):
            try:
                connection = await self._servers.connected(server)
            except Lost as error:
                course.note_no_connection(server.name, error)
                return None
            course.reached_at = trio.current_time()
            guid = connection.node_guid
            was_in_doubt = guid in course.doubts

            def on_end(guid: str = guid) -> None:
                course.doubts[guid] = server.name

            try:
                result = await connection.upload(
                    job.args,
                    job.document,
                    on_end,
                    job.progress,
                    is_watched=len(self._servers.in_order()) > 1,
                )
            except Lost as error:
                course.note_lost(
                    server.name,
                    guid,
                    was_in_doubt,
                    error,
                    now=trio.current_time(),
                    doubt_timeout_s=self._doubt_timeout_s,
                    kin=self._servers.kin_of(server),
                )
                if error.was_silent:
                    return None
            except OperationError as error:
                if not course.note_refusal(server.name, connection.welcome, was_in_doubt, error):
                    return None
                await trio.sleep(PAUSE_FIRST_S)
            else:
                self._servers.use(server)
                digest = job.document.digest()
                return course.receipt(server.name, connection.welcome, result, digest)
        return None

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

        def failed(name: str, error: Lost) -> None:
            causes[name] = str(error)

        server = await self._servers.first_of(self._servers.in_order(), failed)
        if server is not None:
            try:
                connection = await self._servers.connected(server)
                return await connection.call(op, args, on_event)
            except Lost as error:
                raise Unreachable(f"{server.name}: {error}.", "Ask again.") from error
        listed = "; ".join(f"{name}: {cause}" for name, cause in causes.items())
        raise Unreachable(f"no server could be reached ({listed}).", CHECK_SERVERS, None, causes)
