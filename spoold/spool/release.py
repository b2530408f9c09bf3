"""How jobs are counted and released: decided, recorded and folded, and how held ones are found.

As in `jobs`, whatever decides runs inside the writer's transaction: of two people at two machines
who release the same job, the second finds it released. The look-ups run on any connection.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.charge import Charge, job_key
from spoold.model.errors import OperationError
from spoold.model.job import (
    AWAITS_RELEASE,
    LACKS_PAYMENT,
    WAITS_FOR_OTHERS,
    Job,
    JobReason,
    JobState,
)
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent, next_state
from spoold.model.user import User
from spoold.spool import ledger, people, store, users
from spoold.spool.bounds import packed_attributes
from spoold.spool.jobs import job_row, move_job, note_hold, note_origin
from spoold.spool.rows import JOB_SELECT, STATE, job_of, pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

Row = tuple[Any, ...]
# What a job waits for here that another node has released for a printer here.
COMES_HOME = frozenset(
    {JobReason.JOB_WAITS_ELSEWHERE, JobReason.JOB_RELEASE_WAIT, JobReason.JOB_REHOMED}
)


def count_job(writer: SqliteStore, change: store.CountJob) -> None:
    row = job_row(writer, change.job_id)
    contents = pack(change.contents)
    known = {"impressions": change.impressions, "media_sheets": change.media_sheets}
    told = ("format", "pages", "reason", "is_exact", "colour_pages", "copies", "sides")
    writer.add_record(
        Kind.JOB_COUNTED,
        "node",
        change.now_us,
        {
            "job": change.job_id,
            "uuid": row[0],
            "document": change.document,
            **{name: change.contents.get(name) for name in told},
            **known,
        },
    )
    writer.db.execute(
        "INSERT INTO counted VALUES (?, ?, ?) ON CONFLICT (job_id, document) DO UPDATE SET "
        "contents = excluded.contents",
        (change.job_id, change.document, contents),
    )
    writer.db.execute(
        "UPDATE job SET impressions = ?, media_sheets = ? WHERE id = ?",
        (change.impressions, change.media_sheets, change.job_id),
    )


def release_job(writer: SqliteStore, change: store.ReleaseJob) -> store.Released:
    row = job_row(writer, change.job_id)
    before, reasons = STATE[row[2]], tuple(row[3].split())
    left = _left(change, before, reasons)
    copies, packed, sheets = _asked(writer, change)
    guid = writer.printers.get(change.printer_id)
    if guid is None:
        raise OperationError("not-found", "the printer was removed.")
    event = JobEvent.HOLD if left else JobEvent.RELEASE
    after = next_state(before, event)
    number = last_number(writer.db, change.job_id) + 1
    fields = _fields(change)
    personal = _personal(change, packed)
    price = None
    if change.cost is not None:  # the last that may refuse
        fields["charge"] = job_key(UUID(bytes=row[0]), number, writer.journal)
        charge = _reserve(writer, change, change.cost, fields["charge"])
        price = charge.reserved
    position = writer.add_record(
        Kind.JOB_RELEASED,
        change.actor,
        change.now_us,
        {
            "job": change.job_id,
            "uuid": row[0],
            "event": event.value,
            "state": after.value,
            "reasons": list(left),
            "printer": guid,
            "number": number,
            **fields,
        },
        personal or None,
    )
    if change.comes_home:  # it is paid for where it comes from
        ledger.cancel_of_job(writer, change.job_id, change.now_us, change.actor)
    if change.printer_id != row[1]:
        note_origin(writer, change.job_id)
    writer.db.execute(
        "UPDATE job SET copies = ?, attributes = ?, media_sheets = ? WHERE id = ?",
        (copies, packed, sheets, change.job_id),
    )
    writer.db.execute(
        "INSERT INTO release VALUES (?, ?, ?, ?, ?)",
        (change.job_id, number, change.now_us, change.printer_id, pack(fields | personal)),
    )
    if JobReason.JOB_HOLD_UNTIL_SPECIFIED not in left:
        note_hold(writer, change.job_id)
    move_job(
        writer,
        change.job_id,
        row,
        after,
        left,
        "",
        change.now_us,
        position,
        change.printer_id,
    )
    return store.Released(change.job_id, after, number, position, price)


def _asked(writer: SqliteStore, change: store.ReleaseJob) -> tuple[int, bytes | None, int | None]:
    """What the job makes from now on: its copies, its attributes, and how many sheets.

    Raises:
        OperationError: `conflict`: it was changed since it was read; `forbidden`: it is not for who
            asks; `not-possible`: its document makes the copies.
    """
    owner_id, changed_us, copies, embedded, packed, sheets = writer.db.execute(
        "SELECT owner_id, changed_us, copies, copies_embedded, attributes, media_sheets FROM job "
        "WHERE id = ?",
        (change.job_id,),
    ).fetchone()
    if changed_us != change.seen_us:
        raise OperationError("conflict", "the job was changed in this moment.", "Look again.")
    if change.releaser is not None:
        _check_releaser(writer, owner_id, change.releaser)
    if change.copies is not None:
        if embedded and change.copies != copies:
            raise OperationError(
                "not-possible", "the document itself says how many copies it makes."
            )
        copies = change.copies
    if change.attributes is not None:
        packed = packed_attributes(change.attributes) if change.attributes else None
    return copies, packed, change.media_sheets or sheets


def _reserve(writer: SqliteStore, change: store.ReleaseJob, cost: store.Cost, key: bytes) -> Charge:
    return ledger.reserve(
        writer,
        key,
        cost.payer,
        cost.quote,
        cost.usage,
        change.printer_id,
        change.now_us,
        change.actor,
        cost.enforce,
        change.job_id,
        beyond=cost.beyond,
    )


def _left(change: store.ReleaseJob, before: JobState, reasons: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons for which the job stays held.

    Raises:
        OperationError: `not-possible`: it waits for no release.
    """
    if change.comes_home and not COMES_HOME.isdisjoint(reasons):
        return ()
    if before is not JobState.PENDING_HELD or AWAITS_RELEASE.isdisjoint(reasons):
        raise OperationError(
            "not-possible", f"the job is {before} by now, and waits for no release.", ""
        )
    if JobReason.JOB_INCOMING in reasons:
        raise OperationError("not-possible", "its document is still to come.", "Wait for it.")
    if change.releaser is None and not change.is_staff:
        return tuple(one for one in reasons if one not in AWAITS_RELEASE)
    if change.releaser is not None and not change.is_staff:
        for one in WAITS_FOR_OTHERS:
            if one in reasons:
                raise OperationError(
                    "not-possible", f"the job is held for {one}.", "Ask an operator to release it."
                )
    return ()


def _check_releaser(writer: SqliteStore, owner_id: int, releaser: UUID) -> None:
    """Let the owner release, and those whom the owner has named.

    Raises:
        OperationError: `forbidden`.
    """
    somebody = users.find_by_guid(writer.db, releaser)
    if somebody is None or somebody.disabled:
        raise OperationError("forbidden", "you may not release jobs any more.")
    (key,) = writer.db.execute("SELECT key FROM person WHERE id = ?", (owner_id,)).fetchone()
    if key == releaser.bytes:
        return
    owner = users.find_by_guid(writer.db, UUID(bytes=key))
    if owner is None or owner.disabled or releaser not in owner.delegates:
        raise OperationError("forbidden", "this job is somebody else's.", "Release your own.")


def _fields(change: store.ReleaseJob) -> dict[str, Any]:
    """What is kept of a release beside its number, its time and its printer."""
    known = {
        "person": None if change.releaser is None else change.releaser.bytes,
        "by": change.actor,
        "where": change.where,
        "copies": change.copies,
    }
    return {name: value for name, value in known.items() if value not in (None, "", [])}


def _personal(change: store.ReleaseJob, attributes: bytes | None) -> dict[str, Any]:
    """What may name people: the rules that held, and the attributes that were set."""
    found: dict[str, Any] = {"terms": list(change.terms)} if change.terms else {}
    if change.attributes is not None:
        found["attributes"] = attributes
    return found


# -- look-ups ----------------------------------------------------------------------------------


def last_number(db: sqlite3.Connection, job_id: int) -> int:
    """How many times a job was released."""
    (found,) = db.execute("SELECT max(number) FROM release WHERE job_id = ?", (job_id,)).fetchone()
    return found or 0


def releases(db: sqlite3.Connection, job_id: int) -> list[store.ReleaseEntry]:
    """Every release of a job, in order."""
    rows = db.execute(
        "SELECT number, released_us, printer_id, fields FROM release WHERE job_id = ? "
        "ORDER BY number",
        (job_id,),
    )
    return [
        store.ReleaseEntry(number, at_us, printer_id, unpack(fields))
        for number, at_us, printer_id, fields in rows
    ]


def held(db: sqlite3.Connection, owners: list[UUID], after_id: int, limit: int) -> list[Job]:
    """Jobs of these people that wait for a release, or to be cleared, by their ids."""
    found: list[Job] = []
    sql = JOB_SELECT.replace(" FROM job ", " FROM job INDEXED BY job_held ") + (
        "WHERE job.owner_id = (SELECT id FROM person WHERE key = ?) AND job.held_us IS NOT NULL "
        "AND job.id > ? ORDER BY job.id LIMIT ?"
    )
    for owner in owners:
        found += [job_of(row) for row in db.execute(sql, (owner.bytes, after_id, limit))]
    return sorted(found, key=lambda job: job.id)[:limit]


class Waits(NamedTuple):
    """What waits for somebody: the jobs, who else has jobs among them, what was counted in each."""

    jobs: list[Job]
    others: list[User]
    contents: dict[int, dict[int, bytes]]


def waits_for(db: sqlite3.Connection, user: UUID, after_id: int, limit: int) -> Waits:
    """The held jobs that a user may release: all in one look, as somebody stands at a machine."""
    others = people.delegators(db, user)
    jobs = held(db, [user, *(one.guid for one in others)], after_id, limit)
    return Waits(jobs, others, contents_of_many(db, [job.id for job in jobs]))


def unfetched(db: sqlite3.Connection, printer_id: int, before_us: int, limit: int) -> list[int]:
    """Ids of jobs that nobody has fetched since before a time, the oldest first."""
    rows = db.execute(
        "SELECT id FROM job INDEXED BY job_held_since WHERE printer_id = ? AND held_us < ? "
        "ORDER BY held_us LIMIT ?",
        (printer_id, before_us, limit),
    )
    return [row[0] for row in rows]


class Waiting(NamedTuple):
    """A job at a gate. `is_due`: it is to be counted, or cleared; `lacks_payment`: nobody pays."""

    printer_id: int
    held_us: int
    job_id: int
    is_due: bool
    lacks_payment: bool


def waiting(db: sqlite3.Connection, after: tuple[int, int, int], limit: int) -> list[Waiting]:
    """Jobs that wait at a gate, behind a printer, a time and an id."""
    rows = db.execute(
        "SELECT printer_id, held_us, id, reasons, documents, (SELECT count(*) FROM counted "
        "WHERE job_id = job.id) FROM job INDEXED BY job_held_since WHERE held_us IS NOT NULL "
        "AND (printer_id, held_us, id) > (?, ?, ?) ORDER BY printer_id, held_us, id LIMIT ?",
        (*after, limit),
    )
    return [
        Waiting(
            printer_id,
            held_us,
            job_id,
            counted < documents or reasons == JobReason.JOB_BEING_COUNTED.value,
            not LACKS_PAYMENT.isdisjoint(reasons.split()),
        )
        for printer_id, held_us, job_id, reasons, documents, counted in rows
    ]


def contents(db: sqlite3.Connection, job_id: int) -> dict[int, bytes]:
    """What is in the documents of a job that were counted, packed, by their numbers."""
    rows = db.execute(
        "SELECT document, contents FROM counted WHERE job_id = ? ORDER BY document", (job_id,)
    )
    return dict(rows.fetchall())


def contents_of_many(db: sqlite3.Connection, job_ids: list[int]) -> dict[int, dict[int, bytes]]:
    """The same of several jobs; those of which nothing was counted are left out."""
    marks = ",".join("?" * len(job_ids))
    found: dict[int, dict[int, bytes]] = {}
    for job_id, number, packed in db.execute(
        f"SELECT job_id, document, contents FROM counted WHERE job_id IN ({marks})", job_ids
    ):
        found.setdefault(job_id, {})[number] = packed
    return found
