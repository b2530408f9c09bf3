"""A day that ends while things go wrong, and an allowance for each day.

In: worlds that begin a few seconds before midnight. What people have left of a day at sites goes
back to the application server, and is carried over; all that is looked at elsewhere must hold.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

from spoold.model.purse import Allowance, Period, Purse
from spoold.spool import postings
from spoold.spool.store import PutAllowance
from support.money import PAGE

if TYPE_CHECKING:
    from simulation.node import Life
    from simulation.world import World

DAILY = 0.1  # of all seeds
BEFORE_S = (2, 14)  # midnight, the world begins
DAY_US = 86_400_000_000
LOOK_S, OVER_US = 1.5, 1_000_000  # as `site/leftovers` has them, so that it happens


def begin_us(seed: int, midnight_us: int) -> int | None:
    """When such a world begins; None: it is no such world."""
    chance = Random(f"{seed}/periods")
    if chance.random() >= DAILY:
        return None
    before = timedelta(seconds=chance.uniform(*BEFORE_S))
    return midnight_us - round(before.total_seconds() * 1e6)


async def allow(world: World, hq: Life) -> None:
    """Before anything goes wrong."""
    chance, now_us = world.chance("allowances"), hq.wall_clock()
    guid = UUID(bytes=chance.randbytes(16), version=4)
    amount, most = (chance.randint(4, 30) * PAGE for _ in range(2))
    allowance = Allowance(guid, "everybody", amount, Period.DAY, most, now_us)
    await hq.journal.commit(PutAllowance(allowance, now_us))
    world.tell("hq", f"allows {amount} a day, and {most} from the day before")


def unrest(hq: Life) -> str:
    """What is left of a day that is over, and could come along into the next one, or was given
    beyond an allowance for each day; "" if nothing.
    """
    db = hq.store.db
    for (holder,) in db.execute("SELECT key FROM person").fetchall():
        every = sorted(postings.purses_of(db, UUID(bytes=holder)), key=lambda one: one.from_us)
        days = [one for one in every if one.allowance is not None]
        if days and (more := _beyond(hq, days)) > 0:
            return f"{more} was given beyond {len(days)} days"
        for before, after in pairwise(days):
            allowance = postings.allowance(db, before.allowance)
            came = postings.came_along(db, allowance, after, days)
            is_over = (before.until_us or 0) <= hq.wall_clock()  # it was not ahead some day
            if is_over and before.balance > 0 and came < allowance.carry_over:
                return f"{before.balance} of {before.period} could be carried over"
    return ""


def _beyond(hq: Life, days: list[Purse]) -> int:
    """How much more somebody was given than an allowance for each day since there is one."""
    db = hq.store.db
    allowance = postings.allowance(db, days[0].allowance)
    (given,) = db.execute(
        "SELECT coalesce(-sum(posting.amount), 0) FROM entry JOIN posting ON entry_id = entry.id "
        "JOIN purse ON purse.id = purse_id WHERE cause = 'grant' AND entry.holder = ? "
        "AND purse.guid = ?",
        (days[0].holder.bytes, postings.Own.GIVEN.guid.bytes),
    ).fetchone()
    first_us = min(days[0].from_us, allowance.from_us // DAY_US * DAY_US)
    return given - allowance.amount * ((days[-1].until_us - first_us) // DAY_US)
