"""Idle devices that are offered to whoever accepts the next job; see `spool.claims`.

A job that comes for such a printer has its durable mark with the commit that accepts it: one wait
less between a job and its paper. Only the device that has just delivered stands ready so, and only
for its own printer's jobs, with none waiting. Whatever else becomes of printer, device or queue
ends the offer, before the next commit can take it up.
"""

from __future__ import annotations

from typing import Protocol

from spoold.dispatch.queues import Choice

OFFERS_MAX = 64  # so many attempts more than may run at once can come of them


class Claims(Protocol):
    def offer(self, printer_id: int, device_id: int) -> None: ...
    def take(self, printer_id: int) -> int | None: ...


class Offers:
    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._printers: dict[int, int] = {}  # device -> printer
        self._devices: dict[int, int] = {}  # and the other way round
        self._is_closed = False

    def make(self, choice: Choice) -> None:
        """The device that has delivered this stands ready."""
        if self._is_closed or len(self._printers) >= OFFERS_MAX:
            return
        self._printers[choice.device_id] = choice.printer_id
        self._devices[choice.printer_id] = choice.device_id
        self._claims.offer(choice.printer_id, choice.device_id)

    def forget(self, printer_id: int) -> None:
        """What the journal has told of the printer ends its offer, taken up or not."""
        device_id = self._devices.pop(printer_id, None)
        if device_id is not None:
            del self._printers[device_id]
            self._claims.take(printer_id)

    def withdraw(self, device_id: int) -> bool:
        """Take the device back. False when a commit that is under way has taken it up: what comes
        of that is heard with its end.
        """
        printer_id = self._printers.get(device_id)
        if printer_id is None:
            return True
        if self._claims.take(printer_id) is None:
            return False
        del self._printers[device_id], self._devices[printer_id]
        return True

    def close(self) -> bool:
        """Withdraw all, and make no more; whether that was in time for all of them."""
        self._is_closed = True
        left = [device_id for device_id in list(self._printers) if not self.withdraw(device_id)]
        return not left
