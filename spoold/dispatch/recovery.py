"""Attempts that a crash cut off: each gets an end at the next start, before anything is printed.

Nobody knows how much of such a job had left. So its printer's policy says what becomes of it, but
for a device on which a second attempt replaces what a first one left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from spoold.dispatch.attempt import (
    Journal,
    canceled,
    canceled_reasons,
    interrupted,
    note_refusals,
    settle,
)
from spoold.model.job import Job, JobReason, JobState
from spoold.model.outcome import Outcome
from spoold.model.printer import Device, Printer, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import Attempt, Change, EndAttempt

log = structlog.get_logger("spoold.dispatch")

ACTIVE = (JobState.PROCESSING, JobState.PROCESSING_STOPPED)
ENDS_A_COMMIT = 256


class OpenAttempts(Protocol):
    async def job(self, job_id: int) -> Job | None: ...
    async def open_attempts(self) -> list[Attempt]: ...


async def settle_open_attempts(
    reader: OpenAttempts,
    journal: Journal,
    printers: Mapping[int, Printer],
    devices: Mapping[int, Device],
    wall_clock: Callable[[], int],
) -> None:
    """Every attempt without an end has one, and its job goes on as that says.

    Raises:
        StoreFailed: the journal failed.
    """
    ends: list[Change] = []
    for attempt in await reader.open_attempts():
        job = await reader.job(attempt.job_id)
        if job is None or job.state not in ACTIVE:
            continue
        printer = printers.get(job.printer_id)
        in_doubt = printer.in_doubt if printer is not None else WhenInDoubt.HOLD
        end = end_of(attempt, job, in_doubt, devices.get(attempt.device_id), wall_clock())
        ends.append(end)
        log.warning(
            "attempt_interrupted",
            job_uuid=str(job.uuid),
            printer=printer.name if printer is not None else "",
            detail=end.message,
        )
    for start in range(0, len(ends), ENDS_A_COMMIT):
        group = ends[start : start + ENDS_A_COMMIT]
        note_refusals(group, await journal.commit_all(group))


def end_of(
    attempt: Attempt, job: Job, in_doubt: WhenInDoubt, device: Device | None, now_us: int
) -> EndAttempt:
    """The end of an attempt that a crash cut off."""
    outcome: Outcome
    if JobReason.PROCESSING_TO_STOP_POINT in job.reasons:
        outcome = canceled(0, is_clean=False)
        event, reasons = JobEvent.CANCELED, canceled_reasons(job.reasons)
        message = "Canceled before a restart."
    else:
        detail = "nobody knows how much had left"
        outcome = interrupted("interrupted by a restart", detail, False, device)
        event, reasons, message = settle(outcome, in_doubt)
    return EndAttempt(job.id, attempt.number, outcome, event, reasons, now_us, message)
