"""The bytes of a document on their way out, from a file or memory: `driver.link.Source`."""

from __future__ import annotations

import os


class FileSource:
    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def fileno(self) -> int | None:
        return self._fd

    def read_at(self, offset: int, bytes_max: int) -> bytes:
        return os.pread(self._fd, bytes_max, offset)

    def close(self) -> None:
        os.close(self._fd)


class MemorySource:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self.size = len(body)

    def fileno(self) -> int | None:
        return None

    def read_at(self, offset: int, bytes_max: int) -> bytes:
        if offset == 0 and bytes_max >= self.size:
            return self._body
        return self._body[offset : offset + bytes_max]

    def close(self) -> None:
        self._body = b""
