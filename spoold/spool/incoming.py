"""A document on its way in: kept in memory while it is small, digested and written by a thread.

In: bytes from an intake. Out: a `NewDocument` for the commit. Two buffers are filled in turn while
a thread digests and writes the other one; the files are those of `documents`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

import blake3
import trio

from spoold.model.errors import OperationError, SpoolError
from spoold.spool.flight import Flight, read_at
from spoold.spool.store import NewDocument

if TYPE_CHECKING:
    from spoold.spool.documents import Documents

BUFFER_BYTES = 1024 * 1024
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 4 * 1024


class Digest(Protocol):
    def update(self, data: Any, /) -> object: ...
    def hexdigest(self) -> str: ...


DIGESTS: dict[str, Callable[..., Digest]] = {"blake3": blake3.blake3, "sha256": sha256}


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Run disk work beside the loop, to its end even when cancelled meanwhile."""
    return await trio.to_thread.run_sync(function, *args, limiter=None)


class Incoming:
    """A document on its way in. One task at a time may use it.

    `size` is how many bytes came; `head` the first of them, at most 64 KiB; of a large document
    it is whole after `drain`.
    """

    __slots__ = (
        "_algorithm",
        "_buffers",
        "_digest",
        "_documents",
        "_fd",
        "_filled",
        "_flight",
        "_name",
        "_parts",
        "_which",
        "size",
    )

    def __init__(self, documents: Documents, algorithm: str, name: str) -> None:
        if algorithm not in DIGESTS:
            raise OperationError(
                "bad-request", f"no digest {algorithm!r}.", f"Use one of: {', '.join(DIGESTS)}."
            )
        self._documents = documents
        self._algorithm = algorithm
        self._name = name
        self._parts: list[bytes] = []
        self._digest: Digest | None = None
        self._fd = -1
        self._buffers: list[memoryview] = []
        self._which = 0
        self._filled = 0
        self._flight: Flight | None = None
        self.size = 0

    @property
    def is_file(self) -> bool:
        return self._fd >= 0

    @property
    def head(self) -> bytes:
        if self._fd >= 0:
            return read_at(self._fd, HEAD_BYTES, 0)
        return b"".join(self._parts)[:HEAD_BYTES]

    async def tail(self) -> bytes:
        """The last bytes, at most 4 KiB."""
        if self._fd < 0:
            return b"".join(self._parts)[-TAIL_BYTES:]
        await self.drain()
        return read_at(self._fd, TAIL_BYTES, max(0, self.size - TAIL_BYTES))

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes; they are copied.

        Raises:
            SpoolFull, SpoolError: the disk has no room, or failed.
        """
        length = len(data)
        if self._fd < 0:
            if self.size + length <= self._documents.inline_bytes_max:
                self._parts.append(bytes(data))
                self.size += length
                return
            await self._to_file()
        view = memoryview(data)
        while view:
            buffer = self.buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            await self.filled(count)
            view = view[count:]

    def buffer(self) -> memoryview:
        """Where the next bytes of a large document may be received straight into."""
        while len(self._buffers) <= self._which:
            # Untouched pages cost nothing: a sender that stops early holds what it sent.
            self._buffers.append(memoryview(bytearray(BUFFER_BYTES)))
        return self._buffers[self._which][self._filled :]

    async def filled(self, count: int) -> None:
        """The first `count` bytes of `buffer` are part of the document now."""
        self._filled += count
        self.size += count
        if self._filled == BUFFER_BYTES:
            await self._swap()

    async def _swap(self) -> None:
        """Hand the full buffer to a thread; the other one is free once its write has ended."""
        full = self._buffers[self._which][: self._filled]
        if self._flight is not None:
            await self._flight.wait()
        self._flight = Flight(self._store, full)
        self._which ^= 1
        self._filled = 0

    def _store(self, data: memoryview) -> None:
        """In a thread: digest and write."""
        assert self._digest is not None
        self._digest.update(data)
        while data:
            data = data[os.write(self._fd, data) :]

    async def _to_file(self) -> None:
        """The document has outgrown its row: what came so far goes into a file."""
        await self._start_file(self._documents.make(self._name))
        parts, self._parts = self._parts, []
        self.size = 0
        for part in parts:
            await self.write(part)

    async def _start_file(self, opened: tuple[str, int]) -> None:
        self._name, self._fd = opened
        self._digest = DIGESTS[self._algorithm]()

    async def resume(self) -> int:
        """Go on with what an earlier upload under this name left; returns how much that is."""
        found = await in_thread(self._documents.reopen, self._name)
        if found is None:
            return 0
        name, fd, size = found
        assert isinstance(size, int)
        await self._start_file((name, fd))
        digest = self._digest
        assert digest is not None

        def read_again() -> None:
            offset = 0
            while offset < size:
                data = read_at(fd, BUFFER_BYTES, offset)
                if not data:
                    raise SpoolError("resume", "a document", "its file shrank", "Send it again.")
                digest.update(data)
                offset += len(data)
            os.lseek(fd, size, os.SEEK_SET)

        await in_thread(read_again)
        self.size = size
        return size

    async def drain(self) -> None:
        """Return when every byte so far is digested and written."""
        if self._fd >= 0:
            if self._filled:
                await self._swap()
            if self._flight is not None:
                await self._flight.wait()
                self._flight = None
            self._buffers = []
            self._which = 0

    async def digest(self) -> str:
        """The digest of the whole document, as `algorithm:hex`."""
        if self._fd >= 0:
            await self.drain()
        if self._digest is None:
            self._digest = DIGESTS[self._algorithm](b"".join(self._parts))
        return f"{self._algorithm}:{self._digest.hexdigest()}"

    async def keep(self, format: str) -> NewDocument:
        """Make the bytes durable, or ready for the commit that is; the caller commits next.

        Raises:
            SpoolFull, SpoolError: the disk has no room, or failed; nothing is kept.
        """
        digest = await self.digest()
        if self._fd < 0:
            return NewDocument(self.size, digest, format, b"".join(self._parts))

        def publish() -> str:
            fd, self._fd = self._fd, -1  # here: a cancelled thread that never ran left it open
            return self._documents.publish(self._name, fd)

        return NewDocument(self.size, digest, format, None, await in_thread(publish))

    async def suspend(self) -> None:
        """Keep what came for a later `resume` under the same name, as far as it is in a file."""
        if self._fd >= 0:
            try:
                await self.drain()
            finally:
                fd, self._fd = self._fd, -1
                os.close(fd)
                self._documents.let_go(self._name)

    async def abandon(self) -> None:
        """Drop what came."""
        if self._flight is not None:
            with trio.move_on_after(60, shield=True):
                try:
                    await self._flight.wait()
                except SpoolError:
                    pass  # it goes anyway
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            self._documents.discard(self._name)
        self._parts = []
