"""Changes of jobs that wait: ends of holds, attributes, places, copies; see `jobs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spoold.model.errors import OperationError
from spoold.model.job import (
    ACTIVE,
    AWAITS_RELEASE,
    PRIORITY_MAX,
    WAITING,
    JobReason,
    JobState,
    reasons_after,
)
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent, next_state
from spoold.spool import gate, store
from spoold.spool.accepting import accept_job
from spoold.spool.bounds import TEXT_CHARACTERS_MAX, bounded_text, packed_attributes
from spoold.spool.jobs import job_row, move_job, note_hold
from spoold.spool.open_jobs import add_to_job, put_document
from spoold.spool.rows import NUMBER, STATE, document_id, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

Row = tuple[Any, ...]


def end_hold(writer: SqliteStore, change: store.EndHold) -> JobState:
    row = job_row(writer, change.job_id)
    before, reasons = STATE[row[2]], tuple(row[3].split())
    is_timed = change.reason == JobReason.JOB_HOLD_UNTIL_SPECIFIED
    is_held = before is JobState.PENDING_HELD and change.reason in reasons
    if not is_held or change.reason in AWAITS_RELEASE:
        raise OperationError("not-possible", f"the job is not held for {change.reason} any more.")
    (message, release_us) = writer.db.execute(
        "SELECT message, release_us FROM job WHERE id = ?", (change.job_id,)
    ).fetchone()
    if change.is_due and (release_us is None or release_us > change.now_us):
        raise OperationError("not-possible", "the job has been held for longer.")
    left = gate.after_hold(writer, change.job_id, row[1], reasons_after(reasons, change.reason))
    event = JobEvent.HOLD if left else JobEvent.RELEASE
    after = next_state(before, event)
    position = writer.add_record(
        Kind.JOB_CHANGED,
        change.actor,
        change.now_us,
        {
            "job": change.job_id,
            "uuid": row[0],
            "event": event.value,
            "from": before.value,
            "state": after.value,
            "reasons": list(left),
        },
    )
    if is_timed:
        note_hold(writer, change.job_id)
    message = message if left else ""
    return move_job(writer, change.job_id, row, after, left, message, change.now_us, position)


def set_job(writer: SqliteStore, change: store.SetJob) -> JobState:
    row = _waiting_row(writer, change.job_id, WAITING)
    found = writer.db.execute(
        "SELECT title, priority, copies, copies_embedded, attributes, message FROM job "
        "WHERE id = ?",
        (change.job_id,),
    ).fetchone()
    title, priority, copies, embedded, packed, message = found
    changes_pages = change.copies is not None or change.attributes is not None
    if changes_pages and change.job_id in writer.reserved:
        raise OperationError(
            "not-possible",
            "the job is paid for as it is.",
            "Cancel it, and submit it again as it should be.",
        )
    payload: dict[str, Any] = {"job": change.job_id, "uuid": row[0]}
    personal: dict[str, Any] = {}
    if change.copies is not None:
        if embedded and change.copies != copies:
            raise OperationError(
                "not-possible", "the document itself says how many copies it makes.", ""
            )
        copies = payload["copies"] = change.copies
    if change.priority is not None:
        priority = payload["priority"] = change.priority
    if change.title is not None:
        title = bounded_text(change.title)[:TEXT_CHARACTERS_MAX]
        personal["title"] = title
    if change.attributes is not None:
        merged = {**(unpack(packed) if packed else {}), **change.attributes}
        merged = {name: value for name, value in merged.items() if value is not None}
        packed = packed_attributes(merged) if merged else None
        personal["attributes"] = packed
    position = writer.add_record(
        Kind.JOB_ATTRIBUTES_SET, change.actor, change.now_us, payload, personal or None
    )
    writer.db.execute(
        "UPDATE job SET title = ?, priority = ?, copies = ?, attributes = ? WHERE id = ?",
        (title, priority, copies, packed, change.job_id),
    )
    if changes_pages:
        writer.db.execute("UPDATE job SET media_sheets = NULL WHERE id = ?", (change.job_id,))
    return _stay(writer, change.job_id, row, priority, message, change.now_us, position)


def place_job(writer: SqliteStore, change: store.PlaceJob) -> JobState:
    row = _waiting_row(writer, change.job_id, (JobState.PENDING,))
    priority, after_id = row[4], None
    payload: dict[str, Any] = {"job": change.job_id, "uuid": row[0]}
    if change.after_id is not None:
        before = job_row(writer, change.after_id)
        if before[1] != row[1] or STATE[before[2]] not in (JobState.PENDING, *ACTIVE):
            raise OperationError(
                "not-possible",
                f"job {change.after_id} does not wait or print on the same printer.",
                "Name one that does.",
            )
        if change.after_id == change.job_id:
            raise OperationError("bad-request", "a job cannot follow itself.")
        payload["after"] = before[0]
        if STATE[before[2]] is JobState.PENDING:
            after_id = change.after_id
    if after_id is None:
        priority = _highest(writer, row[1]) + 1
    payload["priority"] = priority
    position = writer.add_record(Kind.JOB_ATTRIBUTES_SET, change.actor, change.now_us, payload)
    (message,) = writer.db.execute(
        "SELECT message FROM job WHERE id = ?", (change.job_id,)
    ).fetchone()
    writer.db.execute(
        "UPDATE job SET priority = ?, after_id = ? WHERE id = ?",
        (priority, after_id, change.job_id),
    )
    after = _stay(writer, change.job_id, row, priority, message, change.now_us, position)
    writer.events.append(store.JobPlaced(change.job_id, row[1], after_id))
    return after


def _highest(writer: SqliteStore, printer_id: int) -> int:
    """The priority that nothing that waits on the printer exceeds."""
    (found,) = writer.db.execute(
        "SELECT max(priority) FROM job INDEXED BY job_unfinished WHERE finished_us IS NULL "
        "AND printer_id = ? AND state = ?",
        (printer_id, NUMBER[JobState.PENDING]),
    ).fetchone()
    return max(found or 0, PRIORITY_MAX)


def copy_job(writer: SqliteStore, change: store.CopyJob) -> store.Accepted:
    """The copy is a job like any other; its uuid is new, and so is its place."""
    writer.flush()
    rows = writer.db.execute(
        "SELECT size, digest, format, stored, body, copies, coalesce(name, '') FROM document "
        "WHERE id > ? AND id < ? ORDER BY id",
        (document_id(change.from_id, 0), document_id(change.from_id + 1, 0)),
    ).fetchall()
    files = (change.document.file, *change.more_files)
    kept = [("inline", "file")[bool(file)] for file in files]
    if [row[3] for row in rows] != kept:
        raise OperationError(
            "not-possible", "its document is not kept any more.", "Submit the job again."
        )
    documents = [
        store.NewDocument(size, digest, format_, body, file, name)
        for (size, digest, format_, _, body, _, name), file in zip(rows, files, strict=True)
    ]
    change.document = documents[0]
    accepted = accept_job(writer, change)
    writer.take_claim(change.printer_id)  # it comes before any that is accepted now
    if len(documents) > 1:
        _copy_more(writer, change, accepted, documents, [row[5] for row in rows])
    return accepted


def _copy_more(
    writer: SqliteStore,
    change: store.CopyJob,
    accepted: store.Accepted,
    documents: list[store.NewDocument],
    copies: list[int | None],
) -> None:
    writer.flush()
    for number, (document, own_copies) in enumerate(zip(documents, copies, strict=True), 1):
        put_document(writer, document_id(accepted.job_id, number), document, own_copies)
        if number > 1:
            payload = {
                "job": accepted.job_id,
                "uuid": accepted.uuid.bytes,
                "number": number,
                "size": document.size,
                "digest": document.digest,
                "format": document.format,
                "copies": own_copies,
                "embedded": own_copies is not None,
                "event": "",
                "state": accepted.state.value,
                "reasons": list(change.reasons),
            }
            personal = {"name": document.name} if document.name else None
            writer.add_record(Kind.DOCUMENT_ADDED, "node", change.now_us, payload, personal)
    add_to_job(writer, accepted.job_id, len(documents), sum(one.size for one in documents))


def _waiting_row(writer: SqliteStore, job_id: int, states: tuple[JobState, ...]) -> Row:
    row = job_row(writer, job_id)
    if STATE[row[2]] not in states:
        raise OperationError(
            "not-possible", f"the job is {STATE[row[2]]} by now.", "Only a waiting job changes."
        )
    return row


def _stay(
    writer: SqliteStore,
    job_id: int,
    row: Row,
    priority: int,
    message: str,
    now_us: int,
    position: int,
) -> JobState:
    """Tell those who listen that the job is another, in the same state."""
    row = (*row[:4], priority, *row[5:])
    state, reasons = STATE[row[2]], tuple(row[3].split())
    return move_job(writer, job_id, row, state, reasons, message, now_us, position)
