"""The wiring: which rooms run, in which order they start, and how they stop.

The nursery tree is the architecture: the journal's writer outermost, then upkeep and dispatch, then
the handlers of connections. Stopping is starting backwards, each step with a deadline: stop
listening, drain handlers, drain attempts, close the journal.
"""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import structlog
import trio

from spoold import __version__
from spoold.accounts.authentication import Authentication
from spoold.accounts.charging import Charging
from spoold.accounts.elsewhere import Elsewhere
from spoold.accounts.guard import Guard
from spoold.accounts.passwords import Passwords
from spoold.accounts.remembered import Remembered
from spoold.accounts.rounds import Rounds
from spoold.codec.dnssd import host_name
from spoold.counting.counter import Counter
from spoold.daemon import config as configuration
from spoold.daemon import doors, systemd
from spoold.daemon.announce import Announcer, Ports
from spoold.daemon.config import NEEDS_RESTART, Config
from spoold.daemon.endpoints import Endpoints
from spoold.daemon.identity import node_guid, open_digests, open_identity, open_vault
from spoold.daemon.lines import (
    LineKeeper,
    Lines,
    open_authority,
    open_lines,
    open_replica,
    open_uplink,
)
from spoold.daemon.lock import locked
from spoold.daemon.logins import Logins
from spoold.daemon.membership import Membership
from spoold.daemon.monitor import Monitor
from spoold.daemon.operations import build_table
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.watch import Catalogue, Watch
from spoold.daemon.timers import Timers
from spoold.dispatch.attempt import Settings
from spoold.dispatch.convert import Converter
from spoold.dispatch.converting import converting
from spoold.dispatch.dispatcher import Dispatcher
from spoold.dispatch.handed import HandedJobs
from spoold.intake.acceptance import Acceptance
from spoold.intake.listener import Listener
from spoold.intake.opening import OpenJobs
from spoold.model.errors import ConfigError, SpoolFull, StoreFailed
from spoold.model.printer import Printer
from spoold.model.record import Kind
from spoold.net import credentials
from spoold.net.connect import TcpNetwork
from spoold.net.context import client_context
from spoold.release.counts import Counts
from spoold.release.desk import Desk
from spoold.release.emergency import Emergencies
from spoold.release.mfds import Mfds
from spoold.release.news import Mode, News
from spoold.release.releasing import Releases
from spoold.release.sessions import Sessions
from spoold.release.work import WorkDesk
from spoold.site.authority import Authority as Alone
from spoold.site.fencing import Fence, wait_word
from spoold.site.fetching import Fetching
from spoold.site.handing import Handing
from spoold.site.objects import Objects
from spoold.site.recalling import Recalling
from spoold.site.receiver import Receiver
from spoold.site.reclaiming import Reclaiming
from spoold.site.replica import Replica
from spoold.spool import people
from spoold.spool.directories import make_directory
from spoold.spool.documents import Documents
from spoold.spool.erasure import PENDING, Erasure, rewrite
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import open_store
from spoold.spool.store import AddRecord, PutDevice, PutPrinter
from spoold.spool.upkeep import Upkeep

log = structlog.get_logger("spoold.daemon")

FAREWELL_S = 0.05  # in which followers are told that the node stops
COUNTING_WORKERS = 2  # so that a document that takes its time is in nobody's way


def wall_clock() -> int:
    """UTC in microseconds since the epoch."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that serves: where, for tests and the demo. `ports` maps a label to an address."""

    services: Services
    ports: dict[str, tuple[str, int]]
    control: Path
    stop: Callable[[], None]


class Daemon:
    """One node. `run` is its whole life; `stopped` is set at the end of it."""

    def __init__(
        self, config: Config, config_file: str | None, environ: MutableMapping[str, str]
    ) -> None:
        self.config = config
        self.stopped = trio.Event()
        self.on_store_failed: Callable[[], None] = lambda: None
        self._file = config_file
        self._environ = environ
        self._surroundings = dict(environ)  # with what systemd says of the sockets, once
        self._stop = trio.Event()
        self._listener: Listener | None = None
        self._acceptance: Acceptance | None = None
        self._announcer: Announcer | None = None
        self._doubts_clock: Callable[[], bool] = bool
        self._membership: Membership | None = None

    async def run(self, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, serve until `Running.stop`, drain, and close.

        Raises:
            ConfigError, IdentityError, SpoolError: it cannot start, with advice.
            StoreFailed: the disk failed; nothing after it was acknowledged.
        """
        try:
            data_dir = self.config.node.data_dir
            with locked(data_dir):
                async with self._spool(data_dir) as (journal, reader, documents):
                    await self._serve(journal, reader, documents, task_status)
        finally:
            self.stopped.set()

    def _host_name(self) -> str:
        """The name by which clients on the link find this node."""
        node = self.config.node
        return host_name(
            node.name, node_guid(node.data_dir, node.guid), self.config.advertise.names
        )

    @asynccontextmanager
    async def _spool(
        self, data_dir: Path
    ) -> AsyncIterator[tuple[Journal, SqliteReader, Documents]]:
        """The open spool, its writer and its upkeep; closed last of all."""
        config = self.config
        self.identity = open_identity(
            data_dir,
            node_name=config.node.name,
            names=(*config.advertise.names, self._host_name()),
            wall_clock=wall_clock,
            handed=credentials.directory(self._environ),
            given=config.node.guid,
        )
        self.digests = open_digests(data_dir, credentials.directory(self._environ))
        self.vault = None
        if config.node.role == "site":
            self.vault = open_vault(data_dir, credentials.directory(self._environ))
        async with AsyncExitStack() as stack:
            writer, store = await open_store(data_dir, wall_clock(), os.urandom, self.identity.guid)
            stack.callback(store.close)
            stack.push_async_callback(writer.close)
            if (data_dir / PENDING).exists():
                await writer.run(rewrite, store.db, data_dir)
            reader = await SqliteReader.open(data_dir)
            stack.push_async_callback(reader.close)
            journal = Journal(writer, store)
            documents = Documents(data_dir, reader, config.documents.inline_bytes_max)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._write, journal)
                upkeep = Upkeep(
                    journal, reader, documents, store, wall_clock, lambda: self.config.retention
                )
                self._doubts_clock = lambda: upkeep.is_clock_doubtful
                upkeep_scope = trio.CancelScope()

                async def keep_up() -> None:
                    with upkeep_scope:
                        await upkeep.run()

                try:
                    await journal.commit(
                        AddRecord(Kind.NODE_STARTED, {"software": __version__}, wall_clock())
                    )
                except SpoolFull as error:  # jobs that are here can be looked at, and printed
                    log.error("disk_full", reason=str(error))
                self.erasure = Erasure(journal, reader, documents, store, wall_clock, data_dir)
                await self.erasure.start()
                nursery.start_soon(keep_up)
                yield journal, reader, documents
                upkeep_scope.cancel()
                journal.close_nowait()

    async def _write(
        self, journal: Journal, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await journal.run(task_status)
        except StoreFailed:
            self.on_store_failed()
            raise

    def _node_context(self) -> ssl.SSLContext:
        """As this node, to others of its deployment."""
        membership = self._membership
        if membership is not None and membership.is_joined:
            return membership.context()
        identity = self.identity
        return client_context(
            ca_pem=identity.authority.ca_pem,
            chain_pem=identity.chain_pem,
            key_pem=identity.key_pem,
        )

    async def _serve(
        self,
        journal: Journal,
        reader: SqliteReader,
        documents: Documents,
        task_status: trio.TaskStatus[Running],
    ) -> None:
        config = self.config
        started_us = wall_clock()
        await _add_default_printer(journal, reader, config.node.data_dir)
        acceptance = Acceptance(journal, reader, documents, config.limits, wall_clock)
        await acceptance.start()
        self._acceptance = acceptance
        open_jobs = OpenJobs(
            acceptance,
            journal,
            reader,
            lambda: self.config.limits.multiple_operation_time_out_s,
        )
        catalogue = Catalogue(journal, reader)
        counter = Counter(workers=COUNTING_WORKERS)
        counts = Counts(journal, reader, documents, counter, catalogue, wall_clock)
        charging = Charging(journal, reader, wall_clock)
        work = WorkDesk(charging, reader, wall_clock)
        releases = Releases(journal, reader, catalogue, counts, charging, wall_clock)
        network = TcpNetwork(self._node_context)
        converter = Converter(config.node.data_dir / "converting", lambda: self.config.conversion)
        converter.sweep()
        dispatcher = Dispatcher(
            journal,
            reader,
            documents,
            network,
            wall_clock,
            random.Random(),
            Settings(
                backoff_first_s=config.dispatch.backoff_first_s,
                backoff_max_s=config.dispatch.backoff_max_s,
                stalled_after_s=config.dispatch.stalled_after_s,
                deliveries_max=config.dispatch.deliveries_max,
                refresh_s=config.dispatch.refresh_s,
            ),
            converting=partial(converting, converter),
        )
        drained = trio.Event()

        async def drain(deadline_s: float) -> None:
            await dispatcher.drain(deadline_s)
            drained.set()

        lines = open_lines(config, self.identity, journal, network, wall_clock)
        uplink = open_uplink(lines, journal, reader, wall_clock)
        self._membership = lines.membership
        handing = Handing(journal, reader, documents, lines.sites, wall_clock)
        await handing.start()
        acceptance.hands_on = handing.is_site
        endpoints = Endpoints(lambda: self.config)
        journal.listen(endpoints.hear)
        lines.sites.greetings.append(endpoints.greet)
        if lines.line is not None:
            lines.line.greetings.append(endpoints.own)
        replica = await open_replica(
            lines,
            journal,
            reader,
            self.vault,
            self.digests,
            self.erasure,
            wall_clock,
            config.node.name,
        )
        alone = open_authority(lines, journal, reader, wall_clock, self.identity.guid, config)
        recalling = None
        if alone is None:
            deadline_s = config.upstream.question_deadline_s
            recalling = Recalling(journal, reader, lines.sites, wall_clock, deadline_s)
        charging.authority = alone or recalling
        emergencies = Emergencies(journal, reader, catalogue, releases, wall_clock)
        reclaiming = Reclaiming(journal, lines.sites, wall_clock)
        passwords = Passwords()
        authentication = await self._authentication(journal, reader, passwords, alone)
        rounds = Rounds(journal, reader, self.digests, wall_clock)
        mfds = Mfds(journal, reader)
        await mfds.start()
        sessions = Sessions(journal, reader, mfds, wall_clock, os.urandom)
        await sessions.start()
        news = News(journal, sessions)
        objects = Objects(
            journal, reader, lines.sites, self.digests, self.identity.guid, wall_clock
        )
        services = Services(
            journal=journal,
            reader=reader,
            dispatcher=dispatcher,
            documents=documents,
            identity=self.identity.authority,
            config=config,
            wall_clock=wall_clock,
            network=network,
            node_guid=self.identity.guid,
            node_name=config.node.name,
            started_us=started_us,
            connections=lambda: {port.value: n for port, n in listener.by_port.items()},
            watch=Watch(journal),
            catalogue=catalogue,
            reload=self.reload,
            passwords=passwords,
            digests=self.digests,
            authentication=authentication,
            erasure=self.erasure,
            rounds=rounds,
            logins=Logins(authentication, journal),
            open_jobs=open_jobs,
            charging=charging,
            releases=releases,
            desk=Desk(journal, reader, catalogue, releases, charging, wall_clock),
            mfds=mfds,
            sessions=sessions,
            news=news,
            work=work,
            random_bytes=os.urandom,
            sites=lines.sites,
            receiver=Receiver(journal, reader, wall_clock),
            uplink=uplink,
            alone=alone,
            recalling=recalling,
            handing=handing,
            endpoints=endpoints,
            objects=objects,
            replica=replica,
            line=lines.line,
            membership=lines.membership,
            announced=lambda printer_id: announcer.told(printer_id),
            config_file=Path(self._file) if self._file is not None else None,
            checks=lambda: monitor.checks,
            stopped=lambda: monitor.stopped,
        )
        monitor = Monitor(
            services,
            lambda: self.config,
            self.identity,
            self._doubts_clock,
            lambda text: systemd.notify(self._surroundings, systemd.status(text)),
        )
        async with trio.open_nursery() as dispatching:
            entrance = doors.Doors(
                services,
                self.identity,
                acceptance,
                build_table(services),
                lambda: self.config,
                dispatching,
            )
            entrance.apis += (monitor.pages(),)
            await entrance.start()
            listener = Listener(entrance.handlers(), config.limits, entrance.note_refused)
            entrance.listener = listener
            self._listener = listener
            sockets = entrance.bind(systemd.take_sockets(self._environ))
            announcer = Announcer(
                journal,
                reader,
                _ports(sockets),
                config.node.name,
                self._host_name(),
                lambda: self.config.dnssd,
            )
            self._announcer = announcer
            dispatcher.is_held_back = lines.line is not None and replica is not None
            await dispatching.start(dispatcher.run)
            await dispatching.start(
                HandedJobs(journal, reader, dispatcher.driver_of, wall_clock).run
            )
            await dispatching.start(monitor.run)
            async with trio.open_nursery() as serving:
                serving.start_soon(entrance.watch_certificates)
                serving.start_soon(LineKeeper(lines, journal, news, wall_clock).run)
                if uplink is not None:
                    serving.start_soon(uplink.run)
                await serving.start(objects.run)
                if replica is not None:
                    serving.start_soon(replica.run)
                if alone is not None:
                    serving.start_soon(alone.run)
                serving.start_soon(emergencies.run)
                serving.start_soon(reclaiming.run)
                serving.start_soon(sessions.run)
                serving.start_soon(work.run)
                serving.start_soon(rounds.run)
                serving.start_soon(Timers(journal, reader, open_jobs, wall_clock).run)
                serving.start_soon(counts.run, releases)
                serving.start_soon(dispatcher.refresh)
                if lines.line is not None:
                    fetching = Fetching(
                        lines.line, acceptance, journal, reader, catalogue.our_name, wall_clock
                    )
                    serving.start_soon(fetching.run)
                    fence = Fence(journal, reader, wall_clock)
                    await fence.start()
                    serving.start_soon(fence.run)
                    serving.start_soon(_let_go, dispatcher, lines, replica, started_us)
                await serving.start(listener.run, [(one.sock, one.rules) for one in sockets])
                for one in sockets:
                    log.info("listening", port=one.label, address=one.where)
                await serving.start(announcer.run)
                task_status.started(
                    Running(
                        services,
                        {one.label: one.address for one in sockets if one.address},
                        entrance.control,
                        self._stop.set,
                    )
                )
                await self._stop.wait()
                if len(news):
                    news.set_mode(Mode.STOPPING)
                    await trio.sleep(FAREWELL_S)
                announcer.stop_nowait()
                listener.stop_nowait()
                deadline_s = self.config.drain.deadline_s
                serving.cancel_scope.deadline = trio.current_time() + deadline_s
                dispatching.start_soon(drain, deadline_s)
                await listener.ended.wait()
                serving.cancel_scope.cancel()
            await drained.wait()
            dispatching.cancel_scope.cancel()
        await counter.aclose()
        converter.close()
        log.info("stopped", reason="asked to")

    async def _authentication(
        self, journal: Journal, reader: SqliteReader, passwords: Passwords, alone: Alone | None
    ) -> Authentication:
        """Who logs in, with what earlier failures have left."""
        guard = Guard(reader, journal, self.digests, wall_clock)
        elsewhere: Elsewhere | Remembered = Elsewhere(reader)
        if alone is not None and self.vault is not None:
            elsewhere = Remembered(alone, passwords, self.vault, journal, reader, wall_clock)
        found = Authentication(
            reader, journal, passwords, self.digests, guard, wall_clock, elsewhere, self.vault
        )
        await found.start()
        lost = await reader.look(people.count_of_other_keys, self.digests.key_ids)
        if lost:
            log.error("card_key_missing", cards_and_pins=lost)
        return found

    def reload(self) -> list[str]:
        """Read the configuration again; what can change at once does. A line for each change.

        Raises:
            ConfigError: nothing changed.
        """
        systemd.notify(self._environ, systemd.reloading())
        try:
            new = configuration.load(self._file, self._surroundings)
        except ConfigError as error:
            log.error("reload_failed", reason=str(error))
            raise
        finally:
            systemd.notify(self._environ, systemd.READY)
        lines = configuration.difference(self.config, new)
        kept = replace(new, **{key: getattr(self.config, key) for key in NEEDS_RESTART})
        self.config = kept
        if self._listener is not None:
            self._listener.limits = kept.limits
        if self._acceptance is not None:
            self._acceptance.limits = kept.limits
        if self._announcer is not None:
            self._announcer.wake()
        for line in lines:
            log.info("configuration_changed", change=line)
        if not lines:
            log.info("configuration_unchanged")
        return lines


async def _let_go(
    dispatcher: Dispatcher, lines: Lines, replica: Replica | None, since_us: int
) -> None:
    """A site prints once it knows whether its printers are still its own, or cannot know."""
    line, membership = lines.line, lines.membership
    if line is not None and replica is not None and membership is not None and membership.is_joined:
        await wait_word(line, replica, since_us)
    dispatcher.let_go()


def _ports(sockets: Sequence[doors.Bound]) -> Ports:
    """Where IPP is spoken."""
    found = {
        label: tuple(one.address for one in sockets if one.label == label and one.address)
        for label in ("clear", "tls")
    }
    return Ports(found["clear"], found["tls"])


async def _add_default_printer(journal: Journal, reader: SqliteReader, data_dir: Path) -> None:
    """A spool without any printer gets one that writes files, so that a first job comes out."""
    if await reader.printers():
        return
    printed = data_dir / "printed"
    make_directory(printed)
    device = await journal.commit(PutDevice(uuid4(), printed.as_uri(), wall_clock()))
    await journal.commit(
        PutPrinter(
            Printer(0, uuid4(), "default", device.id, info="files in printed/"), wall_clock()
        )
    )
