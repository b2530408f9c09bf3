"""Any order of changes: a job of a printer that keeps its jobs prints after its release alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
from conftest import open_spool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt
from spoold.model.person import NOBODY
from spoold.model.release import ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    ChangeJob,
    CloseJob,
    CopyJob,
    EndAttempt,
    EndHold,
    NewDocument,
    ReleaseJob,
    SetJob,
    StartAttempt,
)

HOLD = "job-hold-until-specified"
REASONS = (HOLD, "job-held-on-create", "job-release-wait", "job-suspended")
ENDS = {
    JobEvent.DELIVER: Delivered({}),
    JobEvent.DEFER: Deferred("busy"),
    JobEvent.DOUBT: InDoubt("reset"),
    JobEvent.REPRINT: InDoubt("reset"),
}
JOBS = st.integers(1, 3)
# What takes a job away from the machine again where it was released.
AGAIN = (JobEvent.HOLD, JobEvent.RETRY, JobEvent.MISFIT)
PLAIN = (*AGAIN, JobEvent.RELEASE, JobEvent.CANCEL, JobEvent.REPRINT, JobEvent.ASSUME)
STEPS = st.one_of(
    st.tuples(st.just("accept"), st.sampled_from((*REASONS, ""))),
    st.tuples(st.just("open")),
    st.tuples(st.just("attach"), JOBS),
    st.tuples(st.just("close"), JOBS),
    st.tuples(st.just("copy"), JOBS),
    st.tuples(st.just("set"), JOBS),
    st.tuples(st.just("end hold"), JOBS, st.sampled_from(REASONS)),
    st.tuples(st.just("change"), JOBS, st.sampled_from(PLAIN)),
    st.tuples(st.just("move"), JOBS),
    st.tuples(st.just("release"), JOBS),
    st.tuples(st.just("start"), JOBS),
    st.tuples(st.just("end"), JOBS, st.sampled_from(list(ENDS))),
)


class Machine:
    """A spool with a printer that keeps its jobs, one like it, and who may print by now."""

    def __init__(self, spool, printers):
        self.spool = spool
        self.home, self.other = printers
        self.released: set[int] = set()

    async def commit(self, change):
        try:
            return await self.spool.journal.commit(change)
        except OperationError as error:
            return error

    async def do(self, step) -> None:
        name, *args = step
        now_us = self.spool.wall_clock()
        if name == "accept":
            held = {"state": JobState.PENDING_HELD, "reasons": (args[0],)} if args[0] else {}
            await self.spool.add_job(self.home, **held)
        elif name == "open":
            await self.spool.open_job(self.home)
        else:
            await self.change(name, now_us, *args)

    async def change(self, name, now_us, job_id, *more) -> None:
        job = await self.spool.reader.job(job_id)
        if job is None:
            return
        if name == "attach":
            try:
                await self.spool.attach(job_id)
            except OperationError:
                pass
        elif name == "close":
            await self.commit(CloseJob(job_id, now_us))
        elif name == "copy":
            document = NewDocument(0, "")
            copy = CopyJob(self.home.id, NOBODY, "uid:0", document, now_us, from_id=job_id)
            await self.commit(copy)
        elif name == "set":
            await self.commit(SetJob(job_id, now_us, copies=2))
        elif name == "end hold":
            await self.commit(EndHold(job_id, more[0], now_us))
        elif name == "change":
            answer = await self.commit(ChangeJob(job_id, more[0], now_us, reasons=("x",)))
            if more[0] in AGAIN and not isinstance(answer, OperationError):
                self.released.discard(job_id)
        elif name == "move":
            to = self.other if job.printer_id == self.home.id else self.home
            await self.commit(
                ChangeJob(job_id, JobEvent.MOVE, now_us, reasons=job.reasons, printer_id=to.id)
            )
            self.released.discard(job_id)
        elif name == "release":
            change = ReleaseJob(
                job_id, self.home.id, now_us, job.changed_us, "uid:0", is_staff=True
            )
            if not isinstance(await self.commit(change), OperationError):
                self.released.add(job_id)
        elif name == "start":
            printer = self.home if job.printer_id == self.home.id else self.other
            await self.commit(StartAttempt(job_id, printer.device_id, printer.id, now_us))
        elif name == "end":
            end = EndAttempt(job_id, job.attempts, ENDS[more[0]], more[0], (), now_us)
            await self.commit(end)

    async def check(self, step) -> None:
        for job_id in range(1, 12):
            job = await self.spool.reader.job(job_id)
            if job is None:
                continue
            if job.state is JobState.PENDING:
                assert job_id in self.released, step
            assert (job.held_us is not None) is job.awaits_release, step


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(st.lists(STEPS, min_size=5, max_size=30))
def test_nothing_but_a_release_opens_the_gate(steps):
    """However jobs come, and whatever is done to them, by people and by the clock."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with open_spool(Path(folder)) as spool:
                printers = [
                    await spool.add_printer(name, f"file:///{name}", release=ReleaseMode.HOLD)
                    for name in ("home", "other")
                ]
                machine = Machine(spool, printers)
                for step in steps:
                    await machine.do(step)
                    await machine.check(step)

    trio.run(run)
