"""Jobs at hand: given out once, as the store has them, and never after a change."""

from __future__ import annotations

import outcome
import pytest
import trio

from spoold.model.transitions import JobEvent
from spoold.spool import fresh as module
from spoold.spool.reader import SqliteReader
from spoold.spool.store import ChangeJob


async def test_a_fresh_job_is_what_the_store_has(spool):
    """Whoever takes it saves a look into the store, and gets the same; the second one looks."""
    printer = await spool.add_printer()
    fields = {"title": "Letter", "copies": 2, "attributes": {"sides": "one-sided"}}
    accepted = await spool.add_job(printer, b"a letter", "mara", **fields)
    stored = await spool.reader.job_with_document(accepted.job_id)
    assert spool.journal.fresh.take(accepted.job_id) == stored
    assert spool.journal.fresh.take(accepted.job_id) is None


async def test_a_changed_job_is_not_fresh(spool):
    """A hold and a release later, only the store knows."""
    accepted = await spool.add_job(await spool.add_printer())
    await spool.journal.commit(ChangeJob(accepted.job_id, JobEvent.HOLD, 1))
    assert spool.journal.fresh.take(accepted.job_id) is None


async def test_what_is_at_hand_is_bounded(spool, monkeypatch):
    """The oldest go when there are too many, or too many bytes."""
    monkeypatch.setattr(module, "BYTES_MAX", 25)
    printer = await spool.add_printer()
    ids = [(await spool.add_job(printer, b"x" * 10)).job_id for _ in range(4)]
    found = [spool.journal.fresh.take(job_id) is not None for job_id in ids]
    assert found == [False, False, True, True]


async def test_jobs_that_are_asked_for_together_come_each_to_who_asked(spool):
    """One that is not there is in nobody else's way."""
    printer = await spool.add_printer()
    ids = [(await spool.add_job(printer, b"%d" % number)).job_id for number in range(3)]
    found = {}
    async with trio.open_nursery() as nursery:
        for job_id in (*ids, 999):
            heard = trio.Event()
            nursery.start_soon(heard.wait)

            def hear(result, job_id=job_id, heard=heard):
                found[job_id] = result
                heard.set()

            spool.reader.post_job_with_document(job_id, hear)
    assert [found[job_id].unwrap()[1] for job_id in ids] == [b"0", b"1", b"2"]
    assert found[999].unwrap() is None


def test_a_connection_that_looks_at_nothing_any_more_is_asked_once():
    """Who asked it is not heard, and it is not asked again and again for those that wait."""
    asked = []

    class Ended:
        def post(self, function, then):
            asked.append(then)

    reader = SqliteReader(Ended(), None)
    for job_id in range(2):
        reader.post_job_with_document(job_id, asked.append)
    with pytest.raises(ValueError, match="ended"):
        asked[0](outcome.Error(ValueError("ended")))
    assert len(asked) == 1
