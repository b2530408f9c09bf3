"""Holds that end, and open jobs that time out, by a clock that the test sets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from spoold.daemon.timers import STEP, Timers
from spoold.intake.acceptance import Acceptance
from spoold.intake.opening import OpenJobs
from spoold.model.job import JobReason, JobState
from spoold.spool.store import JobFilter
from support.limits import Limits

HELD = JobReason.JOB_HOLD_UNTIL_SPECIFIED.value


@pytest.fixture
async def clock(spool):
    """`clock.timers` looks at `clock.now_us`."""
    clock = SimpleNamespace(now_us=spool.wall_clock())
    acceptance = Acceptance(
        spool.journal, spool.reader, spool.documents, Limits(), lambda: clock.now_us
    )
    clock.printer = await spool.add_printer()
    await acceptance.start()
    clock.open_jobs = OpenJobs(acceptance, spool.journal, spool.reader, lambda: 900.0)
    clock.timers = Timers(spool.journal, spool.reader, clock.open_jobs, lambda: clock.now_us)
    return clock


async def hold(spool, clock, seconds, **fields):
    return await spool.add_job(
        clock.printer,
        state=JobState.PENDING_HELD,
        reasons=(HELD,),
        hold_until="time",
        release_us=clock.now_us + seconds * 1_000_000,
    )


async def test_holds_end_in_their_time(spool, clock):
    """Each at its own; a clock that went back ends nothing, and nothing is done twice."""
    jobs = [await hold(spool, clock, seconds) for seconds in (10, 20)]
    start_us = clock.now_us
    head = spool.journal.head
    for now_us, states in (
        (start_us, "held held"),
        (start_us + 10_000_000, "pending held"),
        (start_us - 10_000_000, "pending held"),
        (start_us + 30_000_000, "pending pending"),
        (start_us + 90_000_000, "pending pending"),
    ):
        clock.now_us = now_us
        await clock.timers.look()
        found = [(await spool.reader.job(job.job_id)).state for job in jobs]
        assert [state.removeprefix("pending-") for state in found] == states.split()
    assert spool.journal.head == head + 2


@pytest.mark.slow
async def test_many_holds_end_together(spool, clock):
    """More than a transaction takes."""
    for _ in range(STEP + 5):
        await hold(spool, clock, 1)
    clock.now_us += 2_000_000
    await clock.timers.look()
    held = JobFilter(states=(JobState.PENDING_HELD,))
    assert await spool.reader.jobs(held) == []


async def test_an_open_job_times_out_but_not_while_its_document_comes(spool, clock):
    """A slow document is not late; what never came is aborted, what did is printed."""
    empty, slow, whole = [
        await spool.open_job(clock.printer, deadline_us=clock.now_us + 900_000_000)
        for _ in range(3)
    ]
    sender = "address:127.0.0.1"
    upload = await clock.open_jobs.begin_document(slow.job_id, sender)
    await spool.attach(whole.job_id, last=False, deadline_us=clock.now_us + 900_000_000)
    await clock.timers.look()
    assert (await spool.reader.job(empty.job_id)).is_incoming
    clock.now_us += 901_000_000
    await clock.timers.look()
    job = await spool.reader.job(empty.job_id)
    assert (job.state, job.message) == (
        JobState.ABORTED,
        "No document came within 900 s.",
    )
    assert (await spool.reader.job(slow.job_id)).is_incoming
    assert (await spool.reader.job(whole.job_id)).state is JobState.PENDING
    await upload.write(b"x")
    assert (await upload.commit()).state is JobState.PENDING
