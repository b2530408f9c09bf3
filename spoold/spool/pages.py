"""Listings of a printer's jobs a page at a time, in the order of RFC 8011 4.2.6.2.

Jobs that are not completed come in the order in which they are expected to end: those that print,
then those that wait, by priority and age, then those that are held. Completed ones come newest
first. A page costs a few seeks in an index that holds all that jobs are chosen by; a search that
finds little goes on in slices, so that other readers have their turn in between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from spoold.model.job import Job, JobState
from spoold.spool.rows import JOB_SELECT, NUMBER, job_of

PAGE_JOBS_MAX = 500
SLICE_ROWS = 20_000  # entries of an index that are looked at in one go: a few ms
PART_ROWS = 200  # what it costs to look into a part at all


class Which(StrEnum):
    """`which-jobs` (RFC 8011 4.2.6.1; PWG 5100.11): the value is the wire keyword."""

    ALL = "all"
    COMPLETED = "completed"
    NOT_COMPLETED = "not-completed"
    ABORTED = "aborted"
    CANCELED = "canceled"
    PENDING = "pending"
    PENDING_HELD = "pending-held"
    PROCESSING = "processing"
    PROCESSING_STOPPED = "processing-stopped"


class Key(NamedTuple):
    """Where a page ended. `order` is the priority of a waiting job, the time of a finished one."""

    printer_id: int
    part: int
    order: int | None = None
    job_id: int = 0


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which jobs. `skip` so many of them first; `after` is the `next` of the page before."""

    which: Which = Which.NOT_COMPLETED
    printer_id: int | None = None
    owner: str | None = None
    limit: int = 50
    skip: int = 0
    after: Key | None = None


class Page(NamedTuple):
    """`started_us` is when the last attempt of each job began, or None. `next` None: no more."""

    jobs: list[Job]
    started_us: list[int | None]
    next: Key | None


class _Part(NamedTuple):
    """Jobs that are listed by one run through an index: of one state, or finished."""

    state: int | None
    is_finished: bool = False


_OPEN = tuple(
    _Part(NUMBER[state])
    for state in (
        JobState.PROCESSING,
        JobState.PROCESSING_STOPPED,
        JobState.PENDING,
        JobState.PENDING_HELD,
    )
)
_DONE = _Part(None, is_finished=True)
_PARTS: dict[Which, tuple[_Part, ...]] = {
    Which.ALL: (*_OPEN, _DONE),
    Which.NOT_COMPLETED: _OPEN,
    Which.COMPLETED: (_DONE,),
    Which.ABORTED: (_Part(NUMBER[JobState.ABORTED], is_finished=True),),
    Which.CANCELED: (_Part(NUMBER[JobState.CANCELED], is_finished=True),),
    **{Which(state.value): (_Part(NUMBER[state]),) for state in JobState if not state.is_final},
}
_WAITING = (
    "job INDEXED BY job_unfinished WHERE finished_us IS NULL AND printer_id = ? AND state = ?"
)
_FINISHED = "job INDEXED BY job_finished_on WHERE finished_us IS NOT NULL AND printer_id = ?"
_SELECT = JOB_SELECT.replace(" FROM job ", ", attempt.started_us FROM job ") + (
    "LEFT JOIN attempt ON attempt.job_id = job.id AND attempt.number = job.attempts "
)

Found = list[tuple[int, int]]  # (job id, what it is ordered by)
Terms = tuple[str, tuple[Any, ...]]  # a condition, and its values


class Search:
    """One page on its way. `step` is called in a reader's thread until `is_over`."""

    def __init__(self, query: PageQuery) -> None:
        self._query = query
        self._parts = _PARTS[query.which]
        self._left = min(query.limit, PAGE_JOBS_MAX)
        self._skip = query.skip
        self._ids: list[int] = []
        self._printers: list[int] | None = None
        self._owner_id: int | None = None
        self._at = query.after
        self.is_over = False

    def step(self, db: sqlite3.Connection) -> None:
        """Go on for a few ms at most."""
        if self._printers is None and not self._start(db):
            self.is_over, self._at = True, None
        rows = SLICE_ROWS
        while rows > 0 and not self.is_over:
            assert self._at is not None
            run = _Run(db, self._parts[self._at.part], self._at)
            chosen = self._chosen(run.part)
            if chosen[0]:
                rows -= self._sift(run, chosen, rows)
            else:
                rows -= self._take_all(run, rows)

    def page(self, db: sqlite3.Connection) -> Page:
        """The page that was found."""
        marks = ",".join("?" * len(self._ids))
        rows = db.execute(f"{_SELECT} WHERE job.id IN ({marks})", self._ids).fetchall()
        by_id = {row[0]: row for row in rows}
        ordered = [by_id[job_id] for job_id in self._ids if job_id in by_id]
        return Page([job_of(row[:-1]) for row in ordered], [row[-1] for row in ordered], self._at)

    def _start(self, db: sqlite3.Connection) -> bool:
        """Learn the printers and the owner; False when there can be no such job."""
        query = self._query
        if query.owner is not None:
            row = db.execute("SELECT id FROM person WHERE name = ?", (query.owner,)).fetchone()
            if row is None:
                return False
            self._owner_id = row[0]
        self._printers = [] if query.printer_id is None else [query.printer_id]
        if query.printer_id is None:
            self._printers = [row[0] for row in db.execute("SELECT id FROM printer ORDER BY id")]
        if self._at is None and self._printers:
            self._at = Key(self._printers[0], 0)
        return self._at is not None and self._left > 0

    def _chosen(self, part: _Part) -> Terms:
        """What of a part is asked for; an empty condition is all of it."""
        terms, values = "", []
        if self._owner_id is not None:
            terms += " AND owner_id = ?"
            values.append(self._owner_id)
        if part.is_finished and part.state is not None:
            terms += " AND state = ?"
            values.append(part.state)
        return terms, tuple(values)

    def _take_all(self, run: _Run, rows: int) -> int:
        """Take the next jobs of a part, whatever they are; how many were looked at."""
        limit = min(self._skip + self._left, rows)
        found = run.entries(("", ()), limit)
        self._take(run, found)
        if not self.is_over:
            if len(found) < limit:
                self._next_part()
            else:
                self._at = run.key(found[-1])
        return len(found) + PART_ROWS

    def _sift(self, run: _Run, chosen: Terms, rows: int) -> int:
        """Take the chosen ones of the next `rows` entries of a part; how many were looked at."""
        end = run.entry_beyond(rows)
        terms = chosen if end is None else run.before(end, chosen)
        self._take(run, run.entries(terms, self._skip + self._left))
        if self.is_over:
            return rows
        if end is not None:
            # Behind the slice, the first entry of the next one included.
            self._at = run.key_before(end)
            return rows
        self._next_part()
        return run.count(rows) + PART_ROWS

    def _take(self, run: _Run, found: Found) -> None:
        skipped = min(self._skip, len(found))
        self._skip -= skipped
        taken = found[skipped:]
        self._ids += [job_id for job_id, _ in taken]
        self._left -= len(taken)
        if not self._left:
            self._at, self.is_over = run.key(taken[-1]), True

    def _next_part(self) -> None:
        assert self._at is not None
        assert self._printers is not None
        printer_id = self._at.printer_id
        if self._at.part + 1 < len(self._parts):
            self._at = Key(printer_id, self._at.part + 1)
            return
        later = next((id_ for id_ in self._printers if id_ > printer_id), None)
        self._at, self.is_over = (None, True) if later is None else (Key(later, 0), False)


class _Run:
    """The entries of one part of one printer, from a key on."""

    def __init__(self, db: sqlite3.Connection, part: _Part, at: Key) -> None:
        self._db = db
        self._at = at
        self.part = part
        self._values: tuple[Any, ...] = (at.printer_id,)
        if part.is_finished:
            self._source, self._column, self._behind = _FINISHED, "finished_us", "<"
            self._order = "finished_us DESC, id DESC"
        else:
            self._source, self._column, self._behind = _WAITING, "priority", ">"
            self._values = (at.printer_id, part.state)
            self._order = "priority DESC, id"

    def key(self, entry: tuple[int, int]) -> Key:
        return self._at._replace(job_id=entry[0], order=entry[1])

    def key_before(self, entry: tuple[int, int]) -> Key:
        """A key behind which this entry is the first one."""
        step = 1 if self.part.is_finished else -1
        return self._at._replace(job_id=entry[0] + step, order=entry[1])

    def before(self, end: tuple[int, int], chosen: Terms) -> Terms:
        """Those chosen that lie before an entry."""
        ahead = ">" if self._behind == "<" else "<"
        terms = f" AND ({self._column} > ? OR ({self._column} = ? AND id {ahead} ?))"
        return chosen[0] + terms, (*chosen[1], end[1], end[1], end[0])

    def entries(self, chosen: Terms, limit: int) -> Found:
        """The next entries that are chosen, in the order of the part."""
        found: Found = []
        for terms, values in self._ranges():
            if len(found) < limit:
                sql = f"SELECT id, {self._column} FROM {self._source}{chosen[0]}{terms}"
                found += self._db.execute(
                    f"{sql} ORDER BY {self._order} LIMIT ?",
                    (*self._values, *chosen[1], *values, limit - len(found)),
                )
        return found

    def entry_beyond(self, rows: int) -> tuple[int, int] | None:
        """The entry behind the next `rows` ones."""
        for terms, values in self._ranges():
            sql = f"SELECT id, {self._column} FROM {self._source}{terms} ORDER BY {self._order}"
            all_values = (*self._values, *values)
            entry = self._db.execute(f"{sql} LIMIT 1 OFFSET ?", (*all_values, rows)).fetchone()
            if entry is not None:
                return int(entry[0]), int(entry[1])
            rows -= self._count(terms, values, rows)
        return None

    def count(self, rows: int) -> int:
        """How many entries there are, counted up to `rows`."""
        return sum(self._count(terms, values, rows) for terms, values in self._ranges())

    def _count(self, terms: str, values: tuple[Any, ...], rows: int) -> int:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {self._source}{terms} LIMIT ?)"
        (count,) = self._db.execute(sql, (*self._values, *values, rows)).fetchone()
        return int(count)

    def _ranges(self) -> Sequence[Terms]:
        """The entries behind the key, as ranges that an index finds by one seek each."""
        at = self._at
        if at.order is None:
            return (("", ()),)
        return (
            (f" AND {self._column} = ? AND id {self._behind} ?", (at.order, at.job_id)),
            (f" AND {self._column} < ?", (at.order,)),
        )
