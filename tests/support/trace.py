"""What a process did to its files and told its clients, as strace saw it, in order.

`command` runs a program under strace; `read` gives the calls of its record. A call that was cut off
has no result: it may have happened or not. Calls of several threads overlap, and are told so: each
has the moments at which it was entered and left, as places in one order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What changes files, what makes it durable, and what tells a client that it is.
CALLS = (
    "openat,mkdir,mkdirat,rmdir,write,pwrite64,sendfile,ftruncate,fallocate,lseek,fsync,fdatasync,"
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,accept4,setsockopt,sendto"
)
STRING_BYTES_MAX = 4_000_000
WRITTEN_S = 20  # the recorder writes its last lines after the process has ended

_LINE = re.compile(rb"(\d+) +(?:<\.\.\. (\S+) resumed>)?(.*)", re.DOTALL)
_RESULT = re.compile(rb"(.*)\) += (-?\d+|\?)[^\"]*", re.DOTALL)
_STRING = re.compile(rb'"([^"]*)"')
_FILE = re.compile(rb"(AT_FDCWD|-?\d+)(?:<([^>]*)>)?")


def command(record: Path) -> list[str]:
    """What stands before the command of a process that is to be recorded.

    The process stays its parent's child; strace lets go of it when it ends.
    """
    return [
        "strace", "-D", "-f", "--seccomp-bpf", "-q", "-xx", "-y",
        "-s", str(STRING_BYTES_MAX), "-e", "signal=kill", "-e", f"trace={CALLS}",
        "-o", str(record),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One system call. `result` is None when it was cut off, negative when it failed.

    `entered` and `left` are lines of the record.
    """

    name: str
    arguments: bytes
    result: int | None
    entered: int
    left: int

    def strings(self) -> list[bytes]:
        return [_bytes(found[1]) for found in _STRING.finditer(self.arguments)]

    def files(self) -> list[tuple[int, str]]:
        """The descriptors among the arguments, each with its path; -1 for AT_FDCWD."""
        outside = _STRING.sub(b"", self.arguments)
        return [
            (-1 if found[1] == b"AT_FDCWD" else int(found[1]), _path(found[2]))
            for found in _FILE.finditer(outside)
            if found[2] is not None
        ]

    def numbers(self) -> list[int]:
        """The plain numbers among the arguments, after the first one."""
        outside = _STRING.sub(b'""', self.arguments)
        words = [word.strip() for word in outside.split(b",")[1:]]
        return [int(word) for word in words if re.fullmatch(rb"-?\d+", word)]


def read(record: Path, process: int) -> list[Call]:
    """The calls of a process that has ended, in the order in which they did.

    Those that were cut off come last.
    """
    deadline = time.monotonic() + WRITTEN_S
    end = re.compile(rb"^%d +\+\+\+ " % process, re.MULTILINE)
    while end.search(_tail(record)) is None:
        assert time.monotonic() < deadline, "the recorder did not come to its end"
        time.sleep(0.01)
    return list(_read(record))


def _tail(record: Path) -> bytes:
    with record.open("rb") as file:
        file.seek(max(0, record.stat().st_size - 10_000))
        return file.read()


def _read(record: Path) -> Iterator[Call]:
    open_calls: dict[bytes, tuple[str, bytes, int]] = {}
    with record.open("rb") as lines:
        for number, line in enumerate(lines):
            thread, resumed, text = _LINE.fullmatch(line.rstrip(b"\n")).groups()
            if text.startswith((b"+++", b"---")) or (resumed and thread not in open_calls):
                continue  # an end or a signal; or a call that was killed before it was seen
            name, entered = "", number
            if resumed:
                name, front, entered = open_calls.pop(thread)
                text = front + text
            else:
                word, _, text = text.partition(b"(")
                name = word.decode()
            if text.endswith(b"<unfinished ...>"):
                text = text.removesuffix(b"<unfinished ...>").rstrip()
                open_calls[thread] = (name, text, entered)
                continue
            found = _RESULT.fullmatch(text)
            assert found is not None, (name, text[:200], text[-200:])
            arguments, result = found.groups()
            ended = None if result == b"?" else int(result)
            yield Call(name, arguments, ended, entered, number)
    for name, arguments, entered in open_calls.values():
        yield Call(name, arguments, None, entered, number + 1)


def _bytes(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(b"\\x", b"").decode())


def _path(text: bytes) -> str:
    plain = _bytes(text) if text.startswith(b"\\x") else text
    return plain.decode("utf-8", "replace")
