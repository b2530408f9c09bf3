"""Emergencies at nodes whose card readers are broken: what waits for its owner comes out at once.

In: worlds in which that happens. Out: whether nothing was let out by one that was over. Until all
have ended by themselves a world is not quiet (`world.py`).
"""

from __future__ import annotations

from random import Random

from simulation.node import GUIDS
from simulation.work import PATIENCE_S, Work, may_fail
from simulation.world import NAMES
from spoold.codec import record as codec
from spoold.model.record import Kind
from spoold.spool.store import SetEmergency
from support.sites import stored

URGENT = 0.15  # of all seeds
STEPS = 4  # of so many kinds of steps, beside those of `Work`
WHO = "uid:0"
LASTS_S = 6.0  # at most
ENDS_S = 5.0  # in which whoever has looked at the clock has released what there was


class Emergencies:
    """Of one world."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._world = work.world

    async def declare(self, rng: Random) -> None:
        """An administrator lets held printers print for some seconds."""
        life = self._work.life(rng.choice(NAMES))
        if life is not None:
            with may_fail(life, PATIENCE_S):
                now_us = life.wall_clock()
                until_us = now_us + round(rng.uniform(1, LASTS_S) * 1e6)
                await life.journal.commit(SetEmergency(until_us, now_us, "dead readers", WHO))
                self._world.tell(life.name, f"has an emergency until {until_us}")

    async def check(self) -> None:
        for name in NAMES:
            life, until_us = self._world.lives[name], None
            for row in await stored(life, GUIDS[name]):
                told = codec.decode(*row)
                if told.kind == Kind.EMERGENCY_CHANGED:
                    until_us = told.payload["until_us"] or until_us
                elif told.kind == Kind.JOB_RELEASED and told.actor == WHO:
                    is_one = until_us is not None and told.event_us <= until_us + ENDS_S * 1e6
                    assert is_one, f"{told.payload['job']} of {name} was released by no emergency"


def begin(work: Work) -> Emergencies | None:
    """In some worlds; None: there is none."""
    work.world.is_urgent = work.world.chance("emergencies").random() < URGENT
    return Emergencies(work) if work.world.is_urgent else None
