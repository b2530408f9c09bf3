"""A disk that is really full: new jobs are refused, control goes on, and nothing is torn."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest
import trio

from spoold.intake import acceptance as acceptance_module
from spoold.intake.acceptance import Acceptance
from spoold.intake.submission import Submission
from spoold.model.errors import OperationError, SpoolError, SpoolFull, StoreFailed
from spoold.model.job import JobState
from spoold.model.outcome import Delivered, InDoubt
from spoold.model.person import NOBODY
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    AcceptJob,
    AddRecord,
    ChangeJob,
    EndAttempt,
    JobFilter,
    NewDocument,
    RemoveJobs,
    StartAttempt,
)
from support.chain import verified
from support.limits import Limits

MIB = 1024 * 1024
FACT = AddRecord("test-fact", {"what": "x" * 30_000}, 3)  # a few of them need room
LIMITS = Limits(document_bytes_max=1 << 40)


def fill(path, but_bytes=0):
    """Take all the room that is left on the disk of `path`, but for a little."""
    with open(path / "filler", "ab", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while True:
                filler.write(bytes(64 * 1024))
        filler.truncate(filler.tell() - but_bytes)


def accept(printer, body, spool):
    document = NewDocument(len(body), "blake3:00", "text/plain", body)
    return AcceptJob(printer.id, NOBODY, "address:127.0.0.1", document, spool.wall_clock())


async def test_a_full_disk_refuses_jobs_and_nothing_else(small_disk, spool_at):
    """In one group the jobs are refused; the rest is committed out of the reserve."""
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        job = await spool.add_job(printer)
        await spool.journal.call(spool.store.keep_reserve)
        fill(small_disk)
        large = accept(printer, os.urandom(100_000), spool)
        hold = ChangeJob(job.job_id, JobEvent.HOLD, 2)
        answers = await spool.journal.commit_all([large, hold, large, large, large])
        assert [type(one) for one in answers[2:]] == [SpoolFull] * 3
        assert type(answers[0]) is SpoolFull
        assert answers[1] is JobState.PENDING_HELD
        assert not (small_disk / "reserve").exists()
        (small_disk / "filler").unlink()
        later = await spool.journal.commit(large)
        assert later.job_id == job.job_id + 1  # a number that nobody was told is not used up
        assert later.position == spool.journal.head
        assert await verified(spool.reader) == spool.journal.head
    async with spool_at(small_disk) as spool:
        assert [one.id for one in await spool.reader.jobs(JobFilter())] == [1, 2]


async def test_without_any_room_everything_is_refused_and_nothing_stops(small_disk, spool_at):
    """When the reserve is used up, too, whoever asks hears so; later it goes on."""
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        job = await spool.add_job(printer)
        fill(small_disk)
        hold = ChangeJob(job.job_id, JobEvent.HOLD, 2, "uid:0")
        answers = await spool.journal.commit_all([hold, *[FACT] * 20])
        assert [type(one) for one in answers] == [SpoolFull] * 21
        with pytest.raises(SpoolFull, match="the disk is full"):
            await spool.add_job(printer, os.urandom(100_000))
        (small_disk / "filler").unlink()
        assert await spool.journal.commit(hold) is JobState.PENDING_HELD
        assert await verified(spool.reader) == spool.journal.head


async def test_what_a_device_did_waits_for_room(small_disk, spool_at):
    """The end of an attempt is not lost to a full disk; the one who reports it is kept waiting."""
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        job = await spool.add_job(printer)
        number = await spool.journal.commit(
            StartAttempt(job.job_id, printer.device_id, printer.id, 2)
        )
        fill(small_disk)
        end = EndAttempt(job.job_id, number, Delivered({}), JobEvent.DELIVER, (), 3)
        handed = spool.journal.hand_over((end, *[FACT] * 20))
        answers = await spool.journal.commit_all([FACT] * 20)
        assert [type(one) for one in answers] == [SpoolFull] * 20
        with trio.move_on_after(0.1) as waiting:
            await handed.wait()
        assert waiting.cancelled_caught
        (small_disk / "filler").unlink()
        with trio.fail_after(30):
            assert (await handed.wait())[0] is JobState.COMPLETED


async def test_a_spool_opens_on_a_full_disk(small_disk, spool_at):
    """The reserve is what a start may use, so that what waits can be looked at and printed."""
    async with spool_at(small_disk) as spool:
        await spool.add_job(await spool.add_printer())
        await spool.journal.call(spool.store.keep_reserve)
    fill(small_disk)
    async with spool_at(small_disk) as spool:
        assert len(await spool.reader.jobs(JobFilter())) == 1
    fill(small_disk)  # what it used is not kept from others
    with pytest.raises(SpoolFull, match="the disk is full"):
        async with spool_at(small_disk):
            pass


async def test_a_full_disk_takes_no_document_for_an_open_job(small_disk, spool_at):
    """Bringing a document needs the room that a new job needs; the job stays open for it."""
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        opened = await spool.open_job(printer)
        await spool.journal.call(spool.store.keep_reserve)
        fill(small_disk)
        with pytest.raises(SpoolFull):
            await spool.attach(opened.job_id, os.urandom(100_000))
        job = await spool.reader.job(opened.job_id)
        assert (job.is_incoming, job.document.stored) == (True, "none")
        (small_disk / "filler").unlink()
        assert (await spool.attach(opened.job_id)).state is JobState.PENDING


async def test_what_the_writer_remembers_survives_a_full_disk(small_disk, spool_at):
    """After a transaction that was rolled back no cache says what never became true."""
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        job = await spool.add_job(printer, owner="mara")
        await spool.journal.call(spool.store.keep_reserve)
        fill(small_disk)
        jobs = [accept(printer, os.urandom(100_000), spool) for _ in range(4)]
        start = StartAttempt(job.job_id, printer.device_id, printer.id, 2)
        answers = await spool.journal.commit_all([start, *jobs])
        assert answers[0] == 1  # the number of the one attempt, in spite of two tries
        assert spool.store.active[job.job_id][7] == 1
        end = EndAttempt(job.job_id, 1, Delivered({}), JobEvent.DELIVER, (), 3)
        assert await spool.journal.commit(end) is JobState.COMPLETED
        again = ChangeJob(job.job_id, JobEvent.RETRY, 4)
        assert await spool.journal.commit(again) is JobState.PENDING
        assert len(await spool.reader.attempts(job.job_id)) == 1


async def test_tidying_a_full_disk_is_no_failure(small_disk, spool_at):
    """Freed pages are given back when there is room to do so; until then nothing stops."""
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        body = os.urandom(100_000)
        ids = tuple([(await spool.add_job(printer, body)).job_id for _ in range(20)])
        await spool.journal.commit_all([ChangeJob(id_, JobEvent.CANCEL, 2) for id_ in ids])
        checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
        await spool.journal.call(lambda: spool.store.db.execute(checkpoint).fetchall())
        await spool.journal.commit(RemoveJobs(ids, 3))
        fill(small_disk)
        for _ in range(3):
            await spool.journal.call(spool.store.tidy)
        with pytest.raises(OSError, match="space"):
            await spool.journal.call(spool.store.keep_reserve)
        (small_disk / "filler").unlink()
        assert await spool.add_job(printer)


@pytest.mark.parametrize("announced", [None, 20 * MIB])
async def test_a_document_that_does_not_fit_leaves_nothing(
    small_disk, spool_at, announced, monkeypatch
):
    """Refused at the door when its size is known, else on the way; then its bytes are gone."""
    monkeypatch.setattr(acceptance_module, "SPACE_INTERVAL_S", 3600.0)  # it looks only once
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        limits = LIMITS
        acceptance = Acceptance(
            spool.journal, spool.reader, spool.documents, limits, spool.wall_clock
        )
        await acceptance.start()
        fill(small_disk, but_bytes=6 * MIB)
        descriptors = len(os.listdir("/proc/self/fd"))
        submission = Submission(printer.name, NOBODY, "test", "raw", "", size=announced)
        if announced:
            with pytest.raises(SpoolFull):
                await acceptance.begin(submission)
        else:
            upload = await acceptance.begin(submission)
            for _ in range(5):
                await upload.write(os.urandom(MIB))
            body = os.urandom(12 * MIB)
            with pytest.raises(SpoolFull):
                await upload.write(body)
            await upload.abandon()
        assert list(spool.documents.incoming_dir.iterdir()) == []
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert await spool.reader.jobs(JobFilter()) == []
        assert await spool.add_job(printer)


async def test_a_last_write_that_finds_the_disk_full_leaves_nothing(small_disk, spool_at):
    """The commit writes what is still in memory first; when that fails the file goes, too."""
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        acceptance = Acceptance(
            spool.journal, spool.reader, spool.documents, LIMITS, spool.wall_clock
        )
        await acceptance.start()
        descriptors = len(os.listdir("/proc/self/fd"))
        upload = await acceptance.begin(Submission(printer.name, NOBODY, "test", "raw", ""))
        await upload.write(os.urandom(900_000))  # less than a buffer: nothing is written yet
        fill(small_disk)
        with pytest.raises(SpoolFull):
            await upload.commit()
        assert list(spool.documents.incoming_dir.iterdir()) == []
        assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_a_document_that_was_let_in_has_the_room_that_it_was_promised(
    small_disk, spool_at, monkeypatch
):
    """What has come of an announced document is not counted against it a second time."""
    monkeypatch.setattr(acceptance_module, "SPACE_INTERVAL_S", 0.0)
    async with spool_at(small_disk) as spool:
        printer = await spool.add_printer()
        acceptance = Acceptance(
            spool.journal, spool.reader, spool.documents, LIMITS, spool.wall_clock
        )
        await acceptance.start()
        fill(small_disk, but_bytes=12 * MIB)
        submission = Submission(printer.name, NOBODY, "test", "raw", "", size=9 * MIB)
        upload = await acceptance.begin(submission)
        with pytest.raises(SpoolFull):  # nobody else is let in to that room
            await acceptance.begin(submission)
        for _ in range(9):
            await upload.write(os.urandom(MIB))
        accepted = await upload.commit()
        job = await spool.reader.job(accepted.job_id)
        assert job.document.size == 9 * MIB
        acceptance.check_room(2 * MIB)


async def test_a_witness_that_cannot_be_written_stops_the_store(tmp_path, spool_at):
    """After a commit that the witness did not see nothing may be acknowledged."""

    async def commit():
        async with spool_at(tmp_path) as spool:
            spool.store._witness.close()
            try:
                await spool.add_printer()
            finally:
                spool.store._witness._fd = os.open(os.devnull, os.O_RDONLY)

    with pytest.raises(ExceptionGroup) as failure:
        await commit()
    assert failure.group_contains(StoreFailed)


async def test_a_shortage_of_descriptors_refuses_one_job_and_stops_nobody(spool):
    """A sync that was never tried has not failed."""
    error = OSError(errno.EMFILE, "Too many open files")
    from spoold.spool.flight import disk_error

    assert type(disk_error(error, "sync")) is SpoolError
    assert type(disk_error(OSError(errno.EIO, "I/O error"), "sync")) is StoreFailed


@pytest.mark.parametrize(
    "evidence", [{"said": "x" * 50_000}, {"what": object()}, {"pages": 1 << 80}, {"n": "\udc80"}]
)
async def test_an_attempt_ends_whatever_a_driver_says_of_it(spool, evidence):
    """Odd evidence, reasons and counts of a third party's driver are left out, not the end."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    start = StartAttempt(job.job_id, printer.device_id, printer.id, 2)
    number = await spool.journal.commit(start)
    outcome = InDoubt("\udc80" * 40_000, "\udc80 lost", 1 << 80, evidence)
    reasons = ("job-in-doubt", "y" * 40_000)
    end = EndAttempt(job.job_id, number, outcome, JobEvent.DOUBT, reasons, 3, "\udc80" * 9)
    assert await spool.journal.commit(end) is JobState.PENDING_HELD
    (attempt,) = await spool.reader.attempts(job.job_id)
    assert (attempt.outcome, attempt.bytes_sent) == ("in-doubt", 0)
    assert list(attempt.evidence) == ["not-kept"]
    assert (await spool.reader.job(job.job_id)).reasons[0] == "job-in-doubt"
    assert await verified(spool.reader) == spool.journal.head


async def test_attributes_nested_without_end_are_refused(spool):
    """What no reader could show is not accepted; the writer goes on."""
    printer = await spool.add_printer()
    attributes: dict = {}
    for _ in range(900):
        attributes = {"a": attributes}
    with pytest.raises(OperationError) as refusal:
        await spool.add_job(printer, attributes=attributes)
    assert refusal.value.code == "too-large"
    job = await spool.add_job(printer, attributes={"media-col": {"size": [{"x": 1}]}})
    assert (await spool.reader.job(job.job_id)).attributes["media-col"]["size"] == [{"x": 1}]


async def test_records_of_today_stay_when_those_of_last_month_go(spool):
    """Records go by their own age, not by that of one far before them."""
    day_us = 86_400 * 1_000_000
    old = [AddRecord("test-fact", {}, day_us)] * 10
    new = [AddRecord("test-fact", {}, 40 * day_us)] * 6000
    await spool.journal.commit_all(old)
    await spool.journal.commit_all(new)
    now_us = 60 * day_us
    assert await spool.reader.record_before(10 * day_us, now_us) == 10
    assert await spool.reader.record_before(1, now_us) == 0
    assert await spool.reader.record_before(50 * day_us, now_us) == 6010
    with trio.fail_after(30):
        assert await verified(spool.reader) == 6010


@pytest.mark.parametrize("first", [0, 3])
async def test_a_record_of_the_future_does_not_keep_those_behind_it(spool, first):
    """A clock without a battery shows any year until somebody sets it."""
    day_us = 86_400 * 1_000_000
    days = [1] * first + [4000] * 50 + [2, 3, 40, 4000, 41]
    for day in days:
        await spool.journal.commit(AddRecord("test-fact", {}, day * day_us))
    before = spool.reader.record_before
    assert await before(10 * day_us, 60 * day_us) == first + 52
    assert await before(41 * day_us, 60 * day_us) == first + 53
    # The clock is set back: what is young stays, though it may be of the future now.
    assert await before(1 * day_us, 2 * day_us) == 0
    assert await before(10 * day_us, 1 * day_us) == first
