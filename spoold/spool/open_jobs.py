"""Jobs that were made before their document came (Create-Job, RFC 8011 4.2.4); see `jobs`.

An open job is `pending-held` with the reason `job-incoming`, and has a row in `incoming` that says
how long it waits for its document. It is durable from the start, and stays open over a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.job import DOCUMENTS_MAX, JobReason, JobState
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent, next_state
from spoold.spool import gate, store
from spoold.spool.accepting import accept_job
from spoold.spool.bounds import TEXT_CHARACTERS_MAX, bounded_text
from spoold.spool.jobs import job_row, move_job, note_hold
from spoold.spool.rows import STATE, document_id

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

Row = tuple[Any, ...]


def open_job(writer: SqliteStore, change: store.OpenJob) -> store.Accepted:
    accepted = accept_job(writer, change)
    if not accepted.is_duplicate:
        writer.db.execute(
            "INSERT INTO incoming VALUES (?, ?)", (accepted.job_id, change.deadline_us)
        )
    return accepted


def attach_document(writer: SqliteStore, change: store.AttachDocument) -> store.Accepted:
    row = _open_row(writer, change.job_id, change.submitter)
    number = _next_number(row, change)
    document = change.document
    own_copies = None
    if change.copies_embedded and (number > 1 or not change.last):
        own_copies = change.copies  # those of other documents are another matter
    event, after, reasons = _still_open(row)
    if change.last:
        event, after, reasons = _end_of(writer, row, change.reasons)
    message = bounded_text(change.message)
    name = document.name[:TEXT_CHARACTERS_MAX]
    personal = {"message": message, "name": name}
    position = writer.add_record(
        Kind.DOCUMENT_ADDED,
        _actor(change.submitter),
        change.now_us,
        {
            "job": change.job_id,
            "uuid": row[0],
            "number": number,
            "size": document.size,
            "digest": document.digest,
            "format": document.format,
            "copies": change.copies,
            "embedded": change.copies_embedded,
            "event": event,
            "state": after.value,
            "reasons": list(reasons),
        },
        {key: text for key, text in personal.items() if text} or None,
    )
    if change.copies is not None and number == 1 and change.last:
        writer.db.execute(
            "UPDATE job SET copies = ?, copies_embedded = ? WHERE id = ?",
            (change.copies, change.copies_embedded, change.job_id),
        )
    put_document(writer, document_id(change.job_id, number), document, own_copies)
    size = document.size
    if number > 1:
        size = add_to_job(writer, change.job_id, number, row[6] + size)
    if change.last:
        _forget(writer, change.job_id)
    else:
        writer.db.execute(
            "UPDATE incoming SET deadline_us = ? WHERE job_id = ?",
            (change.deadline_us, change.job_id),
        )
    stored = document.stored if number == 1 else row[8]
    row = (*row[:6], size, row[7], stored, number, row[10])
    move_job(writer, change.job_id, row, after, reasons, message, change.now_us, position)
    return store.Accepted(change.job_id, UUID(bytes=row[0]), position, after, reasons=reasons)


def put_document(
    writer: SqliteStore, id_: int, document: store.NewDocument, copies: int | None
) -> None:
    """Write a document's row, or fill that of the first one of an open job."""
    values = {
        "id": id_,
        "size": document.size,
        "digest": document.digest,
        "format": document.format,
        "stored": document.stored,
        "file": document.file,
        "body": document.body,
        "copies": copies,
        "name": document.name[:TEXT_CHARACTERS_MAX] or None,
    }
    writer.db.execute(
        "INSERT INTO document (id, size, digest, format, encoding, key_id, stored, file, body, "
        "copies, name) VALUES (:id, :size, :digest, :format, '', '', :stored, :file, :body, "
        ":copies, :name) ON CONFLICT (id) DO UPDATE SET size = :size, digest = :digest, "
        "format = :format, stored = :stored, file = :file, body = :body, copies = :copies, "
        "name = :name",
        values,
    )


def add_to_job(writer: SqliteStore, job_id: int, documents: int, size: int) -> int:
    """The job has so many documents by now, of this size in all, which is returned."""
    writer.db.execute(
        "UPDATE job SET documents = ?, size = ? WHERE id = ?", (documents, size, job_id)
    )
    return size


def _next_number(row: Row, change: store.AttachDocument) -> int:
    """The number of the document that an open job is given now.

    Raises:
        OperationError: `too-large`: there are too many; `not-possible`: it is not this one's turn.
    """
    number: int = 1 if row[8] == "none" else row[9] + 1
    if number > DOCUMENTS_MAX:
        raise too_many_documents()
    if change.number not in (None, number):
        raise OperationError(
            "not-possible",
            f"another document {change.number} of job {change.job_id} came meanwhile.",
            "Send it again if it is to be printed as well.",
        )
    return number


def too_many_documents() -> OperationError:
    return OperationError(
        "too-large", f"a job has at most {DOCUMENTS_MAX} documents.", "Make another job."
    )


def close_job(writer: SqliteStore, change: store.CloseJob) -> store.Accepted:
    row = _open_row(writer, change.job_id, change.submitter)
    if change.is_overdue:
        _check_overdue(writer, change)
    if row[8] == "none":
        event: str = JobEvent.REFUSE
        after = next_state(STATE[row[2]], JobEvent.REFUSE)
        reasons: tuple[str, ...] = (JobReason.ABORTED_BY_SYSTEM.value,)
        message = bounded_text(change.message)
    else:
        event, after, reasons = _end_of(writer, row, change.reasons)
        message = ""
    position = writer.add_record(
        Kind.JOB_CHANGED,
        "node" if change.submitter is None else _actor(change.submitter),
        change.now_us,
        {
            "job": change.job_id,
            "uuid": row[0],
            "event": event,
            "from": STATE[row[2]].value,
            "state": after.value,
            "reasons": list(reasons),
        },
        {"message": message} if message else None,
    )
    _forget(writer, change.job_id)
    if after.is_final:
        note_hold(writer, change.job_id)
    move_job(writer, change.job_id, row, after, reasons, message, change.now_us, position)
    return store.Accepted(change.job_id, UUID(bytes=row[0]), position, after)


def _open_row(writer: SqliteStore, job_id: int, submitter: str | None) -> Row:
    """The row of a job that takes documents from this submitter.

    Raises:
        OperationError: `not-found`, `forbidden`, or `not-possible`: the job is not open.
    """
    row = job_row(writer, job_id)
    if submitter is not None:
        (found,) = writer.db.execute("SELECT submitter FROM job WHERE id = ?", (job_id,)).fetchone()
        if found != submitter:
            raise OperationError(
                "forbidden", f"job {job_id} was made by somebody else.", "Make one of your own."
            )
    if JobReason.JOB_INCOMING not in row[3].split():
        raise OperationError(
            "not-possible",
            f"job {job_id} takes no documents any more; it is {STATE[row[2]]}.",
            "Make another job.",
        )
    return row


def _still_open(row: Row) -> tuple[str, JobState, tuple[str, ...]]:
    return "", STATE[row[2]], tuple(row[3].split())


def _end_of(
    writer: SqliteStore, row: Row, more: tuple[str, ...]
) -> tuple[str, JobState, tuple[str, ...]]:
    """What becomes of an open job that has its document: it waits, unless something holds it."""
    hold = JobReason.JOB_HOLD_UNTIL_SPECIFIED.value
    own = (hold,) if hold in row[3].split() else ()
    reasons = gate.on_arrival(writer, row[1], tuple(dict.fromkeys((*own, *more))))
    event = JobEvent.HOLD if reasons else JobEvent.SUBMIT
    return event, next_state(STATE[row[2]], event), reasons


def _check_overdue(writer: SqliteStore, change: store.CloseJob) -> None:
    found = writer.db.execute(
        "SELECT deadline_us FROM incoming WHERE job_id = ?", (change.job_id,)
    ).fetchone()
    if found is not None and found[0] > change.now_us:
        raise OperationError("not-possible", "the job has more time.", "Look at it again.")


def _forget(writer: SqliteStore, job_id: int) -> None:
    writer.db.execute("DELETE FROM incoming WHERE job_id = ?", (job_id,))


def _actor(submitter: str) -> str:
    """Whom the records name; an address is personal (see `accept_job`)."""
    return "client" if submitter.startswith("address:") else submitter
