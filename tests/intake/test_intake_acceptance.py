"""Accepting jobs: one answer to what is sent twice, refusals, resume and take-over."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import JobState
from spoold.model.person import Known, Owner
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, JobFilter, PutPrinter
from support.limits import Limits
from support.submitting import (
    LARGE,
    PIECE,
    SMALL,
    digest_of,
    files,
    left_over,
    stored,
    submission,
    submit,
    write,
)

MUCH = 100 << 20  # more than other tests write meanwhile


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["row", "file"])
async def test_the_same_uuid_gets_the_same_answer_and_leaves_one_file(spool, door, body):
    """Sent again after the answer was lost, a job is one job, with one document."""
    uuid = uuid4()
    first = await submit(door, body, uuid)
    again = await submit(door, body, uuid)
    assert (again.job_id, again.is_duplicate, first.is_duplicate) == (first.job_id, True, False)
    assert len(files(spool.documents.dir)) == (body is LARGE)
    assert left_over(spool, door)[1:] == (0, {}, set())


async def test_the_same_uuid_with_another_document_is_a_conflict(spool, door):
    """The digest tells; the first job stays as it is."""
    uuid = uuid4()
    first = await submit(door, SMALL, uuid)
    for body, fields in ((b"other", {}), (SMALL, {"submitter": "provider:8"})):
        with pytest.raises(OperationError) as refusal:
            await submit(door, body, uuid, **fields)
        assert refusal.value.code == "conflict"
    (job,) = await spool.reader.jobs(JobFilter())
    assert (job.id, await stored(spool, job)) == (first.job_id, SMALL)


async def test_answers_given_again_promise_no_room(spool, door):
    """A thousand repetitions of an accepted job do not fill the spool with promises."""
    uuid = uuid4()
    await submit(door, SMALL, uuid, size=len(SMALL))
    free = spool.documents.space().free_bytes
    door.limits = Limits(reserve_bytes=free - 10 * MUCH)
    for _ in range(5):
        upload = await door.begin(submission(uuid, size=4 * MUCH))
        assert upload.accepted is not None
    assert left_over(spool, door)[1:] == (0, {}, set())
    await (await door.begin(submission(size=4 * MUCH))).abandon()


async def test_a_repetition_is_answered_when_a_new_job_would_be_refused(spool, door):
    """Neither a closed printer nor a full spool turns an accepted job into a refused one."""
    uuid = uuid4()
    first = await submit(door, SMALL, uuid)
    (printer,) = await spool.reader.printers()
    await spool.journal.commit(PutPrinter(replace(printer, accepting=False), 1))
    door.limits = Limits(reserve_bytes=1 << 60)
    assert (await submit(door, SMALL, uuid)).job_id == first.job_id
    with pytest.raises(OperationError) as refusal:
        await submit(door, SMALL, uuid4())
    assert refusal.value.code == "not-accepting"


async def test_too_much_is_refused_announced_or_not(spool, door):
    """An announced size is refused before the first byte, another one as soon as it shows."""
    door.limits = Limits(document_bytes_max=1_000_000)
    with pytest.raises(OperationError, match="larger than 1000000"):
        await door.begin(submission(size=1_000_001))
    upload = await door.begin(submission())
    with pytest.raises(OperationError, match="larger than 1000000"):
        await write(upload, LARGE)
    await upload.abandon()
    assert files(spool.documents.incoming_dir) == set()
    assert left_over(spool, door)[1:] == (0, {}, set())


async def test_room_is_promised_to_one_only(spool, door):
    """Two that fit alone and not together: the second hears it before it sends."""
    free = spool.documents.space().free_bytes
    door.limits = Limits(reserve_bytes=free - 10 * MUCH)
    first = await door.begin(submission(uuid4(), size=6 * MUCH))
    for uuid in (None, uuid4()):
        with pytest.raises(SpoolFull):
            await door.begin(submission(uuid, size=6 * MUCH))
    await first.suspend()
    await (await door.begin(submission(size=6 * MUCH))).abandon()
    assert left_over(spool, door)[1:] == (0, {}, set())


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["row", "file"])
async def test_a_wrong_digest_forgets_what_came(spool, door, body):
    """A document that was changed on the way is sent again from its first byte."""
    uuid = uuid4()
    for size, digest in ((len(body), digest_of(b"")), (len(body) + 1, digest_of(body))):
        upload = await door.begin(submission(uuid))
        assert upload.offset == 0
        await write(upload, body)
        with pytest.raises(OperationError) as refusal:
            await upload.commit(size, digest)
        assert refusal.value.code == "digest-mismatch"
    assert files(spool.documents.incoming_dir) == set()
    assert (await submit(door, body, uuid)).is_duplicate is False


async def test_an_unknown_digest_is_refused_and_promises_nothing(spool, door):
    """Nothing is kept of a submission that cannot be checked."""
    with pytest.raises(OperationError) as refusal:
        await door.begin(submission(size=MUCH, digest_algorithm="md5"))
    assert refusal.value.code == "bad-request"
    assert left_over(spool, door)[1:] == (0, {}, set())


@pytest.mark.parametrize(
    ("printer", "fields", "state", "reason"),
    [
        ({}, {"hold": True}, JobState.PENDING_HELD, "job-hold-until-specified"),
        ({"hold_new_jobs": True}, {}, JobState.PENDING_HELD, "job-held-on-create"),
        ({"least_owner": Known.ASSERTED}, {}, JobState.PENDING_HELD, "owner-not-known-well-enough"),
        (
            {"least_owner": Known.ASSERTED},
            {"owner": Owner("mara", Known.ASSERTED, "desk")},
            JobState.PENDING,
            "",
        ),
    ],
)
async def test_a_printer_says_what_waits_for_a_release(spool, door, printer, fields, state, reason):
    """Held because somebody asked for it, or because nobody knows well enough whose it is."""
    await spool.add_printer("other", **printer)
    accepted = await submit(door, SMALL, uuid4(), printer="other", **fields)
    job = await spool.reader.job(accepted.job_id)
    assert (job.state, " ".join(job.reasons)) == (state, reason)
    assert accepted.state is state


async def test_a_cut_upload_goes_on_where_it_was(spool, door):
    """What is in a file is not sent again; a part that was still in memory is."""
    uuid = uuid4()
    upload = await door.begin(submission(uuid, size=len(LARGE)))
    await upload.write(LARGE[:1_000_000])
    await upload.suspend()
    assert left_over(spool, door)[1:] == (0, {}, set())
    upload = await door.begin(submission(uuid, size=len(LARGE)))
    assert upload.offset == 1_000_000
    await write(upload, LARGE)
    accepted = await upload.commit(len(LARGE), digest_of(LARGE))
    assert await stored(spool, await spool.reader.job(accepted.job_id)) == LARGE
    assert files(spool.documents.incoming_dir) == set()


async def test_another_submitter_cannot_go_on_with_an_upload(spool, door):
    """A uuid is no secret: what is stored belongs to whoever sent it."""
    uuid = uuid4()
    upload = await door.begin(submission(uuid))
    await upload.write(LARGE[:1_000_000])
    await upload.suspend()
    other = await door.begin(submission(uuid, submitter="provider:8"))
    assert other.offset == 0
    await other.abandon()
    assert (await door.begin(submission(uuid))).offset == 1_000_000


async def test_a_second_connection_takes_over(spool, door):
    """The newer of two goes on; the older hears it at its next step and harms nothing."""
    uuid = uuid4()
    old = await door.begin(submission(uuid, size=len(LARGE)))
    await old.write(LARGE[:1_000_000])
    new = await door.begin(submission(uuid, size=len(LARGE)))
    assert new.offset == 1_000_000
    for step in (old.write(b"late"), old.commit(len(LARGE), digest_of(LARGE))):
        with pytest.raises(OperationError) as refusal:
            await step
        assert refusal.value.code == "busy"
    await old.abandon()
    await old.suspend()
    await write(new, LARGE)
    accepted = await new.commit(len(LARGE), digest_of(LARGE))
    assert await stored(spool, await spool.reader.job(accepted.job_id)) == LARGE
    assert left_over(spool, door)[1:] == (0, {}, set())


@pytest.mark.parametrize("steps", range(6))
async def test_who_is_being_taken_over_drops_nothing(spool, door, steps):
    """The older connection hears `busy` while the newer one still waits for its last write."""
    uuid = uuid4()
    old = await door.begin(submission(uuid, size=len(LARGE)))
    await old.write(LARGE[:1_400_000])  # a part of it is on its way to the disk

    async def go_on() -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        with suppress(OperationError):
            await old.write(b"late")
        await old.abandon()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        new = await door.begin(submission(uuid, size=len(LARGE)))
    await write(new, LARGE)
    accepted = await new.commit(len(LARGE), digest_of(LARGE))
    assert await stored(spool, await spool.reader.job(accepted.job_id)) == LARGE
    assert left_over(spool, door)[1:] == (0, {}, set())


@pytest.mark.parametrize("steps", range(12))
async def test_a_take_over_in_the_middle_of_a_commit_is_one_whole_job(spool, door, steps):
    """A client that lost patience during a long sync: one job, its document whole, one answer."""
    uuid = uuid4()
    before = left_over(spool, door)
    old = await door.begin(submission(uuid))
    await write(old, LARGE)
    answers, refusals = [], []

    async def finish(upload):
        try:
            answers.append(await upload.commit(len(LARGE), digest_of(LARGE)))
        except OperationError as error:
            refusals.append(error.code)
        finally:
            await upload.suspend()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish, old)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            new = await door.begin(submission(uuid))
            if new.accepted is None:
                await write(new, LARGE)
            await finish(new)
    assert set(refusals) <= {"busy"}
    assert len({answer.job_id for answer in answers}) == 1
    (job,) = await spool.reader.jobs(JobFilter())
    assert await stored(spool, job) == LARGE
    assert len(files(spool.documents.dir)) == 1
    assert left_over(spool, door) == before


async def test_a_take_over_while_the_last_bytes_are_looked_at_lets_both_go_on(door, monkeypatch):
    """The disk is slow, and the older connection wants to see the end: neither waits for ever."""
    uuid = uuid4()
    may_write, write_at_once = threading.Event(), os.write

    def write_late(fd: int, data: bytes) -> int:
        may_write.wait(30)
        return write_at_once(fd, data)

    old = await door.begin(submission(uuid, size=len(LARGE)))
    monkeypatch.setattr(os, "write", write_late)
    await old.write(LARGE[:1_400_000])
    tails, offsets = [], []

    async def look() -> None:
        tails.append(await old.tail())

    async def take_over() -> None:
        new = await door.begin(submission(uuid, size=len(LARGE)))
        offsets.append(new.offset)
        await new.abandon()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take_over)
        await trio.testing.wait_all_tasks_blocked()
        may_write.set()
    assert tails == [LARGE[:1_400_000][-4096:]]
    assert offsets == [1_400_000]
    with pytest.raises(OperationError, match="another connection"):
        await old.tail()


async def test_many_connections_with_one_job_at_once_are_one_job(spool, door):
    """However they race, there is one job, nobody hangs, and nothing leaks."""
    uuid = uuid4()
    before = left_over(spool, door)
    answers, refusals = [], []

    async def one():
        upload = None
        try:
            upload = await door.begin(submission(uuid, size=len(LARGE)))
            if upload.accepted is None:
                await write(upload, LARGE)
            answers.append(await upload.commit(len(LARGE), digest_of(LARGE)))
        except OperationError as error:
            refusals.append(error.code)
        finally:
            if upload is not None:
                await upload.suspend()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(one)
    assert len({answer.job_id for answer in answers}) == 1
    assert set(refusals) <= {"busy"}
    (job,) = await spool.reader.jobs(JobFilter())
    assert await stored(spool, job) == LARGE
    assert left_over(spool, door) == before


async def test_a_removed_printer_leaves_no_document(spool, door):
    """What the store refuses at the last moment is not left on the disk."""
    from spoold.spool.store import RemovePrinter

    upload = await door.begin(submission())
    await write(upload, LARGE)
    (printer,) = await spool.reader.printers()
    await spool.journal.commit(RemovePrinter(printer.id, 1))
    with pytest.raises(OperationError, match="removed"):
        await upload.commit()
    assert files(spool.documents.dir) == set()
    assert left_over(spool, door)[1:] == (0, {}, set())


async def test_what_came_of_a_broken_submission_is_kept_held(spool, door):
    """Nothing of it is printed, and the reason can be read."""
    upload = await door.begin(submission())
    await upload.write(LARGE[:PIECE])
    accepted = await upload.interrupt("the sender died")
    job = await spool.reader.job(accepted.job_id)
    assert (job.state, job.reasons) == (JobState.PENDING_HELD, ("submission-interrupted",))
    assert await stored(spool, job) == LARGE[:PIECE]
    assert await (await door.begin(submission())).interrupt("nothing came") is None
    await spool.journal.commit(ChangeJob(job.id, JobEvent.RELEASE, 1))
