"""Held jobs are counted beside the loop, also those that a restart finds; others are let alone."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from spoold.model import release as modes
from spoold.model.job import JobReason, JobState
from spoold.model.record import Kind
from spoold.model.release import ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.release import counts
from spoold.spool import release as held
from spoold.spool.store import ChangeJob, EndHold
from support.money import PAGE
from support.waiting import wait_until

PAGES = b"one\ftwo\fthree\f"


@pytest.mark.slow
async def test_what_waits_is_counted(node, spool, nursery):
    """What came before the start, what comes after it, and each of several documents."""
    safe = await spool.add_printer("safe", release=ReleaseMode.HOLD)
    plain = await spool.add_printer("plain", "file:///plain")
    before = (await spool.add_job(safe, PAGES, copies=2)).job_id
    await nursery.start(node.counts.run, node.releases)
    after = (await spool.open_job(safe)).job_id
    await spool.attach(after, PAGES, last=False)
    await spool.attach(after, b"four\f")
    other = (await spool.add_job(plain, PAGES)).job_id
    job = await node.wait(before, lambda job: job.impressions is not None)
    assert (job.impressions, job.media_sheets) == (3, 6)
    assert job.state is JobState.PENDING_HELD
    assert (await node.wait(after, lambda job: job.impressions)).impressions == 4
    assert (await spool.reader.job(other)).impressions is None
    assert await spool.reader.look(held.contents, other) == {}


@pytest.mark.slow
async def test_a_job_that_is_counted_and_free_prints(node, spool, nursery):
    """Where rules hold, a job waits until it is known to keep them."""
    rules = await spool.add_printer("rules", policies=(), charging=modes.Charging.SHADOW)
    await nursery.start(node.counts.run, node.releases)
    job_id = (await spool.add_job(rules, PAGES)).job_id
    job = await node.wait(job_id, lambda job: job.state is JobState.PENDING)
    assert (job.impressions, job.reasons, job.held_us) == (3, (), None)


@pytest.mark.slow
async def test_what_cannot_be_counted_is_unknown(node, spool):
    """Not nothing; and it is not tried again and again."""
    safe = await spool.add_printer("safe", release=ReleaseMode.HOLD)
    job_id = (await spool.add_job(safe, b"%PDF-1.4 broken")).job_id
    found = await node.counts.count(await spool.reader.job(job_id))
    assert found[1].pages is None
    assert (await spool.reader.job(job_id)).impressions is None
    waiting = await spool.reader.look(held.waiting, (0, 0, 0), 10)
    assert [one.is_due for one in waiting] == [False]


@pytest.mark.slow
async def test_a_job_that_is_due_again_is_cleared_once_at_a_time(node, spool, nursery):
    """Also when it comes again while somebody finds out who pays for it."""

    class Slow:
        running, most, times = 0, 0, 0

        async def clear(self, job):
            self.running, self.times = self.running + 1, self.times + 1
            self.most = max(self.most, self.running)
            await go_on.wait()
            self.running -= 1

    go_on, slow = trio.Event(), Slow()
    await nursery.start(node.counts.run, slow)
    rules = await spool.add_printer("rules", policies=(), charging=modes.Charging.SHADOW)
    job_id = (await spool.add_job(rules, PAGES)).job_id
    await wait_until(lambda: slow.running)
    job = await spool.reader.job(job_id)
    again = ChangeJob(
        job_id, JobEvent.HOLD, 5, reasons=job.reasons, only_from=(JobState.PENDING_HELD,)
    )
    await spool.journal.commit(again)
    await trio.testing.wait_all_tasks_blocked(0.2)
    go_on.set()
    await wait_until(lambda: slow.times == 2)
    assert slow.most == 1


@pytest.mark.slow
async def test_two_who_ask_at_once_count_once(node, spool):
    """Somebody at the machine does not count again what is being counted."""
    safe = await spool.add_printer("safe", release=ReleaseMode.HOLD)
    job_id = (await spool.add_job(safe, PAGES)).job_id
    job = await spool.reader.job(job_id)
    head = spool.journal.head
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(node.counts.count, job)
    assert spool.journal.head == head + 1


@pytest.mark.slow
async def test_what_waits_for_money_is_looked_at_again_whatever_changes(
    node, spool, nursery, monkeypatch
):
    """Other people's money may change all the time; nobody starves by that."""
    monkeypatch.setattr(counts, "LOOK_AGAIN_S", 0.2)
    paid = await spool.add_printer("paid", charging=modes.Charging.ON)
    ada, bob = await node.purses.person("ada"), await node.purses.person("bob")
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    job_id = (await spool.add_job(paid, PAGES, owner="ada")).job_id
    await node.held(job_id, "account-limit-reached")

    async def can_be_paid(job):  # there is money by now, and nobody was told
        monkeypatch.undo()
        await node.purses.pay_in(ada, 100 * PAGE)
        return True

    monkeypatch.setattr(node.releases, "can_be_paid", can_be_paid)
    with trio.move_on_after(30):
        while JobReason.ACCOUNT_LIMIT_REACHED in (await spool.reader.job(job_id)).reasons:
            await node.purses.pay_in(bob, PAGE)
            await trio.sleep(0.02)
    await node.pending(job_id)


@pytest.mark.slow
async def test_what_holds_a_job_while_its_payment_is_looked_for_goes_on(
    node, spool, nursery, monkeypatch
):
    """As that its printer was another node's meanwhile: there is money, and still it waits."""
    paid = await spool.add_printer("paid", charging=modes.Charging.ON)
    ada = await node.purses.person("ada")
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    job_id = (await spool.add_job(paid, PAGES, owner="ada")).job_id
    await node.held(job_id, "account-limit-reached")
    both = ("account-limit-reached", JobReason.JOB_REHOMED.value)
    looked = trio.Event()

    async def can_be_paid(job):
        if not looked.is_set():
            await spool.journal.commit(ChangeJob(job.id, JobEvent.HOLD, 1, reasons=both))
            looked.set()
        return True

    monkeypatch.setattr(node.releases, "can_be_paid", can_be_paid)
    await node.purses.pay_in(ada, 100 * PAGE)
    with trio.fail_after(30):
        await looked.wait()
        await node.purses.pay_in(ada, PAGE)
        await spool.journal.commit(EndHold(job_id, JobReason.JOB_REHOMED.value, 2))
        await node.pending(job_id)
    records = await spool.reader.records(1, 1000)
    told = [
        (one.payload["event"], *one.payload["reasons"])
        for one in records
        if one.kind == Kind.JOB_CHANGED
    ]
    assert told[told.index(("hold", *both)) + 1] == ("hold", "job-being-counted")


@pytest.mark.slow
async def test_a_job_that_nobody_pays_is_held_for_that_at_once(node, spool, nursery):
    """What a crash in between would leave is no job that is being counted for ever."""
    paid = await spool.add_printer("paid", charging=modes.Charging.ON)
    await node.purses.person("ada")
    await node.purses.start()
    await nursery.start(node.counts.run, node.releases)
    job_id = (await spool.add_job(paid, PAGES, owner="ada")).job_id
    await node.held(job_id, "account-limit-reached")
    told = [one.payload.get("reasons", []) for one in await spool.reader.records(1, 1000)]
    assert ["account-limit-reached"] in told
    assert not [one for one in told if {"job-being-counted", "account-limit-reached"} <= set(one)]
