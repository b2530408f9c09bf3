"""What a crash left open is settled at the next start; a drain leaves nothing open."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from spoold.driver.link import Delivery
from spoold.model.job import JobState
from spoold.model.outcome import Outcome
from spoold.model.printer import Order, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import JobFilter, StartAttempt
from support.devices import DEAD, Machine, print_it


@pytest.mark.parametrize(
    ("uri", "in_doubt", "state", "outcome"),
    [
        ("test://p", WhenInDoubt.HOLD, JobState.PENDING_HELD, "in-doubt"),
        ("test://p", WhenInDoubt.REPRINT, JobState.COMPLETED, "in-doubt"),
        ("test://p", WhenInDoubt.ASSUME_PRINTED, JobState.COMPLETED, "in-doubt"),
        ("file:///printed", WhenInDoubt.HOLD, JobState.COMPLETED, "deferred"),
    ],
)
async def test_restart_settles_what_a_crash_left_open(floor, spool, uri, in_doubt, state, outcome):
    """An attempt without an end is in doubt after a start, but on a device that overwrites."""
    machine = floor.machines[uri] = Machine()
    printer = await spool.add_printer("p", uri, in_doubt=in_doubt)
    (job_id,) = await floor.add_jobs(printer, 1)
    await spool.journal.commit(
        StartAttempt(job_id, printer.device_id, printer.id, spool.wall_clock())
    )
    async with floor.dispatching():
        await floor.wait_state(job_id, state)
    attempts = await spool.reader.attempts(job_id)
    assert attempts[0].outcome == outcome
    assert "interrupted by a restart" in attempts[0].detail
    is_again = in_doubt is WhenInDoubt.REPRINT or outcome == "deferred"
    assert machine.printed == ([job_id] if is_again else [])


async def test_cancel_asked_for_before_a_crash_still_counts(floor, spool):
    """A job that was being stopped when the daemon died is canceled at the next start."""
    printer, machine = await floor.add(in_doubt=WhenInDoubt.REPRINT)
    (job_id,) = await floor.add_jobs(printer, 1)
    await spool.journal.commit(
        StartAttempt(job_id, printer.device_id, printer.id, spool.wall_clock())
    )
    reasons = ("processing-to-stop-point", "job-canceled-by-operator")
    await floor.change(job_id, JobEvent.STOP, reasons=reasons)
    async with floor.dispatching():
        job = await floor.wait_state(job_id, JobState.CANCELED)
    assert job.reasons == ("job-canceled-by-operator",)
    assert machine.seen == []


async def test_fifo_order_survives_a_restart(floor, spool):
    """A deferred head is the head again after a start, before jobs that came later."""
    printer, machine = await floor.add(order=Order.FIFO)
    machine.usual = DEAD
    jobs = await floor.add_jobs(printer, 3)
    async with floor.dispatching() as dispatcher:
        await floor.wait_failures(dispatcher, printer, 1)
    machine.usual = print_it
    async with floor.dispatching():
        await floor.wait_completed(jobs)
    assert machine.printed == jobs


async def test_drain_lets_an_attempt_end_and_starts_no_other(floor, spool):
    """Within the deadline a job that is printing prints; what waits stays as it is."""
    printer, machine = await floor.add()
    go = trio.Event()

    async def slowly(delivery: Delivery) -> Outcome:
        machine.busy.set()
        await go.wait()
        return await print_it(delivery)

    machine.usual = slowly
    first, second = await floor.add_jobs(printer, 2)
    async with floor.dispatching() as dispatcher:
        await machine.busy.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatcher.drain, 30.0)
            await trio.testing.wait_all_tasks_blocked(0.01)
            go.set()
    assert (await spool.reader.job(first)).state is JobState.COMPLETED
    assert (await spool.reader.job(second)).state is JobState.PENDING
    assert machine.seen == [first]


@pytest.mark.parametrize(("sent", "state"), [(0, JobState.PENDING), (3, JobState.PENDING_HELD)])
async def test_drain_stops_what_does_not_end(floor, spool, sent, state):
    """Past the deadline an attempt is stopped: in doubt when bytes had left, else as it was."""
    printer, machine = await floor.add()
    machine.usual = machine.stuck(sent)
    (job_id,) = await floor.add_jobs(printer, 1)
    async with floor.dispatching(drain_s=0.01):
        await machine.busy.wait()
    job = await spool.reader.job(job_id)
    assert job.state is state
    (attempt,) = await spool.reader.attempts(job_id)
    assert (attempt.outcome, attempt.bytes_sent) == ("in-doubt" if sent else "deferred", sent)
    # What our own stop ended before anything had left does not count; it is told, all the same.
    assert (job.attempts, job.uncounted) == (1, 0 if sent else 1)
    record = (await spool.reader.records(spool.journal.head, 1))[0]
    assert record.payload.get("counted", True) is bool(sent)


async def test_driver_that_never_reported_leaves_doubt(floor, spool):
    """Silence of a driver that may send is not evidence that nothing has left."""
    printer, machine = await floor.add()

    async def silent(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        machine.busy.set()
        await trio.sleep_forever()
        raise AssertionError

    machine.usual = silent
    (job_id,) = await floor.add_jobs(printer, 1)
    async with floor.dispatching():
        await machine.busy.wait()
    assert (await spool.reader.job(job_id)).state is JobState.PENDING_HELD


async def test_cancelled_dispatcher_commits_what_it_knows(floor, spool):
    """Even when the daemon is torn down, the attempt has an end on record."""
    printer, machine = await floor.add()
    machine.usual = machine.stuck(3)
    (job_id,) = await floor.add_jobs(printer, 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(floor.dispatcher().run)
        await machine.busy.wait()
        nursery.cancel_scope.cancel()
    assert (await spool.reader.job(job_id)).state is JobState.PENDING_HELD
    assert await spool.reader.open_attempts() == []


async def test_jobs_that_come_while_the_spool_is_read_are_not_lost(floor, spool):
    """What is committed between reading and listening is dispatched, once."""
    printer, machine = await floor.add()
    await floor.add_jobs(printer, 2)

    class SlowReader:
        """The real one, but a job comes in before it answers what waits."""

        def __getattr__(self, name: str):
            return getattr(reader, name)

        async def waiting(self):
            found = await reader.waiting()
            await floor.add_jobs(printer, 2)
            return found

    reader, spool.reader = spool.reader, SlowReader()
    async with floor.dispatching():
        jobs = [job.id for job in await reader.jobs(JobFilter())]
        assert len(jobs) == 4
        await floor.wait_completed(jobs)
    assert machine.printed == jobs
