"""The async door of the store: one writer task, group commit.

Whoever has a change hands it over and waits; the writer commits what has gathered as one
transaction with one sync. Records of a site are a large change: whoever comes while they are taken
cuts that short and is committed with it. Cancelling the one who waits does not undo a change that
was taken: it is committed, and a client that hung up finds its job again by uuid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import trio

from spoold.model.errors import OperationError, SpoolError, SpoolFull, StoreFailed
from spoold.spool.claims import Claims
from spoold.spool.connection import TrioConnection
from spoold.spool.fresh import FreshJobs
from spoold.spool.histogram import Histogram
from spoold.spool.sqlite import SqliteStore
from spoold.spool.store import (
    Accepted,
    AcceptJob,
    Change,
    ChangeJob,
    EndAttempt,
    Event,
    NoteAttempt,
    PlaceJob,
    Received,
    ReceiveRecords,
    ReleaseJob,
    SetJob,
    StartAttempt,
)

# Beyond these the gain of a larger group is small, and its members would wait for one another.
GROUP_CHANGES_MAX = 512
GROUP_BYTES_MAX = 16 * 1024 * 1024
# For so many that wait the loop has one more turn before a commit begins, up to so many turns.
TURN_CHANGES = 4
TURNS_MAX = 8
# What may wait for the writer at all: past it, whoever comes waits before handing over.
WAITING_CHANGES_MAX = 4096
# What a disk that does not answer may take: one commit is one sync.
COMMIT_DEADLINE_S = 60.0
ROOM_INTERVAL_S = 0.5  # how often is looked whether a full disk has room again
COMMIT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
COMMIT_BOUNDS_CHANGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# Changes after which a job is not what was accepted.
MAKES_STALE = (StartAttempt, EndAttempt, ChangeJob, SetJob, PlaceJob, ReleaseJob)


class Handed:
    """Changes that the journal has taken: they are committed, whether somebody waits or not."""

    __slots__ = ("_answers", "_error", "_task", "changes")

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes
        self._task: trio.lowlevel.Task | None = None
        self._answers: list[Any] | None = None
        self._error: SpoolError | None = None

    async def wait(self) -> list[Any]:
        """The answers, after the commit; a refused change's is its exception as a value.

        One task at a time waits; it may wait again, also when it was cancelled.

        Raises:
            StoreFailed: the store failed; whether they were written is not known.
        """
        if self._answers is None and self._error is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._error is not None:
            raise self._error
        assert self._answers is not None
        return self._answers

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def settle(self, answers: list[Any]) -> None:
        self._answers = answers
        self._wake()

    def fail(self, error: SpoolError) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None


class Journal:
    """Commits changes. `head` is the last committed position.

    `commit_s` and `commit_changes` tell how long commits took, and how large they were.
    """

    def __init__(
        self,
        writer: TrioConnection,
        store: SqliteStore,
        commit_deadline_s: float = COMMIT_DEADLINE_S,
    ) -> None:
        self._writer = writer
        self._store = store
        self._commit_deadline_s = commit_deadline_s
        self._queue: deque[Handed] = deque()
        self._queued = 0
        self._group: list[Handed] = []  # that is being committed
        store.others_wait = lambda: bool(self._queue)
        store.join = self._join
        self._room = trio.Event()
        self._work = trio.lowlevel.ParkingLot()
        self._listeners: list[Callable[[list[Event]], None]] = []
        self._failure: SpoolError | None = None
        self._closing = False
        self.head = store.position
        self.commits = 0
        self.commit_s = Histogram(COMMIT_BOUNDS_S)
        self.commit_changes = Histogram(COMMIT_BOUNDS_CHANGES)
        self._fresh = FreshJobs()

    @property
    def fresh(self) -> FreshJobs:
        """The jobs of the last commits."""
        return self._fresh

    @property
    def claims(self) -> Claims:
        """Who may begin with the commit that accepts the next job."""
        return self._store.claims

    @property
    def identity(self) -> tuple[str, str]:
        """(journal GUID, incarnation) of this node's chain."""
        return str(self._store.journal), str(self._store.incarnation)

    def note_clock(self, offset_us: int) -> None:
        """From now on records say how far the upstream's clock is ahead of this one."""
        self._store.clock_offset_us = offset_us

    def listen(self, callback: Callable[[list[Event]], None]) -> None:
        """Call `callback` in the Trio thread after each commit, in commit order.

        Its events may be none: records alone were added.
        It is called before `commit` returns to those who wait; it must not wait or raise.
        """
        self._listeners.append(callback)

    def unlisten(self, callback: Callable[[list[Event]], None]) -> None:
        self._listeners.remove(callback)

    async def commit(self, change: Change) -> Any:
        """Commit one change; durable when it returns its answer.

        Raises:
            OperationError, SpoolFull: refused; nothing was written.
            StoreFailed: the store failed; whether it was written is not known.
        """
        answer = (await self.commit_all((change,)))[0]
        if isinstance(answer, (OperationError, SpoolError)):
            raise answer
        return answer

    async def commit_all(self, changes: Sequence[Change]) -> list[Any]:
        """Commit changes in one transaction; a refused one's answer is its exception as a value.

        Raises:
            StoreFailed: the store failed.
        """
        while self._queued >= WAITING_CHANGES_MAX:
            await self._room.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self.hand_over(changes).wait()

    def hand_over(self, changes: Sequence[Change]) -> Handed:
        """Have changes committed in one transaction; never waits. For the few who are counted.

        Raises:
            StoreFailed, SpoolError: the journal has failed or ended.
        """
        if self._failure is not None:
            raise self._failure
        handed = Handed(changes)
        self._queue.append(handed)
        self._queued += len(changes)
        if self._work:
            self._work.unpark()
        return handed

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The writer: commit until closed. It must outlive everybody who commits.

        Raises:
            StoreFailed: an I/O error, or a disk that does not answer; the daemon must stop.
        """
        task_status.started()
        while not (self._closing and not self._queue):
            if not self._queue:
                try:
                    await self._work.park()
                except trio.Cancelled:
                    self._end(SpoolError("commit to", "the spool", "spoold stops", "Try again."))
                    raise
                continue
            await self._let_others_come()
            group = self._gather()
            try:
                await self._commit(group)
            except BaseException as error:
                self._end(error if isinstance(error, SpoolError) else _stopped(error), group)
                raise
        self._end(SpoolError("commit to", "the spool", "spoold has stopped", "Start it again."))

    async def _let_others_come(self) -> None:
        """Where many wait more are about to come: the loop brings them before the writer begins.

        Two threads that both run Python hand its lock to and fro, and wait for it each time. Of 64
        clients half were committed while the loop took the jobs of the other half, which cost the
        writer half as much again, and the loop a quarter.
        """
        for turn in range(1, TURNS_MAX + 1):
            if self._queued < turn * TURN_CHANGES:
                return
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _commit(self, group: list[Handed]) -> None:
        self._group = group
        changes = [change for waiting in group for change in waiting.changes]
        gathered = len(changes)
        begun_s = trio.current_time()
        try:
            answers, events = await self._writer.run_within(
                self._commit_deadline_s, self._apply, changes
            )
        except SpoolFull as full:
            await self._refuse(group, full)
        except trio.TooSlowError:
            silence = TimeoutError(f"the disk has not answered for {self._commit_deadline_s:g} s")
            raise self._store.fail(silence) from None
        else:
            self.commit_s.observe(trio.current_time() - begun_s)
            self.commit_changes.observe(len(changes))
            self._announce(group, changes, answers, events)
        finally:
            self._leave(len(changes) - gathered)

    def _apply(self, changes: list[Change]) -> tuple[list[Any], list[Event]]:
        """In the writer's thread: commit a group, to which others may be added.

        A large change goes on with a transaction of its own as long as nobody else waits: to ask
        the loop in between would take as long as to commit.
        """
        answers, events = self._store.apply(changes)
        while len(changes) == 1 and not self._store.others_wait():
            rest = _rest(changes[0], answers[0])
            if rest is None:
                break
            part: list[Change] = [rest]
            try:
                (found, *late), more = self._store.apply(part)
            except SpoolFull:  # whoever asks for the rest hears of it; who joined it waits on
                self._queue.extendleft(reversed(self._group[1:]))
                del self._group[1:]
                break
            events += more
            changes += part[1:]
            answers += late
            if type(found) is not Received:
                break
            answers[0] = answers[0].followed_by(found)
        return answers, events

    async def _refuse(self, group: list[Handed], full: SpoolFull) -> None:
        """There is no room at all: who asked is refused, and what the node itself does waits."""
        waiting = []
        for handed in group:
            if not self._closing and any(_is_own(change) for change in handed.changes):
                waiting.append(handed)
            else:
                handed.settle([full] * len(handed.changes))
        for callback in self._listeners:
            callback([])  # what was taken up for them is given back
        if waiting:
            await trio.sleep(ROOM_INTERVAL_S)
            self._queue.extendleft(reversed(waiting))
            self._queued += sum(len(handed.changes) for handed in waiting)

    def _gather(self) -> list[Handed]:
        """Whoever waits, for one transaction; a large change begins one, and others may join it."""
        is_large = _is_large(self._queue[0])
        group = [self._queue.popleft()] if is_large else self._take()
        self._leave(sum(len(waiting.changes) for waiting in group))
        return group

    def _join(self) -> list[Change]:
        """In the writer's thread: who has come meanwhile is committed with the large change."""
        late = self._take()
        self._group += late
        return [change for waiting in late for change in waiting.changes]

    def _take(self) -> list[Handed]:
        """Those who wait before the next large change, but for no more than a group has."""
        group: list[Handed] = []
        count = size = 0
        while self._queue and count < GROUP_CHANGES_MAX and size < GROUP_BYTES_MAX:
            if _is_large(self._queue[0]):
                break
            waiting = self._queue.popleft()
            group.append(waiting)
            count += len(waiting.changes)
            for change in waiting.changes:
                if type(change) is AcceptJob and change.document.body is not None:
                    size += change.document.size
        return group

    def _leave(self, count: int) -> None:
        """So many changes wait no more."""
        self._queued -= count
        if self._queued < WAITING_CHANGES_MAX and self._room.statistics().tasks_waiting:
            self._room.set()
            self._room = trio.Event()

    def _announce(
        self,
        group: list[Handed],
        changes: list[Change],
        answers: list[Any],
        events: list[Event],
    ) -> None:
        self.head = self._store.position
        self.commits += 1
        for change, answer in zip(changes, answers, strict=True):
            if type(change) is AcceptJob:
                if type(answer) is Accepted:
                    self._fresh.put(change, answer)
            elif isinstance(change, MAKES_STALE):
                self._fresh.forget(change.job_id)
        for callback in self._listeners:
            callback(events)
        start = 0
        for waiting in group:
            end = start + len(waiting.changes)
            waiting.settle(answers[start:end])
            start = end

    def _end(self, error: SpoolError, group: Sequence[Handed] = ()) -> None:
        """Nobody may believe a commit any more."""
        self._failure = error
        for waiting in (*group, *self._queue):
            waiting.fail(error)
        self._queue.clear()
        self._queued = 0
        self._room.set()

    @property
    def is_failed(self) -> bool:
        """Whether nothing can be committed any more."""
        return self._failure is not None

    def close_nowait(self) -> None:
        """Let `run` return once everything handed over is committed."""
        self._closing = True
        self._work.unpark()

    async def beat(self) -> None:
        """Return when the writer has done what it was given before: it makes progress."""
        if self._failure is None:
            await self._writer.run(_nothing)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run upkeep of the store in the writer's thread, between two commits."""
        return await self._writer.run(function)


def _nothing() -> None:
    pass


def _is_large(handed: Handed) -> bool:
    return ReceiveRecords in map(type, handed.changes)


def _rest(change: Change, answer: Any) -> ReceiveRecords | None:
    """What a large change has not taken yet."""
    if type(change) is ReceiveRecords and type(answer) is Received:
        return change.rest(answer)
    return None


def _is_own(change: Change) -> bool:
    """Whether this is of what goes on at a device: nobody is there who could hear a refusal."""
    if isinstance(change, ChangeJob):
        return change.actor == "node"
    return isinstance(change, StartAttempt | NoteAttempt | EndAttempt)


def _stopped(error: BaseException) -> StoreFailed:
    """What those who wait hear when the writer itself failed: whether it committed is not known."""
    return StoreFailed("commit to", "the spool", repr(error), "See the log; spoold stops.")
