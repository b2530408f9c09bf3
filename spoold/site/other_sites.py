"""What people have waiting at sites, as an application server knows it from the sites' records.

It is listed, so that nobody looks for it in vain, and fetched where it waits: a document does not
travel from one site to another. In the place of `FarDesk`, which is a site's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.printer import Printer
from spoold.model.release import Changes
from spoold.site.far_desk import FAR, FarJobs, refused
from spoold.spool import remote_jobs
from spoold.spool.reader import SqliteReader
from spoold.spool.remote_jobs import Waits


class OtherSites:
    """Jobs go by the keys of what is known of them, and `FAR`."""

    def __init__(self, reader: SqliteReader) -> None:
        self._reader = reader

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
        found = await self._reader.look(remote_jobs.waits_for, person, after, limit)
        return FarJobs(
            tuple(_shown(one) for one in found if one.job.node != asking),
            FAR + found[-1].key if len(found) == limit else None,
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
        return refused(jobs, _not_here())

    async def delete(self, person: UUID, jobs: Sequence[int]) -> list[dict[str, Any]]:
        return refused(jobs, _not_here())

    async def change(
        self, person: UUID, printer: Printer, job: int, changes: Changes
    ) -> dict[str, Any]:
        raise _not_here()


def _shown(waits: Waits) -> dict[str, Any]:
    job, node = waits.job, waits.node or str(waits.job.node)
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
        "fits": False,
        "why": f"it waits at {node}: fetch it there.",
        "reasons": list(job.reasons),
        "node": node,
    }


def _not_here() -> OperationError:
    return OperationError("not-possible", "the job waits at another site.", "Fetch it there.")
