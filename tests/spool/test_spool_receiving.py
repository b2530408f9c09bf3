"""Records of another node: taken once and in order, whatever is sent twice, late or wrongly."""

from __future__ import annotations

import sqlite3

import msgpack
import pytest
import trio

from spoold.codec import record as codec
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import JobReason, JobState
from spoold.model.node import Scope
from spoold.model.outcome import Delivered, InDoubt
from spoold.model.person import Owner
from spoold.model.record import Kind
from spoold.model.release import ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.spool import applying, received, receiving, remote_jobs, sending
from spoold.spool import sqlite as spool_sqlite
from spoold.spool.erasure import Erasure
from spoold.spool.store import (
    AcceptJob,
    AddRecord,
    BranchJournal,
    ChangeJob,
    ClaimRefused,
    EndAttempt,
    InviteNode,
    JoinNode,
    NewDocument,
    PrintedTwice,
    PruneReceived,
    PruneRecords,
    PutUser,
    RetryQuarantined,
    StartAttempt,
    StartRound,
)
from support.sites import HQ, SITE, arrived, receive, ship, stored


async def add(spool, count=1, kind="unheard-of", **payload):
    for number in range(count):
        await spool.journal.commit(AddRecord(kind, {"n": number, **payload}, 1))


async def chain_of(spool):
    return (await spool.reader.look(sending.chains))[-1]


async def standing(hq, journal=SITE):
    return (await hq.reader.look(received.standings, journal))[-1]


async def test_records_arrive_as_they_were_written(site, hq):
    """What the application server keeps are the bytes of the site, and a record that cites them."""
    printer = await site.add_printer()
    await site.add_job(printer, owner="ada", title="Report")
    await ship(site, hq)
    assert await stored(hq) == await stored(site)
    assert (await standing(hq)).position == site.journal.head
    (cited,) = [one for one in await hq.reader.records(1, 100) if one.kind == Kind.RECORDS_RECEIVED]
    chain = await chain_of(site)
    assert cited.payload["journal"] == SITE.bytes
    assert (cited.payload["from"], cited.payload["to"]) == (1, chain.position)
    assert cited.payload["hash"] == chain.hash


async def test_what_is_sent_again_is_taken_once(site, hq):
    """A batch whose answer was lost, or that overlaps another one, adds nothing that is there."""
    await add(site, 5)
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    part = whole._replace(records=whole.records[:3])
    assert (await receive(hq, SITE, chain, part)).taken == 3
    assert (await receive(hq, SITE, chain, part)).taken == 0
    answer = await receive(hq, SITE, chain, whole)
    assert (answer.taken, answer.position) == (2, 5)
    assert await stored(hq) == await stored(site)


@pytest.mark.parametrize("kind", [Kind.NODE_STARTED, "unheard-of"])
async def test_a_batch_is_taken_in_parts_while_somebody_waits(site, hq, monkeypatch, kind):
    """Whoever commits beside it waits for few records; the rest comes in the next transactions."""
    monkeypatch.setattr(receiving, "LEAST_TAKEN", 16)
    await add(site, 40, kind=kind)
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    quietly, hq.store.others_wait = hq.store.others_wait, lambda: True
    answers = [await receive(hq, SITE, chain, whole) for _ in range(2)]
    assert [(one.position, one.taken, one.state) for one in answers] == [
        (16, 16, "open"), (32, 16, "open"),
    ]  # fmt: skip
    assert answers[0].hash == whole.records[15].hash
    hq.store.others_wait = quietly
    assert (await receive(hq, SITE, chain, whole)).position == 40
    assert await stored(hq) == await stored(site)
    cited = [one for one in await hq.reader.records(1, 200) if one.kind == Kind.RECORDS_RECEIVED]
    assert [(one.payload["from"], one.payload["to"]) for one in cited] == [
        (1, 16), (17, 32), (33, 40),
    ]  # fmt: skip


async def test_a_batch_nobody_waits_behind_is_taken_in_several_transactions(site, hq):
    """Each is short and moves the position; whoever sent it has one answer for all."""
    await add(site, 100, kind=Kind.NODE_STARTED)
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    before = hq.journal.commits
    answer = await receive(hq, SITE, chain, whole)
    assert (answer.position, answer.taken, answer.hash) == (100, 100, chain.hash)
    assert hq.journal.commits == before + 1
    cited = [one for one in await hq.reader.records(1, 200) if one.kind == Kind.RECORDS_RECEIVED]
    most = receiving.TAKEN_AT_ONCE
    assert [(one.payload["from"], one.payload["to"]) for one in cited] == [
        (1, most), (most + 1, 2 * most), (2 * most + 1, 100),
    ]  # fmt: skip


async def test_who_waits_behind_a_batch_is_committed_with_its_first_records(site, hq):
    """What came before it goes first, by itself; a batch ends soon, and takes others along."""
    await add(site, 100, kind=Kind.NODE_STARTED)
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    beside = AddRecord(Kind.NODE_STARTED, {}, 1)
    before = hq.journal.commits
    changes = (beside, arrived(hq, SITE, chain, whole), beside)
    _, handed, behind = [hq.journal.hand_over([one]) for one in changes]
    [answer] = await handed.wait()
    assert answer.taken == receiving.LEAST_TAKEN
    assert hq.journal.commits == before + 2
    with trio.fail_after(0):
        await behind.wait()
    assert (await receive(hq, SITE, chain, whole)).position == 100


def full_at(monkeypatch, commits):
    """There is no room for these commits, counted from now on."""
    count = 0

    def look(point):
        nonlocal count
        count += point == "commit-before"
        if point == "commit-before" and count in commits:
            error = sqlite3.OperationalError("full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    monkeypatch.setattr(spool_sqlite, "crash_point", look)


async def a_job(hq):
    printer = await hq.add_printer()
    document = NewDocument(4, "blake3:00", "text/plain", b"page")
    return AcceptJob(printer.id, Owner("ada"), "user:1", document, hq.wall_clock())


async def test_a_full_disk_refuses_a_job_that_joined_a_batch(site, hq, monkeypatch):
    """The batch is taken by the reserve; the job hears that there is no room."""
    await add(site, 40, kind=Kind.NODE_STARTED)
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    job = await a_job(hq)
    full_at(monkeypatch, {1})
    handed = hq.journal.hand_over([arrived(hq, SITE, chain, whole)])
    behind = hq.journal.hand_over([job])
    [answer] = await handed.wait()
    [refusal] = await behind.wait()
    assert answer.taken
    assert isinstance(refusal, SpoolFull)
    assert (await receive(hq, SITE, chain, whole)).position == 40
    [accepted] = await hq.journal.commit_all([job])
    assert accepted.job_id


async def test_who_joined_a_batch_that_finds_no_more_room_waits_on(site, hq, monkeypatch):
    """What was taken of the batch before is answered; the others are tried by themselves."""
    await add(site, 100, kind=Kind.NODE_STARTED)
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    joins, join = [list], hq.store.join
    hq.store.join = lambda: (joins.pop() if joins else join)()
    hq.store.others_wait = lambda: False
    full_at(monkeypatch, {2, 3})
    handed = hq.journal.hand_over([arrived(hq, SITE, chain, whole)])
    behind = hq.journal.hand_over([AddRecord(Kind.NODE_STARTED, {}, 1)])
    [answer] = await handed.wait()
    assert (answer.position, answer.taken) == (receiving.TAKEN_AT_ONCE, receiving.TAKEN_AT_ONCE)
    [position] = await behind.wait()
    assert position == hq.journal.head
    assert hq.journal._queued == 0


async def test_a_gap_takes_nothing_and_says_where_it_stands(site, hq):
    """Records that came out of order are not kept: the sender is told what comes next."""
    await add(site, 5)
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    await receive(hq, SITE, chain, whole._replace(records=whole.records[:2]))
    late = await site.reader.look(sending.batch, chain.id, 3)
    answer = await receive(hq, SITE, chain, late)
    assert (answer.taken, answer.position, answer.state) == (0, 2, "open")
    assert len(await stored(hq)) == 2


async def test_a_fork_is_quarantined_and_nothing_of_it_is_taken(site, hq, tmp_path, spool_at):
    """Other records under positions that were sent before: an alarm, a record, and no change."""
    await add(site, 3)
    await ship(site, hq)
    before = await stored(hq)
    (tmp_path / "image").mkdir()
    async with spool_at(tmp_path / "image", SITE) as image:
        await add(image, 5, kind="another")
        fork = await image.reader.look(sending.batch, (await chain_of(image)).id, 0)
        chain = (await chain_of(site))._replace(position=5)
        events = []
        hq.journal.listen(events.extend)
        assert (await receive(hq, SITE, chain, fork)).state == "forked"
        assert (await receive(hq, SITE, chain, fork)).state == "forked"
    assert await stored(hq) == before
    assert [type(one).__name__ for one in events] == ["JournalForked"]
    found = await standing(hq)
    assert (found.state, found.position, found.fork_position) == ("forked", 3, 3)


async def test_a_fork_behind_what_was_sent_is_found_by_the_hash_before(site, hq):
    """A site that was put back and went on past what it had sent does not slip through."""
    await add(site, 3)
    await ship(site, hq)
    await add(site, 2)
    chain = await chain_of(site)
    late = await site.reader.look(sending.batch, chain.id, 3)
    previous, records = bytes(32), []
    for one in late.records:
        hash_ = codec.link(previous, one.header, one.payload)
        records.append(one._replace(hash=hash_))
        previous = hash_
    answer = await receive(hq, SITE, chain, late._replace(previous=bytes(32), records=records))
    assert answer.state == "forked"


async def test_a_forked_site_goes_on_as_an_incarnation_of_its_own(site, hq):
    """Told to begin anew behind the last common record, the site sends what else it had written."""
    await add(site, 3)
    common = await stored(site)
    await ship(site, hq)
    other = await chain_of(site)
    await add(site, 2, kind="lost-branch")
    await ship(site, hq)
    ahead = await standing(hq)
    assert ahead.position == 5
    # What the application server has behind position 3 is another disk's from now on.
    new = await site.journal.commit(BranchJournal(3, 7))
    chains = await site.reader.look(sending.chains)
    assert [one.position for one in chains] == [3, 6]
    assert chains[-1].incarnation == new != other.incarnation
    assert chains[-1].parent == (other.incarnation, 3, common[-1][3])
    # The reader goes on there by the commit alone, whoever was cut off behind it.
    assert await site.reader.verify_chain() == site.journal.head == 6
    assert [one.position for one in await site.reader.records(4, 9)] == [4, 5, 6]
    await ship(site, hq)
    assert [one.state for one in await hq.reader.look(received.standings, SITE)] == ["left", "open"]
    found = await standing(hq)
    assert (found.incarnation, found.position) == (new, 6)
    await add(site, 1, kind="later")
    await ship(site, hq)
    assert (await standing(hq)).position == 7
    assert site.journal.head == 7


async def test_records_that_a_site_does_not_keep_are_missed_and_said_to_be(site, hq):
    """A server that was pruned before it joined begins where its records begin."""
    await add(site, 6)
    await site.journal.commit(PruneRecords(4, 1))
    await ship(site, hq)
    assert (await standing(hq)).position == 6
    missing = [one for one in await hq.reader.records(1, 50) if one.kind == Kind.RECORDS_MISSING]
    assert [(one.payload["from"], one.payload["to"]) for one in missing] == [(1, 3)]


async def test_a_record_that_makes_no_sense_blocks_nothing(site, hq):
    """It is kept in its place, and told in quarantine; those behind it are applied."""
    printer = await site.add_printer()
    await add(site, 1, kind=Kind.JOB_CHANGED, job="seven", uuid=b"short", state="no state")
    await add(site, 1, kind=Kind.LEDGER_POSTED, cause="of another time")
    accepted = await site.add_job(printer, owner="ada")
    await ship(site, hq)
    assert await stored(hq) == await stored(site)
    found = await hq.reader.look(received.quarantined, (0, 0), 10)
    assert [one.kind for one in found] == [Kind.JOB_CHANGED, Kind.LEDGER_POSTED]
    assert (await standing(hq)).quarantined == 2
    (job,) = await hq.reader.look(remote_jobs.by_uuid, accepted.uuid)
    assert (job.job_id, job.owner) == (accepted.job_id, "ada")


@pytest.mark.parametrize("error", [AssertionError, StopIteration, RecursionError, OverflowError])
async def test_nothing_that_a_record_raises_ends_the_node(site, hq, monkeypatch, error):
    """It would be sent again at each start."""

    def fail(writer, site, position, fact):
        raise error

    monkeypatch.setitem(applying.APPLY, Kind.LOGIN_REFUSED, fail)
    await add(site, 1, kind=Kind.LOGIN_REFUSED)
    await ship(site, hq)
    assert await stored(hq) == await stored(site)
    (found,) = await hq.reader.look(received.quarantined, (0, 0), 10)
    assert error.__name__ in found.reason
    retry = RetryQuarantined(found.chain_id, (found.position,), 1)
    assert await hq.journal.commit(retry) == 0


async def test_a_damaged_personal_part_is_quarantined(site, hq):
    """The chain covers it by a digest: what is not that is kept, and not believed."""
    printer = await site.add_printer()
    await site.add_job(printer, owner="ada")
    chain = await chain_of(site)
    whole = await site.reader.look(sending.batch, chain.id, 0)
    records = [
        one if one.personal is None else one._replace(personal=one.personal + b"x")
        for one in whole.records
    ]
    answer = await receive(hq, SITE, chain, whole._replace(records=records))
    assert answer.position == chain.position
    assert answer.quarantined == sum(one.personal is not None for one in records) > 0


async def test_unknown_kinds_are_kept_and_told(site, hq):
    """A newer site's records are stored; that they change nothing here is said."""
    await add(site, 1, kind="of-a-newer-version")
    await ship(site, hq)
    (found,) = await hq.reader.look(received.quarantined, (0, 0), 10)
    assert "does not know" in found.reason
    assert len(await stored(hq)) == 1


async def test_nobody_sends_this_node_its_own_journal(hq):
    """A cloned data directory is told apart by nothing but its identity."""
    await add(hq, 1)
    chain = await chain_of(hq)
    whole = await hq.reader.look(sending.batch, chain.id, 0)
    with pytest.raises(OperationError) as caught:
        await receive(hq, HQ, chain, whole)
    assert caught.value.code == "conflict"


async def test_jobs_of_a_site_are_known_by_their_records(site, hq):
    """State, owner, printer and sizes of a job follow what the site records."""
    printer = await site.add_printer()
    accepted = await site.add_job(printer, body=b"x" * 100, owner="ada", title="Report")
    await ship(site, hq)
    job = await hq.reader.look(remote_jobs.by_number, SITE, accepted.job_id)
    assert (job.owner, job.title, job.size, job.printer) == ("ada", "Report", 100, printer.guid)
    assert job.state is JobState.PENDING
    now_us = hq.wall_clock()
    await site.journal.commit(ChangeJob(accepted.job_id, JobEvent.CANCEL, now_us))
    await ship(site, hq)
    job = await hq.reader.look(remote_jobs.by_number, SITE, accepted.job_id)
    assert (job.state, job.finished_us) == (JobState.CANCELED, now_us)
    assert [one.uuid for _, one in await hq.reader.look(remote_jobs.page, SITE, 0, 10)] == [
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
        assert (await hq.reader.look(remote_jobs.by_uuid, one.uuid))[0].owner == name


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
    (job,) = await hq.reader.look(remote_jobs.by_uuid, SITE)
    assert job.state is JobState.COMPLETED


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
    (job,) = await hq.reader.look(remote_jobs.by_uuid, accepted.uuid)
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


async def test_what_names_an_erased_person_is_not_learned_again(site, hq, erasure):
    """A site that comes back late brings no name of somebody who is erased here, nor a title."""
    printer = await site.add_printer()
    before = await site.add_job(printer, owner="ada", title="Secret")
    await ship(site, hq)
    await erasure.erase("ada", "uid:0")
    await site.journal.commit(StartAttempt(before.job_id, 1, 1, 2))
    await site.add_job(printer, owner="ada", title="Secret")
    await ship(site, hq)
    (job,) = await hq.reader.look(remote_jobs.by_uuid, before.uuid)
    assert (job.owner, job.title, job.state) == ("", "", JobState.PROCESSING)
    last = (await stored(hq))[-1]
    assert last[2] is None
    assert codec.decode(*last).kind == Kind.JOB_ACCEPTED
    assert msgpack.unpackb(last[0])[0] == site.journal.head


async def test_a_site_that_begins_anew_again_and_again_is_refused(site, hq, monkeypatch):
    """Restores are few; what is here already goes on."""
    monkeypatch.setattr(receiving, "CHAINS_MAX", 3)
    for _ in range(2):
        await add(site, 1, kind=Kind.NODE_STARTED)
        await site.journal.commit(BranchJournal((await chain_of(site)).position, 7))
    await add(site, 1, kind=Kind.NODE_STARTED)
    await ship(site, hq)
    assert len(await hq.reader.look(received.standings, SITE)) == 3
    await site.journal.commit(BranchJournal((await chain_of(site)).position, 7))
    await add(site, 1, kind=Kind.NODE_STARTED)
    with pytest.raises(OperationError, match="3 incarnations"):
        await ship(site, hq)


async def test_a_site_whose_quarantine_is_full_sends_nothing_more_of_that(site, hq, monkeypatch):
    """Records that can be applied are taken as before."""
    monkeypatch.setattr(receiving, "QUARANTINE_MAX", 3)
    await add(site, 3)
    await ship(site, hq)
    await add(site, 1, kind=Kind.NODE_STARTED)
    await ship(site, hq)
    await add(site, 1)
    with pytest.raises(OperationError, match="3 records in quarantine"):
        await ship(site, hq)
    found = await standing(hq)
    assert (found.position, found.quarantined) == (4, 3)


async def test_rounds_of_a_site_push_out_its_own_alone(hq, monkeypatch):
    """One that begins rounds all the time takes nobody else's history."""
    monkeypatch.setattr(receiving, "ROUNDS_MAX", 3)
    for peer in (HQ, *[SITE] * 9):
        await hq.journal.commit(StartRound(peer, "connected", 1, 1))
    rounds = await hq.reader.look(received.rounds, 99)
    assert [one.peer for one in rounds] == [SITE] * 3 + [HQ]
