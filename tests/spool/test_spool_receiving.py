"""Records of other nodes in the spool: kept as they came, applied once; forks, and quarantine."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from spoold.codec import record as codec
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import JobState
from spoold.model.person import Owner
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent
from spoold.spool import applying, received, receiving, remote_views, sending
from spoold.spool import sqlite as spool_sqlite
from spoold.spool.store import (
    AcceptJob,
    AddRecord,
    BranchJournal,
    ChangeJob,
    NewDocument,
    PruneRecords,
    RemoveJobs,
    RetryQuarantined,
    StartRound,
)
from support.chain import verified
from support.receiving import add, chain_of, standing
from support.sites import HQ, SITE, arrived, receive, ship, stored


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
    taken = [(one.payload["from"], one.payload["to"]) for one in cited]
    assert taken == [(1, most), (most + 1, 100)]


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
    assert await verified(site.reader) == site.journal.head == 6
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
    (job,) = await hq.reader.look(remote_views.by_uuid, accepted.uuid)
    assert (job.job_id, job.owner) == (accepted.job_id, "ada")


@pytest.mark.parametrize("kind", [Kind.JOB_ACCEPTED, Kind.JOB_CHANGED, Kind.JOB_REMOVED])
@pytest.mark.parametrize("is_removed", [False, True])
async def test_a_job_is_what_was_said_last_when_an_earlier_record_makes_sense_at_last(
    site, hq, monkeypatch, kind, is_removed
):
    """What came behind the record has been applied already."""
    printer = await site.add_printer()
    made = await site.add_job(printer, owner="ada", title="Report")
    other = await site.add_job(printer, owner="ada", title="Letter")
    for event in (JobEvent.HOLD, JobEvent.RELEASE, JobEvent.CANCEL):
        await site.journal.commit(ChangeJob(made.job_id, event, 9))
    if is_removed:
        await site.journal.commit(RemoveJobs((made.job_id,), 9))

    def shown(found):
        return [(one.title, one.state, one.owner) for one in found]

    with monkeypatch.context() as older:
        older.setitem(applying.APPLY, kind, lambda *_: 1 / 0)
        await ship(site, hq)
    places = await hq.reader.look(received.quarantined, (0, 0), 10)
    assert bool(places) == (is_removed or kind is not Kind.JOB_REMOVED)
    for one in places:
        later = await hq.reader.look(received.later, one.chain_id, one.position)
        retry = RetryQuarantined(one.chain_id, ((one.position, *later),), 1)
        assert await hq.journal.commit(retry) == 1
    whole = [] if is_removed else [("Report", JobState.CANCELED, "ada")]
    assert shown(await hq.reader.look(remote_views.by_uuid, made.uuid)) == whole
    waiting = [("Letter", JobState.PENDING, "ada")]
    assert shown(await hq.reader.look(remote_views.by_uuid, other.uuid)) == waiting
    assert await hq.reader.look(received.quarantined, (0, 0), 10) == []


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
    retry = RetryQuarantined(found.chain_id, ((found.position,),), 1)
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
