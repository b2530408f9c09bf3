"""Jobs that wait at a site and are wanted here, as their people stand at a machine elsewhere.

In: a held job that a site has told of. Out: the same job, held here, under its uuid. The site is
told to ask (`jobs-wanted`), lets go of the job, durably, and sends the document over a connection
that it opens, as a job that is handed on (FRAMES.md 12). From then on it is released here and
nowhere else. A site that does not ask in time keeps the job, and nothing of the wish is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError
from spoold.model.job import ACTIVE, Job, JobReason, JobState
from spoold.model.node import LineState
from spoold.model.transitions import JobEvent
from spoold.site.presence import Presence
from spoold.spool import handed, remote_views
from spoold.spool.crashpoint import crash_point
from spoold.spool.handed import HandedJob
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import ChangeJob

log = structlog.get_logger("spoold.site")

EVENT = "jobs-wanted"  # told to a site: ask `site.wanted`
BRING_S = 8.0  # for which somebody at a machine waits for a document
WANTED_S = 120.0  # and as long it may still come, to be found there the next time


@dataclass(slots=True)
class _Want:
    """A job that one site is to let go of; `until_s` on the clock of this process."""

    site: UUID
    until_s: float
    is_heard: trio.Event = field(default_factory=trio.Event)
    is_over: trio.Event = field(default_factory=trio.Event)
    job_id: int = 0
    error: OperationError | None = None


class Wanting:
    """Sites go by their nodes' GUIDs. `deadline_s` is what a site may take to ask."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        sites: Presence,
        wall_clock: Callable[[], int],
        deadline_s: float,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._sites = sites
        self._wall_clock = wall_clock
        self._deadline_s = deadline_s
        self._wants: dict[UUID, _Want] = {}
        sites.listen(self._line_changed)

    def can_ask(self, site: UUID) -> bool:
        """Whether the site has its line, as far as is known."""
        return self._sites.is_up(site)

    # -- who wants it ----------------------------------------------------------------------------

    async def bring(self, uuid: UUID, site: UUID, name: str) -> int:
        """Have a job that is held at a site, called `name`, wait here instead; its number here.

        Raises:
            OperationError: `busy`: the site does not answer, or the document is still on its way;
                `not-possible`: the job moved on there, or cannot travel.
        """
        here = await self._reader.job_by_uuid(uuid)
        if here is not None and here.awaits_release:
            return here.id
        await self._check_movable(uuid, site, here)
        want = self._wants.get(uuid)
        if want is None or want.site != site or want.is_over.is_set():
            want = self._wants[uuid] = _Want(site, 0.0)
        want.until_s = trio.current_time() + WANTED_S
        self._sites.tell(site, EVENT)
        with trio.move_on_after(self._deadline_s):
            await want.is_heard.wait()
        if not want.is_heard.is_set():
            self._forget(uuid, want)
            raise OperationError(
                "busy",
                f"{name} does not answer: the job stays there.",
                "Fetch it there, or try again.",
            )
        with trio.move_on_after(BRING_S):
            await want.is_over.wait()
        if not want.is_over.is_set():
            raise OperationError(
                "busy",
                f"its document is still on its way from {name}.",
                "Try again in a moment; it waits here then.",
            )
        if want.error is not None:
            raise want.error
        return want.job_id

    async def _check_movable(self, uuid: UUID, site: UUID, here: Job | None) -> None:
        """Raises OperationError: `not-possible`, or `busy`: in a moment it is."""
        if here is not None:
            if await self._handed_to(site, here) is not None:
                return
            code = "busy" if here.state in ACTIVE else "not-possible"
            raise OperationError(code, f"the job is {here.state} just now.", "List the jobs again.")
        for one in await self._reader.look(handed.find_handed):
            if one.evidence.get("uuid") == str(uuid):
                raise of_several()

    def _line_changed(self, site: UUID, state: LineState) -> None:
        """What a site was to send while its line breaks is not waited for."""
        if state is LineState.UP:
            return
        lost = [uuid for uuid, one in self._wants.items() if one.site == site]
        for uuid in lost:
            self.kept(
                site,
                uuid,
                OperationError(
                    "busy",
                    "the line to the site broke: the job waits there, or here when it is back.",
                    "List the jobs again.",
                ),
            )

    def _forget(self, uuid: UUID, want: _Want) -> None:
        if self._wants.get(uuid) is want:
            del self._wants[uuid]

    # -- what the site says ----------------------------------------------------------------------

    def wanted(self, site: UUID) -> list[UUID]:
        """The jobs that the site is to let go of; asking is the sign that it does."""
        now_s = trio.current_time()
        for uuid, want in list(self._wants.items()):
            if want.until_s < now_s:
                self._forget(uuid, want)
        found = {uuid: one for uuid, one in self._wants.items() if one.site == site}
        for want in found.values():
            want.is_heard.set()
        return list(found)

    def kept(self, site: UUID, uuid: UUID, error: OperationError) -> None:
        """The site keeps a job, and says why."""
        want = self._wants.get(uuid)
        if want is not None and want.site == site:
            self._forget(uuid, want)
            want.error = error
            want.is_heard.set()
            want.is_over.set()

    async def gave(self, site: UUID, uuid: UUID) -> dict[str, Any]:
        """The site has let go of a job: how it is here. No `state`: its document is wanted first.

        Raises:
            OperationError: `not-possible`: it cannot wait here.
        """
        there = (await self._reader.look(handed.find_there, [uuid])).get(uuid)
        if there is None:
            is_done = await self._is_done_elsewhere(site, uuid)
            return {"job_id": None, "state": JobState.COMPLETED.value if is_done else None}
        job = await self._reader.job(there.job_id)
        state = JobState(there.state)
        if job is not None and state in ACTIVE:
            one = await self._handed_to(site, job)
            if one is not None:
                state = await self._take_back(one)
        want = self._wants.get(uuid)
        if want is not None and want.site == site:
            self._forget(uuid, want)
            want.job_id = there.job_id
            want.is_over.set()
            crash_point("given-before-answer")
        return {"job_id": there.job_id, "state": state.value}

    async def _is_done_elsewhere(self, site: UUID, uuid: UUID) -> bool:
        """Whether a third node has told that it printed a job which this one, restored, forgot."""
        told = await self._reader.look(remote_views.by_uuid, uuid)
        return any(one.node != site and one.state is JobState.COMPLETED for one in told)

    async def _take_back(self, one: HandedJob) -> JobState:
        """A job that the site had from here is held here again, as nobody has it any more."""
        change = ChangeJob(
            one.job_id,
            JobEvent.MISFIT,
            self._wall_clock(),
            reasons=(JobReason.JOB_RELEASE_WAIT.value,),
            only_from=ACTIVE,
        )
        state: JobState = await self._journal.commit(change)
        return state

    async def _handed_to(self, site: UUID, job: Job) -> HandedJob | None:
        """The job, as it was handed on to this site; None: it goes on here, or is over.

        Raises:
            OperationError: `not-possible`: it cannot come back.
        """
        found = await self._reader.look(handed.find_handed, [job.id])
        if not found or found[0].evidence.get("node") != str(site):
            return None
        if job.documents > 1:
            raise of_several()
        if found[0].is_canceled:
            raise OperationError("not-possible", "somebody has canceled the job.")
        one: HandedJob = found[0]
        return one


def of_several() -> OperationError:
    """A job that is handed on is one document, which has a uuid of its own: of several, some might
    come out at one node and some at the other, and be paid at both.
    """
    return OperationError(
        "not-possible",
        "it has several documents: only jobs of one are fetched from elsewhere.",
        "Fetch it where it waits.",
    )
