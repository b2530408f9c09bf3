"""What people at this site have waiting at the application server: listed, released, changed.

In: somebody who has logged in here, and a printer of this site (FRAMES.md 12). Out: what the
application server says, its jobs under numbers of their own. The list is a question with a short
deadline: who does not answer is named, and what is here is shown without waiting. What is to be
done waits longer, as counting may take; nobody else than the application server decides it. When
its answer is lost, that is what is told: the job may have been released. Then it comes within a
minute, or waits again (`lateness`): never does it come out when nobody stands there any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.printer import Printer
from spoold.model.release import Changes
from spoold.site.line import Line, Lost
from spoold.spool import handed
from spoold.spool.handed import JobThere
from spoold.spool.reader import SqliteReader

log = structlog.get_logger("spoold.site")

FAR = 1 << 31  # numbers of jobs elsewhere begin here; those of a spool are below
ACT_S = 25.0  # a job may have to be counted before it is released


@dataclass(frozen=True, slots=True)
class FarJobs:
    """Jobs elsewhere, as `mfd.jobs` shows them. `unheard`: who did not say what waits there."""

    jobs: tuple[dict[str, Any], ...] = ()
    next_after_id: int | None = None
    unheard: tuple[str, ...] = ()


class FarDesk:
    """`upstream` is what the application server is called, None while there is none."""

    def __init__(
        self,
        line: Line,
        reader: SqliteReader,
        upstream: Callable[[], str | None],
        deadline_s: float,
    ) -> None:
        self._line = line
        self._reader = reader
        self._upstream = upstream
        self._deadline_s = deadline_s

    async def held(
        self,
        person: UUID,
        printer: Printer,
        after_id: int,
        limit: int,
        asking: UUID | None = None,
    ) -> FarJobs:
        """What waits for the person there; `after_id` is of an earlier page, or below `FAR`."""
        name = self._upstream()
        if name is None or not printer.is_ours:
            return FarJobs()
        asked = {
            "person": str(person),
            "printer": str(printer.guid),
            "after_id": max(0, after_id - FAR),
            "limit": limit,
        }
        try:
            answer = await self._line.call("site.held", asked, self._deadline_s)
        except Lost:
            return FarJobs(unheard=(name,))
        except OperationError as error:
            log.info("held_elsewhere_refused", reason=str(error))
            is_nobody = error.code in ("not-found", "forbidden")  # nobody who has jobs there
            return FarJobs(unheard=() if is_nobody else (name,))
        jobs = await self._new(answer["jobs"])
        next_id = answer["next_after_id"]
        return FarJobs(
            tuple(_near(one) | {"node": one.get("node") or name} for one in jobs),
            None if next_id is None else next_id + FAR,
        )

    async def _new(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The jobs that are not here as well: one that went to both is dealt with here."""
        uuids = [UUID(one["uuid"]) for one in jobs]
        here = await self._reader.look(handed.find_there, uuids)
        return [
            one
            for uuid, one in zip(uuids, jobs, strict=True)
            if uuid not in here or _is_over(here[uuid])
        ]

    async def release(
        self,
        person: UUID,
        printer: Printer,
        jobs: Sequence[int],
        where: str,
        changes: Changes,
        account: str | None,
    ) -> list[dict[str, Any]]:
        """Have jobs come out at a printer of this site; what became of each."""
        asked = {"person": str(person), "printer": str(printer.guid), **changes._asdict()}
        return await self._each("site.release", jobs, asked | {"account": account, "where": where})

    async def delete(self, person: UUID, jobs: Sequence[int]) -> list[dict[str, Any]]:
        return await self._each("site.delete", jobs, {"person": str(person)})

    async def change(
        self, person: UUID, printer: Printer, job: int, changes: Changes
    ) -> dict[str, Any]:
        """Raises OperationError: it was not changed, or nobody knows."""
        asked = {"person": str(person), "printer": str(printer.guid), "job": job - FAR}
        return _near(await self._do("site.change", asked | changes._asdict()))

    async def _each(
        self, op: str, jobs: Sequence[int], asked: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """What became of each job; a refusal of all is one of each."""
        if not jobs:
            return []
        try:
            answer = await self._do(op, asked | {"jobs": [one - FAR for one in jobs]})
        except OperationError as error:
            return refused(jobs, error)
        return [_near(one) for one in answer["results"]]

    async def _do(self, op: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Raises OperationError: it was refused, could not be asked, or the answer was lost."""
        name = self._upstream()
        if name is None or not self._line.is_connected:
            raise OperationError(
                "busy",
                f"{name or 'the application server'} cannot be reached now: the job stays there.",
                "Try again when the line is back.",
            )
        given = {key: value for key, value in asked.items() if value is not None}
        try:
            return await self._line.call(op, given, ACT_S)
        except Lost as error:
            log.warning("answer_lost", op=op, reason=str(error))
            raise OperationError(
                "in-doubt",
                f"the line to {name} broke: nobody knows whether that was done.",
                "List the jobs again; what was released comes out within a minute, or waits again.",
            ) from error


def refused(jobs: Sequence[int], error: OperationError) -> list[dict[str, Any]]:
    """What became of each job, where none was dealt with."""
    empty = {"title": "", "state": None, "price": None, "error": error.as_map()}
    return [{"id": one, **empty} for one in jobs]


def _is_over(here: JobThere) -> bool:
    """Whether a job is this node's no more."""
    is_given = JobReason.JOB_WAITS_ELSEWHERE in here.reasons
    return is_given or JobState(here.state) in (JobState.CANCELED, JobState.ABORTED)


def _near(told: dict[str, Any]) -> dict[str, Any]:
    """A job, or what became of it, under the number that it has here."""
    return {**told, "id": told["id"] + FAR}
