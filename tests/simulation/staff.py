"""What staff at the application server have done to jobs that stand at sites (`site/errands.py`).

In: jobs as the application server has heard of them. Out: what was asked of which site, and how
that was answered; and whether the journals of the sites agree: what was done was done once, and
what was refused, as a site did not answer in time, is never done later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any
from uuid import UUID

from simulation.node import GUIDS, SITE_NAMES, Life
from simulation.work import Work, may_fail
from spoold.codec import record as codec
from spoold.model.errors import OperationError
from spoold.model.record import Kind, Record
from spoold.model.transitions import JobEvent
from support.sites import stored

PATIENCES_S = (0.2, 15.0)
OPERATIONS = ("job.cancel", "job.hold", "job.set", "job.set")
STEPS = 3  # of so many kinds of steps, beside those of `Work`
# What stands at a site, and not at the application server as well.
_THERE = (
    "SELECT uuid, node FROM remote_job WHERE finished_us IS NULL "
    "AND uuid NOT IN (SELECT uuid FROM job) ORDER BY id"
)
_NAMES = {GUIDS[name].bytes: name for name in SITE_NAMES}
_EVENTS = {
    JobEvent.HOLD.value: "job.hold",
    JobEvent.CANCEL.value: "job.cancel",
    JobEvent.STOP.value: "job.cancel",
}


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass
class Errand:
    """`title` is what a job is to be called, and no other."""

    op: str
    uuid: UUID
    site: str
    title: str
    outcome: Outcome = Outcome.UNKNOWN

    @property
    def key(self) -> tuple[str, UUID, str]:
        return self.op, self.uuid, self.title


class Staff:
    """Of one world."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._world = work.world
        self._errands: list[Errand] = []

    async def send(self, rng: Random) -> None:
        """Have something done to a job at a site, and wait for the answer, or not so long."""
        hq = self._work.life("hq")
        if hq is None:
            return
        with may_fail(hq, rng.choice(PATIENCES_S)):
            found = await hq.reader._all(_THERE)
            if found:
                uuid, node = rng.choice(found)
                op, number = rng.choice(OPERATIONS), len(self._errands)
                title = f"title {number}" if op == "job.set" else ""
                one = Errand(op, UUID(bytes=uuid), _NAMES[node], title)
                self._errands.append(one)
                await self._ask(hq, one)

    async def _ask(self, hq: Life, one: Errand) -> None:
        if one.op == "job.cancel":
            self._work.deals[one.uuid].is_dropped = True
        self._world.tell("hq", f"is to have {one.site} do {one.op} {one.title} to {one.uuid}")
        more: dict[str, Any] = {"title": one.title} if one.title else {}
        try:
            await hq.administer(one.op, job=str(one.uuid), **more)
        except OperationError as error:
            if not hq.is_dead and error.code != "in-doubt":
                one.outcome = Outcome.REFUSED
            self._world.tell("hq", f"has it not done: {error.code}: {error.message}")
        else:
            if not hq.is_dead:
                one.outcome = Outcome.DONE

    # -- when all is quiet -----------------------------------------------------------------------

    async def check(self) -> None:
        for site in SITE_NAMES:
            life = self._world.lives[site]
            done = Counter([key async for key in _done_at(life)])
            asked = [one for one in self._errands if one.site == site]
            for key in {one.key: None for one in asked} | done:
                outcomes = [one.outcome for one in asked if one.key == key]
                least = outcomes.count(Outcome.DONE)
                most = least + outcomes.count(Outcome.UNKNOWN)
                if key[0] == "job.hold" or self._world.is_put_back(site):
                    least = 0  # it was held already, or its site has forgotten that
                what = f"{' '.join(map(str, key))} was asked of {site}: {', '.join(outcomes)}"
                assert least <= done[key] <= most, f"{what}; and was done {done[key]} times"


async def _done_at(site: Life) -> AsyncIterator[tuple[str, UUID, str]]:
    """What the journal of a site says that was done for its application server."""
    for row in await stored(site, site.guid):
        told = codec.decode(*row)
        if told.actor == f"node:{GUIDS['hq']}" and (op := _operation_of(told)):
            title = (told.personal or {}).get("title", "")
            yield op, UUID(bytes=told.payload["uuid"]), title


def _operation_of(told: Record) -> str:
    if told.kind == Kind.JOB_ATTRIBUTES_SET:
        return "job.set"
    return _EVENTS.get(told.payload["event"], "") if told.kind == Kind.JOB_CHANGED else ""
