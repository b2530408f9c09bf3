"""Listings by a filter find what is there, however far apart it stands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spoold.model.job import JobState
from spoold.model.transitions import JobEvent
from spoold.spool import listing
from spoold.spool.store import ChangeJob, JobFilter, RemoveJobs

FILTERS = {
    "all": JobFilter(),
    "title": JobFilter(title="RED"),
    "owner": JobFilter(owner="bob"),
    "nobody": JobFilter(owner="carol"),
    "finished": JobFilter(states=(JobState.CANCELED,)),
    "both": JobFilter(states=(JobState.PENDING,), title="red", owner="ada"),
}


async def fill(spool):
    """Forty jobs, of which a long stretch in the middle was removed."""
    printer = await spool.add_printer()
    ids = []
    for number in range(40):
        title = "Red" if number % 3 == 0 else "blue"
        owner = "ada" if number % 2 else "bob"
        ids.append((await spool.add_job(printer, owner=owner, title=title)).job_id)
    for job_id in ids[::4] + ids[10:30]:
        job = await spool.reader.job(job_id)
        if not job.state.is_final:
            await spool.journal.commit(ChangeJob(job_id, JobEvent.CANCEL, 1))
    await spool.journal.commit(RemoveJobs(tuple(ids[10:30]), 1))
    return [await spool.reader.job(job_id) for job_id in (*ids[:10], *ids[30:])]


def is_meant(job, which):
    return (
        (not which.states or job.state in which.states)
        and (which.owner is None or job.owner.name == which.owner)
        and (which.title is None or which.title.lower() in job.title.lower())
    )


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("name", FILTERS)
async def test_pages_of_a_filter_tell_each_job_once(spool, monkeypatch, name, newest_first):
    """Whatever is looked through at a time, and whatever a page holds."""
    jobs = await fill(spool)
    which = replace(FILTERS[name], newest_first=newest_first)
    meant = [job.id for job in jobs if is_meant(job, which)]
    meant = meant[::-1] if newest_first else meant
    for stretch in (1, 7, 5_000):
        monkeypatch.setattr(listing, "STRETCH", stretch)
        for limit in (1, 3, 50):
            told, after = [], 0
            while page := await spool.reader.jobs(replace(which, after_id=after, limit=limit)):
                assert len(page) <= limit
                told += [job.id for job in page]
                after = told[-1]
            assert told == meant, (stretch, limit)
