"""Bringing an older spool up to this program, forward only, and a copy of it before.

Each migration is a transaction of its own, so that an upgrade which is interrupted goes on at the
next start. The copy, `before-upgrade-N.db` beside the database, is the way back to the older
program; two such copies stay at most, each for 30 days.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from functools import cache
from importlib import resources
from pathlib import Path

import structlog

from spoold.model.errors import SpoolError, SpoolFull
from spoold.spool import snapshot
from spoold.spool.crashpoint import crash_point
from spoold.spool.directories import sync_directory

log = structlog.get_logger("spoold.spool")

COPY = "before-upgrade-{}.db"
COPIES = re.compile(r"before-upgrade-(\d+)\.db")
COPIES_MAX = 2
KEPT_S = 30 * 86_400
ROOM_BYTES = 64 * 1024 * 1024  # beside the copy: what the migrations themselves write


@cache
def migrations() -> dict[int, str]:
    """The SQL of each version of the schema, from 1 on."""
    found = {}
    for entry in resources.files("spoold.spool.schema").iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", entry.name)
        if match:
            found[int(match[1])] = entry.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def newest() -> int:
    """The version of the schema that this program uses."""
    return max(migrations())


def migrate(db: sqlite3.Connection, data_dir: Path) -> None:
    """Run the migrations that this file has not seen, after a copy of what it was.

    Raises:
        SpoolError: the file was written by a newer spoold.
        SpoolFull: there is no room for the copy; nothing was changed.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > newest():
        raise SpoolError(
            "open",
            str(data_dir),
            f"its schema is version {version}, this spoold knows {newest()}",
            _way_back(data_dir),
        )
    todo = [number for number in migrations() if number > version]
    if version and todo:
        _keep_copy(db, data_dir, version)
        log.warning("upgrade_started", schema=version, to=newest())
    begun_s = time.monotonic()
    for number in todo:
        db.executescript(
            f"BEGIN IMMEDIATE;\n{migrations()[number]}\nPRAGMA user_version = {number};\nCOMMIT;"
        )
        crash_point("upgrade-between")
    if version and todo:
        took_s = round(time.monotonic() - begun_s, 3)
        log.warning("upgrade_finished", schema=newest(), took_s=took_s)
    _drop_old_copies(data_dir)


def _way_back(data_dir: Path) -> str:
    """What who runs an older program can do."""
    kept = [data_dir / COPY.format(number) for number in copies(data_dir) if number <= newest()]
    if not kept:
        return "Run the newer spoold again, or restore a backup that this one made."
    return (
        f"Run the newer spoold again; or go back to what was before the upgrade, without what "
        f"came since: move spool.db and spool.db-* aside, and {kept[-1].name} to spool.db."
    )


def copies(data_dir: Path) -> list[int]:
    """The versions of which there is a copy, the oldest first."""
    names = (COPIES.fullmatch(name) for name in os.listdir(data_dir))
    return sorted(int(match[1]) for match in names if match is not None)


def _keep_copy(db: sqlite3.Connection, data_dir: Path, version: int) -> None:
    """A synced copy of the database before it is changed.

    Raises:
        SpoolFull: there is no room for it.
    """
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    room = os.statvfs(data_dir)
    needed, free = pages * page_bytes + ROOM_BYTES, room.f_bavail * room.f_frsize
    if needed > free:
        raise SpoolFull(
            "upgrade",
            str(data_dir),
            f"it is copied before, which needs {needed} bytes, and {free} are free",
            "Free space, or go on with the older spoold: nothing was changed.",
        )
    for number in copies(data_dir)[: -(COPIES_MAX - 1)]:
        (data_dir / COPY.format(number)).unlink()
    copy = data_dir / COPY.format(version)
    new = copy.with_name(copy.name + ".new")
    new.unlink(missing_ok=True)
    snapshot.copy_database(data_dir / "spool.db", new, lambda left, total: None)
    crash_point("upgrade-before-copy")
    new.rename(copy)
    sync_directory(data_dir)
    log.warning("upgrade_copy_made", path=str(copy), bytes=copy.stat().st_size)


def _drop_old_copies(data_dir: Path) -> None:
    for number in copies(data_dir):
        copy = data_dir / COPY.format(number)
        with contextlib.suppress(OSError):
            if time.time() - copy.stat().st_mtime > KEPT_S:
                copy.unlink()
                log.info("upgrade_copy_removed", path=str(copy))
