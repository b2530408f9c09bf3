"""The rooms of a node: opened in their order and plugged into each other.

In: the ground that they stand on, and what they ask of the daemon around them. Out: `Rooms`, with
the `Services` that operations work with, and what runs there while the node serves.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import structlog
import trio

from spoold.accounts.authentication import Authentication
from spoold.accounts.charging import Charging
from spoold.accounts.elsewhere import Elsewhere
from spoold.accounts.guard import Guard
from spoold.accounts.passwords import Passwords
from spoold.accounts.remembered import Remembered
from spoold.accounts.rounds import Rounds
from spoold.counting.counter import Counter
from spoold.daemon import lines as of_site
from spoold.daemon.announce import Told
from spoold.daemon.endpoints import Endpoints
from spoold.daemon.ground import Ground, wall_clock
from spoold.daemon.lines import LineKeeper, Lines, Task, open_lines
from spoold.daemon.logins import Logins
from spoold.daemon.monitor import Monitor
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.watch import Catalogue, Watch
from spoold.daemon.timers import Timers
from spoold.dispatch.attempt import Settings
from spoold.dispatch.convert import Converter
from spoold.dispatch.converting import converting
from spoold.dispatch.dispatcher import Dispatcher
from spoold.dispatch.handed import HandedJobs
from spoold.intake.acceptance import Acceptance
from spoold.intake.opening import OpenJobs
from spoold.model.printer import Printer
from spoold.net.connect import TcpNetwork
from spoold.release.counts import Counts
from spoold.release.desk import Desk
from spoold.release.emergency import Emergencies
from spoold.release.mfds import Mfds
from spoold.release.news import News
from spoold.release.releasing import Releases
from spoold.release.sessions import Sessions
from spoold.release.work import WorkDesk
from spoold.site.authority import Authority as Alone
from spoold.site.errands import Errands
from spoold.site.handing import Handing
from spoold.site.objects import Objects
from spoold.site.recalling import Recalling
from spoold.site.receiver import Receiver
from spoold.site.reclaiming import Reclaiming
from spoold.site.twins import Twins
from spoold.site.wanting import Wanting
from spoold.spool import nodes
from spoold.spool.directories import make_directory
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import PutDevice, PutPrinter

log = structlog.get_logger("spoold.daemon")

COUNTING_WORKERS = 2  # so that a document that takes its time is in nobody's way


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rooms ask of the daemon around them; see `Services` for the first four."""

    reload: Callable[[], list[str]]
    connections: Callable[[], Mapping[str, int]]
    announced: Callable[[int], Told]
    config_file: Path | None
    tell_manager: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Rooms:
    """`services.dispatcher`, `HandedJobs` and `monitor` run as long as attempts do; the rest,
    `serve`, ends when nobody is served any more.
    """

    services: Services
    acceptance: Acceptance
    monitor: Monitor
    tasks: tuple[Task, ...]
    counter: Counter
    converter: Converter

    async def dispatch(self, nursery: trio.Nursery) -> None:
        """Have jobs printed, and the node look at itself."""
        services = self.services
        dispatcher = services.dispatcher
        await nursery.start(dispatcher.run)
        handed = HandedJobs(services.journal, services.reader, dispatcher.driver_of, wall_clock)
        await nursery.start(handed.run)
        await nursery.start(self.monitor.run)

    async def serve(self, nursery: trio.Nursery) -> None:
        """Have everything run that people and other nodes wait for."""
        await nursery.start(self.services.objects.run)
        for task in self.tasks:
            nursery.start_soon(task)

    async def close(self) -> None:
        await self.counter.aclose()
        self.converter.close()


async def open_rooms(ground: Ground, around: Surroundings) -> Rooms:
    """Nothing of it runs yet.

    Raises:
        SpoolError: the spool could not be read.
        IdentityError: what a site joined with is damaged.
    """
    config, journal, reader = ground.config(), ground.journal, ground.reader
    started_us = wall_clock()
    await _add_default_printer(journal, reader, config.node.data_dir)
    acceptance = Acceptance(journal, reader, ground.documents, config.limits, wall_clock)
    await acceptance.start()
    open_jobs = OpenJobs(
        acceptance,
        journal,
        reader,
        lambda: ground.config().limits.multiple_operation_time_out_s,
    )
    held = _held_jobs(ground)
    converter = Converter(config.node.data_dir / "converting", lambda: ground.config().conversion)
    converter.sweep()
    lines = open_lines(ground)
    dispatcher = _dispatcher(ground, lines.network, converter)
    handing = Handing(journal, reader, ground.documents, lines.sites, wall_clock)
    await handing.start()
    acceptance.hands_on = held.releases.hands_on = handing.is_site
    acceptance.is_at_site = lines.line is not None
    endpoints = await _endpoints(ground, lines)
    if lines.line is not None:
        lines.line.listen(held.counts.look_again)
    replica = await of_site.open_replica(ground, lines)
    alone = of_site.open_authority(ground, lines)
    deadline_s = config.upstream.question_deadline_s
    recalling = None
    if alone is None:
        recalling = Recalling(journal, reader, lines.sites, wall_clock, deadline_s)
    held.charging.authority = alone or recalling
    visitors = of_site.open_visitors(ground, lines, replica)
    wanting = Wanting(journal, reader, lines.sites, wall_clock, deadline_s)
    errands = Errands(lines.sites, deadline_s)
    far_desk = of_site.open_far_desk(
        ground, lines, replica, wanting, errands, held.catalogue, held.desk
    )
    people = await _people(ground, alone)
    work = WorkDesk(held.charging, reader, wall_clock)
    rounds = Rounds(journal, reader, ground.digests, wall_clock)
    guid = ground.identity.guid
    services = Services(
        journal=journal,
        reader=reader,
        dispatcher=dispatcher,
        documents=ground.documents,
        identity=ground.identity.authority,
        config=config,
        wall_clock=wall_clock,
        network=lines.network,
        node_guid=guid,
        node_name=config.node.name,
        started_us=started_us,
        connections=around.connections,
        watch=Watch(journal),
        catalogue=held.catalogue,
        reload=around.reload,
        passwords=people.passwords,
        digests=ground.digests,
        authentication=people.authentication,
        erasure=ground.erasure,
        rounds=rounds,
        logins=Logins(people.authentication, journal, visitors),
        open_jobs=open_jobs,
        charging=held.charging,
        releases=held.releases,
        desk=held.desk,
        mfds=people.mfds,
        sessions=people.sessions,
        news=people.news,
        work=work,
        random_bytes=os.urandom,
        sites=lines.sites,
        receiver=Receiver(journal, reader, wall_clock),
        uplink=of_site.open_uplink(ground, lines),
        alone=alone,
        far_desk=far_desk,
        visitors=visitors,
        recalling=recalling,
        handing=handing,
        wanting=wanting,
        errands=errands,
        endpoints=endpoints,
        objects=Objects(journal, reader, lines.sites, ground.digests, guid, wall_clock),
        replica=replica,
        line=lines.line,
        membership=lines.membership,
        announced=around.announced,
        config_file=around.config_file,
        checks=lambda: monitor.checks,
        stopped=lambda: monitor.stopped,
    )
    monitor = Monitor(services, ground.config, ground.identity, ground.expiry, around.tell_manager)
    tasks: tuple[Task, ...] = (
        LineKeeper(lines, journal, people.news).run,
        Emergencies(journal, reader, held.catalogue, held.releases, wall_clock).run,
        Reclaiming(journal, lines.sites, wall_clock).run,
        Twins(journal, reader, lines.sites).run,
        handing.late.run,
        people.sessions.run,
        work.run,
        rounds.run,
        *(() if recalling is None else (recalling.run,)),
        Timers(journal, reader, open_jobs, wall_clock).run,
        partial(held.counts.run, held.releases),
        dispatcher.refresh,
        *(await of_site.tasks_of(ground, lines, services, acceptance)),
    )
    return Rooms(services, acceptance, monitor, tasks, held.counter, converter)


@dataclass(frozen=True, slots=True)
class _HeldJobs:
    """What counts jobs, prices them and lets them out."""

    catalogue: Catalogue
    counter: Counter
    counts: Counts
    charging: Charging
    releases: Releases
    desk: Desk


def _held_jobs(ground: Ground) -> _HeldJobs:
    journal, reader = ground.journal, ground.reader
    catalogue = Catalogue(journal, reader)
    counter = Counter(workers=COUNTING_WORKERS)
    counts = Counts(journal, reader, ground.documents, counter, catalogue, wall_clock)
    charging = Charging(journal, reader, wall_clock)
    releases = Releases(journal, reader, catalogue, counts, charging, wall_clock)
    desk = Desk(journal, reader, catalogue, releases, charging, wall_clock)
    return _HeldJobs(catalogue, counter, counts, charging, releases, desk)


@dataclass(frozen=True, slots=True)
class _People:
    """Who comes in, at machines and over the network."""

    passwords: Passwords
    authentication: Authentication
    mfds: Mfds
    sessions: Sessions
    news: News


async def _people(ground: Ground, alone: Alone | None) -> _People:
    journal, reader = ground.journal, ground.reader
    passwords = Passwords()
    authentication = await _authentication(ground, passwords, alone)
    mfds = Mfds(journal, reader)
    await mfds.start()
    sessions = Sessions(journal, reader, mfds, wall_clock, os.urandom)
    await sessions.start()
    return _People(passwords, authentication, mfds, sessions, News(journal, sessions))


async def _endpoints(ground: Ground, lines: Lines) -> Endpoints:
    """Where clients are told to go, kept current by what sites say, and told to the upstream."""
    endpoints = Endpoints(ground.config, lambda change: ground.journal.hand_over([change]))
    endpoints.recall(await ground.reader.look(nodes.advertised))
    ground.journal.listen(endpoints.hear)
    lines.sites.greetings.append(endpoints.greet)
    if lines.line is not None:
        lines.line.greetings.append(endpoints.own)
    return endpoints


def _dispatcher(ground: Ground, network: TcpNetwork, converter: Converter) -> Dispatcher:
    config = ground.config().dispatch
    return Dispatcher(
        ground.journal,
        ground.reader,
        ground.documents,
        network,
        wall_clock,
        random.Random(),
        Settings(
            backoff_first_s=config.backoff_first_s,
            backoff_max_s=config.backoff_max_s,
            stalled_after_s=config.stalled_after_s,
            deliveries_max=config.deliveries_max,
            refresh_s=config.refresh_s,
        ),
        converting=partial(converting, converter),
    )


async def _authentication(
    ground: Ground, passwords: Passwords, alone: Alone | None
) -> Authentication:
    """Who logs in, with what earlier failures have left."""
    journal, reader, digests = ground.journal, ground.reader, ground.digests
    guard = Guard(reader, journal, digests, wall_clock)
    elsewhere: Elsewhere | Remembered = Elsewhere(reader)
    if alone is not None and ground.vault is not None:
        elsewhere = Remembered(alone, passwords, ground.vault, journal, reader, wall_clock)
    found = Authentication(
        reader, journal, passwords, digests, guard, wall_clock, elsewhere, ground.vault
    )
    await found.start()
    return found


async def _add_default_printer(journal: Journal, reader: SqliteReader, data_dir: Path) -> None:
    """A spool without any printer gets one that writes files, so that a first job comes out."""
    if await reader.printers():
        return
    printed = data_dir / "printed"
    make_directory(printed)
    device = await journal.commit(PutDevice(uuid4(), printed.as_uri(), wall_clock()))
    await journal.commit(PutPrinter(Printer.automatic(uuid4(), device.id), wall_clock()))
