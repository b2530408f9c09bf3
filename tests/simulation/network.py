"""The network of a simulated deployment: streams in memory over links that misbehave.

A `Link` is the way between a site and its application server. Each direction may be slow, or dead
while the other one goes on; what was sent meanwhile comes late, as TCP sends it again, or never,
when one end has gone. Streams of different connections overtake each other; one stream never
loses bytes in its middle.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from random import Random

import trio

BUFFER_BYTES = 128 * 1024  # in flight in one direction of a stream; who sends more waits
LATE_S = 0.1  # what takes longer has left before its link was whole
TO_HQ, TO_SITE = 0, 1
_END, _RESET = "end", "reset"


class Pipe:
    """One direction of a stream. What is put comes out a while later, in order."""

    def __init__(self, link: Link, direction: int, rng: Random) -> None:
        self._link = link
        self._direction = direction
        self._rng = rng
        self._queue: deque[tuple[float, bytes | str]] = deque()
        self._size = 0
        self._last_s = 0.0
        self._lot = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self.is_closed = False  # nobody reads it any more

    def put(self, data: bytes | str) -> None:
        if self.is_closed:
            return
        due_s = trio.current_time() + self._link.latency_s * self._rng.uniform(0.5, 1.5)
        self._last_s = due_s = max(self._last_s, due_s)
        if data is _RESET and self._rng.random() < 0.5:  # it overtakes what is on its way
            self._queue.clear()
            self._size = 0
        self._queue.append((due_s, data))
        if isinstance(data, bytes):
            self._size += len(data)
        self._lot.unpark_all()

    def is_late(self, now_s: float) -> bool:
        return bool(self._queue) and self._queue[-1][0] > now_s + LATE_S

    async def wait_room(self) -> None:
        while self._size >= BUFFER_BYTES and not self.is_closed:
            await self._room.park()

    def close(self) -> None:
        self.is_closed = True
        self._queue.clear()
        self.wake()

    def wake(self) -> None:
        self._lot.unpark_all()
        self._room.unpark_all()

    async def take(self, bytes_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_closed:
                raise trio.ClosedResourceError("closed here")
            if not self._queue or self._link.is_dead[self._direction]:
                await self._lot.park()
                continue
            due_s = self._queue[0][0]
            if due_s > trio.current_time():
                with trio.move_on_at(due_s):
                    await self._lot.park()
                continue
            return self._read(bytes_max)

    def _read(self, bytes_max: int) -> bytes:
        now_s = trio.current_time()
        parts: list[bytes] = []
        count = 0
        while self._queue and self._queue[0][0] <= now_s and count < bytes_max:
            due_s, data = self._queue[0]
            if isinstance(data, str):
                if parts:
                    break
                if data is _RESET:
                    raise trio.BrokenResourceError("Connection reset by peer")
                return b""
            self._queue.popleft()
            part = data[: bytes_max - count]
            if len(part) < len(data):
                self._queue.appendleft((due_s, data[len(part) :]))
            parts.append(part)
            count += len(part)
        self._size -= count
        self._room.unpark_all()
        return b"".join(parts)


class SimStream:
    """One end of a connection; see `net.stream.Stream`."""

    def __init__(self, incoming: Pipe, outgoing: Pipe, peer: str) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._is_ended = False
        self.is_closed = False
        self.peer = peer

    async def receive_some(self, bytes_max: int = 65536) -> bytes:
        return await self._incoming.take(bytes_max)

    async def receive_into(self, buffer: memoryview) -> int:
        data = await self.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_closed:
            raise trio.ClosedResourceError("closed here")
        self._outgoing.put(bytes(data))
        await self._outgoing.wait_room()
        if self.is_closed:
            raise trio.ClosedResourceError("closed here")

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._is_ended and not self.is_closed:
            self._is_ended = True
            self._outgoing.put(_END)

    async def finish(self) -> None:
        await self.send_eof()
        self.is_closed = True
        self._incoming.close()

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            if not self._is_ended:
                self._outgoing.put(_RESET)
            self._incoming.close()
            self._outgoing.wake()

    def vanish(self) -> None:
        """This end's machine has lost its power: the other end hears nothing of that."""
        self.is_closed = True
        self._incoming.close()
        self._outgoing.wake()


class Link:
    """The way between one site and the application server."""

    def __init__(self, name: str, rng: Random) -> None:
        self.name = name
        self.rng = rng
        self.latency_s = 0.01
        self.is_dead = [False, False]  # by direction
        self.pairs: list[tuple[SimStream, SimStream]] = []  # the site's end, and the other one
        self._healed = trio.lowlevel.ParkingLot()

    def cut(self, *directions: int) -> None:
        for one in directions:
            self.is_dead[one] = True

    def heal(self) -> None:
        self.is_dead = [False, False]
        self.latency_s = 0.01
        self._healed.unpark_all()
        for ends in self.pairs:
            for one in ends:
                one._incoming.wake()

    def reset(self) -> None:
        """Something on the way resets all connections."""
        for ends in self.pairs:
            for one in ends:
                if not one.is_closed:
                    one._incoming.put(_RESET)

    def drop(self, end: int, *, is_silent: bool) -> None:
        """One end's machine is gone; `is_silent`: without a word, else its kernel says so."""
        for ends in self.pairs:
            if is_silent:
                ends[end].vanish()
            else:
                ends[end].abort()
        self.pairs.clear()

    @property
    def is_late(self) -> bool:
        """Whether something is still on its way that left when everything took its time."""
        now_s = trio.current_time()
        return any(one._incoming.is_late(now_s) for ends in self.pairs for one in ends)

    async def wait_whole(self) -> None:
        while any(self.is_dead):
            await self._healed.park()


class Net:
    """`accept` is called with each new connection that comes in at the application server."""

    def __init__(self, rng: Random, names: tuple[str, ...]) -> None:
        self._rng = rng
        self.links = {name: Link(name, rng) for name in names}
        self.accept: Callable[[str, SimStream], None] | None = None

    def at(self, site: str) -> Dialling:
        """The network as a site sees it."""
        return Dialling(self, self.links[site])

    def connected(self, link: Link) -> SimStream:
        """Raises OSError: nobody listens there."""
        if self.accept is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        up, down = Pipe(link, TO_HQ, self._rng), Pipe(link, TO_SITE, self._rng)
        ours, theirs = SimStream(down, up, "hq:9195"), SimStream(up, down, link.name)
        link.pairs = [ends for ends in link.pairs if not all(one.is_closed for one in ends)]
        link.pairs.append((ours, theirs))
        self.accept(link.name, theirs)
        return ours


class Dialling:
    """What a line needs of the world (`provider.endpoint.Network`)."""

    def __init__(self, net: Net, link: Link) -> None:
        self._net = net
        self._link = link

    async def connect(self, host: str, port: int, *, timeout_s: float) -> SimStream:
        with trio.move_on_after(timeout_s):
            await trio.sleep(2 * self._link.latency_s)
            await self._link.wait_whole()
            return self._net.connected(self._link)
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    async def connect_tls(self, *args: object, **options: object) -> SimStream:
        raise NotImplementedError
