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
from spoold.model.person import NOBODY
from spoold.model.transitions import JobEvent, next_state
from spoold.spool.store import (
    NO_DOCUMENT,
    Accepted,
    ChangeJob,
    CloseJob,
    CopyJob,
    EndAttempt,
    EndHold,
    JobFilter,
    PlaceJob,
    RemoveJobs,
    SetJob,
    StartAttempt,
)
from support.chain import verified

HELD = "job-hold-until-specified"
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
    st.tuples(st.just("hold"), st.integers(1, 8), st.sampled_from([None, 50, 500])),
    st.tuples(st.just("due"), st.integers(1, 8), st.sampled_from([49, 50, 5000])),
    st.tuples(st.just("set"), st.integers(1, 8), st.integers(1, 100)),
    st.tuples(st.just("promote"), st.integers(1, 8)),
    st.tuples(st.just("copy"), st.integers(1, 8)),
    st.tuples(
        st.just("change"),
        st.integers(1, 8),
        st.sampled_from(
            [JobEvent.HOLD, JobEvent.RELEASE, JobEvent.CANCEL, JobEvent.RETRY, JobEvent.STALL]
        ),
    ),
    st.tuples(st.just("start"), st.integers(1, 8)),
    st.tuples(st.just("end"), st.integers(1, 8), st.sampled_from(list(ENDS))),
    st.tuples(st.just("remove"), st.integers(1, 8), st.booleans()),
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
        self.gone: set[int] = set()  # finished jobs whose documents were removed
        self.holds: dict[int, int | None] = {}  # when the holds of held jobs end
        self.priorities: dict[int, int] = {}
        self.documents: dict[int, tuple[int, int]] = {}  # of jobs: how many, and which is next

    def made(self, number: int, accepted: Accepted, state: JobState) -> bool:
        """What a submission under this uuid made; False when it was made before."""
        if number in self.uuids:
            assert (accepted.job_id, accepted.is_duplicate) == (self.uuids[number], True)
            return False
        assert accepted.job_id > self.last_id
        self.last_id = self.uuids[number] = accepted.job_id
        self.states[accepted.job_id] = state
        self.priorities[accepted.job_id] = 50
        self.documents[accepted.job_id] = (1, 1)
        return True

    def moved(self, job_id: int, state: JobState) -> None:
        self.states[job_id] = state
        if state is not JobState.PENDING_HELD:
            self.holds.pop(job_id, None)
            if self.incoming.pop(job_id, None) is False:
                self.empty.add(job_id)

    def is_waiting(self, job_id: int) -> bool:
        return self.states.get(job_id) in (JobState.PENDING, JobState.PENDING_HELD)

    def onward(self, job_id: int, event: JobEvent) -> JobEvent:
        """What the end of a document is to a job that has another one."""
        count, number = self.documents.get(job_id, (1, 1))
        is_end = event in (JobEvent.DELIVER, JobEvent.ASSUME) and job_id not in self.incoming
        return JobEvent.NEXT if is_end and number < count else event

    def turn(self, job_id: int, event: JobEvent) -> None:
        """The job is at its next document by an event, or at the first one again."""
        count, number = self.documents[job_id]
        if event is JobEvent.NEXT:
            self.documents[job_id] = (count, number + 1)
        elif event is JobEvent.RETRY:
            self.documents[job_id] = (count, 1)

    def after(self, job_id: int, event: JobEvent) -> JobState | None:
        """The state after an event; None when it must be refused."""
        try:
            state = next_state(self.states[job_id], event)
        except (KeyError, OperationError):
            return None
        if job_id in self.incoming and event is JobEvent.RELEASE:
            return None
        if job_id in self.empty | self.gone and event is JobEvent.RETRY:
            return None
        return state


async def step(spool, printer, model, what):
    journal = spool.journal
    if what[0] not in ("accept", "open") and model.last_id:
        # Any number stands for a job that was made, so that steps seldom miss.
        what = (what[0], 1 + (what[1] - 1) % model.last_id, *what[2:])
    match what:
        case ("accept", number):
            accepted = await spool.add_job(printer, uuid=UUID(int=number))
            model.made(number, accepted, JobState.PENDING)
        case ("open", number):
            accepted = await spool.open_job(printer, uuid=UUID(int=number))
            if model.made(number, accepted, JobState.PENDING_HELD):
                model.incoming[accepted.job_id] = False
        case ("attach", job_id, last):
            is_held = not last or job_id in model.holds
            state = JobState.PENDING_HELD if is_held else JobState.PENDING
            is_taken = job_id in model.incoming
            if await is_done(spool.attach(job_id, last=last), is_taken, state):
                model.states[job_id] = state
                model.documents[job_id] = (model.documents[job_id][0] + model.incoming[job_id], 1)
                model.incoming[job_id] = True
                if last:
                    del model.incoming[job_id]
        case ("close", job_id):
            is_whole = model.incoming.get(job_id)
            state = JobState.PENDING_HELD if job_id in model.holds else JobState.PENDING
            state = state if is_whole else JobState.ABORTED
            close = journal.commit(CloseJob(job_id, 1))
            if await is_done(close, is_whole is not None, state):
                model.moved(job_id, state)
                model.incoming.pop(job_id, None)
        case ("hold", job_id, release_us):
            await hold(journal, model, job_id, release_us)
        case ("due", job_id, now_us):
            release_us = model.holds.get(job_id)
            due = EndHold(job_id, HELD, now_us, is_due=True)
            after = JobState.PENDING_HELD if job_id in model.incoming else JobState.PENDING
            if await is_done(journal.commit(due), (release_us or 9999) <= now_us, after):
                del model.holds[job_id]
                model.states[job_id] = after
        case ("set", job_id, priority):
            change = SetJob(job_id, 1, priority=priority)
            state = model.states.get(job_id)
            if await is_done(journal.commit(change), model.is_waiting(job_id), state):
                model.priorities[job_id] = priority
        case ("promote", job_id):
            is_pending = model.states.get(job_id) is JobState.PENDING
            waiting = [id_ for id_, state in model.states.items() if state is JobState.PENDING]
            highest = max([100, *(model.priorities[id_] for id_ in waiting)])
            if await is_done(journal.commit(PlaceJob(job_id, 1)), is_pending, JobState.PENDING):
                model.priorities[job_id] = highest + 1
        case ("copy", job_id):
            has_document = job_id in model.states and job_id not in model.empty
            has_document = has_document and model.incoming.get(job_id) is not False
            count = model.documents.get(job_id, (1, 1))[0]
            more = ("",) * (count - 1)
            copy = CopyJob(
                printer.id, NOBODY, "uid:0", NO_DOCUMENT, 1, from_id=job_id, more_files=more
            )
            commit = journal.commit(copy)
            made = await is_done(commit, has_document, JobState.PENDING)
            if made:
                number = 1000 + made.job_id
                model.made(number, made, JobState.PENDING)
                model.documents[made.job_id] = (count, 1)
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
        case ("remove", job_id, documents_only):
            await journal.commit(RemoveJobs((job_id,), 1, documents_only))
            state = model.states.get(job_id)
            if state is not None and state.is_final:
                if documents_only:
                    model.gone.add(job_id)
                else:
                    del model.states[job_id]


async def expect(model, job_id, event, commit, answer=False):
    """The commit is refused exactly when the table says so."""
    event = model.onward(job_id, event)
    after = model.after(job_id, event)
    try:
        got = await commit
    except OperationError:
        assert after is None
    else:
        assert after is not None
        assert not answer or got is after
        model.holds.pop(job_id, None)  # whatever is said of a job here, it is no longer that
        model.moved(job_id, after)
        model.turn(job_id, event)


async def hold(journal, model, job_id, release_us):
    """Hold a job for a time, or for ever: its reasons are those that it has, and this one."""
    reasons = (HELD, "job-incoming") if job_id in model.incoming else (HELD,)
    until = "indefinite" if release_us is None else "time"
    change = ChangeJob(
        job_id, JobEvent.HOLD, 1, reasons=reasons, hold_until=until, release_us=release_us
    )
    may = model.after(job_id, JobEvent.HOLD) is not None
    if await is_done(journal.commit(change), may, JobState.PENDING_HELD):
        model.states[job_id] = JobState.PENDING_HELD
        model.holds[job_id] = release_us


async def is_done(commit, may: bool, state: JobState | None):
    """What the commit answered, or False: it must be done exactly when it `may`."""
    try:
        answer = await commit
    except OperationError:
        assert not may
        return False
    assert may
    assert (answer if isinstance(answer, JobState) else answer.state) is state
    return answer


async def check(spool, model):
    jobs = await spool.reader.jobs(JobFilter(limit=1000))
    assert {job.id: job.state for job in jobs} == model.states
    assert {job.id for job in jobs if job.is_incoming} == set(model.incoming)
    assert {job.id for job in jobs if job.document.stored == "none"} == {
        *(job_id for job_id, is_whole in model.incoming.items() if not is_whole),
        *(model.empty & set(model.states)),
    }
    assert {job.id: (job.documents, job.document_number) for job in jobs} == {
        id_: found for id_, found in model.documents.items() if id_ in model.states
    }
    assert sorted(await spool.reader.overdue(1 << 60, 100)) == sorted(model.incoming)
    finished = {id_ for id_, state in model.states.items() if state.is_final}
    kept = await spool.reader.kept_before(1 << 60, 100)
    assert {id_ for id_, _ in kept} == finished - model.empty - model.gone
    assert await spool.reader.finished_totals() == (len(finished), sum(size for _, size in kept))
    assert sorted(await spool.reader.finished_before(1 << 60, 100)) == sorted(finished)
    assert {job.id: job.priority for job in jobs} == {
        id_: priority for id_, priority in model.priorities.items() if id_ in model.states
    }
    assert {job.id: job.release_us for job in jobs if job.hold_until} == model.holds
    timed = [id_ for id_, release_us in model.holds.items() if release_us is not None]
    assert sorted(await spool.reader.released_by(1 << 60, 100)) == sorted(timed)
    waiting = [one.job_id for one in await spool.reader.waiting()]
    assert waiting == sorted(id_ for id_, s in model.states.items() if s is JobState.PENDING)
    active = {JobState.PROCESSING, JobState.PROCESSING_STOPPED}
    for attempt in await spool.reader.open_attempts():
        assert model.states[attempt.job_id] in active
    assert await verified(spool.reader) == spool.journal.head


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
