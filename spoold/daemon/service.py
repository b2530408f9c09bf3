"""The life of a node: what starts in which order, and how it stops.

The nursery tree is the architecture: the journal's writer outermost, then upkeep and dispatch, then
the handlers of connections. Stopping is starting backwards, each step with a deadline: stop
listening, drain handlers, drain attempts, close the journal.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import trio

from spoold import __version__
from spoold.codec.dnssd import host_name
from spoold.daemon import config as configuration
from spoold.daemon import doors, systemd
from spoold.daemon.announce import Announcer, Ports
from spoold.daemon.config import NEEDS_RESTART, Config
from spoold.daemon.ground import Ground, wall_clock
from spoold.daemon.identity import node_guid, open_digests, open_identity, open_vault
from spoold.daemon.lock import locked
from spoold.daemon.operations import build_table
from spoold.daemon.operations.context import Services
from spoold.daemon.rooms import Surroundings, open_rooms
from spoold.intake.acceptance import Acceptance
from spoold.intake.listener import Listener
from spoold.model.errors import ConfigError, SpoolFull, StoreFailed
from spoold.model.record import Kind
from spoold.net import credentials
from spoold.release.news import Mode
from spoold.spool.checkpoints import Checkpoints
from spoold.spool.documents import Documents
from spoold.spool.erasure import PENDING, Erasure, rewrite
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import open_store
from spoold.spool.store import AddRecord
from spoold.spool.upkeep import Upkeep

log = structlog.get_logger("spoold.daemon")

FAREWELL_S = 0.05  # in which followers are told that the node stops


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

    async def run(self, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, serve until `Running.stop`, drain, and close.

        Raises:
            ConfigError, IdentityError, SpoolError: it cannot start, with advice.
            StoreFailed: the disk failed; nothing after it was acknowledged.
        """
        try:
            data_dir = self.config.node.data_dir
            with locked(data_dir):
                async with self._spool(data_dir) as ground:
                    await self._serve(ground, task_status)
        finally:
            self.stopped.set()

    def _host_name(self) -> str:
        """The name by which clients on the link find this node."""
        node = self.config.node
        return host_name(
            node.name, node_guid(node.data_dir, node.guid), self.config.advertise.names
        )

    @asynccontextmanager
    async def _spool(self, data_dir: Path) -> AsyncIterator[Ground]:
        """The open spool, its writer and its upkeep; closed last of all."""
        config, handed = self.config, credentials.directory(self._environ)
        identity = open_identity(
            data_dir,
            node_name=config.node.name,
            names=(*config.advertise.names, self._host_name()),
            wall_clock=wall_clock,
            handed=handed,
            given=config.node.guid,
        )
        digests = open_digests(data_dir, handed)
        vault = open_vault(data_dir, handed) if config.node.role == "site" else None
        async with AsyncExitStack() as stack:
            writer, store = await open_store(data_dir, wall_clock(), os.urandom, identity.guid)
            stack.callback(store.close)
            stack.push_async_callback(writer.close)
            if (data_dir / PENDING).exists():
                await writer.run(rewrite, store.db, data_dir)
            reader = await SqliteReader.open(data_dir)
            stack.push_async_callback(reader.close)
            journal = Journal(writer, store)
            checkpoints = await Checkpoints.open(data_dir, journal, store)
            stack.push_async_callback(checkpoints.close)
            documents = Documents(data_dir, reader, config.documents.inline_bytes_max)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._write, journal)
                upkeep = Upkeep(
                    journal, reader, documents, store, wall_clock, lambda: self.config.retention
                )
                upkeep_scope = trio.CancelScope()

                async def keep_up() -> None:
                    with upkeep_scope:
                        async with trio.open_nursery() as beside:
                            beside.start_soon(upkeep.run)
                            beside.start_soon(checkpoints.run)

                try:
                    await journal.commit(
                        AddRecord(Kind.NODE_STARTED, {"software": __version__}, wall_clock())
                    )
                except SpoolFull as error:  # jobs that are here can be looked at, and printed
                    log.error("disk_full", reason=str(error))
                erasure = Erasure(journal, reader, documents, store, wall_clock, data_dir)
                await erasure.start()
                nursery.start_soon(keep_up)
                yield Ground(
                    config=lambda: self.config,
                    identity=identity,
                    digests=digests,
                    vault=vault,
                    erasure=erasure,
                    journal=journal,
                    reader=reader,
                    documents=documents,
                    expiry=upkeep.expiry,
                )
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

    async def _serve(self, ground: Ground, task_status: trio.TaskStatus[Running]) -> None:
        """Let clients in, until it is told to stop; then see that nothing is cut off."""
        rooms = await open_rooms(
            ground,
            Surroundings(
                reload=self.reload,
                connections=lambda: {port.value: n for port, n in listener.by_port.items()},
                announced=lambda printer_id: announcer.told(printer_id),
                config_file=Path(self._file) if self._file is not None else None,
                tell_manager=lambda text: systemd.notify(self._surroundings, systemd.status(text)),
            ),
        )
        services, self._acceptance = rooms.services, rooms.acceptance
        drained = trio.Event()

        async def drain(deadline_s: float) -> None:
            await services.dispatcher.drain(deadline_s)
            drained.set()

        async with trio.open_nursery() as dispatching:
            entrance = doors.Doors(
                services,
                ground.identity,
                rooms.acceptance,
                build_table(services),
                ground.config,
                dispatching,
            )
            entrance.apis += (rooms.monitor.pages(),)
            await entrance.start()
            listener = Listener(entrance.handlers(), self.config.limits, entrance.note_refused)
            entrance.listener = self._listener = listener
            sockets = entrance.bind(systemd.take_sockets(self._environ))
            announcer = self._announcer = self._announcer_of(ground, sockets)
            await rooms.dispatch(dispatching)
            async with trio.open_nursery() as serving:
                serving.start_soon(entrance.watch_certificates)
                await rooms.serve(serving)
                await serving.start(listener.run, [(one.sock, one.rules) for one in sockets])
                for one in sockets:
                    log.info("listening", port=one.label, address=one.where)
                await serving.start(announcer.run)
                ports = {one.label: one.address for one in sockets if one.address}
                running = Running(services, ports, entrance.control, self._stop.set)
                task_status.started(running)
                await self._stop.wait()
                await _take_leave(services)
                announcer.stop_nowait()
                listener.stop_nowait()
                deadline_s = self.config.drain.deadline_s
                serving.cancel_scope.deadline = trio.current_time() + deadline_s
                dispatching.start_soon(drain, deadline_s)
                await listener.ended.wait()
                serving.cancel_scope.cancel()
            await drained.wait()
            dispatching.cancel_scope.cancel()
        await rooms.close()
        log.info("stopped", reason="asked to")

    def _announcer_of(self, ground: Ground, sockets: Sequence[doors.Bound]) -> Announcer:
        return Announcer(
            ground.journal,
            ground.reader,
            _ports(sockets),
            self.config.node.name,
            self._host_name(),
            lambda: self.config.dnssd,
        )

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


async def _take_leave(services: Services) -> None:
    """Tell those who follow sessions that the node stops."""
    if len(services.news):
        services.news.set_mode(Mode.STOPPING)
        await trio.sleep(FAREWELL_S)


def _ports(sockets: Sequence[doors.Bound]) -> Ports:
    """Where IPP is spoken."""
    found = {
        label: tuple(one.address for one in sockets if one.label == label and one.address)
        for label in ("clear", "tls")
    }
    return Ports(found["clear"], found["tls"])
