"""How attempts begin, are noted and end: decided, recorded and folded; see `jobs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spoold.model.errors import OperationError
from spoold.model.job import ACTIVE, JobState
from spoold.model.outcome import Blame, Deferred, Delivered, HandedOn, InDoubt, Outcome, Refused
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent, next_state, onward
from spoold.spool import accepting, remote_jobs, store
from spoold.spool.bounds import (
    REASONS_MAX,
    bounded_count,
    bounded_map,
    bounded_text,
    bounded_word,
)
from spoold.spool.jobs import (
    awaits_release,
    has_more,
    job_row,
    move_job,
    turn_to_document,
)
from spoold.spool.rows import STATE, pack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def accept_job(writer: SqliteStore, change: store.AcceptJob) -> store.Accepted:
    """Accept a job; where a device stands ready for it, its attempt begins with that."""
    accepted = accepting.accept_job(writer, change)
    if accepted.state is JobState.PENDING and not accepted.is_duplicate:
        device_id = writer.take_claim(change.printer_id)
        if device_id is not None:
            start = store.StartAttempt(accepted.job_id, device_id, change.printer_id, change.now_us)
            writer.events.append(
                store.JobClaimed(
                    accepted.job_id,
                    change.printer_id,
                    device_id,
                    start_attempt(writer, start),
                    change.owner.name,
                    change.priority,
                )
            )
    return accepted


def start_attempt(writer: SqliteStore, change: store.StartAttempt) -> int:
    row = job_row(writer, change.job_id)
    before = STATE[row[2]]
    if before is not JobState.PENDING:
        raise OperationError("not-possible", f"the job is {before} by now.")
    if row[1] != (change.printer_id if change.queue_id is None else change.queue_id):
        raise OperationError("not-possible", "the job was moved meanwhile.")
    number: int = row[7] + 1
    position = writer.add_record(
        Kind.ATTEMPT_STARTED,
        "node",
        change.now_us,
        {
            "job": change.job_id,
            "uuid": row[0],
            "attempt": number,
            "device": change.device_id,
            "printer": writer.printers.get(change.printer_id),
            **({"document": row[10]} if row[9] > 1 else {}),
        },
    )
    writer.db.execute(
        "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, NULL, '', '', '', 0, NULL, ?, NULL)",
        (change.job_id, number, change.device_id, change.printer_id, change.now_us, row[10]),
    )
    after = next_state(before, JobEvent.START)
    move_job(writer, change.job_id, row, after, (), "", change.now_us, position, attempts=number)
    return number


def note_attempt(writer: SqliteStore, change: store.NoteAttempt) -> None:
    row = job_row(writer, change.job_id)
    if row[7] != change.number or STATE[row[2]] not in ACTIVE:
        raise OperationError("not-possible", "that attempt has ended.")
    evidence = bounded_map(change.evidence)
    writer.add_record(
        Kind.ATTEMPT_NOTED,
        "node",
        change.now_us,
        {"job": change.job_id, "uuid": row[0], "attempt": change.number},
        {"evidence": evidence},
    )
    writer.db.execute(
        "UPDATE attempt SET evidence = ? WHERE job_id = ? AND number = ?",
        (pack(evidence), change.job_id, change.number),
    )


def end_attempt(writer: SqliteStore, change: store.EndAttempt) -> JobState:
    row = job_row(writer, change.job_id)
    before = STATE[row[2]]
    had = tuple(row[3].split())
    if before not in ACTIVE and awaits_release(had):
        raise OperationError("not-possible", "that attempt has ended: the job waits for its owner.")
    event, words = onward(change.event, had, change.reasons, has_more=has_more(row))
    after = next_state(before, event)
    name, reason, detail, bytes_sent, evidence = _outcome_fields(change.outcome)
    reasons = tuple(map(bounded_word, words[:REASONS_MAX]))
    detail, message = bounded_text(detail), bounded_text(change.message)
    if event is JobEvent.NEXT:
        message = ""
    outcome = change.outcome
    is_counted = not (isinstance(outcome, Deferred) and outcome.blame is Blame.NODE)
    position = writer.add_record(
        Kind.ATTEMPT_ENDED,
        "node",
        change.now_us,
        {
            "job": change.job_id,
            "uuid": row[0],
            "attempt": change.number,
            "outcome": name,
            "reason": reason,
            "method": evidence.get("method"),
            "bytes": bytes_sent,
            "event": event.value,
            "state": after.value,
            "reasons": list(reasons),
            **({} if is_counted else {"counted": False}),
        },
        # What a device said may hold titles and names.
        {"detail": detail, "evidence": evidence},
    )
    writer.db.execute(
        "UPDATE attempt SET ended_us = ?, outcome = ?, reason = ?, detail = ?, bytes_sent = ?, "
        "evidence = coalesce(?, evidence) WHERE job_id = ? AND number = ?",
        (
            change.now_us,
            name,
            reason,
            detail,
            bytes_sent,
            pack(evidence) if evidence else None,
            change.job_id,
            change.number,
        ),
    )
    if not is_counted:
        writer.db.execute("UPDATE job SET uncounted = uncounted + 1 WHERE id = ?", (change.job_id,))
    move_job(writer, change.job_id, row, after, reasons, message, change.now_us, position)
    if event is JobEvent.NEXT:
        turn_to_document(writer, change.job_id, row[10] + 1)
    if row[0] in writer.printed_elsewhere:
        writer.printed_elsewhere.discard(row[0])
        remote_jobs.merge_waiting(writer, row[0], change.now_us)
        after = STATE[job_row(writer, change.job_id)[2]]
    return after


def _outcome_fields(outcome: Outcome) -> tuple[str, str, str, int, dict[str, Any]]:
    match outcome:
        case HandedOn(evidence):
            sent = evidence.get("bytes", 0)
            return "handed-on", "", "", bounded_count(sent), bounded_map(evidence)
        case Delivered(evidence):
            sent = evidence.get("bytes", 0)
            return "delivered", "", "", bounded_count(sent), bounded_map(evidence)
        case Deferred(reason, detail):
            return "deferred", bounded_word(reason), detail, 0, {}
        case Refused(reason, detail, evidence):
            return "refused", bounded_word(reason), detail, 0, bounded_map(evidence)
        case InDoubt(reason, detail, bytes_sent, evidence):
            sent = bounded_count(bytes_sent)
            return "in-doubt", bounded_word(reason), detail, sent, bounded_map(evidence)
