"""Jobs that were released for a machine of a site, and did not get there soon: they wait again.

In: releases by people, for printers of sites. Out: the same jobs, held where they waited before and
not paid for, once nobody stands at the machine any more: a line that was cut, or a site that was
away, has overtaken them. What was offered to the site already it decides: it has the job, and
prints it, or says that it comes too late (FRAMES.md 12). What an operator released comes whenever
it can. How long ago that was is counted by no clock that somebody sets, but for what was released
before this process began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

import structlog
import trio

from spoold.model.job import JobReason, JobState
from spoold.model.transitions import JobEvent
from spoold.spool import handed
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import ChangeJob, Event, JobMoved

log = structlog.get_logger("spoold.site")

SOON_S = 60.0  # after it nobody waits at a machine any more
SPARE_S = 1.0  # looked at a little later, so that it is late by then


class Lateness:
    """`is_of_site` says whether jobs of the printer with this number are a site's to print."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        is_of_site: Callable[[int], bool],
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._is_of_site = is_of_site
        self._wall_clock = wall_clock
        self.soon_s = SOON_S
        self._waiting: deque[tuple[float, int]] = deque()  # when to look, and at which job
        self._released: dict[int, float] = {}  # when which unfinished jobs were
        self._bell = trio.Event()
        journal.listen(self._hear)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is not JobMoved:
                continue
            if event.new is JobState.PENDING_HELD or event.new.is_final:
                self._released.pop(event.job_id, None)
            elif (
                event.new is JobState.PENDING
                and event.old is JobState.PENDING_HELD
                and self._is_of_site(event.printer_id)
            ):
                self._released[event.job_id] = trio.current_time()
                self._look_at(event.job_id)

    def _look_at(self, job_id: int) -> None:
        """When it may be late."""
        self._waiting.append((trio.current_time() + self.soon_s + SPARE_S, job_id))
        self._bell.set()

    async def run(self) -> None:
        """Let late ones wait again, for ever."""
        for job_id in await self._reader.look(handed.released_waiting):
            self._look_at(job_id)
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            while self._waiting:
                await trio.sleep_until(self._waiting[0][0])
                due = []
                while self._waiting and self._waiting[0][0] <= trio.current_time():
                    due.append(self._waiting.popleft()[1])
                await self.hold(due)

    async def find(self, job_ids: Sequence[int]) -> dict[int, int | None]:
        """The late ones, each with the printer where it waited."""
        found = await self._reader.look(handed.released_by_people, job_ids)
        now_s, now_us = trio.current_time(), self._wall_clock()
        return {
            job_id: one.home
            for job_id, one in found.items()
            if not 0 <= self._ago_s(job_id, one.released_us, now_s, now_us) <= self.soon_s
        }

    def _ago_s(self, job_id: int, released_us: int, now_s: float, now_us: int) -> float:
        """How long ago a job was released; below 0: nobody knows, the clock was set back."""
        released_s = self._released.get(job_id)
        return (now_us - released_us) / 1e6 if released_s is None else now_s - released_s

    async def hold(self, job_ids: Sequence[int]) -> Collection[int]:
        """Let the late ones of these wait again that nobody was offered; all late ones."""
        late = await self.find(job_ids)
        changes = [
            ChangeJob(
                job_id,
                JobEvent.HOLD,
                self._wall_clock(),
                reasons=(JobReason.JOB_RELEASE_WAIT.value,),
                message="It was released, and did not get to the machine in time.",
                printer_id=home,
                only_from=(JobState.PENDING,),
            )
            for job_id, home in late.items()
        ]
        if changes:
            answers = await self._journal.commit_all(changes)
            held = sum(not isinstance(one, Exception) for one in answers)
            if held:
                log.info("releases_too_late", jobs=held)
        return late.keys()
