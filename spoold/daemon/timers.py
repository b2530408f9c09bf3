"""What happens to jobs by the clock: holds end, and open jobs whose document never comes do.

One task looks every second what is due. Wall time can jump: each change is decided against what
stands in the spool then, and nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from spoold.intake.opening import OpenJobs
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import JobReason
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import Change, EndHold

log = structlog.get_logger("spoold.daemon")

INTERVAL_S = 1.0
STEP = 200  # jobs of one small transaction


class Timers:
    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        open_jobs: OpenJobs,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._open_jobs = open_jobs
        self._wall_clock = wall_clock

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            StoreFailed: the journal failed; the daemon must stop.
        """
        while True:
            await self.look()
            await trio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Do what is due now."""
        while await self._end_holds() == STEP:
            pass
        await self._close_overdue()

    async def _end_holds(self) -> int:
        now_us = self._wall_clock()
        job_ids = await self._reader.released_by(now_us, STEP)
        if not job_ids:
            return 0
        hold = JobReason.JOB_HOLD_UNTIL_SPECIFIED.value
        ends: list[Change] = [EndHold(id_, hold, now_us, is_due=True) for id_ in job_ids]
        answers = await self._journal.commit_all(ends)
        done = [answer for answer in answers if not isinstance(answer, Exception)]
        if done:
            log.info("holds_ended", count=len(done))
        return len(done)  # what was refused was changed meanwhile, and is looked at again

    async def _close_overdue(self) -> None:
        for job_id in await self._reader.overdue(self._wall_clock(), STEP):
            if self._open_jobs.is_receiving(job_id):
                continue
            try:
                closed = await self._open_jobs.expire(job_id)
            except (OperationError, SpoolFull):
                continue  # its document came, somebody canceled it, or the disk is full now
            log.info("job_timed_out", job_id=job_id, job_uuid=closed.uuid, state=closed.state)
