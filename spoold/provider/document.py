"""The bytes that a provider sends: readable at any offset, any number of times, and digested once.

In: bytes, a path or an open binary file. What cannot be read twice (a pipe) is first copied into a
temporary file, so that an upload can be resumed. Every call may block on the disk.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from hashlib import sha256
from typing import Any, BinaryIO

from blake3 import blake3

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO

DIGESTS: dict[str, Callable[[], Any]] = {"blake3": blake3, "sha256": sha256}
PIECE_BYTES = 1 << 20


class Document:
    """`size` in bytes. One caller at a time."""

    def __init__(self, source: Source, algorithm: str = "blake3") -> None:
        """Open `source`.

        Raises:
            OSError: it cannot be read.
            ValueError: there is no such digest algorithm.
        """
        if algorithm not in DIGESTS:
            raise ValueError(f"digest algorithm {algorithm!r} is not one of {', '.join(DIGESTS)}")
        self.algorithm = algorithm
        self._hash = DIGESTS[algorithm]()
        self._hashed = 0
        self._body: memoryview | None = None
        self._file: BinaryIO | None = None
        self._is_ours = True
        if isinstance(source, bytes | bytearray | memoryview):
            self._body = memoryview(bytes(source))
            self.size = len(self._body)
        elif isinstance(source, str | os.PathLike):
            self._file = open(source, "rb", buffering=0)  # noqa: SIM115
            self.size = self._measured(self._file)
        else:
            self._is_ours = False
            self._file = source
            self.size = self._measured(source)

    def _measured(self, file: BinaryIO) -> int:
        """The size of `file`; of a pipe, after it was copied to its end."""
        try:
            if file.seekable():
                return file.seek(0, io.SEEK_END)
            import shutil
            import tempfile

            copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            try:
                shutil.copyfileobj(file, copy, PIECE_BYTES)
                size = copy.tell()
            except BaseException:
                copy.close()
                raise
            self.close()
            self._file = copy
            self._is_ours = True
            return size
        except BaseException:
            self.close()
            raise

    def read(self, offset: int, bytes_max: int) -> memoryview:
        """The bytes from `offset`, `bytes_max` of them or all up to the end.

        Raises:
            OSError: it cannot be read, or is not as long any more as it was.
        """
        if self._body is not None:
            data = self._body[offset : offset + bytes_max]
        else:
            data = self._read_file(offset, min(bytes_max, self.size - offset))
        if offset == self._hashed:
            self._hash.update(data)
            self._hashed += len(data)
        return data

    def _read_file(self, offset: int, count: int) -> memoryview:
        assert self._file is not None
        self._file.seek(offset)
        pieces = []
        left = count
        while left:
            piece = self._file.read(left)
            if not piece:
                raise OSError(0, "the document became shorter while it was sent")
            pieces.append(piece)
            left -= len(piece)
        return memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def read_at(self, offset: int, bytes_max: int) -> bytes:
        """As `read`, for a driver."""
        return bytes(self.read(offset, bytes_max))

    def fileno(self) -> int | None:
        """The descriptor of the file that it is in; None when it is in memory."""
        try:
            return None if self._file is None else self._file.fileno()
        except io.UnsupportedOperation:
            return None

    @property
    def is_in_memory(self) -> bool:
        return self._body is not None

    @property
    def is_digested(self) -> bool:
        """Whether `digest` need not read anything more."""
        return self._hashed == self.size

    def digest(self) -> str:
        """The digest of the whole document, as `algorithm:hex`. Reads what has not been read."""
        while self._hashed < self.size:
            self.read(self._hashed, PIECE_BYTES)
        return f"{self.algorithm}:{self._hash.hexdigest()}"

    def close(self) -> None:
        if self._is_ours and self._file is not None:
            self._file.close()
