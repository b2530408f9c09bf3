"""What a node has done and has to do, in numbers: OpenMetrics, by `prometheus-client`.

Nothing is counted with locks: whoever does the work keeps plain numbers, and they are read when
somebody scrapes. The series of printers are bounded: beyond a number of them they are told
together, as the printer `(others)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from spoold import __version__
from spoold.model.job import ACTIVE, JobReason, JobState
from spoold.model.money import UNIT
from spoold.spool.depth import Depth
from spoold.spool.events import Event, JobMoved
from spoold.spool.histogram import Histogram
from spoold.web.health import SECOND_US, Check, Facts, Rights, Verdict

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

OTHERS = "(others)"
KEPT_S = 1.0  # however many scrape, the text is made once in this time
_ENDS = {JobState.COMPLETED: 1, JobState.ABORTED: 3, JobState.CANCELED: 4}
_COUNTED = ("accepted", "delivered", "in_doubt", "aborted", "canceled")
_SAID = {
    "accepted": "Jobs that were accepted.",
    "delivered": "Jobs that were delivered.",
    "in_doubt": "Attempts after which nobody knew whether the job had printed.",
    "aborted": "Jobs that could not be printed at all.",
    "canceled": "Jobs that were canceled.",
}


class Counts:
    """What became of the jobs of each printer since the start."""

    def __init__(self) -> None:
        self.printers: dict[int, list[int]] = {}

    def copy(self) -> dict[int, tuple[int, ...]]:
        return {id_: tuple(row) for id_, row in self.printers.items()}

    def hear(self, events: Sequence[Event]) -> None:
        """Called after each commit; must not wait or raise."""
        for event in events:
            if type(event) is not JobMoved:
                continue
            row = self.printers.get(event.printer_id)
            if row is None:
                row = self.printers[event.printer_id] = [0] * len(_COUNTED)
            if event.old is None:
                row[0] += 1
            elif event.new is JobState.PENDING_HELD:
                row[2] += event.old in ACTIVE and JobReason.JOB_IN_DOUBT in event.reasons
            elif (end := _ENDS.get(event.new)) is not None and event.old is not event.new:
                row[end] += 1


@dataclass(frozen=True, slots=True)
class Sight:
    """What is scraped: plain values of one moment, but for the histograms, which go on."""

    facts: Facts
    checks: Sequence[Check]
    depths: Sequence[Depth]
    names: Mapping[int, str]
    counts: Mapping[int, Sequence[int]]  # by printer, as `Counts` keeps them
    deferrals: Mapping[int, int]
    printers: Mapping[str, int]  # by state
    connections: Mapping[str, int]
    position: int
    commit_s: Histogram
    commit_changes: Histogram
    lag_s: Histogram
    copy_age_s: float | None = None  # of what a site has of its application server


class Metrics:
    """`look` gives what there is to see now; `printers_max` bounds the series."""

    def __init__(
        self,
        look: Callable[[], Sight],
        printers_max: Callable[[], int],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._printers_max = printers_max
        self._monotonic_s = monotonic_s
        self._kept: dict[str, tuple[float, str, bytes]] = {}
        self._making = trio.Lock()
        self._registry: CollectorRegistry | None = None
        self._sight: Sight | None = None

    async def render(self, accept: str) -> tuple[str, bytes]:
        """Media type and text, as a scraper that accepts these types takes it."""
        key = "openmetrics" if "application/openmetrics-text" in accept else "text"
        async with self._making:
            kept = self._kept.get(key)
            if kept is None or self._monotonic_s() - kept[0] >= KEPT_S:
                self._sight = self._look()
                made = await trio.to_thread.run_sync(self._generate, accept)
                kept = self._kept[key] = (self._monotonic_s(), *made)
        return kept[1], kept[2]

    def _generate(self, accept: str) -> tuple[str, bytes]:
        """In a thread: loading the library takes a while, and so do many printers."""
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
        generate, media_type = choose_encoder(accept)
        return media_type, generate(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every series (prometheus-client asks for them)."""
        sight = self._sight
        if sight is None:
            return
        known = sorted(sight.names)[: self._printers_max()]
        names = {id_: sight.names[id_] for id_ in known}
        yield from _of_node(sight)
        yield from _of_jobs(sight, names)
        yield from _of_queues(sight, names)


def _of_node(sight: Sight) -> Iterator[Metric]:
    from prometheus_client.metrics_core import InfoMetricFamily

    facts = sight.facts
    yield InfoMetricFamily("spoold", "What runs here.", {"version": __version__})
    yield _gauge("spoold_journal_position", "The last position of the journal.", sight.position)
    yield _histogram("spoold_commit_seconds", "How long commits took.", sight.commit_s)
    yield _histogram("spoold_commit_changes", "How large commits were.", sight.commit_changes)
    yield _histogram("spoold_loop_lag_seconds", "How late the event loop was.", sight.lag_s)
    yield _gauges("spoold_connections", "Open connections.", ("port",), _by_key(sight.connections))
    yield _gauge("spoold_disk_free_bytes", "Free space of the data directory.", facts.free_bytes)
    yield _gauge("spoold_disk_total_bytes", "Size of the data directory's disk.", facts.total_bytes)
    ends = [((name,), end / SECOND_US) for name, end in facts.certificates]
    text = "When certificates end, in seconds since the epoch."
    yield _gauges("spoold_certificate_end_seconds", text, ("certificate",), ends)
    if facts.backup_us is not None:
        text = "When the last backup was made, in seconds since the epoch."
        yield _gauge("spoold_backup_seconds", text, facts.backup_us / SECOND_US)
    journals = facts.journals
    if journals.uplink_lag is not None:
        text = "Records that the application server has not acknowledged."
        yield _gauge("spoold_uplink_lag_records", text, journals.uplink_lag)
    if journals.sites:
        text = "Records that a site has and this node has not, as far as the site has said."
        lags = [((name,), lag) for name, lag in journals.sites]
        yield _gauges("spoold_site_lag_records", text, ("site",), lags)
        text = "Records of sites that could not be applied."
        yield _gauge("spoold_records_quarantined", text, journals.quarantined)
    yield from _of_rights(facts.rights)
    if sight.copy_age_s is not None:
        text = "For how long the copy of the application server's objects may be behind."
        yield _gauge("spoold_copy_age_seconds", text, sight.copy_age_s)
    order = (Verdict.OK, Verdict.WARNING, Verdict.FAILED)
    states = [((check.part.value,), order.index(check.verdict)) for check in sight.checks]
    text = "Verdict on each part: 0 ok, 1 warning, 2 failed."
    yield _gauges("spoold_health", text, ("part",), states)


def _of_rights(rights: Sequence[Rights]) -> Iterator[Metric]:
    if not rights:
        return
    label = ("site",)
    text = "Until when a site may spend the rights that it holds, in seconds since the epoch."
    ends = (((r.site,), r.end_us / SECOND_US) for r in rights)
    yield _gauges("spoold_rights_end_seconds", text, label, ends)
    text = "People and accounts whose money a site may spend without asking."
    yield _gauges("spoold_rights_holders", text, label, (((r.site,), r.holders) for r in rights))
    text = "What was granted to a site of their money, in whole units."
    granted = (((r.site,), r.granted / UNIT) for r in rights)
    yield _gauges("spoold_rights_granted", text, label, granted)


def _of_jobs(sight: Sight, names: Mapping[int, str]) -> Iterator[Metric]:
    for index, what in enumerate(_COUNTED):
        rows = {id_: row[index] for id_, row in sight.counts.items()}
        yield _counter(f"spoold_jobs_{what}", _SAID[what], rows, names)
    text = "Attempts that left nothing on paper, and are made again."
    yield _counter("spoold_attempts_deferred", text, sight.deferrals, names)


def _of_queues(sight: Sight, names: Mapping[int, str]) -> Iterator[Metric]:
    counts: dict[tuple[str, str], int] = {}
    ages: dict[tuple[str, ...], float] = {}
    for depth in sight.depths:
        printer = names.get(depth.printer_id, OTHERS)
        key = (printer, depth.state.value)
        counts[key] = counts.get(key, 0) + depth.jobs
        if depth.state is JobState.PENDING:
            age_s = max(0, sight.facts.now_us - depth.oldest_us) / SECOND_US
            ages[printer,] = max(age_s, ages.get((printer,), 0.0))
    yield _gauges("spoold_queue_jobs", "Unfinished jobs.", ("printer", "state"), counts.items())
    text = "How long the oldest job waits that could print."
    yield _gauges("spoold_queue_oldest_seconds", text, ("printer",), ages.items())
    yield _gauge("spoold_queue_in_doubt", "Jobs held as in doubt.", sight.facts.in_doubt)
    yield _gauges(
        "spoold_printers", "Printers by what they do.", ("state",), _by_key(sight.printers)
    )


def _by_key(values: Mapping[str, float]) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((key,), value) for key, value in values.items())


def _gauge(name: str, text: str, value: float) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, value)


def _gauges(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, rows: Mapping[int, int], names: Mapping[int, str]) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=("printer",))
    totals: dict[str, int] = {}
    for id_, count in rows.items():
        printer = names.get(id_, OTHERS)
        totals[printer] = totals.get(printer, 0) + count
    for printer, count in totals.items():
        family.add_metric((printer,), count)
    return family


def _histogram(name: str, text: str, found: Histogram) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    values: Any = found.cumulative()
    return HistogramMetricFamily(name, text, buckets=values, sum_value=found.total)
