"""An application server and three sites in one process: their lives, the line between, and faults.

Everything that the world supplies comes from here, by one seed: time, chance, disks, network,
printers. The same seed gives the same world, to the letter of its trace.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple
from uuid import UUID

import trio

from simulation import clocks
from simulation.images import Image, PutBack
from simulation.machines import Machine
from simulation.network import TO_HQ, TO_SITE, Net
from simulation.node import SITE_NAMES, Life
from spoold.model.node import LineState
from spoold.site.line import Upstream
from spoold.spool import emergencies, repairs, replication

NAMES = ("hq", *SITE_NAMES)
BEGIN_US = int(datetime(2026, 3, 10, 9, tzinfo=UTC).timestamp()) * 10**6
SEEDED_US = 3600 * 10**6  # how long after the template was made a seed begins
MIDNIGHT_US = BEGIN_US + 15 * SEEDED_US
# `front` prints at once, `vault` keeps jobs for their owners, both for money; `plain` is free.
PRINTERS = ("front", "vault", "plain")
LOBBY = "lobby"  # the application server's own printer
ROAM = "roam"  # its jobs wait where they came in, and come out at any machine
WORKING = "SELECT uuid FROM job WHERE finished_us IS NULL"


class Offer(NamedTuple):
    """So long after its release a job was offered, if not as a late one (infinite); and over which
    line of the site.
    """

    after_s: float
    upstream: Upstream | None


class World:
    """`lives` are the nodes that run; `folders` the files of each, or what its last life left."""

    def __init__(self, seed: int, base: Path, nursery: trio.Nursery, begin_us: int) -> None:
        self.seed = seed
        self.base = base
        self.nursery = nursery
        self.trace: list[str] = []
        self.net = Net(self.chance("net"), SITE_NAMES)
        names = [LOBBY, *(f"{printer}-{site}" for site in SITE_NAMES for printer in PRINTERS)]
        self.machines = {
            name: Machine(name, self.chance(f"machine {name}"), self.tell) for name in names
        }
        self.lives: dict[str, Life] = {}
        self._last: dict[str, Life] = {}  # that ended, by node
        self.folders = {name: base / name for name in NAMES}
        self.rehomed: list[str] = []  # sites that were given up
        self.put_backs: list[PutBack] = []  # nodes that went on from earlier states, in order
        self.restored: set[str] = set()  # nodes that `spoold restore` has put back just now
        self.begun_anew: list[str] = []  # sites to which an administrator said so, after a fork
        self.released_at: dict[UUID, set[str]] = {}  # nodes at which what waited was to come out
        self.released_s: dict[UUID, float] = {}  # when the application server let what come out
        self.offered: dict[UUID, Offer] = {}  # what it offered to a site, as it did so last
        self.clocks = clocks.make(NAMES, begin_us)
        self.is_urgent = False  # nodes may have emergencies
        self.recharged: set[str] = set()  # printers that did not cost something all the time
        self.is_handy = False  # sites repair printers while they are cut off
        self.is_daily = False  # people have allowances, and a day ends
        self.caps: dict[str, int] = {}  # how far each person may go below zero, by site
        self.made_s: dict[tuple[UUID, int], float] = {}  # when which record of a site was made
        self.watches: list[Callable[[World, Life], None]] = []  # called with each site that lives
        self._count = 0
        self._labels: dict[str, str] = {}

    def chance(self, whose: str) -> Random:
        """A source of chance of its own for each part, so that one does not disturb another."""
        return Random(f"{self.seed}/{whose}")

    def clock(self, name: str) -> int:
        """UTC in microseconds, as the clock of this node shows it."""
        return self.clocks[name].now_us()

    def name_job(self, uuid: UUID) -> str:
        """The job is told of by a short name from now on."""
        label = f"job-{len(self._labels) + 1}"
        self._labels[str(uuid)] = label
        return label

    def tell(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{trio.current_time():9.4f} {who:12} {what}")

    def named(self, text: str) -> str:
        """The text with jobs by their short names."""
        for uuid, label in self._labels.items():
            text = text.replace(uuid, label)
        return text

    def told(self) -> list[str]:
        """The trace."""
        return self.named("\n".join(self.trace)).split("\n")

    def new_folder(self, name: str) -> Path:
        """Of a node, not there yet."""
        self._count += 1
        return self.base / f"{name}.{self._count}"

    def is_out(self, uuid: UUID) -> bool:
        """Whether a job has come out of any machine."""
        return any(uuid in one.papers for one in self.machines.values())

    # -- what earlier states have cost -----------------------------------------------------------

    def is_put_back(self, name: str) -> bool:
        return any(one.image.name == name for one in self.put_backs)

    def since(self, name: str, count: int) -> list[Image]:
        """The images that a node has gone on from, but for the first so many of all nodes."""
        return [one.image for one in self.put_backs[count:] if one.image.name == name]

    # -- lives -----------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Return when the node serves, or has crashed before it did."""
        last = self._last.pop(name, None)
        if last is not None:
            await last.ended.wait()
            last.remove()
        if name in self.lives:
            return
        self._count += 1
        chance = self.chance(f"life {self._count}")
        is_restored = name in self.restored
        self.restored.discard(name)
        life = self.lives[name] = Life(self, name, self.folders[name], chance, is_restored)
        self.tell(name, "starts")
        self.nursery.start_soon(life.run)
        await life.settled.wait()

    def kill(self, name: str, *, is_silent: bool) -> None:
        """The node is gone, at once; `is_silent`: its machine as well, which says no word."""
        life = self.lives.get(name)
        if life is None or not life.is_open:
            return
        folder = self.new_folder(name)
        self.tell(name, "loses its power" if is_silent else "is killed")
        del self.lives[name]
        self._last[name] = life
        life.die(folder)
        if name == "hq":
            self.net.accept = None
            for link in self.net.links.values():
                link.drop(TO_HQ, is_silent=is_silent)
        else:
            self.net.links[name].drop(TO_SITE, is_silent=is_silent)
        self.folders[name] = folder

    async def stop_all(self) -> None:
        for name in list(self.lives):
            self.kill(name, is_silent=False)
            await self._last[name].ended.wait()

    async def end(self) -> None:
        """All is over: nobody wants to know what is on the disks."""
        lives = list(self.lives.values())
        for life in lives:
            life.stop()
        for life in lives:
            await life.ended.wait()

    def watch(self, life: Life) -> None:
        for one in self.watches:
            one(self, life)

    # -- peace -----------------------------------------------------------------------------------

    async def heal(self) -> None:
        """Every link is whole, every printer well, every node runs."""
        self.tell("world", "heals")
        for link in self.net.links.values():
            link.heal()
        for machine in self.machines.values():
            machine.is_well = True
        for life in self.lives.values():
            life.points_left = None
        for name in NAMES:
            if name not in self.lives:
                await self.start(name)

    async def unrest(self) -> str:
        """What is still going on somewhere; "" when all is quiet."""
        for link in self.net.links.values():
            if link.is_late:
                return f"something is on its way to or from {link.name}"
        hq = self.lives["hq"]
        newest = await hq.reader.look(replication.newest)
        for name in NAMES:
            life = self.lives[name]
            if working := await life.reader._all(WORKING):
                return f"{name} works on {[str(UUID(bytes=row[0])) for row in working]}"
            if self.is_urgent and emergencies.find(life.store.db) is not None:
                return f"the emergency of {name} goes on"
            if self.is_handy and (left := repairs.find_all(life.store.db)):
                return f"{name} has {left[0].field} repaired to be {left[0].value}"
            if not life.is_site:
                continue
            standing = hq.objects.standing(life.guid)
            if life.line.state is not LineState.UP:
                return f"the line of {name} is {life.line.state}: {life.line.reason}"
            if life.uplink.lag or life.uplink.standing.state != "idle":
                return f"{name} has sent {life.uplink.standing}, not {life.journal.head}"
            if standing is None or not standing.is_whole or standing.revoked <= newest:
                return f"the copy of {name} is {standing}, not {newest}"
            if life.giving._busy:
                return f"{name} gives {[str(one) for one in life.giving._busy]}"
        if hq.wanting._wants:
            return f"hq wants {[str(one) for one in hq.wanting._wants]}"
        return ""
