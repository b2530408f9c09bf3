"""Jobs that are at a site and at its application server under one uuid: one is printed.

A provider that went to both leaves such twins. What has come out at the site is canceled at the
application server when the site's record of it comes (`spool/remote_jobs.merge`). Here the other
way: what has come out at the application server, and waits at a site, is canceled at the site; so
is what a site has given away (`giving`), when it has ended there. The site asks on each line and
when it is told; a job that has moved on meanwhile is left alone.

A site whose disk was put back, or that began with an empty one, has lost jobs that it had told of:
it says which of them it does not know, so that they are listed no more. It asks for them on each
line, and when it is told that more of that time has come since: it was still on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError, SpooldError, StoreFailed
from spoold.model.job import WAITING, JobReason, JobState
from spoold.model.node import LineState
from spoold.model.transitions import JobEvent
from spoold.site.line import Line, Lost
from spoold.site.presence import Presence
from spoold.spool import handed, leases, remote_jobs
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import (
    ChangeJob,
    Event,
    JobMoved,
    JournalBranched,
    SiteWentBack,
    TwinFound,
)

log = structlog.get_logger("spoold.site")

EVENT = "jobs-done"  # told to a site: ask `site.done`
LOST = "jobs-lost"  # told to a site that was put back: ask `site.unfinished`
QUIET_S = 0.1  # sites are told this often at most
ANSWER_S = 30.0
RETRY_S = 5.0


class Twins:
    """The application server's side: tells sites whose waiting jobs have come out here."""

    def __init__(self, journal: Journal, reader: SqliteReader, sites: Presence) -> None:
        self._reader = reader
        self._sites = sites
        self._done: dict[UUID, None] = {}
        self._bell = trio.Event()
        journal.listen(self._hear)

    def _hear(self, events: list[Event]) -> None:
        if not self._sites.here():
            return  # who comes back asks
        for event in events:
            if type(event) is SiteWentBack:
                self._sites.tell(event.site, LOST)
            elif type(event) is TwinFound or (type(event) is JobMoved and event.new.is_final):
                self._done[event.uuid] = None
        if self._done:
            self._bell.set()

    async def run(self) -> None:
        """Tell sites, for ever."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            done, self._done = list(self._done), {}
            for twin in await self._reader.look(remote_jobs.twins_of, done):
                if not twin.is_its_own:
                    self._sites.tell(twin.node, EVENT)
            await trio.sleep(QUIET_S)


class Losers:
    """The site's side: cancels what waits here and has come out there."""

    def __init__(
        self, line: Line, journal: Journal, reader: SqliteReader, wall_clock: Callable[[], int]
    ) -> None:
        self._line = line
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock
        self._bell = trio.Event()
        self._is_to_disown = True
        self._has_lost = False
        line.hear(EVENT, self._wake)
        line.hear(LOST, self._look_again)
        line.listen(self._line_changed)
        journal.listen(self._hear)

    def _wake(self, _: dict[str, Any]) -> None:
        self._bell.set()

    def _look_again(self, _: dict[str, Any]) -> None:
        self._is_to_disown = True
        self._bell.set()

    def _line_changed(self, state: LineState) -> None:
        self._look_again({})

    def _hear(self, events: list[Event]) -> None:
        if any(type(event) is JournalBranched for event in events):
            self._look_again({})

    def lose(self) -> None:
        """The spool was taken away: this one knows nothing of the one before it."""
        if not self._has_lost:
            self._has_lost = True
            self._look_again({})

    async def run(self) -> None:
        """Cancel, and disown, for ever."""
        while True:
            await self._line.wait_up()
            self._bell = trio.Event()
            try:
                await self._settle()
                if self._is_to_disown:
                    self._is_to_disown = False
                    await self._disown()
            except StoreFailed:
                raise
            except (Lost, OperationError, SpooldError) as error:
                self._is_to_disown = True
                log.info("twins_not_settled", reason=str(error))
                await trio.sleep(RETRY_S)
                continue
            await self._bell.wait()

    async def _settle(self) -> None:
        after_id: int | None = 0
        while after_id is not None:
            answer = await self._line.call("site.done", {"after_id": after_id}, ANSWER_S)
            after_id = answer["next_after_id"]
            await self._cancel([UUID(one) for one in answer["jobs"]])

    async def _cancel(self, uuids: list[UUID]) -> None:
        there = await self._reader.look(handed.find_there, uuids)
        changes = [
            ChangeJob(
                one.job_id,
                JobEvent.CANCEL,
                self._wall_clock(),
                reasons=(JobReason.JOB_DONE_ELSEWHERE,),
                message="It has ended at another node.",
                only_from=WAITING,
            )
            for one in there.values()
            if JobState(one.state) in WAITING
        ]
        if changes:
            await self._journal.commit_all(changes)  # what prints meanwhile stays
            log.info("twins_canceled", jobs=len(changes))

    async def _disown(self) -> None:
        """Say which of the jobs that this node has told of it does not know any more."""
        if not (self._has_lost or await self._reader.look(leases.was_put_back)):
            return
        before: int | None = 0
        while before is not None:
            answer = await self._line.call("site.unfinished", {"before": before}, ANSWER_S)
            before, uuids = answer["next_before"], [UUID(one) for one in answer["jobs"]]
            there = await self._reader.look(handed.find_there, uuids)
            unknown = [str(one) for one in uuids if one not in there]
            if unknown:
                await self._line.call("site.forgot", {"jobs": unknown}, ANSWER_S)
                log.warning("jobs_disowned", jobs=len(unknown))
