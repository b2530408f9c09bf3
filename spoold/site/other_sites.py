"""What people have waiting at sites, as an application server knows it from the sites' records.

It is listed with what waits here. Who releases it at another machine has it come here first, where
it is then held (`wanting`), and is released like any other; so there are two moves, each of which
is whole or was none. Changed and deleted is what waits at a site there, while that has its line
(`errands`). In the place of `FarDesk`, which is a site's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import trio

from spoold.model.errors import OperationError
from spoold.model.printer import Printer
from spoold.model.release import Changes
from spoold.site.errands import Errands
from spoold.site.far_desk import FAR, FarJobs, refused
from spoold.site.wanting import Wanting
from spoold.spool import remote_views
from spoold.spool.reader import SqliteReader
from spoold.spool.remote_views import Waits

# Releases one job that is held here: the person, its number, the printer, `where`, what is changed,
# who pays. The answer is what became of it.
Release = Callable[[UUID, int, Printer, str, Changes, str | None], Awaitable[dict[str, Any]]]
# Raises OperationError: a job that waits on the first of the printers, with documents of this
# format, does not come out on the second one.
CheckPlace = Callable[[Printer, Printer, str], None]


class OtherSites:
    """Jobs go by the keys of what is known of them, and `FAR`. `printers` are those of now."""

    def __init__(
        self,
        reader: SqliteReader,
        wanting: Wanting,
        errands: Errands,
        printers: Callable[[], Awaitable[dict[UUID, Printer]]],
        check_place: CheckPlace,
        release_here: Release,
    ) -> None:
        self._reader = reader
        self._wanting = wanting
        self._errands = errands
        self._printers = printers
        self._check_place = check_place
        self._release_here = release_here

    async def held(
        self,
        person: UUID,
        printer: Printer,
        after_id: int,
        limit: int,
        asking: UUID | None = None,
    ) -> FarJobs:
        """A page; the site that is `asking` knows its own."""
        after = max(0, after_id - FAR)
        found = await self._reader.look(remote_views.waits_for, person, after, limit)
        known = await self._printers() if found else {}
        return FarJobs(
            tuple(
                _shown(one, self._why_not(one, known, printer))
                for one in found
                if one.job.node != asking
            ),
            FAR + found[-1].key if len(found) == limit else None,
        )

    def _why_not(self, one: Waits, known: dict[UUID, Printer], printer: Printer) -> str:
        try:
            self._check(one, known, printer)
        except OperationError as error:
            return error.message
        return ""

    def _check(self, one: Waits, known: dict[UUID, Printer], printer: Printer) -> None:
        """Let a job come out at another printer than that of its site, as far as is known here.

        Raises:
            OperationError: `not-possible`, or `busy`: its site cannot be reached.
        """
        job, name = one.job, _name(one)
        home = None if job.printer is None else known.get(job.printer)
        if home is None or not home.is_find_me:
            raise OperationError("not-possible", f"it waits at {name}: fetch it there.")
        self._check_place(home, printer, job.format)
        if not self._wanting.can_ask(job.node):
            raise OperationError(
                "busy",
                f"{name} cannot be reached now: the job stays there.",
                "Fetch it there, or try again later.",
            )

    async def release(
        self,
        person: UUID,
        printer: Printer,
        jobs: Sequence[int],
        where: str,
        changes: Changes,
        account: str | None,
    ) -> list[dict[str, Any]]:
        """Have jobs come here, all at once, and then out at the printer; what became of each."""
        keys = [one - FAR for one in jobs]
        found = await self._reader.look(remote_views.waiting_among, person, keys)
        known = await self._printers()
        brought: dict[int, int | OperationError] = {}

        async def bring(key: int) -> None:
            try:
                one = found.get(key)
                if one is None:
                    brought[key] = await self._came_before(key)
                    return
                self._check(one, known, printer)
                brought[key] = await self._wanting.bring(one.job.uuid, one.job.node, _name(one))
            except OperationError as error:
                brought[key] = error

        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(bring, key)
        results = []
        for key in keys:
            here = brought[key]
            if isinstance(here, OperationError):
                results += refused([FAR + key], here)
            else:
                told = await self._release_here(person, here, printer, where, changes, account)
                results.append(told | {"id": FAR + key})
        return results

    async def _came_before(self, key: int) -> int:
        """The number here of a job that came here and was refused then, as nobody paid for it.

        Raises:
            OperationError: `not-found`: it does not wait here.
        """
        uuid = await self._reader.look(remote_views.uuid_of, key)
        job = None if uuid is None else await self._reader.job_by_uuid(uuid)
        if job is None or not job.awaits_release:
            raise _gone()
        return job.id

    async def delete(self, person: UUID, jobs: Sequence[int]) -> list[dict[str, Any]]:
        results = []
        for job in jobs:
            try:
                results.append(await self._do("held.delete", person, job, {}))
            except OperationError as error:
                results += refused([job], error)
        return results

    async def change(
        self, person: UUID, printer: Printer, job: int, changes: Changes
    ) -> dict[str, Any]:
        """Raises OperationError: it was not changed, or nobody knows."""
        given = {key: value for key, value in changes._asdict().items() if value is not None}
        return await self._do("held.change", person, job, given)

    async def _do(self, op: str, person: UUID, job: int, more: dict[str, Any]) -> dict[str, Any]:
        """Raises OperationError: it was not done, or nobody knows."""
        found = await self._reader.look(remote_views.waiting_among, person, [job - FAR])
        if not found:
            raise _gone()
        [one] = found.values()
        asked = {"person": str(person), "job": str(one.job.uuid), **more}
        advice = "Do that there, or when you release it."
        told = await self._errands.run(one.job.node, _name(one), op, asked, advice)
        return told | {"id": job}


def _name(waits: Waits) -> str:
    return waits.node or str(waits.job.node)


def _shown(waits: Waits, why: str) -> dict[str, Any]:
    job = waits.job
    return {
        "id": FAR + waits.key,
        "uuid": str(job.uuid),
        "title": job.title,
        "owner": job.owner,
        "printer": waits.printer,
        "pages": job.impressions,
        "copies": job.copies,
        "color": None,
        "sides": "",
        "price": None,
        "created_us": job.created_us,
        "expires_us": None,
        "fits": not why,
        "why": why,
        "reasons": list(job.reasons),
        "node": _name(waits),
    }


def _gone() -> OperationError:
    return OperationError("not-found", "the job waits there no more.", "List the jobs again.")
