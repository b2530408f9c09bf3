"""The node looks at itself, every few seconds: what health, metrics and the status tell.

One task looks, one asks the journal's writer whether it still answers, and one notes how late the
event loop is. Whoever asks how the node is gets what was seen last, and costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog
import trio
from cryptography import x509

from spoold.daemon import backup, journals
from spoold.daemon.authority import microseconds
from spoold.daemon.config import Config, Listen
from spoold.daemon.identity import NodeIdentity
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.watch import Known
from spoold.model.job import WAITING, JobState
from spoold.model.node import LineState
from spoold.model.policy import ExpiryClock
from spoold.spool import depth, leases, nodes, people, synchronised
from spoold.spool.depth import Depth
from spoold.spool.histogram import Histogram
from spoold.spool.reader import SqliteReader
from spoold.web import health
from spoold.web.health import Check, Facts, Part, Rights, Stopped, Verdict
from spoold.web.metrics import Counts, Metrics, Sight
from spoold.web.pages import Pages

log = structlog.get_logger("spoold.daemon")

LOOK_S = 5.0
SHARE = 0.01  # of a processor, at most, to count very long queues
BEAT_S = 1.0
TURN_S = 0.25
LAG_KEPT_S = 60.0
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
KEYS_S = 600.0  # how often keys, and certificates of this node and of providers, are looked at
EXPIRED_DAYS = 30  # for which a provider is told of that nobody has enrolled anew


class Monitor:
    """`checks` is how the node was when it last looked, `age_s` ago; `stopped` are the printers
    that print nothing.

    `expiry` is what upkeep thinks of the clock; `tell` takes the one line that the service manager
    shows.
    """

    def __init__(
        self,
        services: Services,
        config: Callable[[], Config],
        identity: NodeIdentity,
        expiry: ExpiryClock,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._services = services
        self._config = config
        self._reader = services.reader
        ca = identity.authority.trusted[0]
        self._identity = identity
        self._authority_end_us = microseconds(ca.not_valid_after_utc)
        self._expiry = expiry
        self._tell_manager = tell
        self._counts = Counts()
        self._lag_s = Histogram(LAG_BOUNDS_S)
        self._lags: list[tuple[float, float]] = []  # (when, how late) of the last while
        self._beat_begun_s: float | None = None
        self._beat_took_s = 0.0
        self._looked_s = float("-inf")
        self._depths: list[Depth] = []
        self._in_doubt = 0
        self._damaged = 0
        self._keyless = 0
        self._rights: tuple[Rights, ...] = ()
        self._counted_until_s = float("-inf")
        self._certificates: tuple[tuple[str, int], ...] = ()
        self._providers: tuple[tuple[str, int], ...] = ()
        self._keys_until_s = float("-inf")
        self._known = Known({}, {}, {})
        self._facts = Facts(0)
        self._told: dict[Part, Verdict] = {}
        self._is_back = trio.Event()  # the line, which changes much of what was seen
        self._stopped_since: dict[int, int] = {}
        self.checks: Sequence[Check] = ()
        self.stopped: tuple[Stopped, ...] = ()

    @property
    def age_s(self) -> float:
        return trio.current_time() - self._looked_s

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled; started once there is something to tell."""
        self._services.journal.listen(self._counts.hear)
        if self._services.line is not None:
            self._services.line.listen(self._line_changed)
        # One of its own: listings never wait while long queues are counted.
        self._reader = await SqliteReader.open(self._config().node.data_dir)
        try:
            await self.look()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat)
                nursery.start_soon(self._turn)
                task_status.started()
                while True:
                    with trio.move_on_after(LOOK_S):
                        await self._is_back.wait()
                    self._is_back = trio.Event()
                    await self.look()
        finally:
            self._services.journal.unlisten(self._counts.hear)
            await self._reader.close()

    def _line_changed(self, state: LineState) -> None:
        if state is LineState.UP:
            self._is_back.set()

    async def _beat(self) -> None:
        """Ask the writer again and again whether it still gets to what it is given."""
        while True:
            self._beat_begun_s = trio.current_time()
            await self._services.journal.beat()
            self._beat_took_s = trio.current_time() - self._beat_begun_s
            self._beat_begun_s = None
            await trio.sleep(BEAT_S)

    async def _turn(self) -> None:
        while True:
            expected_s = trio.current_time() + TURN_S
            await trio.sleep(TURN_S)
            now_s = trio.current_time()
            late_s = max(0.0, now_s - expected_s)
            self._lag_s.observe(late_s)
            self._lags = [one for one in self._lags if now_s - one[0] < LAG_KEPT_S]
            self._lags.append((now_s, late_s))

    def pages(self) -> Pages:
        """What is shown of it over HTTP."""
        metrics = Metrics(self.sight, lambda: self._config().metrics.printers_max)
        return Pages(self, metrics, lambda: self._config().metrics.allow)

    # -- looking -----------------------------------------------------------------------------

    async def look(self) -> Sequence[Check]:
        """Look now; what is found is what is told from now on."""
        services = self._services
        self._known = await services.catalogue.look()
        await self._count()
        await self._look_at_keys()
        config = self._config()
        space = await trio.to_thread.run_sync(services.documents.space)
        last = await trio.to_thread.run_sync(backup.last, config.node.data_dir)
        paused = self._look_at_printers()
        oldest = self._oldest()
        made_us = (last or {}).get("made_us")
        line = services.line
        is_gone = line is not None and line.state is LineState.GONE
        self._facts = Facts(
            now_us=services.wall_clock(),
            is_store_failed=services.journal.is_failed,
            commit_s=self._commit_s(),
            loop_lag_s=max((late_s for _, late_s in self._lags), default=0.0),
            free_bytes=space.free_bytes,
            total_bytes=space.total_bytes,
            printers=len(self._known.printers),
            paused=paused,
            absent=self._absent(config.listen),
            stopped=self.stopped,
            waiting=sum(one.jobs for one in self._depths if one.state is JobState.PENDING),
            in_doubt=self._in_doubt,
            damaged=self._damaged,
            oldest_us=oldest.oldest_us if oldest is not None else None,
            oldest_printer=self._known.name_of(oldest.printer_id) if oldest is not None else "",
            certificates=(*self._certificates, *self._line_certificate()),
            providers=self._providers,
            is_clock_doubtful=self._expiry.is_doubtful,
            clock_set_back_s=self._expiry.set_back_s,
            clocks=self._clocks(),
            backup_us=made_us if isinstance(made_us, int) else None,
            line_gone_us=line.since_us if is_gone and line is not None else None,
            line_reason=line.reason if line is not None else "",
            stranded=self._stranded(),
            is_to_join=services.membership is not None and not services.membership.is_joined,
            to_approve=self._to_approve(),
            sites_gone=await self._sites_gone(),
            behind=await services.reader.look(synchronised.behind),
            keyless=self._keyless,
            journals=await journals.look(services),
            rights=self._rights,
        )
        self.checks = health.judge(self._facts, config.health, config.limits)
        self._looked_s = trio.current_time()
        self._tell()
        self._tell_manager(self._line())
        return self.checks

    async def _count(self) -> None:
        """The lengths of the queues and the extent of rights, less often the longer they are."""
        begun_s = trio.current_time()
        if begun_s < self._counted_until_s:
            return
        reader = self._reader
        self._depths = await reader.look(depth.depths)
        self._in_doubt = await reader.look(depth.in_doubt)
        since_us = self._services.wall_clock() - health.DAY_US
        self._damaged = await reader.look(depth.damaged, since_us)
        names = await reader.look(nodes.names)
        names[self._services.node_guid] = self._services.node_name
        self._rights = tuple(
            Rights(names.get(site, str(site)), *rest)
            for site, *rest in await reader.look(leases.extents)
        )
        took_s = trio.current_time() - begun_s
        self._counted_until_s = begun_s + took_s / SHARE - LOOK_S / 2

    async def _sites_gone(self) -> tuple[tuple[str, int], ...]:
        """The sites that have no line now, each with when that was seen first."""
        services, found = self._services, []
        for node in await self._reader.look(nodes.find_all):
            if node.is_approved and not services.sites.is_up(node.guid):
                site = services.sites.find(node.guid)
                since_us = services.started_us if site is None else site.since_us
                found.append((node.name, since_us or services.started_us))
        return tuple(found)

    async def _look_at_keys(self) -> None:
        now_s = trio.current_time()
        if now_s >= self._keys_until_s:
            key_ids = self._services.digests.key_ids
            self._keyless = await self._reader.look(people.count_of_other_keys, key_ids)
            await self._look_at_certificates()
            self._keys_until_s = now_s + KEYS_S

    async def _look_at_certificates(self) -> None:
        file = self._config().tls.certificate
        found = () if file is None else await trio.to_thread.run_sync(_ends_of, file)
        own = (("node", self._identity.not_after_us), ("authority", self._authority_end_us))
        self._certificates = (*own, *found)
        now_us = self._services.wall_clock()
        since_us = now_us - EXPIRED_DAYS * health.DAY_US
        until_us = now_us + int(self._config().health.certificate_days * health.DAY_US)
        self._providers = tuple(
            (one.name, one.not_after_us)
            for one in await self._reader.providers()
            if not one.revoked and since_us < one.not_after_us < until_us
        )

    def _line_certificate(self) -> Iterable[tuple[str, int]]:
        """It ends by the clock of the application server, which told its time."""
        line, member = self._services.line, self._services.membership
        if line is not None and member is not None and member.not_after_us is not None:
            yield health.LINE, member.not_after_us - (line.offset_us or 0)

    def _clocks(self) -> tuple[tuple[str, float], ...]:
        line = self._services.line
        if line is None:
            here = self._services.sites.here()
            return tuple((one.node.name, one.offset_us / 1e6) for one in here if one.offset_us)
        if line.upstream is None or line.offset_us is None:
            return ()
        return ((line.upstream.name, line.offset_us / 1e6),)

    def _commit_s(self) -> float:
        if self._beat_begun_s is None:
            return self._beat_took_s
        return max(self._beat_took_s, trio.current_time() - self._beat_begun_s)

    def _look_at_printers(self) -> int:
        """Note the printers that print nothing, the longest so first; returns how many are paused.

        A device that fails now and then is one that does not print until an attempt succeeds.
        """
        counts = {(one.printer_id, one.state): one.jobs for one in self._depths}
        now_us = self._services.wall_clock()
        stopped: list[Stopped] = []
        since: dict[int, int] = {}
        printers = self._known.printers.values()
        for printer in printers:
            if printer.paused or printer.is_pool:
                continue
            status = self._services.dispatcher.status(printer.id)
            is_stalled = (printer.id, JobState.PROCESSING_STOPPED) in counts
            if status.failures or is_stalled:
                reason = status.reasons[0] if status.reasons else "stopped"
                first_us = self._stopped_since.get(printer.id, now_us)
                since[printer.id] = first_us
                waiting = counts.get((printer.id, JobState.PENDING), 0)
                stopped.append(Stopped(printer.name, first_us, reason, printer.id, waiting))
        self._stopped_since = since
        self.stopped = tuple(sorted(stopped, key=lambda one: one.since_us))
        return sum(printer.paused for printer in printers)

    def _stranded(self) -> tuple[tuple[str, int], ...]:
        """Jobs that wait for printers of nodes that this one hands none to."""
        services, found = self._services, Counter[str]()
        for one in self._depths:
            printer = self._known.printers.get(one.printer_id)
            if printer is None or printer.owner is None or one.state not in WAITING:
                continue
            is_reached = services.handing.is_site(printer.owner)
            if not is_reached and not printer.waits_anywhere(services.line is not None):
                found[printer.name] += one.jobs
        return tuple(found.items())

    def _to_approve(self) -> str:
        membership = self._services.membership
        if membership is None or membership.is_joined or membership.member is None:
            return ""
        return membership.member.name

    def _absent(self, listen: Listen) -> tuple[str, ...]:
        """What raw streams are to go to and is not there; `default` need not be."""
        there = {printer.name for printer in self._known.printers.values()}
        named = (*(one.printer for one in listen.raw), listen.raw_printer)
        return tuple(name for name in dict.fromkeys(named) if name not in {*there, "default"})

    def _oldest(self) -> Depth | None:
        """Where the job waits that has waited longest for a printer which is not paused."""
        printers = self._known.printers
        waits = (
            one
            for one in self._depths
            if one.state is JobState.PENDING
            and one.printer_id in printers
            and not printers[one.printer_id].paused
        )
        return min(waits, key=lambda one: one.oldest_us, default=None)

    def _tell(self) -> None:
        """A line in the log when a verdict changes."""
        for check in self.checks:
            before = self._told.get(check.part, Verdict.OK)
            self._told[check.part] = check.verdict
            if check.verdict is before:
                continue
            if check.verdict is Verdict.OK:
                log.info("health_restored", part=check.part)
            elif check.verdict is Verdict.WARNING:
                log.warning("health_warning", part=check.part, detail=check.text)
            else:
                log.error("health_failed", part=check.part, detail=check.text)

    def _line(self) -> str:
        """How the node is, in one line."""
        facts = self._facts
        said = [check.text for check in self.checks if check.verdict is not Verdict.OK]
        printing = sum(one.jobs for one in self._depths if one.state is JobState.PROCESSING)
        line = f"printers: {facts.printers}, jobs: {facts.waiting} waiting, {printing} printing"
        return "; ".join([line, *said])

    # -- metrics -----------------------------------------------------------------------------

    def sight(self) -> Sight:
        """What there is to scrape now."""
        services, known = self._services, self._known
        states: dict[str, int] = {}
        for printer_id in known.printers:
            state = services.dispatcher.status(printer_id).state
            states[state] = states.get(state, 0) + 1
        age_us = services.replica.age_us() if services.replica is not None else None
        return Sight(
            facts=self._facts,
            checks=self.checks,
            depths=tuple(self._depths),
            names={id_: printer.name for id_, printer in known.printers.items()},
            counts=self._counts.copy(),
            deferrals=dict(services.dispatcher.deferrals),
            printers=states,
            connections=services.connections(),
            position=services.journal.head,
            commit_s=services.journal.commit_s,
            commit_changes=services.journal.commit_changes,
            lag_s=self._lag_s,
            copy_age_s=None if age_us is None else age_us / 1e6,
        )


def _ends_of(file: Path) -> Iterable[tuple[str, int]]:
    """The first certificate of a file with its end; none when it cannot be read, which is told
    where it is used.
    """
    try:
        first = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        return ()
    return ((file.name, microseconds(first.not_valid_after_utc)),)
