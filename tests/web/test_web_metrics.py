"""The text that a scraper gets: complete, bounded, and for whom."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from spoold.intake.exchange import NeedsLogin
from spoold.model.job import JobState
from spoold.model.principal import Port, Principal, Role
from spoold.spool.depth import Depth
from spoold.spool.events import JobMoved
from spoold.spool.histogram import Histogram
from spoold.web import health
from spoold.web.health import Check, Facts, Journals, Part, Rights
from spoold.web.metrics import OTHERS, Counts, Metrics, Sight
from spoold.web.pages import Pages

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
NOW_US = 1_700_000_000_000_000


def moved(printer_id, old, new, *reasons):
    return JobMoved(1, uuid4(), printer_id, old, new, reasons, 50, "olga", 10, 7)


def sight(counts=None, names=None, depths=()):
    commit_s = Histogram((0.01, 0.1))
    for value in (0.005, 0.01, 0.05, 3.0):
        commit_s.observe(value)
    return Sight(
        facts=Facts(NOW_US, free_bytes=7, in_doubt=2, certificates=(("node", NOW_US),)),
        checks=(Check(Part.STORE), Check(Part.DISK, health.Verdict.FAILED)),
        depths=depths,
        names={1: "frontdesk", 2: "labels"} if names is None else names,
        counts={} if counts is None else counts.copy(),
        deferrals={2: 5},
        printers={"idle": 1, "stopped": 1},
        connections={"clear": 3},
        position=99,
        commit_s=commit_s,
        commit_changes=Histogram((1, 2)),
        lag_s=Histogram((0.1,)),
    )


async def test_how_far_journals_are_behind_is_told():
    """What a site has to send, and at its application server what each site has."""
    journals = Journals(uplink_lag=7, sites=(("annex", 3),), quarantined=1)
    seen = sight()
    samples = await scraped(replace(seen, facts=replace(seen.facts, journals=journals)))
    assert samples["spoold_uplink_lag_records", ()] == 7
    assert samples["spoold_site_lag_records", (("site", "annex"),)] == 3
    assert samples["spoold_records_quarantined", ()] == 1


async def test_what_sites_may_spend_is_told():
    """Until when, of how many, and how much in whole units; nothing where there are no rights."""
    assert not any("rights" in name for name, _ in await scraped(sight()))
    seen = sight()
    facts = replace(seen.facts, rights=(Rights("annex", NOW_US, 12, 2_550_000),))
    samples = await scraped(replace(seen, facts=facts))
    annex = (("site", "annex"),)
    assert samples["spoold_rights_end_seconds", annex] == NOW_US / 1e6
    assert samples["spoold_rights_holders", annex] == 12
    assert samples["spoold_rights_granted", annex] == 255.0


async def scraped(found, printers_max=500):
    """Every sample as {(name, labels): value}."""
    media_type, body = await Metrics(lambda: found, lambda: printers_max).render(OPENMETRICS)
    assert media_type.startswith("application/openmetrics-text")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def test_jobs_are_counted_by_what_became_of_them():
    """Accepted, delivered, in doubt, aborted and canceled, each on its printer."""
    counts = Counts()
    active = JobState.PROCESSING
    counts.hear(
        [
            moved(1, None, JobState.PENDING),
            moved(1, None, JobState.PENDING_HELD),
            moved(1, JobState.PENDING, active),
            moved(1, active, JobState.COMPLETED),
            moved(2, active, JobState.PENDING_HELD, "job-in-doubt"),
            moved(2, active, JobState.PENDING_HELD, "document-format-error"),
            moved(2, JobState.PENDING, JobState.CANCELED),
            moved(2, active, JobState.ABORTED),
        ]
    )
    found = await scraped(sight(counts))
    at = {
        (name, dict(labels)["printer"]): value
        for (name, labels), value in found.items()
        if name.startswith("spoold_jobs") and value
    }
    assert at == {
        ("spoold_jobs_accepted_total", "frontdesk"): 2,
        ("spoold_jobs_delivered_total", "frontdesk"): 1,
        ("spoold_jobs_in_doubt_total", "labels"): 1,
        ("spoold_jobs_canceled_total", "labels"): 1,
        ("spoold_jobs_aborted_total", "labels"): 1,
    }
    assert found["spoold_attempts_deferred_total", (("printer", "labels"),)] == 5


async def test_what_the_node_is_like_is_told_in_numbers():
    """Queues and their age, commits as a histogram, connections, health, certificates."""
    depths = (Depth(1, JobState.PENDING, 4, NOW_US - 90_000_000),)
    found = await scraped(sight(depths=depths))
    printer = ("printer", "frontdesk")
    assert found["spoold_queue_jobs", (printer, ("state", "pending"))] == 4
    assert found["spoold_queue_oldest_seconds", (printer,)] == 90
    assert found["spoold_queue_in_doubt", ()] == 2
    assert found["spoold_commit_seconds_bucket", (("le", "0.01"),)] == 2
    assert found["spoold_commit_seconds_count", ()] == 4
    assert found["spoold_commit_seconds_sum", ()] == pytest.approx(3.065)
    assert found["spoold_connections", (("port", "clear"),)] == 3
    assert found["spoold_health", (("part", "disk"),)] == 2
    assert found["spoold_certificate_end_seconds", (("certificate", "node"),)] == NOW_US / 1e6
    assert found["spoold_journal_position", ()] == 99


async def test_ten_thousand_printers_make_no_ten_thousand_series():
    """Beyond the bound, and for printers that are gone, they are told together."""
    counts = Counts()
    counts.hear([moved(number, None, JobState.PENDING) for number in range(10_000)])
    names = {number: f"p{number}" for number in range(9_000)}
    found = await scraped(sight(counts, names), printers_max=10)
    accepted = {
        dict(labels)["printer"]: value
        for (name, labels), value in found.items()
        if name == "spoold_jobs_accepted_total"
    }
    assert len(accepted) == 11
    assert accepted[OTHERS] == 9_990


async def test_many_scrapers_cost_one():
    """The text is made once a second, however many ask."""
    looks = 0
    now_s = 0.0

    def look():
        nonlocal looks
        looks += 1
        return sight()

    metrics = Metrics(look, lambda: 10, lambda: now_s)
    for _ in range(10):
        await metrics.render("")
    assert looks == 1
    now_s = 1.0
    await metrics.render("")
    assert looks == 2


@pytest.mark.slow
async def test_promtool_finds_nothing_to_say_of_it():
    """What Prometheus itself takes for good style: names, units, help."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    counts = Counts()
    counts.hear([moved(1, None, JobState.PENDING)])
    _, body = await Metrics(lambda: sight(counts), lambda: 10).render("")
    said = subprocess.run(  # noqa: ASYNC221
        ["promtool", "check", "metrics"], input=body, capture_output=True, check=False
    )
    assert said.returncode == 0, said.stderr.decode()


class Asked:
    def __init__(self, principal):
        self.request = SimpleNamespace(path="/metrics", method="GET", header=lambda _: "")
        self.principal = principal

    async def respond(self, status, headers, body=b""):
        self.status = status


async def test_metrics_are_for_those_who_are_named():
    """Loopback and staff by default, networks of the configuration; anybody else is refused."""
    networks = [ip_network("127.0.0.0/8"), ip_network("192.0.2.0/24")]
    pages = Pages(SimpleNamespace(), Metrics(lambda: sight(), lambda: 10), lambda: networks)
    staff = Principal(
        "user:7", Port.TLS, frozenset({Role.HELP_DESK}), "olga", address="203.0.113.9"
    )
    stranger = Principal("address:203.0.113.9", Port.CLEAR, address="203.0.113.9")
    allowed = (
        replace(stranger, address="127.0.0.1"),
        replace(stranger, address="::ffff:192.0.2.8"),
        staff,
    )
    for principal in allowed:
        asked = Asked(principal)
        await pages.serve(asked)
        assert asked.status == 200
    for principal in (
        stranger,
        replace(staff, port=Port.CLEAR),
        replace(stranger, port=Port.MUTUAL, roles=frozenset({Role.PROVIDER}), name="x"),
        replace(stranger, address=""),
    ):
        asked = Asked(principal)
        await pages.serve(asked)
        assert asked.status == 403
    with pytest.raises(NeedsLogin):
        await pages.serve(Asked(replace(staff, roles=frozenset({Role.USER}))))
