"""While there is an emergency, printers that hold jobs for their owners print them at once.

For a card reader that is broken or a directory that is dead. Jobs are released as by an operator,
in the name of who began it; what they cost is charged as ever. It ends by itself, by the clock on
the wall, and what is held then waits for its owner again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.model.job import JobReason, JobState
from spoold.model.release import ReleaseMode
from spoold.release.releasing import Catalogue, Releaser, Releases
from spoold.spool import emergencies
from spoold.spool.emergencies import Emergency
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import EmergencyChanged, Event, JobFilter, JobMoved, SetEmergency

log = structlog.get_logger("spoold.release")

TOGETHER = 100
LOOK_S = 5.0  # how often the clock is looked at while it lasts
GATHER_S = 0.1  # after a job has come, for those that come with it


class Emergencies:
    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        printers: Catalogue,
        releases: Releases,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._printers = printers
        self._releases = releases
        self._wall_clock = wall_clock
        self._bell = trio.Event()
        self.now: Emergency | None = None
        self._refused: dict[UUID, str] = {}  # jobs that go on waiting, and the reason that was told
        journal.listen(self._hear)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is EmergencyChanged or (self.now and type(event) is JobMoved):
                self._bell.set()
                return

    async def run(self) -> None:
        """Release what is held as long as there is an emergency, for ever."""
        while True:
            self._bell = trio.Event()
            try:
                await self._look()
            except StoreFailed:
                raise
            except SpoolError as error:
                log.warning("emergency_hindered", reason=str(error))
            with trio.move_on_after(LOOK_S if self.now else float("inf")):
                await self._bell.wait()
                await trio.sleep(GATHER_S)

    async def _look(self) -> None:
        before, self.now = self.now, await self._reader.look(emergencies.find)
        if self.now is None:
            if before is not None:
                log.warning("emergency_ended")
            self._refused.clear()
            return
        now_us = self._wall_clock()
        if not self.now.since_us <= now_us < self.now.until_us:
            self.now = None
            with suppress(OperationError):  # somebody has ended it just now
                await self._journal.commit(SetEmergency(None, now_us))
            log.warning("emergency_ended")
            return
        if before is None:
            log.warning("emergency_began", actor=self.now.actor)
        await self._release_all(self.now)

    async def _release_all(self, emergency: Emergency) -> None:
        told, self._refused = self._refused, {}
        known = await self._printers.look()
        for printer in known.printers.values():
            if printer.release is not ReleaseMode.HOLD or not printer.is_ours:
                continue
            after = 0
            while True:
                jobs = await self._reader.jobs(
                    JobFilter(
                        states=(JobState.PENDING_HELD,),
                        printer_id=printer.id,
                        reason=JobReason.JOB_RELEASE_WAIT.value,
                        after_id=after,
                        limit=TOGETHER,
                    )
                )
                for job in jobs:
                    after = job.id
                    try:
                        await self._releases.release(job, printer, Releaser(emergency.actor))
                        log.info("job_released_in_emergency", job_uuid=str(job.uuid))
                    except OperationError as error:
                        self._refused[job.uuid] = error.code
                        if told.get(job.uuid) != error.code:
                            reason = str(error)
                            log.warning("job_not_released", job_uuid=str(job.uuid), reason=reason)
                if len(jobs) < TOGETHER:
                    break
