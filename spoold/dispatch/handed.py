"""Jobs that were handed on over a device of the `spoold` kind, followed to their end there.

In: what the journal tells of such jobs, and events of the node that has them. Out: the same state
here, committed; and a cancel there for what is canceled here. The node may be away for as long as
it likes: the job waits, and is asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from uuid import UUID

import structlog
import trio

from spoold.dispatch.attempt import Journal, note_refusals
from spoold.driver.handed_on import STUCK, by_owner, job_uuid_of, left_behind
from spoold.driver.link import Elsewhere, HandingOn
from spoold.model.errors import OperationError
from spoold.model.job import WAITING, JobReason, JobState
from spoold.model.printer import Device
from spoold.model.transitions import JobEvent
from spoold.provider.course import Lost
from spoold.spool import handed, store
from spoold.spool.handed import HandedJob
from spoold.spool.store import ChangeJob, JobMoved

log = structlog.get_logger("spoold.dispatch")

FOLLOWED_AT_ONCE = 200
LEFT_BEHIND = "Its device leads to another node now: look whether it came out."
PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 30.0


class ListenedJournal(Journal, Protocol):
    def listen(self, callback: Callable[[list[store.Event]], None]) -> None: ...
    def unlisten(self, callback: Callable[[list[store.Event]], None]) -> None: ...


class Reader(Protocol):
    async def look(self, look_up: Callable[..., Any], *values: Any) -> Any: ...
    async def devices(self) -> list[Device]: ...


class _Node:
    """One device of the kind, and the jobs that went there: by the uuid that it knows them by."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self.jobs: dict[UUID, HandedJob] = {}
        self.news: deque[dict[str, Any]] = deque()
        self.unfollowed: dict[UUID, None] = {}
        self.to_cancel: dict[UUID, None] = {}
        self.stuck: dict[UUID, None] = {}  # of which it was told that something is in the way
        self.is_lost = False
        self.guid = ""  # of the node at the other end of the connection
        self.bell = trio.Event()

    def ring(self) -> None:
        self.bell.set()
        self.bell = trio.Event()


class HandedJobs:
    """`driver_of` is the dispatcher's: one driver for each device."""

    def __init__(
        self,
        journal: ListenedJournal,
        reader: Reader,
        driver_of: Callable[[Device], object],
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._driver_of = driver_of
        self._wall_clock = wall_clock
        self._nodes: dict[int, _Node] = {}
        self._where: dict[int, tuple[_Node, UUID]] = {}  # by our job id
        self._new: dict[int, None] = {}
        self._bell = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled."""
        self._journal.listen(self._hear)
        try:
            found = await self._reader.look(handed.find_handed)
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    self._take(found, nursery)
                    while not self._new:
                        await self._bell.wait()
                    new, self._new = self._new, {}
                    found = await self._reader.look(handed.find_handed, list(new))
        finally:
            self._journal.unlisten(self._hear)

    def _hear(self, events: list[store.Event]) -> None:
        for event in events:
            if type(event) is not JobMoved:
                continue
            known = self._where.get(event.job_id)
            if known is not None:
                self._moved(event, *known)
            elif event.new is JobState.PROCESSING and JobReason.QUEUED_IN_DEVICE in event.reasons:
                self._new[event.job_id] = None
        if self._new:
            self._bell.set()
            self._bell = trio.Event()

    def _moved(self, moved: JobMoved, node: _Node, uuid: UUID) -> None:
        if moved.new.is_final or moved.new in WAITING:
            del self._where[moved.job_id]
            for kept in (node.jobs, node.unfollowed, node.to_cancel, node.stuck):
                kept.pop(uuid, None)
        elif JobReason.PROCESSING_TO_STOP_POINT in moved.reasons:
            job = node.jobs[uuid]
            if not job.is_canceled:
                node.jobs[uuid] = job._replace(is_canceled=True)
                node.to_cancel[uuid] = None
        node.ring()

    def _take(self, found: Iterable[HandedJob], nursery: trio.Nursery) -> None:
        for job in found:
            node = self._nodes.get(job.device_id)
            if job.job_id in self._where or not job.device_id:
                continue
            if node is None:
                node = self._nodes[job.device_id] = _Node(job.device_id)
                nursery.start_soon(self._attend, node)
            uuid = job_uuid_of(job.evidence, job.uuid)
            self._where[job.job_id] = node, uuid
            node.jobs[uuid] = job
            node.unfollowed[uuid] = None
            if job.is_canceled:
                node.to_cancel[uuid] = None
            node.ring()

    # -- one node --------------------------------------------------------------------------------

    async def _attend(self, node: _Node) -> None:
        """Follow what is there, for as long as anything is."""
        pause_s = PAUSE_FIRST_S
        while node.jobs:
            try:
                driver = await self._driver(node.device_id)
                async with driver.connected() as there:
                    pause_s = PAUSE_FIRST_S
                    await self._follow(node, there)
                cause = "the connection ended"
            except (OSError, Lost, OperationError, trio.BrokenResourceError) as error:
                cause = str(error)
            if node.jobs:
                log.info("handed_on_unheard", jobs=len(node.jobs), reason=cause)
                await trio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)
        del self._nodes[node.device_id]

    async def _driver(self, device_id: int) -> HandingOn:
        """Raises OperationError: the device is not of the kind any more."""
        for device in await self._reader.devices():
            if device.id == device_id:
                driver = self._driver_of(device)
                if isinstance(driver, HandingOn):
                    return driver
        raise OperationError("not-possible", "the device leads to no other node any more.")

    async def _follow(self, node: _Node, there: Elsewhere) -> None:
        """Until all jobs are done, or the connection ends."""
        node.unfollowed = dict.fromkeys(node.jobs)
        node.news.clear()
        node.is_lost = False
        node.guid = there.node_guid
        await self._leave(node, there.node_guid)
        async with trio.open_nursery() as nursery:
            while node.jobs and not node.is_lost:
                bell = node.bell
                unfollowed = tuple(node.unfollowed)
                for first in range(0, len(unfollowed), FOLLOWED_AT_ONCE):
                    uuids = unfollowed[first : first + FOLLOWED_AT_ONCE]
                    nursery.start_soon(self._call, node, there, uuids)
                node.unfollowed.clear()
                for uuid in node.to_cancel:
                    nursery.start_soon(self._cancel, node, there, uuid)
                node.to_cancel.clear()
                if node.news:
                    news = [node.news.popleft() for _ in range(min(len(node.news), 256))]
                    await self._commit(node, news)
                    continue
                await bell.wait()
            nursery.cancel_scope.cancel()

    async def _leave(self, node: _Node, guid: str) -> None:
        """Jobs that another node has than that to which the device leads now are held, in doubt:
        this one would say that it never had them, and they would be handed on to it, too.
        """
        strange = [job for job in node.jobs.values() if not _is_at(job, guid)]
        if not strange:
            return
        now_us = self._wall_clock()
        changes = [left_behind(job, now_us, LEFT_BEHIND) for job in strange]
        note_refusals(changes, await self._journal.commit_all(changes))
        log.warning("handed_on_left_behind", jobs=len(strange), node=guid)

    async def _call(self, node: _Node, there: Elsewhere, uuids: tuple[UUID, ...]) -> None:
        def hear(event: str, args: dict[str, Any]) -> None:
            node.news.append(args)
            node.ring()

        try:
            await there.call("handed.follow", {"jobs": [str(one) for one in uuids]}, hear)
        except (Lost, OperationError) as error:
            log.info("handed_on_unheard", jobs=len(uuids), reason=str(error))
            node.is_lost = True
            node.ring()

    async def _cancel(self, node: _Node, there: Elsewhere, uuid: UUID) -> None:
        try:
            await there.call("handed.cancel", {"job": str(uuid)})
        except OperationError:
            pass  # it has ended there, and its end is told
        except Lost:
            node.to_cancel[uuid] = None
            node.is_lost = True
            node.ring()

    async def _commit(self, node: _Node, news: list[dict[str, Any]]) -> None:
        changes = [change for told in news if (change := self._change(node, told)) is not None]
        if changes:
            note_refusals(changes, await self._journal.commit_all(changes))

    def _change(self, node: _Node, told: dict[str, Any]) -> ChangeJob | None:
        try:
            uuid = UUID(str(told.get("job_uuid")))
        except ValueError:
            return None
        job = node.jobs.get(uuid)
        if job is not None and not _is_at(job, node.guid):
            node.is_lost = True  # the device was changed under this connection
            node.ring()
            return None
        change = None if job is None else by_owner(job, told, self._wall_clock())
        if change is None or change.event is not JobEvent.HAND_ON:
            return change
        was_stuck = uuid in node.stuck
        if told.get("state") in STUCK:
            node.stuck[uuid] = None
        else:
            node.stuck.pop(uuid, None)
        return change if was_stuck or uuid in node.stuck else None


def _is_at(job: HandedJob, guid: str) -> bool:
    """Whether this node was given the job, and can say how it is."""
    return bool(job.evidence.get("node", guid) == guid)
