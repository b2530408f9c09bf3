"""A node's clearing over a real spool: prices, purses, people, printers, a counter."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from spoold.accounts.charging import Charging
from spoold.counting.counter import Counter
from spoold.daemon.operations.watch import Catalogue, Watch
from spoold.model.job import JobState
from spoold.model.transitions import JobEvent
from spoold.release.counts import Counts
from spoold.release.desk import Desk
from spoold.release.releasing import Releases
from spoold.spool.store import EndAttempt, StartAttempt
from support.money import Purses


class Node(SimpleNamespace):
    """The rooms of release, and short ways to use them."""

    async def wait(self, job_id, is_so):
        """The job, when it is so."""
        with trio.fail_after(30):
            while True:
                seen = self.spool.journal.head
                if is_so(job := await self.spool.reader.job(job_id)):
                    return job
                await self.watch.wait_beyond(seen)

    async def held(self, job_id, reason):
        return await self.wait(job_id, lambda job: reason in job.reasons)

    async def printed(self, job_id, printer, outcome, event=JobEvent.DELIVER, reasons=()):
        """The job is attempted, with this outcome."""
        now_us = self.spool.wall_clock()
        commit = self.spool.journal.commit
        number = await commit(StartAttempt(job_id, printer.device_id, printer.id, now_us))
        state = await commit(EndAttempt(job_id, number, outcome, event, reasons, now_us))
        assert state.is_final or event is JobEvent.DOUBT

    async def pending(self, job_id):
        return await self.wait(job_id, lambda job: job.state is JobState.PENDING)


def make_node(spool, counter) -> Node:
    printers = Catalogue(spool.journal, spool.reader)
    money = Charging(spool.journal, spool.reader, spool.wall_clock)
    counts = Counts(
        spool.journal, spool.reader, spool.documents, counter, printers, spool.wall_clock
    )
    releases = Releases(spool.journal, spool.reader, printers, counts, money, spool.wall_clock)
    return Node(
        spool=spool,
        watch=Watch(spool.journal),
        counts=counts,
        releases=releases,
        desk=Desk(spool.journal, spool.reader, printers, releases, money, spool.wall_clock),
        purses=Purses(spool),
    )


@pytest.fixture
async def node(spool):
    async with Counter() as counter:
        yield make_node(spool, counter)
