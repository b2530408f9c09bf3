"""One life of a simulated node: the rooms of the product, wired as `daemon/service.py` wires them.

In: what a `World` supplies instead of the real one: disk, network, clock, chance, printers. Left
out are the doors (TLS, HTTP, raw, LPD), counting by processes, MFDs, and upkeep.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Protocol
from uuid import UUID

import trio

from simulation.disk import Crashed, Disk
from simulation.machines import Machine
from simulation.network import Net, SimStream
from spoold.accounts.charging import Charging
from spoold.accounts.vault import Vault
from spoold.codec.pages.contents import Contents
from spoold.daemon.lines import open_other_sites
from spoold.daemon.operations import (
    copies,
    errands,
    handing_down,
    queueing,
    rehoming,
    repairs,
    rights,
    site_desk,
    sites,
    steering,
    uplink,
)
from spoold.daemon.operations.table import Table
from spoold.daemon.operations.watch import Catalogue
from spoold.daemon.restore import hold_waiting
from spoold.dispatch.attempt import Settings as DispatchSettings
from spoold.dispatch.dispatcher import Dispatcher
from spoold.intake.acceptance import Acceptance
from spoold.intake.deadlines import Deadlines
from spoold.intake.frames import Node as Welcome
from spoold.intake.frames import serve_frames
from spoold.intake.frames_link import Settings as FramesSettings
from spoold.model.card import Digests
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.model.principal import Port, Principal, Role
from spoold.model.printer import Device
from spoold.model.record import Kind
from spoold.release.counts import Counts
from spoold.release.desk import Desk
from spoold.release.emergency import Emergencies
from spoold.release.releasing import Releases
from spoold.site import objects
from spoold.site.attending import Attending
from spoold.site.authority import Authority
from spoold.site.errands import Errands
from spoold.site.far_desk import FarDesk
from spoold.site.fencing import Fence, wait_word
from spoold.site.fetching import Fetching
from spoold.site.giving import Giving
from spoold.site.handing import Handing
from spoold.site.leftovers import Leftovers
from spoold.site.line import Line
from spoold.site.line import Settings as LineSettings
from spoold.site.objects import Objects
from spoold.site.other_sites import OtherSites
from spoold.site.presence import Presence
from spoold.site.recalling import Recalling
from spoold.site.receiver import Receiver
from spoold.site.reclaiming import Reclaiming
from spoold.site.repairing import Repairing
from spoold.site.replica import Replica
from spoold.site.twins import Losers, Twins
from spoold.site.uplink import Uplink
from spoold.site.wanting import Wanting
from spoold.spool.documents import Documents
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import open_store
from spoold.spool.store import AddRecord, Event, JobMoved
from support.replicas import FakeErasure
from support.upstream import Papers

SITE_NAMES = ("east", "north", "west")
GUIDS = {name: UUID(int=(number + 1) << 96) for number, name in enumerate(("hq", *SITE_NAMES))}
ADMIN = Principal("uid:0", Port.CONTROL, frozenset({Role.ADMIN}))
QUESTION_S = 0.3
BEAT_S = 1.0
SOON_S = 2.0  # in which a release must get to its machine
PAGE_OBJECTS = 3  # of the copy: pages break where objects belong together
LIMITS = SimpleNamespace(
    document_bytes_max=1 << 20, job_bytes_max=1 << 20, spool_share=1.0, reserve_bytes=0
)
ROOMS = (
    copies, errands, handing_down, queueing, rehoming, repairs, rights, site_desk, sites, steering,
    uplink,
)  # fmt: skip
OPERATIONS = [operation for room in ROOMS for operation in room.OPERATIONS]


ALIVE: ContextVar[Life] = ContextVar("the life that a task belongs to")


class World(Protocol):
    """What a node needs of what is around it."""

    net: Net
    machines: dict[str, Machine]
    is_urgent: bool

    def clock(self, name: str) -> int: ...
    def tell(self, who: str, what: str) -> None: ...
    def kill(self, name: str, *, is_silent: bool) -> None: ...
    def watch(self, life: Life) -> None: ...


def reach(point: str) -> None:
    """A task has come to a crash point: its node may be one that is to end there."""
    life = ALIVE.get(None)
    if life is not None:
        life.reach(point)


class Counter:
    """Counts the pages of documents as the clients of this world write them."""

    async def count(self, source: Any, *, media_type: str = "", colour: bool = False) -> Contents:
        await trio.lowlevel.checkpoint()
        count = source.count(b"\f")
        return Contents(
            media_type, count, is_exact=True, impressions=count, media_sheets=count,
            sheets_of_one_copy=count, colour_pages=0,
        )  # fmt: skip


class Life:
    """A node from its start to its end. `is_restored`: `spoold restore` has made its folder."""

    def __init__(
        self, world: World, name: str, folder: Path, rng: Random, is_restored: bool
    ) -> None:
        self.world = world
        self.name = name
        self.is_restored = is_restored
        self.guid = GUIDS[name]
        self.is_site = name != "hq"
        self.folder = folder
        self.rng = rng
        self.scope = trio.CancelScope()
        self.settled = trio.Event()  # it serves, or has ended before it did
        self.ended = trio.Event()
        self.is_open = False  # its disk can be taken away from it
        self.is_dead = False
        # It ends when it comes to this crash point, or to any, for the last of so many times.
        self.point = ""
        self.points_left: int | None = None

    def reach(self, point: str) -> None:
        if self.points_left is None or self.is_dead or not self.is_open:
            return
        if self.point not in ("", point):
            return
        self.points_left -= 1
        if self.points_left <= 0:
            self.world.tell(self.name, f"comes to {point}")
            self.world.kill(self.name, is_silent=False)
            raise Crashed

    def wall_clock(self) -> int:
        return self.world.clock(self.name)

    async def run(self) -> None:
        """Live until `die`; whatever it does after that has no effect.

        Raises:
            Exception: a room failed while the node lived.
        """
        ALIVE.set(self)
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    await self._open(nursery)
                    await self._start(nursery)
                    self.settled.set()
                    await trio.sleep_forever()
        except Exception:
            if not self.is_dead:
                raise
        finally:
            self.disk.close()
            store = getattr(self, "store", None)
            if store is not None:
                store._witness.close()  # as it is: a crash syncs nothing
            self.settled.set()
            self.ended.set()

    def die(self, folder: Path) -> None:
        """Crash; the next life finds `folder`."""
        self.disk.image(folder)
        self.stop()

    def stop(self) -> None:
        """Crash; there is no next life."""
        self.is_dead = self.disk.is_dead = True
        self.scope.cancel()

    # -- the rooms -------------------------------------------------------------------------------

    async def _open(self, nursery: trio.Nursery) -> None:
        """The spool."""
        self.disk = Disk(self.folder, self.rng, nursery)
        writer, self.store = await open_store(
            self.folder,
            self.wall_clock(),
            self.rng.randbytes,
            self.guid,
            begins_anew=self.is_restored,
            connect=self.disk.connect,
        )
        self.reader = await SqliteReader.open(self.folder, self.disk.connect)
        if self.is_restored:
            await hold_waiting(self.reader, writer, self.store, self.wall_clock())
        self.disk.begin()
        self.is_open = True
        self.journal = Journal(writer, self.store)
        self.journal.listen(self._tell)
        self.documents = Documents(self.folder, self.reader)
        await nursery.start(self.journal.run)
        await self.journal.commit(AddRecord(Kind.NODE_STARTED, {}, self.wall_clock()))

    def _tell(self, events: list[Event]) -> None:
        told = [
            f"{event.uuid} is {event.new.value} {' '.join(event.reasons)}".rstrip()
            if isinstance(event, JobMoved)
            else type(event).__name__
            for event in events
        ]
        self.world.tell(self.name, f"at {self.store.position}: {', '.join(told)}")

    async def _start(self, nursery: trio.Nursery) -> None:
        journal, reader, clock = self.journal, self.reader, self.wall_clock
        self.acceptance = Acceptance(journal, reader, self.documents, LIMITS, clock)
        await self.acceptance.start()
        self.catalogue = Catalogue(journal, reader)
        self.counts = Counts(journal, reader, self.documents, Counter(), self.catalogue, clock)
        self.charging = Charging(journal, reader, clock)
        self.releases = Releases(journal, reader, self.catalogue, self.counts, self.charging, clock)
        self.desk = Desk(journal, reader, self.catalogue, self.releases, self.charging, clock)
        self.dispatcher = Dispatcher(
            journal,
            reader,
            self.documents,
            None,
            clock,
            Random(self.rng.random()),
            DispatchSettings(backoff_first_s=0.2, backoff_max_s=2.0, refresh_s=0.0),
            self._driver,
        )
        self.presence = Presence(clock)
        self.handing = Handing(journal, reader, self.documents, self.presence, clock)
        await self.handing.start()
        self.handing.late.soon_s = SOON_S
        self.acceptance.hands_on = self.releases.hands_on = self.handing.is_site
        self.acceptance.is_at_site = self.is_site
        keys = Digests([GUIDS[self.name].bytes * 2])
        self.objects = Objects(journal, reader, self.presence, keys, self.guid, clock)
        self.far_desk: FarDesk | OtherSites
        run: list[Callable[[], Awaitable[None]]] = []
        if self.is_site:
            await self._start_site(keys, run)
            self.dispatcher.is_held_back = True
        else:
            self.recalling = Recalling(journal, reader, self.presence, clock, QUESTION_S)
            self.charging.authority = self.recalling
            self.wanting = Wanting(journal, reader, self.presence, clock, QUESTION_S)
            self.errands = Errands(self.presence, QUESTION_S)
            self.far_desk = open_other_sites(
                reader, self.wanting, self.errands, self.catalogue, self.desk
            )
            run += [Twins(journal, reader, self.presence).run, self.handing.late.run,
                    self.recalling.run]  # fmt: skip
        self.presence.listen(self._note_site)
        self.world.watch(self)
        await nursery.start(self.dispatcher.run)
        for one in run:
            nursery.start_soon(one)
        await nursery.start(self.objects.run)
        nursery.start_soon(Reclaiming(journal, self.presence, clock).run)
        await nursery.start(self.counts.run, self.releases)
        if self.world.is_urgent:
            found = Emergencies(journal, reader, self.catalogue, self.releases, clock)
            nursery.start_soon(found.run)
        if self.is_site:
            nursery.start_soon(self._let_go)
        else:
            self._open_door(nursery)

    def _driver(self, device: Device, network: object) -> Machine:
        name, _, _ = device.uri.removeprefix("machine://").partition("#")  # wherever it is now
        return self.world.machines[name]

    # -- a site ----------------------------------------------------------------------------------

    async def _start_site(self, keys: Digests, run: list[Callable[[], Awaitable[None]]]) -> None:
        journal, reader, clock = self.journal, self.reader, self.wall_clock
        line = self.line = Line(
            Papers("hq:9195"),
            self.world.net.at(self.name),
            clock,
            self._about,
            LineSettings(connect_timeout_s=3.0, beat_s=BEAT_S, retry_max_s=4.0),
            Random(self.rng.random()),
            self.name,
        )
        line.clock_hearers.append(journal.note_clock)
        self.uplink = Uplink(line, journal, reader, clock, Random(self.rng.random()))
        line.hear("sync-now", lambda _: self.uplink.sync_nowait("asked from above"))
        self.replica = Replica(
            line,
            self._who,
            journal,
            reader,
            Vault(self.guid.bytes * 2),
            keys,
            FakeErasure(),
            clock,
            self.name,
            PAGE_OBJECTS,
        )
        await self.replica.start()
        line.hear(objects.EVENT, self.replica.wake)
        line.listen(self.replica.wake)
        alone = Authority(line, journal, reader, clock, self.guid, QUESTION_S)
        self.charging.authority = alone
        self.uplink.first = alone.report
        fetching = Fetching(
            line,
            self.acceptance,
            journal,
            reader,
            self.replica.pull,
            self.catalogue.our_name,
            clock,
        )
        self.giving = Giving(line, self.documents, journal, reader, self.catalogue.name_of, clock)
        self.far_desk = FarDesk(line, reader, lambda: "hq", QUESTION_S)
        fence = Fence(journal, reader, clock)
        await fence.start()
        line.listen(self._note_line)
        line.listen(self.counts.look_again)
        losers = Losers(line, journal, reader, clock)
        repairing = Repairing(line, journal, reader, self.replica.pull, self.guid, clock)
        self.uplink.on_lost = losers.lose
        attending = Attending(line, partial(errands.do, self))
        run += [line.run, self.uplink.run, self.replica.run, alone.run, fetching.run,
                self.giving.run, losers.run, repairing.run, attending.run, fence.run]  # fmt: skip
        if self.world.is_daily:
            run.append(Leftovers(journal, reader, clock).run)

    def _note_line(self, state: LineState) -> None:
        self._note({"upstream": GUIDS["hq"].bytes, "line": state.value, "reason": ""})

    def _note_site(self, guid: UUID, state: LineState) -> None:
        self._note({"node": guid.bytes, "line": state.value})

    def _note(self, payload: dict[str, Any]) -> None:
        if not self.journal.is_failed:
            record = AddRecord(Kind.LINE_CHANGED, payload, self.wall_clock())
            self.journal.hand_over([record])

    async def _about(self) -> dict[str, Any]:
        journal, incarnation = self.journal.identity
        head = self.journal.head
        return {"journal": journal, "incarnation": incarnation, "position": head}

    def _who(self) -> tuple[UUID, str]:
        assert self.line.upstream is not None
        return self.line.upstream.guid, self.line.upstream.name

    async def _let_go(self) -> None:
        await wait_word(self.line, self.replica)
        self.dispatcher.let_go()

    # -- the application server ------------------------------------------------------------------

    def _open_door(self, nursery: trio.Nursery) -> None:
        services = SimpleNamespace(
            journal=self.journal,
            reader=self.reader,
            wall_clock=self.wall_clock,
            node_guid=self.guid,
            node_name=self.name,
            config=SimpleNamespace(advertise=SimpleNamespace(endpoints_for=lambda address: ())),
            sites=self.presence,
            line=None,
            receiver=Receiver(self.journal, self.reader, self.wall_clock),
            recalling=self.recalling,
            handing=self.handing,
            wanting=self.wanting,
            errands=self.errands,
            desk=self.desk,
            far_desk=self.far_desk,
            objects=self.objects,
            catalogue=self.catalogue,
            changing=trio.Lock(),
        )
        self.table = Table(OPERATIONS, services)
        self._deadlines = Deadlines(BEAT_S)
        nursery.start_soon(self._deadlines.run)

        def accept(site: str, stream: SimStream) -> None:
            nursery.start_soon(self._serve, site, stream)

        self.world.net.accept = accept

    async def _serve(self, site: str, stream: SimStream) -> None:
        ALIVE.set(self)  # it is begun by the site, as that dials
        principal = Principal(
            f"node:{GUIDS[site]}", Port.MUTUAL, frozenset({Role.SITE}), address=site
        )
        welcome = Welcome(str(self.guid), self.name, "application", "spoold simulated")
        settings = FramesSettings(ping_s=BEAT_S, drain_s=1.0)
        with self._deadlines.watch(stream, settings.hello_deadline_s) as watch:
            watch.is_quiet = False
            await serve_frames(
                stream, b"", principal, self.acceptance, self.table, welcome, settings, watch
            )

    async def administer(self, op: str, **args: Any) -> dict[str, Any]:
        """What an administrator asks on the control socket."""

        async def send(event: str, told: dict[str, Any]) -> None:
            raise OperationError("not-possible", "nobody follows here.")

        return await self.table.call(ADMIN, op, args, send)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
