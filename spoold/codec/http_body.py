"""Where the body of a request ends: Content-Length and chunks (RFC 9112 6.3 and 7.1). Sans-IO.

In: bytes behind a head. Out: which of them are the body. Nothing is repaired: lines end with CRLF,
a chunk's size is hexadecimal and has a limit, extensions are skipped up to a limit, and a trailer
is refused, since nobody here would read it.
"""

from __future__ import annotations

import re
from enum import Enum

from spoold.model.errors import RemoteProtocolError

CHUNK_LINE_BYTES_MAX = 1024
# At most 15 digits: a size that no file has, and no sum of such sizes is near 2^63.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")


class _State(Enum):
    DATA = "data"
    SIZE = "size"  # a chunk's first line
    DATA_END = "data-end"  # the CRLF behind a chunk
    TRAILER = "trailer"  # the CRLF behind the last chunk
    WHOLE = "whole"


class Body:
    """The framing of one body: `length` bytes, or chunks when that is None."""

    __slots__ = ("_is_chunked", "_state", "left")

    def __init__(self, length: int | None) -> None:
        self._is_chunked = length is None
        self._state = _State.SIZE if length is None else _State.DATA if length else _State.WHOLE
        self.left = length or 0  # bytes of this chunk, or of the body, that are still to come

    @property
    def is_whole(self) -> bool:
        return self._state is _State.WHOLE

    @property
    def bytes_left(self) -> int | None:
        """How many bytes of the body are still to come; None when that is not known."""
        return None if self._is_chunked else self.left

    def took(self, count: int) -> None:
        """`count` bytes of `left` have come."""
        self.left -= count
        if not self.left and self._state is _State.DATA:
            self._state = _State.DATA_END if self._is_chunked else _State.WHOLE

    def strip(self, buffer: bytearray) -> bool:
        """Remove the framing at the front of `buffer`.

        Returns whether data, or the end of the body, is reached; if not, more is needed.

        Raises:
            RemoteProtocolError: this is no framing; `reply_hint` is 400.
        """
        while not (self.left or self._state is _State.WHOLE):
            if self._state is _State.SIZE:
                if not self._size(buffer):
                    return False
            elif len(buffer) >= 2 and buffer.startswith(b"\r\n"):
                del buffer[:2]
                is_last = self._state is _State.TRAILER
                self._state = _State.WHOLE if is_last else _State.SIZE
            elif buffer and buffer != b"\r":
                what = "a trailer" if self._state is _State.TRAILER else "a chunk of another length"
                raise RemoteProtocolError(f"{what} is not taken", "400")
            else:
                return False
        return True

    def _size(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\n", 0, CHUNK_LINE_BYTES_MAX)
        if end < 0:
            if len(buffer) >= CHUNK_LINE_BYTES_MAX:
                raise RemoteProtocolError("the size of a chunk, in a line that is too long", "400")
            return False
        found = _CHUNK_LINE.fullmatch(buffer, 0, end + 1)
        if found is None:
            raise RemoteProtocolError("not the size of a chunk", "400")
        self.left = int(found[1], 16)
        self._state = _State.DATA if self.left else _State.TRAILER
        del buffer[: end + 1]
        return True

    def compact(self, view: memoryview, kept: bytearray) -> int:
        """Move the body's bytes to the front of `view`, which has come as a whole; how many.

        `kept` is the front of some framing, empty at first; what follows the body ends there too.

        Raises:
            RemoteProtocolError: as `strip`.
        """
        size = len(view)
        at = out = 0
        while at < size:
            if self.left:
                count = min(self.left, size - at)
                if out != at:
                    view[out : out + count] = view[at : at + count]
                self.took(count)
                at += count
                out += count
                continue
            if self._state is _State.WHOLE:
                kept += view[at:]
                break
            piece = view[at : at + CHUNK_LINE_BYTES_MAX]
            kept += piece
            if not self.strip(kept):
                at += len(piece)
            else:
                at += len(piece) - len(kept)
                kept.clear()
        return out
