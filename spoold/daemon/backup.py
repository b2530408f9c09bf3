"""Backups of a running node: consistent, complete in themselves, and cheap to take often.

Each is a folder under one directory, named by its time in UTC: `spool.db` as of one moment, the
documents that it names, `identity/` with the CA's key, `node-guid`, the configuration as it was,
and a manifest with digests. What the backup before it holds already is linked, not copied again. A
backup grows in a `.partial` folder and gets its name when all of it is synced: whatever interrupts
it leaves those before it as they are. The witness stays outside: a spool
that was put back is known by it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from spoold import __version__
from spoold.daemon import manifest
from spoold.daemon.manifest import Entry, Head
from spoold.model.errors import SpoolError, SpoolFull
from spoold.spool import snapshot
from spoold.spool.crashpoint import crash_point
from spoold.spool.directories import make_directory, sync_directory
from spoold.spool.erasure import ERASED
from spoold.spool.incoming import DIGESTS

PARTIAL = ".partial"
NAMED = re.compile(r"\d{8}T\d{6}Z(-\d+)?")
COPY_BYTES = 1024 * 1024
SYNCED_BYTES = 32 * COPY_BYTES  # much at once would hold up the commits of the spool
# Beside spool.db and the documents: what makes the node itself. Nothing of it is large.
BELONGINGS = ("node-guid", "identity", ERASED)
CONFIGURATION = "spoold.toml"
LAST = "last-backup"  # in the data directory

Step = Callable[[str, int, int], None]  # what is copied, how much is done, and of how much


@dataclass(frozen=True, slots=True)
class Source:
    """What is backed up: a node's data directory, the file that configures it, and who it is.

    `reserve_bytes` stay free on the data directory's own file system. `credentials` are names of
    what is not backed up, because the service manager hands it over.
    """

    data_dir: Path
    config_file: Path | None
    node_guid: UUID
    node_name: str
    reserve_bytes: int
    credentials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A backup. `copied_bytes` were written for it, the rest is shared with the one before."""

    path: Path
    head: Head
    copied_bytes: int
    took_s: float
    removed: tuple[str, ...] = ()


def made(directory: Path, node_guid: UUID | None = None) -> list[tuple[str, Head]]:
    """The backups in a directory, the oldest first; those of one node, when it is named.

    Raises:
        PermissionError: there are some, and none that we may read.
    """
    found, hidden = [], None
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(filter(NAMED.fullmatch, os.listdir(directory)), key=_order):
            try:
                head = manifest.read_head(directory / name)
            except PermissionError as error:
                hidden = error  # another node's, perhaps
                continue
            if head is not None and node_guid in (None, UUID(head.node_guid)):
                found.append((name, head))
    if hidden is not None and not found and node_guid is None:
        raise hidden
    return found


def make(source: Source, directory: Path, now_us: int, step: Step, keep: int | None = None) -> Made:
    """Take a backup, and then remove all but the last `keep` of this node.

    Nothing may remove documents of the spool meanwhile. `step` is called now and then; what it
    raises ends the backup.

    Raises:
        SpoolError: it cannot be taken, with advice; the backups before it are as they were.
        SpoolFull: there is no room for it.
    """
    started = time.monotonic()
    _check_place(source, directory)
    with _explained(directory), _locked(directory):
        _sweep(directory)
        name = _next_name(directory, now_us)
        work = directory / (name + PARTIAL)
        work.mkdir(mode=0o700)
        try:
            taking = _Taking(source, work, step)
            head = taking.take(now_us)
            crash_point("backup-before-name")
            work.rename(directory / name)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        sync_directory(directory)
        removed = _remove_all_but(directory, source.node_guid, keep)
    took_s = time.monotonic() - started
    return Made(directory / name, head, taking.copied_bytes, took_s, removed)


class _Taking:
    """One backup on its way into `work`."""

    def __init__(self, source: Source, work: Path, step: Step) -> None:
        self._source = source
        self._work = work
        # The backup before, which this one shares its documents with.
        self._before_dir, self._before = _last(work.parent, source.node_guid)
        self._step = step
        self._entries: list[Entry] = []
        self._damaged = 0
        self.copied_bytes = 0

    def take(self, now_us: int) -> Head:
        self._take_database()
        documents = self._take_documents()
        self._take_belongings()
        facts = snapshot.facts(self._work / "spool.db")
        head = Head(
            manifest.FORMAT,
            __version__,
            facts.schema,
            str(self._source.node_guid),
            self._source.node_name,
            str(facts.journal),
            str(facts.incarnation),
            facts.position,
            facts.last_job_id,
            facts.jobs,
            facts.waiting,
            documents,
            sum(entry.size for entry in self._entries),
            self._damaged,
            now_us,
            self._source.credentials,
        )
        for folder, _, _ in os.walk(self._work):
            sync_directory(Path(folder))
        manifest.write(self._work, head, self._entries)
        sync_directory(self._work)
        return head

    def _take_database(self) -> None:
        source = self._source.data_dir / "spool.db"
        size = sum(_size(source.with_name(source.name + end)) for end in ("", "-wal"))
        self._need_room(size)
        target = self._work / "spool.db"

        def step(left: int, total: int) -> None:
            self._step("database", total - left, total)

        snapshot.copy_database(source, target, step)
        crash_point("backup-after-database")
        size, digest = digest_of(target, "blake3", lambda: self._step("database", 1, 1))
        self._add(Entry("spool.db", size, digest))
        self.copied_bytes += size

    def _take_documents(self) -> int:
        """Link or copy every document that the database names; how many."""
        wanted = list(snapshot.files(self._work / "spool.db"))
        new_bytes = sum(one.size for one in wanted if not self._has(one))
        self._need_room(new_bytes)
        made: set[str] = set()
        taken = 0
        for number, one in enumerate(wanted):
            if number % 64 == 0:
                self._step("documents", number, len(wanted))
            relative = f"documents/{one.file[:2]}/{one.file}"
            folder = (self._work / relative).parent
            if folder.name not in made:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                made.add(folder.name)
            if self._take_document(one, relative):
                taken += 1
                self._add(Entry(relative, one.size, one.digest))
                crash_point("backup-after-document")
            else:
                self._damaged += 1
        return taken

    def _take_document(self, one: snapshot.DocumentFile, relative: str) -> bool:
        """Whether the document is in the backup, and is what the spool says it is."""
        target = self._work / relative
        if self._has(one):
            with contextlib.suppress(OSError):  # gone, or too many links: then it is copied
                os.link(self._before_dir / relative, target, follow_symlinks=False)
                return True
        algorithm = one.digest.partition(":")[0]
        try:
            size, digest = self._copy(self._source.data_dir / relative, target, algorithm)
        except FileNotFoundError:
            return False
        if (size, digest) != (one.size, one.digest):
            target.unlink()
            return False
        self.copied_bytes += size
        return True

    def _has(self, one: snapshot.DocumentFile) -> bool:
        held = self._before.get(f"documents/{one.file[:2]}/{one.file}")
        return held is not None and (held.size, held.digest) == (one.size, one.digest)

    def _take_belongings(self) -> None:
        found = []
        for name in BELONGINGS:
            path = self._source.data_dir / name
            for one in sorted(path.iterdir()) if path.is_dir() else [path]:
                if not one.exists():
                    continue
                if stat.S_ISREG(one.lstat().st_mode) and not one.name.endswith(".new"):
                    found.append((one, one.relative_to(self._source.data_dir).as_posix()))
        if self._source.config_file is not None and self._source.config_file.is_file():
            found.append((self._source.config_file, CONFIGURATION))
        for path, relative in found:
            target = self._work / relative
            target.parent.mkdir(mode=0o700, exist_ok=True)
            size, digest = self._copy(path, target, "blake3")
            self._add(Entry(relative, size, digest))
            self.copied_bytes += size

    def _copy(self, source: Path, target: Path, algorithm: str) -> tuple[int, str]:
        return copy_file(source, target, algorithm, lambda: self._step("documents", 0, 0))

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def _need_room(self, size: int) -> None:
        """Refuse before anything is written, and leave the spool its reserve.

        Raises:
            SpoolFull: there is not so much room.
        """
        found = os.statvfs(self._work)
        free = found.f_bavail * found.f_frsize
        is_same = self._work.stat().st_dev == self._source.data_dir.stat().st_dev
        if size + (self._source.reserve_bytes if is_same else 0) > free:
            raise SpoolFull(
                "back up to",
                str(self._work.parent),
                f"it needs {size} bytes, and {free} are free there",
                "Free space there, remove old backups with --keep, or name another directory.",
            )


def note_last(data_dir: Path, told: dict[str, Any]) -> None:
    """Remember the last backup for the status; not synced, and not missed if it is lost."""
    with contextlib.suppress(OSError):
        new = data_dir / (LAST + ".new")
        new.write_text(json.dumps(told), "utf-8")
        new.rename(data_dir / LAST)


def last(data_dir: Path) -> dict[str, Any] | None:
    """What was noted of the last backup; None when there was none."""
    try:
        found = json.loads((data_dir / LAST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def copy_file(
    source: Path, target: Path, algorithm: str, step: Callable[[], None]
) -> tuple[int, str]:
    """Copy a file, synced; its size and digest as they were read.

    Raises:
        OSError: it cannot be read, or the copy not be written.
    """
    digest = DIGESTS[algorithm]()
    size = 0
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writing = os.open(target, flags, 0o600)
        try:
            while data := os.read(reading, COPY_BYTES):
                digest.update(data)
                size += len(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(writing, view) :]
                if size % SYNCED_BYTES == 0:
                    os.fdatasync(writing)
                step()
            os.fsync(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return size, f"{algorithm}:{digest.hexdigest()}"


def digest_of(path: Path, algorithm: str, step: Callable[[], None]) -> tuple[int, str]:
    """The size and the digest of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = DIGESTS[algorithm]()
    size = 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(COPY_BYTES):
            digest.update(data)
            size += len(data)
            step()
    return size, f"{algorithm}:{digest.hexdigest()}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _last(directory: Path, node_guid: UUID) -> tuple[Path, dict[str, Entry]]:
    """The last backup of this node and its files; one that cannot be read has nothing to share."""
    for name, _ in reversed(made(directory, node_guid)):
        with contextlib.suppress(SpoolError):
            return directory / name, manifest.read(directory / name).entries
    return directory, {}


def _order(name: str) -> tuple[str, int]:
    """By what backups are sorted, the oldest first."""
    stamp, _, number = name.partition("-")
    return stamp, int(number or 1)


def _next_name(directory: Path, now_us: int) -> str:
    """A name behind all that are there, even when the clock went back: the last is the newest."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_us // 1_000_000))
    there = filter(NAMED.fullmatch, os.listdir(directory))
    last, number = max(map(_order, there), default=("", 0))
    return stamp if stamp > last else f"{last}-{number + 1}"


def _sweep(directory: Path) -> None:
    """Remove what interrupted backups left."""
    for name in os.listdir(directory):
        if name.endswith(PARTIAL) and NAMED.fullmatch(name.removesuffix(PARTIAL)):
            shutil.rmtree(directory / name)


def _remove_all_but(directory: Path, node_guid: UUID, keep: int | None) -> tuple[str, ...]:
    """Remove the oldest backups of this node; no half of one is ever taken for a backup."""
    if keep is None:
        return ()
    names = [name for name, _ in made(directory, node_guid)][:-keep]
    for name in names:
        partial = directory / (name + PARTIAL)
        (directory / name).rename(partial)
        sync_directory(directory)
        shutil.rmtree(partial)
    return tuple(names)


def _check_place(source: Source, directory: Path) -> None:
    """Refuse a directory that dies with the spool, or that the spool would be copied into.

    Raises:
        SpoolError: it is one.
    """
    place, data_dir = directory.resolve(), source.data_dir.resolve()
    if place.is_relative_to(data_dir) or data_dir.is_relative_to(place):
        raise SpoolError(
            "back up to",
            str(directory),
            "the data directory and its backups lie in one another",
            "Name a directory beside it, on another disk if there is one.",
        )


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Nobody else takes a backup here meanwhile.

    Raises:
        SpoolError: somebody does.
    """
    make_directory(directory)
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SpoolError(
                "back up to", str(directory), "another backup goes there now", "Wait for it."
            ) from error
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """What the system refuses is a SpoolError about the directory."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(directory, error) from error
        raise SpoolError(
            "back up to",
            str(error.filename or directory),
            error.strerror,
            "The daemon's user must be able to write there; under systemd, name the directory "
            "in ReadWritePaths= of the unit.",
        ) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF == sqlite3.SQLITE_FULL:
            raise _full(directory, error) from error
        raise SpoolError(
            "back up to", str(directory), error, "Check the disks of both directories."
        ) from error


def _full(directory: Path, error: Exception) -> SpoolFull:
    return SpoolFull(
        "back up to",
        str(directory),
        error,
        "Free space there, or name another directory; the backups before are as they were.",
    )
