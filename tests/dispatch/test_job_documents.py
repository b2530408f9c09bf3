"""Jobs of several documents on their way to devices: together, in order, each of them once."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.driver.link import DeviceStatus, Progress
from spoold.model.job import JobReason, JobState
from spoold.model.outcome import Blame, Deferred, Delivered, InDoubt, Refused
from spoold.model.printer import Order, Printer, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import AttachDocument, NewDocument, PlaceJob, PutPrinter
from support import dispatching
from support.chain import verified

BODIES = (b"one", b"two", b"three")
BUSY = Deferred("device-busy", "Not now.", Blame.JOB)
DOUBT = InDoubt("connection-lost", "It broke.", 2)


class Machine:
    """A device that takes documents, and does to some of them what `faults` says, each once."""

    def __init__(self) -> None:
        self.printed: list[bytes] = []
        self.faults: dict[bytes, object] = {}
        self.begun = trio.Event()

    async def deliver(self, delivery):
        await delivery.may_send()
        body = delivery.source.read_at(0, 1000)
        fault = self.faults.pop(body, None)
        if callable(fault):
            fault = await fault()
        elif fault == "hang":
            delivery.report(Progress(bytes_sent=1))
            self.begun.set()
            await trio.sleep_forever()
        if fault is not None:
            return fault
        self.printed.append(body)
        return Delivered({"method": "test", "bytes": len(body)})

    async def probe(self):
        return DeviceStatus(True)


class Floor(dispatching.Floor):
    async def job(self, printer, bodies=BODIES, formats=(), **fields) -> int:
        job_id = (await self.spool.open_job(printer, **fields)).job_id
        for number, body in enumerate(bodies, 1):
            format_ = formats[number - 1] if formats else "text/plain"
            document = NewDocument(len(body), "blake3:00", format_, body)
            is_last = number == len(bodies)
            await self.spool.journal.commit(
                AttachDocument(job_id, "address:127.0.0.1", document, 1, last=is_last)
            )
        return job_id


@pytest.fixture
def floor(spool):
    return Floor(spool, Machine)


async def documents_of(spool, job_id) -> list[tuple[int, str]]:
    return [(one.document, one.outcome) for one in await spool.reader.attempts(job_id)]


@pytest.mark.parametrize("order", list(Order))
async def test_the_documents_of_a_job_come_out_together(floor, spool, order):
    """In their order, with no other job in between, whoever waits."""
    printer, machine = await floor.add(order=order)
    first = await floor.job(printer, owner="ada")
    others = [(await spool.add_job(printer, b"other", "ben")).job_id for _ in range(3)]
    second = await floor.job(printer, (b"4", b"5"), owner="ben")
    async with floor.dispatching():
        for job_id in (first, *others, second):
            await floor.wait_state(job_id, JobState.COMPLETED)
    text = b" ".join(machine.printed)
    assert sorted(machine.printed) == sorted([*BODIES, *[b"other"] * 3, b"4", b"5"])
    assert b"one two three" in text
    assert b"4 5" in text
    assert await documents_of(spool, first) == [(n, "delivered") for n in (1, 2, 3)]
    assert await verified(spool.reader) == spool.journal.head


async def test_an_open_job_does_not_begin(floor, spool):
    """Not before it is said that there are no more documents."""
    printer, machine = await floor.add()
    job_id = (await spool.open_job(printer)).job_id
    await spool.attach(job_id, b"one", last=False)
    other = (await spool.add_job(printer, b"other")).job_id
    async with floor.dispatching():
        await floor.wait_state(other, JobState.COMPLETED)
        assert machine.printed == [b"other"]
        await spool.attach(job_id, b"two")
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert machine.printed == [b"other", b"one", b"two"]


async def test_a_document_that_is_put_off_is_tried_again_alone(floor, spool):
    """What is printed stays printed; the rest follows."""
    printer, machine = await floor.add()
    machine.faults = {b"two": BUSY, b"three": Deferred("connecting-to-device", "Gone.")}
    job_id = await floor.job(printer)
    async with floor.dispatching():
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert machine.printed == list(BODIES)
    assert await documents_of(spool, job_id) == [
        (1, "delivered"), (2, "deferred"), (2, "delivered"), (3, "deferred"), (3, "delivered"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "settled", "printed"),
    [
        (WhenInDoubt.HOLD, JobEvent.ASSUME, [b"one", b"three"]),
        (WhenInDoubt.HOLD, JobEvent.REPRINT, list(BODIES)),
        (WhenInDoubt.ASSUME_PRINTED, None, [b"one", b"three"]),
        (WhenInDoubt.REPRINT, None, list(BODIES)),
    ],
)
async def test_a_doubt_is_about_one_document(floor, policy, settled, printed):
    """However it is settled, the job goes on from there."""
    printer, machine = await floor.add(in_doubt=policy)
    machine.faults = {b"two": DOUBT}
    job_id = await floor.job(printer)
    async with floor.dispatching():
        if settled is not None:
            job = await floor.wait_state(job_id, JobState.PENDING_HELD)
            assert (job.reasons, job.document_number) == ((JobReason.JOB_IN_DOUBT,), 2)
            assert job.message.startswith("Document 2 of 3: connection-lost")
            await floor.change(job_id, settled)
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert machine.printed == printed


async def test_a_later_document_may_not_fit(floor):
    """The job is held, and says which one it is; moved elsewhere, it goes on with that."""
    printer, machine = await floor.add(formats=("text/plain",))
    other, second = await floor.add("q")
    formats = ("text/plain", "application/pdf", "text/plain")
    job_id = await floor.job(printer, formats=formats)
    async with floor.dispatching():
        job = await floor.wait_state(job_id, JobState.PENDING_HELD)
        assert job.reasons == (JobReason.UNSUPPORTED_DOCUMENT_FORMAT,)
        assert job.message == "Document 2 of 3: p does not take application/pdf."
        await floor.change(job_id, JobEvent.MOVE, printer_id=other.id)
        await floor.change(job_id, JobEvent.RELEASE)
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert (machine.printed, second.printed) == ([b"one"], [b"two", b"three"])


async def test_a_refused_document_ends_the_job(floor):
    """It can never print, and the message names it."""
    printer, machine = await floor.add()
    machine.faults = {b"two": Refused("no-such-queue", "Never.")}
    job_id = await floor.job(printer)
    async with floor.dispatching():
        job = await floor.wait_state(job_id, JobState.ABORTED)
    assert (job.message, machine.printed) == ("Document 2 of 3: no-such-queue: Never.", [b"one"])


async def test_a_cancel_in_the_middle_stops_at_once(floor, spool):
    """Nothing more of the job comes out; retried, it begins at its beginning."""
    printer, machine = await floor.add()
    machine.faults = {b"two": "hang"}
    job_id = await floor.job(printer)
    reasons = (JobReason.PROCESSING_TO_STOP_POINT, JobReason.JOB_CANCELED_BY_USER)
    async with floor.dispatching():
        await machine.begun.wait()
        await floor.change(job_id, JobEvent.STOP, reasons=reasons)
        job = await floor.wait_state(job_id, JobState.CANCELED)
        assert (job.document_number, machine.printed) == (2, [b"one"])
        await floor.change(job_id, JobEvent.RETRY)
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert machine.printed == [b"one", *BODIES]


async def test_a_pause_and_a_hold_come_between_documents(floor, spool):
    """The document that is printing ends; the next one waits for who resumes or releases."""
    printer, machine = await floor.add()
    job_id = await floor.job(printer)

    paused = trio.Event()

    async def pause():
        await floor.put(replace(printer, paused=True))
        paused.set()

    machine.faults = {b"one": pause}
    async with floor.dispatching():
        await paused.wait()
        job = await floor.wait_state(job_id, JobState.PENDING)
        assert (job.document_number, machine.printed) == (2, [b"one"])
        await floor.change(job_id, JobEvent.HOLD, reasons=("job-hold-until-specified",))
        await floor.put(printer)
        await floor.change(job_id, JobEvent.RELEASE)
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert machine.printed == list(BODIES)


async def test_a_retry_while_another_job_prints_begins_at_the_beginning(floor, spool):
    """What was loaded ahead of the job's turn is of another document by then."""
    printer, machine = await floor.add()
    job_id = await floor.job(printer)

    paused, go_on = trio.Event(), trio.Event()

    async def pause():
        await floor.put(replace(printer, paused=True))
        paused.set()

    async def wait():
        machine.begun.set()
        await go_on.wait()

    machine.faults = {b"one": pause, b"other": wait}
    async with floor.dispatching():
        await paused.wait()
        await floor.wait_state(job_id, JobState.PENDING)
        other = (await spool.add_job(printer, b"other")).job_id
        await spool.journal.commit(PlaceJob(other, 1))
        await floor.put(printer)
        await machine.begun.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await floor.change(job_id, JobEvent.CANCEL)
        await floor.change(job_id, JobEvent.RETRY)
        go_on.set()
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert machine.printed == [b"one", b"other", *BODIES]


async def test_a_pool_prints_a_job_on_one_device(floor, spool):
    """An idle member takes another job, not a document of one that is being printed."""
    _, machine = await floor.add("a")
    _, idle = await floor.add("b")
    pool = await spool.journal.commit(
        PutPrinter(Printer(0, uuid4(), "pool", None, members=("a", "b")), 1)
    )
    jobs = [await floor.job(pool) for _ in range(4)]
    async with floor.dispatching():
        for job_id in jobs:
            await floor.wait_state(job_id, JobState.COMPLETED)
    for job_id in jobs:
        devices = {one.device_id for one in await spool.reader.attempts(job_id)}
        assert len(devices) == 1
    assert len(machine.printed) + len(idle.printed) == 4 * len(BODIES)


async def test_a_restart_between_documents_goes_on(tmp_path, spool_at):
    """What was printed before the end of a spoold is not printed by the next one."""
    async with spool_at(tmp_path) as spool:
        floor = Floor(spool, Machine)
        printer, machine = await floor.add(in_doubt=WhenInDoubt.REPRINT)
        job_id = await floor.job(printer)
        machine.faults = {b"two": "hang"}
        async with floor.dispatching():
            await machine.begun.wait()
    async with spool_at(tmp_path) as spool:
        floor, before = Floor(spool, Machine), machine.printed
        again = floor.machines["test://p"] = Machine()
        async with floor.dispatching():
            await floor.wait_state(job_id, JobState.COMPLETED)
        assert (before, again.printed) == ([b"one"], [b"two", b"three"])


async def test_one_commit_for_each_document_more(floor, spool):
    """The end of one and the mark of the next: a job that follows shares the last one's."""
    printer, machine = await floor.add()
    await floor.job(printer)
    last = await floor.job(printer)
    before = spool.journal.commits
    async with floor.dispatching():
        await floor.wait_state(last, JobState.COMPLETED)
    assert spool.journal.commits - before <= 2 * 2 * len(BODIES)
    assert machine.printed == [*BODIES, *BODIES]
