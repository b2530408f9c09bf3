"""Attempts that a crash cut off, at the next start, before anything is printed.

Where the device can be asked what became of the job, its driver goes on with the attempt. Else, or
when the device has been given another address meanwhile, nobody knows how much of such a job had
left: it gets an end, and its printer's policy says what becomes of it, but for a device on which a
second attempt replaces what a first one left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import structlog
import trio

from spoold.dispatch import attempt as attempts
from spoold.dispatch.attempt import Journal, Stop, note_refusals
from spoold.dispatch.devices import Devices
from spoold.dispatch.queues import Choice
from spoold.dispatch.verdict import canceled, canceled_reasons, interrupted, settle
from spoold.driver.link import Delivery, Driver, Progress, Resuming
from spoold.model.job import ACTIVE, Job, JobReason, JobState
from spoold.model.outcome import Outcome
from spoold.model.printer import Device, Printer, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import Attempt, Change, EndAttempt

log = structlog.get_logger("spoold.dispatch")

ENDS_A_COMMIT = 256
CUT_OFF = "interrupted by a restart"


class OpenAttempts(Protocol):
    async def job(self, job_id: int) -> Job | None: ...
    async def open_attempts(self) -> list[Attempt]: ...


async def settle_open_attempts(
    reader: OpenAttempts,
    journal: Journal,
    printers: Mapping[int, Printer],
    devices: Devices,
    wall_clock: Callable[[], int],
) -> list[tuple[Attempt, Job]]:
    """Every attempt without an end has one, and its job goes on as that says; but for those that
    are returned: their devices, one each, can be asked about them.

    Raises:
        StoreFailed: the journal failed.
    """
    ends: list[Change] = []
    resumed: dict[int, tuple[Attempt, Job]] = {}
    for attempt in await reader.open_attempts():
        if not attempt.device_id:
            continue  # another node was given the job, and says whether it has it
        job = await reader.job(attempt.job_id)
        if job is None or job.state not in ACTIVE:
            continue
        device = devices.get(attempt.device_id)
        is_there = device is not None and attempt.device_uri in ("", device.uri)
        if device is not None and not is_there:
            device = replace(device, uri=attempt.device_uri)  # where it was then
        if (
            device is not None
            and is_there
            and device.id not in resumed
            and attempt.printer_id in printers
            and attempt.number == job.attempts
            and devices.can_resume(device)
        ):
            resumed[device.id] = attempt, job
            continue
        printer = printers.get(job.printer_id)
        in_doubt = printer.in_doubt if printer is not None else WhenInDoubt.HOLD
        end = end_of(attempt, job, in_doubt, device, wall_clock())
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
    return list(resumed.values())


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
        outcome = interrupted(CUT_OFF, detail, False, device)
        event, reasons, message = settle(outcome, in_doubt)
    return EndAttempt(job.id, attempt.number, outcome, event, reasons, now_us, message)


class Resumption(attempts.Attempt):
    """An attempt that goes on: it has its mark, and the driver asks its device about it first."""

    def __init__(self, found: Attempt, job: Job, choice: Choice, *rest: Any, **more: Any) -> None:
        super().__init__(choice, *rest, **more)
        self._found = found
        self._is_marked = self.may_have_sent = self._can_resume = True
        self.number = found.number
        self.progress = Progress(found.bytes_sent)
        self.is_stalled = self._was_stalled = job.state is JobState.PROCESSING_STOPPED
        if JobReason.PROCESSING_TO_STOP_POINT in job.reasons:
            # To be canceled: the driver still has to take it back from the device.
            self.stopped, self.stop_reasons = Stop.CANCELED, job.reasons
            self._scope.deadline = trio.current_time() + self._settings.end_s

    def _unfit(self) -> Outcome | None:
        """Whether it fits is no question any more: it was handed to the device before."""
        if self.loading.source is None:
            detail = f"its document is not there: {self.loading.error or 'the job is gone'}"
            return interrupted(CUT_OFF, detail, False, self._device)
        return None

    def _is_clean(self) -> bool:
        return False

    async def _ask(self, driver: Driver, delivery: Delivery) -> Outcome:
        delivery.number = self._found.number
        delivery.notes |= self._found.evidence
        delivery.is_canceled = self.stopped is Stop.CANCELED
        outcome = await driver.resume(delivery) if isinstance(driver, Resuming) else None
        if outcome is None:
            detail = "the device does not know how much had left"
            outcome = interrupted(CUT_OFF, detail, False, self._device)
        return outcome
