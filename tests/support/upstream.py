"""An application server in memory, as far as a line goes, on Trio's own clock.

It speaks real frames over memory streams, can fall silent, refuse, and cut.
"""

from __future__ import annotations

import errno
from typing import Any
from uuid import UUID

import trio
import trio.testing

from spoold.codec import frame
from spoold.codec.frame import FrameReader, Request

GUID = UUID("00000000-0000-4000-8000-0000000000aa")


class MemoryStream:
    """One end of a connection in memory, with the methods of `net.stream.Stream`."""

    def __init__(self, stream: trio.StapledStream, peer: str) -> None:
        self._stream = stream
        self._sending = trio.Lock()
        self.peer = peer

    async def send_all(self, data: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(data)

    async def receive_some(self, bytes_max: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(bytes_max))

    async def finish(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


class Upstream:
    """`servers` are the addresses that answer. `asked` are the operations that came."""

    def __init__(self, nursery: trio.Nursery, *servers: str, clock_us=lambda: 0) -> None:
        self._nursery = nursery
        self.servers = set(servers)
        self.is_silent = False
        self.versions = (1,)
        self.clock_us = clock_us
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.dialled: list[str] = []
        self.more: dict[str, Any] = {}
        self.refusal: tuple[str, str, str] | None = None
        self._streams: list[MemoryStream] = []
        self._following: list[tuple[MemoryStream, int]] = []

    # -- the network ------------------------------------------------------------------------------

    async def connect(self, host: str, port: int, *, timeout_s: float) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        name = f"{host}:{port}"
        self.dialled.append(name)
        if name not in self.servers:
            raise OSError(errno.ECONNREFUSED, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        stream = MemoryStream(theirs, "site")
        self._streams.append(stream)
        self._nursery.start_soon(self._serve, stream)
        return MemoryStream(ours, name)

    async def connect_tls(self, *args, **options):
        raise NotImplementedError

    def cut(self) -> None:
        """A reset of everything."""
        for stream in self._streams:
            stream.abort()
        self._streams.clear()

    async def tell(self, event: str, args: dict[str, Any]) -> None:
        for stream, id_ in self._following:
            await stream.send_all(frame.event(id_, event, args))

    # -- what it says ------------------------------------------------------------------------------

    async def _serve(self, stream: MemoryStream) -> None:
        reader = FrameReader(expects_magic=True)
        try:
            while data := await stream.receive_some():
                for item in reader.feed(data):
                    if isinstance(item, Request) and not self.is_silent:
                        await self._answer(stream, item)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _answer(self, stream: MemoryStream, request: Request) -> None:
        if request.op != "ping":
            self.asked.append((request.op, request.args))
        answer: dict[str, Any] = {}
        if request.op == "hello":
            answer = {
                "version": 1,
                "node_guid": str(GUID),
                "ping_s": request.args["ping_s"],
                "inflight_max": 16,
            }
        elif request.op == "site.hello":
            if self.refusal is not None:
                await stream.send_all(frame.refusal(request.id, *self.refusal))
                return
            answer = {
                "version": 1,
                "guid": str(GUID),
                "name": "hq",
                "software": "spoold test",
                "clock_us": self.clock_us(),
                "endpoints": [],
                "more": self.more,
            }
        elif request.op == "site.follow":
            self._following.append((stream, request.id))
            return
        elif request.op == "hang":
            return
        await stream.send_all(frame.answer(request.id, answer))


class Papers:
    """A site that has joined, without TLS."""

    def __init__(self, *servers: str) -> None:
        self._servers = servers
        self.renewed: list[str] = []

    async def wait_joined(self) -> None:
        await trio.lowlevel.checkpoint()

    def servers(self):
        return self._servers

    def context(self):
        return None

    def believe(self, stream) -> None:
        pass

    async def renew(self, server: str) -> bool:
        self.renewed.append(server)
        return True
