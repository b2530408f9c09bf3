"""What operators change reaches the dispatcher at once, and says where it stands."""

from __future__ import annotations

from dataclasses import replace

import trio
import trio.testing

from spoold.driver.link import Delivery
from spoold.model.job import JobState
from spoold.model.outcome import Delivered, Outcome
from spoold.model.transitions import JobEvent
from spoold.spool.store import PlaceJob, SetJob
from support.devices import DEAD, PATIENT, print_it


async def test_cancel_while_printing_stops_the_attempt(floor, spool):
    """The connection is closed, the job is canceled, and the bytes that had left are on record."""
    printer, machine = await floor.add()
    machine.script = [machine.stuck(3)]
    first, second = await floor.add_jobs(printer, 2)
    async with floor.dispatching() as dispatcher:
        await machine.busy.wait()
        status = dispatcher.status(printer.id)
        assert (status.state, status.active_job_id, status.bytes_sent) == ("processing", first, 3)
        reasons = ("processing-to-stop-point", "job-canceled-by-user")
        await floor.change(first, JobEvent.STOP, reasons=reasons)
        job = await floor.wait_state(first, JobState.CANCELED)
        await floor.wait_completed([second])
        assert dispatcher.status(printer.id).failures == 0
    assert job.reasons == ("job-canceled-by-user",)
    (attempt,) = await spool.reader.attempts(first)
    assert (attempt.outcome, attempt.bytes_sent) == ("in-doubt", 3)


async def test_cancel_that_comes_too_late_does_not_undo_a_delivery(floor):
    """A driver that has delivered when it is stopped has delivered."""
    printer, machine = await floor.add()

    async def finish_anyway(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        machine.busy.set()
        try:
            await trio.sleep_forever()
        finally:
            return Delivered({"bytes": 5})  # noqa: B012

    machine.usual = finish_anyway
    (job_id,) = await floor.add_jobs(printer, 1)
    async with floor.dispatching():
        await machine.busy.wait()
        await floor.change(job_id, JobEvent.STOP, reasons=("processing-to-stop-point",))
        await floor.wait_completed([job_id])


async def test_job_taken_away_before_its_mark_is_let_go(floor, spool):
    """Cancel, hold and move reach a job that a dead printer is just being tried for."""
    printer, machine = await floor.add("dead")
    other, well = await floor.add("well")

    async def connect_for_ever(delivery: Delivery) -> Outcome:
        machine.busy.set()
        await trio.sleep_forever()
        raise AssertionError

    for event, fields, state in (
        (JobEvent.CANCEL, {}, JobState.CANCELED),
        (JobEvent.HOLD, {}, JobState.PENDING_HELD),
        (JobEvent.MOVE, {"printer_id": other.id}, JobState.COMPLETED),
    ):
        machine.script = [DEAD, connect_for_ever]
        machine.busy = trio.Event()
        (job_id,) = await floor.add_jobs(printer, 1)
        async with floor.dispatching():
            await machine.busy.wait()
            await floor.change(job_id, event, **fields)
            await floor.wait_state(job_id, state)
        assert [a.outcome for a in await spool.reader.attempts(job_id)][:1] == ["deferred"]
    assert well.printed == [job_id]
    assert machine.printed == []
    assert await spool.reader.open_attempts() == []


async def test_attributes_that_change_while_a_job_waits_are_printed(floor, spool):
    """Also of jobs that were loaded ahead, or are just being tried: no old copy count leaves."""
    printer, machine = await floor.add()
    copies = {}

    async def note(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        copies[delivery.job.id] = delivery.job.copies
        return await print_it(delivery)

    machine.usual = note
    machine.script = [DEAD, machine.connecting(), note]
    ids = await floor.add_jobs(printer, 4)
    for job_id in ids:
        spool.journal.fresh.forget(job_id)  # as after a restart
    async with floor.dispatching():
        await machine.busy.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        for job_id in ids:
            await spool.journal.commit(SetJob(job_id, spool.wall_clock(), copies=7))
        await floor.wait_completed(ids)
    assert copies == dict.fromkeys(ids, 7)


async def test_priority_and_place_count_at_once(floor, spool):
    """A waiting job that gets a higher priority, is promoted, or follows another, does so now."""
    printer, machine = await floor.add()
    printer = replace(printer, paused=True)
    await floor.put(printer)
    a, b, c, d, e = await floor.add_jobs(printer, 5)
    async with floor.dispatching():
        await spool.journal.commit(SetJob(d, spool.wall_clock(), priority=60))
        await spool.journal.commit(PlaceJob(e, spool.wall_clock()))
        await spool.journal.commit(PlaceJob(c, spool.wall_clock(), after_id=a))
        await floor.put(replace(printer, paused=False))
        await floor.wait_completed([a, b, c, d, e])
    assert machine.printed == [e, d, a, c, b]


async def test_a_place_survives_a_restart(floor, spool):
    """What was to follow another job still does when spoold comes back."""
    printer, machine = await floor.add()
    a, b, c = await floor.add_jobs(printer, 3)
    await spool.journal.commit(PlaceJob(c, spool.wall_clock(), after_id=a))
    async with floor.dispatching():
        await floor.wait_completed([a, b, c])
    assert machine.printed == [a, c, b]


async def test_a_job_whose_document_comes_later_is_printed_then(floor, spool):
    """An open job is nobody's to attempt until it is whole."""
    printer, machine = await floor.add()
    async with floor.dispatching():
        opened = await spool.open_job(printer)
        (job_id,) = await floor.add_jobs(printer, 1)
        await floor.wait_completed([job_id])
        assert machine.seen == [job_id]
        await spool.attach(opened.job_id)
        await floor.wait_completed([opened.job_id])
    assert machine.printed == [job_id, opened.job_id]


async def test_a_printer_says_since_when_it_does_what_it_does(floor, spool):
    """Work, its end, a failure and a pause each begin a new state."""
    printer, machine = await floor.add()
    now = 1_000

    def clock() -> int:
        nonlocal now
        now += 1
        return now

    spool.wall_clock = clock
    async with floor.dispatching(PATIENT) as dispatcher:
        started = dispatcher.status(printer.id).changed_us
        assert dispatcher.status(printer.id).changed_us == started
        machine.script = [machine.stuck()]
        await floor.add_jobs(printer, 1)
        await machine.busy.wait()
        processing = dispatcher.status(printer.id).changed_us
        assert started < processing
        await floor.put(replace(printer, paused=True))
        paused = dispatcher.status(printer.id).changed_us
        assert processing < paused
        await floor.put(replace(printer, paused=True, info="x"))
        assert dispatcher.status(printer.id).changed_us == paused


async def test_what_is_tried_is_known_until_bytes_may_leave(floor, spool):
    """A job whose device has not answered yet can be called back; held, it is let go."""
    printer, machine = await floor.add()
    machine.script = [DEAD, machine.connecting(), machine.stuck()]
    async with floor.dispatching() as dispatcher:
        assert dispatcher.trying(printer.id) is None
        (job_id,) = await floor.add_jobs(printer, 1)
        await machine.busy.wait()
        assert dispatcher.trying(printer.id) == job_id
        await floor.change(job_id, JobEvent.HOLD, reasons=("job-suspended",))
        with trio.fail_after(30):
            while dispatcher.trying(printer.id) is not None:
                await trio.testing.wait_all_tasks_blocked(0.001)
        machine.busy = trio.Event()
        await floor.change(job_id, JobEvent.RELEASE)
        await machine.busy.wait()
        assert dispatcher.trying(printer.id) is None
        assert dispatcher.status(printer.id).active_job_id == job_id


async def test_paused_printer_starts_nothing(floor, spool):
    """A paused printer keeps its jobs and says why; one that goes on prints them."""
    printer, machine = await floor.add(paused=True, pause_reason="Toner is on its way.")
    jobs = await floor.add_jobs(printer, 2)
    async with floor.dispatching() as dispatcher:
        await trio.testing.wait_all_tasks_blocked(0.01)
        status = dispatcher.status(printer.id)
        assert (status.state, status.reasons) == ("stopped", ("paused",))
        assert status.message == "Toner is on its way."
        assert machine.seen == []
        await floor.put(replace(printer, paused=False))
        await floor.wait_completed(jobs)


async def test_resumed_printer_is_tried_at_once(floor):
    """An operator who pauses a printer, mends it and resumes it does not wait for its throttle."""
    printer, machine = await floor.add()
    machine.script = [DEAD]
    async with floor.dispatching(PATIENT) as dispatcher:
        jobs = await floor.add_jobs(printer, 1)
        await floor.wait_failures(dispatcher, printer, 1)
        await floor.put(replace(printer, paused=True))
        await floor.put(printer)
        await floor.wait_completed(jobs)
