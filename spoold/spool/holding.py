"""Which nodes can have a job of this node, by what is known here: no other is believed about it.

A uuid alone proves nothing: other nodes see those of jobs that are none of theirs. A node can have
a job whose printer is its own, one that was handed on to it, and one that waits for its owner at a
find-me printer, if both were copied there: a provider may have gone to either with it. So it may
where that was the printer, and somebody had the job come out at another one.
"""

from __future__ import annotations

import sqlite3
from uuid import UUID

from spoold.spool import nodes, scoped
from spoold.spool.rows import printer_of, unpack

_PRINTER = (
    "SELECT person.key, printer.id, printer.guid, coalesce(printer.name, ''), device_id, "
    "printer.fields FROM job JOIN person ON person.id = job.owner_id {which} WHERE job.id = ?"
)
_NOW = _PRINTER.format(which="JOIN printer ON printer.id = job.printer_id")
_FIRST = _PRINTER.format(
    which="JOIN tombstone ON tombstone.uuid = job.uuid "
    "JOIN printer ON printer.guid = tombstone.printer_guid"
)


def can_have(db: sqlite3.Connection, node: UUID, job_id: int) -> bool:
    """Whether what `node` says of this job can be."""
    return (
        can_print(db, node, job_id)
        or _can_print(db, node, job_id, _FIRST)
        or was_handed(db, node, job_id)
    )


def can_print(db: sqlite3.Connection, node: UUID, job_id: int) -> bool:
    """Whether this job is for `node` to print as printers are now, if it has it."""
    return _can_print(db, node, job_id, _NOW)


def _can_print(db: sqlite3.Connection, node: UUID, job_id: int, which: str) -> bool:
    found = db.execute(which, (job_id,)).fetchone()
    if found is None:
        return False
    owner, *row = found
    printer = printer_of(*row)
    if printer.owner == node:
        return True
    site = nodes.find(db, node) if printer.is_find_me else None
    return (
        site is not None
        and scoped.has_printer(site, printer.guid)
        and scoped.has_person(db, site, owner)
    )


def was_handed(db: sqlite3.Connection, node: UUID, job_id: int) -> bool:
    """Whether this node has given the job to that one."""
    rows = db.execute("SELECT evidence FROM attempt WHERE job_id = ?", (job_id,))
    return any(packed and unpack(packed).get("node") == str(node) for (packed,) in rows)
