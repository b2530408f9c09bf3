"""What each operation does to one job: plans, made for the job as it is read; pure.

A plan says the event, the states that it was made for, and what the job becomes; or it is refused,
with what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spoold.daemon.operations.watch import Known
from spoold.dispatch.verdict import fits
from spoold.model.errors import OperationError
from spoold.model.job import ACTIVE, WAITING, Job, JobReason, JobState
from spoold.model.policy import INDEFINITE, Hold
from spoold.model.printer import Printer
from spoold.model.transitions import JobEvent, canceling, decided, next_state
from spoold.spool.store import JobFilter

FOREVER = Hold(INDEFINITE, None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with one job. No event: it is as wanted already."""

    state: JobState
    event: JobEvent | None = None
    only_from: tuple[JobState, ...] = ()
    reasons: tuple[str, ...] = ()
    message: str = ""
    printer_id: int | None = None
    advice: str = ""
    hold: Hold | None = None
    ends: str = ""  # only this reason for which the job is held is over


# Decides for one job; raises OperationError when it cannot be done.
Planner = Callable[[Job], Plan]


def is_in_doubt(job: Job) -> bool:
    return job.state is JobState.PENDING_HELD and JobReason.JOB_IN_DOUBT in job.reasons


def _held_for(job: Job) -> tuple[tuple[str, ...], str]:
    """The reasons and the message of a held job; those of a pending one are its printer's."""
    return (job.reasons, job.message) if job.state is JobState.PENDING_HELD else ((), "")


def plan_hold(hold: Hold | None = FOREVER) -> Planner:
    """Hold a waiting job; None ends such a hold. One that is held for ever stays as it is."""
    reason = JobReason.JOB_HOLD_UNTIL_SPECIFIED

    def plan(job: Job) -> Plan:
        is_held = job.state is JobState.PENDING_HELD
        if hold is None:
            next_state(job.state, JobEvent.HOLD)
            if not is_held or reason not in job.reasons:
                return Plan(job.state)
            after = job.state if len(job.reasons) > 1 else JobState.PENDING
            return Plan(after, JobEvent.RELEASE, (JobState.PENDING_HELD,), ends=reason)
        if is_held and hold == FOREVER and (reason in job.reasons or not job.is_incoming):
            return Plan(job.state)  # its reasons, in doubt among them, must not be lost
        others, message = _held_for(job)
        return Plan(
            next_state(job.state, JobEvent.HOLD),
            JobEvent.HOLD,
            (job.state,),
            tuple(dict.fromkeys((*others, reason))),
            message,
            hold=hold,
        )

    return plan


def plan_release(job: Job) -> Plan:
    after = next_state(job.state, JobEvent.RELEASE)
    if is_in_doubt(job):
        raise OperationError(
            "not-possible",
            f"nobody knows whether job {job.id} printed.",
            f"Look at the printer, then `spoold job settle {job.id}`, printed or not printed.",
        )
    if job.is_incoming:
        hold = JobReason.JOB_HOLD_UNTIL_SPECIFIED
        if hold not in job.reasons:
            raise OperationError(
                "not-possible",
                "its document is still to come.",
                "Wait for it, or cancel the job.",
            )
        return Plan(job.state, JobEvent.RELEASE, (JobState.PENDING_HELD,), ends=hold)
    return Plan(after, JobEvent.RELEASE, (JobState.PENDING_HELD,))


def plan_release_by_owner(planner: Planner) -> Planner:
    """The owner of a job does not release what waits for somebody else's word."""

    def plan(job: Job) -> Plan:
        if JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH in job.reasons:
            raise OperationError(
                "not-possible",
                "its printer wants to know the owner better than it did.",
                "Submit it again after a login, or ask an operator.",
            )
        if JobReason.JOB_HELD_ON_CREATE in job.reasons:
            raise OperationError(
                "not-possible", "its printer holds new jobs.", "Ask an operator to release it."
            )
        return planner(job)

    return plan


def plan_release_of_many(which: JobFilter) -> Planner:
    """Releasing by filter leaves what may be cut off, unless the filter asks for just that."""

    def plan(job: Job) -> Plan:
        cut = JobReason.SUBMISSION_INTERRUPTED
        if cut in job.reasons and which.reason != cut:
            raise OperationError(
                "not-possible",
                "its submission was interrupted; the end may be missing.",
                f"Release it by its number, or choose by reason {cut.value}.",
            )
        return plan_release(job)

    return plan


def plan_cancel(why: JobReason) -> Planner:
    def plan(job: Job) -> Plan:
        event, reasons = canceling(job.state, why)
        only_from, advice = WAITING, ""
        if event is JobEvent.STOP:
            only_from, advice = ACTIVE, "It ends when its attempt has stopped."
        after = next_state(job.state, event)
        return Plan(after, event, only_from, reasons, advice=advice)

    return plan


def check_document(job: Job) -> None:
    """Let through a job whose document is there.

    Raises:
        OperationError: `not-possible`.
    """
    if job.document.stored in ("gone", "none"):
        cause = "is not kept any more" if job.document.stored == "gone" else "never came"
        raise OperationError("not-possible", f"its document {cause}.", "Submit the job again.")


def plan_retry(known: Known, hold: Hold | None = None) -> Planner:
    def plan(job: Job) -> Plan:
        after = next_state(job.state, JobEvent.RETRY)
        check_document(job)
        if job.printer_id not in known.printers:
            raise OperationError(
                "not-possible",
                "its printer was removed.",
                f"Print it on another one: `spoold job resubmit {job.id} --to PRINTER`.",
            )
        if hold is None:
            return Plan(after, JobEvent.RETRY, (job.state,))
        reasons = (JobReason.JOB_HOLD_UNTIL_SPECIFIED,)
        return Plan(JobState.PENDING_HELD, JobEvent.RETRY, (job.state,), reasons, hold=hold)

    return plan


def plan_move(to: Printer) -> Planner:
    def plan(job: Job) -> Plan:
        if job.state in ACTIVE:
            raise OperationError(
                "not-possible",
                "its bytes may have left already.",
                "Let it end, or cancel it and submit it again.",
            )
        after = next_state(job.state, JobEvent.MOVE)
        if job.printer_id == to.id:
            return Plan(job.state, advice=f"It is on {to.name} already.")
        if is_in_doubt(job):
            raise OperationError(
                "not-possible",
                "its bytes may have left; nobody knows whether it printed.",
                f"Look at the printer, then `spoold job settle {job.id}`.",
            )
        if not fits(job, to):
            raise OperationError(
                "not-possible",
                f"{to.name} does not take {job.document.format}.",
                f"It takes {', '.join(to.formats)[:200]}.",
            )
        if not job.owner.known.is_at_least(to.least_owner):
            raise OperationError(
                "not-possible",
                f"{to.name} wants owners to be {to.least_owner}; this one is {job.owner.known}.",
                "Move it to a printer that asks for less.",
            )
        held = job.state is JobState.PENDING_HELD
        return Plan(
            after,
            JobEvent.MOVE,
            (job.state,),
            *_held_for(job),
            to.id,
            f"It is still held: `spoold job release {job.id}`." if held else "",
        )

    return plan


def plan_settle(printed: bool) -> Planner:
    event = JobEvent.ASSUME if printed else JobEvent.REPRINT
    reasons = (JobReason.JOB_ASSUMED_PRINTED,) if printed else ()

    def plan(job: Job) -> Plan:
        if not is_in_doubt(job):
            raise OperationError(
                "not-possible", f"job {job.id} is not in doubt; it is {job.state}.", ""
            )
        then, after, _ = decided(job.state, event, job.reasons, reasons, has_more=job.has_more)
        advice = ""
        if after is JobState.PENDING_HELD:
            advice = "It is still held, as another node may have printed it: "
            advice += f"`spoold job release {job.id}`, or `spoold job cancel {job.id}`."
        elif then is JobEvent.NEXT:
            advice = f"It goes on with document {job.document_number + 1} of {job.documents}."
        return Plan(after, event, (JobState.PENDING_HELD,), reasons, advice=advice)

    return plan
