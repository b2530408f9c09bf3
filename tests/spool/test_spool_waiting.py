"""Changes of jobs that wait: holds that end, attributes, places, and copies of jobs."""

from __future__ import annotations

import pytest

from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.outcome import Delivered
from spoold.model.person import Owner
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    ChangeJob,
    CopyJob,
    EndAttempt,
    EndHold,
    JobMoved,
    JobPlaced,
    NewDocument,
    PlaceJob,
    RemoveJobs,
    SetJob,
    StartAttempt,
)
from support.chain import verified

HELD = JobReason.JOB_HOLD_UNTIL_SPECIFIED.value
ON_CREATE = JobReason.JOB_HELD_ON_CREATE.value


async def refused(spool, change) -> OperationError:
    head = spool.journal.head
    with pytest.raises(OperationError) as caught:
        await spool.journal.commit(change)
    assert spool.journal.head == head
    return caught.value


async def hold(spool, printer, *reasons, **fields):
    return await spool.add_job(printer, state=JobState.PENDING_HELD, reasons=reasons, **fields)


async def print_it(spool, printer, job_id, now_us=5):
    start = StartAttempt(job_id, printer.device_id, printer.id, now_us)
    number = await spool.journal.commit(start)
    end = EndAttempt(job_id, number, Delivered({"bytes": 5}), JobEvent.DELIVER, (), now_us)
    assert await spool.journal.commit(end) is JobState.COMPLETED


async def test_a_hold_ends_when_it_is_due_and_not_before(spool):
    """What asks too early, or for another reason, is refused; then the job waits to print."""
    printer = await spool.add_printer()
    job = await hold(spool, printer, HELD, hold_until="night", release_us=100)
    early = EndHold(job.job_id, HELD, 99, is_due=True)
    assert (await refused(spool, early)).code == "not-possible"
    assert (await refused(spool, EndHold(job.job_id, ON_CREATE, 100))).code == "not-possible"
    due = EndHold(job.job_id, HELD, 100, is_due=True)
    assert await spool.journal.commit(due) is JobState.PENDING
    found = await spool.reader.job(job.job_id)
    assert (found.reasons, found.hold_until, found.release_us) == ((), "", None)
    assert (await refused(spool, due)).code == "not-possible"


async def test_a_job_that_was_held_anew_meanwhile_stays_held(spool):
    """A hold for ever is never due, whatever the one before it said."""
    printer = await spool.add_printer()
    job = await hold(spool, printer, HELD, hold_until="night", release_us=100)
    again = ChangeJob(job.job_id, JobEvent.HOLD, 50, reasons=(HELD,), hold_until="indefinite")
    await spool.journal.commit(again)
    assert await spool.reader.released_by(1 << 60, 10) == []
    await refused(spool, EndHold(job.job_id, HELD, 100, is_due=True))
    assert (await spool.reader.job(job.job_id)).hold_until == "indefinite"


async def test_a_job_is_held_as_long_as_one_reason_is_left(spool):
    """The end of one hold is not the end of another, nor of what an open job waits for."""
    printer = await spool.add_printer()
    job = await hold(
        spool, printer, HELD, ON_CREATE, hold_until="night", release_us=100, message="why"
    )
    state = await spool.journal.commit(EndHold(job.job_id, HELD, 100))
    found = await spool.reader.job(job.job_id)
    assert (state, found.reasons, found.message) == (JobState.PENDING_HELD, (ON_CREATE,), "why")
    assert found.hold_until == ""
    assert await spool.journal.commit(EndHold(job.job_id, ON_CREATE, 100)) is JobState.PENDING
    opened = await spool.open_job(
        printer, reasons=("job-incoming", HELD), hold_until="night", release_us=100
    )
    await spool.journal.commit(EndHold(opened.job_id, HELD, 100))
    assert (await spool.reader.job(opened.job_id)).reasons == ("job-incoming",)


async def test_whether_a_job_can_be_paid_is_found_out_again_when_a_hold_ends(spool):
    """Money that came while it was held for something else, too, has moved nothing."""
    printer = await spool.add_printer()
    job = await hold(spool, printer, "account-limit-reached", HELD)
    assert await spool.journal.commit(EndHold(job.job_id, HELD, 100)) is JobState.PENDING_HELD
    assert (await spool.reader.job(job.job_id)).reasons == ("job-being-counted",)


async def test_attributes_change_while_a_job_waits(tmp_path, spool_at):
    """Title, priority, copies and template attributes; what is not named stays, None takes away."""
    async with spool_at(tmp_path) as spool:
        printer = await spool.add_printer()
        job = await spool.add_job(
            printer, title="Old", attributes={"sides": "one-sided", "media": "iso_a4_210x297mm"}
        )
        heard = []
        spool.journal.listen(heard.extend)
        change = SetJob(
            job.job_id,
            7,
            title="New",
            priority=80,
            copies=3,
            attributes={"sides": None, "number-up": 2},
        )
        assert await spool.journal.commit(change) is JobState.PENDING
        assert heard == [
            JobMoved(
                job.job_id, job.uuid, printer.id, JobState.PENDING, JobState.PENDING, (), 80, "",
                5, spool.journal.head, printer.id,
            )
        ]  # fmt: skip
        await spool.journal.commit(SetJob(job.job_id, 8, copies=4))
        (record,) = await spool.reader.records(spool.journal.head - 1, 1)
        assert (record.kind, record.personal["title"]) == ("job-attributes-set", "New")
        assert "New" not in str(record.payload)
    async with spool_at(tmp_path) as spool:
        found = await spool.reader.job(job.job_id)
        assert (found.title, found.priority, found.copies) == ("New", 80, 4)
        assert found.attributes == {"media": "iso_a4_210x297mm", "number-up": 2}
        (waiting,) = await spool.reader.waiting()
        assert waiting.priority == 80
        assert await verified(spool.reader) == spool.journal.head


async def test_what_prints_or_is_printed_does_not_change(spool):
    """Once bytes may have left a job is what it was; so is one that counts its own copies."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    await spool.journal.commit(StartAttempt(job.job_id, printer.device_id, printer.id, 1))
    assert (await refused(spool, SetJob(job.job_id, 2, priority=1))).code == "not-possible"
    counting = await spool.add_job(printer, copies=2, copies_embedded=True)
    assert (await refused(spool, SetJob(counting.job_id, 2, copies=3))).code == "not-possible"
    await spool.journal.commit(SetJob(counting.job_id, 2, copies=2, title="x"))
    large = SetJob(counting.job_id, 2, attributes={"a": "x" * 9000})
    assert (await refused(spool, large)).code == "too-large"


async def test_a_promoted_job_comes_before_all_others(spool):
    """The last one that was promoted comes first; to others it has the highest priority."""
    printer, other = await spool.add_printer(), await spool.add_printer("other")
    await spool.add_job(other, priority=100)
    first = await spool.add_job(printer, priority=100)
    second, third = await spool.add_job(printer), await spool.add_job(printer)
    heard = []
    spool.journal.listen(heard.extend)
    await spool.journal.commit(PlaceJob(second.job_id, 1))
    await spool.journal.commit(PlaceJob(third.job_id, 2))
    priorities = {one.job_id: one.priority for one in heard if isinstance(one, JobMoved)}
    assert priorities == {second.job_id: 101, third.job_id: 102}
    assert (await spool.reader.job(third.job_id)).job_priority == 100
    await spool.journal.commit(ChangeJob(first.job_id, JobEvent.HOLD, 3))
    assert (await refused(spool, PlaceJob(first.job_id, 4))).code == "not-possible"


async def test_a_job_can_follow_another_of_its_printer(tmp_path, spool_at):
    """The job that it follows must wait or print there; after a restart it still follows."""
    async with spool_at(tmp_path) as spool:
        printer, other = await spool.add_printer(), await spool.add_printer("other")
        first, second = await spool.add_job(printer), await spool.add_job(printer)
        elsewhere = await spool.add_job(other)
        heard = []
        spool.journal.listen(heard.extend)
        await spool.journal.commit(PlaceJob(second.job_id, 1, after_id=first.job_id))
        assert heard[-1] == JobPlaced(second.job_id, printer.id, first.job_id)
        for after_id, code in (
            (elsewhere.job_id, "not-possible"),
            (second.job_id, "bad-request"),
            (99, "not-found"),
        ):
            error = await refused(spool, PlaceJob(second.job_id, 1, after_id=after_id))
            assert error.code == code
    async with spool_at(tmp_path) as spool:
        assert await spool.reader.following() == [(second.job_id, first.job_id, JobState.PENDING)]
        await spool.journal.commit(StartAttempt(first.job_id, printer.device_id, printer.id, 1))
        third = await spool.add_job(printer)
        heard = []
        spool.journal.listen(heard.extend)
        # The job that it is to follow prints already: it is next.
        await spool.journal.commit(PlaceJob(third.job_id, 2, after_id=first.job_id))
        assert heard[-1] == JobPlaced(third.job_id, printer.id, None)
        assert (await spool.reader.job(third.job_id)).priority == 101


def copy_of(spool, printer, from_id, **fields):
    fields = {"document": NewDocument(0, ""), "submitter": "user:1", "owner": Owner("ada")} | fields
    return CopyJob(
        printer_id=printer.id, now_us=spool.wall_clock(), from_id=from_id, intake="ipp", **fields
    )


async def test_a_copy_is_a_job_of_its_own_with_the_same_bytes(spool):
    """It outlives the job that it was made from."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer, b"a letter")
    await print_it(spool, printer, job.job_id)
    made = await spool.journal.commit(copy_of(spool, printer, job.job_id, title="Again"))
    await spool.journal.commit(RemoveJobs((job.job_id,), 9))
    found = await spool.reader.job(made.job_id)
    assert (found.state, found.title, found.document.size) == (JobState.PENDING, "Again", 8)
    assert found.uuid != job.uuid
    assert await spool.reader.document_body(made.job_id) == b"a letter"


async def test_without_its_document_no_job_is_copied(spool):
    """A document that was removed, never came, or lies in a file that nobody named again."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    await print_it(spool, printer, job.job_id)
    await spool.journal.commit(RemoveJobs((job.job_id,), 9, documents_only=True))
    opened = await spool.open_job(printer)
    for from_id in (job.job_id, opened.job_id, 99):
        error = await refused(spool, copy_of(spool, printer, from_id))
        assert error.code == "not-possible"


async def test_a_large_document_is_shared_until_nobody_has_it(spool):
    """Two jobs, two names, one content: removing one leaves the other."""
    printer = await spool.add_printer()
    body = bytes(range(256)) * 2000
    incoming = spool.documents.begin("")
    await incoming.write(body)
    document = await incoming.keep("text/plain")
    from spoold.spool.store import AcceptJob

    job = await spool.journal.commit(
        AcceptJob(printer.id, Owner("ada"), "user:1", document, spool.wall_clock())
    )
    file = spool.documents.share(document.file)
    assert file != document.file
    shared = NewDocument(0, "", file=file)
    made = await spool.journal.commit(copy_of(spool, printer, job.job_id, document=shared))
    await print_it(spool, printer, job.job_id)
    for name in await spool.journal.commit(RemoveJobs((job.job_id,), 9)):
        spool.documents.remove(name)
    found = await spool.reader.job(made.job_id)
    source = await spool.documents.open(found)
    assert source.read_at(0, len(body) + 1) == body
    source.close()
    assert found.document.digest == document.digest
