"""Jobs that are made before their document comes, and holds that end by themselves."""

from __future__ import annotations

import shutil
import sqlite3
from importlib import resources
from uuid import uuid4

import pytest

from spoold.codec.record import GENESIS
from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.transitions import JobEvent
from spoold.spool import sqlite
from spoold.spool.store import (
    ChangeJob,
    CloseJob,
    JobFilter,
    JobMoved,
    RemoveJobs,
    RemovePrinter,
    StartAttempt,
)
from support.chain import verified

INCOMING = (JobReason.JOB_INCOMING,)
HELD = JobReason.JOB_HOLD_UNTIL_SPECIFIED


async def refused(spool, change) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await spool.journal.commit(change)
    return caught.value


async def test_an_open_job_survives_and_gets_its_document(tmp_path, spool_at):
    """It is durable before its document came, over a crash, and prints only after it."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with spool_at(before) as spool:
        printer = await spool.add_printer()
        opened = await spool.open_job(printer, "mara", title="Letter", deadline_us=900)
        assert opened.state is JobState.PENDING_HELD
        shutil.copytree(before, after)  # what a kill leaves
    async with spool_at(after) as spool:
        job = await spool.reader.job(opened.job_id)
        assert (job.state, job.reasons, job.is_incoming) == (JobState.PENDING_HELD, INCOMING, True)
        assert (job.document.stored, job.document.size, job.title) == ("none", 0, "Letter")
        assert await spool.reader.waiting() == []
        assert await spool.reader.overdue(899, 10) == []
        assert await spool.reader.overdue(900, 10) == [job.id]
        heard = []
        spool.journal.listen(heard.extend)
        attached = await spool.attach(job.id, b"a letter")
        assert (attached.job_id, attached.uuid, attached.state) == (
            job.id,
            opened.uuid,
            JobState.PENDING,
        )
        assert heard == [
            JobMoved(
                job.id, job.uuid, printer.id, JobState.PENDING_HELD, JobState.PENDING, (), 50,
                "mara", 8, attached.position, printer.id,
            )
        ]  # fmt: skip
    async with spool_at(after) as spool:
        job = await spool.reader.job(opened.job_id)
        assert (job.state, job.reasons, job.document.size) == (JobState.PENDING, (), 8)
        assert await spool.reader.document_body(job.id) == b"a letter"
        assert [one.job_id for one in await spool.reader.waiting()] == [job.id]
        assert await spool.reader.overdue(1 << 60, 10) == []
        assert await verified(spool.reader) == spool.journal.head


async def test_only_the_submitter_brings_documents_and_only_to_an_open_job(spool):
    """Somebody else is refused; so is one whose turn is over, or for a job that is not open."""
    printer = await spool.add_printer()
    opened = await spool.open_job(printer)
    head = spool.journal.head
    with pytest.raises(OperationError) as refusal:
        await spool.attach(opened.job_id, submitter="address:192.0.2.9")
    assert refusal.value.code == "forbidden"
    error = await refused(spool, CloseJob(opened.job_id, 1, "address:192.0.2.9"))
    assert error.code == "forbidden"
    assert spool.journal.head == head
    await spool.attach(opened.job_id, last=False, deadline_us=77)
    assert (await spool.reader.job(opened.job_id)).is_incoming
    assert await spool.reader.overdue(77, 10) == [opened.job_id]
    with pytest.raises(OperationError) as refusal:
        await spool.attach(opened.job_id, number=1)
    assert refusal.value.code == "not-possible"
    closed = await spool.journal.commit(CloseJob(opened.job_id, 1, "address:127.0.0.1"))
    assert closed.state is JobState.PENDING
    for job_id in (opened.job_id, (await spool.add_job(printer)).job_id):
        with pytest.raises(OperationError) as refusal:
            await spool.attach(job_id)
        assert refusal.value.code == "not-possible"
        assert (await refused(spool, CloseJob(job_id, 1))).code == "not-possible"


async def test_an_empty_job_is_aborted_and_never_retried(spool):
    """Closed, or out of time, without a document: aborted, with what was said of it."""
    printer = await spool.add_printer()
    opened = await spool.open_job(printer, deadline_us=500)
    early = CloseJob(opened.job_id, 499, message="No document came.", is_overdue=True)
    assert (await refused(spool, early)).code == "not-possible"
    late = CloseJob(opened.job_id, 500, message="No document came.", is_overdue=True)
    assert (await spool.journal.commit(late)).state is JobState.ABORTED
    job = await spool.reader.job(opened.job_id)
    assert (job.reasons, job.message) == ((JobReason.ABORTED_BY_SYSTEM,), "No document came.")
    assert job.finished_us == 500
    error = await refused(spool, ChangeJob(job.id, JobEvent.RETRY, 1))
    assert "never came" in error.message
    assert await spool.reader.kept_before(501, 9) == []
    await spool.journal.commit(RemoveJobs((job.id,), 1, documents_only=True))
    assert (await spool.reader.job(job.id)).document.stored == "none"
    await spool.journal.commit(RemoveJobs((job.id,), 1))
    assert await spool.reader.jobs(JobFilter()) == []


@pytest.mark.parametrize(
    "event", [JobEvent.RELEASE, JobEvent.ASSUME, JobEvent.REPRINT, JobEvent.SUBMIT]
)
async def test_an_open_job_does_not_print(spool, event):
    """Whatever would let it print, or say that it did, waits for the document."""
    printer = await spool.add_printer()
    opened = await spool.open_job(printer)
    error = await refused(spool, ChangeJob(opened.job_id, event, 1))
    assert (error.code, "still to come" in error.message) == ("not-possible", True)
    start = StartAttempt(opened.job_id, printer.device_id, printer.id, 1)
    assert (await refused(spool, start)).code == "not-possible"
    assert (await refused(spool, RemovePrinter(printer.id, 1))).code == "not-possible"


async def test_a_submit_is_no_way_to_release_a_held_job(spool):
    """Only the document of an open job submits it."""
    job = await spool.add_job(await spool.add_printer())
    await spool.journal.commit(ChangeJob(job.job_id, JobEvent.HOLD, 1))
    error = await refused(spool, ChangeJob(job.job_id, JobEvent.SUBMIT, 1))
    assert error.code == "not-possible"


async def test_an_open_job_that_is_canceled_or_moved(spool):
    """Cancel ends its wait; a move takes the open job along."""
    printer, other = await spool.add_printer(), await spool.add_printer("other")
    first, second = await spool.open_job(printer), await spool.open_job(printer)
    await spool.journal.commit(ChangeJob(first.job_id, JobEvent.CANCEL, 1))
    assert await spool.reader.overdue(1 << 60, 10) == [second.job_id]
    move = ChangeJob(second.job_id, JobEvent.MOVE, 1, printer_id=other.id)
    assert await spool.journal.commit(move) is JobState.PENDING_HELD
    assert (await spool.reader.job(second.job_id)).reasons == INCOMING
    await spool.attach(second.job_id)
    assert [one.printer_id for one in await spool.reader.waiting()] == [other.id]


async def test_the_same_uuid_opens_one_job(spool):
    """A repeated Create-Job gets the first answer, before and after its document came."""
    printer = await spool.add_printer()
    uuid = uuid4()
    first = await spool.open_job(printer, uuid=uuid)
    again = await spool.open_job(printer, uuid=uuid)
    assert (again.job_id, again.is_duplicate) == (first.job_id, True)
    with pytest.raises(OperationError) as refusal:
        await spool.add_job(printer, uuid=uuid)
    assert refusal.value.code == "conflict"
    await spool.attach(first.job_id)
    again = await spool.open_job(printer, uuid=uuid)
    assert (again.job_id, again.is_duplicate) == (first.job_id, True)
    assert await spool.reader.overdue(1 << 60, 10) == []
    assert (await spool.add_job(printer, uuid=uuid)).is_duplicate


async def test_a_hold_that_was_asked_for_begins_when_the_document_came(spool):
    """An open job keeps the hold that its sender asked for; the printer may add its own."""
    printer = await spool.add_printer()
    opened = await spool.open_job(
        printer, reasons=(*INCOMING, HELD), hold_until="time", release_us=4000
    )
    assert await spool.reader.released_by(4000, 10) == [opened.job_id]
    await spool.attach(opened.job_id, reasons=(JobReason.JOB_HELD_ON_CREATE.value,))
    job = await spool.reader.job(opened.job_id)
    assert (job.state, job.reasons) == (
        JobState.PENDING_HELD,
        (HELD, JobReason.JOB_HELD_ON_CREATE),
    )
    assert (job.hold_until, job.release_us) == ("time", 4000)


async def test_a_hold_is_kept_until_the_job_is_released(tmp_path, spool_at):
    """A job that was accepted held, or held later, says until when; releasing forgets it."""
    async with spool_at(tmp_path) as spool:
        printer = await spool.add_printer()
        accepted = await spool.add_job(
            printer,
            state=JobState.PENDING_HELD,
            reasons=(HELD.value,),
            hold_until="night",
            release_us=7000,
        )
        later = await spool.add_job(printer)
        await spool.journal.commit(
            ChangeJob(
                later.job_id, JobEvent.HOLD, 1, reasons=(HELD,), hold_until="time", release_us=5000
            )
        )
    async with spool_at(tmp_path) as spool:
        job = await spool.reader.job(accepted.job_id)
        assert (job.hold_until, job.release_us) == ("night", 7000)
        assert await spool.reader.released_by(4999, 10) == []
        assert await spool.reader.released_by(7000, 10) == [later.job_id, job.id]
        move = ChangeJob(job.id, JobEvent.MOVE, 1, reasons=(HELD,), printer_id=printer.id)
        await spool.journal.commit(move)
        assert (await spool.reader.job(job.id)).hold_until == "night"
        await spool.journal.commit(ChangeJob(job.id, JobEvent.RELEASE, 2))
        await spool.journal.commit(ChangeJob(later.job_id, JobEvent.CANCEL, 2))
        job = await spool.reader.job(job.id)
        assert (job.state, job.hold_until, job.release_us) == (JobState.PENDING, "", None)
        assert await spool.reader.released_by(1 << 60, 10) == []


async def test_a_spool_of_version_2_is_taken_over(tmp_path, spool_at):
    """Jobs of a spool from before open jobs are there, listed and printable as ever."""
    scripts = {
        int(one.name[:4]): one.read_text(encoding="utf-8")
        for one in resources.files("spoold.spool.schema").iterdir()
        if one.name.endswith(".sql")
    }
    db = sqlite3.connect(tmp_path / "spool.db")
    db.executescript(
        f"PRAGMA page_size = {sqlite.PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL; "
        f"PRAGMA application_id = {sqlite.APPLICATION_ID}; {scripts[1]} {scripts[2]} "
        "PRAGMA user_version = 2;"
    )
    key = bytes(16)
    db.execute(
        "INSERT INTO chain (journal, incarnation, is_own, started_us, position, hash, "
        "anchor_position, anchor_hash, last_job_id) VALUES (?, ?, 1, 1, 0, ?, 0, ?, 3)",
        (key, key, GENESIS, GENESIS),
    )
    db.execute("INSERT INTO person (key, name) VALUES (?, 'ada')", (key,))
    db.execute("INSERT INTO device VALUES (1, ?, 'file:///nowhere', X'80')", (key,))
    db.execute("INSERT INTO printer VALUES (1, ?, 'default', 1, X'80')", (key,))
    for id_, state, finished in ((1, 9, 50), (2, 3, None), (3, 4, None)):
        db.execute(
            "INSERT INTO job VALUES (?, ?, 1, ?, '', '', 1, 'claimed', '', 'uid:0', 't', '', "
            "'raw', 50, 1, 0, NULL, 0, 1, 1, ?, 0, 1)",
            (id_, id_.to_bytes(16, "big"), state, finished),
        )
        db.execute(
            "INSERT INTO document VALUES (? * 4096 + 1, 1, 'blake3:00', 'text/plain', '', '', "
            "'inline', '', X'41')",
            (id_,),
        )
    db.commit()
    db.close()
    async with spool_at(tmp_path) as spool:
        jobs = await spool.reader.jobs(JobFilter())
        assert [(job.id, job.hold_until, job.release_us) for job in jobs] == [
            (1, "", None),
            (2, "", None),
            (3, "", None),
        ]
        assert [one.job_id for one in await spool.reader.waiting()] == [2]
        assert await spool.reader.counts() == {1: {JobState.PENDING: 1, JobState.PENDING_HELD: 1}}
        (printer,) = await spool.reader.printers()
        assert await spool.journal.commit(StartAttempt(2, 1, printer.id, 5)) == 1
        opened = await spool.open_job(printer)
        assert opened.job_id == 4
        await spool.attach(opened.job_id)
