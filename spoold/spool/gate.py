"""Where jobs stop on their way to a printer: until their owner releases them, or they are cleared.

Every change that would let a job print passes here, inside the writer's transaction, whatever port
and operation it came by. Only `release.release_job` opens the gate.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from spoold.model.errors import OperationError
from spoold.model.job import AWAITS_RELEASE, JobReason, JobState
from spoold.model.printer import Printer
from spoold.model.transitions import OF_DOUBT, JobEvent
from spoold.spool.rows import printer_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

_RELEASE = JobReason.JOB_RELEASE_WAIT.value
_COUNT = JobReason.JOB_BEING_COUNTED.value
_COMES = frozenset({JobEvent.SUBMIT, JobEvent.RETRY, JobEvent.MOVE})
_GOES_BACK = frozenset({JobEvent.HOLD, JobEvent.MISFIT})
# It waits for that already, or where it has a gate of its own, or is to be settled first.
_NO_GATE = frozenset({_RELEASE, JobReason.JOB_WAITS_ELSEWHERE, JobReason.JOB_IN_DOUBT})


def load(writer: SqliteStore, db: sqlite3.Connection) -> None:
    """Learn which printers have a gate."""
    writer.gates = {}
    for row in db.execute(
        "SELECT id, guid, name, device_id, fields FROM printer WHERE name IS NOT NULL"
    ):
        learn(writer, printer_of(*row))


def learn(writer: SqliteStore, printer: Printer) -> None:
    """The printer is as it is from now on."""
    reason = None
    is_at_site = writer.upstream is not None
    if printer.is_ours or printer.waits_anywhere(is_at_site):  # else its owner holds the jobs
        is_secure = printer.release.is_secure
        reason = _RELEASE if is_secure else _COUNT if printer.clears_jobs else None
    if reason is None:
        writer.gates.pop(printer.id, None)
    else:
        writer.gates[printer.id] = reason


def on_arrival(writer: SqliteStore, printer_id: int, reasons: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons for which a job that comes whole is held, those of its printer among them."""
    reason = writer.gates.get(printer_id)
    if reason is None or reason in reasons:
        return reasons
    return (*reasons, reason)


def after_change(
    writer: SqliteStore,
    job_id: int,
    printer_id: int,
    event: JobEvent,
    before: tuple[str, ...],
    after: JobState,
    reasons: tuple[str, ...],
    *,
    has_begun: bool,
) -> tuple[JobState, tuple[str, ...]]:
    """What a job becomes by an event, with what its printer has to say.

    `before` are the reasons that it had. `has_begun`: a document of it is printed, and others
    follow.

    Raises:
        OperationError: `not-possible`: it waits for nothing but its owner at a machine, or is to be
            settled and waits for that.
    """
    reason = writer.gates.get(printer_id)
    if reason is None or after.is_final or has_begun:
        return after, reasons
    if event in OF_DOUBT and not AWAITS_RELEASE.isdisjoint(before):
        raise OperationError("not-possible", "the job is not in doubt: it waits.")
    is_paid = reason == _COUNT and job_id in writer.reserved
    held = JobState.PENDING_HELD
    if event in _COMES and not is_paid and AWAITS_RELEASE.isdisjoint(reasons):
        return held, (*reasons, reason)
    if event is JobEvent.REPRINT and not is_paid and not has_passed(writer.db, job_id):
        # The node that had it may have let it print; here nobody has.
        return held, (*reasons, reason)
    if event in _GOES_BACK and reason == _RELEASE and _NO_GATE.isdisjoint(reasons):
        return held, (*reasons, reason)
    if event is JobEvent.RELEASE and not is_paid:
        awaited = tuple(one for one in before if one in AWAITS_RELEASE)
        if reason == _RELEASE:
            _check_other(before, awaited)
            return held, awaited or (reason,)
        if before == (_COUNT,):
            raise OperationError(
                "not-possible", "the job is being counted.", "It goes on by itself."
            )
        return held, (reason,)
    return after, reasons


def has_passed(db: sqlite3.Connection, job_id: int) -> bool:
    """Whether a job was let through at this node: it was released, or tried at a device here."""
    row = db.execute(
        "SELECT 1 FROM release WHERE job_id = ?1 UNION ALL "
        "SELECT 1 FROM attempt WHERE job_id = ?1 AND device_id != 0 LIMIT 1",
        (job_id,),
    ).fetchone()
    return row is not None


def _check_other(before: tuple[str, ...], awaited: tuple[str, ...]) -> None:
    """Let through a release that ends something else than the wait for the owner."""
    if awaited and len(awaited) == len(before):
        raise OperationError(
            "not-possible",
            "its printer keeps jobs until their owner stands at the machine.",
            "Release it there, or ask an operator.",
        )


def after_hold(
    writer: SqliteStore, job_id: int, printer_id: int, left: tuple[str, ...]
) -> tuple[str, ...]:
    """The reasons that a job has left when one of them is over."""
    if left or job_id in writer.reserved:
        return left
    return on_arrival(writer, printer_id, left)
