"""What people may spend at a site beyond its rights, as its policy says where nobody can be asked.

In: worlds in which an administrator has decided so in advance, for each site. Out: the policies;
and whether what people owe is within the stated caps at every moment, at each site and upstream.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from simulation.node import GUIDS, SITE_NAMES, Life
from spoold.model.node import LineState
from spoold.model.offline import OfflinePolicy, RightsOut
from spoold.model.purse import PayerKind, PurseKind
from spoold.spool.store import Adjust, PutAccount, PutPolicy
from support.money import PAGE

if TYPE_CHECKING:
    from simulation.world import World

GENEROUS = 0.15  # of all seeds
COPIES = 8  # of so many kinds of steps, beside those of `Work`
RULES = (RightsOut.DENY, RightsOut.ACCOUNT, RightsOut.OVERDRAFT, RightsOut.OVERDRAFT)
ACCOUNT = "offline"
_OWED = "SELECT holder, -balance FROM purse WHERE kind = 'overdraft' AND balance < 0"


class Policies:
    """Of one world."""

    def __init__(self, world: World, chance: Random) -> None:
        self._world = world
        self._chance = chance
        self._outages: Counter[str] = Counter()

    async def decide(self, hq: Life) -> None:
        """Before anything goes wrong. The shared account has some money of its own."""
        chance, now_us = self._chance, hq.wall_clock()
        account = await hq.journal.commit(
            PutAccount(ACCOUNT, now_us, is_new=True, is_restricted=True)
        )
        paid = Adjust(
            chance.randbytes(16), PayerKind.ACCOUNT, account.guid, chance.randint(5, 60) * PAGE,
            "for bad days", now_us, "uid:0", PurseKind.CREDIT,
        )  # fmt: skip
        await hq.journal.commit(paid)
        for site in SITE_NAMES:
            rule = chance.choice(RULES)
            cap = chance.randint(1, 8) * PAGE if rule is RightsOut.OVERDRAFT else 0
            self._world.caps[site] = cap
            policy = OfflinePolicy(rights_out=rule, account=ACCOUNT, overdraft=cap)
            await hq.journal.commit(PutPolicy(GUIDS[site], policy, now_us))
            self._world.tell("hq", f"lets {site} {rule} {cap}")

    # -- at every moment -------------------------------------------------------------------------

    def watch(self, world: World, life: Life) -> None:
        """Look at a node that has just begun to live: each life of a site is an outage more."""
        if life.is_site:
            self._outages[life.name] += 1
            life.line.listen(partial(self._note_line, life.name))
        life.journal.listen(lambda events: self._check(life))

    def _note_line(self, site: str, state: LineState) -> None:
        self._outages[site] += state is LineState.GONE

    def _check(self, life: Life) -> None:
        if self._world.put_backs:
            return  # what was spent twice is owed
        most = self._world.caps.get(life.name, 0)
        if not life.is_site:
            most = sum(cap * self._outages[site] for site, cap in self._world.caps.items())
        for holder, owed in life.store.db.execute(_OWED).fetchall():
            assert owed <= most, f"{holder.hex()} owes {owed} at {life.name}, not {most} at most"


def begin(world: World) -> Policies | None:
    """Policies of sites, in some worlds; None: sites deny whatever is beyond their rights."""
    chance = world.chance("policies")
    if chance.random() >= GENEROUS:
        return None
    found = Policies(world, chance)
    world.watches.append(found.watch)
    return found
