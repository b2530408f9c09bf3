"""Jobs on their way to an attempt: those that come soon are at hand, as the spool has them."""

from __future__ import annotations

import trio

from spoold.dispatch import loading
from spoold.dispatch.loading import Soon


async def until_told(spool) -> None:
    """What was asked for before is answered: look-ups are, in their order."""
    is_told = trio.Event()
    spool.reader.post_job_with_document(0, lambda _: is_told.set())
    await is_told.wait()


async def test_small_jobs_that_come_soon_are_at_hand_once(spool, monkeypatch):
    """Not one that is large, is at hand anyway, or has changed meanwhile."""
    monkeypatch.setattr(loading, "SOON_BYTES_MAX", 4)
    printer = await spool.add_printer()
    bodies = (b"one", b"two", b"large", b"gone", b"old", b"new")
    ids = [(await spool.add_job(printer, body)).job_id for body in bodies]
    for job_id in ids[:5]:
        spool.journal.fresh.forget(job_id)
    soon = Soon(spool.journal.fresh, spool.reader)
    soon.look_up(ids)
    soon.forget(ids[3])
    soon.forget(ids[4])
    soon.look_up(ids)
    soon.forget(ids[3])
    await until_told(spool)
    found = [soon.take(job_id) for job_id in ids]
    assert [one and one[1] for one in found] == [b"one", b"two", None, None, b"old", None]
    assert found[0] == await spool.reader.job_with_document(ids[0])
    assert soon.take(ids[0]) is None
