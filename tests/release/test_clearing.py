"""Who pays for a job, what it is told when nobody can, and what is charged in the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.model.job import Document, Job, JobState
from spoold.model.outcome import Delivered, InDoubt
from spoold.model.person import Known, Owner
from spoold.model.printer import Printer
from spoold.model.purse import PayerKind, Terms
from spoold.model.release import PJL_ACCOUNT, Charging, ReleaseMode, read_rule, read_sender
from spoold.model.transitions import JobEvent
from spoold.model.user import User
from spoold.release.clearing import account_named
from spoold.release.releasing import Releaser
from spoold.spool import ledger_views
from spoold.spool import release as held
from spoold.spool.store import (
    AcceptJob,
    Adjust,
    AttachDocument,
    ChangeJob,
    NewDocument,
    PutAccount,
    PutPrinter,
    PutTerms,
    PutUser,
    SetJob,
)
from support.money import PAGE

PAGES = b"one\ftwo\fthree\f"
ADA = User(uuid4(), "ada", frozenset(), False, 1, 1)
RULE = "10.0.0.0/8 -> ada charge works"


def job_of(**fields) -> Job:
    return Job(
        1, uuid4(), 1, JobState.PENDING_HELD, (), Owner("ada"), "address:10.0.0.1", "", "10.0.0.1",
        "raw", 50, 1, Document(1, ""), 1, **fields,
    )  # fmt: skip


def named(job, home=None, printer=None, owner=ADA, choice=None):
    home = home or Printer(1, uuid4(), "home")
    return tuple(account_named(job, home, printer or home, owner, choice))


# -- who pays: pure ----------------------------------------------------------------------------


def test_the_first_word_counts():
    """In the order that the module states, one taken away after the other."""
    rule = read_sender(RULE)
    home = Printer(1, uuid4(), "home", default_account="home", senders=(rule,))
    place = Printer(2, uuid4(), "place", default_account="place")
    owner = replace(ADA, default_account="own")
    job = job_of(attributes={"job-account-id": "job", PJL_ACCOUNT: "pjl"})
    job = replace(job, owner=Owner("ada", Known.MAPPED, rule.id))
    assert named(job, home, place, owner, "chosen") == ("chosen", "choice")
    assert named(job, home, place, owner) == ("job", "job-attribute")
    job = replace(job, attributes={PJL_ACCOUNT: "pjl"})
    assert named(job, home, place, owner) == ("pjl", "pjl")
    job = replace(job, attributes={})
    assert named(job, home, place, owner) == ("works", "rule")
    job = replace(job, owner=Owner("ada"))
    assert named(job, home, place, owner) == ("place", "printer-default")
    assert named(job, home, home, owner) == ("home", "printer-default")
    assert named(job, owner=owner) == ("own", "owner")
    assert named(job) == ("", "owner")


def test_a_printer_may_ask_for_an_account():
    """Nobody pays until somebody has chosen; to choose none is a choice."""
    home = Printer(1, uuid4(), "home", default_account="?")
    with pytest.raises(OperationError) as caught:
        named(job_of(), home)
    assert caught.value.code == "account-info-needed"
    assert named(job_of(), home, choice="") == ("", "choice")
    works = Printer(1, uuid4(), "home", default_account="works")
    assert named(job_of(), works, choice="") == ("", "choice"), "their own money is a choice, too"
    assert named(job_of(attributes={"job-account-id": "job"}), home)[0] == "job"


def test_somebody_has_to_be_known():
    """A name that nobody here has pays for nothing."""
    with pytest.raises(OperationError, match="nobody here is called ada"):
        named(job_of(), owner=None)


# -- clearing at printers that print at once ---------------------------------------------------


@pytest.fixture
async def paid(node, nursery):
    """A printer that charges, prices, and the counting at work."""
    await node.purses.start()
    printer = await node.spool.add_printer("paid", charging=Charging.ON)
    await nursery.start(node.counts.run, node.releases)
    return printer


@pytest.mark.slow
async def test_what_the_device_counted_is_charged(node, paid):
    """Three pages are reserved, two came out: the third goes back."""
    ada = await node.purses.person()
    await node.purses.pay_in(ada, 10 * PAGE)
    job_id = (await node.spool.add_job(paid, PAGES, owner="ada")).job_id
    await node.pending(job_id)
    assert await node.purses.purses(ada) == {"paid-in": 7 * PAGE}
    with pytest.raises(OperationError, match="paid for"):
        await node.spool.journal.commit(SetJob(job_id, node.spool.wall_clock(), copies=100))
    (entry,) = await node.spool.reader.look(held.releases, job_id)
    assert entry.fields["charge"]
    await node.printed(job_id, paid, Delivered({"pages": 2}))
    assert await node.purses.purses(ada) == {"paid-in": 8 * PAGE}
    await node.purses.check()


@pytest.mark.slow
async def test_too_little_money_holds_a_job_and_says_so(node, paid):
    """It goes on by itself when there is enough."""
    ada = await node.purses.person()
    await node.purses.pay_in(ada, 2 * PAGE)
    job_id = (await node.spool.add_job(paid, PAGES, owner="ada")).job_id
    job = await node.held(job_id, "account-limit-reached")
    assert job.message
    assert job.held_us
    again = ChangeJob(job_id, JobEvent.RELEASE, node.spool.wall_clock())
    assert await node.spool.journal.commit(again) is JobState.PENDING_HELD
    await node.held(job_id, "account-limit-reached")
    await node.purses.pay_in(ada, PAGE)
    await node.pending(job_id)
    assert await node.purses.purses(ada) == {}
    await node.purses.check()


@pytest.mark.slow
async def test_nobody_known_holds_a_job(node, paid):
    """And so does a rule that says no; in shadow mode neither money nor people are missed."""
    job_id = (await node.spool.add_job(paid, PAGES, owner="eve")).job_id
    await node.held(job_id, "account-info-needed")
    shadow = await node.spool.add_printer("shadow", "file:///s", charging=Charging.SHADOW)
    job_id = (await node.spool.add_job(shadow, PAGES, owner="eve")).job_id
    await node.pending(job_id)
    (story,) = await node.spool.reader.look(ledger_views.charges_of_job, job_id)
    assert (story.charge.is_shadow, story.charge.quote.total) == (True, 3 * PAGE)
    await node.purses.person()
    job_id = (await node.spool.add_job(shadow, PAGES, owner="ada")).job_id
    await node.pending(job_id)
    await node.printed(job_id, shadow, Delivered({}))
    await node.purses.check()


@pytest.mark.slow
async def test_a_shared_account_pays_by_rule(node, nursery):
    """An ERP system's jobs belong to whom the rule says, and its account pays."""
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    await node.spool.journal.commit(
        PutAccount("works", 1, is_new=True, is_restricted=False, code="7")
    )
    printer = await node.spool.add_printer(
        "erp", charging=Charging.ON, senders=(read_sender(RULE),)
    )
    await node.purses.person()
    owner = Owner("ada", Known.MAPPED, printer.senders[0].id)
    document = NewDocument(len(PAGES), "blake3:00", "text/plain", PAGES)
    job = AcceptJob(printer.id, owner, "address:10.0.0.1", document, node.spool.wall_clock())
    job_id = (await node.spool.journal.commit(job)).job_id
    await node.pending(job_id)
    (charge,) = await node.spool.reader.look(ledger_views.charges_of_job, job_id)
    assert (charge.charge.payer.by, charge.charge.reserved) == ("rule", 3 * PAGE)
    other = (await node.spool.add_job(printer, PAGES, owner="ada")).job_id
    await node.held(other, "account-limit-reached")  # only claimed: ada herself would pay


@pytest.mark.slow
@pytest.mark.parametrize("how", ["rule", "spare"])
async def test_a_job_goes_on_when_a_shared_account_has_money(node, nursery, how):
    """Whether it pays by a rule or because people's purses are empty."""
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    commit = node.spool.journal.commit
    works = await commit(PutAccount("works", 1, is_new=True, is_restricted=True))
    default = "works"
    if how == "spare":
        await commit(PutTerms(Terms(spare_account=str(works.guid)), 1))
        default = ""
    printer = await node.spool.add_printer("erp", charging=Charging.ON, default_account=default)
    await node.purses.person()
    ids = [(await node.spool.add_job(printer, PAGES, owner="ada")).job_id for _ in range(2)]
    for job_id in ids:
        job = await node.held(job_id, "account-limit-reached")
        assert ("account works" in job.message) is (how == "rule")
    give = Adjust(b"k", PayerKind.ACCOUNT, works.guid, 4 * PAGE, "budget", 1, "uid:0")
    await commit(give)
    await node.pending(ids[0])
    assert (await node.spool.reader.job(ids[1])).state is JobState.PENDING_HELD
    await node.purses.check()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["allowance", "period"])
async def test_a_job_goes_on_when_an_allowance_begins(node, nursery, monkeypatch, how):
    """At once with a new one; now and then it is looked, too, as nothing tells of a new month."""
    if how == "period":
        monkeypatch.setattr("spoold.release.counts.LOOK_AGAIN_S", 0.05)
        monkeypatch.setattr("spoold.release.counts.MoneyCame", None)
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    printer = await node.spool.add_printer("paid", charging=Charging.ON)
    await node.purses.person()
    job_id = (await node.spool.add_job(printer, PAGES, owner="ada")).job_id
    await node.held(job_id, "account-limit-reached")
    await node.purses.allow(3 * PAGE)
    await node.pending(job_id)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["user", "account", "member", "printer"])
async def test_a_job_goes_on_when_somebody_pays(node, nursery, what):
    """Nobody has to touch it when what it lacked is there: at once."""
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    commit = node.spool.journal.commit
    printer = await node.spool.add_printer("paid", charging=Charging.ON)
    if what in ("account", "member"):
        await node.purses.person(default_account="works")
    if what in ("member", "printer"):
        await commit(PutAccount("works", 1, is_new=True, is_restricted=False))
    job_id = (await node.spool.add_job(printer, PAGES, owner="ada")).job_id
    await node.held(job_id, "account-info-needed")
    if what == "user":
        await node.purses.person(restricted=False)
    elif what == "account":
        await commit(PutAccount("works", 1, is_new=True, is_restricted=False))
        await node.wait(job_id, lambda job: "not for this user" in job.message)
        await commit(PutAccount("works", 1, groups=("*",)))
    elif what == "member":
        await commit(PutAccount("works", 1, groups=("*",)))
    else:
        await commit(PutPrinter(replace(printer, default_account="works"), 1))
    await node.pending(job_id)
    await node.purses.check()


@pytest.mark.slow
async def test_what_a_job_lacked_is_not_said_of_it_any_more(node, nursery):
    """It waits for its owner then, who has the money."""
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    safe = await node.spool.add_printer("safe", release=ReleaseMode.HOLD, charging=Charging.ON)
    guid = await node.purses.person()
    ada = await node.spool.reader.user_by_guid(guid)
    job_id = (await node.spool.add_job(safe, PAGES, owner="ada")).job_id
    await node.desk.release(ada, [job_id], safe, "device:x")
    await node.held(job_id, "account-limit-reached")
    await node.purses.pay_in(guid, 3 * PAGE)
    job = await node.wait(job_id, lambda job: job.reasons == ("job-release-wait",))
    assert not job.message
    (result,) = await node.desk.release(ada, [job_id], safe, "device:x")
    assert result.state is JobState.PENDING


@pytest.mark.slow
async def test_a_job_that_can_be_paid_waits_where_its_printer_keeps_jobs_by_now(node, nursery):
    """It came when nobody had to release it; nothing is said any more of what it lacked."""
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    printer = await node.spool.add_printer("paid", charging=Charging.ON)
    guid = await node.purses.person()
    job_id = (await node.spool.add_job(printer, PAGES, owner="ada")).job_id
    await node.held(job_id, "account-limit-reached")
    safe = replace(printer, release=ReleaseMode.HOLD)
    await node.spool.journal.commit(PutPrinter(safe, 1))
    await node.purses.pay_in(guid, 3 * PAGE)
    job = await node.wait(job_id, lambda job: job.reasons == ("job-release-wait",))
    assert not job.message
    ada = await node.spool.reader.user_by_guid(guid)
    (result,) = await node.desk.release(ada, [job_id], safe, "device:x")
    assert result.state is JobState.PENDING


# -- at the machine ----------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_desk_shows_and_takes_the_price(node):
    """Held again after the release, the money goes back; in doubt it stays reserved."""
    await node.purses.start()
    safe = await node.spool.add_printer("safe", release=ReleaseMode.HOLD, charging=Charging.ON)
    guid = await node.purses.person()
    ada = await node.spool.reader.user_by_guid(guid)
    await node.purses.pay_in(guid, 10 * PAGE)
    job_id = (await node.spool.add_job(safe, PAGES, owner="ada", copies=2)).job_id
    await node.counts.count(await node.spool.reader.job(job_id))
    (shown,) = await node.desk.held(ada, safe)
    assert (shown.pages, shown.copies, shown.price, shown.fits) == (3, 2, 6 * PAGE, True)
    (result,) = await node.desk.release(ada, None, safe, "device:x")
    assert (result.state, result.price) == (JobState.PENDING, 6 * PAGE)
    assert await node.purses.purses(guid) == {"paid-in": 4 * PAGE}
    now_us = node.spool.wall_clock()
    await node.spool.journal.commit(ChangeJob(job_id, JobEvent.HOLD, now_us))
    assert await node.purses.purses(guid) == {"paid-in": 10 * PAGE}
    await node.desk.release(ada, [job_id], safe, "device:x")
    doubt = InDoubt("connection-lost", evidence={"pages": 1})
    await node.printed(job_id, safe, doubt, JobEvent.DOUBT, ("job-in-doubt",))
    assert await node.purses.purses(guid) == {"paid-in": 4 * PAGE}
    await node.spool.journal.commit(ChangeJob(job_id, JobEvent.CANCEL, now_us))
    assert await node.purses.purses(guid) == {"paid-in": 9 * PAGE}
    await node.purses.check()


@pytest.mark.slow
async def test_without_money_nothing_comes_out_at_the_machine(node):
    """The job waits on, and says why; an account that may be charged takes it."""
    await node.purses.start()
    safe = await node.spool.add_printer("safe", release=ReleaseMode.HOLD, charging=Charging.ON)
    guid = await node.purses.person()
    ada = await node.spool.reader.user_by_guid(guid)
    account = PutAccount("works", 1, is_new=True, is_restricted=False, members=(guid,))
    await node.spool.journal.commit(account)
    job_id = (await node.spool.add_job(safe, PAGES, owner="ada")).job_id
    (result,) = await node.desk.release(ada, [job_id], safe, "device:x")
    assert result.error.code == "account-limit-reached"
    job = await node.spool.reader.job(job_id)
    assert job.reasons == ("job-release-wait", "account-limit-reached")
    (result,) = await node.desk.release(ada, [job_id], safe, "device:x", account="nowhere")
    assert result.error.code == "account-info-needed"
    (result,) = await node.desk.release(ada, [job_id], safe, "device:x", account="works")
    assert result.state is JobState.PENDING
    await node.purses.check()


async def test_rules_go_by_the_clock_of_the_site(node):
    """Not by that of the machine: what is closed at noon here may be open where people are."""
    await node.spool.journal.commit(PutTerms(Terms(zone="Asia/Tokyo"), 1))
    here = datetime.now(ZoneInfo("Asia/Tokyo"))
    for hour, fits in ((here.hour, False), ((here.hour + 9) % 24, True)):
        rule = read_rule(f"* {hour:02}:00-{(hour + 2) % 24:02}:00: deny")
        safe = await node.spool.add_printer(
            f"safe-{fits}", release=ReleaseMode.HOLD, policies=(rule,)
        )
        ada = await node.spool.reader.user_by_guid(await node.purses.person(f"ada-{fits}"))
        await node.spool.add_job(safe, PAGES, owner=ada.name)
        (shown,) = await node.desk.held(ada, safe)
        assert shown.fits is fits


@pytest.mark.slow
async def test_a_job_that_is_being_counted_is_not_judged_by_its_pages(node):
    """It may be taken along; the release waits for the count, and says then what is in the way."""
    await node.purses.start()
    rule = read_rule("*: pages 2")
    safe = await node.spool.add_printer("safe", release=ReleaseMode.HOLD, policies=(rule,))
    ada = await node.spool.reader.user_by_guid(await node.purses.person())
    await node.spool.add_job(safe, PAGES, owner="ada")
    (shown,) = await node.desk.held(ada, safe)
    assert (shown.pages, shown.fits) == (None, True)
    (result,) = await node.desk.release(ada, None, safe, "device:x")
    assert "3 pages" in str(result.error)
    (shown,) = await node.desk.held(ada, safe)
    assert (shown.pages, shown.fits) == (3, False)


async def test_every_document_has_to_fit(node):
    """A job of several documents comes out where all of them can be printed."""
    await node.purses.start()
    safe = await node.spool.add_printer("safe", release=ReleaseMode.HOLD, formats=("text/plain",))
    ada = await node.spool.reader.user_by_guid(await node.purses.person())
    job_id = (await node.spool.open_job(safe, owner="ada")).job_id
    await node.spool.attach(job_id, last=False)
    other = NewDocument(4, "blake3:00", "application/pdf", b"%PDF")
    now_us = node.spool.wall_clock()
    await node.spool.journal.commit(AttachDocument(job_id, "address:127.0.0.1", other, now_us))
    (shown,) = await node.desk.held(ada, safe)
    assert not shown.fits
    (result,) = await node.desk.release(ada, [job_id], safe, "device:x")
    assert "application/pdf" in str(result.error)


@pytest.mark.slow
async def test_who_is_disabled_pays_for_nothing_new(node, paid):
    """Neither where jobs print at once, nor through delegates."""
    bob = await node.spool.reader.user_by_guid(await node.purses.person("bob"))
    ada = await node.purses.person("ada", delegates=(bob.guid,))
    await node.purses.pay_in(ada, 100 * PAGE)
    safe = await node.spool.add_printer("safe", "file:///safe", release=ReleaseMode.HOLD)
    waits = (await node.spool.add_job(safe, PAGES, owner="ada")).job_id
    (shown,) = await node.desk.held(bob, safe)
    assert shown.fits
    disable = PutUser("ada", node.spool.wall_clock(), fields={"disabled": True})
    await node.spool.journal.commit(disable)
    assert await node.desk.held(bob, safe) == []
    (result,) = await node.desk.release(bob, [waits], safe, "device:x")
    assert result.error.code == "not-found"
    with pytest.raises(OperationError, match="somebody else's"):
        await node.releases.release(
            await node.spool.reader.job(waits), safe, Releaser(bob.identity, bob, "device:x")
        )
    job_id = (await node.spool.add_job(paid, PAGES, owner="ada")).job_id
    job = await node.held(job_id, "account-info-needed")
    assert "disabled" in job.message


@pytest.mark.slow
async def test_two_people_at_two_machines_race_for_a_job(node):
    """The owner and a delegate, both at once and again and again: one release each, one charge."""
    await node.purses.start()
    roam = await node.spool.add_printer("roam", release=ReleaseMode.FIND_ME)
    machines = [
        await node.spool.add_printer(
            name, f"file:///{name}", release=ReleaseMode.HOLD, charging=Charging.ON
        )
        for name in ("near", "far")
    ]
    bob = await node.spool.reader.user_by_guid(await node.purses.person("bob"))
    ada = await node.spool.reader.user_by_guid(
        await node.purses.person("ada", delegates=(bob.guid,))
    )
    await node.purses.pay_in(ada.guid, 100 * PAGE)
    ids = [(await node.spool.add_job(roam, PAGES, owner="ada")).job_id for _ in range(10)]
    results = []

    async def fetch(user, machine):
        results.append(await node.desk.release(user, ids, machine, f"device:{machine.name}"))

    async with trio.open_nursery() as nursery:
        for user, machine in ((ada, machines[0]), (bob, machines[1])):
            nursery.start_soon(fetch, user, machine)
    for first, second in zip(*results, strict=True):
        assert sorted((first.error is None, second.error is None)) == [False, True]
    assert await node.purses.purses(ada.guid) == {"paid-in": 70 * PAGE}
    for job_id in ids:
        assert len(await node.spool.reader.look(held.releases, job_id)) == 1
    await node.purses.check()
