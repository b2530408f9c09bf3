"""The dispatcher over the real spool, with devices that do as the test says."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from spoold.dispatch.attempt import Attempt, Settings
from spoold.dispatch.dispatcher import Dispatcher
from spoold.driver.link import Delivery, DeviceStatus, Progress
from spoold.model.job import JobState
from spoold.model.outcome import Blame, Deferred, Delivered, InDoubt, Outcome, Refused
from spoold.model.printer import Order, Printer, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    JobFilter,
    PlaceJob,
    PutDevice,
    PutPrinter,
    SetJob,
    StartAttempt,
)
from support import dispatching
from support.dispatching import QUICK

PATIENT = Settings(backoff_first_s=60.0, backoff_max_s=60.0, backoff_jitter=0.0)
Behaviour = Callable[[Delivery], Awaitable[Outcome]]


async def print_it(delivery: Delivery) -> Outcome:
    await delivery.may_send()
    size = delivery.source.size
    delivery.report(Progress(bytes_sent=size))
    return Delivered({"method": "half-close", "bytes": size})


def answer(outcome: Outcome, *, sends: bool = True) -> Behaviour:
    async def behave(delivery: Delivery) -> Outcome:
        if sends:
            await delivery.may_send()
        return outcome

    return behave


DEAD = answer(Deferred("connecting-to-device", "No route to host."), sends=False)


@dataclass
class Machine:
    """A device: `script` is used up first, then it does as `usual` says."""

    usual: Behaviour = print_it
    script: list[Behaviour] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    seen_at_s: list[float] = field(default_factory=list)
    printed: list[int] = field(default_factory=list)
    active: int = 0
    busy: trio.Event = field(default_factory=trio.Event)

    async def deliver(self, delivery: Delivery) -> Outcome:
        assert self.active == 0, "two attempts on one device"
        self.active += 1
        self.seen.append(delivery.job.id)
        self.seen_at_s.append(trio.current_time())
        try:
            behave = self.script.pop(0) if self.script else self.usual
            outcome = await behave(delivery)
        finally:
            self.active -= 1
        if isinstance(outcome, Delivered):
            self.printed.append(delivery.job.id)
        return outcome

    async def probe(self) -> DeviceStatus:
        return DeviceStatus(True)

    def connecting(self) -> Behaviour:
        """Is tried for ever, without a byte; `busy` says that it has come to that."""

        async def behave(delivery: Delivery) -> Outcome:
            self.busy.set()
            await trio.sleep_forever()
            raise AssertionError

        return behave

    def stuck(self, sent: int = 0) -> Behaviour:
        """Takes `sent` bytes, then nothing, for ever; `busy` says that it has come to that."""

        async def behave(delivery: Delivery) -> Outcome:
            await delivery.may_send()
            delivery.report(Progress(bytes_sent=sent))
            self.busy.set()
            await trio.sleep_forever()
            raise AssertionError

        return behave


class Floor(dispatching.Floor):
    async def add_pool(self, name, **fields) -> Printer:
        change = PutPrinter(Printer(0, uuid4(), name, None, **fields), self.spool.wall_clock())
        return await self.spool.journal.commit(change)

    async def add_jobs(self, printer: Printer, count: int, **fields) -> list[int]:
        return [(await self.spool.add_job(printer, **fields)).job_id for _ in range(count)]

    async def wait_completed(self, job_ids: list[int]) -> None:
        for job_id in job_ids:
            await self.wait_state(job_id, JobState.COMPLETED)

    async def wait_failures(self, dispatcher: Dispatcher, printer: Printer, count: int):
        with trio.fail_after(30):
            while dispatcher.status(printer.id).failures < count:
                await trio.testing.wait_all_tasks_blocked(0.001)
        return dispatcher.status(printer.id)


@pytest.fixture
def floor(spool):
    return Floor(spool, Machine)


# -- the everyday --------------------------------------------------------------------------


async def test_jobs_are_printed_and_noted(floor, spool):
    """Jobs from before and after the start print in order, each with one attempt on record."""
    printer, machine = await floor.add()
    early = await floor.add_jobs(printer, 3)
    with capture_logs() as logs:
        async with floor.dispatching() as dispatcher:
            late = await floor.add_jobs(printer, 3)
            await floor.wait_completed(early + late)
            assert dispatcher.status(printer.id).state == "idle"
    assert machine.printed == early + late
    for job_id in early + late:
        job = await spool.reader.job(job_id)
        assert job.reasons == ("job-completed-successfully",)
        (attempt,) = await spool.reader.attempts(job_id)
        assert (attempt.outcome, attempt.bytes_sent) == ("delivered", 5)
        assert attempt.evidence["method"] == "half-close"
    assert await spool.reader.open_attempts() == []
    assert [log["event"] for log in logs].count("job_completed") == 6


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


# -- failures ------------------------------------------------------------------------------


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
            with trio.fail_after(30):
                while dispatcher.status(printer.id).failures:
                    await trio.testing.wait_all_tasks_blocked()
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
            assert dispatcher.status(printer.id).failures == 1
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


# -- operators -----------------------------------------------------------------------------


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
    """Also of a job that was loaded ahead, or is just being tried: no old copy count leaves."""
    printer, machine = await floor.add()
    copies = {}

    async def note(delivery: Delivery) -> Outcome:
        await delivery.may_send()
        copies[delivery.job.id] = delivery.job.copies
        return await print_it(delivery)

    machine.usual = note
    machine.script = [DEAD, machine.connecting(), note]
    first, second = await floor.add_jobs(printer, 2)
    async with floor.dispatching():
        await machine.busy.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        for job_id in (first, second):
            await spool.journal.commit(SetJob(job_id, spool.wall_clock(), copies=7))
        await floor.wait_completed([first, second])
    assert copies == {first: 7, second: 7}


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
        assert dispatcher.status(printer.id).reasons == ("media-empty",)
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
                await trio.testing.wait_all_tasks_blocked(0.01)  # nothing is left to be noted
                if is_canceled:
                    more.set()
                    await trio.sleep_forever()
                delivery.report(Progress(sent + 1))
                await floor.wait_state(delivery.job.id, JobState.PROCESSING)
                await trio.testing.wait_all_tasks_blocked(0.01)
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


# -- pools ---------------------------------------------------------------------------------


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
        assert dispatcher.status(pool.id).state == "idle"
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


# -- restart and shutdown ------------------------------------------------------------------


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
            nursery.start_soon(dispatcher.drain, 5.0)
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
