"""Idle devices are asked now and then how they are, so that nobody sees what was true last week.

In: the devices of printers that can be asked at any time. Out: nothing but what their drivers
remember, see `link.Telling`. A device with a job is left alone: its job asks it. Bounded: a few at
once, each for a few seconds, and one that does not answer less and less often.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

import trio

from spoold.dispatch.devices import Devices
from spoold.model.printer import Printer

AT_ONCE = 8
ASK_S = 10.0
LOOK_S = 5.0  # how often is looked who is to be asked
REST_MAX = 16  # intervals for which one that does not answer is left alone


@dataclass(slots=True)
class _Turn:
    at_s: float
    silences: int = 0  # in a row


class Refresh:
    """`active` has the devices with a job; the others are asked every `interval_s`."""

    def __init__(
        self,
        devices: Devices,
        printers: Mapping[int, Printer],
        active: Container[int],
        interval_s: float,
    ) -> None:
        self._devices = devices
        self._printers = printers
        self._active = active
        self._interval_s = interval_s
        self._turns: dict[int, _Turn] = {}
        self._room = trio.CapacityLimiter(AT_ONCE)

    async def run(self) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                for device_id in self._due(trio.current_time()):
                    await self._room.acquire_on_behalf_of(device_id)
                    nursery.start_soon(self._ask, device_id)
                await trio.sleep(LOOK_S)

    def _due(self, now_s: float) -> list[int]:
        """Who is to be asked now; a device that is new has its first turn after an interval."""
        turns: dict[int, _Turn] = {}
        for printer in self._printers.values():
            id_ = printer.device_id
            if printer.is_ours and id_ is not None and self._devices.is_telling(id_):
                turns[id_] = self._turns.get(id_) or _Turn(now_s + self._interval_s)
        self._turns = turns
        return [
            id_ for id_, turn in turns.items() if turn.at_s <= now_s and id_ not in self._active
        ]

    async def _ask(self, device_id: int) -> None:
        turn = self._turns[device_id]
        turn.at_s = float("inf")  # not twice at a time
        try:
            said = None
            with trio.move_on_after(ASK_S):
                said = await self._devices.ask(device_id)
            is_well = said is not None and said.reachable
            turn.silences = 0 if is_well else turn.silences + 1
        finally:
            rest = min(2**turn.silences, REST_MAX)
            turn.at_s = trio.current_time() + self._interval_s * rest
            self._room.release_on_behalf_of(device_id)
