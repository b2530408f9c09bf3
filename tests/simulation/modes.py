"""Printers that keep jobs for their owners from some moment on, or no longer, and cost something.

In: worlds in which an administrator changes that while jobs are on their way. Out: which printers
did not cost the same all the time (`check.py`); all else must hold as ever.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from simulation.node import Life
from simulation.work import Work
from spoold.model.release import Charging, ReleaseMode
from spoold.spool.store import PutPrinter

MOODY = 0.15  # of all seeds
STEPS = 4  # of so many kinds of steps, beside those of `Work`
_OTHER = {
    ReleaseMode.HOLD: ReleaseMode.IMMEDIATE,
    ReleaseMode.IMMEDIATE: ReleaseMode.HOLD,
    Charging.ON: Charging.OFF,
    Charging.OFF: Charging.ON,
}


class Modes:
    """Of one world."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._world = work.world

    async def change(self, rng: Random) -> None:
        """One of a printer's two modes is the other one from now on."""

        async def make(life: Life) -> PutPrinter:
            printers = [one for one in await self._work.printers(life) if not one.is_find_me]
            printer = rng.choice(printers)
            if rng.random() < 0.6:
                changed = replace(printer, release=_OTHER[printer.release])
            else:
                changed = replace(printer, charging=_OTHER[printer.charging])
                self._world.recharged.add(printer.name)
            modes = f"{changed.release} and {changed.charging}"
            self._world.tell("hq", f"has {printer.name} {modes}")
            return PutPrinter(changed, life.wall_clock())

        await self._work.change(make)


def begin(work: Work) -> Modes | None:
    """In some worlds; None: there is none."""
    return Modes(work) if work.world.chance("modes").random() < MOODY else None
