"""Jobs that another node has: only that node says how they are."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from spoold.dispatch.handed import HandedJobs
from spoold.model.job import JobState
from spoold.model.outcome import HandedOn
from spoold.model.transitions import JobEvent
from spoold.spool.store import EndAttempt, StartAttempt
from support.waiting import wait_until

ANNEX, OTHER = "guid-annex", "guid-other"


class Node:
    """The device as a driver of next hops, and the node that is at the other end of it."""

    def __init__(self, guid):
        self.node_guid = guid

    @asynccontextmanager
    async def connected(self):
        yield self

    async def call(self, op, args, on_event=None):
        for uuid in args["jobs"]:
            state = "completed" if self.node_guid == ANNEX else "unknown"
            on_event("job-state", {"job_uuid": uuid, "state": state, "reasons": []})
        await trio.sleep_forever()


async def hand_on(spool, guid):
    """A job that the node with this GUID has."""
    printer = await spool.add_printer("up", uri="spoold://annex.example.org/desk")
    accepted = await spool.add_job(printer)
    now_us = spool.wall_clock()
    start = StartAttempt(accepted.job_id, printer.device_id, printer.id, now_us)
    number = await spool.journal.commit(start)
    outcome = HandedOn({"node": guid, "node-name": "annex", "job": 7, "uuid": str(accepted.uuid)})
    reasons = ("queued-in-device",)
    await spool.journal.commit(
        EndAttempt(accepted.job_id, number, outcome, JobEvent.HAND_ON, reasons, now_us)
    )
    return accepted.job_id


@pytest.mark.parametrize("there", [ANNEX, OTHER])
async def test_a_node_speaks_for_the_jobs_that_it_was_given_and_no_others(spool, there):
    """A device was turned to another node, which has nothing of it: it is not handed on again."""
    job_id = await hand_on(spool, ANNEX)
    node = Node(there)
    handed = HandedJobs(spool.journal, spool.reader, lambda device: node, spool.wall_clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(handed.run)
        job = await wait_until(
            lambda: spool.reader.job(job_id),
            holds=lambda job: job.state is not JobState.PROCESSING,
        )
        nursery.cancel_scope.cancel()
    if there == ANNEX:
        assert job.state is JobState.COMPLETED
    else:
        assert (job.state, job.reasons) == (JobState.PENDING_HELD, ("job-in-doubt",))
        assert job.message.startswith("annex has it as job 7. Its device leads to another node")
