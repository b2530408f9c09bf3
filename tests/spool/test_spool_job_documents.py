"""Jobs of several documents: what comes in, what is next, what is kept, copied and removed."""

from __future__ import annotations

import shutil

import pytest

from spoold.model.errors import OperationError
from spoold.model.job import DOCUMENTS_MAX, JobReason, JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt
from spoold.model.person import NOBODY
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    NO_DOCUMENT,
    ChangeJob,
    CloseJob,
    CopyJob,
    EndAttempt,
    JobFilter,
    RemoveJobs,
    StartAttempt,
)
from support.chain import verified

BODIES = (b"one", b"the second", b"3")
SENDER = "address:127.0.0.1"


async def job_of(spool, printer, bodies=BODIES, **fields) -> int:
    job_id = (await spool.open_job(printer, **fields)).job_id
    for number, body in enumerate(bodies, 1):
        await spool.attach(job_id, body, last=number == len(bodies), number=number)
    return job_id


async def attempt(spool, printer, job_id, outcome=None, event=JobEvent.DELIVER, reasons=()):
    """Try the next document once; the job's state after it."""
    start = StartAttempt(job_id, printer.device_id, printer.id, 1)
    number = await spool.journal.commit(start)
    end = EndAttempt(job_id, number, outcome or Delivered({}), event, reasons, 2, "said")
    return await spool.journal.commit(end)


async def change(spool, job_id, event, **fields):
    return await spool.journal.commit(ChangeJob(job_id, event, 1, **fields))


async def at(spool, job_id) -> tuple[JobState, int]:
    job = await spool.reader.job(job_id)
    return job.state, job.document_number


async def test_documents_come_one_by_one_and_outlive_a_crash(tmp_path, spool_at):
    """The job is open until the last one is here, and then has them all, in order."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with spool_at(before) as spool:
        printer = await spool.add_printer()
        job_id = (await spool.open_job(printer)).job_id
        assert (await spool.reader.job(job_id)).documents_here == 0
        for number, body in enumerate(BODIES[:2], 1):
            attached = await spool.attach(job_id, body, last=False, deadline_us=number)
            assert attached.state is JobState.PENDING_HELD
            job = await spool.reader.job(job_id)
            assert (job.is_incoming, job.documents_here) == (True, number)
            assert await spool.reader.overdue(number, 9) == [job_id]
            assert await spool.reader.overdue(number - 1, 9) == []
        shutil.copytree(before, after)  # what a kill leaves
    async with spool_at(after) as spool:
        assert (await spool.attach(job_id, BODIES[2])).state is JobState.PENDING
        job = await spool.reader.job(job_id)
        assert (job.documents, job.document_number, job.document.size) == (3, 1, 3)
        assert job.bytes_total == sum(map(len, BODIES))
        found = await spool.reader.documents(job_id)
        assert [one.size for one in found] == [len(body) for body in BODIES]
        for number, body in enumerate(BODIES, 1):
            assert await spool.reader.document_body(job_id, number) == body
        assert [moved.size for moved in await spool.reader.waiting()] == [job.bytes_total]
        assert await verified(spool.reader) == spool.journal.head
    async with spool_at(after) as spool:
        assert (await spool.reader.job(job_id)).documents == 3


async def test_a_job_is_closed_with_what_it_has(spool):
    """Close-Job, or the end of its time, after two documents."""
    printer = await spool.add_printer()
    job_id = (await spool.open_job(printer)).job_id
    for body in BODIES[:2]:
        await spool.attach(job_id, body, last=False)
    assert (await spool.journal.commit(CloseJob(job_id, 1, SENDER))).state is JobState.PENDING
    assert (await spool.reader.job(job_id)).documents == 2


async def test_there_are_only_so_many(spool):
    """One more than a job may have is refused, and leaves the job open."""
    printer = await spool.add_printer()
    job_id = (await spool.open_job(printer)).job_id
    for _ in range(DOCUMENTS_MAX):
        await spool.attach(job_id, b"x", last=False)
    with pytest.raises(OperationError) as refusal:
        await spool.attach(job_id, b"x")
    assert refusal.value.code == "too-large"
    assert (await spool.reader.job(job_id)).documents == DOCUMENTS_MAX
    assert (await spool.journal.commit(CloseJob(job_id, 1, SENDER))).state is JobState.PENDING


async def test_each_document_is_delivered_by_an_attempt_of_its_own(spool):
    """In order; only the last delivery completes the job."""
    printer = await spool.add_printer()
    job_id = await job_of(spool, printer)
    seen = []
    spool.journal.listen(lambda events: seen.extend((one.old, one.new) for one in events))
    for number in (1, 2):
        assert await attempt(spool, printer, job_id) is JobState.PENDING
        job = await spool.reader.job(job_id)
        assert (job.document_number, job.reasons, job.message) == (number + 1, (), "")
        assert job.document.size == len(BODIES[number])
    assert await attempt(spool, printer, job_id) is JobState.COMPLETED
    assert await at(spool, job_id) == (JobState.COMPLETED, 3)
    assert [one.document for one in await spool.reader.attempts(job_id)] == [1, 2, 3]
    again = (JobState.PROCESSING, JobState.PENDING)
    assert [pair for pair in seen if pair == again] == [again, again]
    assert await verified(spool.reader) == spool.journal.head


async def test_what_is_not_printed_is_next_again(spool):
    """Deferred, in doubt and to be printed again, held: it is the same document's turn."""
    printer = await spool.add_printer()
    job_id = await job_of(spool, printer)
    await attempt(spool, printer, job_id)
    outcome = Deferred("device-busy", "later")
    await attempt(spool, printer, job_id, outcome, JobEvent.DEFER, ("device-busy",))
    assert await at(spool, job_id) == (JobState.PENDING, 2)
    doubt = JobEvent.DOUBT, (JobReason.JOB_IN_DOUBT.value,)
    await attempt(spool, printer, job_id, InDoubt("x", "y"), *doubt)
    assert await at(spool, job_id) == (JobState.PENDING_HELD, 2)
    assert await change(spool, job_id, JobEvent.REPRINT) is JobState.PENDING
    assert await at(spool, job_id) == (JobState.PENDING, 2)
    await change(spool, job_id, JobEvent.HOLD, reasons=("job-hold-until-specified",))
    await change(spool, job_id, JobEvent.RELEASE)
    assert await at(spool, job_id) == (JobState.PENDING, 2)


@pytest.mark.parametrize("by", ["operator", "policy"])
async def test_a_document_that_is_taken_as_printed_is_followed_by_the_next(spool, by):
    """In doubt at the second one, settled as printed: the third is still to come."""
    printer = await spool.add_printer()
    job_id = await job_of(spool, printer)
    await attempt(spool, printer, job_id)
    if by == "operator":
        doubt = JobEvent.DOUBT, (JobReason.JOB_IN_DOUBT.value,)
        await attempt(spool, printer, job_id, InDoubt("x", "y"), *doubt)
        after = await change(spool, job_id, JobEvent.ASSUME, reasons=("job-assumed-printed",))
    else:
        assume = JobEvent.ASSUME, ("job-assumed-printed",)
        after = await attempt(spool, printer, job_id, InDoubt("x", "y"), *assume)
    assert after is JobState.PENDING
    job = await spool.reader.job(job_id)
    assert (job.document_number, job.reasons) == (3, ())
    assert await attempt(spool, printer, job_id) is JobState.COMPLETED


async def test_a_job_that_is_to_stop_has_no_next_document(spool):
    """The delivery of a document ends a job that somebody asked to cancel meanwhile."""
    printer = await spool.add_printer()
    job_id = await job_of(spool, printer)
    number = await spool.journal.commit(StartAttempt(job_id, printer.device_id, printer.id, 1))
    reasons = ("processing-to-stop-point", "job-canceled-by-user")
    await change(spool, job_id, JobEvent.STOP, reasons=reasons)
    done = ("job-completed-successfully",)
    end = EndAttempt(job_id, number, Delivered({}), JobEvent.DELIVER, done, 2)
    assert await spool.journal.commit(end) is JobState.CANCELED
    job = await spool.reader.job(job_id)
    assert (job.document_number, job.reasons) == (1, ("job-canceled-by-user",))


async def test_a_finished_job_is_retried_from_the_beginning(spool):
    """Completed, or canceled in the middle: its first document is next."""
    printer = await spool.add_printer()
    done, canceled = await job_of(spool, printer), await job_of(spool, printer)
    for _ in BODIES:
        await attempt(spool, printer, done)
    await attempt(spool, printer, canceled)
    await change(spool, canceled, JobEvent.CANCEL)
    for job_id in (done, canceled):
        assert await change(spool, job_id, JobEvent.RETRY) is JobState.PENDING
        assert await at(spool, job_id) == (JobState.PENDING, 1)
        for _ in BODIES:
            state = await attempt(spool, printer, job_id)
        assert state is JobState.COMPLETED


async def test_copies_of_a_document_are_its_own(spool):
    """What one document says of its copies is nothing to the others, nor to the job."""
    printer = await spool.add_printer()
    job_id = (await spool.open_job(printer, copies=2)).job_id
    await spool.attach(job_id, last=False, copies=5, copies_embedded=True)
    await spool.attach(job_id, last=False, copies=2)
    await spool.attach(job_id, copies=7, copies_embedded=True)
    told = []
    for _ in range(3):
        job = await spool.reader.job(job_id)
        told.append((job.copies, job.copies_embedded))
        await attempt(spool, printer, job_id)
    assert told == [(5, True), (2, False), (7, True)]
    assert await spool.reader.copies_asked(job_id) == (2, False)


async def test_retention_takes_all_documents(spool):
    """Their files are told, so that they can be removed; then only what they were is known."""
    printer = await spool.add_printer()
    job_id = await job_of(spool, printer)
    other = await job_of(spool, printer)
    for id_ in (job_id, other):
        await change(spool, id_, JobEvent.CANCEL)
    total = sum(map(len, BODIES))
    assert await spool.reader.finished_totals() == (2, 2 * total)
    await spool.journal.commit(RemoveJobs((job_id,), 1, documents_only=True))
    assert [one.stored for one in await spool.reader.documents(job_id)] == ["gone"] * 3
    assert [one.stored for one in await spool.reader.documents(other)] == ["inline"] * 3
    assert await spool.reader.finished_totals() == (2, total)
    with pytest.raises(OperationError, match="not kept"):
        await change(spool, job_id, JobEvent.RETRY)
    await spool.journal.commit(RemoveJobs((job_id,), 1))
    assert await spool.reader.documents(job_id) == []
    assert len(await spool.reader.documents(other)) == 3
    assert [one.id for one in await spool.reader.jobs(JobFilter())] == [other]


async def test_a_copy_has_all_documents(spool):
    """It begins with the first one, and what they are is in the journal."""
    printer = await spool.add_printer()
    job_id = await job_of(spool, printer)
    await attempt(spool, printer, job_id)
    copy = CopyJob(printer.id, NOBODY, SENDER, NO_DOCUMENT, 1, from_id=job_id, more_files=("", ""))
    made = await spool.journal.commit(copy)
    job = await spool.reader.job(made.job_id)
    assert (job.documents, job.document_number) == (3, 1)
    assert job.bytes_total == sum(map(len, BODIES))
    for number, body in enumerate(BODIES, 1):
        assert await spool.reader.document_body(made.job_id, number) == body
    for _ in BODIES:
        state = await attempt(spool, printer, made.job_id)
    assert state is JobState.COMPLETED
    missing = CopyJob(printer.id, NOBODY, SENDER, NO_DOCUMENT, 1, from_id=job_id)
    with pytest.raises(OperationError, match="not kept"):
        await spool.journal.commit(missing)
