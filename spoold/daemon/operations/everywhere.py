"""Held jobs of a person, those of this node and those elsewhere, as one list.

What the person may do with which job, and at which printer, is the desk's business
(`release/desk.py`). Several jobs are several decisions: one that is refused leaves the others
alone. Jobs that wait at other nodes follow those that are here, under numbers of their own, and are
dealt with there: at a site by its application server (`site/far_desk.py`), which has those of other
sites come first (`site/other_sites.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from spoold.daemon.operations.held_jobs import (
    change_map,
    changes_of,
    page_with_far,
    result_maps,
    split,
)
from spoold.daemon.operations.table import Call
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.model.job import JobReason
from spoold.model.printer import Printer
from spoold.model.release import NO_CHANGES
from spoold.model.user import User
from spoold.release.desk import RELEASED_AT_ONCE
from spoold.site.far_desk import FAR, FarJobs


async def held(call: Call, user: User, printer: Printer | None) -> dict[str, Any]:
    """A page of what waits for a person; without a printer of what waits here."""
    services, after_id, limit = call.services, call.args["after_id"], call.args["limit"]
    near = []
    if after_id < FAR:
        near = await services.desk.held(user, printer, after_id=after_id, limit=limit)
    if printer is None:
        return await page_with_far(near, limit, _nothing)
    return await page_with_far(
        near, limit, partial(services.far_desk.held, user.guid, printer, after_id)
    )


async def _nothing(limit: int) -> FarJobs:
    return FarJobs()


async def release(call: Call, user: User, printer: Printer, where: str) -> dict[str, Any]:
    """Print some or all of the held jobs at a printer; `where` is the identity of who asks."""
    args, services = call.args, call.services
    asked = (where, changes_of(call), args["account"])
    ids, elsewhere, far = None, [], FarJobs()
    if args["jobs"] is None:
        far = await services.far_desk.held(user.guid, printer, FAR, RELEASED_AT_ONCE)
        elsewhere = [one["id"] for one in far.jobs if _is_whole(one)]
    else:
        ids, elsewhere = split(args["jobs"])
    done = [] if ids == [] else await services.desk.release(user, ids, printer, *asked)
    results = result_maps(done)["results"]
    if elsewhere:
        results += await services.far_desk.release(user.guid, printer, elsewhere, *asked)
    return _in_order(results, args["jobs"]) | {"unheard": list(far.unheard)}


def _is_whole(job: dict[str, Any]) -> bool:
    """Whether a job is released among all: it fits, and its submission was not interrupted."""
    return bool(job["fits"]) and JobReason.SUBMISSION_INTERRUPTED not in job["reasons"]


def _in_order(results: list[dict[str, Any]], jobs: list[int] | None) -> dict[str, Any]:
    """What became of jobs, as they were named."""
    if jobs is not None:
        order = {id_: number for number, id_ in enumerate(jobs)}
        results.sort(key=lambda one: order[one["id"]])
    page, _ = fitting(results, len(results))
    return {"results": page}


async def change(call: Call, user: User, printer: Printer | None) -> dict[str, Any]:
    """Change a held job before it is released at a printer, if it is known at which."""
    changes, job_id = changes_of(call), call.args["job"]
    if changes == NO_CHANGES:
        raise OperationError(
            "bad-request", "nothing is to be changed.", "Name copies, sides or color."
        )
    if job_id < FAR:
        return change_map(await call.services.desk.change(user, job_id, changes, printer))
    if printer is None:
        raise OperationError(
            "bad-request", "the job waits at another node.", "Name the printer where it comes out."
        )
    return await call.services.far_desk.change(user.guid, printer, job_id, changes)


async def delete(call: Call, user: User) -> dict[str, Any]:
    """Delete held jobs of the person's own."""
    services, jobs = call.services, call.args["jobs"]
    here, elsewhere = split(jobs)
    results = result_maps(await services.desk.delete(user, here) if here else [])["results"]
    if elsewhere:
        results += await services.far_desk.delete(user.guid, elsewhere)
    return _in_order(results, jobs)
