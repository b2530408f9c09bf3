"""How many jobs there are, by how they are: looks over indexes alone, as far as they can be."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from spoold.model.job import JobState
from spoold.spool.rows import STATE


class Depth(NamedTuple):
    """The unfinished jobs of a printer in one state. `oldest_us`: when the first was submitted."""

    printer_id: int
    state: JobState
    jobs: int
    oldest_us: int


def depths(db: sqlite3.Connection) -> list[Depth]:
    rows = db.execute(
        "SELECT queue.printer_id, queue.state, queue.count, job.created_us FROM ("
        "SELECT printer_id, state, count(*) AS count, min(id) AS first FROM job "
        "INDEXED BY job_unfinished WHERE finished_us IS NULL GROUP BY printer_id, state"
        ") AS queue JOIN job ON job.id = queue.first"
    )
    return [
        Depth(printer_id, STATE[state], count, oldest_us)
        for printer_id, state, count, oldest_us in rows
    ]


def counts(db: sqlite3.Connection) -> dict[int, dict[JobState, int]]:
    """How many unfinished jobs each printer has, by state."""
    found: dict[int, dict[JobState, int]] = {}
    for printer_id, state, count in db.execute(
        "SELECT printer_id, state, count(*) FROM job INDEXED BY job_unfinished "
        "WHERE finished_us IS NULL GROUP BY printer_id, state"
    ):
        found.setdefault(printer_id, {})[STATE[state]] = count
    return found


def finished_totals(db: sqlite3.Connection) -> tuple[int, int]:
    """(finished jobs, bytes of the documents that they keep)."""
    (jobs,) = db.execute(
        "SELECT count(*) FROM job INDEXED BY job_finished WHERE finished_us IS NOT NULL"
    ).fetchone()
    (size,) = db.execute(
        "SELECT coalesce(sum(kept_bytes), 0) FROM job INDEXED BY job_kept "
        "WHERE kept_bytes IS NOT NULL"
    ).fetchone()
    return int(jobs), int(size)


def in_doubt(db: sqlite3.Connection) -> int:
    """How many jobs are held because nobody knows whether they printed."""
    (count,) = db.execute(
        "SELECT count(*) FROM job INDEXED BY job_in_doubt WHERE state = 4 "
        "AND finished_us IS NULL AND instr(reasons, 'job-in-doubt') > 0"
    ).fetchone()
    return int(count)


def damaged(db: sqlite3.Connection, since_us: int) -> int:
    """How many jobs ended since a time as their document was missing or changed."""
    (count,) = db.execute(
        "SELECT count(*) FROM job INDEXED BY job_damaged WHERE finished_us >= ? "
        "AND instr(reasons, 'document-damaged') > 0",
        (since_us,),
    ).fetchone()
    return int(count)
