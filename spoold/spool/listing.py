"""Jobs by a filter, a stretch of them at a time: whoever asks among a million finished ones for
those of a title lets others look up what they want in between.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from spoold.model.job import Job
from spoold.model.text import folded
from spoold.spool.rows import JOB_ID_MAX, JOB_SELECT, NUMBER, job_of
from spoold.spool.store import JobFilter

STRETCH = 5_000  # ids that are looked through at once: a few milliseconds


def stretch(db: sqlite3.Connection, which: JobFilter) -> tuple[list[Job], int | None]:
    """The first of the jobs that a filter chooses, in the order of their ids, and behind which id
    the others are; None: these are all, or as many as it wants.
    """
    where, values = _where(which)
    after: int | None = None
    if not which.ids:
        first = _first(db, which)
        if first is None:
            return [], None
        after = max(1, first - STRETCH) if which.newest_first else first + STRETCH
        where += " AND job.id BETWEEN ? AND ?"
        values += sorted((first, after))
    order = "DESC" if which.newest_first else "ASC"
    rows = db.execute(
        f"{JOB_SELECT} WHERE {where} ORDER BY job.id {order} LIMIT ?", [*values, which.limit]
    )
    jobs = [job_of(row) for row in rows]
    is_last = after is None or len(jobs) >= which.limit or (which.newest_first and after == 1)
    return jobs, None if is_last else after


def _first(db: sqlite3.Connection, which: JobFilter) -> int | None:
    """The first id behind that of the page before."""
    if which.newest_first:
        sql, behind = "SELECT max(id) FROM job WHERE id < ?", which.after_id or JOB_ID_MAX + 1
    else:
        sql, behind = "SELECT min(id) FROM job WHERE id > ?", which.after_id
    found: int | None = db.execute(sql, (behind,)).fetchone()[0]
    return found


def _where(which: JobFilter) -> tuple[str, list[Any]]:
    """The condition of a listing, and its values."""
    terms: list[str] = ["1"]
    values: list[Any] = []

    def add(term: str, *found: Any) -> None:
        terms.append(term)
        values.extend(found)

    def any_of(column: str, found: tuple[Any, ...]) -> None:
        add(f"{column} IN ({','.join('?' * len(found))})", *found)

    if which.ids:
        any_of("job.id", which.ids)
    if which.states:
        any_of("job.state", tuple(NUMBER[state] for state in which.states))
    if which.printer_id is not None:
        add("job.printer_id = ?", which.printer_id)
    if which.owner is not None:
        add("job.owner_id = (SELECT id FROM person WHERE name = ?)", which.owner)
    if which.title is not None:
        add("instr(folded(job.title), ?) > 0", folded(which.title))
    if which.reason is not None:
        add("instr(' ' || job.reasons || ' ', ' ' || ? || ' ') > 0", which.reason)
    if which.since_us is not None:
        add("job.created_us >= ?", which.since_us)
    if which.until_us is not None:
        add("job.created_us < ?", which.until_us)
    if which.after_id:
        add("job.id < ?" if which.newest_first else "job.id > ?", which.after_id)
    return " AND ".join(terms), values
