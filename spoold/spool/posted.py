"""Look-ups of jobs with their documents, for whoever does not wait: deliveries that begin.

Those that are asked for while the reader's thread is busy go with the next hop to it, together.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable

import outcome

from spoold.model.job import Job
from spoold.spool import connection
from spoold.spool.rows import JOB_SELECT, job_of

Found = tuple[Job, bytes | None, str]  # a job with its document's body, or its file
Hear = Callable[[outcome.Maybe[Found | None]], None]

ANY_SIZE = (1 << 63) - 1
_FIND = (
    JOB_SELECT.replace(" FROM job ", ", document.body, document.file FROM job ")
    + "WHERE job.id = ? AND document.size <= ?"
)


def find(db: sqlite3.Connection, job_id: int, bytes_max: int = ANY_SIZE) -> Found | None:
    """A job with its document's body or file; None when there is none, or it is larger."""
    row = db.execute(_FIND, (job_id, bytes_max)).fetchone()
    if row is None:
        return None
    *fields, body, file = row
    return job_of(tuple(fields)), body, file


class Posted:
    """What is asked of one connection, and not answered yet."""

    def __init__(self, reader: connection.TrioConnection) -> None:
        self._connection = reader
        self._wanted: deque[tuple[Hear, int, int]] = deque()  # the thread takes them out
        self._is_asked = False  # the thread will look, or its answer is on its way

    def add(self, job_id: int, then: Hear, bytes_max: int) -> None:
        """`then` hears what `find` finds, in the Trio thread; it must not wait or raise."""
        self._wanted.append((then, job_id, bytes_max))
        if not self._is_asked:
            self._ask()

    def _ask(self) -> None:
        self._is_asked = True
        self._connection.post(self._look, self._tell)

    def _look(self) -> list[tuple[Hear, outcome.Maybe[Found | None]]]:
        db = self._connection.raw
        wanted = [self._wanted.popleft() for _ in range(len(self._wanted))]
        return [(then, outcome.capture(find, db, *which)) for then, *which in wanted]

    def _tell(self, result: outcome.Maybe[list[tuple[Hear, outcome.Maybe[Found | None]]]]) -> None:
        self._is_asked = False
        told = result.unwrap()  # who looks at nothing any more would not at the next ones
        if self._wanted:
            self._ask()
        for then, found in told:
            then(found)
