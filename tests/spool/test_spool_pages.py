"""Pages of listings against a plain sort of all jobs."""

from __future__ import annotations

from random import Random

import pytest

from spoold.model.job import JobState
from spoold.spool import pages
from spoold.spool.pages import Page, PageQuery, Which
from spoold.spool.rows import NUMBER
from spoold.spool.store import JobFilter

OPEN = [JobState.PROCESSING, JobState.PROCESSING_STOPPED, JobState.PENDING, JobState.PENDING_HELD]
DONE = [JobState.COMPLETED, JobState.ABORTED, JobState.CANCELED]
STATES = {
    Which.ALL: OPEN + DONE,
    Which.NOT_COMPLETED: OPEN,
    Which.COMPLETED: DONE,
    **{Which(state.value): [state] for state in [*OPEN, *DONE[1:]]},
}


@pytest.fixture
async def many(spool):
    """Three printers with jobs of every state and of a few users, many of them alike."""
    random = Random(7)
    printers = [await spool.add_printer(f"p{number}") for number in range(3)]
    for _ in range(300):
        await spool.add_job(printers[random.choice([0, 0, 1])], owner=random.choice("aab"))
    rows = []
    for job_id in range(1, 301):
        state = random.choice([*OPEN, *DONE, JobState.PENDING])
        finished = random.randrange(20) if state.is_final else None
        rows.append((NUMBER[state], random.choice([1, 50, 50, 100, 101]), finished, job_id))

    def write():
        sql = "UPDATE job SET state = ?, priority = ?, finished_us = ? WHERE id = ?"
        spool.store.db.executemany(sql, rows)

    await spool.journal.call(write)
    spool.printers = printers
    return spool


def told(jobs, which, printer_id, owner):
    """The jobs in the order in which a listing tells them."""

    def key(job):
        if job.finished_us is not None:
            return (job.printer_id, 9, -job.finished_us, -job.id)
        return (job.printer_id, OPEN.index(job.state), -job.priority, job.id)

    chosen = [
        job
        for job in jobs
        if job.state in STATES[which]
        and printer_id in (None, job.printer_id)
        and owner in (None, job.owner.name)
    ]
    return [job.id for job in sorted(chosen, key=key)]


async def read_all(spool, limit, **fields):
    found, after, pages_read = [], None, 0
    while True:
        query = PageQuery(limit=limit, after=after, **fields)
        page: Page = await spool.reader.page(query)
        found += [job.id for job in page.jobs]
        pages_read += 1
        after = page.next
        if after is None:
            return found, pages_read
        assert len(page.jobs) == limit
        fields.pop("skip", None)


@pytest.mark.slow
@pytest.mark.parametrize("slice_rows", [pages.SLICE_ROWS, 7])
@pytest.mark.parametrize("which", list(Which))
async def test_pages_tell_every_job_once_and_in_order(many, monkeypatch, which, slice_rows):
    """Whatever is chosen, in pages of any size, and however small the slices of a search."""
    monkeypatch.setattr(pages, "SLICE_ROWS", slice_rows)
    monkeypatch.setattr(pages, "PART_ROWS", 1)
    jobs = await many.reader.jobs(JobFilter(limit=1000))
    for printer in (None, *many.printers):
        printer_id = None if printer is None else printer.id
        for owner in (None, "a", "b", "nobody-here"):
            expected = told(jobs, which, printer_id, owner)
            for limit in (1, 13, 500):
                found, _ = await read_all(
                    many, limit, which=which, printer_id=printer_id, owner=owner
                )
                assert found == expected
            for skip in (1, 20, 1000):
                query = PageQuery(which, printer_id, owner, 10, skip)
                page = await many.reader.page(query)
                assert [job.id for job in page.jobs] == expected[skip : skip + 10]


async def test_a_page_says_when_each_job_began_to_print(spool):
    """The last attempt counts; a job without one has no such time."""
    from spoold.model.outcome import Deferred
    from spoold.model.transitions import JobEvent
    from spoold.spool.store import EndAttempt, StartAttempt

    printer = await spool.add_printer()
    first, _second = await spool.add_job(printer), await spool.add_job(printer)
    for number, now in ((1, 100), (2, 200)):
        await spool.journal.commit(StartAttempt(first.job_id, printer.device_id, printer.id, now))
        end = EndAttempt(first.job_id, number, Deferred("busy"), JobEvent.DEFER, (), now)
        await spool.journal.commit(end)
    page = await spool.reader.page(PageQuery())
    assert page.started_us == [200, None]


async def test_a_job_that_goes_away_meanwhile_ends_no_listing(spool):
    """A page goes on behind the key of the one before, whether that job is still there or not."""
    from spoold.model.transitions import JobEvent
    from spoold.spool.store import ChangeJob

    printer = await spool.add_printer()
    ids = [(await spool.add_job(printer)).job_id for _ in range(6)]
    page = await spool.reader.page(PageQuery(limit=3))
    await spool.journal.commit(ChangeJob(ids[2], JobEvent.CANCEL, 1))
    page = await spool.reader.page(PageQuery(limit=3, after=page.next))
    assert [job.id for job in page.jobs] == ids[3:]


async def test_a_spool_without_printers_has_empty_pages(spool):
    """Nothing is asked of nobody."""
    assert await spool.reader.page(PageQuery()) == Page([], [], None)
    assert await spool.reader.page(PageQuery(limit=0, printer_id=7)) == Page([], [], None)
