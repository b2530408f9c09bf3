"""Backups, verified and put back: the one work on a spool without its daemon, under its lock.

A restore prepares everything in `restoring/` inside the data directory, checks each digest on the
way, and begins a new incarnation there, with job ids beyond what the witness has seen. Then what
stood in the data directory moves aside into `before-restore-…`, and the new takes its place; a
restore that is interrupted in the midst of that is finished by the next one, and no daemon starts
on a half. Nothing is deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from spoold.daemon import backup, manifest
from spoold.daemon.lock import READY, STAGING, locked
from spoold.daemon.manifest import Entry, Head, Manifest
from spoold.model.errors import SpoolError, SpoolFull, StoreFailed
from spoold.model.job import JobReason, JobState
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent
from spoold.spool import snapshot
from spoold.spool.connection import TrioConnection
from spoold.spool.crashpoint import crash_point
from spoold.spool.directories import sync_directory
from spoold.spool.erasure import ERASED
from spoold.spool.incoming import DIGESTS
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import SqliteStore, open_store
from spoold.spool.store import AddRecord, Change, ChangeJob, JobFilter

ASIDE = "before-restore-"
# What makes a spool. The witness is not in a backup, and stays where it is until the new one comes.
MOVED = (
    "spool.db",
    "spool.db-wal",
    "spool.db-shm",
    "documents",
    "incoming",
    "identity",
    "node-guid",
    "last-backup",
)
ROOM_BYTES = 64 * 1024 * 1024  # beside what is copied: the reserve, and the new incarnation
AT_ONCE = 256
WAITED = "It waited when the backup was made, and may have been printed since."

Step = Callable[[str, int, int], None]


@dataclass(slots=True)
class Found:
    """What a look at a backup brought. `damaged` documents do not have their digests."""

    path: Path
    head: Head
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.problems and not self.damaged


@dataclass(frozen=True, slots=True)
class Restored:
    """`first_job_id` is what the next job gets at least; `aside` where the old spool lies now."""

    head: Head
    incarnation: str
    first_job_id: int
    held: int
    damaged: tuple[str, ...]
    aside: Path | None


def find(place: Path) -> Path:
    """The backup that is meant: `place` itself, or the last whole one in that directory.

    Raises:
        SpoolError: there is none.
    """
    try:
        if (place / manifest.NAME).exists():
            return place
        for name, _ in reversed(backup.made(place)):
            return place / name
    except PermissionError as error:
        advice = "Only root and the daemon's user may: use `sudo`, or runuser."
        raise SpoolError("find a backup in", str(place), error.strerror, advice) from error
    raise SpoolError(
        "find a backup in", str(place), "there is none", "Name the directory of `spoold backup`."
    )


def verify(path: Path, step: Step) -> Found:
    """Read all of a backup, and compare it with its manifest and with itself.

    Raises:
        SpoolError: it has no manifest that can be read.
    """
    contents = manifest.read(path)
    found = Found(path, contents.head)
    total = max(1, contents.head.bytes)
    done = 0

    def tell(size: int = 0) -> None:
        nonlocal done
        done += size
        step("files", done, total)

    for entry in contents.entries.values():
        if not _is_as_listed(path, entry, tell):
            kind = found.damaged if entry.file.startswith("documents/") else found.problems
            kind.append(entry.file)
        tell(entry.size)
    if "spool.db" not in contents.entries:
        found.problems.append("spool.db is not listed")
    if not found.problems:
        found.problems += snapshot.check(path / "spool.db", lambda: step("database", 0, 0))
        found.problems += _unlisted(path, contents)
    return found


def _is_as_listed(path: Path, entry: Entry, step: Callable[[], None]) -> bool:
    algorithm = entry.digest.partition(":")[0]
    if algorithm not in DIGESTS or not _is_inside(entry.file):
        return False
    try:
        return backup.digest_of(path / entry.file, algorithm, step) == (entry.size, entry.digest)
    except OSError:
        return False


def _is_inside(relative: str) -> bool:
    """Whether a name of a manifest stays inside of its backup, whoever wrote it."""
    parts = Path(relative).parts
    return bool(parts) and not Path(relative).is_absolute() and ".." not in parts


def _unlisted(path: Path, contents: Manifest) -> Iterator[str]:
    """Documents that the database names and the backup has not; those known as damaged but for."""
    missing = 0
    for one in snapshot.files(path / "spool.db"):
        if f"documents/{one.file[:2]}/{one.file}" not in contents.entries:
            missing += 1
    if missing > contents.head.damaged:
        yield f"{missing - contents.head.damaged} documents are not listed"


def restore(
    path: Path, data_dir: Path, now_us: int, step: Step, *, replace: bool, prints: bool
) -> Restored:
    """Make `data_dir` what it was when the backup at `path` was taken.

    What is in it moves aside, if `replace` allows that. Jobs that waited then are held as in
    doubt, for they may have been printed since; `prints` lets them print. Files get the owner of
    the data directory.

    Raises:
        SpoolError: the backup is damaged, there is no room, or there is a spool and no `replace`;
            nothing was changed.
        ConfigError: a daemon runs there.
    """
    try:
        with locked(data_dir, restores=True):
            staging = data_dir / STAGING
            if (staging / READY).exists():
                return _finish(data_dir, _read_plan(staging))
            if not replace and any((data_dir / name).exists() for name in MOVED):
                raise SpoolError(
                    "restore into",
                    str(data_dir),
                    "there is a spool already",
                    "With --replace it moves aside, into a folder of the data directory.",
                )
            contents = manifest.read(path)
            _check_node(data_dir, contents.head)
            shutil.rmtree(staging, ignore_errors=True)
            _check_room(data_dir, contents)
            staging.mkdir(mode=0o700)
            damaged = _copy_all(path, contents, staging, step)
            _keep_erasures(path, data_dir, staging)
            plan = trio.run(_begin_anew, data_dir, staging, contents, now_us, prints)
            backup.note_last(staging, {"path": str(path), "made_us": contents.head.made_us})
            plan["damaged"] = damaged
            plan["aside"] = _aside_name(data_dir, now_us)
            plan["names"] = sorted(one.name for one in staging.iterdir())
            _own(staging, data_dir)
            _make_ready(staging, plan)
            return _finish(data_dir, plan)
    except OSError as error:
        raise SpoolError(
            "restore into",
            str(error.filename or data_dir),
            error.strerror,
            "Give the command as root, or as the daemon's user; then it can be given again.",
        ) from error
    except sqlite3.Error as error:
        raise SpoolError("restore into", str(data_dir), error, "Verify the backup.") from error


def _check_node(data_dir: Path, head: Head) -> None:
    """Refuse to put another node in this one's place: its clients and its witness are others.

    Raises:
        SpoolError: it is another one.
    """
    try:
        here = (data_dir / "node-guid").read_text("ascii").strip()
    except (FileNotFoundError, ValueError):
        return
    if here != head.node_guid:
        raise SpoolError(
            "restore into",
            str(data_dir),
            f"the backup is of another node, {head.node_name} ({head.node_guid})",
            "Name an empty data directory for that one.",
        )


def _keep_erasures(path: Path, data_dir: Path, staging: Path) -> None:
    """Whoever was erased by any later backup's word, or this directory's, is erased again."""
    later: list[Path] = []
    with contextlib.suppress(PermissionError):
        later = [path.parent / name for name, _ in backup.made(path.parent)]
    noted: dict[str, None] = {}
    for folder in (path, data_dir, *later):
        with contextlib.suppress(OSError):
            noted |= dict.fromkeys((folder / ERASED).read_text("ascii", "replace").split())
    if noted:
        lines = "".join(f"{key}\n" for key in noted)
        manifest.write_synced(staging / ERASED, lines.encode("ascii", "replace"))


def _check_room(data_dir: Path, contents: Manifest) -> None:
    found = os.statvfs(data_dir)
    needed = sum(entry.size for entry in contents.entries.values()) + ROOM_BYTES
    if needed > found.f_bavail * found.f_frsize:
        raise SpoolFull(
            "restore into",
            str(data_dir),
            f"it needs {needed} bytes, and {found.f_bavail * found.f_frsize} are free",
            "Free space there, or name another data directory.",
        )


def _copy_all(path: Path, contents: Manifest, staging: Path, step: Step) -> list[str]:
    """Copy what makes a spool, each file compared with its digest. Damaged documents are named.

    Raises:
        SpoolError: something else than a document is damaged.
    """
    damaged = []
    done, total = 0, max(1, contents.head.bytes)
    for entry in contents.entries.values():
        if entry.file == backup.CONFIGURATION:
            continue  # it belongs elsewhere, and this machine may need another one
        algorithm = entry.digest.partition(":")[0]
        is_same = False
        if _is_inside(entry.file) and algorithm in DIGESTS:
            target = staging / entry.file
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                tell = partial(step, "files", done, total)
                found = backup.copy_file(path / entry.file, target, algorithm, tell)
            except FileNotFoundError:
                found = (0, "")
            is_same = found == (entry.size, entry.digest)
        done += entry.size
        if is_same:
            continue
        if not entry.file.startswith("documents/"):
            raise SpoolError(
                "restore",
                str(path / entry.file),
                "it is missing, or is not what was backed up",
                "Restore another backup; `spoold backup list` shows which there are.",
            )
        (staging / entry.file).unlink(missing_ok=True)
        damaged.append(entry.file)
    return damaged


async def _begin_anew(
    data_dir: Path, staging: Path, contents: Manifest, now_us: int, prints: bool
) -> dict[str, Any]:
    """A new incarnation of the copied spool; a record says what it was restored from."""
    witness = data_dir / "witness"
    if witness.exists():
        manifest.write_synced(staging / "witness", witness.read_bytes())
    guid = UUID((staging / "node-guid").read_text("ascii").strip())
    head = contents.head
    writer, store = await open_store(staging, now_us, os.urandom, guid, begins_anew=True)
    try:
        payload = {"from": head.incarnation, "position": head.position, "made_us": head.made_us}
        note = AddRecord(Kind.NODE_RESTORED, payload, now_us, f"uid:{os.getuid()}")
        await writer.run(_commit, store, [note])
        held = 0 if prints else await _hold_found(staging, writer, store, now_us)
        return {
            "head": manifest.as_map(head),
            "incarnation": str(store.incarnation),
            "first_job_id": store.last_job_id + 1,
            "held": held,
        }
    finally:
        await writer.close()
        store.close()


async def _hold_found(
    staging: Path, writer: TrioConnection, store: SqliteStore, now_us: int
) -> int:
    reader = await SqliteReader.open(staging)
    try:
        return await hold_waiting(reader, writer, store, now_us)
    finally:
        await reader.close()


async def hold_waiting(
    reader: SqliteReader, writer: TrioConnection, store: SqliteStore, now_us: int
) -> int:
    """Hold the jobs that waited as in doubt; how many."""
    held = after = 0
    while True:
        which = JobFilter(states=(JobState.PENDING,), after_id=after, limit=AT_ONCE)
        jobs = await reader.jobs(which)
        if not jobs:
            return held
        after = jobs[-1].id
        reasons = (JobReason.JOB_IN_DOUBT.value,)
        changes: list[Change] = [
            ChangeJob(job.id, JobEvent.HOLD, now_us, reasons=reasons, message=WAITED)
            for job in jobs
        ]
        held += await writer.run(_commit, store, changes)


def _commit(store: SqliteStore, changes: list[Change]) -> int:
    """In the writer's thread: how many were not refused."""
    answers, _ = store.apply(changes)
    return sum(not isinstance(answer, Exception) for answer in answers)


def _aside_name(data_dir: Path, now_us: int) -> str:
    """Where the old spool goes; "" when there is none."""
    if not any((data_dir / name).exists() for name in MOVED):
        return ""
    name = ASIDE + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_us // 1_000_000))
    numbered = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return next(one for one in numbered if not (data_dir / one).exists())


def _own(staging: Path, data_dir: Path) -> None:
    """Root restores for the daemon: everything becomes the owner's of the data directory."""
    if os.geteuid() != 0:
        return
    owner = data_dir.stat()
    for folder, _, names in os.walk(staging):
        os.chown(folder, owner.st_uid, owner.st_gid)
        for name in names:
            os.chown(os.path.join(folder, name), owner.st_uid, owner.st_gid)
    os.chown(data_dir / "lock", owner.st_uid, owner.st_gid)


def _make_ready(staging: Path, plan: dict[str, Any]) -> None:
    """From here on the restore has to be finished: everything for it is there, and synced."""
    for folder, _, _ in os.walk(staging):
        sync_directory(Path(folder))
    manifest.write_json(staging / (READY + ".new"), plan)
    crash_point("restore-before-ready")
    (staging / (READY + ".new")).rename(staging / READY)
    sync_directory(staging)


def _read_plan(staging: Path) -> dict[str, Any]:
    try:
        return manifest.read_json(staging / READY)
    except (OSError, ValueError) as error:
        raise StoreFailed("read", str(staging / READY), error, "Check the disk.") from error


def _finish(data_dir: Path, plan: dict[str, Any]) -> Restored:
    """Move the old spool aside and the new one in; done again, it goes on where it stopped."""
    staging = data_dir / STAGING
    aside = data_dir / plan["aside"] if plan["aside"] else None
    is_moving_in = any(not (staging / name).exists() for name in plan["names"])
    if aside is not None and not is_moving_in:
        aside.mkdir(mode=0o700, exist_ok=True)
        _give(aside, data_dir)
        for name in MOVED:
            if (data_dir / name).exists():
                (data_dir / name).rename(aside / name)
                crash_point("restore-amid-aside")
        sync_directory(aside)
        sync_directory(data_dir)
    for name in plan["names"]:
        if (staging / name).exists():
            (staging / name).rename(data_dir / name)
            crash_point("restore-amid-swap")
    sync_directory(data_dir)
    shutil.rmtree(staging)
    sync_directory(data_dir)
    return Restored(
        manifest.head_of(plan["head"]),
        plan["incarnation"],
        plan["first_job_id"],
        plan["held"],
        tuple(plan["damaged"]),
        aside,
    )


def _give(path: Path, data_dir: Path) -> None:
    if os.geteuid() == 0:
        owner = data_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
