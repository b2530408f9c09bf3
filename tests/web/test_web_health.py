"""What is judged to be well, and what is told to whom."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from spoold.daemon.config import Config
from spoold.model.principal import Port, Principal, Role
from spoold.web import health
from spoold.web.health import Facts, Journals, Part, Stopped, Verdict
from spoold.web.pages import Pages, is_staff

NOW_US = 1_700_000_000_000_000
HOUR_US = 3600 * 1_000_000
DAY_US = 24 * HOUR_US
GIB = 1024**3
CONFIG = Config()
WELL = Facts(
    NOW_US,
    commit_s=0.001,
    free_bytes=50 * GIB,
    total_bytes=100 * GIB,
    printers=3,
    certificates=(("node", NOW_US + 300 * DAY_US),),
    backup_us=NOW_US - DAY_US,
)
GONE = (("annex", NOW_US - 3 * HOUR_US), ("hall", NOW_US - HOUR_US), ("new", NOW_US - 9_000_000))
OPERATOR = Principal("user:7", Port.TLS, frozenset({Role.OPERATOR, Role.USER}), "olga")


def judged(**changes):
    return health.judge(replace(WELL, **changes), CONFIG.health, CONFIG.limits)


def stopped(count, hours=1.0):
    return tuple(
        Stopped(f"p{number}", int(NOW_US - hours * HOUR_US), "media-empty")
        for number in range(count)
    )


def test_a_node_that_is_well_has_nothing_to_say():
    """Every part is looked at, none has advice."""
    checks = judged()
    assert [check.part for check in checks] == list(Part)
    assert health.worst(checks) is Verdict.OK
    assert {check.text for check in checks} <= {"", "the last backup is 24 h old"}


def test_a_line_that_fails_for_its_name_has_advice():
    """The application server does not know that it is called so."""
    reason = "hq:9195: Hostname mismatch, certificate is not valid for 'hq'."
    (check,) = [
        one for one in judged(line_gone_us=NOW_US, line_reason=reason) if one.part is Part.LINE
    ]
    assert "[advertise] names" in check.advice


def test_a_site_that_is_turned_away_without_a_word_is_told_of_restored_servers():
    """As one is whose application server was put back to before it joined."""
    reason = "hq:9195: the connection broke: TLS: the connection ended without close_notify"
    [check] = [
        one for one in judged(line_gone_us=NOW_US, line_reason=reason) if one.part is Part.LINE
    ]
    assert "restored to before this site joined" in check.advice


def test_a_site_that_was_shut_out_is_not_told_that_the_line_comes_back():
    """It has another way in, or none."""
    reason = "hq:9195: the connection broke: TLS: the peer says: certificate revoked"
    [check] = [
        one for one in judged(line_gone_us=NOW_US, line_reason=reason) if one.part is Part.LINE
    ]
    assert "comes back" not in check.advice
    assert "new data directory" in check.advice


@pytest.mark.parametrize(
    ("changes", "part", "verdict", "words"),
    [
        ({"is_store_failed": True}, Part.STORE, Verdict.FAILED, "has failed"),
        ({"journals": Journals(5, True)}, Part.JOURNALS, Verdict.FAILED, "nothing is sent"),
        ({"journals": Journals(forked=("annex",))}, Part.JOURNALS, Verdict.FAILED, "annex"),
        ({"journals": Journals(quarantined=3)}, Part.JOURNALS, Verdict.WARNING, "3 records"),
        ({"is_to_join": True}, Part.LINE, Verdict.WARNING, "no application server has let it in"),
        ({"to_approve": "library"}, Part.LINE, Verdict.WARNING, "waits to be approved"),
        ({"line_gone_us": NOW_US - 9_000_000}, Part.LINE, Verdict.WARNING, "for 9 s"),
        ({"sites_gone": GONE[:1]}, Part.LINE, Verdict.WARNING, "a site has no line: annex for 3 h"),
        ({"sites_gone": GONE}, Part.LINE, Verdict.WARNING, "2 sites have no line: annex for 3 h"),
        ({"commit_s": 2.0}, Part.STORE, Verdict.WARNING, "2.0 s"),
        ({"commit_s": 30.0}, Part.STORE, Verdict.FAILED, "30.0 s"),
        ({"free_bytes": 10 * GIB}, Part.DISK, Verdict.WARNING, "90 % full"),
        ({"free_bytes": 4 * GIB}, Part.DISK, Verdict.FAILED, "96 % full; new jobs are refused"),
        (
            {"free_bytes": 20 << 20, "total_bytes": 48 << 20},
            Part.DISK,
            Verdict.FAILED,
            "has 20 MiB free; below 64 MiB new jobs are refused",
        ),
        ({"loop_lag_s": 0.9}, Part.LOOP, Verdict.WARNING, "0.90 s"),
        ({"stopped": stopped(2)}, Part.PRINTERS, Verdict.WARNING, "p0 (media-empty), p1"),
        ({"stopped": stopped(2, 0.1)}, Part.PRINTERS, Verdict.OK, ""),
        ({"stopped": stopped(12)}, Part.PRINTERS, Verdict.WARNING, "and 2 more"),
        ({"absent": ("labels",)}, Part.PRINTERS, Verdict.WARNING, "refuses them: labels"),
        ({"in_doubt": 2}, Part.JOBS, Verdict.WARNING, "2 jobs are in doubt"),
        ({"stranded": (("hall", 1),)}, Part.JOBS, Verdict.WARNING, "whose node was revoked"),
        (
            {"stranded": (("hall", 1), ("roof", 2)), "journals": Journals(0)},
            Part.JOBS,
            Verdict.WARNING,
            "3 jobs wait here for hall, roof, which another node prints",
        ),
        ({"keyless": 2}, Part.PEOPLE, Verdict.WARNING, "2 cards or PINs were kept by a key"),
        ({"damaged": 1}, Part.JOBS, Verdict.WARNING, "1 job was aborted in the last day"),
        ({"oldest_us": NOW_US - 3 * HOUR_US}, Part.JOBS, Verdict.WARNING, "waited for 3 h"),
        (
            {"certificates": (("web", NOW_US + 5 * DAY_US), ("node", NOW_US + 90 * DAY_US))},
            Part.CERTIFICATES,
            Verdict.WARNING,
            "web has 5 days left",
        ),
        ({"certificates": (("node", NOW_US),)}, Part.CERTIFICATES, Verdict.FAILED, "expired"),
        (
            {"certificates": (("line", NOW_US), ("node", NOW_US + 90 * DAY_US))},
            Part.CERTIFICATES,
            Verdict.WARNING,
            "of the line to the application server has expired",
        ),
        (
            {"providers": (("till-8", NOW_US + 9 * DAY_US), ("till-7", NOW_US + 5 * DAY_US))},
            Part.CERTIFICATES,
            Verdict.WARNING,
            "provider till-7 has 5.0 days left, and of 1 more it ends soon",
        ),
        (
            {"providers": (("till-7", NOW_US - DAY_US),)},
            Part.CERTIFICATES,
            Verdict.WARNING,
            "provider till-7 has expired",
        ),
        ({"clocks": (("hq", -7200.0),)}, Part.CLOCK, Verdict.WARNING, "that of hq is 2 h behind"),
        ({"is_clock_doubtful": True}, Part.CLOCK, Verdict.WARNING, "jumped"),
        ({"clock_set_back_s": 7200.0}, Part.CLOCK, Verdict.WARNING, "was set back by 2 h"),
        ({"behind": ("hq", "branch")}, Part.PEOPLE, Verdict.WARNING, "from hq, branch"),
    ],
)
def test_what_is_not_well_is_told_with_advice(changes, part, verdict, words):
    """The part, how bad it is, what was seen, and what to do; nothing else is touched by it."""
    checks = judged(**changes)
    found = {check.part: check for check in checks}[part]
    assert found.verdict is verdict
    assert words in found.text
    assert bool(found.advice) is (verdict is not Verdict.OK)
    assert health.worst(checks) is verdict


def test_a_backup_is_missed_only_where_one_is_wanted():
    """Without backup_age_s nobody is bothered; with it an old one, or none, is told."""
    wanted = replace(CONFIG.health, backup_age_s=3600.0)
    for backup_us in (None, NOW_US - 2 * DAY_US):
        facts = replace(WELL, backup_us=backup_us)
        (check,) = [
            one for one in health.judge(facts, wanted, CONFIG.limits) if one.part is Part.BACKUP
        ]
        assert check.verdict is Verdict.WARNING
        assert health.worst(health.judge(facts, CONFIG.health, CONFIG.limits)) is Verdict.OK


class Asked:
    """An exchange with one answer."""

    def __init__(self, path, principal, method="GET"):
        self.request = SimpleNamespace(path=path, method=method, header=lambda _: None)
        self.principal = principal

    async def respond(self, status, headers, body=b""):
        self.status, self.body = status, body
        self.value = json.loads(body)


def pages(checks, age_s=0.0):
    watched = SimpleNamespace(checks=checks, age_s=age_s)
    return Pages(watched, SimpleNamespace(), tuple)


async def ask(found, path, principal, method="GET"):
    asked = Asked(path, principal, method)
    await found.serve(asked)
    return asked


CLEAR = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")


async def test_load_balancers_hear_yes_or_no():
    """A printer that is stopped takes no node out of service; a full disk takes it out of
    /readyz, and a store that failed out of all.
    """
    for changes, statuses in (
        ({}, (200, 200, 200)),
        ({"stopped": stopped(3), "in_doubt": 1}, (200, 200, 200)),
        ({"free_bytes": 0}, (200, 503, 503)),
        ({"is_store_failed": True}, (503, 503, 503)),
        ({"certificates": (("node", NOW_US),)}, (200, 200, 503)),
    ):
        found = pages(judged(**changes))
        paths = ("/livez", "/readyz", "/healthz")
        assert tuple([(await ask(found, path, CLEAR)).status for path in paths]) == statuses


async def test_a_node_that_does_not_look_at_itself_is_not_well():
    """What was seen a minute ago says nothing about now."""
    answer = await ask(pages(judged(), age_s=61.0), "/livez", CLEAR)
    assert answer.status == 503
    assert answer.value["status"] == "failed"


async def test_who_is_not_known_hears_words_and_no_names():
    """Staff sees numbers, printers and advice; a user, or staff's roles in the clear, do not."""
    found = pages(judged(stopped=stopped(1)))
    for principal in (
        CLEAR,
        replace(OPERATOR, port=Port.CLEAR),
        replace(OPERATOR, roles=frozenset({Role.USER})),
        Principal("provider:1", Port.MUTUAL, frozenset({Role.PROVIDER}), "mainframe"),
    ):
        assert not is_staff(principal)
        answer = await ask(found, "/healthz", principal)
        assert answer.value["checks"]["printers"] == "warning"
        assert set(answer.value["checks"].values()) <= {"ok", "warning", "failed"}
        assert b"p0" not in answer.body
        assert b"bytes" not in answer.body
    answer = await ask(found, "/healthz", OPERATOR)
    first = answer.value["checks"][0]
    assert (first["part"], first["verdict"]) == ("printers", "warning")
    assert "p0 (media-empty)" in first["text"]
    assert "spoold printer show p0" in first["advice"]


async def test_health_is_only_read():
    """Another method is refused with what is allowed."""
    assert (await ask(pages(judged()), "/healthz", CLEAR, "POST")).status == 405
