"""The database of a new spool, which the migrations make once in a process of tests."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from spoold.spool import migrations
from spoold.spool.sqlite import APPLICATION_ID, PAGE_BYTES


def new_database(path: Path) -> sqlite3.Connection:
    """What spoold makes before the first migration."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA journal_mode = WAL")
    return db


def lay_schema(data_dir: Path) -> None:
    """Where there is no spool yet: one as after the last migration, before its first incarnation.

    Opening it is otherwise what opening none is; running all migrations is most of that.
    """
    with suppress(FileExistsError), open(data_dir / "spool.db", "xb", opener=_private) as file:
        file.write(_migrated(migrations.newest()))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@cache
def _migrated(version: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spool.db")
        db = new_database(path)
        migrations.migrate(db, path.parent)
        db.close()
        return path.read_bytes()
