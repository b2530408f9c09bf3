"""Attempts that the end of a spoold cuts off, on devices that can be asked what became of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from spoold.driver.link import DOCUMENT_SENT, Delivery, DeviceStatus, Progress
from spoold.model.job import JobState
from spoold.model.outcome import Blame, Deferred, Delivered, InDoubt, Outcome
from spoold.model.printer import WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, NoteAttempt, PutDevice, StartAttempt
from support.dispatching import Floor

URI = "test://asked"
Answer = Callable[[Delivery], Awaitable[Outcome | None]]


async def printed(delivery: Delivery) -> Outcome:
    return Delivered({"method": "asked"})


async def deliver(delivery: Delivery) -> Outcome:
    await delivery.may_send()
    await delivery.note({"printer-job-id": 40 + delivery.number})
    delivery.report(Progress(delivery.source.size))
    return Delivered({"method": "sent"})


class Asked:
    """A device that is asked after a restart, and answers as the test says."""

    def __init__(self) -> None:
        self.on_deliver: Answer = deliver
        self.on_resume: Answer = printed
        self.delivered: list[int] = []
        self.resumed: list[tuple[int, int, dict]] = []  # job, attempt, notes
        self.busy = trio.Event()

    async def deliver(self, delivery: Delivery) -> Outcome:
        self.delivered.append(delivery.job.id)
        return await self.on_deliver(delivery)

    async def resume(self, delivery: Delivery) -> Outcome | None:
        self.resumed.append((delivery.job.id, delivery.number, dict(delivery.notes)))
        return await self.on_resume(delivery)

    async def probe(self) -> DeviceStatus:
        return DeviceStatus(True)

    async def sleep(self, delivery: Delivery) -> Outcome:
        """Sends and notes, then waits for ever; `busy` says that it has come to that."""
        await delivery.may_send()
        await delivery.note({"printer-job-id": 41})
        delivery.report(Progress(delivery.source.size))
        self.busy.set()
        await trio.sleep_forever()
        raise AssertionError


@pytest.fixture
def device():
    return Asked()


@pytest.fixture
def floor(spool, device):
    made = Floor(spool, Asked)
    made.machines = {URI: device, **dict.fromkeys(("test://elsewhere", "test://third"), device)}
    return made


@pytest.fixture
def dispatching(floor):
    return floor.dispatching


@pytest.fixture
def wait_state(floor):
    return floor.wait_state


@pytest.fixture
async def cut_off(spool):
    """`await cut_off(**notes)`: printer and job as a crash leaves them in the thick of printing."""

    async def leave(in_doubt=WhenInDoubt.HOLD, **notes):
        printer = await spool.add_printer("p", URI, in_doubt=in_doubt)
        job_id = (await spool.add_job(printer)).job_id
        start = StartAttempt(job_id, printer.device_id, printer.id, spool.wall_clock())
        await spool.journal.commit(start)
        if notes:
            await spool.journal.commit(NoteAttempt(job_id, 1, notes, spool.wall_clock()))
        return printer, job_id

    return leave


async def test_notes_are_durable_before_the_driver_goes_on(spool, device, dispatching, wait_state):
    """What a driver notes is on record at once, and stands beside the outcome's evidence."""
    printer = await spool.add_printer("p", URI)
    seen = []

    async def look(delivery: Delivery) -> Outcome:
        outcome = await deliver(delivery)
        (attempt,) = await spool.reader.open_attempts()
        seen.append(attempt.evidence)
        return outcome

    device.on_deliver = look
    job_id = (await spool.add_job(printer)).job_id
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)
    assert seen == [{"printer-job-id": 41}]
    (attempt,) = await spool.reader.attempts(job_id)
    assert attempt.evidence == {"printer-job-id": 41, "method": "sent"}
    kinds = [record.kind for record in await spool.reader.records(1, 100)]
    assert kinds[-3:] == ["attempt-started", "attempt-noted", "attempt-ended"]


async def test_notes_stay_when_the_outcome_has_no_evidence(spool, device, dispatching, wait_state):
    """An attempt that was deferred still tells what the printer called the job."""
    printer = await spool.add_printer("p", URI)

    async def defer_once(delivery: Delivery) -> Outcome:
        outcome = await deliver(delivery)
        return Deferred("device-busy") if delivery.number == 1 else outcome

    device.on_deliver = defer_once
    job_id = (await spool.add_job(printer)).job_id
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)
    first, second = await spool.reader.attempts(job_id)
    assert (first.outcome, first.evidence) == ("deferred", {"printer-job-id": 41})
    assert second.evidence["printer-job-id"] == 42


async def test_an_attempt_that_a_crash_cut_off_goes_on(
    spool, device, dispatching, wait_state, cut_off
):
    """The device is asked, with the attempt's number and notes; nothing is sent again."""
    _, job_id = await cut_off(**{"printer-job-id": 7})
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)
    assert device.resumed == [(job_id, 1, {"printer-job-id": 7})]
    assert device.delivered == []
    (attempt,) = await spool.reader.attempts(job_id)
    assert (attempt.outcome, attempt.evidence["printer-job-id"]) == ("delivered", 7)


async def test_the_device_takes_no_other_job_meanwhile(
    spool, device, dispatching, wait_state, cut_off
):
    """While it is found out what became of one job, the next one waits."""
    printer, job_id = await cut_off()
    go = trio.Event()

    async def slowly(delivery: Delivery) -> Outcome:
        device.busy.set()
        await go.wait()
        return await printed(delivery)

    device.on_resume = slowly
    async with dispatching() as dispatcher:
        other = (await spool.add_job(printer)).job_id
        await device.busy.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert device.delivered == []
        assert dispatcher.status(printer.id).active_job_id == job_id
        go.set()
        await wait_state(other, JobState.COMPLETED)
    assert (await spool.reader.job(job_id)).state is JobState.COMPLETED
    assert device.delivered == [other]


@pytest.mark.parametrize(
    ("in_doubt", "state"),
    [
        (WhenInDoubt.HOLD, JobState.PENDING_HELD),
        (WhenInDoubt.REPRINT, JobState.COMPLETED),
        (WhenInDoubt.ASSUME_PRINTED, JobState.COMPLETED),
    ],
)
async def test_policy_decides_only_when_the_device_cannot_say(
    spool, device, dispatching, wait_state, cut_off, in_doubt, state
):
    """A device that does not know leaves the job in doubt, as one that cannot be asked."""

    async def nothing(delivery: Delivery) -> None:
        return None

    device.on_resume = nothing
    _, job_id = await cut_off(in_doubt, **{"printer-job-id": 7})
    async with dispatching():
        await wait_state(job_id, state)
    first = (await spool.reader.attempts(job_id))[0]
    assert (first.outcome, first.evidence) == ("in-doubt", {"printer-job-id": 7})
    assert device.delivered == ([job_id] if in_doubt is WhenInDoubt.REPRINT else [])


@pytest.mark.parametrize("has_notes", [True, False])
@pytest.mark.parametrize("is_back", [True, False])
async def test_a_device_that_was_given_another_address_is_not_asked(
    spool, device, dispatching, wait_state, cut_off, has_notes, is_back
):
    """Nobody there knows of the job: it is in doubt, unless the address is the old one again."""
    printer, job_id = await cut_off()
    guid = (await spool.reader.devices())[0].guid
    await spool.journal.commit(PutDevice(guid, "test://elsewhere", 1))
    if has_notes:  # of a driver that still goes on at the old address
        await spool.journal.commit(NoteAttempt(job_id, 1, {"printer-job-id": 7}, 1))
    await spool.journal.commit(PutDevice(guid, URI if is_back else "test://third", 1))
    async with dispatching():
        job = await wait_state(job_id, JobState.COMPLETED if is_back else JobState.PENDING_HELD)
    assert len(device.resumed) == is_back
    assert device.delivered == []
    (attempt,) = await spool.reader.attempts(job_id)
    assert (attempt.outcome, attempt.device_uri) == ("delivered" if is_back else "in-doubt", URI)
    assert ("job-in-doubt" in job.reasons) is not is_back
    later = (await spool.add_job(printer)).job_id
    async with dispatching():
        await wait_state(later, JobState.COMPLETED)
    assert (await spool.reader.attempts(later))[0].device_uri == ""


async def test_a_device_that_never_got_it_gets_it_again(
    spool, device, dispatching, wait_state, cut_off
):
    """`Deferred` after a restart is a new attempt, in its turn."""

    async def never_came(delivery: Delivery) -> Outcome:
        return Deferred("service-off-line", "The printer has no such job.", Blame.NODE)

    device.on_resume = never_came
    _, job_id = await cut_off()
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)
    assert device.delivered == [job_id]
    assert [a.outcome for a in await spool.reader.attempts(job_id)] == ["deferred", "delivered"]


async def test_an_orderly_stop_leaves_the_attempt_for_the_next_start(
    spool, device, dispatching, wait_state
):
    """A job that the printer has is neither in doubt nor sent again because spoold stops."""
    printer = await spool.add_printer("p", URI)
    device.on_deliver = device.sleep
    job_id = (await spool.add_job(printer)).job_id
    async with dispatching():
        await device.busy.wait()
    assert (await spool.reader.job(job_id)).state is JobState.PROCESSING
    assert len(await spool.reader.open_attempts()) == 1
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)
    assert device.resumed == [(job_id, 1, {"printer-job-id": 41})]
    assert device.delivered == [job_id]


async def test_a_stop_does_not_wait_for_a_device_that_has_the_whole_job(
    spool, device, dispatching, wait_state
):
    """Its printing may take an hour, and is none of spoold's business while it is down."""
    printer = await spool.add_printer("p", URI)

    async def hand_over(delivery: Delivery) -> Outcome:
        await delivery.note({DOCUMENT_SENT: True})
        return await device.sleep(delivery)

    device.on_deliver = hand_over
    job_id = (await spool.add_job(printer)).job_id
    with trio.fail_after(30):
        async with dispatching(drain_s=300.0):
            await device.busy.wait()
    assert (await spool.reader.job(job_id)).state is JobState.PROCESSING
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)
    assert device.delivered == [job_id]


async def test_a_second_stop_leaves_it_again(spool, device, dispatching, wait_state, cut_off):
    """Asking may take longer than spoold runs."""
    _, job_id = await cut_off()
    device.on_resume = device.sleep
    for _ in range(2):
        device.busy = trio.Event()
        async with dispatching():
            await device.busy.wait()
        assert len(await spool.reader.open_attempts()) == 1
    device.on_resume = printed
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)
    assert [number for _, number, _ in device.resumed] == [1, 1, 1]


@pytest.mark.parametrize("is_before", [True, False])
async def test_a_cancel_reaches_the_device(
    spool, device, dispatching, wait_state, cut_off, is_before
):
    """Asked for before the crash or after the start: the driver is to take the job back."""
    _, job_id = await cut_off(**{"printer-job-id": 7})
    told = []

    async def take_back(delivery: Delivery) -> Outcome:
        device.busy.set()
        try:
            if not delivery.is_canceled:
                await trio.sleep_forever()
        finally:
            told.append(delivery.is_canceled)
            with trio.move_on_after(1, shield=True):
                await delivery.note({"canceled-at-device": True})
        return InDoubt("job-canceled")

    device.on_resume = take_back
    reasons = ("processing-to-stop-point", "job-canceled-by-operator")
    stop = ChangeJob(job_id, JobEvent.STOP, spool.wall_clock(), reasons=reasons)
    if is_before:
        await spool.journal.commit(stop)
    async with dispatching():
        await device.busy.wait()
        if not is_before:
            await spool.journal.commit(stop)
        job = await wait_state(job_id, JobState.CANCELED)
    assert told == [True]
    assert job.reasons == ("job-canceled-by-operator",)
    (attempt,) = await spool.reader.attempts(job_id)
    assert attempt.evidence == {"printer-job-id": 7, "canceled-at-device": True}


async def test_a_job_that_stood_still_goes_on_as_processing(
    spool, device, dispatching, wait_state, cut_off
):
    """`processing-stopped` before the restart ends when the device says that it moves."""
    _, job_id = await cut_off()
    stall = ChangeJob(job_id, JobEvent.STALL, spool.wall_clock(), reasons=("printer-stopped",))
    await spool.journal.commit(stall)

    async def moves(delivery: Delivery) -> Outcome:
        delivery.report(Progress(5))
        await wait_state(job_id, JobState.PROCESSING)
        return await printed(delivery)

    device.on_resume = moves
    async with dispatching():
        await wait_state(job_id, JobState.COMPLETED)


async def test_an_attempt_that_has_ended_takes_no_notes(spool, cut_off):
    """A late note is refused and changes nothing."""
    _, job_id = await cut_off()
    (answer,) = await spool.journal.commit_all((NoteAttempt(job_id, 2, {}, spool.wall_clock()),))
    assert getattr(answer, "code", "") == "not-possible"
