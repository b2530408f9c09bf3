"""Jobs whose document comes later: both steps, whoever else comes, and what is left of them."""

from __future__ import annotations

import os
from dataclasses import replace
from uuid import uuid4

import pytest
import trio

from spoold.intake.acceptance import Acceptance
from spoold.intake.opening import OpenJobs
from spoold.intake.submission import Submission
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import DOCUMENTS_MAX, JobReason, JobState
from spoold.model.outcome import Delivered
from spoold.model.person import Known, Owner
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, EndAttempt, PutPrinter, RemoveJobs, StartAttempt
from support.limits import Limits

SENDER = "address:192.0.2.7"
LARGE = os.urandom(1_500_000)
ADA = Owner("ada")


@pytest.fixture
async def door(spool):
    made = Acceptance(spool.journal, spool.reader, spool.documents, Limits(), spool.wall_clock)
    await made.start()
    spool.printer = await spool.add_printer()
    return made


@pytest.fixture
def opening(spool, door):
    return OpenJobs(door, spool.journal, spool.reader, lambda: 900.0)


def submission(**fields):
    fields = {"owner": ADA, "submitter": SENDER, "printer": "default"} | fields
    return Submission(intake="ipp", client_host="192.0.2.7", **fields)


async def send(opening, job_id, body, **fields):
    upload = await opening.begin_document(job_id, SENDER, **fields)
    await upload.write(body)
    return await upload.commit()


def files(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("body", [b"%!PS one page", LARGE], ids=["row", "file"])
async def test_a_job_is_made_and_then_gets_its_document(spool, opening, body):
    """Attributes come with the first step, bytes and format with the second."""
    accepted = await opening.open(submission(title="Letter", copies=2, uuid=uuid4()))
    job = await spool.reader.job(accepted.job_id)
    assert (job.state, job.reasons) == (JobState.PENDING_HELD, (JobReason.JOB_INCOMING,))
    assert (job.title, job.copies, job.document.stored) == ("Letter", 2, "none")
    sent = await send(opening, job.id, body, format="application/pdf", size=len(body))
    assert (sent.job_id, sent.state) == (job.id, JobState.PENDING)
    job = await spool.reader.job(job.id)
    assert (job.state, job.document.format) == (JobState.PENDING, "application/pdf")
    source = await spool.documents.open(job)
    assert source.read_at(0, len(body) + 1) == body
    source.close()
    assert not opening.is_receiving(job.id)
    assert opening._acceptance._promised == 0


async def test_what_the_document_says_of_copies_counts(spool, opening):
    """Copies that the stream makes by itself are known once the stream is here."""
    accepted = await opening.open(submission())
    upload = await opening.begin_document(accepted.job_id, SENDER)
    await upload.write(b"pjl")
    upload.submission.copies, upload.submission.copies_embedded = 3, True
    await upload.commit()
    job = await spool.reader.job(accepted.job_id)
    assert (job.copies, job.copies_embedded) == (3, True)


async def test_refusals_come_before_the_body(spool, door, opening):
    """A stranger, a job that is not open, one too large, a full spool: each is told at once."""
    accepted = await opening.open(submission())
    whole = await spool.add_job(spool.printer)
    for job_id, submitter, size, code in (
        (99, SENDER, None, "not-found"),
        (accepted.job_id, "address:192.0.2.8", None, "forbidden"),
        (accepted.job_id, SENDER, Limits().document_bytes_max + 1, "too-large"),
        (whole.job_id, "address:127.0.0.1", None, "not-possible"),
    ):
        with pytest.raises(OperationError) as refusal:
            await opening.begin_document(job_id, submitter, size=size)
        assert refusal.value.code == code
    door.limits = Limits(reserve_bytes=1 << 60)
    door._room_until = -1.0
    with pytest.raises(SpoolFull):
        await opening.begin_document(accepted.job_id, SENDER)
    with pytest.raises(SpoolFull):
        await opening.open(submission())
    assert not opening.is_receiving(accepted.job_id)


@pytest.mark.parametrize("is_announced", [True, False])
async def test_the_documents_of_a_job_are_together_no_larger_than_the_limit(
    spool, door, opening, is_announced
):
    """One that would be too much is refused; the job keeps what it has, and goes on."""
    door.limits = Limits(job_bytes_max=1000)
    accepted = await opening.open(submission())
    upload = await opening.begin_document(accepted.job_id, SENDER)
    upload.last = False
    await upload.write(b"x" * 1001)  # a single one has a limit of its own
    await upload.commit()
    with pytest.raises(OperationError, match="together larger than 1000 bytes") as refusal:
        await send(opening, accepted.job_id, b"y", size=1 if is_announced else None)
    assert refusal.value.code == "too-large"
    door.limits = Limits()
    assert (await send(opening, accepted.job_id, b"y")).state is JobState.PENDING
    assert (await spool.reader.job(accepted.job_id)).bytes_total == 1002


async def test_a_printer_that_takes_no_jobs_takes_the_documents_of_those_it_has(spool, opening):
    """A job that was accepted is not stranded by what its printer says later."""
    accepted = await opening.open(submission())
    await spool.journal.commit(PutPrinter(replace(spool.printer, accepting=False), 1))
    with pytest.raises(OperationError) as refusal:
        await opening.open(submission())
    assert refusal.value.code == "not-accepting"
    assert (await send(opening, accepted.job_id, b"x")).state is JobState.PENDING


async def test_a_document_that_broke_off_can_be_sent_again(spool, opening):
    """Nothing of it is kept, and the job stays open."""
    accepted = await opening.open(submission())
    upload = await opening.begin_document(accepted.job_id, SENDER)
    await upload.write(LARGE)
    assert opening.is_receiving(accepted.job_id)
    assert await upload.interrupt("reset") is None
    assert not opening.is_receiving(accepted.job_id)
    assert files(spool.documents.incoming_dir) == []
    assert (await send(opening, accepted.job_id, b"again")).state is JobState.PENDING


async def test_of_two_connections_the_later_one_brings_the_document(spool, opening):
    """A half-dead connection does not keep its client from trying again."""
    accepted = await opening.open(submission())
    first = await opening.begin_document(accepted.job_id, SENDER)
    await first.write(b"half")
    second = await opening.begin_document(accepted.job_id, SENDER)
    await second.write(b"whole")
    with pytest.raises(OperationError) as refusal:
        await first.write(b"more")
    assert refusal.value.code == "busy"
    await first.abandon()
    assert opening.is_receiving(accepted.job_id)
    await second.commit()
    assert await spool.reader.document_body(accepted.job_id) == b"whole"


async def test_a_cancel_meanwhile_wins(spool, opening):
    """A document for a job that was canceled on its way is refused, and leaves no file."""
    accepted = await opening.open(submission())
    upload = await opening.begin_document(accepted.job_id, SENDER)
    await upload.write(LARGE)
    await spool.journal.commit(ChangeJob(accepted.job_id, JobEvent.CANCEL, 1))
    with pytest.raises(OperationError) as refusal:
        await upload.commit()
    assert refusal.value.code == "not-possible"
    assert files(spool.documents.dir) == files(spool.documents.incoming_dir) == []
    assert not opening.is_receiving(accepted.job_id)


async def test_cancelled_at_any_moment_the_commit_is_whole_or_not_there(spool, opening):
    """Whoever hangs up during the commit finds the job either open or with its document."""
    for delay_s in (0.0, 0.0005, 0.001, 0.002, 0.005):
        accepted = await opening.open(submission())
        upload = await opening.begin_document(accepted.job_id, SENDER)
        await upload.write(LARGE)
        with trio.move_on_after(delay_s):
            await upload.commit()
        await upload.abandon()
        await spool.journal.commit_all([])
        job = await spool.reader.job(accepted.job_id)
        assert job.is_incoming is (job.document.stored == "none")
        if not job.is_incoming:
            source = await spool.documents.open(job)
            assert source.read_at(0, len(LARGE) + 1) == LARGE
            source.close()
        assert not opening.is_receiving(accepted.job_id)
    assert files(spool.documents.incoming_dir) == []


async def test_closing_ends_the_wait(spool, opening):
    """An empty job is aborted and says why; one with its document goes on."""
    empty, whole = await opening.open(submission()), await opening.open(submission())
    assert (await opening.close(empty.job_id, SENDER)).state is JobState.ABORTED
    assert (await spool.reader.job(empty.job_id)).message == "It was closed without a document."
    upload = await opening.begin_document(whole.job_id, SENDER)
    upload.last = False
    await upload.write(b"x")
    assert (await upload.commit()).state is JobState.PENDING_HELD
    assert (await opening.close(whole.job_id, SENDER)).state is JobState.PENDING
    for job_id in (empty.job_id, whole.job_id):
        with pytest.raises(OperationError) as refusal:
            await opening.close(job_id, SENDER)
        assert refusal.value.code == "not-possible"


async def test_what_holds_jobs_holds_open_ones_when_they_are_whole(spool, opening):
    """The sender's hold, a printer that holds new jobs, and one that wants to know owners."""
    held = await opening.open(submission(hold_until="indefinite"))
    assert (await send(opening, held.job_id, b"x")).state is JobState.PENDING_HELD
    job = await spool.reader.job(held.job_id)
    assert (job.reasons, job.hold_until) == ((JobReason.JOB_HOLD_UNTIL_SPECIFIED,), "indefinite")
    opened = await opening.open(submission())
    strict = replace(spool.printer, hold_new_jobs=True, least_owner=Known.ASSERTED)
    await spool.journal.commit(PutPrinter(strict, 1))
    await send(opening, opened.job_id, b"x")
    job = await spool.reader.job(opened.job_id)
    assert job.reasons == (
        JobReason.JOB_HELD_ON_CREATE,
        JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH,
    )
    assert "at least asserted" in job.message
    closed = await opening.open(submission())
    upload = await opening.begin_document(closed.job_id, SENDER)
    upload.last = False
    await upload.write(b"x")
    await upload.commit()
    assert (await opening.close(closed.job_id, SENDER)).state is JobState.PENDING_HELD
    assert (await spool.reader.job(closed.job_id)).reasons == job.reasons


async def test_a_job_whose_time_is_over_is_closed(spool, door, opening):
    """multiple-operation-time-out: not before its time; each document begins it anew."""
    accepted = await opening.open(submission())
    with pytest.raises(OperationError, match="more time"):
        await opening.expire(accepted.job_id)
    late = spool.wall_clock() + 901_000_000
    assert await spool.reader.overdue(late, 10) == [accepted.job_id]
    door.wall_clock = lambda: late
    assert (await opening.expire(accepted.job_id)).state is JobState.ABORTED
    job = await spool.reader.job(accepted.job_id)
    assert job.message == "No document came within 900 s."
    with pytest.raises(OperationError):
        await opening.expire(accepted.job_id)


async def test_a_job_can_be_submitted_until_a_time(spool, door):
    """job-hold-until of a whole job: held until then, or not at all when that has passed."""
    now = spool.wall_clock()
    upload = await door.begin(submission(hold_until_us=now + 60_000_000))
    await upload.write(b"x")
    accepted = await upload.commit()
    job = await spool.reader.job(accepted.job_id)
    assert (job.state, job.hold_until) == (JobState.PENDING_HELD, "time")
    assert (job.release_us, upload.reasons) == (now + 60_000_000, job.reasons)
    for fields in ({"hold_until_us": now - 1}, {"hold_until": "no-hold"}):
        upload = await door.begin(submission(**fields))
        await upload.write(b"x")
        assert (await upload.commit()).state is JobState.PENDING
    upload = await door.begin(submission(hold_until="tomorrow"))
    await upload.write(b"x")
    with pytest.raises(OperationError, match="no-hold, indefinite") as refusal:
        await upload.commit()
    assert refusal.value.code == "bad-request"
    await upload.abandon()


async def test_a_hold_does_not_hide_that_an_owner_is_not_known(spool, door):
    """A hold may end by itself; what the printer wants of owners stands beside it."""
    strict = replace(spool.printer, least_owner=Known.ASSERTED)
    await spool.journal.commit(PutPrinter(strict, 1))
    upload = await door.begin(submission(hold_until="night", hold=True))
    await upload.write(b"x")
    job = await spool.reader.job((await upload.commit()).job_id)
    assert job.reasons == (
        JobReason.JOB_HOLD_UNTIL_SPECIFIED,
        JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH,
    )


async def test_a_job_gets_several_documents(spool, opening):
    """Whatever their size and format; each is kept, and the last one lets the job go."""
    bodies = [b"small", LARGE, b"%PDF-1.7", LARGE[::-1]]
    accepted = await opening.open(submission(copies=2))
    for number, body in enumerate(bodies, 1):
        upload = await opening.begin_document(accepted.job_id, SENDER, format="text/plain")
        upload.last = number == len(bodies)
        await upload.write(body)
        if number == 2:  # PJL of its own, which is nothing to the others
            upload.submission.copies, upload.submission.copies_embedded = 3, True
        sent = await upload.commit()
    assert sent.state is JobState.PENDING
    job = await spool.reader.job(accepted.job_id)
    assert (job.documents, job.bytes_total) == (4, sum(map(len, bodies)))
    assert [one.stored for one in await spool.reader.documents(job.id)] == [
        "inline", "file", "inline", "file",
    ]  # fmt: skip
    told = []
    for body in bodies:
        job = await spool.reader.job(job.id)
        source = await spool.documents.open(job)
        assert source.read_at(0, len(body) + 1) == body
        source.close()
        told.append((job.copies, job.copies_embedded))
        device_id = spool.printer.device_id
        number = await spool.journal.commit(StartAttempt(job.id, device_id, spool.printer.id, 1))
        end = EndAttempt(job.id, number, Delivered({}), JobEvent.DELIVER, (), 1)
        await spool.journal.commit(end)
    assert told == [(2, False), (3, True), (2, False), (2, False)]
    assert len(files(spool.documents.dir)) == 2
    gone = await spool.journal.commit(RemoveJobs((job.id,), 1))
    assert len(gone) == 2


async def test_a_document_that_broke_off_is_none(spool, opening):
    """The documents before it stay; the same one sent again is the next."""
    accepted = await opening.open(submission())
    for body in (b"one", b"two"):
        broken = await opening.begin_document(accepted.job_id, SENDER)
        await broken.write(LARGE)
        await broken.interrupt("reset")
        upload = await opening.begin_document(accepted.job_id, SENDER)
        upload.last = body == b"two"
        await upload.write(body)
        await upload.commit()
    job = await spool.reader.job(accepted.job_id)
    assert (job.documents, job.bytes_total, job.state) == (2, 6, JobState.PENDING)


async def test_too_many_documents_are_refused_before_the_body(spool, opening):
    """The job stays open, and can be closed with those that it has."""
    accepted = await opening.open(submission())
    for _ in range(DOCUMENTS_MAX):
        await spool.attach(accepted.job_id, submitter=SENDER, last=False)
    with pytest.raises(OperationError) as refusal:
        await opening.begin_document(accepted.job_id, SENDER)
    assert refusal.value.code == "too-large"
    assert not opening.is_receiving(accepted.job_id)
    assert (await opening.close(accepted.job_id, SENDER)).state is JobState.PENDING
