"""How the printers are doing, for whoever asks: what is tried, what failed, since when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import trio

from spoold.dispatch.attempt import Attempt
from spoold.dispatch.devices import Devices
from spoold.dispatch.schedule import Schedule
from spoold.model.printer import Printer


@dataclass(frozen=True, slots=True)
class PrinterStatus:
    """How a printer is doing now. `reasons` are printer-state-reasons (RFC 8011 5.4.12).

    `retry_at_us` is when its device is tried again after `failures` in a row, or None. `changed_us`
    is since when it is in this state (printer-state-change-time). `supplies` are as the device
    said at `said_us`, see `link.DeviceStatus`; None when it has not said anything lately.
    """

    state: str = "idle"  # idle, processing, stopped
    reasons: tuple[str, ...] = ()
    message: str = ""
    retry_at_us: int | None = None
    failures: int = 0
    active_job_id: int | None = None
    bytes_sent: int = 0
    changed_us: int = 0
    supplies: tuple[dict[str, Any], ...] = ()
    said_us: int | None = None


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a device is not tried now."""

    reason: str
    detail: str


class Statuses:
    """Kept by the dispatcher, whose tables it reads: `active` has the attempt of each busy device.

    It never waits. All points of time are UTC in µs.
    """

    def __init__(
        self,
        printers: Mapping[int, Printer],
        devices: Devices,
        active: Mapping[int, Attempt],
        schedule: Schedule,
        wall_clock: Callable[[], int],
    ) -> None:
        self._printers = printers
        self._devices = devices
        self._active = active
        self._schedule = schedule
        self._wall_clock = wall_clock
        self._troubles: dict[int, _Trouble] = {}
        # Since when devices do what they do, and printers are paused or not.
        self._started_us = wall_clock()
        self._moved_us: dict[int, int] = {}
        self._paused_us: dict[int, int] = {}

    # -- what the dispatcher tells ---------------------------------------------------------

    def device_moved(self, device_id: int) -> None:
        """The device has begun to work, or has stopped."""
        self._moved_us[device_id] = self._wall_clock()

    def device_failed(self, device_id: int, reason: str, detail: str) -> None:
        self._troubles[device_id] = _Trouble(reason, detail)
        self.device_moved(device_id)

    def device_is_well(self, device_id: int) -> None:
        self._troubles.pop(device_id, None)

    def printer_paused(self, printer_id: int) -> None:
        """The printer is paused from now on, or is no more."""
        self._paused_us[printer_id] = self._wall_clock()

    # -- who asks --------------------------------------------------------------------------

    def of(self, printer_id: int) -> PrinterStatus:
        """How the printer is doing."""
        printer = self._printers.get(printer_id)
        if printer is None:
            return PrinterStatus()
        status = self._of_pool(printer) if printer.is_pool else self._of(printer, printer.id)
        devices = (self._printers[id_].device_id for id_ in self._schedule.members(printer_id))
        moved_us = [self._moved_us[id_] for id_ in devices if id_ in self._moved_us]
        paused_us = self._paused_us.get(printer_id, 0)
        return replace(status, changed_us=max(self._started_us, paused_us, *moved_us))

    def trying(self, printer_id: int) -> int | None:
        """The job that the printer, or a member of the pool, is tried with: no byte has left."""
        for attempt in self._active.values():
            if _is_for(attempt, printer_id) and attempt.number is None and not attempt.is_ended:
                return attempt.choice.job_id
        return None

    def _of_pool(self, pool: Printer) -> PrinterStatus:
        found = [self._of(self._printers[id_], pool.id) for id_ in self._schedule.members(pool.id)]
        for status in found:
            if status.active_job_id is not None:
                return status
        if pool.paused:
            return PrinterStatus("stopped", ("paused",), pool.pause_reason)
        if found and all(status.state == "stopped" for status in found):
            return min(found, key=lambda status: status.retry_at_us or float("inf"))
        return PrinterStatus()

    def _of(self, printer: Printer, queue_id: int) -> PrinterStatus:
        """How a printer does, as far as jobs of `queue_id` (itself, or its pool) go."""
        device_id = printer.device_id
        assert device_id is not None
        failures = self._schedule.failures(device_id)
        said = self._devices.last_said(device_id)
        supplies = said.supplies if said is not None else ()
        said_us = self._wall_clock() - round(said.age_s * 1_000_000) if said is not None else None
        attempt = self._active.get(device_id)
        if attempt is not None and _is_for(attempt, queue_id) and self._works(printer, attempt):
            progress = attempt.progress
            moving = ("moving-to-paused",) if printer.paused else ()
            return PrinterStatus(
                "processing",
                (*progress.reasons, *moving),
                progress.detail,
                None,
                failures,
                attempt.choice.job_id,
                progress.bytes_sent,
                supplies=supplies,
                said_us=said_us,
            )
        reasons: tuple[str, ...] = ()
        message = ""
        trouble = self._troubles.get(device_id)
        if failures and trouble is not None:
            reasons, message = (trouble.reason,), trouble.detail
        if printer.paused:
            reasons, message = ("paused", *reasons), printer.pause_reason or message
        if said is not None:
            reasons = tuple(dict.fromkeys((*reasons, *said.reasons)))
            message = message or said.detail
        state = "stopped" if printer.paused or failures else "idle"
        retry_at_us = self._retry_at_us(device_id)
        return PrinterStatus(
            state, reasons, message, retry_at_us, failures, supplies=supplies, said_us=said_us
        )

    def _works(self, printer: Printer, attempt: Attempt) -> bool:
        """Whether the printer prints: a device that did well until now from the first try on."""
        if printer.paused or self._schedule.failures(attempt.choice.device_id):
            return attempt.is_sending
        return not attempt.is_ended

    def _retry_at_us(self, device_id: int) -> int | None:
        now_s = trio.current_time()
        until_s = self._schedule.retry_at_s(device_id, now_s)
        if until_s is None:
            return None
        return self._wall_clock() + round((until_s - now_s) * 1_000_000)


def _is_for(attempt: Attempt, queue_id: int) -> bool:
    return queue_id in (attempt.choice.queue_id, attempt.choice.printer_id)
