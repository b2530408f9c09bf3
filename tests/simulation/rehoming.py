"""Printers of a site that is given up for dead: another node has them, and then perhaps the site.

In: a site, while its application server goes on. Out: what an administrator has done there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from simulation.node import GUIDS
from simulation.operators import settle
from spoold.model.errors import OperationError
from spoold.spool.store import PutPrinter

if TYPE_CHECKING:
    from simulation.world import World

RETURNED = 0.5  # of the sites that are given up: their printers are their own again
PATIENCE_S, PAUSE_S = 8.0, 0.5  # for which somebody tries to give them back, and how often


async def give_away(world: World, name: str, heir: str) -> None:
    world.tell("hq", f"gives the printers of {name} to {heir}")
    await world.lives["hq"].administer("printer.rehome", from_site=name, to=heir)
    world.rehomed.append(name)


async def give_back(world: World, name: str) -> None:
    """One by one, as soon as the node that has them has no jobs of theirs (as `printer set`), and
    what the site had not been known to print was seen to.
    """
    await settle(world, world.lives["hq"])
    left = {machine for machine in world.machines if machine.endswith(f"-{name}")}
    with trio.move_on_after(PATIENCE_S):
        while left:
            for machine in sorted(left):
                try:
                    await _give_back(world, machine, name)
                    left.discard(machine)
                except OperationError as error:
                    world.tell("hq", f"does not give {machine} back: {error}")
            await trio.sleep(PAUSE_S)


async def _give_back(world: World, machine: str, name: str) -> None:
    """Raises OperationError: its owner has jobs of it."""
    hq = world.lives["hq"]
    printer = (await hq.catalogue.look()).by_name[machine]
    async with hq.handing.leaving(printer, GUIDS[name]):
        await hq.journal.commit(PutPrinter(replace(printer, owner=GUIDS[name]), hq.wall_clock()))
    world.tell("hq", f"gives {machine} back to {name}")
