"""What records of jobs at a site change at its application server."""

from __future__ import annotations

from uuid import UUID

import msgpack
import pytest

from spoold.codec import record as codec
from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.node import Scope
from spoold.model.outcome import Deferred, Delivered, InDoubt
from spoold.model.record import Kind
from spoold.model.release import ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.spool import charges, fold, received, remote_views, sending, store
from spoold.spool.erasure import Erasure
from spoold.spool.store import (
    ChangeJob,
    ClaimRefused,
    EndAttempt,
    ForgetRemote,
    InviteNode,
    JoinNode,
    PrintedTwice,
    PruneReceived,
    PutUser,
    ReleaseJob,
    StartAttempt,
)
from support.money import PAGE, Purses
from support.receiving import add, chain_of, standing
from support.sites import HQ, SITE, receive, ship, stored


async def test_jobs_of_a_site_are_known_by_their_records(site, hq):
    """State, owner, printer and sizes of a job follow what the site records."""
    printer = await site.add_printer()
    accepted = await site.add_job(printer, body=b"x" * 100, owner="ada", title="Report")
    await ship(site, hq)
    job = await hq.reader.look(remote_views.by_number, SITE, accepted.job_id)
    assert (job.owner, job.title, job.size, job.printer) == ("ada", "Report", 100, printer.guid)
    assert job.state is JobState.PENDING
    now_us = hq.wall_clock()
    await site.journal.commit(ChangeJob(accepted.job_id, JobEvent.CANCEL, now_us))
    await ship(site, hq)
    job = await hq.reader.look(remote_views.by_number, SITE, accepted.job_id)
    assert (job.state, job.finished_us) == (JobState.CANCELED, now_us)
    assert [one.uuid for _, one in await hq.reader.look(remote_views.page, SITE, 0, 10)] == [
        accepted.uuid
    ]


async def test_a_person_is_the_same_one_by_name(site, hq):
    """Who printed at the site and here under one name is one person, with one list of jobs."""
    here = await hq.add_printer()
    await hq.add_job(here, owner="ada")
    there = await site.add_printer()
    accepted = await site.add_job(there, owner="ada")
    other = await site.add_job(there, owner="bob")
    await ship(site, hq)
    names = await hq.reader._all("SELECT name FROM person WHERE name != '' ORDER BY name")
    assert names == [("ada",), ("bob",)]
    for one, name in ((accepted, "ada"), (other, "bob")):
        assert (await hq.reader.look(remote_views.by_uuid, one.uuid))[0].owner == name


async def test_a_job_that_waits_here_and_prints_there_is_canceled_here(site, hq):
    """One uuid at two homes is one job: printed wins over released."""
    here, there = await hq.add_printer(owner=SITE), await site.add_printer()
    first = await hq.add_job(here, owner="ada", uuid=SITE)
    await site.add_job(there, owner="ada", uuid=SITE)
    await ship(site, hq)
    assert (await hq.reader.job(first.job_id)).state is JobState.PENDING
    await add(
        site, 1, kind=Kind.ATTEMPT_ENDED, job=1, uuid=SITE.bytes, state="completed", reasons=[]
    )
    await ship(site, hq)
    job = await hq.reader.job(first.job_id)
    assert (job.state, job.reasons) == (JobState.CANCELED, ("job-done-elsewhere",))


@pytest.mark.parametrize(
    ("printer", "reasons"),
    [
        ({"owner": SITE}, ("job-in-doubt",)),
        ({"release": ReleaseMode.FIND_ME}, ("job-release-wait",)),
    ],
)
async def test_what_a_site_has_lost_again_waits_here(site, hq, printer, reasons):
    """Its disk was put back while it printed what was canceled here for that."""
    here, there = await hq.add_printer(**printer), await site.add_printer()
    await hq.journal.commit(InviteNode("library", b"s", True, 9, 1, Scope()))
    await hq.journal.commit(JoinNode(SITE, b"k", 2, b"s"))
    first = await hq.add_job(here, owner="ada", uuid=SITE)
    await site.add_job(there, owner="ada", uuid=SITE)
    begun = {"job": 1, "uuid": SITE.bytes, "attempt": 1, "state": "processing", "reasons": []}
    await add(site, 1, kind=Kind.JOB_CHANGED, **begun)
    await ship(site, hq)
    assert (await hq.reader.job(first.job_id)).reasons == ("job-done-elsewhere",)
    await hq.journal.commit(ForgetRemote(SITE, (SITE,), 7))
    job = await hq.reader.job(first.job_id)
    assert (job.state, job.reasons) == (JobState.PENDING_HELD, reasons)
    assert await hq.reader.look(remote_views.by_uuid, SITE) == []


async def test_what_a_site_has_printed_stays_at_its_end_whatever_it_forgets(site, hq):
    """A site that says to have lost what it told to be completed has nothing printed again."""
    here, there = await hq.add_printer(owner=SITE), await site.add_printer()
    first = await hq.add_job(here, owner="ada", uuid=SITE)
    await site.add_job(there, owner="ada", uuid=SITE)
    done = {"job": 1, "uuid": SITE.bytes, "state": "completed", "reasons": []}
    await add(site, 1, kind=Kind.ATTEMPT_ENDED, **done)
    await ship(site, hq)
    await hq.journal.commit(ForgetRemote(SITE, (SITE,), 7))
    job = await hq.reader.job(first.job_id)
    assert (job.state, job.reasons) == (JobState.CANCELED, ("job-done-elsewhere",))


JOB = UUID("00000000-0000-4000-8000-0000000000f0")
HALL = "00000000-0000-4000-8000-0000000000ff"  # a printer that the site is not told of


@pytest.mark.parametrize(
    ("printer", "scope", "is_settled"),
    [
        ({}, Scope(), False),
        ({"owner": HQ}, Scope(), False),
        ({"release": ReleaseMode.FIND_ME}, Scope(), True),
        ({"release": ReleaseMode.FIND_ME}, Scope(groups=("law",)), True),
        ({"release": ReleaseMode.FIND_ME}, Scope(groups=("arts",)), False),
        ({"release": ReleaseMode.FIND_ME}, Scope(printers=(HALL,)), False),
    ],
)
async def test_a_site_settles_no_job_that_it_cannot_have(site, hq, printer, scope, is_settled):
    """A uuid that it knows is not enough: its own printers, and what it may have copied."""
    here, there = await hq.add_printer(**printer), await site.add_printer()
    await hq.journal.commit(PutUser("ada", 1, is_new=True, fields={"groups": ["law"]}))
    await hq.journal.commit(InviteNode("library", b"s", True, 9, 1, scope))
    await hq.journal.commit(JoinNode(SITE, b"k", 2, b"s"))
    events = []
    hq.journal.listen(events.extend)
    first = await hq.add_job(here, owner="ada", uuid=SITE)
    await site.add_job(there, owner="ada", uuid=SITE)
    done = {"job": 1, "uuid": SITE.bytes, "state": "completed", "reasons": []}
    await add(site, 1, kind=Kind.ATTEMPT_ENDED, **done)
    await ship(site, hq)
    assert ((await hq.reader.job(first.job_id)).state is JobState.CANCELED) is is_settled
    assert (ClaimRefused(SITE, first.job_id, SITE) in events) is not is_settled


async def test_a_find_me_job_is_settled_wherever_somebody_has_it_come_out(site, hq):
    """It waited at both nodes, and was released at both; it came out at the site first."""
    roam, there = await hq.add_printer(release=ReleaseMode.FIND_ME), await site.add_printer()
    desk = await hq.add_printer("desk", owner=HQ)
    await hq.journal.commit(InviteNode("library", b"s", True, 9, 1, Scope()))
    await hq.journal.commit(JoinNode(SITE, b"k", 2, b"s"))
    first = await hq.add_job(roam, owner="ada", uuid=SITE)
    job = await hq.reader.job(first.job_id)
    released = ReleaseJob(job.id, desk.id, 3, job.changed_us, "uid:0", is_staff=True)
    assert (await hq.journal.commit(released)).state is JobState.PENDING
    await site.add_job(there, owner="ada", uuid=SITE)
    done = {"job": 1, "uuid": SITE.bytes, "state": "completed", "reasons": []}
    await add(site, 1, kind=Kind.ATTEMPT_ENDED, **done)
    await ship(site, hq)
    assert (await hq.reader.job(first.job_id)).reasons == ("job-done-elsewhere",)


async def test_a_job_that_was_handed_on_is_settled_by_who_has_printed_it(site, hq):
    """Also when its printer was given to another node meanwhile; not because it waits there."""
    here, there = await hq.add_printer(owner=HQ), await site.add_printer()
    first = await hq.add_job(here, owner="ada", uuid=SITE)
    number = await hq.journal.commit(StartAttempt(first.job_id, 0, here.id, 1))
    left = InDoubt("rehomed", evidence={"node": str(SITE)})
    reasons = (JobReason.JOB_IN_DOUBT,)
    await hq.journal.commit(EndAttempt(first.job_id, number, left, JobEvent.DOUBT, reasons, 2))
    hold = ChangeJob(first.job_id, JobEvent.HOLD, 3, reasons=(JobReason.JOB_BEING_COUNTED,))
    await hq.journal.commit(hold)  # it did not come out there, as somebody has seen
    await site.add_job(there, owner="ada", uuid=SITE)
    await ship(site, hq)
    assert (await hq.reader.job(first.job_id)).state is JobState.PENDING_HELD
    done = {"job": 1, "uuid": SITE.bytes, "state": "completed", "reasons": []}
    await add(site, 1, kind=Kind.ATTEMPT_ENDED, **done)
    await ship(site, hq)
    assert (await hq.reader.job(first.job_id)).state is JobState.CANCELED


@pytest.mark.parametrize("starts_anew", [False, True])
async def test_what_came_out_there_during_an_attempt_here_is_canceled_after_it(
    site, hq, starts_anew
):
    """Once it has left nothing on paper; whoever has the job printed all the same may."""
    here, there = await hq.add_printer(owner=SITE), await site.add_printer()
    first = await hq.add_job(here, owner="ada", uuid=SITE)
    number = await hq.journal.commit(StartAttempt(first.job_id, here.device_id, here.id, 1))
    await site.add_job(there, owner="ada", uuid=SITE)
    done = {"job": 1, "uuid": SITE.bytes, "state": "completed", "reasons": []}
    await add(site, 1, kind=Kind.ATTEMPT_ENDED, **done)
    await ship(site, hq)
    assert (await hq.reader.job(first.job_id)).state is JobState.PROCESSING
    if starts_anew:
        await hq.journal.call(lambda: fold.load(hq.store, hq.store.db))
    left = Deferred("connecting-to-device", "")
    end = EndAttempt(first.job_id, number, left, JobEvent.DEFER, ("connecting-to-device",), 2)
    assert await hq.journal.commit(end) is JobState.CANCELED
    assert (await hq.reader.job(first.job_id)).reasons == ("job-done-elsewhere",)
    again = ChangeJob(first.job_id, JobEvent.RETRY, 3)
    assert await hq.journal.commit(again) is JobState.PENDING
    number = await hq.journal.commit(StartAttempt(first.job_id, here.device_id, here.id, 4))
    end = EndAttempt(first.job_id, number, left, JobEvent.DEFER, ("connecting-to-device",), 5)
    assert await hq.journal.commit(end) is JobState.PENDING


async def test_paper_that_came_out_twice_is_told(site, hq):
    """Both facts stand; somebody has to look."""
    here, there = await hq.add_printer(), await site.add_printer()
    first = await hq.add_job(here, owner="ada", uuid=SITE)
    number = await hq.journal.commit(StartAttempt(first.job_id, here.device_id, here.id, 1))
    printed = Delivered({"method": "ipp-job-state"})
    await hq.journal.commit(EndAttempt(first.job_id, number, printed, JobEvent.DELIVER, (), 2))
    events = []
    hq.journal.listen(events.extend)
    await site.add_job(there, owner="ada", uuid=SITE)
    done = {"job": 1, "uuid": SITE.bytes, "state": "completed", "reasons": []}
    await add(site, 1, kind=Kind.ATTEMPT_ENDED, **done)
    await ship(site, hq)
    assert PrintedTwice(SITE, first.job_id, SITE) in events
    assert (await hq.reader.job(first.job_id)).state is JobState.COMPLETED
    (job,) = await hq.reader.look(remote_views.by_uuid, SITE)
    assert job.state is JobState.COMPLETED


async def give(site, printer) -> store.Accepted:
    """A job that the site has given away, and canceled afterwards."""
    job = await site.add_job(printer, owner="ada", uuid=JOB)
    given = ChangeJob(job.job_id, JobEvent.HOLD, 1, reasons=(JobReason.JOB_WAITS_ELSEWHERE,))
    await site.journal.commit(given)
    why = (JobReason.JOB_CANCELED_AFTER_TIMEOUT,)
    await site.journal.commit(ChangeJob(job.job_id, JobEvent.CANCEL, 2, reasons=why))
    return job


@pytest.mark.parametrize(
    ("by", "is_canceled"), [(f"node:{SITE}", True), (f"node:{HQ}", False), ("", False)]
)
async def test_what_a_site_gave_and_then_canceled_is_canceled_here(site, hq, by, is_canceled):
    """By its record alone, if that site has given it."""
    here, there = await hq.add_printer(owner=HQ), await site.add_printer()
    job = await hq.add_job(here, owner="ada", uuid=JOB, handed_by=by)
    await give(site, there)
    await ship(site, hq)
    found = await hq.reader.job(job.job_id)
    assert (found.state is JobState.CANCELED) is is_canceled
    assert (found.reasons == ("job-canceled-after-timeout",)) is is_canceled


async def test_what_a_site_gave_and_then_canceled_stops_where_it_is_being_printed(site, hq):
    here, there = await hq.add_printer(owner=HQ), await site.add_printer()
    job = await hq.add_job(here, owner="ada", uuid=JOB, handed_by=f"node:{SITE}")
    await hq.journal.commit(StartAttempt(job.job_id, here.device_id, here.id, 1))
    await give(site, there)
    await ship(site, hq)
    found = await hq.reader.job(job.job_id)
    assert found.state is JobState.PROCESSING
    assert found.reasons == ("processing-to-stop-point", "job-canceled-after-timeout")


@pytest.mark.parametrize("owner", [SITE, HQ])
async def test_a_job_in_doubt_is_canceled_when_who_had_it_tells_that_it_was_canceled(
    site, hq, owner
):
    """Its printer was given to another node meanwhile; whoever did not have it says nothing."""
    here, there = await hq.add_printer(owner=HQ), await site.add_printer()
    job = await hq.add_job(here, owner="ada", uuid=JOB)
    number = await hq.journal.commit(StartAttempt(job.job_id, 0, here.id, 1))
    left, reasons = InDoubt("rehomed", evidence={"node": str(owner)}), (JobReason.JOB_IN_DOUBT,)
    await hq.journal.commit(EndAttempt(job.job_id, number, left, JobEvent.DOUBT, reasons, 2))
    fetched = await site.add_job(there, owner="ada", uuid=JOB)
    why = (JobReason.JOB_CANCELED_BY_USER,)
    await site.journal.commit(ChangeJob(fetched.job_id, JobEvent.CANCEL, 2, reasons=why))
    await ship(site, hq)
    assert ((await hq.reader.job(job.job_id)).state is JobState.CANCELED) is (owner == SITE)


@pytest.mark.parametrize("owner", [SITE, HQ])
async def test_a_job_in_doubt_that_came_out_where_it_was_is_paid(site, hq, owner):
    """By what was reserved for it here. Whoever never had it is not believed."""
    here, there = await hq.add_printer(owner=HQ), await site.add_printer()
    job = await hq.add_job(here, owner="ada", uuid=JOB)
    purses = Purses(hq)
    await purses.start()
    ada = await purses.person("ada")
    await purses.pay_in(ada, 9 * PAGE)
    await purses.reserve(b"k", ada, 4, job_id=job.job_id)
    number = await hq.journal.commit(StartAttempt(job.job_id, 0, here.id, 1))
    left, reasons = InDoubt("rehomed", evidence={"node": str(owner)}), (JobReason.JOB_IN_DOUBT,)
    await hq.journal.commit(EndAttempt(job.job_id, number, left, JobEvent.DOUBT, reasons, 2))
    fetched = await site.add_job(there, owner="ada", uuid=JOB)
    attempt = await site.journal.commit(StartAttempt(fetched.job_id, 0, there.id, 1))
    done = EndAttempt(fetched.job_id, attempt, Delivered({"bytes": 9}), JobEvent.DELIVER, (), 2)
    await site.journal.commit(done)
    await ship(site, hq)
    found = await hq.reader.job(job.job_id)
    assert (found.state is JobState.COMPLETED) is (owner == SITE)
    assert found.state in (JobState.COMPLETED, JobState.PENDING_HELD)
    charge = (await hq.reader.look(charges.find, b"k")).charge
    assert charge.state == ("settled" if owner == SITE else "reserved")
    assert await purses.purses(ada) == {"paid-in": 5 * PAGE}
    await purses.check()


async def test_what_a_site_has_canceled_is_not_taken_from_it_any_more(site, hq):
    """Its document came later than the record: nobody wants it. What it hands on to be printed it
    has retried since, and not told so yet.
    """
    here = await hq.add_printer(owner=HQ)
    await give(site, await site.add_printer())
    await ship(site, hq)
    handed = {"owner": "ada", "uuid": JOB, "handed_by": f"node:{SITE}"}
    held = {"state": JobState.PENDING_HELD, "reasons": (JobReason.JOB_RELEASE_WAIT,)}
    with pytest.raises(OperationError, match="canceled where it came from"):
        await hq.add_job(here, **handed, **held)
    assert (await hq.add_job(here, **handed)).state is JobState.PENDING


@pytest.fixture
async def erasure(hq):
    """What erases people at the application server."""
    found = Erasure(hq.journal, hq.reader, hq.documents, hq.store, hq.wall_clock, hq.data_dir)
    await found.start()
    return found


async def test_a_person_who_is_erased_is_erased_in_the_records_of_sites(site, hq, erasure):
    """Name, title and host go; another job of the same number here keeps its own."""
    here, there = await hq.add_printer(), await site.add_printer()
    await hq.add_job(here, owner="bob", title="Kept")
    accepted = await site.add_job(there, owner="ada", title="Secret")
    await ship(site, hq)
    await erasure.erase("ada", "uid:0")
    rows = await stored(hq)
    personal = b"".join(one[2] or b"" for one in rows)
    assert b"ada" not in personal
    assert b"Secret" not in personal
    assert any(one[2] is not None for one in await stored(site))
    (job,) = await hq.reader.look(remote_views.by_uuid, accepted.uuid)
    assert (job.owner, job.title) == ("", "")
    assert any(
        (one.personal or {}).get("title") == "Kept" for one in await hq.reader.records(1, 100)
    )
    assert [one[3] for one in rows] == [one[3] for one in await stored(site)]


async def test_old_records_of_sites_are_pruned_and_the_chain_goes_on(site, hq):
    """Their positions and what they said stay; the next ones follow."""
    await add(site, 10)
    await ship(site, hq)
    (one,) = await hq.reader.look(received.standings, SITE)
    last = await hq.reader.look(received.last_before, one.chain_id, 2, 100, 2)
    assert last == 9
    assert await hq.reader.look(received.last_before, one.chain_id, 1, 100, 1) is None
    assert await hq.journal.commit(PruneReceived(one.chain_id, last, 5)) == 9
    assert len(await stored(hq)) == 1
    await add(site, 3)
    await ship(site, hq)
    assert (await standing(hq)).position == 13
    assert len(await stored(hq)) == 4
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    part = whole._replace(records=whole.records[:5])
    assert (await receive(hq, SITE, chain, part)).state == "open"


async def test_of_young_records_one_is_looked_at(site, hq, monkeypatch):
    """Each sweep asks of each of hundreds of sites, and nearly always there is nothing to prune."""
    await add(site, 10)
    await ship(site, hq)
    (one,) = await hq.reader.look(received.standings, SITE)
    looked = []
    time_of = received._time_of

    def look(header, now_us):
        looked.append(header)
        return time_of(header, now_us)

    monkeypatch.setattr(received, "_time_of", look)
    assert await hq.reader.look(received.last_before, one.chain_id, 1, 100, 1) is None
    assert len(looked) == 1


@pytest.mark.parametrize(("limit", "last"), [(6, 5), (11, None)])
async def test_records_that_no_clock_dates_do_not_stay_for_ever(site, hq, monkeypatch, limit, last):
    """They are as old as those behind them; of as many as are looked at nobody waits for those."""
    await add(site, 10)
    await ship(site, hq)
    (one,) = await hq.reader.look(received.standings, SITE)
    monkeypatch.setattr(received, "_time_of", lambda *_: None)
    assert await hq.reader.look(received.last_before, one.chain_id, 2, limit, 2) == last


async def test_what_names_an_erased_person_is_not_learned_again(site, hq, erasure):
    """A site that comes back late brings no name of somebody who is erased here, nor a title."""
    printer = await site.add_printer()
    before = await site.add_job(printer, owner="ada", title="Secret")
    await ship(site, hq)
    await erasure.erase("ada", "uid:0")
    await site.journal.commit(StartAttempt(before.job_id, 1, 1, 2))
    await site.add_job(printer, owner="ada", title="Secret")
    await ship(site, hq)
    (job,) = await hq.reader.look(remote_views.by_uuid, before.uuid)
    assert (job.owner, job.title, job.state) == ("", "", JobState.PROCESSING)
    last = (await stored(hq))[-1]
    assert last[2] is None
    assert codec.decode(*last).kind == Kind.JOB_ACCEPTED
    assert msgpack.unpackb(last[0])[0] == site.journal.head
