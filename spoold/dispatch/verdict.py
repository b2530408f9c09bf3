"""What a job becomes by the outcome of an attempt: pure rules, the same for all who end one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spoold.driver.handed_on import where_it_is
from spoold.model.job import Job, JobReason
from spoold.model.outcome import Blame, Deferred, Delivered, HandedOn, InDoubt, Outcome, Refused
from spoold.model.printer import Device, Printer, WhenInDoubt
from spoold.model.transitions import JobEvent

# A second attempt replaces what a first one left, so an interrupted one leaves no doubt.
IDEMPOTENT_SCHEMES = frozenset({"file", "spoold"})
MISFIT_REASONS = frozenset(
    {JobReason.DOCUMENT_FORMAT_ERROR.value, JobReason.UNSUPPORTED_DOCUMENT_FORMAT.value}
)
ANY_FORMAT = "application/octet-stream"  # the sender left it to the printer (RFC 8011 5.1.10)


def settle(outcome: Outcome, in_doubt: WhenInDoubt) -> tuple[JobEvent, tuple[str, ...], str]:
    """What a job becomes by an outcome: the event, the job's reasons and its message."""
    match outcome:
        case HandedOn(evidence):
            return JobEvent.HAND_ON, (JobReason.QUEUED_IN_DEVICE,), where_it_is(evidence)
        case Delivered():
            return JobEvent.DELIVER, (JobReason.JOB_COMPLETED_SUCCESSFULLY,), ""
        case Deferred(reason, detail):
            return JobEvent.DEFER, (reason,), detail
        case Refused(reason, detail):
            if reason in MISFIT_REASONS:
                return JobEvent.MISFIT, (reason,), detail
            if reason == JobReason.JOB_CANCELED_AT_DEVICE:
                return JobEvent.CANCELED, (reason,), detail
            return JobEvent.REFUSE, (JobReason.ABORTED_BY_SYSTEM,), said(reason, detail)
        case InDoubt(reason, detail):
            message = said(reason, detail)
    if in_doubt is WhenInDoubt.REPRINT:
        return JobEvent.REPRINT, (), f"Printed again: {message}"
    if in_doubt is WhenInDoubt.ASSUME_PRINTED:
        return JobEvent.ASSUME, (JobReason.JOB_ASSUMED_PRINTED,), message
    return JobEvent.DOUBT, (JobReason.JOB_IN_DOUBT,), message


def said(reason: str, detail: str) -> str:
    return ": ".join(part for part in (reason, detail) if part)


def interrupted(why: str, detail: str, is_clean: bool, device: Device | None) -> Outcome:
    """The outcome of an attempt that was interrupted from our side; `is_clean`: no byte left."""
    reason = JobReason.SERVICE_OFF_LINE
    if is_clean or (device is not None and device.scheme in IDEMPOTENT_SCHEMES):
        return Deferred(reason, why, Blame.NODE)
    return InDoubt(reason, f"{why}: {detail}")


def canceled(bytes_sent: int, is_clean: bool) -> Deferred | InDoubt:
    """The outcome of an attempt that an operator's cancel stopped, with its evidence."""
    reason = JobReason.PROCESSING_TO_STOP_POINT
    if is_clean:
        return Deferred(reason, "Canceled before the first byte.", Blame.NODE)
    how_far = f"after {bytes_sent} bytes" if bytes_sent else "when bytes may have left"
    return InDoubt(reason, f"Canceled {how_far}.", bytes_sent)


def canceled_reasons(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons of a job that has stopped, from those of the request to stop it."""
    kept = tuple(each for each in reasons if each != JobReason.PROCESSING_TO_STOP_POINT)
    return kept or (JobReason.JOB_CANCELED_BY_OPERATOR.value,)


def fits(job: Job, printer: Printer) -> bool:
    """Whether the printer takes documents of this format, as they are or converted."""
    format_ = job.document.format
    if format_ == ANY_FORMAT or printer.takes(format_):
        return True
    return printer.conversion_for(format_) is not None


def with_notes(outcome: Outcome, notes: dict[str, Any]) -> Outcome:
    """The outcome with what was noted before it; where the two differ, the outcome holds."""
    if isinstance(outcome, Delivered | InDoubt | Refused):
        return replace(outcome, evidence={**notes, **outcome.evidence})
    return outcome
