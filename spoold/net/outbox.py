"""The sending half of a connection on which many tasks speak: one writer, bounded, coalescing.

In: whole messages, from any task. Out: as few sends as the peer's pace allows, in order. What is
put while a send is under way goes out together with the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from math import inf

import trio

from spoold.net.bell import Bell
from spoold.net.stream import Stream

QUEUED_BYTES_MAX = 256 * 1024
# Joining costs a copy: larger pieces, which are document bytes, are sent as they are.
JOINED_BYTES_MAX = 16 * 1024


class Outbox:
    """Messages on their way out. `run` is the one task that sends.

    Where `start` is given there is no such task while there is nothing to send: `start` is called
    when there is, and starts a task that runs `flush`.
    """

    __slots__ = (
        "_closing",
        "_is_flushing",
        "_pieces",
        "_queued",
        "_room",
        "_send_timeout_s",
        "_start",
        "_stream",
        "_work",
        "sends",
    )

    def __init__(
        self,
        stream: Stream,
        *,
        send_timeout_s: float = inf,
        start: Callable[[], None] | None = None,
    ) -> None:
        self._start = start
        self._is_flushing = False
        self._stream = stream
        self._send_timeout_s = send_timeout_s
        self._pieces: list[bytes | memoryview] = []  # empty, a tenth of an empty deque
        self._queued = 0
        self._work = Bell()
        self._room = Bell()
        self._closing = False
        self.sends = 0

    def put_nowait(self, piece: bytes | memoryview) -> None:
        """Queue a piece, without a copy: its buffer must not change until it is sent.

        Whoever can make many of them awaits `room` in between; that is what bounds the queue.
        """
        self._pieces.append(piece)
        self._queued += len(piece)
        if self._start is None:
            self._work.ring()
        elif not self._is_flushing and not self._closing:
            self._is_flushing = True
            self._start()

    async def room(self) -> None:
        """Return when there is room for more. Not a checkpoint when there is."""
        while self._queued >= QUEUED_BYTES_MAX and not self._closing:
            await self._room.wait()

    @property
    def is_empty(self) -> bool:
        return not self._queued

    @property
    def is_full(self) -> bool:
        return self._queued >= QUEUED_BYTES_MAX

    async def sent(self) -> None:
        """Return when the kernel has taken everything so far, or nothing more will be sent."""
        while self._queued and not self._closing:
            await self._room.wait()

    def close_nowait(self) -> None:
        """Nothing more will be put: `run` returns when everything is sent."""
        self._closing = True
        self._work.ring()
        self._room.ring()

    async def run(self) -> None:
        """Send until closed.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.TooSlowError: the peer took nothing for the send timeout.
        """
        while True:
            if not self._pieces:
                if self._closing:
                    return
                await self._work.wait()
                continue
            await self._send_batch()

    async def flush(self) -> None:
        """Send until nothing is left. Raises as `run`."""
        try:
            while self._pieces:
                await self._send_batch()
        finally:
            self._is_flushing = False

    async def _send_batch(self) -> None:
        batch = self._batch()
        with trio.fail_after(self._send_timeout_s):
            await self._stream.send_all(batch)
        self.sends += 1
        self._queued -= len(batch)
        if self._queued < QUEUED_BYTES_MAX:
            self._room.ring()

    def _batch(self) -> bytes | memoryview:
        """The next pieces that go out in one send."""
        pieces = self._pieces
        first = pieces[0]
        count, size = 1, len(first)
        if size <= JOINED_BYTES_MAX:
            for piece in islice(pieces, 1, None):
                if len(piece) > JOINED_BYTES_MAX or size >= QUEUED_BYTES_MAX:
                    break
                size += len(piece)
                count += 1
        batch = first if count == 1 else b"".join(pieces[:count])
        del pieces[:count]
        return batch
