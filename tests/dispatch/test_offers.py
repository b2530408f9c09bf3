"""Jobs for a printer whose device stands ready: one commit less, and nothing else is different."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import trio
import trio.testing

from spoold.driver.link import Delivery, DeviceStatus, Progress
from spoold.model.errors import SpoolFull
from spoold.model.job import JobState
from spoold.model.outcome import Deferred, Delivered, Outcome
from spoold.model.person import NOBODY
from spoold.model.printer import Order, Printer
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    AcceptJob,
    ChangeJob,
    JobMoved,
    NewDocument,
    PutDevice,
    PutPrinter,
    RemovePrinter,
)
from support.dispatching import QUICK, Floor

COMPLETED = JobState.COMPLETED
PENDING = JobState.PENDING


class Machine:
    """Prints at once, unless it is told to wait for `go_on`; or says what it is told to say."""

    def __init__(self) -> None:
        self.printed: list[int] = []
        self.says: Outcome | None = None
        self.go_on: trio.Event | None = None
        self.failed = trio.Event()

    async def deliver(self, delivery: Delivery) -> Outcome:
        if self.says is not None:
            self.failed.set()
            return self.says
        await delivery.may_send()
        self.printed.append(delivery.job.id)
        if self.go_on is not None:
            await self.go_on.wait()
        delivery.report(Progress(bytes_sent=delivery.source.size))
        return Delivered({"method": "test"})

    async def probe(self) -> DeviceStatus:
        return DeviceStatus(True)


def accept(printer: Printer, **fields) -> AcceptJob:
    return AcceptJob(
        printer.id, NOBODY, "address:127.0.0.1", NewDocument(1, "blake3:0", body=b"x"), 1, **fields
    )


class Ready(Floor):
    """Its printers have printed, so that their devices stand ready."""

    def __init__(self, spool) -> None:
        super().__init__(spool, Machine)
        self.moves: list[list[tuple[int, JobState]]] = []  # commit by commit
        spool.journal.listen(self._note)

    def _note(self, events) -> None:
        moves = [(e.job_id, e.new) for e in events if isinstance(e, JobMoved)]
        if moves:
            self.moves.append(moves)

    async def print_one(self, printer: Printer) -> int:
        """A job is printed, and nothing is left to do."""
        job_id = (await self.spool.add_job(printer)).job_id
        await self.wait_state(job_id, COMPLETED)
        await self.settled()
        return job_id

    async def ready(self, name="p", **fields) -> tuple[Printer, Machine]:
        printer, machine = await self.add(name, **fields)
        await self.print_one(printer)
        return printer, machine

    def commits_of(self, job_id: int) -> list[list[JobState]]:
        """What each commit has made of a job."""
        found = ([state for id_, state in moves if id_ == job_id] for moves in self.moves)
        return [one for one in found if one]


@pytest.fixture
def floor(spool):
    return Ready(spool)


AT_ONCE = [[PENDING, JobState.PROCESSING], [COMPLETED]]
AS_EVER = [[PENDING], [JobState.PROCESSING], [COMPLETED]]


async def test_the_commit_that_accepts_a_job_begins_its_attempt(floor, spool):
    """For a device that has just printed; the records are the same, and so is their order."""
    async with floor.dispatching():
        printer, machine = await floor.ready()
        assert floor.commits_of(1) == AS_EVER
        jobs = [await floor.print_one(printer) for _ in range(3)]
    assert [floor.commits_of(job_id) for job_id in jobs] == [AT_ONCE] * 3
    assert machine.printed == [1, *jobs]
    kinds = [record.kind for record in await spool.reader.records(1, 100)]
    assert kinds[-9:] == ["job-accepted", "attempt-started", "attempt-ended"] * 3
    (attempt,) = await spool.reader.attempts(jobs[-1])
    assert (attempt.number, attempt.outcome) == (1, "delivered")
    assert await spool.reader.open_attempts() == []


@pytest.mark.parametrize("order", list(Order))
async def test_of_jobs_that_come_together_the_first_is_begun(floor, spool, order):
    """The others wait their turn, in the order of the printer."""
    async with floor.dispatching():
        printer, machine = await floor.ready(order=order)
        answers = await spool.journal.commit_all([accept(printer) for _ in range(3)])
        jobs = [answer.job_id for answer in answers]
        await floor.wait_state(jobs[-1], COMPLETED)
    assert machine.printed == [1, *jobs]
    assert floor.commits_of(jobs[0])[0] == [PENDING, JobState.PROCESSING]
    assert floor.commits_of(jobs[1])[0] == [PENDING]


@pytest.mark.parametrize("how", ["pause", "remove", "move"])
async def test_a_printer_that_is_changed_stands_ready_no_more(floor, spool, how):
    """Not even for a job that comes with the same commit."""
    async with floor.dispatching():
        printer, machine = await floor.ready()
        if how == "pause":
            change = PutPrinter(replace(printer, paused=True), 1)
        elif how == "remove":
            change = RemovePrinter(printer.id, 1)
        else:
            (device,) = await spool.reader.devices()
            floor.machines["test://there"] = there = Machine()
            change = PutDevice(device.guid, "test://there", 1)
        _, answer = await spool.journal.commit_all((change, accept(printer)))
        if how == "remove":
            assert answer.code == "not-found"
        elif how == "pause":
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert floor.commits_of(answer.job_id) == [[PENDING]]
        else:
            await floor.wait_state(answer.job_id, COMPLETED)
            assert there.printed == [answer.job_id]
        assert machine.printed == [1]


async def test_a_job_that_waited_before_goes_first(floor, spool):
    """One that is released by the same commit as brings another one is not overtaken."""
    async with floor.dispatching():
        printer, machine = await floor.ready(order=Order.FIFO)
        held = (await spool.journal.commit(accept(printer, state=JobState.PENDING_HELD))).job_id
        release = ChangeJob(held, JobEvent.RELEASE, 1)
        _, later = await spool.journal.commit_all((release, accept(printer)))
        await floor.wait_state(later.job_id, COMPLETED)
    assert machine.printed == [1, held, later.job_id]


async def test_a_held_job_leaves_the_device_ready(floor, spool):
    """It is for the next one that prints."""
    async with floor.dispatching():
        printer, _ = await floor.ready()
        await spool.journal.commit(accept(printer, state=JobState.PENDING_HELD))
        job_id = await floor.print_one(printer)
    assert floor.commits_of(job_id) == AT_ONCE


async def test_printers_that_share_a_device_take_turns(floor, spool):
    """The device stands ready for the one that printed last, and prints for the other as ever."""
    async with floor.dispatching():
        first, machine = await floor.ready()
        second = await spool.journal.commit(
            PutPrinter(replace(first, id=0, guid=first.guid.__class__(int=9), name="two"), 1)
        )
        other = await floor.print_one(second)
        assert floor.commits_of(other) == AS_EVER
        machine.go_on = trio.Event()
        both = await spool.journal.commit_all((accept(first), accept(second)))
        with trio.fail_after(30):
            while len(machine.printed) < 3:
                await trio.testing.wait_all_tasks_blocked(0.001)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(machine.printed) == 3, "two attempts on one device"
        machine.go_on.set()
        for answer in both:
            await floor.wait_state(answer.job_id, COMPLETED)
    assert sorted(machine.printed) == [1, other, *(answer.job_id for answer in both)]


async def test_a_device_that_failed_does_not_stand_ready(floor):
    """The next jobs are marked as ever, until it has printed twice."""
    async with floor.dispatching():
        printer, machine = await floor.ready()
        machine.says = Deferred("connecting-to-device")
        job_id = (await floor.spool.add_job(printer)).job_id
        await machine.failed.wait()
        machine.says = None
        await floor.wait_state(job_id, COMPLETED)
        await floor.settled()
        assert floor.commits_of(await floor.print_one(printer)) == AS_EVER
        assert floor.commits_of(await floor.print_one(printer)) == AT_ONCE


async def test_a_commit_that_fails_gives_the_device_back(floor, spool, monkeypatch):
    """A full disk refuses the job; the next one finds the device as it was."""
    async with floor.dispatching():
        printer, _ = await floor.ready()

        def full(*_):
            raise SpoolFull("commit to", "the spool", "the disk is full", "Free space.")

        with monkeypatch.context() as patch:
            patch.setattr(spool.journal._store, "flush", full)
            with pytest.raises(SpoolFull):
                await spool.journal.commit(accept(printer))
        job_id = await floor.print_one(printer)
    assert floor.commits_of(job_id) == AT_ONCE


async def test_jobs_that_come_while_it_drains_are_kept_for_the_next_start(floor, spool):
    """None is begun by a commit any more: an open attempt would be in doubt."""
    async with floor.dispatching():
        printer, machine = await floor.ready()
    late = (await spool.add_job(printer)).job_id
    assert floor.commits_of(late) == [[PENDING]]
    assert await spool.reader.open_attempts() == []
    async with floor.dispatching():
        await floor.wait_state(late, COMPLETED)
    assert machine.printed == [1, late]


async def test_a_job_that_is_being_accepted_when_it_drains_is_printed(floor, spool, monkeypatch):
    """The commit under way has taken the device up: its attempt is not left open."""
    store, taken, go_on = spool.journal._store, threading.Event(), threading.Event()
    take_claim = store.take_claim

    def take_slowly(printer_id):
        device_id = take_claim(printer_id)
        if device_id is not None:
            taken.set()
            go_on.wait(30)
        return device_id

    async with floor.dispatching() as dispatcher:
        printer, machine = await floor.ready()
        monkeypatch.setattr(store, "take_claim", take_slowly)
        handed = spool.journal.hand_over((accept(printer),))
        await trio.to_thread.run_sync(taken.wait)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatcher.drain, 30.0)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
        (answer,) = await handed.wait()
    assert machine.printed == [1, answer.job_id]
    assert (await spool.reader.job(answer.job_id)).state is COMPLETED
    assert await spool.reader.open_attempts() == []


async def test_a_job_that_was_accepted_just_before_it_drains_is_printed(floor, spool):
    """Whoever comes first to his turn then, which is chance."""
    printer, machine = await floor.add()
    for _ in range(8):
        async with floor.dispatching() as dispatcher:
            await floor.print_one(printer)
            answer = await spool.journal.commit(accept(printer))
            await dispatcher.drain(5.0)
        assert (await spool.reader.job(answer.job_id)).state is COMPLETED
        assert await spool.reader.open_attempts() == []
    assert machine.printed == list(range(1, 17))


async def test_no_more_stand_ready_than_may_be_begun_beyond_the_limit(floor, monkeypatch):
    """The others are as ever."""
    monkeypatch.setattr("spoold.dispatch.offers.OFFERS_MAX", 2)
    async with floor.dispatching(replace(QUICK, deliveries_max=2)):
        printers = [(await floor.ready(f"p{n}"))[0] for n in range(4)]
        jobs = [await floor.print_one(printer) for printer in printers]
        told = [floor.commits_of(job_id) for job_id in jobs]
    assert told.count(AT_ONCE) == 2
    assert told.count(AS_EVER) == 2
