"""Jobs of sites, as their records have told of them: `job.elsewhere`, and for `job.show`.

What staff do to one of them here is done at its site, while that has its line (`site/errands.py`).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog

from spoold.daemon.operations.access import KNOWN, STAFF
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.table import Argument, Call, Operation, near
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.spool import nodes, remote_views
from spoold.spool.remote_views import RemoteJob

log = structlog.get_logger("spoold.daemon")

PAGE_JOBS_MAX = 500


async def list_jobs(call: Call) -> dict[str, Any]:
    """The jobs of a site, the newest first."""
    services, limit = call.services, call.args["limit"]
    names = await _names(services)
    name = call.args["site"]
    site = next((guid for guid, known in names.items() if known == name), None) or _guid(name)
    if site is None:
        raise OperationError(
            "not-found",
            f"there is no site {name[:60]!r}.",
            near(name, names.values()) or "See `spoold site list`.",
        )
    rows = await services.reader.look(
        remote_views.page,
        site,
        call.args["after_id"],
        limit + 1,
        call.args["unfinished"],
    )
    printers = await _printers(services)
    page, more = fitting((_map(job, names, printers) | {"key": key} for key, job in rows), limit)
    return {"jobs": page, "next_after_id": page[-1]["key"] if more else None}


async def find(call: Call, name: int | str) -> dict[str, Any] | None:
    """A job of a site, as `_find` finds it, for people."""
    job = await _find(call, name)
    if job is None:
        return None
    return _map(job, await _names(call.services), await _printers(call.services))


async def run_there(call: Call, op: str) -> dict[str, Any] | None:
    """Have the site do the operation to its job; None: the job that is named is no site's.

    Raises:
        OperationError: what the site says, or that it cannot be reached.
    """
    name = call.args["job"]
    job = None if name is None else await _find(call, name)
    if job is None:
        return None
    names = await _names(call.services)
    site = names.get(job.node, str(job.node))
    args = {key: value for key, value in call.args.items() if value is not None}
    verb = op.removeprefix("job.")
    advice = f"Do it there (`spoold job {verb} {job.job_id}`), or again when its line is back."
    answer = await call.services.errands.run(
        job.node, site, op, args | {"job": str(job.uuid)}, advice
    )
    log.info("errand_done", site=site, op=op, job_uuid=str(job.uuid), actor=call.actor)
    results = [one | {"id": f"{site}/{one['id']}"} for one in answer["results"]]
    return answer | {"results": results}


async def _find(call: Call, name: int | str) -> RemoteJob | None:
    """A job of a site, by NODE/ID or by its uuid where this node has none such; None: it is ours.

    For staff alone: what its owner may see is told at the site.
    """
    services = call.services
    if isinstance(name, int) or not call.is_staff:
        return None
    node, slash, rest = name.strip().rpartition("/")
    if slash:
        names = await _names(services)
        site = next((guid for guid, known in names.items() if node in (known, str(guid))), None)
        if site is None or not (rest.isascii() and rest.isdigit() and len(rest) <= 10):
            return None
        return await services.reader.look(remote_views.by_number, site, int(rest))
    uuid = _guid(rest)
    if uuid is None or await services.reader.job_by_uuid(uuid) is not None:
        return None
    found = await services.reader.look(remote_views.by_uuid, uuid)
    return found[-1] if found else None


def _guid(text: str) -> UUID | None:
    try:
        return UUID(text.removeprefix("urn:uuid:"))
    except ValueError:
        return None


async def _names(services: Services) -> dict[UUID, str]:
    return await services.reader.look(nodes.names)


async def _printers(services: Services) -> dict[UUID, str]:
    known = await services.catalogue.look()
    return {one.guid: one.name for one in known.printers.values()}


def _map(job: RemoteJob, names: dict[UUID, str], printers: dict[UUID, str]) -> dict[str, Any]:
    """Under the names of `views.job_map`; `id` is NODE/ID."""
    printer = "" if job.printer is None else printers.get(job.printer, str(job.printer))
    return {
        "id": f"{names.get(job.node, job.node)}/{job.job_id}",
        "uuid": str(job.uuid),
        "site": names.get(job.node, str(job.node)),
        "printer": printer,
        "state": job.state.value,
        "reasons": list(job.reasons),
        "owner": job.owner,
        "owner_known": "as the site says",
        "title": job.title,
        "intake": job.intake,
        "copies": job.copies,
        "size": job.size,
        "format": job.format,
        "pages": job.impressions,
        "media_sheets": job.media_sheets,
        "attempts": job.attempts,
        "created_us": job.created_us,
        "changed_us": job.changed_us,
        "finished_us": job.finished_us,
    }


OPERATIONS = (
    Operation(
        "job.elsewhere",
        (
            Argument("site", required=True, least=1, most=64, summary="Name or GUID of a site."),
            Argument("unfinished", (bool,), default=False, summary="Only those that go on."),
            Argument("limit", (int,), default=50, least=1, most=PAGE_JOBS_MAX),
            Argument("after_id", (int,), default=0),
        ),
        STAFF,
        KNOWN,
        list_jobs,
        "The jobs of a site, as it has told of them; the newest first.",
    ),
)
