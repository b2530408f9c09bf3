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
from spoold.spool.store import ChangeJob, EndAttempt, JobFilter, RemoveJobs, StartAttempt

ENDS = {
    JobEvent.DELIVER: Delivered({"bytes": 1}),
    JobEvent.DEFER: Deferred("busy"),
    JobEvent.DOUBT: InDoubt("reset", bytes_sent=1),
    JobEvent.REPRINT: InDoubt("reset", bytes_sent=1),
}
STEPS = st.one_of(
    st.tuples(st.just("accept"), st.integers(0, 5)),
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


async def step(spool, printer, model, what):
    journal = spool.journal
    match what:
        case ("accept", number):
            accepted = await spool.add_job(printer, uuid=UUID(int=number))
            if number in model.uuids:
                assert (accepted.job_id, accepted.is_duplicate) == (model.uuids[number], True)
            else:
                assert accepted.job_id > model.last_id
                model.last_id = model.uuids[number] = accepted.job_id
                model.states[accepted.job_id] = JobState.PENDING
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
    try:
        after = next_state(model.states[job_id], event)
    except (KeyError, OperationError):
        after = None
    try:
        got = await commit
    except OperationError:
        assert after is None
    else:
        assert after is not None
        assert not answer or got is after
        model.states[job_id] = after


async def check(spool, model):
    jobs = await spool.reader.jobs(JobFilter(limit=1000))
    assert {job.id: job.state for job in jobs} == model.states
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
