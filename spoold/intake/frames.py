"""Frames, the server's side: one connection from the magic to its end (`codec/FRAMES.md`).

In: a stream whose client sent the magic. Out: jobs through the one door, answers after the commit,
and every other operation through the router. Here is what is the same in every version: hello,
liveness, the sending task, the end. What a version says is in a class of its own (`frames_v1`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import structlog
import trio

from spoold.codec import frame
from spoold.codec.frame import FrameReader, Item, Request
from spoold.intake.acceptance import Acceptance
from spoold.intake.deadlines import LOOK_INTERVAL_S, Watch
from spoold.intake.frames_link import Link, Settings
from spoold.intake.frames_v1 import Version1
from spoold.intake.router import Router
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.model.principal import Principal, Role
from spoold.net.outbox import Outbox
from spoold.net.stream import Stream

log = structlog.get_logger("spoold.intake")

RECEIVE_BYTES = 64 * 1024
BULK_RECEIVE_BYTES = 256 * 1024
PING_S_MIN = 1.0
BEAT_S_MIN = 0.25  # of sites, whose lines must be known to live
MISSED_PINGS_MAX = 3


@dataclass(frozen=True, slots=True)
class Node:
    """Who answers, as the welcome says. `endpoints` are for this client's network."""

    guid: str
    name: str
    role: str
    software: str
    endpoints: tuple[str, ...] = ()


class Speaker(Protocol):
    """A version of the protocol on one connection. It never reads or closes the stream."""

    async def take(self, item: Item) -> None:
        """Act on what came; waiting here is what holds the client back.

        Raises:
            RemoteProtocolError: it may not come now; the connection ends.
        """
        ...

    async def idle(self) -> None:
        """Return when nothing is under way that the client waits for."""
        ...

    async def settle(self) -> None:
        """Nothing more comes: end what needs the client, and wait a while for the rest."""
        ...

    async def suspend(self) -> None:
        """Keep what came of open uploads for a resume."""
        ...


_SPEAKERS = {1: Version1}


class Tokens(Protocol):
    """Who a token makes of those that show it, for as long as it counts."""

    def show(self, token: str, principal: Principal, stream: Stream) -> Principal:
        """Raises:
        OperationError: it is wrong, or counts for nothing here.
        """
        ...

    def leave(self, stream: Stream) -> None: ...


async def serve_frames(
    stream: Stream,
    first_bytes: bytes,
    principal: Principal,
    acceptance: Acceptance,
    router: Router,
    node: Node,
    settings: Settings,
    watch: Watch,
    tokens: Tokens | None = None,
) -> None:
    """Serve one connection until its end; the stream is closed then.

    `first_bytes` begin with (the front of) the magic. `watch` gives the pace of hello and pings.
    When the daemon stops no new job is taken, and the connection ends once nothing is under way.
    A connection on which nothing happens is one task and nothing else: there may be thousands.

    Raises:
        StoreFailed: the spool failed; the daemon must stop.
    """
    try:
        async with trio.open_nursery() as nursery:
            connection = _Connection(
                stream,
                first_bytes,
                principal,
                settings,
                watch,
                nursery,
                acceptance,
                router,
                node,
                tokens,
            )
            del first_bytes  # they may be many, and the connection may stay for weeks
            link = connection.link
            try:
                await connection.receive()
            finally:
                watch.on_late = watch.on_stop = None
                watch.deadline = inf
                if connection.speaker is not None:
                    await connection.speaker.suspend()
            with trio.move_on_after(settings.drain_s):
                await link.outbox.sent()
            nursery.cancel_scope.cancel()
        if link.failure is not None:
            raise link.failure
        if not connection.is_broken:
            await stream.finish()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client is gone
    finally:
        if tokens is not None:
            tokens.leave(stream)
        stream.abort()


class _Connection:
    __slots__ = (
        "_acceptance",
        "_first_bytes",
        "_is_heard",
        "_is_waiting",
        "_missed",
        "_node",
        "_nursery",
        "_ping_s",
        "_pings",
        "_router",
        "_sends",
        "_tokens",
        "_watch",
        "is_broken",
        "link",
        "speaker",
    )

    def __init__(
        self,
        stream: Stream,
        first_bytes: bytes,
        principal: Principal,
        settings: Settings,
        watch: Watch,
        nursery: trio.Nursery,
        acceptance: Acceptance,
        router: Router,
        node: Node,
        tokens: Tokens | None,
    ) -> None:
        outbox = Outbox(stream, send_timeout_s=settings.send_timeout_s, start=self._start_sending)
        self.link = Link(stream, outbox, principal, settings)
        self._first_bytes = first_bytes
        self._watch = watch
        self._nursery = nursery
        self._acceptance = acceptance
        self._router = router
        self._node = node
        self._tokens = tokens
        self.speaker: Speaker | None = None
        self.is_broken = False
        self._is_heard = False
        self._is_waiting = False
        self._missed = self._pings = self._sends = 0
        self._ping_s = settings.hello_deadline_s
        watch.deadline = trio.current_time() + settings.hello_deadline_s
        watch.on_late = self._tick
        watch.on_stop = self._stop

    async def receive(self) -> None:
        """Read until the client's end, a cut, or broken framing; then what has its end is settled.

        Only what is under way for the client outlives this call.
        """
        link = self.link
        with link.receiving:
            try:
                await self._read()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.is_broken = True
            except RemoteProtocolError as error:
                log.warning("frames_refused", client=link.stream.peer, detail=str(error))
                link.outbox.put_nowait(frame.refusal(0, error.reply_hint, f"{error}."))
        if self.speaker is not None:
            await self.speaker.settle()
        elif not (self.is_broken or link.is_stopping) and link.receiving.cancelled_caught:
            link.outbox.put_nowait(frame.refusal(0, "bad-request", "no hello came in time."))

    async def _read(self) -> None:
        """No byte that came is kept in here while the next ones are waited for."""
        reader = FrameReader(expects_magic=True)
        await self._take(reader, self._first_bytes)
        self._first_bytes = b""
        outbox, stream = self.link.outbox, self.link.stream
        bytes_max = RECEIVE_BYTES
        while True:
            await outbox.room()
            self._is_waiting = True
            size = await self._take(reader, await stream.receive_some(bytes_max))
            if not size:
                reader.end()
                return
            bytes_max = BULK_RECEIVE_BYTES if size >= RECEIVE_BYTES else RECEIVE_BYTES

    async def _take(self, reader: FrameReader, data: bytes) -> int:
        """Act on what came; how many bytes that were."""
        self._is_waiting = False
        self._is_heard = True
        for item in reader.feed(data):
            if self.speaker is not None:
                await self.speaker.take(item)
            else:
                self.speaker = self._greet(item)
        return len(data)

    def _greet(self, item: Item) -> Speaker:
        """Answer hello; from then on the version's own class takes what comes.

        Raises:
            RemoteProtocolError: the first frame is no hello, or no version is common.
        """
        if type(item) is not Request or item.op != "hello":
            raise RemoteProtocolError("the first frame must be hello", "bad-request")
        link = self.link
        args = item.args
        version = frame.highest_common_version(args.get("versions"), _SPEAKERS)
        if version is None:
            link.outbox.put_nowait(
                frame.refusal(
                    item.id,
                    "version-not-supported",
                    "there is no version in common.",
                    "Update the older of the two programs.",
                    versions=sorted(_SPEAKERS),
                )
            )
            raise RemoteProtocolError("no version in common", "version-not-supported")
        if type(args.get("kind")) is not str:
            raise RemoteProtocolError("hello must say the kind of client", "bad-request")
        ping_s = self._ping_interval_s(args)
        if args.get("token") is not None:
            self._show(item.id, args["token"])
        link.outbox.put_nowait(frame.answer(item.id, self._welcome(version, ping_s)))
        self._ping_s = ping_s
        self._watch.deadline = trio.current_time() + ping_s
        return _SPEAKERS[version](
            link, self._acceptance, self._router, self._node.guid, self._nursery
        )

    def _show(self, id_: int, token: object) -> None:
        """The client is who the token says from here on.

        Raises:
            RemoteProtocolError: it is wrong, or counts for nothing here.
        """
        link = self.link
        if type(token) is not str or self._tokens is None:
            raise RemoteProtocolError("no token counts here", "bad-request")
        try:
            link.principal = self._tokens.show(token, link.principal, link.stream)
        except OperationError as error:
            link.outbox.put_nowait(frame.refusal(id_, error.code, error.message, error.advice))
            raise RemoteProtocolError("the token was refused", error.code) from error

    def _ping_interval_s(self, args: dict[str, Any]) -> float:
        own = self.link.settings.ping_s
        asked = args.get("ping_s", own)
        if type(asked) not in (int, float) or not asked > 0:
            raise RemoteProtocolError("ping_s must be a number of seconds", "bad-request")
        least = BEAT_S_MIN if self._is_steady else PING_S_MIN
        return max(min(float(asked), own), min(least, own))

    @property
    def _is_steady(self) -> bool:
        """Whether this is the line of a site: either side gives signs of life all the time."""
        return Role.SITE in self.link.principal.roles

    def _welcome(self, version: int, ping_s: float) -> dict[str, Any]:
        settings = self.link.settings
        node = self._node
        return {
            "version": version,
            "node_guid": node.guid,
            "node_name": node.name,
            "role": node.role,
            "software": node.software,
            "endpoints": list(node.endpoints),
            "ping_s": ping_s,
            "chunk_bytes_max": frame.CHUNK_BYTES_MAX,
            "inflight_max": settings.inflight_max,
        }

    def _start_sending(self) -> None:
        self._nursery.start_soon(self._send)

    async def _send(self) -> None:
        """Send what there is; a client that does not read is cut off."""
        try:
            await self.link.outbox.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._cut()

    def _cut(self) -> None:
        self.is_broken = True
        self.link.stream.abort()
        self.link.outbox.close_nowait()
        self.link.receiving.cancel()

    def _tick(self) -> None:
        """Ping a silent client; cut one off that stays silent. Waiting for us is no silence."""
        self._watch.deadline = trio.current_time() + self._ping_s
        if self.is_broken:
            return  # it ends when what goes on for it has ended
        if self.speaker is None:
            self.link.receiving.cancel()  # no hello came in time
            return
        if self._is_steady:
            self._watch.deadline -= LOOK_INTERVAL_S / 2  # at the look that is due then, no later
        if self._is_heard or not self._is_waiting:
            self._is_heard = False
            self._missed = 0
            if not self._is_steady or self._sends != self.link.outbox.sends:
                self._sends = self.link.outbox.sends
                return
        else:
            self._missed += 1
        if self._missed >= MISSED_PINGS_MAX:
            log.info("frames_client_silent", client=self.link.stream.peer)
            self._cut()
            return
        self._pings += 1
        self._sends = self.link.outbox.sends + 1  # the ping's own is none of ours
        self.link.outbox.put_nowait(frame.request(self._pings, "ping", {}))

    def _stop(self) -> None:
        self._nursery.start_soon(self._wind_up)

    async def _wind_up(self) -> None:
        """The daemon stops: the connection ends once nothing is under way on it."""
        self.link.is_stopping = True
        if self.speaker is not None:
            await self.speaker.idle()
        self.link.receiving.cancel()
