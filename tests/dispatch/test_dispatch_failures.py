"""What the dispatcher does when a device, a document or a driver fails."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from structlog.testing import capture_logs

from spoold.driver.link import Delivery, Progress
from spoold.model.job import JobState
from spoold.model.outcome import Blame, Deferred, Delivered, InDoubt, Outcome, Refused
from spoold.model.printer import Order, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import PutDevice
from support.devices import DEAD, PATIENT, Machine, answer, print_it
from support.dispatching import QUICK
from support.waiting import wait_until


async def test_dead_printer_is_tried_ever_less_often_and_writes_no_records(floor, spool):
    """Waits double up to their bound; after the first failure nothing is written; it ends alone."""
    printer, machine = await floor.add()
    mended = trio.Event()

    async def once_mended(delivery: Delivery) -> Outcome:
        await mended.wait()
        return await machine.usual(delivery)

    machine.script = [*[DEAD] * 6, once_mended]
    with capture_logs() as logs:
        settings = replace(QUICK, backoff_first_s=0.005, backoff_max_s=0.02)
        async with floor.dispatching(settings) as dispatcher:
            (job_id,) = await floor.add_jobs(printer, 1)
            status = await floor.wait_failures(dispatcher, printer, 1)
            head = spool.journal.head
            assert (status.state, status.reasons) == ("stopped", ("connecting-to-device",))
            assert status.message == "No route to host."
            status = await floor.wait_failures(dispatcher, printer, 6)
            assert spool.journal.head == head
            assert (await spool.reader.job(job_id)).state is JobState.PENDING
            mended.set()
            await floor.wait_completed([job_id])
            await wait_until(lambda: not dispatcher.status(printer.id).failures)
            assert dispatcher.status(printer.id).state == "idle"
    waits = [b - a for a, b in zip(machine.seen_at_s, machine.seen_at_s[1:], strict=False)]
    for wait, least in zip(waits, (0.005, 0.01, 0.02, 0.02, 0.02, 0.02), strict=True):
        assert least <= wait
    events = [log["event"] for log in logs]
    assert (events.count("device_unreachable"), events.count("device_reachable")) == (1, 1)
    assert events.count("attempt_deferred") == 6


async def test_operator_need_not_wait_for_the_throttle(floor, spool):
    """`wake` tries the printer at once, and `retry_at_us` says when it would have been."""
    printer, machine = await floor.add()
    machine.script = [DEAD]
    async with floor.dispatching(PATIENT) as dispatcher:
        jobs = await floor.add_jobs(printer, 1)
        status = await floor.wait_failures(dispatcher, printer, 1)
        assert 50 < (status.retry_at_us - spool.wall_clock()) / 1e6 <= 60
        dispatcher.wake(printer.id)
        await floor.wait_completed(jobs)


async def test_new_address_is_tried_at_once(floor, spool):
    """A printer whose device got a new URI does not sit out the old one's throttle."""
    printer, machine = await floor.add()
    machine.usual = DEAD
    moved = floor.machines["test://elsewhere"] = Machine()
    async with floor.dispatching(PATIENT) as dispatcher:
        jobs = await floor.add_jobs(printer, 1)
        await floor.wait_failures(dispatcher, printer, 1)
        (device,) = await spool.reader.devices()
        await spool.journal.commit(PutDevice(device.guid, "test://elsewhere", spool.wall_clock()))
        await floor.wait_completed(jobs)
    assert moved.printed == jobs


async def test_device_without_driver_waits_with_a_reason(floor, spool):
    """A URI that no driver serves is shown at the printer; the job waits."""
    printer = await spool.add_printer("odd", "carrier-pigeon://roof")
    async with floor.dispatching() as dispatcher:
        (job_id,) = await floor.add_jobs(printer, 1)
        status = await floor.wait_failures(dispatcher, printer, 1)
        assert status.reasons == ("device-not-usable",)
        assert "carrier-pigeon" in status.message
        assert (await floor.wait_state(job_id, JobState.PENDING)).id == job_id


async def test_deferred_fifo_head_is_not_overtaken(floor):
    """On a fifo printer the next job waits for the head; on a fair one it may pass."""
    busy = Deferred("device-busy", blame=Blame.JOB)
    orders = {}
    for order in (Order.FIFO, Order.FAIR):
        printer, machine = await floor.add(order.value, order=order)
        machine.script = [answer(busy), answer(busy)] if order is Order.FIFO else [answer(busy)]
        jobs = await floor.add_jobs(printer, 3)
        async with floor.dispatching():
            await floor.wait_completed(jobs)
        orders[order] = [jobs.index(job_id) for job_id in machine.printed]
    assert orders == {Order.FIFO: [0, 1, 2], Order.FAIR: [1, 2, 0]}


async def test_refused_job_ends_and_a_misfit_is_held(floor, spool):
    """What can never print is aborted; trouble with the format is for an operator to solve."""
    printer, machine = await floor.add()
    machine.script = [
        answer(Refused("document-format-error", "Not PDF.")),
        answer(Refused("too-large", "It says so.")),
    ]
    first, second, third = await floor.add_jobs(printer, 3)
    async with floor.dispatching():
        held = await floor.wait_state(first, JobState.PENDING_HELD)
        aborted = await floor.wait_state(second, JobState.ABORTED)
        await floor.wait_completed([third])
    assert (held.reasons, held.message) == (("document-format-error",), "Not PDF.")
    assert (aborted.reasons, aborted.message) == (("aborted-by-system",), "too-large: It says so.")


async def test_format_that_the_printer_does_not_take_is_never_sent(floor, spool):
    """A job that came before the printer's formats were narrowed is held, without an attempt."""
    printer, machine = await floor.add(formats=("application/pdf",))
    (job_id,) = await floor.add_jobs(printer, 1)
    async with floor.dispatching():
        job = await floor.wait_state(job_id, JobState.PENDING_HELD)
    assert job.reasons == ("unsupported-document-format",)
    assert (machine.seen, await spool.reader.attempts(job_id)) == ([], [])


@pytest.mark.parametrize(
    ("in_doubt", "state", "reasons", "printed"),
    [
        (WhenInDoubt.HOLD, JobState.PENDING_HELD, ("job-in-doubt",), 0),
        (WhenInDoubt.REPRINT, JobState.COMPLETED, ("job-completed-successfully",), 1),
        (WhenInDoubt.ASSUME_PRINTED, JobState.COMPLETED, ("job-assumed-printed",), 0),
    ],
)
async def test_doubt_is_settled_as_the_printer_says(
    floor, spool, in_doubt, state, reasons, printed
):
    """A reset after some bytes is neither printed nor not printed: the policy decides."""
    printer, machine = await floor.add(in_doubt=in_doubt)
    machine.script = [answer(InDoubt("connection-reset", "Reset by the printer.", 3))]
    (job_id,) = await floor.add_jobs(printer, 1)
    async with floor.dispatching() as dispatcher:
        job = await floor.wait_state(job_id, state)
        if not printed:
            await floor.wait_failures(dispatcher, printer, 1)
    assert job.reasons == reasons
    assert len(machine.printed) == printed
    first = (await spool.reader.attempts(job_id))[0]
    assert (first.outcome, first.bytes_sent) == ("in-doubt", 3)


async def test_missing_document_damages_the_job_and_no_other(floor, spool):
    """A job whose bytes are gone is aborted with that reason; the printer goes on."""
    printer, machine = await floor.add()
    lost, whole = await floor.add_jobs(printer, 2)

    def lose() -> None:
        spool.store.db.execute("UPDATE document SET body = NULL WHERE id = ?", (lost << 12 | 1,))

    await spool.journal.call(lose)
    spool.journal.fresh.forget(lost)  # as after a restart
    async with floor.dispatching():
        job = await floor.wait_state(lost, JobState.ABORTED)
        await floor.wait_completed([whole])
    assert job.reasons == ("aborted-by-system", "document-damaged")
    assert machine.printed == [whole]


async def test_crash_of_a_driver_is_doubt_once_bytes_may_have_left(floor, spool):
    """A driver's bug is logged with its traceback, and costs neither daemon nor certainty."""
    printer, machine = await floor.add()

    async def crash_before(delivery: Delivery) -> Outcome:
        raise ZeroDivisionError

    async def crash_after(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        raise ZeroDivisionError

    machine.script = [crash_before, crash_after]
    (job_id,) = await floor.add_jobs(printer, 1)
    with capture_logs() as logs:
        async with floor.dispatching():
            job = await floor.wait_state(job_id, JobState.PENDING_HELD)
    assert job.reasons == ("job-in-doubt",)
    crashes = [log for log in logs if log["event"] == "driver_crashed"]
    assert len(crashes) == 2
    assert all(isinstance(log["exc_info"], ZeroDivisionError) for log in crashes)


async def test_driver_that_forgets_the_mark_has_it_made(floor, spool):
    """Even a driver that never asked leaves an attempt on record, on a device that failed last."""
    printer, machine = await floor.add()
    machine.script = [DEAD, answer(Delivered({"bytes": 5}), sends=False)]
    (job_id,) = await floor.add_jobs(printer, 1)
    async with floor.dispatching():
        await floor.wait_completed([job_id])
    assert [a.outcome for a in await spool.reader.attempts(job_id)] == ["deferred", "delivered"]


async def test_stall_is_a_state_and_not_a_failure(floor, spool):
    """A device that takes no bytes makes its job processing-stopped, until it takes them again."""
    printer, machine = await floor.add()
    more = trio.Event()

    async def stall(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        delivery.report(Progress(1, 31.0, ("media-empty",), "Tray 2 is empty."))
        await more.wait()
        delivery.report(Progress(2))
        await floor.wait_state(delivery.job.id, JobState.PROCESSING)
        return await print_it(delivery)

    machine.usual = stall
    (job_id,) = await floor.add_jobs(printer, 1)
    settings = replace(QUICK, stalled_after_s=30.0, stall_change_interval_s=0.01)
    async with floor.dispatching(settings) as dispatcher:
        job = await floor.wait_state(job_id, JobState.PROCESSING_STOPPED)
        assert job.reasons == ("printer-stopped",)
        assert job.message == "media-empty: Tray 2 is empty."
        await wait_until(lambda: dispatcher.status(printer.id).reasons == ("media-empty",))
        more.set()
        await floor.wait_completed([job_id])
    assert len(await spool.reader.attempts(job_id)) == 1


@pytest.mark.parametrize("is_canceled", [False, True])
async def test_long_stall_ends_as_a_short_one_does(floor, spool, is_canceled):
    """A device that has been noted as stalled goes on and stalls again, or its job is canceled."""
    printer, machine = await floor.add()
    more = trio.Event()

    async def stall_twice(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        try:
            for sent in (1, 2):
                delivery.report(Progress(sent, 31.0))
                await floor.wait_state(delivery.job.id, JobState.PROCESSING_STOPPED)
                await floor.settled()  # nothing is left to be noted
                if is_canceled:
                    more.set()
                    await trio.sleep_forever()
                delivery.report(Progress(sent + 1))
                await floor.wait_state(delivery.job.id, JobState.PROCESSING)
                await floor.settled()
        finally:
            delivery.report(Progress(3))
        return await print_it(delivery)

    machine.usual = stall_twice
    (job_id,) = await floor.add_jobs(printer, 1)
    settings = replace(QUICK, stalled_after_s=30.0, stall_change_interval_s=0.0)
    async with floor.dispatching(settings):
        if is_canceled:
            await more.wait()
            reasons = ("processing-to-stop-point", "job-canceled-by-user")
            await floor.change(job_id, JobEvent.STOP, reasons=reasons)
            await floor.wait_state(job_id, JobState.CANCELED)
        else:
            await floor.wait_completed([job_id])
    assert len(await spool.reader.attempts(job_id)) == 1
