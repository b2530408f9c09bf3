"""What is looked up of copies, scans and faxes: charges that belong to no job."""

from __future__ import annotations

import sqlite3


def unreported(db: sqlite3.Connection, before_us: int, limit: int) -> list[bytes]:
    """The keys of what was authorized before a time, and of which nothing was heard since."""
    rows = db.execute(
        "SELECT key FROM charge INDEXED BY charge_open WHERE state = 'reserved' "
        "AND job_id IS NULL AND happened_us < ? LIMIT ?",
        (before_us, limit),
    )
    return [row[0] for row in rows]
