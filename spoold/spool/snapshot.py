"""Copies of the database: taken while the spool is in use, looked into, and checked.

A copy is one transaction's view, byte for byte. It is read over a read-only connection of its own,
which never checkpoints; the write-ahead log grows while the copy is made, and is copied back after.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from spoold.codec import record as codec
from spoold.model.errors import SpoolError
from spoold.spool.rows import CHAIN_SHIFT

STEP_PAGES = 2048  # 8 MiB: how much is copied between two looks at whether to go on
# How many steps are synced together: much at once would hold up the commits of the spool.
SYNCED_STEPS = 4
CHECKED_AT_ONCE = 5_000
PROBLEMS_MAX = 100
NOT_A_SPOOL = "Name a copy of spool.db that spoold made."


@dataclass(frozen=True, slots=True)
class Facts:
    """What a copy says of itself. `waiting` counts the jobs that are not finished."""

    schema: int
    journal: UUID
    incarnation: UUID
    position: int
    hash: bytes
    last_job_id: int
    waiting: int
    jobs: int


class DocumentFile(NamedTuple):
    """A document that lies in a file. `digest` as `blake3:HEX`, of its plain bytes."""

    file: str
    size: int
    digest: str


def copy_database(source: Path, target: Path, step: Callable[[int, int], None]) -> None:
    """Copy a database that others may be using; the copy is synced.

    `step` is called now and then with the pages that are left and the pages in all; what it raises
    ends the copying.

    Raises:
        sqlite3.Error, OSError: one of the two cannot be read or written.
    """
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    steps = 0

    def tell(_: int, left: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps % SYNCED_STEPS == 0:
            os.fdatasync(descriptor)
        step(left, total)

    try:
        with _closing(_read_only(source)) as reading, _closing(sqlite3.connect(target)) as writing:
            # It is synced from here: until all of it is, nobody is told of it.
            writing.execute("PRAGMA synchronous = OFF")
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the view is taken
            reading.backup(writing, pages=STEP_PAGES, progress=tell)
            reading.execute("ROLLBACK")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def facts(copy: Path) -> Facts:
    """What a copy says of itself.

    Raises:
        SpoolError: it is no spool, or damaged.
    """
    with _explained(copy), _closing(_immutable(copy)) as db:
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        row = db.execute(
            "SELECT journal, incarnation, position, hash, last_job_id FROM chain "
            "WHERE is_own = 1 ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is None:
            raise SpoolError("read", str(copy), "it has no journal", NOT_A_SPOOL)
        (waiting,) = db.execute(
            "SELECT count(*) FROM job INDEXED BY job_unfinished WHERE finished_us IS NULL"
        ).fetchone()
        (jobs,) = db.execute("SELECT count(*) FROM job").fetchone()
    journal, incarnation, position, hash_, last_job_id = row
    return Facts(
        schema,
        UUID(bytes=journal),
        UUID(bytes=incarnation),
        position,
        hash_,
        last_job_id,
        waiting,
        jobs,
    )


def files(copy: Path) -> Iterator[DocumentFile]:
    """The documents of a copy that lie in files, by name.

    Raises:
        SpoolError: it is no spool, or damaged.
    """
    with _explained(copy), _closing(_immutable(copy)) as db:
        rows = db.execute(
            "SELECT file, size, digest FROM document WHERE stored = 'file' ORDER BY file"
        )
        for row in rows:
            yield DocumentFile(*row)


def check(copy: Path, step: Callable[[], None]) -> list[str]:
    """What is wrong with a copy: its pages and indexes, and the hashes of its journal.

    `step` is called now and then; what it raises ends the checking.
    """
    problems: list[str] = []
    try:
        with _closing(_immutable(copy)) as db:
            # Called after so many instructions of SQLite's machine: about ten times a second.
            db.set_progress_handler(lambda: step(), 1_000_000)
            rows = db.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})").fetchall()
            problems += [str(row[0]) for row in rows if row[0] != "ok"]
            db.set_progress_handler(None, 0)
            problems += _check_chain(db, step)
    except (sqlite3.Error, ValueError) as error:
        problems.append(str(error))
    return problems


def _check_chain(db: sqlite3.Connection, step: Callable[[], None]) -> list[str]:
    chain, head, expected, position, previous = db.execute(
        "SELECT id, position, hash, anchor_position, anchor_hash FROM chain WHERE is_own = 1 "
        "ORDER BY id DESC LIMIT 1"
    ).fetchone()
    base = chain << CHAIN_SHIFT
    rows = db.execute(
        "SELECT id, header, payload, hash FROM record WHERE id > ? AND id < ? ORDER BY id",
        (base | position, base + (1 << CHAIN_SHIFT)),
    )
    for id_, header, payload, hash_ in rows:
        if id_ != base | (position + 1) or codec.link(previous, header, payload) != hash_:
            return [f"the journal breaks behind position {position}"]
        position, previous = position + 1, hash_
        if position % CHECKED_AT_ONCE == 0:
            step()
    if (position, previous) != (head, expected):
        return [f"the journal ends at position {position} and should at {head}"]
    return []


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{_uri(path)}?mode=ro", uri=True, isolation_level=None)


def _immutable(path: Path) -> sqlite3.Connection:
    """Nobody writes it, and no file is made beside it."""
    return sqlite3.connect(f"{_uri(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)


def _uri(path: Path) -> str:
    return path.absolute().as_uri()


@contextlib.contextmanager
def _closing(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield db
    finally:
        db.close()


@contextlib.contextmanager
def _explained(copy: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SpoolError("read", str(copy), error, NOT_A_SPOOL) from error
