"""The one line of a site to its application servers: dialled, greeted, watched, dialled again.

In: where the servers are and what to show them (`Papers`), the network, clocks. Out: `call`, with a
deadline always; events of the application server; and the state of the line, with hysteresis, told
to whoever listens. Signs of life are the pings of the frames protocol, both ways (FRAMES.md 11).
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError, SpooldError
from spoold.model.node import LINE_VERSIONS, LineState
from spoold.net.context import is_about_certificate, reason_of
from spoold.net.stream import Stream
from spoold.provider.connection import Connection
from spoold.provider.course import Lost, hello_arguments
from spoold.provider.document import Document
from spoold.provider.endpoint import Endpoint, Network
from spoold.site.detector import Detector

log = structlog.get_logger("spoold.site")

__all__ = ["Line", "LineState", "Lost", "Papers", "Settings", "Upstream"]

RETRY_FIRST_S = 0.25
HELLO_S = 10.0  # what the answer to `site.hello` may take
UPLOAD_ANSWER_S = 60.0  # what a document may take to be durable
CLOCK_INTERVAL_S = 600.0
CLOCK_S = 2.0  # a longer way tells nothing of the clock

OnEvent = Callable[[str, dict[str, Any]], None]
Listener = Callable[[LineState], None]


class Papers(Protocol):
    """Where to dial, and what to show there."""

    async def wait_joined(self) -> None:
        """Return when this node has joined a deployment."""
        ...

    def servers(self) -> Sequence[str]:
        """The application servers, in order; never empty once it has joined."""
        ...

    def context(self) -> ssl.SSLContext | None:
        """Raises IdentityError: it cannot be used. None is without TLS, for simulations."""
        ...

    def believe(self, stream: Stream) -> None:
        """Raises Lost: whoever was dialled is no application server."""
        ...

    async def renew(self, server: str) -> bool:
        """Ask `server` for a new certificate by the known key; whether there is one now."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    connect_timeout_s: float = 5.0
    beat_s: float = 0.25
    retry_max_s: float = 10.0
    versions: tuple[int, ...] = LINE_VERSIONS


@dataclass(frozen=True, slots=True)
class Upstream:
    """Who is at the other end, as its answer to hello says."""

    server: str
    guid: UUID
    name: str
    software: str
    version: int
    answer: dict[str, Any] = field(repr=False)

    @property
    def more(self) -> dict[str, Any]:
        """What the rooms of the application server added to the answer."""
        found = self.answer.get("more")
        return found if isinstance(found, dict) else {}


class Line:
    """`state` holds since `since_us`; `upstream` is who is at the other end, or was last.

    `offset_us` is how far the upstream's clock is ahead of ours, None while nobody measured it.
    `reason` says why the line is not up. `greetings` are asked for what goes into hello's `more`;
    `clock_hearers` are told each new `offset_us`.
    """

    def __init__(
        self,
        papers: Papers,
        network: Network,
        wall_clock: Callable[[], int],
        about: Callable[[], Awaitable[dict[str, Any]]],
        settings: Settings | None = None,
        rng: random.Random | None = None,
        name: str = "",
        software: str = "spoold",
    ) -> None:
        self._papers = papers
        self._network = network
        self._wall_clock = wall_clock
        self._about = about
        self._settings = settings or Settings()
        self._rng = rng or random.Random()
        self._hello = hello_arguments("node", name, software, self._settings.beat_s)
        self._detector = Detector()
        self._connection: Connection | None = None
        self._listeners: list[Listener] = []
        self._hearers: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self._changed = trio.Event()
        self.greetings: list[Callable[[], Awaitable[dict[str, Any]]]] = []
        self.clock_hearers: list[Callable[[int], None]] = []
        self.state = LineState.JOINING
        self.since_us = wall_clock()
        self.reason = "it has not been tried yet"
        self.upstream: Upstream | None = None
        self.offset_us: int | None = None

    # -- for those who use it ---------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether calls get through, also while the line does not count as up again."""
        return self._connection is not None and self._connection.is_open

    def listen(self, listener: Listener) -> None:
        """`listener` hears each change of `state`; it must not block, nor raise."""
        self._listeners.append(listener)

    def hear(self, event: str, hearer: Callable[[dict[str, Any]], None]) -> None:
        """`hearer` gets the args of each `event` of the application server."""
        self._hearers.setdefault(event, []).append(hearer)

    async def wait_up(self) -> None:
        """Return when the line counts as up."""
        while self.state is not LineState.UP:
            await self._changed.wait()

    async def call(
        self,
        op: str,
        args: dict[str, Any],
        deadline_s: float,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """The application server's answer; one that is late costs the line nothing.

        Raises:
            OperationError: it was refused.
            Lost: there is no line, it broke, or no answer came within `deadline_s`.
        """
        connection = self._connection
        if connection is None or not connection.is_open:
            raise Lost(f"the line is {self.state.value}: {self.reason}")
        with trio.move_on_after(deadline_s):
            return await connection.call(op, args, on_event or _nothing)
        raise Lost(f"{op}: no answer within {deadline_s:g} s")

    async def upload(
        self, args: dict[str, Any], document: Document, on_end: Callable[[], None]
    ) -> dict[str, Any]:
        """The application server's answer to a job that this site submits: FRAMES.md 6.

        It goes over a connection beside the line, so that no question waits behind a document, and
        ends with the line. `on_end` is called just before the document has left whole: it may be
        accepted from then on.

        Raises:
            OperationError: it was refused.
            Lost: there is no line, or that connection broke.
            OSError: the document cannot be read.
        """
        if self.upstream is None or not self.is_connected:
            raise Lost(f"the line is {self.state.value}: {self.reason}")
        connection = await self._dial(self.upstream.server, UPLOAD_ANSWER_S)
        raised: Exception
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(connection.run, self._hello)
                nursery.start_soon(self._end_with_line, connection)
                return await connection.upload(args, document, on_end)
            except (Lost, OperationError, OSError) as error:
                raised = error  # as it is, not as a group of one
            finally:
                nursery.cancel_scope.cancel()
        raise raised

    async def _end_with_line(self, connection: Connection) -> None:
        line = self._connection
        while self._connection is line:
            await self._changed.wait()
        connection.abort()

    # -- its own life ----------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the line, for ever."""
        task_status.started()
        await self._papers.wait_joined()
        pause_s = RETRY_FIRST_S
        while True:
            for server in self._papers.servers():
                if await self._attend(server):
                    pause_s = RETRY_FIRST_S
                    break  # the first server is tried first again
            else:
                self._detector.lost(trio.current_time())
                self._tell()
            await trio.sleep(self._rng.uniform(0, pause_s))
            pause_s = min(self._settings.retry_max_s, 2 * pause_s)

    async def _attend(self, server: str) -> bool:
        """Dial `server` and stay until that line ends; whether there was one."""
        connection: Connection | None = None
        error: BaseException | None = None
        try:
            connection = await self._dial(server)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._keep, connection, nursery)
                await self._greet(server, connection)
                nursery.start_soon(self._measure)
                nursery.start_soon(self._watch, connection)
                await self._follow(connection)
                nursery.cancel_scope.cancel()
        except* (Lost, OperationError) as group:
            error = _first(group)
        finally:
            was_used = self._connection is not None
            self._connection = None
            if connection is not None:
                connection.abort()
        self.reason = f"{server}: {error or 'the application server ended the line'}"
        if was_used:
            self._detector.lost(trio.current_time())
            self._tell()
        elif isinstance(error, Lost) and error.is_distrusted and await self._papers.renew(server):
            log.info("certificate_renewed", server=server)
        return was_used

    async def _dial(self, server: str, answer_timeout_s: float = HELLO_S) -> Connection:
        """Raises Lost: nobody is there, or one side refused the other."""
        timeout_s = self._settings.connect_timeout_s
        try:
            context = self._papers.context()
            stream = await Endpoint.parse(server).connect(self._network, context, timeout_s)
        except OSError as error:
            raise Lost(reason_of(error), is_about_certificate(error)) from error
        except SpooldError as error:
            raise Lost(str(error)) from error
        try:
            self._papers.believe(stream)
        except Lost:
            stream.abort()
            raise
        return Connection(stream, answer_timeout_s=answer_timeout_s, is_steady=True)

    async def _keep(
        self,
        connection: Connection,
        nursery: trio.Nursery,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the connection; when it ends, so does everything on it."""
        await connection.run(self._hello, task_status)
        nursery.cancel_scope.cancel()

    async def _greet(self, server: str, connection: Connection) -> None:
        """Hello, as sites say it; from the answer on the line can be used.

        Raises:
            OperationError, Lost: the application server does not want us, or broke off.
        """
        more: dict[str, Any] = {}
        for greeting in self.greetings:
            more |= await greeting()
        asked_us = self._wall_clock()
        args = {
            **await self._about(),
            "versions": list(self._settings.versions),
            "clock_us": asked_us,
            "more": more,
        }
        answer = await connection.call("site.hello", args)
        try:
            upstream = Upstream(
                server,
                UUID(answer["guid"]),
                str(answer["name"]),
                str(answer["software"]),
                int(answer["version"]),
                answer,
            )
            if upstream.version not in self._settings.versions:
                raise ValueError(f"version {upstream.version} was not offered")
            self._note_clock(asked_us, int(answer["clock_us"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Lost(f"the answer to hello makes no sense: {error!r}") from error
        self.upstream = upstream
        self._connection = connection
        self.reason = "it is here again, and has to hold for a while first"
        self._detector.connected(trio.current_time())
        log.info("line_connected", server=server, upstream=upstream.name)
        self._tell()

    async def _follow(self, connection: Connection) -> None:
        """Hear what the application server tells, until it tells no more."""
        try:
            await connection.call("site.follow", {}, self._heard)
        except OperationError as error:
            if error.code != "canceled":  # so the server says it when it stops
                raise

    def _heard(self, event: str, args: dict[str, Any]) -> None:
        for hearer in self._hearers.get(event, ()):
            hearer(args)

    async def _watch(self, connection: Connection) -> None:
        """Count the signs of life until the line counts as up again."""
        heard = connection.heard
        while self._detector.state is not LineState.UP:
            await trio.sleep(self._settings.beat_s)
            if connection.heard != heard:
                heard = connection.heard
                self._detector.heard(trio.current_time())
        self._tell()

    async def _measure(self) -> None:
        """How far the clocks are apart, now and then."""
        while True:
            await trio.sleep(CLOCK_INTERVAL_S)
            asked_us = self._wall_clock()
            try:
                answer = await self.call("site.clock", {}, CLOCK_S)
                self._note_clock(asked_us, int(answer["clock_us"]))
            except (Lost, OperationError, KeyError, ValueError):
                continue

    def _note_clock(self, asked_us: int, theirs_us: int) -> None:
        """The upstream's clock, taken at the middle of the way there and back."""
        self.offset_us = theirs_us - (asked_us + self._wall_clock()) // 2
        for hearer in self.clock_hearers:
            hearer(self.offset_us)

    def _tell(self) -> None:
        """Tell a change of the state, if there is one."""
        state = self._detector.state
        if state is self.state:
            return
        self.state = state
        self.since_us = self._wall_clock()
        if state is LineState.UP:
            self.reason = ""
            log.info("line_up", server=self.upstream and self.upstream.server)
        else:
            log.warning("line_gone", reason=self.reason)
        self._changed.set()
        self._changed = trio.Event()
        for listener in self._listeners:
            listener(state)


def not_done(error: OperationError) -> dict[str, str]:
    """The arguments with which a site says that it did not do something, and why (FRAMES.md 12)."""
    return {"error": error.code, "message": error.message, "advice": error.advice}


def _nothing(event: str, args: dict[str, Any]) -> None:
    pass


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
