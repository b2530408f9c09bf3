"""Document files: where the bytes of jobs lie, how they get their names, and how they are read.

Small documents stay in the row of their job. Larger ones are written under `incoming/` (`incoming`)
and become visible under `documents/` by rename, synced, before the commit that names them. A file
that failed a sync is never synced again. What an interrupted upload left is resumed or removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from spoold.model.errors import OperationError, SpoolError
from spoold.model.job import Job
from spoold.spool.crashpoint import crash_point
from spoold.spool.directories import make_directory, sync_directory
from spoold.spool.flight import disk_error
from spoold.spool.incoming import Incoming
from spoold.spool.reader import SqliteReader
from spoold.spool.sources import FileSource, MemorySource

INLINE_BYTES_MAX = 128 * 1024  # beyond, a file costs less than the row
ADVICE = "Look into quarantine/, restore the file, or ask for the job again."


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
