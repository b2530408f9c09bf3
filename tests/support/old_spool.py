"""Small spools as older versions left them: made by the migrations up to then."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from uuid import UUID

import msgpack

from spoold.codec import record as codec
from spoold.spool import migrations
from spoold.spool.rows import CHAIN_SHIFT
from support.schema import new_database

NOW_US = time.time_ns() // 1000  # retention forgets what is old
JOURNAL = UUID("00000000-0000-4000-8000-000000000001")
INCARNATION = UUID("00000000-0000-4000-8000-000000000002")
RECORDS = 5
JOBS = ((1, 9, NOW_US), (2, 3, None), (3, 4, None))  # completed, pending, held


def make_spool(data_dir: Path, version: int) -> Path:
    """A small spool as a spoold with this version of the schema left it."""
    data_dir.mkdir()
    path = data_dir / "spool.db"
    db = new_database(path)
    db.executescript(migrations.migrations()[1])
    fill(db)
    for number in range(2, version + 1):
        db.executescript(migrations.migrations()[number])
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    return path


def fill(db: sqlite3.Connection) -> None:
    """What the first schema could hold: a printer, jobs, documents, an attempt, a provider."""
    previous = codec.GENESIS
    for position in range(1, RECORDS + 1):
        made = codec.encode(
            previous, position, "test-fact", 1, "node", NOW_US, None, {"n": position}, None, b""
        )
        db.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?)", (1 << CHAIN_SHIFT | position, *made)
        )
        previous = made.hash
    db.execute(
        "INSERT INTO chain VALUES (1, ?, ?, NULL, NULL, NULL, 1, ?, ?, ?, 0, ?, 3)",
        (JOURNAL.bytes, INCARNATION.bytes, NOW_US, RECORDS, previous, codec.GENESIS),
    )
    fields = msgpack.packb({})
    db.execute("INSERT INTO person VALUES (1, ?, 'olga')", (os.urandom(16),))
    db.execute("INSERT INTO device VALUES (1, ?, 'file:///nowhere', ?)", (os.urandom(16), fields))
    db.execute("INSERT INTO printer VALUES (1, ?, 'default', 1, ?)", (os.urandom(16), fields))
    for id_, state, finished_us in JOBS:
        db.execute(
            "INSERT INTO job VALUES (?, ?, 1, ?, '', '', 1, 'claimed', '', 'address:127.0.0.1', "
            "?, '', 'raw', 50, 1, 0, NULL, 0, ?, ?, ?, 0, ?)",
            (id_, os.urandom(16), state, f"job {id_}", NOW_US, NOW_US, finished_us, id_),
        )
        db.execute(
            "INSERT INTO document "
            "VALUES (?, 5, 'blake3:00', 'text/plain', '', '', 'inline', '', ?)",
            (id_ * 4096 + 1, b"page\f"),
        )
    db.execute(
        "INSERT INTO attempt VALUES (1, 1, 1, 1, ?, ?, 'delivered', '', '', 5, NULL)",
        (NOW_US, NOW_US),
    )
    provider = os.urandom(16)
    may_assert = msgpack.packb({"may_assert": ["*"]})
    db.execute("INSERT INTO provider VALUES (?, 'mainframe', ?, 0)", (provider, may_assert))
    db.execute("INSERT INTO certificate VALUES ('0a', ?, ?, 0)", (provider, 2 * NOW_US))
