"""How changes of jobs are decided, recorded, and folded into the tables; see `attempts`, too, and
`accepting` for how they come in.

A function here runs inside the writer's transaction. It first decides, reading only; a refusal is
raised before anything is written. Then it appends its record and writes what follows from it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.job import AWAITS_RELEASE, JobReason, JobState
from spoold.model.record import Kind
from spoold.model.transitions import (
    JobEvent,
    check_is_here,
    decided,
    next_state,
    reasons_while_incoming,
)
from spoold.spool import gate, ledger, store
from spoold.spool.bounds import (
    REASONS_MAX,
    TEXT_CHARACTERS_MAX,
    bounded_text,
    bounded_word,
)
from spoold.spool.rows import DOCUMENTS_PER_JOB, KEPT, NUMBER, STATE, document_id

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

JOBS_REMEMBERED_MAX = 4096
RELEASE_WAIT = JobReason.JOB_RELEASE_WAIT.value


def person(writer: SqliteStore, name: str, now_us: int) -> tuple[int, bytes]:
    """The row and the key of the person called `name`, who is made when new."""
    found = writer.people.get(name)
    if found is None:
        row = writer.db.execute("SELECT id, key FROM person WHERE name = ?", (name,)).fetchone()
        if row is None:
            key = writer.random(16)
            writer.add_record(Kind.PERSON_NAMED, "node", now_us, {"person": key}, {"name": name})
            id_ = writer.db.execute(
                "INSERT INTO person (key, name) VALUES (?, ?)", (key, name)
            ).lastrowid
            assert id_ is not None
            row = (id_, key)
        if len(writer.people) > 10_000:
            writer.people.clear()
        found = writer.people[name] = (row[0], row[1])
    return found


def awaits_release(reasons: Iterable[str]) -> bool:
    """Whether a job with these reasons waits for its owner, or to be cleared."""
    return not AWAITS_RELEASE.isdisjoint(reasons)


def note_hold(
    writer: SqliteStore, job_id: int, until: str = "", release_us: int | None = None
) -> None:
    """Write for what the job is held; without arguments that it is not held for a time."""
    writer.db.execute(
        "UPDATE job SET hold_until = ?, release_us = ? WHERE id = ?",
        (until or None, release_us, job_id),
    )


_JOB = (
    "SELECT job.uuid, job.printer_id, job.state, job.reasons, job.priority, person.name, "
    "coalesce(job.size, document.size), job.attempts, document.stored, job.documents, "
    "job.next_document FROM job JOIN person ON person.id = job.owner_id "
    f"JOIN document ON document.id = job.id * {DOCUMENTS_PER_JOB} + job.next_document "
    "WHERE job.id = ?"
)


def job_row(writer: SqliteStore, job_id: int) -> tuple[Any, ...]:
    """The row of `_JOB`: from memory when this job was changed lately, as at an attempt's end.

    Only this thread writes jobs, so what it remembers is what stands there.
    """
    row: tuple[Any, ...] | None = writer.active.get(job_id)
    if row is not None:
        return row
    writer.flush()
    if len(writer.active) > JOBS_REMEMBERED_MAX:
        writer.active.clear()
    row = writer.db.execute(_JOB, (job_id,)).fetchone()
    if row is None:
        raise OperationError("not-found", f"there is no job {job_id}.", "See `spoold job list`.")
    return row


def has_more(row: tuple[Any, ...]) -> bool:
    """Whether another document comes after the one that is next, or is being printed."""
    return bool(row[10] < row[9])


def turn_to_document(writer: SqliteStore, job_id: int, number: int) -> None:
    """The document with this number is printed next."""
    writer.db.execute("UPDATE job SET next_document = ? WHERE id = ?", (number, job_id))
    writer.active.pop(job_id, None)


def move_job(
    writer: SqliteStore,
    job_id: int,
    row: tuple[Any, ...],
    after: JobState,
    reasons: tuple[str, ...],
    message: str,
    now_us: int,
    position: int,
    printer_id: int | None = None,
    attempts: int | None = None,
) -> JobState:
    """Write the job's new state, and tell those who listen."""
    uuid, old_printer_id, before, _reasons, priority, owner, size, tried, *document = row
    to = old_printer_id if printer_id is None else printer_id
    tried = tried if attempts is None else attempts
    words = " ".join(reasons)
    writer.db.execute(
        "UPDATE job SET state = ?, reasons = ?, message = ?, printer_id = ?, changed_us = ?, "
        "finished_us = ?, attempts = ?, kept_bytes = ? WHERE id = ?",
        (
            NUMBER[after],
            words,
            message[:TEXT_CHARACTERS_MAX],
            to,
            now_us,
            now_us if after.is_final else None,
            tried,
            size if after.is_final and document[0] in KEPT else None,
            job_id,
        ),
    )
    if (is_awaiting := awaits_release(reasons)) is not awaits_release(row[3].split()):
        writer.db.execute(
            "UPDATE job SET held_us = ? WHERE id = ?", (now_us if is_awaiting else None, job_id)
        )
    if after is JobState.PENDING:
        writer.take_claim(to)  # this one comes before any that is accepted now
    if after.is_final:
        writer.active.pop(job_id, None)
        if job_id in writer.reserved:
            ledger.job_ended(writer, job_id, after, now_us)
    else:
        row = (uuid, to, NUMBER[after], words, priority, owner, size, tried, *document)
        writer.active[job_id] = row
    writer.events.append(
        store.JobMoved(
            job_id,
            UUID(bytes=uuid),
            to,
            STATE[before],
            after,
            reasons,
            priority,
            owner or "",
            size,
            position,
            old_printer_id,
        )
    )
    return after


def change_job(writer: SqliteStore, change: store.ChangeJob) -> JobState:
    row = job_row(writer, change.job_id)
    before, had = STATE[row[2]], tuple(row[3].split())
    event, after, reasons = _decided(writer, change, row, before, had)
    message = bounded_text(change.message)
    payload = {
        "job": change.job_id,
        "uuid": row[0],
        "event": event.value,
        "from": before.value,
        "state": after.value,
        "reasons": list(reasons),
    }
    if change.printer_id is not None:
        guid = writer.printers.get(change.printer_id)
        if guid is None:
            raise OperationError("not-found", "the other printer was removed.")
        payload["printer"] = guid
        note_origin(writer, change.job_id)
    if change.hold_until:
        payload |= {"hold_until": change.hold_until, "release_us": change.release_us}
    personal = {"message": message} if message else None
    position = writer.add_record(Kind.JOB_CHANGED, change.actor, change.now_us, payload, personal)
    if RELEASE_WAIT in reasons:
        ledger.cancel_of_job(writer, change.job_id, change.now_us, change.actor)
    if JobReason.JOB_INCOMING in had and after.is_final:
        writer.db.execute("DELETE FROM incoming WHERE job_id = ?", (change.job_id,))
    was_timed = JobReason.JOB_HOLD_UNTIL_SPECIFIED in had
    if change.hold_until or (was_timed and JobReason.JOB_HOLD_UNTIL_SPECIFIED not in reasons):
        note_hold(writer, change.job_id, change.hold_until, change.release_us)
    move_job(
        writer,
        change.job_id,
        row,
        after,
        reasons,
        message,
        change.now_us,
        position,
        change.printer_id,
    )
    if event is JobEvent.NEXT:
        turn_to_document(writer, change.job_id, row[10] + 1)
    elif event is JobEvent.RETRY and row[10] > 1:
        turn_to_document(writer, change.job_id, 1)
    return after


def _decided(
    writer: SqliteStore,
    change: store.ChangeJob,
    row: tuple[Any, ...],
    before: JobState,
    had: tuple[str, ...],
) -> tuple[JobEvent, JobState, tuple[str, ...]]:
    """What the change is to the job as it stands: the event, and the state and reasons after it.

    Raises:
        OperationError: `not-possible`: this job is not changed so.
    """
    if change.only_from and before not in change.only_from:
        raise OperationError("not-possible", f"the job is {before} by now.", "Look at it again.")
    if change.only_with and change.only_with not in had:
        raise OperationError("not-possible", f"{change.only_with} is over by now.")
    if change.only_for and change.only_for != had:
        raise OperationError("not-possible", "the job waits for something else by now.")
    check_is_here(change.event, had, change.reasons)
    event, after, words = decided(before, change.event, had, change.reasons, has_more=has_more(row))
    if change.hold_until and after is JobState.PENDING:
        after = next_state(after, JobEvent.HOLD)
    if change.event is JobEvent.RETRY:
        _check_can_retry(writer, change.job_id, row)
    reasons = tuple(map(bounded_word, words[:REASONS_MAX]))
    is_incoming = JobReason.JOB_INCOMING in had
    if writer.gates and not is_incoming:
        after, reasons = gate.after_change(
            writer,
            change.job_id,
            row[1] if change.printer_id is None else change.printer_id,
            event,
            had,
            after,
            reasons,
            has_begun=row[10] > 1,
        )
    if is_incoming or change.event is JobEvent.SUBMIT:
        reasons = reasons_while_incoming(change.event, after, reasons)
    return event, after, reasons


def _check_can_retry(writer: SqliteStore, job_id: int, row: tuple[Any, ...]) -> None:
    """Its document is here, and no other node had the job: that one would know the uuid."""
    if row[8] in ("gone", "none"):
        cause = "is not kept any more" if row[8] == "gone" else "never came"
        raise OperationError("not-possible", f"its document {cause}.", "Submit the job again.")
    last = writer.db.execute(
        "SELECT outcome FROM attempt WHERE job_id = ? AND number = ?", (job_id, row[7])
    ).fetchone()
    if last is not None and last[0] == "handed-on":
        raise OperationError(
            "not-possible",
            "another node had the job.",
            "Retry it there: `spoold job show` says where.",
        )


def note_origin(writer: SqliteStore, job_id: int) -> None:
    """The printer that a job was submitted to stays known, for the answer to a repeated uuid."""
    writer.db.execute(
        "INSERT OR IGNORE INTO tombstone SELECT job.uuid, job.id, printer.guid, "
        "job.submitter, document.digest, job.state, job.position, job.changed_us FROM job "
        "JOIN printer ON printer.id = job.printer_id "
        f"JOIN document ON document.id = job.id * {DOCUMENTS_PER_JOB} + 1 WHERE job.id = ?",
        (job_id,),
    )


def remove_jobs(writer: SqliteStore, change: store.RemoveJobs) -> list[str]:
    """Forget finished jobs, or only their documents; a job that named itself leaves a tombstone."""
    writer.flush()
    files: list[str] = []
    db = writer.db
    for job_id in change.job_ids:
        row = db.execute(
            "SELECT job.uuid, job.state, job.finished_us, printer.guid, job.submitter, "
            "document.digest, job.position FROM job "
            f"JOIN document ON document.id = job.id * {DOCUMENTS_PER_JOB} + 1 "
            "JOIN printer ON printer.id = job.printer_id WHERE job.id = ?",
            (job_id,),
        ).fetchone()
        if row is None or row[2] is None:
            continue  # gone already, or active again
        documents = (document_id(job_id, 0), document_id(job_id + 1, 0))
        files += [
            file
            for (file,) in db.execute(
                "SELECT file FROM document WHERE id > ? AND id < ? AND stored = 'file'", documents
            )
        ]
        payload = {"job": job_id, "uuid": row[0], "documents_only": change.documents_only}
        if change.documents_only:
            db.execute(
                "UPDATE document SET stored = 'gone', file = '', body = NULL "
                "WHERE id > ? AND id < ? AND stored != 'none'",
                documents,
            )
            db.execute("UPDATE job SET kept_bytes = NULL WHERE id = ?", (job_id,))
        else:
            db.execute("DELETE FROM document WHERE id > ? AND id < ?", documents)
            db.execute("DELETE FROM attempt WHERE job_id = ?", (job_id,))
            db.execute("DELETE FROM counted WHERE job_id = ?", (job_id,))
            db.execute("DELETE FROM release WHERE job_id = ?", (job_id,))
            db.execute("DELETE FROM job WHERE id = ?", (job_id,))
            # The printer that a moved job was submitted to stands there already.
            db.execute(
                "INSERT INTO tombstone VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (uuid) DO UPDATE SET state = excluded.state, "
                "digest = excluded.digest, removed_us = excluded.removed_us",
                (row[0], job_id, row[3], row[4], row[5], row[1], row[6], change.now_us),
            )
        writer.add_record(Kind.JOB_REMOVED, "node", change.now_us, payload)
    return files


class Tombstones(NamedTuple):
    """Uuids that are to be forgotten, and the last that was looked at; None: there are no more."""

    due: tuple[bytes, ...]
    last: bytes | None


def old_tombstones(db: sqlite3.Connection, after: bytes, limit: int, before_us: int) -> Tombstones:
    """The next tombstones behind a uuid, and which of them are of jobs that were removed before."""
    rows = db.execute(
        "SELECT uuid, removed_us < ? AND NOT EXISTS (SELECT 1 FROM job "
        "WHERE job.uuid = tombstone.uuid) FROM tombstone WHERE uuid > ? ORDER BY uuid LIMIT ?",
        (before_us, after, limit),
    ).fetchall()
    due = tuple(uuid for uuid, is_old in rows if is_old)
    return Tombstones(due, rows[-1][0] if len(rows) == limit else None)


def forget_tombstones(writer: SqliteStore, change: store.ForgetTombstones) -> None:
    """See `ForgetTombstones`."""
    writer.db.executemany("DELETE FROM tombstone WHERE uuid = ?", [(one,) for one in change.uuids])
