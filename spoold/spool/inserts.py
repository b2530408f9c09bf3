"""Rows into the tables that grow with every job, many at once.

A multi-row INSERT is one step of SQLite, and gives up Python's lock once, for many rows. They go in
groups of a few sizes, so that few statements are ever prepared, and of enough sizes that the rows
of most transactions need no more than two.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect
from collections.abc import Callable
from itertools import chain
from typing import Any

from spoold.spool.rows import DOCUMENT_COLUMNS, JOB_COLUMNS, RECORD_COLUMNS

GROUP_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128)

Insert = Callable[[sqlite3.Connection, list[tuple[Any, ...]]], None]


def _insert(table: str, columns: list[str]) -> Insert:
    row = "(" + ",".join("?" * len(columns)) + ")"
    head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
    statements = {size: head + ",".join([row] * size) for size in GROUP_SIZES}

    def insert(db: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
        start = 0
        while start < len(rows):
            size = GROUP_SIZES[bisect(GROUP_SIZES, len(rows) - start) - 1]
            group = rows[start : start + size]
            db.execute(statements[size], list(chain.from_iterable(group)))
            start += size

    return insert


insert_jobs = _insert("job", JOB_COLUMNS)
insert_documents = _insert("document", DOCUMENT_COLUMNS)
insert_records = _insert("record", RECORD_COLUMNS)
