"""A machine over the store: any order of changes, with crashes, against a model of ten lines.

A crash is a copy of the files as they lie on the disk while the store is open: what kill -9 leaves.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt
from spoold.model.transitions import JobEvent, next_state
from spoold.spool.store import (
    Accepted,
    ChangeJob,
    CloseJob,
    EndAttempt,
    JobFilter,
    RemoveJobs,
    StartAttempt,
)

ENDS = {
    JobEvent.DELIVER: Delivered({"bytes": 1}),
    JobEvent.DEFER: Deferred("busy"),
    JobEvent.DOUBT: InDoubt("reset", bytes_sent=1),
    JobEvent.REPRINT: InDoubt("reset", bytes_sent=1),
}
STEPS = st.one_of(
    st.tuples(st.just("accept"), st.integers(0, 5)),
    st.tuples(st.just("open"), st.integers(6, 9)),
    st.tuples(st.just("attach"), st.integers(1, 8), st.booleans()),
    st.tuples(st.just("close"), st.integers(1, 8)),
    st.tuples(
        st.just("change"),
        st.integers(1, 8),
        st.sampled_from(
            [JobEvent.HOLD, JobEvent.RELEASE, JobEvent.CANCEL, JobEvent.RETRY, JobEvent.STALL]
        ),
    ),
    st.tuples(st.just("start"), st.integers(1, 8)),
    st.tuples(st.just("end"), st.integers(1, 8), st.sampled_from(list(ENDS))),
    st.tuples(st.just("remove"), st.integers(1, 8)),
    st.tuples(st.just("crash")),
)


class Model:
    """What must be true of the store."""

    def __init__(self):
        self.states: dict[int, JobState] = {}
        self.uuids: dict[int, int] = {}
        self.last_id = 0
        self.incoming: dict[int, bool] = {}  # open jobs, and whether they have their document
        self.empty: set[int] = set()  # jobs that never got one

    def made(self, number: int, accepted: Accepted, state: JobState) -> bool:
        """What a submission under this uuid made; False when it was made before."""
        if number in self.uuids:
            assert (accepted.job_id, accepted.is_duplicate) == (self.uuids[number], True)
            return False
        assert accepted.job_id > self.last_id
        self.last_id = self.uuids[number] = accepted.job_id
        self.states[accepted.job_id] = state
        return True

    def after(self, job_id: int, event: JobEvent) -> JobState | None:
        """The state after an event; None when it must be refused."""
        try:
            state = next_state(self.states[job_id], event)
        except (KeyError, OperationError):
            return None
        if job_id in self.incoming and event is JobEvent.RELEASE:
            return None
        if job_id in self.empty and event is JobEvent.RETRY:
            return None
        return state


async def step(spool, printer, model, what):
    journal = spool.journal
    match what:
        case ("accept", number):
            accepted = await spool.add_job(printer, uuid=UUID(int=number))
            model.made(number, accepted, JobState.PENDING)
        case ("open", number):
            accepted = await spool.open_job(printer, uuid=UUID(int=number))
            if model.made(number, accepted, JobState.PENDING_HELD):
                model.incoming[accepted.job_id] = False
        case ("attach", job_id, last):
            state = JobState.PENDING if last else JobState.PENDING_HELD
            is_taken = model.incoming.get(job_id) is False
            if await is_done(spool.attach(job_id, last=last), is_taken, state):
                model.states[job_id] = state
                model.incoming[job_id] = True
                if last:
                    del model.incoming[job_id]
        case ("close", job_id):
            is_whole = model.incoming.get(job_id)
            state = JobState.PENDING if is_whole else JobState.ABORTED
            close = journal.commit(CloseJob(job_id, 1))
            if await is_done(close, is_whole is not None, state):
                model.states[job_id] = state
                del model.incoming[job_id]
                if not is_whole:
                    model.empty.add(job_id)
        case ("change", job_id, event):
            await expect(
                model, job_id, event, journal.commit(ChangeJob(job_id, event, 1)), answer=True
            )
        case ("start", job_id):
            start = StartAttempt(job_id, printer.device_id, printer.id, 1)
            await expect(model, job_id, JobEvent.START, journal.commit(start))
        case ("end", job_id, event):
            attempts = await spool.reader.attempts(job_id)
            if attempts and attempts[-1].ended_us is None:
                end = EndAttempt(job_id, len(attempts), ENDS[event], event, (), 1)
                await expect(model, job_id, event, journal.commit(end), answer=True)
        case ("remove", job_id):
            await journal.commit(RemoveJobs((job_id,), 1))
            state = model.states.get(job_id)
            if state is not None and state.is_final:
                del model.states[job_id]


async def expect(model, job_id, event, commit, answer=False):
    """The commit is refused exactly when the table says so."""
    after = model.after(job_id, event)
    try:
        got = await commit
    except OperationError:
        assert after is None
    else:
        assert after is not None
        assert not answer or got is after
        model.states[job_id] = after
        if after is not JobState.PENDING_HELD and model.incoming.pop(job_id, None) is False:
            model.empty.add(job_id)


async def is_done(commit, may: bool, state: JobState) -> bool:
    """Whether the commit was done, which must be exactly when it `may`."""
    try:
        accepted = await commit
    except OperationError:
        assert not may
        return False
    assert may
    assert accepted.state is state
    return True


async def check(spool, model):
    jobs = await spool.reader.jobs(JobFilter(limit=1000))
    assert {job.id: job.state for job in jobs} == model.states
    assert {job.id for job in jobs if job.is_incoming} == set(model.incoming)
    assert {job.id for job in jobs if job.document.stored == "none"} == {
        *(job_id for job_id, is_whole in model.incoming.items() if not is_whole),
        *(model.empty & set(model.states)),
    }
    assert sorted(await spool.reader.overdue(1 << 60, 100)) == sorted(model.incoming)
    waiting = [one.job_id for one in await spool.reader.waiting()]
    assert waiting == sorted(id_ for id_, s in model.states.items() if s is JobState.PENDING)
    active = {JobState.PROCESSING, JobState.PROCESSING_STOPPED}
    for attempt in await spool.reader.open_attempts():
        assert model.states[attempt.job_id] in active
    assert await spool.reader.verify_chain() == spool.journal.head


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(STEPS, max_size=30))
async def test_any_order_of_changes_and_crashes(spool_at, steps):
    """Nothing acknowledged is lost, nothing is made up, ids and positions never repeat."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "0"
        data_dir.mkdir()
        rest = list(steps)
        printer = None
        lives = 0
        while True:
            async with spool_at(data_dir) as spool:
                printer = printer or await spool.add_printer()
                await check(spool, model)
                while rest and rest[0][0] != "crash":
                    await step(spool, printer, model, rest.pop(0))
                await check(spool, model)
                lives += 1
                crashed = Path(folder) / str(lives)
                shutil.copytree(data_dir, crashed)
            if not rest:
                return
            rest.pop(0)
            data_dir = crashed
