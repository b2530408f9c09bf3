"""What outcomes say of devices: one works, or is to be left alone for a time; and the log of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import structlog
import trio

from spoold.dispatch.attempt import Attempt, Ended
from spoold.dispatch.devices import Devices
from spoold.dispatch.schedule import Schedule
from spoold.dispatch.status import Statuses
from spoold.model.outcome import Blame, Deferred, Delivered, InDoubt, Refused
from spoold.model.printer import Printer

log = structlog.get_logger("spoold.dispatch")


class Judge:
    """`deferrals` counts the attempts that left nothing on paper, by printer."""

    def __init__(
        self,
        printers: Mapping[int, Printer],
        devices: Devices,
        schedule: Schedule,
        statuses: Statuses,
    ) -> None:
        self._printers = printers
        self._devices = devices
        self._schedule = schedule
        self._statuses = statuses
        self.deferrals: Counter[int] = Counter()

    def hear(self, attempt: Attempt, ended: Ended) -> None:
        """An attempt has ended."""
        match ended.outcome:
            case Delivered():
                if self._schedule.succeed(attempt.choice.device_id):
                    self._statuses.device_is_well(attempt.choice.device_id)
                    log.info("device_reachable", **self._names(attempt))
            case Deferred(reason, detail, blame, asked_s):
                if blame is Blame.PRINTER:
                    self._fail(attempt, reason, detail, asked_s)
                self.deferrals[attempt.choice.printer_id] += 1
                self._note("attempt_deferred", attempt, reason, detail)
            case InDoubt(reason, detail):
                if ended.stop is None:
                    self._fail(attempt, reason, detail, None)
                self._note("attempt_in_doubt", attempt, reason, detail)
            case Refused(reason, detail) if not ended.is_misfit:
                self._note("attempt_refused", attempt, reason, detail)

    def _note(self, event: str, attempt: Attempt, reason: str, detail: str) -> None:
        printer = self.name(attempt.choice.printer_id)
        log.info(event, job_uuid=attempt.uuid, printer=printer, reason=reason, detail=detail)

    def _fail(self, attempt: Attempt, reason: str, detail: str, asked_s: float | None) -> None:
        device_id = attempt.choice.device_id
        if not self._schedule.failures(device_id):
            log.warning("device_unreachable", reason=reason, detail=detail, **self._names(attempt))
        self._statuses.device_failed(device_id, reason, detail)
        self._schedule.fail(device_id, trio.current_time(), asked_s)

    def name(self, printer_id: int) -> str:
        printer = self._printers.get(printer_id)
        return printer.name if printer is not None else f"printer {printer_id}"

    def _names(self, attempt: Attempt) -> dict[str, str]:
        device = self._devices[attempt.choice.device_id]
        return {"printer": self.name(attempt.choice.printer_id), "device": device.uri}
