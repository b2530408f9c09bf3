"""Accepting jobs: cancelled anywhere, an upload leaks nothing."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.spool.store import AddRecord, JobFilter
from support.submitting import (
    LARGE,
    SMALL,
    digest_of,
    files,
    left_over,
    stored,
    submission,
    submit,
    write,
)


class Cut(trio.abc.Instrument):
    """Cancels `scope` when the task that made this has waited for the n-th time."""

    def __init__(self, scope, number):
        self.scope = scope
        self.left = number
        self.task = trio.lowlevel.current_task()
        self.has_cut = number == 0
        if self.has_cut:
            scope.cancel()

    def after_task_step(self, task):
        if task is self.task and not self.has_cut:
            self.left -= 1
            if self.left == 0:
                self.has_cut = True
                self.scope.cancel()


async def for_each_checkpoint(run, check):
    """`run` cancelled before it begins, at its first checkpoint, its second, and so on.

    `check` is called after each, with what `run` returned (None when it was cut). Ends, returning
    how many there were, after the run that ended by itself.
    """
    for number in range(1000):
        result = None
        with trio.CancelScope() as scope:
            cut = Cut(scope, number)
            trio.lowlevel.add_instrument(cut)
            try:
                result = await run()
            finally:
                trio.lowlevel.remove_instrument(cut)
        await check(result)
        if not cut.has_cut:
            return number
    raise AssertionError("it never ended")


@pytest.mark.parametrize("has_uuid", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["row", "file"])
async def test_cancelled_anywhere_an_upload_leaks_nothing(spool, door, body, has_uuid):
    """Every document on the disk is a job's or resumable; no descriptor, promise or name stays."""
    await submit(door, body)
    before = left_over(spool, door)
    uuids = []
    resumable = 0

    async def run():
        uuids.append(uuid4() if has_uuid else None)
        upload = None
        try:
            upload = await door.begin(submission(uuids[-1], size=len(body)))
            await write(upload, body)
            await trio.lowlevel.checkpoint()
            return await upload.commit(len(body), digest_of(body))
        finally:
            if upload is not None:
                await (upload.suspend() if has_uuid else upload.abandon())

    async def check(accepted):
        nonlocal resumable
        # What the journal took before the cancel is committed, and heard of, after this.
        await spool.journal.commit(AddRecord("node-started", {}, 1))
        assert left_over(spool, door) == before
        jobs = await spool.reader.jobs(JobFilter(limit=1000))
        for job in jobs:
            assert await stored(spool, job) == body
        if accepted is not None:
            assert accepted.job_id in {job.id for job in jobs}
        named = {row[0] for row in await spool.reader.document_files("", 1000)}
        assert files(spool.documents.dir) == named
        waiting = files(spool.documents.incoming_dir)
        assert has_uuid or not waiting
        resumable += len(waiting)
        if has_uuid:  # the client that got no answer comes again
            first = [job for job in jobs if job.uuid == uuids[-1]]
            again = await submit(door, body, uuids[-1])
            assert again.is_duplicate == bool(first)
            assert files(spool.documents.incoming_dir) == set()

    count = await for_each_checkpoint(run, check)
    assert count > 2
    assert bool(resumable) == (has_uuid and body is LARGE)
    ids = [job.id for job in await spool.reader.jobs(JobFilter(limit=1000))]
    assert ids == list(range(1, len(ids) + 1))


async def test_cancelled_anywhere_a_resume_leaks_nothing(spool, door):
    """Also while what was stored is read again, or another connection yields."""
    uuid = uuid4()
    upload = await door.begin(submission(uuid))
    await upload.write(LARGE[:1_000_000])
    await upload.suspend()
    before = left_over(spool, door)
    others = []

    async def run():
        others.append(await door.begin(submission(uuid)))
        upload = await door.begin(submission(uuid))
        await upload.suspend()
        return upload

    async def check(_):
        while others:
            await others.pop().suspend()
        assert left_over(spool, door) == before
        upload = await door.begin(submission(uuid))
        assert upload.offset == 1_000_000
        await upload.suspend()

    assert await for_each_checkpoint(run, check) > 3


async def test_cancelled_anywhere_an_interruption_keeps_what_came_or_nothing(spool, door):
    """A held job is whole as far as it goes, or there is none."""
    before = left_over(spool, door)

    async def run():
        upload = await door.begin(submission())
        try:
            await write(upload, LARGE)
            return await upload.interrupt("cut")
        finally:
            await upload.abandon()

    async def check(_):
        assert left_over(spool, door) == before
        assert files(spool.documents.incoming_dir) == set()
        jobs = await spool.reader.jobs(JobFilter())
        assert len(files(spool.documents.dir)) == len(jobs)
        for job in jobs:
            assert await stored(spool, job) == LARGE

    assert await for_each_checkpoint(run, check) > 2
