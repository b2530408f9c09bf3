"""Held jobs are counted beside the loop, also those that a restart finds; others are let alone."""

from __future__ import annotations

import pytest
import trio

from spoold.model import release as modes
from spoold.model.job import JobState
from spoold.model.release import ReleaseMode
from spoold.spool import release as held

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
