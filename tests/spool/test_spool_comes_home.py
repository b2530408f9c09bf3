"""A printer that was another node's and is ours now: what waits for it stops where it had to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spoold.model.job import JobReason, JobState
from spoold.model.outcome import InDoubt
from spoold.model.release import Charging, ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, EndAttempt, PutPrinter, StartAttempt
from support.sites import SITE

LINE = 0  # the device of attempts over the line of a site
GATES = [
    ({"release": ReleaseMode.HOLD}, "job-release-wait"),
    ({"charging": Charging.ON}, "job-being-counted"),
]


async def come_home(spool, printer):
    return await spool.journal.commit(PutPrinter(replace(printer, owner=None), spool.wall_clock()))


@pytest.mark.parametrize(("fields", "reason"), GATES)
async def test_what_waits_stops_at_the_gate(spool, fields, reason):
    """Nobody has released it, nor paid for it, as long as its printer was another node's."""
    printer = await spool.add_printer(owner=SITE, **fields)
    job_id = (await spool.add_job(printer, owner="ada")).job_id
    assert (await spool.reader.job(job_id)).state is JobState.PENDING
    await come_home(spool, printer)
    job = await spool.reader.job(job_id)
    assert (job.state, job.reasons) == (JobState.PENDING_HELD, (reason,))
    assert job.held_us


async def test_what_waits_at_a_printer_without_a_gate_goes_on(spool):
    """There is nothing to wait for."""
    printer = await spool.add_printer(owner=SITE)
    job_id = (await spool.add_job(printer)).job_id
    await come_home(spool, printer)
    assert (await spool.reader.job(job_id)).state is JobState.PENDING


@pytest.mark.parametrize(("fields", "reason"), GATES)
@pytest.mark.parametrize("device", [LINE, 1])
async def test_what_was_in_doubt_elsewhere_is_not_let_through_here(spool, fields, reason, device):
    """Settled as not printed it stops at the gate, unless this node had let it through itself."""
    printer = await spool.add_printer(owner=SITE, **fields)
    job_id = (await spool.add_job(printer, owner="ada")).job_id
    commit, now_us = spool.journal.commit, spool.wall_clock()
    number = await commit(StartAttempt(job_id, device, printer.id, now_us))
    await come_home(spool, printer)
    reasons = (JobReason.JOB_IN_DOUBT,)
    outcome = InDoubt("rehomed")
    await commit(EndAttempt(job_id, number, outcome, JobEvent.DOUBT, reasons, now_us))
    state = await commit(ChangeJob(job_id, JobEvent.REPRINT, now_us))
    job = await spool.reader.job(job_id)
    if device == LINE:
        assert (state, job.reasons) == (JobState.PENDING_HELD, (reason,))
    else:
        assert state is JobState.PENDING
