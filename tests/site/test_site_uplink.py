"""The journal of a site goes up exactly once, whatever is lost, late, or put back."""

from __future__ import annotations

import shutil
from uuid import UUID

import pytest
import trio
import trio.testing

from spoold.codec import batch
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.record import Kind
from spoold.provider.course import Lost
from spoold.site import uplink as uplinks
from spoold.spool import received, sending
from spoold.spool.store import AddRecord, PutCursor, StartRound
from support.chain import verified
from support.sites import HQ, SITE, receive, ship, stored
from support.waiting import wait_until
from support.wire import Sending, Wire


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """No test waits for its pauses."""
    monkeypatch.setattr(uplinks, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(uplinks, "RETRY_MAX_S", 0.02)
    monkeypatch.setattr(uplinks, "GATHER_S", 0.0)


async def add(spool, count=1, size=10):
    changes = [AddRecord(Kind.NODE_STARTED, {"fill": bytes(size)}, 1) for _ in range(count)]
    await spool.journal.commit_all(changes)


async def arrived(site, hq):
    return await stored(hq) == await stored(site)


async def test_records_go_up_by_themselves(site, hq):
    """What is there goes at once, and what is committed later as it is committed."""
    await add(site, 700)
    wire = Wire(hq)
    async with Sending(site, wire) as uplink:
        await wait_until(lambda: uplink.lag == 0 and uplink.standing.state == "idle")
        assert await arrived(site, hq)
        await add(site, 3)
        await wait_until(lambda: uplink.lag == 0)
        assert await arrived(site, hq)
        assert uplink.standing.acknowledged == site.journal.head == 703
        assert uplink.rate > 0


@pytest.mark.parametrize("what", ["request", "answer"])
async def test_nothing_is_lost_or_doubled_on_a_line_that_loses(site, hq, what):
    """Every third batch, or its answer, is lost: everything arrives once, in order."""
    await add(site, 300, size=600)
    wire = Wire(hq)
    count = 0

    def lose(op, args):
        nonlocal count
        count += op == "site.records"
        return what if op == "site.records" and count % 3 == 0 else ""

    wire.loses = lose
    async with Sending(site, wire) as uplink:
        await wait_until(lambda: uplink.lag == 0)
    assert await arrived(site, hq)
    received_ = [
        one.payload for one in await hq.reader.records(1, 1000)
        if one.kind == Kind.RECORDS_RECEIVED
    ]  # fmt: skip
    assert [one["from"] for one in received_[1:]] == [one["to"] + 1 for one in received_[:-1]]


async def test_nothing_goes_up_before_what_has_to_be_told_first(site, hq):
    """What cannot be told on a line that breaks is told again on the next one."""
    told = []

    async def tell():
        await trio.lowlevel.checkpoint()
        told.append(list(wire.calls))
        if len(told) == 1:
            raise Lost("the line broke")

    await add(site, 3)
    wire = Wire(hq)
    async with Sending(site, wire, first=tell) as uplink:
        await wait_until(lambda: uplink.lag == 0)
    assert told == [[], []]


async def test_a_line_that_comes_back_goes_on_where_it_stood(site, hq):
    """While the line is cut nothing is asked; afterwards the rest goes up."""
    wire = Wire(hq)
    async with Sending(site, wire) as uplink:
        await add(site, 5)
        await wait_until(lambda: uplink.lag == 0)
        wire.cut()
        await add(site, 5)
        await wait_until(lambda: uplink.standing.state == "waiting")
        assert uplink.lag == 5
        wire.connect(hq)
        await wait_until(lambda: uplink.lag == 0)
    assert await arrived(site, hq)


async def test_a_restored_application_server_gets_again_what_it_lost(site, tmp_path, spool_at):
    """It stands where it stood yesterday, and the site sends everything since."""
    (tmp_path / "hq").mkdir()
    await add(site, 20)
    async with spool_at(tmp_path / "hq", HQ) as hq, Sending(site, Wire(hq)) as uplink:
        await wait_until(lambda: uplink.lag == 0)
    shutil.copytree(tmp_path / "hq", tmp_path / "yesterday")
    await add(site, 20)
    async with spool_at(tmp_path / "hq", HQ) as hq:
        wire = Wire(hq)
        async with Sending(site, wire) as uplink:
            await wait_until(lambda: uplink.lag == 0)
            wire.cut()
            (tmp_path / "yesterday" / "witness").unlink()
            async with spool_at(tmp_path / "yesterday", HQ) as restored:
                assert len(await stored(restored)) == 20
                wire.connect(restored)
                await wait_until(lambda: arrived(site, restored))
                assert restored.journal.identity != hq.journal.identity
                uplink.sync_nowait()
                await wait_until(lambda: uplink.standing.state == "idle")


@pytest.mark.parametrize("count", [0, 2, 9])
async def test_a_forked_site_is_told_and_goes_on_when_somebody_says_so(
    hq, tmp_path, spool_at, count
):
    """A disk image was put back, and `count` other records written: none gets lost or doubled."""
    (tmp_path / "site").mkdir()
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 5)
    shutil.copytree(tmp_path / "site", tmp_path / "image")
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 5)
        async with Sending(site, Wire(hq)) as uplink:
            await wait_until(lambda: uplink.lag == 0)
        lost = await stored(site)
    async with spool_at(tmp_path / "image", SITE) as image:
        for _ in range(count):
            await image.add_job(await image.add_printer(f"p{_}"))
        wire = Wire(hq)
        async with Sending(image, wire) as uplink:
            await wait_until(lambda: uplink.standing.state == "forked")
            assert await stored(hq) == lost
            standing = (await hq.reader.look(received.standings, SITE))[-1]
            assert standing.state == "forked"
            assert await uplink.begin_anew() == 5
            await wait_until(lambda: uplink.lag == 0 and uplink.standing.state == "idle")
            mine = await stored(image)
            assert await stored(hq) == [*lost, *mine[5:]]
            standing = (await hq.reader.look(received.standings, SITE))[-1]
            assert (standing.state, standing.position) == ("open", image.journal.head)
            await image.add_printer("later")
            await wait_until(lambda: uplink.lag == 0)
            with pytest.raises(OperationError):
                await uplink.begin_anew()
        assert await verified(image.reader) == image.journal.head
        chains = await image.reader.look(sending.chains)
        assert chains[-1].parent == (chains[0].incarnation, 5, mine[4][3])


async def put_back(base, spool_at, *, unseen=3):
    """A site whose image, with 5 records, was put back; `unseen` of its own followed, and it was
    restored from a backup of that: `base/site`. Returns what it had sent before, 9 records.
    """
    place, image = base / "site", base / "image"
    place.mkdir()
    async with spool_at(place, SITE) as site:
        await add(site, 5)
    shutil.copytree(place, image)
    async with spool_at(place, SITE) as site:
        await add(site, 4)
        sent = await stored(site)
    shutil.copytree(place, base / "sent")
    shutil.rmtree(place)
    shutil.copytree(image, place)
    async with spool_at(place, SITE) as site:
        await add(site, unseen, size=20)
    (place / "witness").unlink()
    return sent


@pytest.mark.parametrize("unseen", [1, 4, 9])
async def test_a_fork_that_nobody_saw_before_a_restore_is_told_and_sent(
    hq, tmp_path, spool_at, unseen
):
    """Records of the incarnation before the one in use are other ones than were sent."""
    sent = await put_back(tmp_path, spool_at, unseen=unseen)
    async with spool_at(tmp_path / "sent", SITE) as site, Sending(site, Wire(hq)) as uplink:
        await wait_until(lambda: uplink.lag == 0)
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 2)
        async with Sending(site, Wire(hq)) as uplink:
            await wait_until(lambda: uplink.standing.state == "forked")
            assert await stored(hq) == sent
            (standing,) = await hq.reader.look(received.standings, SITE)
            assert standing.state == "forked"
            incarnation = site.journal.identity[1]
            assert await uplink.begin_anew() == 5
            await wait_until(lambda: uplink.lag == 0 and uplink.standing.state == "idle")
        assert site.journal.identity[1] == incarnation
        mine = await stored(site)
        assert len(mine) == 5 + unseen + 2 + 1  # and that it was branched
        assert await stored(hq) == [*sent, *mine[5:]]
        assert await verified(site.reader) == site.journal.head
        standings = await hq.reader.look(received.standings, SITE)
        assert [one.state for one in standings] == ["left", "left", "open"]
        first, branch, last = await site.reader.look(sending.chains)
        assert branch.parent == (first.incarnation, 5, mine[4][3])
        assert last.parent == (branch.incarnation, 5 + unseen, mine[4 + unseen][3])


async def test_an_incarnation_is_not_taken_whose_parent_is_another_record(hq, tmp_path, spool_at):
    """Whatever the sender makes of it, the application server sees the fork, and says so."""
    sent = await put_back(tmp_path, spool_at)
    async with spool_at(tmp_path / "sent", SITE) as site:
        await ship(site, hq)
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 2)
        chain = (await site.reader.look(sending.chains))[-1]
        found = await site.reader.look(sending.batch, chain.id, 0)
        for _ in range(2):
            assert (await receive(hq, SITE, chain, found)).state == "forked"
    assert await stored(hq) == sent
    (standing,) = await hq.reader.look(received.standings, SITE)
    assert (standing.state, standing.fork_position) == ("forked", 8)
    forks = [
        one for one in await hq.reader.records(1, 100) if one.kind == Kind.JOURNAL_FORKED
    ]  # fmt: skip
    assert [one.payload["incarnation"] for one in forks] == [standing.incarnation.bytes]


async def test_other_records_up_to_the_same_position_are_seen_before_the_next(
    hq, tmp_path, spool_at
):
    """As many records were written after the image as before: only their hashes differ."""
    (tmp_path / "site").mkdir()
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 5)
    shutil.copytree(tmp_path / "site", tmp_path / "image")
    for name in ("site", "image"):
        async with spool_at(tmp_path / name, SITE) as site:
            await add(site, 1, size=len(name))
            async with Sending(site, Wire(hq)) as uplink:
                state = "idle" if name == "site" else "forked"
                await wait_until(lambda state=state, at=uplink: at.standing.state == state)


async def test_a_site_that_is_put_back_into_an_older_incarnation_is_open_there(
    hq, tmp_path, spool_at
):
    """It had gone on as another one, and its disk of before came back with records of its own."""
    (tmp_path / "site").mkdir()
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 5)
        await ship(site, hq)
    shutil.copytree(tmp_path / "site", tmp_path / "image")
    (tmp_path / "site" / "witness").unlink()
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 2)
        await ship(site, hq)
    async with spool_at(tmp_path / "image", SITE) as site:
        await add(site, 3)
        async with Sending(site, Wire(hq)) as uplink:
            await wait_until(lambda: uplink.lag == 0 and uplink.standing.state == "idle")
    standings = await hq.reader.look(received.standings, SITE)
    assert [(one.state, one.position) for one in standings] == [("open", 8), ("left", 2)]
    assert received.latest(standings)[SITE].position == 8


async def test_a_restored_site_goes_on_as_the_incarnation_that_it_began(hq, tmp_path, spool_at):
    """A backup was restored: what it had sent stays, and the new incarnation names its parent."""
    (tmp_path / "site").mkdir()
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 5)
    shutil.copytree(tmp_path / "site", tmp_path / "backup")
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 3)
        async with Sending(site, Wire(hq)) as uplink:
            await wait_until(lambda: uplink.lag == 0)
        before = await stored(site)
    shutil.copy(tmp_path / "site" / "witness", tmp_path / "backup" / "witness")
    async with spool_at(tmp_path / "backup", SITE) as site:
        await add(site, 4)
        async with Sending(site, Wire(hq)) as uplink:
            await wait_until(lambda: uplink.lag == 0 and uplink.standing.state == "idle")
        own = await stored(site)
        assert await stored(hq) == [*before, *own[5:]]
        old, new = await hq.reader.look(received.standings, SITE)
        assert (old.state, old.position, new.state, new.position) == ("left", 8, "open", 4)


async def test_records_of_an_older_incarnation_go_first(hq, tmp_path, spool_at):
    """A site that was restored before it had sent all sends the rest of both incarnations."""
    (tmp_path / "site").mkdir()
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 5)
    (tmp_path / "site" / "witness").unlink()
    async with spool_at(tmp_path / "site", SITE) as site:
        await add(site, 2)
        async with Sending(site, Wire(hq)) as uplink:
            await wait_until(lambda: uplink.lag == 0 and uplink.standing.state == "idle")
        assert await stored(hq) == await stored(site)
        assert len(await stored(hq)) == 7


async def test_batches_that_overtake_one_another_are_put_in_order(site, hq):
    """Two that are on their way together arrive the wrong way round."""
    await add(site, 400, size=300)
    wire = Wire(hq)
    direct = wire.receiver.take
    held = trio.Event()
    firsts = []

    async def take(guid, args):
        firsts.append(args["first"])
        if len(firsts) == 1:
            await held.wait()
        elif len(firsts) == 2:
            held.set()
        return await direct(guid, args)

    wire.receiver.take = take
    async with Sending(site, wire) as uplink:
        await wait_until(lambda: uplink.lag == 0)
    assert await arrived(site, hq)
    assert wire.calls.count("site.stand") == 1


async def test_what_is_left_of_a_line_that_broke_is_dropped(site, hq):
    """Of batches that wait for their turn those of an earlier session are not looked at."""
    await add(site, 40)
    (chain,) = await site.reader.look(sending.chains)
    receiver = Wire(hq).receiver
    batches = [await site.reader.look(sending.batch, chain.id, after) for after in range(0, 40, 10)]
    answers = {}

    async def take(found):
        cut = found._replace(records=found.records[:10])
        args = batch.write(cut.first, cut.previous, cut.records) | {
            "incarnation": str(chain.incarnation), "head": 40, "window": 4, "parent": None,
            "oldest": cut.first == 1, "behind": False, "round": "",
        }  # fmt: skip
        try:
            answers[cut.first] = (await receiver.take(SITE, args))["position"]
        except OperationError as error:
            answers[cut.first] = error.code

    async with receiver._turn, trio.open_nursery() as nursery:
        for found in batches:
            nursery.start_soon(take, found)
            await trio.testing.wait_all_tasks_blocked()
        await receiver.stand(SITE)
        receiver._turn.release()
        await wait_until(lambda: len(answers) == 4)
        await receiver._turn.acquire()
    assert answers == {1: 10, 11: 20, 21: "canceled", 31: "canceled"}
    assert len(await stored(hq)) == 20


async def test_rounds_are_told_at_both_ends(site, hq):
    """When it began, why, what went, and how it ended."""
    await add(site, 30)
    wire = Wire(hq)
    async with Sending(site, wire) as uplink:
        await wait_until(lambda: uplink.lag == 0 and uplink.standing.state == "idle")
        uplink.sync_nowait()

        async def are_over():
            rounds = await site.reader.look(received.rounds, 10)
            return [one.result for one in rounds] == ["done", "done"]

        await wait_until(are_over)
        await add(site, 1)
        await wait_until(lambda: uplink.lag == 0)
    await site.journal.commit_all([])
    rounds = await site.reader.look(received.rounds, 10)
    assert [(one.cause, one.peer, one.records, one.result) for one in rounds] == [
        ("asked", HQ, 0, "done"),
        ("connected", HQ, 30, "done"),
    ]
    (there,) = await hq.reader.look(received.rounds, 10)
    assert (there.cause, there.peer, there.last, there.result) == ("connected", SITE, 30, "done")


async def test_what_is_not_acknowledged_is_not_pruned(site, hq):
    """The cursor stands from the first start, and follows what the application server has."""
    await add(site, 10)
    wire = Wire(hq)
    wire.cut()
    async with Sending(site, wire):
        assert (await site.reader.cursors())["upstream"] == 0
        wire.connect(hq)
        await wait_until(lambda: arrived(site, hq))
    async with Sending(site, wire) as uplink:
        await wait_until(lambda: uplink.standing.state == "idle")
        assert (await site.reader.cursors())["upstream"] == 10


async def test_the_watchdog_is_answered_while_there_is_nothing_to_do(site, hq):
    """Idle, with the line away, while an answer does not come, and once it is over."""
    wire = Wire(hq)
    held = trio.Event()

    async def take(guid, args):
        held.set()
        await trio.sleep_forever()

    with trio.fail_after(30):
        async with Sending(site, wire) as uplink:
            await wait_until(lambda: uplink.standing.state == "idle")
            for _ in range(3):
                await uplink.beat()
            wire.cut()
            for _ in range(3):
                await uplink.beat()
            wire.connect(hq)
            wire.receiver.take = take
            await add(site)
            await held.wait()
            for _ in range(3):
                await uplink.beat()
        await uplink.beat()


async def test_the_watchdog_hears_nothing_of_sending_that_hangs(site, hq, monkeypatch):
    """Also with a line that is up: a look into the spool that does not come back is no progress."""
    hanging, let_go = trio.Event(), trio.Event()
    look = site.reader.look

    async def hang(look_up, *values):
        hanging.set()
        await let_go.wait()
        return await look(look_up, *values)

    async with Sending(site, Wire(hq)) as uplink:
        await wait_until(lambda: uplink.standing.state == "idle")
        monkeypatch.setattr(site.reader, "look", hang)
        await add(site)
        await hanging.wait()
        with trio.move_on_after(0.2) as patience:
            await uplink.beat()
        assert patience.cancelled_caught
        let_go.set()
        with trio.fail_after(30):
            await uplink.beat()
        await wait_until(lambda: uplink.lag == 0)


async def test_a_refusal_of_one_site_is_not_asked_in_a_loop(site, hq):
    """An application server that wants nothing is asked with growing pauses, jittered."""
    await add(site, 1)
    wire = Wire(hq)

    async def refuse(guid, args):
        raise OperationError("busy", "not now.")

    wire.receiver.take = refuse
    async with Sending(site, wire) as uplink:
        await wait_until(lambda: wire.calls.count("site.records") >= 3)
        assert "not now" in uplink.standing.reason
        assert uplink.lag == 1
    assert UUID(site.journal.identity[0]) == SITE


async def test_a_full_disk_at_the_site_stops_the_round_and_not_the_sending(site, hq, monkeypatch):
    """What is to be noted has no room: it is tried again, and then everything goes up."""
    await add(site, 3)
    commit, refused = site.journal.commit, []

    async def full(change):
        if isinstance(change, PutCursor | StartRound) and len(refused) < 4:
            refused.append(type(change))
            raise SpoolFull("commit to", "the spool", "the disk is full", "Make room.")
        return await commit(change)

    monkeypatch.setattr(site.journal, "commit", full)
    async with Sending(site, Wire(hq)) as uplink:
        await wait_until(lambda: uplink.lag == 0)
        assert await arrived(site, hq)
    assert set(refused) == {PutCursor, StartRound}
