"""Jobs of other nodes, as their records tell: enough to list them, to add up, and to merge.

A job-uuid that is found at two homes is one job: printed wins over released over held. A job of
this node that loses is canceled here, if the other node can have it at all (`holding`); paper that
came out twice is told, and both facts stand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.job import ACTIVE, WAITING, JobReason, JobState
from spoold.model.node import identity_of
from spoold.model.transitions import JobEvent, canceling
from spoold.spool import holding, jobs, store
from spoold.spool.rows import NUMBER, STATE, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

_COLUMNS = (
    "uuid, job_id, printer, owner, state, reasons, title, intake, copies, size, format, "
    "impressions, media_sheets, attempts, created_us, changed_us, finished_us"
)
_PUT = (
    f"INSERT INTO remote_job (node, {_COLUMNS}) VALUES (?{', ?' * 17}) "
    "ON CONFLICT (uuid, node) DO UPDATE SET job_id = excluded.job_id, printer = excluded.printer, "
    "owner = excluded.owner, state = excluded.state, reasons = excluded.reasons, "
    "title = excluded.title, intake = excluded.intake, copies = excluded.copies, "
    "size = excluded.size, format = excluded.format, impressions = excluded.impressions, "
    "media_sheets = excluded.media_sheets, attempts = excluded.attempts, "
    "created_us = excluded.created_us, changed_us = excluded.changed_us, "
    "finished_us = excluded.finished_us"
)
# What records that follow its acceptance may change: the other columns have indexes.
_SET = (
    "UPDATE remote_job SET printer = ?, state = ?, reasons = ?, title = ?, copies = ?, size = ?, "
    "format = ?, impressions = ?, media_sheets = ?, attempts = ?, changed_us = ?, finished_us = ? "
    "WHERE uuid = ? AND node = ?"
)
TEXT_CHARACTERS_MAX = 1024
# What a job here comes to when it is printed, or about to be, somewhere else.
_PRINTED = (*ACTIVE, JobState.COMPLETED)
_CANCELED_FOR = (
    JobReason.JOB_CANCELED_BY_USER,
    JobReason.JOB_CANCELED_BY_OPERATOR,
    JobReason.JOB_CANCELED_AT_DEVICE,
    JobReason.JOB_CANCELED_AFTER_TIMEOUT,
)


@dataclass(slots=True)
class Row:
    """A job of another node. Times in µs; `owner` is a person's key here. One that `is_kept` has a
    row, any other may be new.
    """

    uuid: bytes
    job_id: int
    printer: bytes | None = None
    owner: bytes | None = None
    state: JobState = JobState.PENDING
    reasons: str = ""
    title: str = ""
    intake: str = ""
    copies: int = 1
    size: int = 0
    format: str = ""
    impressions: int | None = None
    media_sheets: int | None = None
    attempts: int = 0
    created_us: int = 0
    changed_us: int = 0
    finished_us: int | None = None
    is_kept: bool = False


def guid_bytes(value: object) -> bytes:
    """`value` when it can be a GUID. Raises: ValueError."""
    if isinstance(value, bytes) and len(value) == 16:
        return value
    raise ValueError("not the bytes of a GUID")


# -- in the writer's transaction ---------------------------------------------------------------


def row_of(
    writer: SqliteStore, node: bytes, gathered: dict[bytes, Row], told: Mapping[str, Any]
) -> Row:
    """The job that a record tells of, to be changed; a new one when nothing was told of it yet."""
    uuid = told["uuid"]
    found = gathered.get(uuid)
    if found is None:
        found = writer.lately.jobs.get((node, uuid)) or _read(writer.db, node, uuid)
        if found is None:
            found = Row(guid_bytes(uuid), int(told["job"]))
        gathered[uuid] = found
    return found


def _read(db: sqlite3.Connection, node: bytes, uuid: bytes) -> Row | None:
    row = db.execute(
        f"SELECT {_COLUMNS}, 1 FROM remote_job WHERE uuid = ? AND node = ?", (uuid, node)
    ).fetchone()
    if row is None:
        return None
    found = Row(*row)
    found.state = STATE[row[4]]
    return found


def write(writer: SqliteStore, node: bytes, gathered: dict[bytes, Row]) -> None:
    new = [(node, *_values(row)) for row in gathered.values() if not row.is_kept]
    if new:
        writer.db.executemany(_PUT, new)
    known = [_changes(node, row) for row in gathered.values() if row.is_kept]
    if known:
        writer.db.executemany(_SET, known)
    for row in gathered.values():
        row.is_kept = True
    writer.lately.note_jobs(node, gathered)


def _changes(node: bytes, row: Row) -> tuple[Any, ...]:
    return (
        row.printer, NUMBER[row.state], row.reasons[:TEXT_CHARACTERS_MAX],
        row.title[:TEXT_CHARACTERS_MAX], row.copies, row.size, row.format[:TEXT_CHARACTERS_MAX],
        row.impressions, row.media_sheets, row.attempts, row.changed_us, row.finished_us,
        row.uuid, node,
    )  # fmt: skip


def _values(row: Row) -> tuple[Any, ...]:
    return (
        row.uuid, row.job_id, row.printer, row.owner, NUMBER[row.state],
        row.reasons[:TEXT_CHARACTERS_MAX], row.title[:TEXT_CHARACTERS_MAX], row.intake, row.copies,
        row.size, row.format[:TEXT_CHARACTERS_MAX], row.impressions, row.media_sheets,
        row.attempts, row.created_us, row.changed_us, row.finished_us,
    )  # fmt: skip


def remove(writer: SqliteStore, node: bytes, uuid: bytes) -> None:
    """Its node does not keep it any more; what it cost stays in the ledger."""
    writer.lately.jobs.pop((node, uuid), None)
    writer.db.execute("DELETE FROM remote_job WHERE uuid = ? AND node = ?", (uuid, node))


def forget(writer: SqliteStore, change: store.ForgetRemote) -> None:
    """See `ForgetRemote`."""
    for uuid in change.uuids:
        row = writer.db.execute(
            "SELECT state FROM remote_job WHERE uuid = ? AND node = ?",
            (uuid.bytes, change.node.bytes),
        ).fetchone()
        remove(writer, change.node.bytes, uuid.bytes)
        if row is not None and not STATE[row[0]].is_final:
            _bring_back(writer, uuid.bytes, change.now_us)


def _bring_back(writer: SqliteStore, uuid: bytes, now_us: int) -> None:
    """What was canceled here, as a node had it that has lost it before it was at its end, waits
    again, if no other node has it: for whoever releases it, or for somebody's word, as it may have
    come out.
    """
    row = writer.db.execute(
        "SELECT id FROM job WHERE uuid = ?1 AND state = ?2 AND reasons = ?3 "
        "AND NOT EXISTS (SELECT 1 FROM remote_job WHERE uuid = ?1)",
        (uuid, NUMBER[JobState.CANCELED], JobReason.JOB_DONE_ELSEWHERE.value),
    ).fetchone()
    if row is None:
        return
    message = "The node that had it has lost it."
    _change(writer, store.ChangeJob(row[0], JobEvent.RETRY, now_us, message=message))
    doubt, waits = (JobReason.JOB_IN_DOUBT,), (JobState.PENDING,)
    _change(
        writer,
        store.ChangeJob(
            row[0], JobEvent.HOLD, now_us, reasons=doubt, message=message, only_from=waits
        ),
    )


def merge(writer: SqliteStore, node: UUID, uuid: bytes, state: JobState, now_us: int) -> None:
    """Settle a uuid that is found here, too, now that it is in `state` at another node."""
    if state in (JobState.CANCELED, JobState.ABORTED):
        return
    writer.flush()
    row = writer.db.execute("SELECT id, state, reasons FROM job WHERE uuid = ?", (uuid,)).fetchone()
    if row is None:
        return
    job_id, here = row[0], STATE[row[1]]
    is_doubted = JobReason.JOB_IN_DOUBT in row[2].split()
    if is_doubted and state is not JobState.COMPLETED:
        return  # what waits there is held, when its printer is not that node's any more
    if is_doubted and holding.was_handed(writer.db, node, job_id):
        came_out = JobReason.JOB_COMPLETED_SUCCESSFULLY  # what was reserved for it pays
        message = "It came out at the node that had it."
        _end(writer, job_id, JobEvent.ASSUME, came_out, message, now_us)
    elif here in WAITING and _rank(state) > _rank(here):
        if not holding.can_have(writer.db, node, job_id):
            writer.events.append(store.ClaimRefused(UUID(bytes=uuid), job_id, node))
            return
        if state is JobState.PENDING and not holding.can_print(writer.db, node, job_id):
            return  # its printer was taken from that node, which holds what waits for it
        message = "It is printed at another node."
        _end(writer, job_id, JobEvent.CANCEL, JobReason.JOB_DONE_ELSEWHERE, message, now_us)
    elif here is JobState.COMPLETED and state in WAITING:
        writer.events.append(store.TwinFound(UUID(bytes=uuid)))
    elif state is JobState.COMPLETED and _came_out(writer, job_id):
        writer.events.append(store.PrintedTwice(UUID(bytes=uuid), job_id, node))
    elif state is JobState.COMPLETED and here in ACTIVE:
        writer.printed_elsewhere.add(uuid)


def cancel_too(
    writer: SqliteStore,
    node: UUID,
    uuid: bytes,
    reasons: Sequence[str],
    now_us: int,
    *,
    was_given: bool,
) -> None:
    """A node has canceled a job, for these reasons. So is it here, if that had given it to this
    node, or it is in doubt here whether it came out there.
    """
    if JobReason.JOB_DONE_ELSEWHERE in reasons:
        return
    writer.flush()
    row = writer.db.execute(
        "SELECT id, state, handed_by, reasons FROM job WHERE uuid = ? AND finished_us IS NULL",
        (uuid,),
    ).fetchone()
    if row is None:
        return
    job_id, state, handed_by, had = row
    if not was_given:
        is_doubted = JobReason.JOB_IN_DOUBT in had.split()
        if not is_doubted or not holding.was_handed(writer.db, node, job_id):
            return
    elif handed_by != identity_of(node) and not holding.can_have(writer.db, node, job_id):
        writer.events.append(store.ClaimRefused(UUID(bytes=uuid), job_id, node))
        return
    why = next((one for one in reasons if one in _CANCELED_FOR), JobReason.JOB_CANCELED_BY_USER)
    event, words = canceling(STATE[state], why)
    message = "It was canceled where it came from."
    _change(writer, store.ChangeJob(job_id, event, now_us, identity_of(node), words, message))


def _end(
    writer: SqliteStore, job_id: int, event: JobEvent, reason: JobReason, message: str, now_us: int
) -> None:
    """What waits here is at its end."""
    change = store.ChangeJob(
        job_id, event, now_us, reasons=(reason,), message=message, only_from=WAITING
    )
    _change(writer, change)


def _change(writer: SqliteStore, change: store.ChangeJob) -> None:
    """As far as the job lets itself be changed."""
    with suppress(OperationError):
        jobs.change_job(writer, change)


def is_canceled(db: sqlite3.Connection, identity: str, uuid: UUID) -> bool:
    """Whether the node with this identity has told that it canceled its job."""
    kind, _, guid = identity.partition(":")
    if kind != "node":
        return False
    row = db.execute(
        "SELECT 1 FROM remote_job WHERE uuid = ? AND node = ? AND state = ?",
        (uuid.bytes, UUID(guid).bytes, NUMBER[JobState.CANCELED]),
    ).fetchone()
    return row is not None


def load(writer: SqliteStore, db: sqlite3.Connection) -> None:
    """Which jobs are under way here, and have come out elsewhere."""
    under_way = ", ".join(str(NUMBER[one]) for one in ACTIVE)
    rows = db.execute(
        "SELECT job.uuid FROM job INDEXED BY job_unfinished "
        "JOIN remote_job ON remote_job.uuid = job.uuid AND remote_job.state = ? "
        f"WHERE job.finished_us IS NULL AND job.state IN ({under_way})",
        (NUMBER[JobState.COMPLETED],),
    )
    writer.printed_elsewhere = {row[0] for row in rows}


def merge_waiting(writer: SqliteStore, uuid: bytes, now_us: int) -> None:
    """Settle a uuid that waits here again, and came out elsewhere while an attempt went on."""
    found = writer.db.execute("SELECT node, state FROM remote_job WHERE uuid = ?", (uuid,))
    for node, state in found.fetchall():
        merge(writer, UUID(bytes=node), uuid, STATE[state], now_us)


def note_given(writer: SqliteStore, uuid: bytes) -> None:
    """A site has given a job to this node: it hears of its end, also of one that came before."""
    row = writer.db.execute(
        "SELECT 1 FROM job WHERE uuid = ? AND finished_us IS NOT NULL", (uuid,)
    ).fetchone()
    if row is not None:
        writer.events.append(store.TwinFound(UUID(bytes=uuid)))


def _rank(state: JobState) -> int:
    """Printed wins over released over held."""
    return 2 if state in _PRINTED else int(state is JobState.PENDING)


def _came_out(writer: SqliteStore, job_id: int) -> bool:
    """Whether a device of this node has printed it, instead of another node that was given it."""
    row = writer.db.execute(
        "SELECT 1 FROM attempt WHERE job_id = ? AND outcome = 'delivered' LIMIT 1", (job_id,)
    ).fetchone()
    return row is not None


# -- twins -------------------------------------------------------------------------------------

_GIVEN = f"remote_job.reasons LIKE '%{JobReason.JOB_WAITS_ELSEWHERE}%'"
_TWINS = (
    "SELECT remote_job.id, remote_job.node, remote_job.uuid, "
    f"iif({_GIVEN}, NULL, attempt.outcome), attempt.evidence "
    "FROM remote_job {index} CROSS JOIN job ON job.uuid = remote_job.uuid "
    "LEFT JOIN attempt ON attempt.job_id = job.id AND attempt.number = job.attempts "
    f"WHERE (job.state = {NUMBER[JobState.COMPLETED]} OR {_GIVEN} AND job.finished_us > 0) "
    "AND remote_job.finished_us IS NULL "
    f"AND remote_job.state IN ({', '.join(str(NUMBER[one]) for one in WAITING)}) "
)


class Twin(NamedTuple):
    """A job that was printed here and waits at `node`, as that has told; or that waits there for
    its end here, which has come.

    `is_its_own`: it was handed on to that very node, where somebody wants it once more.
    """

    key: int
    node: UUID
    uuid: UUID
    is_its_own: bool


def _twin(row: tuple[Any, ...]) -> Twin:
    key, node, uuid, outcome, packed = row
    is_its_own = outcome == "handed-on" and unpack(packed).get("node") == str(UUID(bytes=node))
    return Twin(key, UUID(bytes=node), UUID(bytes=uuid), is_its_own)


def twins_of(db: sqlite3.Connection, uuids: Sequence[UUID]) -> list[Twin]:
    """Where else these jobs wait."""
    sql = _TWINS.format(index="") + "AND remote_job.uuid = ?"
    return [_twin(row) for uuid in uuids for row in db.execute(sql, (uuid.bytes,))]


def twins_at(db: sqlite3.Connection, node: UUID, after: int, limit: int) -> list[Twin]:
    """A page of all that wait at a node, behind a key."""
    sql = _TWINS.format(index="INDEXED BY remote_job_unfinished") + (
        "AND remote_job.node = ? AND remote_job.id > ? ORDER BY remote_job.id LIMIT ?"
    )
    return [_twin(row) for row in db.execute(sql, (node.bytes, after, limit))]
