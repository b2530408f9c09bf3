"""Clocks on the walls of nodes: some are wrong, and somebody sets them while nodes run.

In: a source of chance. Out: what each node takes for the time, now and at any moment before, so
that checks can tell when something was by the clock of another node.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from simulation.world import World

WRONG = 0.3  # of all seeds
SETTINGS_MOST = 4
HOUR_S, DAY_S = 3600.0, 86_400.0
RIGHTS_S = 8 * DAY_S  # after which those of a site are taken back, if nobody renews them
OFF_S = (2.0, 100.0, HOUR_S, DAY_S, 10 * DAY_S)


class Clock:
    """It began `begin_us` after the epoch, and goes as fast as all others."""

    def __init__(self, begin_us: int) -> None:
        self._begin_us = begin_us
        self._settings = [(0.0, 0)]  # from when on it is ahead, and by how much, in µs

    @property
    def was_set(self) -> bool:
        """Whether that was while its node ran."""
        return any(at_s > 0 for at_s, _ in self._settings)

    @property
    def leapt_s(self) -> float:
        """How far it was set ahead at most, or back."""
        found = [ahead_us for _, ahead_us in self._settings]
        return (max(found) - min(found)) / 1e6

    @property
    def latest_us(self) -> int:
        """The latest that it has ever shown."""
        ends_s = [*(at_s for at_s, _ in self._settings[1:]), trio.current_time()]
        shown = zip(ends_s, self._settings, strict=True)
        return max(self._begin_us + int(at_s * 1e6) + us for at_s, (_, us) in shown)

    def set(self, ahead_s: float) -> None:
        self._settings.append((trio.current_time(), round(ahead_s * 1e6)))

    def now_us(self) -> int:
        return self.shown_us(trio.current_time())

    def shown_us(self, at_s: float) -> int:
        """What it showed at a moment of the world."""
        ahead_us = next(us for since_s, us in reversed(self._settings) if since_s <= at_s)
        return self._begin_us + int(at_s * 1e6) + ahead_us


def make(names: Iterable[str], begin_us: int) -> dict[str, Clock]:
    """One that is right for each node."""
    return {name: Clock(begin_us) for name in names}


def begin(world: World) -> Random | None:
    """Some clocks are wrong from the beginning, in some worlds; None: all are right and stay so."""
    chance = world.chance("clocks")
    if chance.random() >= WRONG:
        return None
    for name in world.clocks:
        if chance.random() < 0.5:
            _set(world, name, _off_s(chance))
    return chance


async def be_set(world: World, chance: Random, seconds: float) -> None:
    """Somebody sets clocks, to what is right or to what is not: of machines that are down, if any
    is, as they get their time when they start.
    """
    moments = sorted(chance.uniform(0, seconds) for _ in range(chance.randint(0, SETTINGS_MOST)))
    begun_s = trio.current_time()
    for moment in moments:
        await trio.sleep_until(begun_s + moment)
        down = [name for name in world.clocks if name not in world.lives]
        is_right = chance.random() < 0.5
        _set(world, chance.choice(down or list(world.clocks)), 0.0 if is_right else _off_s(chance))


def _off_s(chance: Random) -> float:
    return chance.choice((-1, 1)) * chance.choice(OFF_S)


def _set(world: World, name: str, ahead_s: float) -> None:
    world.clocks[name].set(ahead_s)
    world.tell(name, f"has a clock that is ahead by {ahead_s:.0f} s")
