"""How jobs come into the spool, and how a uuid that comes again gets its first answer.

As in `jobs`, whatever decides runs inside the writer's transaction. Rows are gathered and written
with those of the other jobs of a transaction (`SqliteStore.flush`).
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.record import Kind
from spoold.spool import gate, remote_jobs, store
from spoold.spool.bounds import TEXT_CHARACTERS_MAX, packed_attributes
from spoold.spool.jobs import awaits_release, note_hold, person
from spoold.spool.rows import DOCUMENTS_PER_JOB, NUMBER, STATE

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def uuid7(writer: SqliteStore, now_us: int) -> UUID:
    """A time-ordered UUID (RFC 9562 5.7): the index over uuids grows at one end."""
    random = int.from_bytes(writer.random(10), "big")
    value = (now_us // 1000 & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | random & (1 << 62) - 1)


def accept_job(writer: SqliteStore, change: store.AcceptJob) -> store.Accepted:
    printer_guid = writer.printers.get(change.printer_id)
    if printer_guid is None:
        raise OperationError("not-found", "the printer was removed.", "Name another printer.")
    uuid = change.uuid
    if uuid is not None:
        first = _first_answer(writer, change, printer_guid)
        if first is not None:
            return first
        is_given = bool(change.handed_by) and JobReason.JOB_RELEASE_WAIT in change.reasons
        if is_given and remote_jobs.is_canceled(writer.db, change.handed_by, uuid):
            raise OperationError("not-possible", "the job was canceled where it came from.")
    else:
        uuid = uuid7(writer, change.now_us)
    attributes = packed_attributes(change.attributes) if change.attributes else None
    if writer.gates and type(change) is not store.OpenJob and not change.is_released:
        change.reasons = gate.on_arrival(writer, change.printer_id, change.reasons)
        change.state = JobState.PENDING_HELD if change.reasons else change.state
    owner_id, owner_key = person(writer, change.owner.name, change.now_us)
    job_id = writer.next_job_id()
    key = uuid.bytes
    payload = _payload(change, job_id, key, printer_guid, owner_key)
    # An address is personal; it stands, erasable, in the job and in the record's other part.
    actor = "client" if change.submitter.startswith("address:") else change.submitter
    position = writer.add_record(
        Kind.JOB_ACCEPTED, actor, change.now_us, payload, _personal(change, attributes)
    )
    writer.jobs.append(_job_row(change, job_id, key, owner_id, attributes, position))
    writer.documents.append(_document_row(job_id, change.document))
    if change.hold_until:
        writer.flush()
        note_hold(writer, job_id, change.hold_until, change.release_us)
    accepted = store.Accepted(job_id, uuid, position, change.state, reasons=change.reasons)
    if change.uuid is not None:
        writer.named[uuid] = (change, accepted)
    writer.events.append(
        store.JobMoved(
            job_id,
            uuid,
            change.printer_id,
            None,
            change.state,
            change.reasons,
            change.priority,
            change.owner.name,
            change.document.size,
            position,
        )
    )
    return accepted


def _payload(
    change: store.AcceptJob, job_id: int, uuid: bytes, printer_guid: bytes, owner_key: bytes
) -> dict[str, Any]:
    document = change.document
    payload = {
        "job": job_id,
        "uuid": uuid,
        "printer": printer_guid,
        "owner": owner_key,
        "known": change.owner.known.value,
        "by": change.owner.by,
        "intake": change.intake,
        "state": change.state.value,
        "reasons": list(change.reasons),
        "priority": change.priority,
        "copies": change.copies,
        "embedded": change.copies_embedded,
        "size": document.size,
        "digest": document.digest,
        "format": document.format,
    }
    if change.created_us is not None:
        payload["created_us"] = change.created_us
    if change.is_released:
        payload["released"] = True
    if change.handed_by:
        payload["handed_by"] = change.handed_by
    return payload


def _personal(change: store.AcceptJob, attributes: bytes | None) -> dict[str, Any]:
    """What a sender says of a job may name people, too: its document, an account."""
    told: dict[str, Any] = {
        "title": change.title[:TEXT_CHARACTERS_MAX],
        "host": change.client_host[:TEXT_CHARACTERS_MAX],
    }
    if attributes:
        told["attributes"] = attributes
    return told


def _job_row(
    change: store.AcceptJob,
    job_id: int,
    uuid: bytes,
    owner_id: int,
    attributes: bytes | None,
    position: int,
) -> tuple[Any, ...]:
    """The values of `JOB_COLUMNS`."""
    now = change.now_us
    return (
        job_id,
        uuid,
        change.printer_id,
        NUMBER[change.state],
        " ".join(change.reasons),
        change.message,
        owner_id,
        change.owner.known.value,
        change.owner.by,
        change.submitter,
        change.title[:TEXT_CHARACTERS_MAX],
        change.client_host[:TEXT_CHARACTERS_MAX],
        change.intake,
        change.priority,
        change.copies,
        change.copies_embedded,
        attributes,
        0,
        now if change.created_us is None else min(now, change.created_us),
        now,
        now if change.state.is_final else None,
        JobReason.SUBMISSION_INTERRUPTED in change.reasons,
        position,
        now if change.reasons and awaits_release(change.reasons) else None,
        change.handed_by,
    )


def _document_row(job_id: int, document: store.NewDocument) -> tuple[Any, ...]:
    """The values of `DOCUMENT_COLUMNS`, for a job's first document."""
    return (
        job_id * DOCUMENTS_PER_JOB + 1,
        document.size,
        document.digest,
        document.format,
        "",
        "",
        document.stored,
        document.file,
        document.body,
    )


def _first_answer(
    writer: SqliteStore, change: store.AcceptJob, printer_guid: bytes
) -> store.Accepted | None:
    """The answer that this uuid got before, if any; a different job under it is refused."""
    assert change.uuid is not None
    same: tuple[Any, ...] | None
    earlier = writer.named.get(change.uuid)
    if earlier is not None:
        first, accepted = earlier
        same = (first.submitter, first.printer_id, first.document.digest)
        # An open job and a whole one have different digests: they are never taken for the same.
        if same == (change.submitter, change.printer_id, change.document.digest):
            return replace(accepted, is_duplicate=True)
        raise _conflict()
    found = first_answer(writer.db, change.uuid, change.submitter, printer_guid)
    if found is None:
        return None
    accepted, digest = found
    if digest != change.document.digest and type(change) is not store.OpenJob:
        raise _conflict()
    return accepted


def first_answer(
    db: sqlite3.Connection, uuid: UUID, submitter: str, printer_guid: bytes
) -> tuple[store.Accepted, str] | None:
    """What this uuid was answered before, with the digest; None when it is new.

    The printer is the one that the job was submitted to: moving a job does not change it.

    Raises:
        OperationError: `conflict`, the uuid is another submitter's or another printer's.
    """
    row = db.execute(
        "SELECT job.id, job.position, job.submitter, document.digest, job.state FROM job "
        f"JOIN document ON document.id = job.id * {DOCUMENTS_PER_JOB} + 1 WHERE job.uuid = ?",
        (uuid.bytes,),
    ).fetchone()
    if row is not None:
        first_printer = db.execute(
            "SELECT printer.guid FROM job JOIN printer ON printer.id = job.printer_id "
            "WHERE job.id = ?",
            (row[0],),
        ).fetchone()
        moved = db.execute(
            "SELECT printer_guid FROM tombstone WHERE uuid = ?", (uuid.bytes,)
        ).fetchone()
        guid = moved[0] if moved else first_printer[0]
    else:
        row = db.execute(
            "SELECT job_id, position, submitter, digest, state, printer_guid FROM tombstone "
            "WHERE uuid = ?",
            (uuid.bytes,),
        ).fetchone()
        if row is None:
            return None
        guid = row[5]
    if row[2] != submitter or guid != printer_guid:
        raise _conflict()
    return store.Accepted(row[0], uuid, row[1], STATE[row[4]], is_duplicate=True), row[3]


def _conflict() -> OperationError:
    return OperationError(
        "conflict",
        "this job-uuid was used before for another job.",
        "Give every job its own uuid; send the same one again only for the same job.",
    )
