"""What administrators change of printers at sites that are cut off, and what becomes of that.

In: worlds in which they do so. Out: whether it holds there until it is settled, and nothing of it
is left anywhere once it is. Until then a world is not quiet (`world.py`).
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from simulation.node import SITE_NAMES, Life
from simulation.work import PATIENCE_S, Work, may_fail
from simulation.world import NAMES
from spoold.model.printer import Printer
from spoold.spool import repairs
from spoold.spool.store import PutPrinter, RepairPrinter

HANDY = 0.15  # of all seeds
STEPS = 6  # of so many kinds of steps, beside those of `Work`
WHO = "uid:0"


class Repairs:
    """Of one world."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._world = work.world
        self._chance = work.world.chance("settling repairs")

    async def repair(self, rng: Random) -> None:
        """A printer of a site without a line is paused there, goes on, or has its device moved;
        or somebody at the application server settles what is known of it.
        """
        life = self._work.life(rng.choice(SITE_NAMES))
        if life is None:
            return
        if life.line.is_connected:
            await self._settle(rng)
            return
        with may_fail(life, PATIENCE_S):
            known = (await life.catalogue.look()).printers.values()
            ours = sorted((one for one in known if one.is_ours), key=lambda one: one.name)
            if ours:
                printer = rng.choice(ours)
                field, value = _choice(rng, printer)
                self._world.tell(life.name, f"has {field} of {printer.name} be {value}")
                now_us = life.wall_clock()
                await life.journal.commit(RepairPrinter(printer.guid, field, value, now_us, WHO))
                life.dispatcher.wake(printer.id)
        self._check_all()

    async def _settle(self, rng: Random) -> None:
        """Take one over, or have it taken back."""
        hq = self._work.life("hq")
        if hq is None:
            return
        with may_fail(hq, PATIENCE_S):
            told = (await hq.administer("site.overrides"))["overrides"]
            if told:
                one, accept = rng.choice(told), rng.random() < 0.5
                what = f"{'accepts' if accept else 'reverts'} {one['field']} of {one['printer']}"
                self._world.tell("hq", f"{what} at {one['site']}")
                await hq.administer(
                    "site.settle", name=one["printer"], site=one["site"], accept=accept
                )

    async def tidy(self) -> None:
        """All is settled, and what is paused goes on."""
        self._check_all()
        hq = self._work.life("hq")
        if hq is None:
            return
        await self._settle(self._chance)
        with may_fail(hq, PATIENCE_S):
            for printer in (await hq.catalogue.look()).printers.values():
                if printer.paused:
                    change = replace(printer, paused=False, pause_reason="")
                    await hq.journal.commit(PutPrinter(change, hq.wall_clock()))

    def _check_all(self) -> None:
        for name in SITE_NAMES:
            if (life := self._work.life(name)) is not None:
                _check(life)

    async def check(self) -> None:
        """All are settled (`unrest`), and each machine is where the application server has it."""
        for name in NAMES:
            life = self._world.lives[name]
            for printer in (await life.catalogue.look()).printers.values():
                assert not printer.paused, f"{printer.name} is paused for ever at {name}"


def _choice(rng: Random, printer: Printer) -> tuple[str, str | None]:
    which = rng.random()
    if which < 0.3:
        return repairs.DEVICE, f"machine://{printer.name}#{rng.randint(1, 3)}"
    return repairs.PAUSED, f"jam {rng.randint(1, 3)}" if which < 0.7 else None


def _check(site: Life) -> None:
    """What is repaired is so, whatever has come from upstream meanwhile."""
    for one in repairs.find_all(site.store.db, site.guid):
        value = repairs._value(*repairs._look(site.store.db, one.printer), one.field)
        what = f"{one.field} of a printer was repaired at {site.name}"
        assert value == one.value, f"{what} to be {one.value}, and is {value}"


def begin(work: Work) -> Repairs | None:
    """In some worlds; None: there is none."""
    work.world.is_handy = work.world.chance("repairs").random() < HANDY
    return Repairs(work) if work.world.is_handy else None
