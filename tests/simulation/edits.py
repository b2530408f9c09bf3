"""What people delete at panels, or change, of all that waits for them, wherever it waits.

In: worlds in which they do so. Out: what was asked, and how that was answered; and whether the
journals of all nodes agree: what was done was done once, what was refused never, and what somebody
has deleted does not come out any more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from simulation.check import is_given_up
from simulation.node import GUIDS
from simulation.staff import Outcome
from simulation.visits import PATIENCES_S, Panel, machines
from simulation.work import PEOPLE, Work, may_fail
from simulation.world import NAMES
from spoold.codec import record as codec
from spoold.model.errors import OperationError
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent
from support.sites import stored

CHOOSY = 0.15  # of all seeds
STEPS = 8  # of so many kinds of steps, beside those of `Work`
DELETE, CHANGE = "delete", "change"


@dataclass
class Edit:
    """`copies` is what a job is changed to. `papers` came out until its deletion was answered."""

    op: str
    uuid: UUID
    copies: int = 0
    outcome: Outcome = Outcome.UNKNOWN
    papers: int | None = None

    @property
    def key(self) -> tuple[str, UUID, int]:
        return self.op, self.uuid, self.copies


class Edits:
    """Of one world."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._world = work.world
        self._asked: list[Edit] = []

    async def edit(self, rng: Random) -> None:
        """Somebody who has something waiting deletes or changes one job, at a machine."""
        life = self._work.life(rng.choice(NAMES))
        if life is None:
            return
        with may_fail(life, rng.choice(PATIENCES_S)):
            found = await machines(life)
            for name in rng.sample(PEOPLE, len(PEOPLE)) if found else ():
                panel = Panel(life, name, rng.choice(found))
                if listed := await panel.held():
                    await self._edit(panel, rng.choice(listed), rng)
                    return

    async def _edit(self, panel: Panel, job: dict[str, Any], rng: Random) -> None:
        uuid, is_deleted = UUID(job["uuid"]), rng.random() < 0.5
        one = Edit(DELETE, uuid) if is_deleted else Edit(CHANGE, uuid, rng.randint(2, 3))
        self._asked.append(one)
        node = panel.life.name
        self._world.tell(node, f"is to {one.op} {uuid} {one.copies} of {job['node'] or node}")
        try:
            await self._do(panel, job["id"], one)
        finally:
            if one.op == DELETE and one.outcome is not Outcome.REFUSED:
                self._work.deals[uuid].is_dropped = True

    async def _do(self, panel: Panel, id_: int, one: Edit) -> None:
        try:
            await (panel.delete(id_) if one.op == DELETE else panel.change(id_, one.copies))
        except OperationError as error:
            if not panel.life.is_dead and error.code != "in-doubt":
                one.outcome = Outcome.REFUSED
            self._world.tell(panel.life.name, f"does not: {error.code}: {error.message}")
        else:
            if not panel.life.is_dead:
                one.outcome = Outcome.DONE
                one.papers = self._papers(one.uuid)

    def _papers(self, uuid: UUID) -> int:
        return sum(one.papers.count(uuid) for one in self._world.machines.values())

    # -- when all is quiet -----------------------------------------------------------------------

    async def check(self) -> None:
        done = await self._done()
        for key in {one.key: None for one in self._asked} | done:
            asked = [one for one in self._asked if one.key == key]
            outcomes = [one.outcome for one in asked]
            least, most = outcomes.count(Outcome.DONE), len(outcomes)
            most -= outcomes.count(Outcome.REFUSED)
            if key[0] == CHANGE or self._world.put_backs:
                least = 0  # it was so already, or its node has forgotten that
            what = f"{' '.join(map(str, key))} was asked: {', '.join(outcomes)}"
            assert least <= done[key] <= most, f"{what}; and was done {done[key]} times"
            deal = self._work.deals[key[1]]
            is_at_two = deal.is_twin or is_given_up(self._world, deal)
            for papers in (one.papers for one in asked if one.op == DELETE):
                if papers is not None and not (is_at_two or self._world.put_backs):
                    assert papers == self._papers(key[1]), f"{what}; and comes out after that"

    async def _done(self) -> Counter[tuple[str, UUID, int]]:
        """What the journals of all nodes say that people have done."""
        found: Counter[tuple[str, UUID, int]] = Counter()
        for name in NAMES:
            for row in await stored(self._world.lives[name], GUIDS[name]):
                told = codec.decode(*row)
                if not told.actor.startswith("user:"):
                    continue
                if told.kind == Kind.JOB_ATTRIBUTES_SET:
                    found[CHANGE, UUID(bytes=told.payload["uuid"]), told.payload["copies"]] += 1
                elif told.kind == Kind.JOB_CHANGED and told.payload["event"] == JobEvent.CANCEL:
                    found[DELETE, UUID(bytes=told.payload["uuid"]), 0] += 1
        return found


def begin(work: Work) -> Edits | None:
    """In some worlds; None: people take everything as it is."""
    is_so = work.world.chance("edits").random() < CHOOSY
    return Edits(work) if is_so else None
