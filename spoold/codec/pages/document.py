"""How a counter reads: a window on a document, with an allowance of bytes and of steps.

No counter asks for the time. What a document makes it do is bounded by its allowance, and where
that ends the count ends with `TooLarge`; a document that breaks its format ends it with `Damaged`.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW_BYTES = 256 * 1024
BYTES_MAX = 16 * 1024**3
STEPS_MAX = 200_000_000  # about 20 s of Python

ReadAt = Callable[[int, int], bytes]


class Damaged(Exception):
    """The document breaks its format; the text says how."""


class TooLarge(Exception):
    """The allowance is used up."""


class Allowance:
    """What a count may cost. A step is one turn of a counter's innermost loop."""

    __slots__ = ("bytes", "steps")

    def __init__(self, steps: int = STEPS_MAX, bytes: int = BYTES_MAX) -> None:
        self.steps = steps
        self.bytes = bytes

    def spend(self, steps: int) -> None:
        """Raises `TooLarge` when there is less than that left."""
        self.steps -= steps
        if self.steps < 0:
            raise TooLarge("more steps than a count may take")


class Document:
    """The bytes from `start` to `end` of what `read_at` reads; offsets count from the whole."""

    __slots__ = ("_base", "_data", "_read_at", "allowance", "end", "start")

    def __init__(
        self,
        read_at: ReadAt,
        size: int,
        allowance: Allowance | None = None,
        start: int = 0,
    ) -> None:
        self._read_at = read_at
        self.start = start
        self.end = size
        self.allowance = allowance or Allowance()
        self._data = b""
        self._base = 0

    def part(self, start: int, end: int) -> Document:
        """A part of it, on the same allowance."""
        return Document(self._read_at, end, self.allowance, start)

    def window(self, offset: int, count: int) -> bytes:
        """The bytes at `offset`, at most `count`; fewer at the end of the document."""
        count = min(count, self.end - offset)
        if count <= 0:
            return b""
        at = offset - self._base
        if at >= 0 and at + count <= len(self._data):
            return self._data[at : at + count]
        if count > WINDOW_BYTES // 4:
            return self._read(offset, count)
        self._data = self._read(offset, min(WINDOW_BYTES, self.end - offset))
        self._base = offset
        return self._data[:count]

    def exactly(self, offset: int, count: int) -> bytes:
        """The `count` bytes at `offset`.

        Raises:
            Damaged: the document ends before.
        """
        data = self.window(offset, count)
        if len(data) < count:
            raise Damaged("it ends too early")
        return data

    def find(self, what: bytes, offset: int) -> int:
        """Where `what` begins at `offset` or behind it; -1 when nowhere."""
        overlap = len(what) - 1
        while offset < self.end:
            data = self.window(offset, WINDOW_BYTES)
            at = data.find(what)
            if at >= 0:
                return offset + at
            if offset + len(data) >= self.end:
                break
            offset += len(data) - overlap
        return -1

    def _read(self, offset: int, count: int) -> bytes:
        self.allowance.bytes -= count
        if self.allowance.bytes < 0:
            raise TooLarge("more bytes than a count may read")
        data = self._read_at(offset, count)
        if len(data) < count:
            raise Damaged("its bytes cannot be read")
        return data
