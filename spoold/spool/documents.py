"""Document files: the bytes of jobs, on their way in and on their way out.

In: bytes from an intake. Small documents stay in memory and go into the row of their job; larger
ones are written and digested by a thread, two buffers in turn, under `incoming/`, and become
visible under `documents/` by rename, synced, before the commit that names them. A file that failed
a sync is never synced again. What an interrupted upload left in `incoming/` is resumed or removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import blake3
import trio

from spoold.model.errors import OperationError, SpoolError
from spoold.model.job import Job
from spoold.spool.crashpoint import crash_point
from spoold.spool.directories import make_directory, sync_directory
from spoold.spool.flight import Flight, disk_error, read_at
from spoold.spool.reader import SqliteReader
from spoold.spool.sources import FileSource as FileSource
from spoold.spool.sources import MemorySource as MemorySource
from spoold.spool.store import NewDocument

INLINE_BYTES_MAX = 128 * 1024  # beyond, a file costs less than the row (STACK 2)
BUFFER_BYTES = 1024 * 1024
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 4 * 1024
ADVICE = "Look into quarantine/, restore the file, or ask for the job again."


class Digest(Protocol):
    def update(self, data: Any, /) -> object: ...
    def hexdigest(self) -> str: ...


DIGESTS: dict[str, Callable[[], Digest]] = {"blake3": blake3.blake3, "sha256": sha256}


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
                    raise SpoolError("resume", "a document", "its file shrank", ADVICE)
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
        await self.drain()
        if self._digest is None:
            self._digest = DIGESTS[self._algorithm]()
            for part in self._parts:
                self._digest.update(part)
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


class Space(NamedTuple):
    """The room of a file system."""

    free_bytes: int
    total_bytes: int
    free_inodes: int


class Documents:
    """The directories `incoming`, `documents` and `quarantine` of a data directory."""

    def __init__(
        self, data_dir: Path, reader: SqliteReader, inline_bytes_max: int = INLINE_BYTES_MAX
    ) -> None:
        self.incoming_dir = data_dir / "incoming"
        self.dir = data_dir / "documents"
        self.quarantine_dir = data_dir / "quarantine"
        self.inline_bytes_max = inline_bytes_max
        self._reader = reader
        self._busy: set[str] = set()
        self._keepers = 0  # who wants all documents to stay for now
        self._kept: list[str] = []  # to be removed when nobody does
        self._durable: set[str] = set()  # folders of `dir` whose names are known to be durable
        for directory in (self.incoming_dir, self.dir, self.quarantine_dir):
            make_directory(directory)

    def begin(self, name: str, algorithm: str = "blake3") -> Incoming:
        """A new document. `name` is ours, never a sender's: hexadecimal digits, or "".

        Raises:
            OperationError: `bad-request`, an unknown digest algorithm.
        """
        return Incoming(self, algorithm, name)

    def is_busy(self, name: str) -> bool:
        """Whether an upload under this name is going on."""
        return name in self._busy

    def make(self, name: str) -> tuple[str, int]:
        """A new file under `name`, or under a random name when it is empty."""
        name = name or os.urandom(20).hex()
        path = self.incoming_dir / name
        if name in self._busy:  # making it again would empty the file under its writer
            raise OperationError("busy", "this document is still being written.", "Try again.")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise disk_error(error, "create") from error
        self._busy.add(name)
        return name, fd

    def reopen(self, name: str) -> tuple[str, int, int] | None:
        if name in self._busy:
            return None
        try:
            fd = os.open(self.incoming_dir / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error(error, "resume") from error
        self._busy.add(name)
        return name, fd, os.fstat(fd).st_size

    def let_go(self, name: str) -> None:
        self._busy.discard(name)

    def discard(self, name: str) -> None:
        (self.incoming_dir / name).unlink(missing_ok=True)
        self._busy.discard(name)

    def publish(self, name: str, fd: int) -> str:
        """In a thread: sync the file, give it its final name, sync both directories."""
        path = self.incoming_dir / name
        file = name
        step = "sync"
        directory = self.dir / name[:2]
        try:
            crash_point("document-before-sync")
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
            step = "place"
            directory.mkdir(mode=0o700, exist_ok=True)
            crash_point("document-before-rename")
            final = directory / name
            if final.exists():  # the same uuid again, after its job was removed
                file = f"{name}-{os.urandom(4).hex()}"
                final = directory / file
            path.rename(final)
            step = "sync"
            path = final
            crash_point("document-after-rename")
            self._sync_names(directory)
            sync_directory(self.incoming_dir)
        except OSError as error:
            # Never synced twice: what could not be made durable is not kept at all.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise disk_error(error, step) from error
        finally:
            self._busy.discard(name)
        return file

    def _sync_names(self, directory: Path) -> None:
        """Make the names in a folder of `dir` durable, and its own."""
        sync_directory(directory)
        # A folder that is there may have been made by a process that was killed, or just now.
        if directory.name not in self._durable:
            sync_directory(self.dir)
            self._durable.add(directory.name)

    def share(self, file: str) -> str:
        """In a thread: another, durable name for a document; its bytes stay until both are removed.

        Raises:
            SpoolError: the document is missing, or the disk failed.
        """
        name = os.urandom(20).hex()
        final = self.path(name)
        step = "share"
        try:
            final.parent.mkdir(mode=0o700, exist_ok=True)
            os.link(self.path(file), final)
            step = "sync"
            self._sync_names(final.parent)
        except OSError as error:
            self.remove(name)
            raise disk_error(error, step) from error
        return name

    def path(self, file: str) -> Path:
        return self.dir / file[:2] / file

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """While this is open no document is removed; what was to be, is at its end."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1
            if not self._keepers:
                kept, self._kept = self._kept, []
                for file in kept:
                    self.remove(file)

    def remove(self, file: str) -> None:
        """Remove a document whose job has been forgotten, or was never committed.

        What cannot be removed now is an orphan that the next start finds.
        """
        if file and self._keepers:
            self._kept.append(file)
        elif file:
            with contextlib.suppress(OSError):
                self.path(file).unlink(missing_ok=True)

    async def open(self, job: Job) -> FileSource | MemorySource:
        """The job's bytes; the caller closes the source.

        Raises:
            SpoolError: they are missing, or not of the size that was accepted.
        """
        found = await self._reader.job_with_document(job.id)
        if found is None:
            raise SpoolError("open", f"document of job {job.id}", "the job is gone", ADVICE)
        return self.open_found(*found)

    def open_found(self, job: Job, body: bytes | None, file: str) -> FileSource | MemorySource:
        """As `open`, with what `SqliteReader.job_with_document` found."""
        subject = f"document of job {job.id}"
        if job.document.stored == "inline":
            if body is None or len(body) != job.document.size:
                raise SpoolError("open", subject, "it is missing", ADVICE)
            return MemorySource(body)
        if job.document.stored in ("gone", "none"):
            cause = "it is not kept" if job.document.stored == "gone" else "it has not come"
            raise SpoolError("open", subject, cause, ADVICE)
        try:
            fd = os.open(self.path(file), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise SpoolError("open", subject, error, ADVICE) from error
        size = os.fstat(fd).st_size
        if size != job.document.size:
            os.close(fd)
            raise SpoolError("open", subject, f"it has {size} bytes", ADVICE)
        return FileSource(fd, size)

    def quarantined(self) -> dict[str, int]:
        """The size of each file that was moved aside, by its name."""
        with os.scandir(self.quarantine_dir) as entries:
            return {one.name: one.stat(follow_symlinks=False).st_size for one in entries}

    def space(self) -> Space:
        """How much room the file system of the documents has, at one moment. As df(1) counts: what
        is kept for root is not there.
        """
        found = os.statvfs(self.dir)
        total = found.f_blocks - found.f_bfree + found.f_bavail
        return Space(found.f_bavail * found.f_frsize, total * found.f_frsize, found.f_favail)
