"""The `file` driver: a document becomes a file in a directory, whole or not at all.

In: `file:///directory`. Out: `Delivered` once file and directory are synced. The name comes from
the job alone, so a second attempt replaces what a first one left, and no attempt is ever in doubt.
Options: `copies=on` writes a file a copy (default off: one file); `sync=off` leaves out the syncs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import unicodedata
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import unquote

import trio

from spoold.driver.link import Delivery, DeviceStatus, Network, Progress, Source
from spoold.driver.options import Options, switches
from spoold.model.errors import OperationError
from spoold.model.job import Job
from spoold.model.outcome import Deferred, Delivered, Outcome, Refused
from spoold.model.printer import Device
from spoold.spool.directories import sync_directory

CHUNK_BYTES: Final = 4 << 20
TITLE_BYTES_MAX: Final = 80
COPIES_MAX: Final = 999
EXTENSIONS: Final = {
    "application/pdf": ".pdf",
    "application/postscript": ".ps",
    "application/vnd.hp-pcl": ".pcl",
    "application/vnd.hp-pclxl": ".pxl",
    "application/vnd.zebra-zpl": ".zpl",
    "application/vnd.cups-raster": ".ras",
    "image/pwg-raster": ".pwg",
    "image/urf": ".urf",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/tiff": ".tif",
    "text/plain": ".txt",
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def safe_title(title: str) -> str:
    """A title as a piece of a file name: letters, digits, `-`, `_` and `.` that leads nowhere."""
    text = "".join(
        c if c.isalnum() or c in "-_." else "_" for c in unicodedata.normalize("NFC", title)
    )
    short = text.encode("utf-8", "ignore")[:TITLE_BYTES_MAX].decode("utf-8", "ignore")
    return short.strip("._-")


def file_name(job: Job, copy: int = 1) -> str:
    """The name of a job's file: always the same for the same document of a job and its copy."""
    media_type = job.document.format.partition(";")[0].strip().lower()
    extension = EXTENSIONS.get(media_type, ".prn")
    title = safe_title(job.title).removesuffix(extension)  # often the name of a file
    return "".join(
        (
            f"{job.id:010d}-{job.uuid}",
            f"-d{job.document_number:03d}" if job.documents > 1 else "",
            f"-{copy}" if copy > 1 else "",
            f"-{title}" if title else "",
            extension,
        )
    )


class FileDriver:
    is_local = True
    options: ClassVar[Options] = switches("copies", "sync")

    def __init__(self, device: Device, network: Network) -> None:
        """Raises `OperationError` when the URI names no absolute directory of this machine."""
        parts = device.parts
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
            raise OperationError(
                "bad-request",
                f"{device.uri!r} names no directory of this machine.",
                "Write file:///var/spool/printed, with three slashes.",
            )
        self._directory = Path(path)
        self._is_file_a_copy = device.is_on("copies")
        self._is_synced = device.is_on("sync", default=True)

    async def deliver(self, delivery: Delivery) -> Outcome:
        await delivery.may_send()
        job, source = delivery.job, delivery.source
        copies = min(job.copies, COPIES_MAX) if self._is_file_a_copy else 1
        if job.copies_embedded:
            copies = 1
        names = [file_name(job, copy) for copy in range(1, copies + 1)]
        try:
            is_whole = await trio.to_thread.run_sync(self._write, names, source)
        except OSError as error:
            return self._deferred(error)
        if not is_whole:
            return Refused("document-damaged", "The stored document is shorter than it should be.")
        delivery.report(Progress(bytes_sent=source.size * copies))
        evidence = {"method": "file-synced" if self._is_synced else "file-written"}
        return Delivered(evidence | {"bytes": source.size * copies, "files": names})

    async def probe(self) -> DeviceStatus:
        """Can a file be made there? Nothing is written."""

        def check() -> DeviceStatus:
            place, detail = self._directory, ""
            if not place.exists():
                place = place.parent
                detail = f"{self._directory} is made with the first job."
            if not place.exists():
                return self._status(OSError(errno.ENOENT, "No such directory", str(place)))
            if not place.is_dir():
                return self._status(OSError(errno.ENOTDIR, "Not a directory", str(place)))
            if not os.access(place, os.W_OK | os.X_OK):
                return self._status(OSError(errno.EACCES, "Permission denied", str(place)))
            return DeviceStatus(True, detail=detail)

        # A file server that is gone may hold the thread for ever; it changes nothing.
        return await trio.to_thread.run_sync(check, abandon_on_cancel=True)

    def _write(self, names: list[str], source: Source) -> bool:
        """Runs in a thread, and stops between chunks when the delivery is cancelled."""
        if not self._directory.is_dir():
            # Only the last level: a missing parent may be a disk that is not mounted.
            self._directory.mkdir(mode=0o750)
            if self._is_synced:
                with contextlib.suppress(PermissionError):  # it may be written, and not be read
                    sync_directory(self._directory.parent)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                if not self._write_one(directory, name, source):
                    return False
            if self._is_synced:
                os.fsync(directory)
        finally:
            os.close(directory)
        return True

    def _write_one(self, directory: int, name: str, source: Source) -> bool:
        # The same name for each attempt, so that one that was cut off leaves nothing for ever.
        temporary = f".{name[:47]}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, 0o640, dir_fd=directory)
        is_whole = False
        try:
            try:
                is_whole = copy_document(source, fd) == source.size
                if is_whole and self._is_synced:
                    os.fdatasync(fd)
            finally:
                os.close(fd)
            if is_whole:
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            is_whole = False
            raise
        finally:
            if not is_whole:
                os.unlink(temporary, dir_fd=directory)
        return is_whole

    def _deferred(self, error: OSError) -> Deferred:
        status = self._status(error)
        return Deferred(status.reasons[0], status.detail)

    def _status(self, error: OSError) -> DeviceStatus:
        if error.errno in _FULL:
            reason, advice = "directory-full", "Make room there; the job is tried again."
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = "directory-missing"
            advice = "Name a directory, or move what is in its place; the job is tried again."
        elif error.errno == errno.ENOENT:
            reason = "directory-missing"
            advice = "Make the directory, or mount its disk; the job is tried again."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "directory-not-writable"
            advice = "Let spoold's user write there; the job is tried again."
        else:
            reason, advice = "device-error", "Look at the disk; the job is tried again."
        cause = error.strerror or str(error)
        return DeviceStatus(False, (reason,), f"{self._directory}: {cause}. {advice}")


def copy_document(source: Source, fd: int) -> int:
    """Copy the document to `fd`, from a thread; returns how many bytes came.

    Raises:
        OSError: the one side cannot be read or the other not be written.
        trio.Cancelled: the delivery was cancelled.
    """
    descriptor = source.fileno()
    done = 0
    while done < source.size:
        trio.from_thread.check_cancelled()
        count = min(CHUNK_BYTES, source.size - done)
        if descriptor is not None:
            moved = os.sendfile(fd, descriptor, done, count)
        else:
            moved = os.write(fd, source.read_at(done, count))
        if not moved:
            break
        done += moved
    return done
