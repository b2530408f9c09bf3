"""The dispatcher over the real spool: the everyday, and pools."""

from __future__ import annotations

import gc
from dataclasses import replace
from uuid import uuid4

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from spoold.dispatch.attempt import Attempt
from spoold.driver.link import Delivery, Progress
from spoold.model.job import JobState
from spoold.model.outcome import Outcome
from spoold.model.printer import Order
from spoold.spool.store import JobFilter, PutPrinter
from support.devices import DEAD, PATIENT, print_it
from support.dispatching import QUICK
from support.waiting import wait_until


async def test_jobs_are_printed_and_noted(floor, spool):
    """Jobs from before and after the start print in order, each with one attempt on record."""
    printer, machine = await floor.add()
    early = await floor.add_jobs(printer, 3)
    with capture_logs() as logs:
        async with floor.dispatching() as dispatcher:
            late = await floor.add_jobs(printer, 3)
            await floor.wait_completed(early + late)
            await wait_until(lambda: dispatcher.status(printer.id).state == "idle")
    assert machine.printed == early + late
    for job_id in early + late:
        job = await spool.reader.job(job_id)
        assert job.reasons == ("job-completed-successfully",)
        (attempt,) = await spool.reader.attempts(job_id)
        assert (attempt.outcome, attempt.bytes_sent) == ("delivered", 5)
        assert attempt.evidence["method"] == "half-close"
    assert await spool.reader.open_attempts() == []
    assert [log["event"] for log in logs].count("job_completed") == 6


async def test_a_printer_works_from_when_it_is_tried(floor):
    """Before the first byte, too: a device may take long to say that it is there."""
    printer, machine = await floor.add()
    machine.script = [machine.connecting()]
    async with floor.dispatching() as dispatcher:
        (job_id,) = await floor.add_jobs(printer, 1)
        with trio.fail_after(30):
            await machine.busy.wait()
        status = dispatcher.status(printer.id)
        assert (status.state, status.active_job_id) == ("processing", job_id)


async def test_an_attempt_that_has_ended_is_gone_at_once(floor):
    """Nothing of it waits for the collector of cycles: a node makes a thousand a second."""
    printer, _ = await floor.add()
    gc.collect()
    gc.disable()
    try:
        async with floor.dispatching():
            await floor.wait_completed(await floor.add_jobs(printer, 5))
        assert not [one for one in gc.get_objects() if type(one) in (Attempt, Delivery)]
    finally:
        gc.enable()


async def test_end_and_next_mark_share_a_commit(floor, spool):
    """A stream of jobs to one printer costs one commit each, and one more."""
    printer, machine = await floor.add()
    jobs = await floor.add_jobs(printer, 50)
    before = spool.journal.commits
    async with floor.dispatching():
        await floor.wait_completed(jobs)
    assert machine.printed == jobs
    assert spool.journal.commits - before == 51


async def test_the_mark_is_durable_before_a_byte_may_leave(floor, spool):
    """When the driver may send, the attempt is on record."""
    printer, machine = await floor.add()
    seen = []

    async def look(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        (attempt,) = await spool.reader.open_attempts()
        seen.append((attempt.job_id, (await spool.reader.job(attempt.job_id)).state))
        return await print_it(delivery)

    machine.usual = look
    jobs = await floor.add_jobs(printer, 3)
    async with floor.dispatching():
        await floor.wait_completed(jobs)
    assert seen == [(job_id, JobState.PROCESSING) for job_id in jobs]


async def test_stuck_device_delays_no_other(floor):
    """While one printer takes nothing, another prints all it has."""
    stuck, machine = await floor.add("stuck")
    machine.usual = machine.stuck()
    other, _ = await floor.add("other")
    await floor.add_jobs(stuck, 3)
    async with floor.dispatching() as dispatcher:
        await machine.busy.wait()
        jobs = await floor.add_jobs(other, 10)
        await floor.wait_completed(jobs)
        assert dispatcher.status(stuck.id).state == "processing"
        assert machine.seen == machine.seen[:1]


async def test_deliveries_have_a_limit_that_stalled_ones_do_not_use_up(floor):
    """With one delivery allowed, a second device waits its turn, but not for a stalled one."""
    settings = replace(QUICK, deliveries_max=1, stalled_after_s=5.0)
    first, machine = await floor.add("first")
    second, other = await floor.add("second")
    go = trio.Event()

    async def wait_then_stall(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        machine.busy.set()
        await go.wait()
        delivery.report(Progress(bytes_sent=1, stalled_s=6.0))
        await trio.sleep_forever()
        raise AssertionError

    machine.usual = wait_then_stall
    await floor.add_jobs(first, 1)
    async with floor.dispatching(settings):
        await machine.busy.wait()
        jobs = await floor.add_jobs(second, 1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert other.seen == []
        go.set()
        await floor.wait_completed(jobs)


async def test_one_device_never_has_two_attempts(floor, spool):
    """Two printers on a device take turns; the machine itself checks that they never overlap."""
    printer, machine = await floor.add("a")
    twin = await spool.journal.commit(
        PutPrinter(replace(printer, id=0, guid=uuid4(), name="b"), spool.wall_clock())
    )
    jobs = await floor.add_jobs(printer, 5) + await floor.add_jobs(twin, 5)
    async with floor.dispatching():
        await floor.wait_completed(jobs)
    assert sorted(machine.printed) == sorted(jobs)
    assert machine.printed[:4] == [jobs[0], jobs[5], jobs[1], jobs[6]]


async def test_pool_moves_on_to_another_member_and_to_the_standby(floor, spool):
    """A job leaves a member that fails before its first byte; standby only when all have failed."""
    settings = PATIENT
    _, first = await floor.add("first")
    _, second = await floor.add("second")
    _, spare = await floor.add("spare")
    pool = await floor.add_pool("pool", members=("first", "second"), standby=("spare",))
    async with floor.dispatching(settings) as dispatcher:
        jobs = await floor.add_jobs(pool, 6)
        await floor.wait_completed(jobs)
        assert sorted(first.printed + second.printed) == jobs
        assert spare.seen == []
        first.usual = DEAD
        jobs = await floor.add_jobs(pool, 4)
        await floor.wait_completed(jobs)
        assert set(jobs) <= set(second.printed)
        assert spare.seen == []
        second.usual = DEAD
        jobs = await floor.add_jobs(pool, 4)
        await floor.wait_completed(jobs)
        assert spare.printed == jobs
        await wait_until(lambda: dispatcher.status(pool.id).state == "idle")
    for job_id in jobs:
        assert (await spool.reader.job(job_id)).printer_id == pool.id


@pytest.mark.parametrize("order", list(Order))
async def test_pool_sends_a_format_to_a_member_that_takes_it(floor, order):
    """Members that do not take a format are passed over; with none left the job is held."""
    _, pdf_only = await floor.add("pdf", formats=("application/pdf",))
    _, text = await floor.add("text", formats=("text/plain",))
    pool = await floor.add_pool("pool", members=("pdf", "text"), order=order)
    none = await floor.add_pool("none", members=("pdf",))
    async with floor.dispatching():
        jobs = await floor.add_jobs(pool, 3)
        (misfit,) = await floor.add_jobs(none, 1)
        await floor.wait_completed(jobs)
        held = await floor.wait_state(misfit, JobState.PENDING_HELD)
    assert pdf_only.seen == []
    # In fair order a job that has just been looked at elsewhere may be overtaken.
    assert (text.printed if order is Order.FIFO else sorted(text.printed)) == jobs
    assert held.reasons == ("unsupported-document-format",)


async def test_the_loop_answers_while_a_printer_hangs(floor, spool):
    """The watchdog asks the dispatcher, not its printers; one that drains has nothing to say."""
    printer, machine = await floor.add()
    machine.usual = machine.stuck(0)
    await floor.add_jobs(printer, 1)
    async with floor.dispatching(drain_s=0.01) as dispatcher:
        await machine.busy.wait()
        with trio.fail_after(30):
            await dispatcher.beat()
            await dispatcher.beat()
    with trio.fail_after(30):
        await dispatcher.beat()


async def test_many_idle_printers_cost_no_tasks(floor, spool):
    """Printers without work have no task; one that gets work has one while it lasts."""
    printers = [(await floor.add(f"p{n}"))[0] for n in range(50)]
    async with floor.dispatching():
        before = trio.lowlevel.current_statistics().tasks_living
        await floor.wait_completed(await floor.add_jobs(printers[7], 1))
        with trio.fail_after(30):
            while trio.lowlevel.current_statistics().tasks_living > before:
                await trio.testing.wait_all_tasks_blocked()
    assert len(await spool.reader.jobs(JobFilter(states=(JobState.COMPLETED,)))) == 1
