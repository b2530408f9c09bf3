"""Jobs that another node has: which they are, and what is told to whoever handed one on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from spoold.model.job import JobReason
from spoold.spool.rows import STATE, unpack

HANDED_ON = "handed-on"  # the intake of a job that another node handed on
LINE = "line"  # by whom it was handed on, if that was over the line of this site


class HandedJob(NamedTuple):
    """A job that is not finished, and that another node has, as its last attempt's end says."""

    job_id: int
    uuid: UUID
    device_id: int
    printer_id: int
    evidence: dict[str, Any]
    is_canceled: bool  # here: it is to be canceled there


class JobThere(NamedTuple):
    """A job that somebody handed on to this node; `intake` is "" when only a trace is left."""

    job_id: int
    state: str
    reasons: tuple[str, ...]
    message: str
    intake: str
    impressions: int | None


_HANDED = (
    "SELECT job.id, job.uuid, attempt.device_id, attempt.printer_id, attempt.evidence, job.reasons "
    "FROM job {index} JOIN attempt ON attempt.job_id = job.id AND attempt.number = job.attempts "
    "WHERE job.finished_us IS NULL AND job.state IN (5, 6) AND attempt.outcome = 'handed-on'"
)


def find_handed(db: sqlite3.Connection, job_ids: Sequence[int] | None = None) -> list[HandedJob]:
    """All of them, or those among `job_ids`."""
    if job_ids is None:
        rows = db.execute(_HANDED.format(index="INDEXED BY job_unfinished") + " ORDER BY job.id")
        return [_handed_of(row) for row in rows]
    one = _HANDED.format(index="") + " AND job.id = ?"
    return [_handed_of(row) for id_ in job_ids for row in db.execute(one, (id_,))]


def _handed_of(row: tuple[Any, ...]) -> HandedJob:
    job_id, uuid, device_id, printer_id, packed, reasons = row
    evidence = unpack(packed) if packed else {}
    stop = JobReason.PROCESSING_TO_STOP_POINT in reasons.split()
    return HandedJob(job_id, UUID(bytes=uuid), device_id, printer_id, evidence, stop)


def find_there(db: sqlite3.Connection, uuids: Sequence[UUID]) -> dict[UUID, JobThere]:
    """How these jobs are, as far as this node has had them; also those long forgotten."""
    found = {}
    for uuid in uuids:
        row = db.execute(
            "SELECT id, state, reasons, message, intake, impressions FROM job WHERE uuid = ?",
            (uuid.bytes,),
        ).fetchone()
        if row is None:
            row = db.execute(
                "SELECT job_id, state, '', '', '', NULL FROM tombstone WHERE uuid = ?",
                (uuid.bytes,),
            ).fetchone()
        if row is not None:
            id_, state, reasons, message, intake, impressions = row
            words = tuple(reasons.split())
            found[uuid] = JobThere(id_, STATE[state].value, words, message, intake, impressions)
    return found


def may_cancel(db: sqlite3.Connection, job_id: int, identity: str) -> bool:
    """Whether a job was handed on by this one, as far as it is known who did."""
    row = db.execute("SELECT handed_by FROM job WHERE id = ?", (job_id,)).fetchone()
    return row is not None and row[0] in ("", identity)


def waiting_of(db: sqlite3.Connection, printer_id: int, limit: int) -> list[int]:
    """The pending jobs of a printer, by priority and then age."""
    rows = db.execute(
        "SELECT id FROM job INDEXED BY job_unfinished WHERE finished_us IS NULL "
        "AND printer_id = ? AND state = 3 ORDER BY priority DESC, id LIMIT ?",
        (printer_id, limit),
    )
    return [id_ for (id_,) in rows]


def fetched_of(db: sqlite3.Connection, printer_id: int) -> list[tuple[int, tuple[str, ...]]]:
    """The waiting jobs of a printer that another node handed on, and for what they are held."""
    rows = db.execute(
        "SELECT id, iif(state = 4, reasons, '') FROM job INDEXED BY job_unfinished "
        "WHERE finished_us IS NULL AND printer_id = ? AND state IN (3, 4) AND intake = ? "
        "ORDER BY id",
        (printer_id, HANDED_ON),
    ).fetchall()
    return [(id_, tuple(reasons.split())) for id_, reasons in rows]


def count_handed(db: sqlite3.Connection) -> int:
    """How many jobs of this node another one has: to print them, or to release them there."""
    counting = "SELECT count(*) FROM job " + _HANDED.partition(" FROM job ")[2]
    (count,) = db.execute(counting.format(index="INDEXED BY job_unfinished")).fetchone()
    (given,) = db.execute(
        "SELECT count(*) FROM job INDEXED BY job_unfinished WHERE finished_us IS NULL "
        "AND state = 4 AND reasons = ? AND message != ''",  # which says who has it
        (JobReason.JOB_WAITS_ELSEWHERE.value,),
    ).fetchone()
    return int(count) + int(given)


def find_handed_as(db: sqlite3.Connection, uuids: Sequence[UUID]) -> list[HandedJob]:
    """Those among the jobs with these uuids."""
    ids = [
        id_
        for uuid in uuids
        for (id_,) in db.execute("SELECT id FROM job WHERE uuid = ?", (uuid.bytes,))
    ]
    return find_handed(db, ids)


def count_over_lines(db: sqlite3.Connection, printer_id: int) -> int:
    """How many jobs of a printer were given away over the line of its owner, and not ended yet."""
    (count,) = db.execute(
        "SELECT count(*) FROM job INDEXED BY job_unfinished JOIN attempt "
        "ON attempt.job_id = job.id AND attempt.number = job.attempts "
        "WHERE job.finished_us IS NULL AND job.printer_id = ? AND job.state IN (5, 6) "
        "AND attempt.device_id = 0",
        (printer_id,),
    ).fetchone()
    return int(count)


def was_released(db: sqlite3.Connection, job_id: int) -> bool:
    """Whether its owner released the job here, or it was cleared here."""
    row = db.execute("SELECT 1 FROM release WHERE job_id = ? LIMIT 1", (job_id,)).fetchone()
    return row is not None


def released_waiting(db: sqlite3.Connection) -> list[int]:
    """The pending jobs that were released, or cleared, here."""
    rows = db.execute(
        "SELECT id FROM job INDEXED BY job_unfinished WHERE finished_us IS NULL AND state = 3 "
        "AND EXISTS (SELECT 1 FROM release WHERE release.job_id = job.id) ORDER BY id"
    )
    return [id_ for (id_,) in rows]


class Released(NamedTuple):
    """When a person released a job, and the printer that it had waited on; None: where it is."""

    released_us: int
    home: int | None


def released_by_people(db: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, Released]:
    """Those jobs that a person released, and nobody later."""
    found = {}
    for job_id in job_ids:
        row = db.execute(
            "SELECT released_us, fields FROM release WHERE job_id = ? ORDER BY number DESC LIMIT 1",
            (job_id,),
        ).fetchone()
        if row is not None and unpack(row[1]).get("person"):
            home = db.execute(
                "SELECT printer.id FROM job JOIN tombstone ON tombstone.uuid = job.uuid "
                "JOIN printer ON printer.guid = tombstone.printer_guid "
                "WHERE job.id = ? AND printer.name IS NOT NULL",
                (job_id,),
            ).fetchone()
            found[job_id] = Released(row[0], None if home is None else home[0])
    return found
