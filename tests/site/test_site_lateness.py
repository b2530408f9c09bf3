"""What was released for a machine of a site, and did not get there: over a real spool."""

from __future__ import annotations

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.release import ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.site.lateness import Lateness
from spoold.spool.store import ChangeJob, PutUser, ReleaseJob
from support.waiting import wait_until

LATE_US = 61_000_000
ELSEWHERE = "job-waits-elsewhere"


@pytest.fixture
async def roam(spool):
    return await spool.add_printer("roam", release=ReleaseMode.FIND_ME)


@pytest.fixture
async def ada(spool):
    return await spool.journal.commit(PutUser("ada", spool.wall_clock(), is_new=True, fields={}))


async def released(spool, roam, desk, user=None):
    """A job of Ada's, released at `desk` by `user`, or by an operator."""
    job = await spool.reader.job((await spool.add_job(roam, owner="ada")).job_id)
    now_us = spool.wall_clock()
    guid = None if user is None else user.guid
    change = ReleaseJob(
        job.id, desk.id, now_us, job.changed_us, "somebody", guid, is_staff=user is None
    )
    await spool.journal.commit(change)
    return job.id


async def test_it_waits_again_where_it_waited_after_a_restart_too(spool, roam, ada):
    """Released by a person, a minute ago, by a process that is gone; an operator's job stays."""
    desk = await spool.add_printer("desk")
    mine, operators = await released(spool, roam, desk, ada), await released(spool, roam, desk)
    clock = [spool.wall_clock()]
    late = Lateness(spool.journal, spool.reader, {desk.id}.__contains__, lambda: clock[0])
    assert not await late.hold([mine, operators])
    clock[0] += LATE_US
    assert await late.find([mine, operators]) == {mine: roam.id}
    late.soon_s = 0.0  # it looks at once
    async with trio.open_nursery() as nursery:
        nursery.start_soon(late.run)
        await wait_until(
            lambda: spool.reader.job(mine), holds=lambda job: job.state is not JobState.PENDING
        )
        nursery.cancel_scope.cancel()
    job = await spool.reader.job(mine)
    assert (job.printer_id, job.reasons) == (roam.id, ("job-release-wait",))
    assert (await spool.reader.job(operators)).state is JobState.PENDING


@pytest.mark.parametrize("set_us", [-LATE_US, LATE_US])
async def test_who_sets_the_clock_makes_it_no_earlier_and_no_later(spool, roam, ada, set_us):
    """A minute counts as it passes: neither does a job come after it, nor wait again before."""
    desk = await spool.add_printer("desk")
    clock = [spool.wall_clock()]
    late = Lateness(spool.journal, spool.reader, {desk.id}.__contains__, lambda: clock[0])
    job_id = await released(spool, roam, desk, ada)
    clock[0] += set_us
    assert not await late.find([job_id])
    late.soon_s = 0.0  # what has passed meanwhile is longer than that
    assert await late.find([job_id]) == {job_id: roam.id}


async def test_a_clock_that_was_set_back_before_a_start_makes_it_late(spool, roam, ada):
    """Nobody knows then how long it has waited, and nobody is left at the machine."""
    desk = await spool.add_printer("desk")
    job_id = await released(spool, roam, desk, ada)
    late = Lateness(spool.journal, spool.reader, lambda _: True, lambda: 0)
    assert await late.find([job_id]) == {job_id: roam.id}


async def test_what_was_given_away_is_its_application_servers(spool, roam):
    """Nobody here releases, moves or deletes it, but who operates this node, and that server."""
    job_id = (await spool.add_job(roam, owner="ada")).job_id
    now_us = spool.wall_clock()
    held = (JobState.PENDING_HELD,)

    def gone(event, *reasons, **more):
        return ChangeJob(job_id, event, now_us, reasons=reasons, only_from=held, **more)

    let_go = gone(JobEvent.HOLD, ELSEWHERE, only_with="job-release-wait")
    await spool.journal.commit(let_go)
    job = await spool.reader.job(job_id)
    assert (job.reasons, job.held_us) == ((ELSEWHERE,), None)
    for change in (
        let_go,
        gone(JobEvent.RELEASE),
        gone(JobEvent.MOVE, printer_id=roam.id),
        gone(JobEvent.CANCEL, "job-canceled-by-user"),
        ReleaseJob(job_id, roam.id, now_us, job.changed_us, "uid:0", is_staff=True),
    ):
        with pytest.raises(OperationError) as caught:
            await spool.journal.commit(change)
        assert caught.value.code == "not-possible"
    home = ReleaseJob(job_id, roam.id, now_us, job.changed_us, "node", comes_home=True)
    assert (await spool.journal.commit(home)).state is JobState.PENDING
