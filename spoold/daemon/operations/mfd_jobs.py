"""Held jobs at MFDs: `mfd.jobs`, `.release`, `.change` and `.delete`.

What the person of the session may do with which job, and at which printer, is the desk's business
(`release/desk.py`); here it is asked and shown. Several jobs are several decisions: one that is
refused leaves the others alone. Jobs that wait at other nodes follow those that are here, and are
dealt with there: at a site by its application server (`site/far_desk.py`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from spoold.daemon.operations.access import DEVICES, KNOWN
from spoold.daemon.operations.held_jobs import (
    CHANGES,
    ID,
    IDS,
    change_map,
    changes_of,
    page_with_far,
    result_maps,
    split,
)
from spoold.daemon.operations.mfd import PRINTER, SESSION, at_session, printer_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.model.job import JobReason
from spoold.model.release import NO_CHANGES
from spoold.release.desk import PAGE_JOBS_MAX, RELEASED_AT_ONCE
from spoold.site.far_desk import FAR, FarJobs


async def jobs(call: Call) -> dict[str, Any]:
    """The held jobs of the person, and of those whose delegate the person is."""
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    after_id, limit = call.args["after_id"], call.args["limit"]
    services = call.services
    near = []
    if after_id < FAR:
        near = await services.desk.held(user, printer, after_id=after_id, limit=limit)
    far = partial(services.far_desk.held, user.guid, printer, after_id)
    return await page_with_far(near, limit, far)


async def release(call: Call) -> dict[str, Any]:
    """Print some or all of the held jobs here."""
    args, services = call.args, call.services
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    asked = (mfd.identity, changes_of(call), args["account"])
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


async def change(call: Call) -> dict[str, Any]:
    """Change a held job before it is released."""
    mfd, _, user = await at_session(call)
    changes = changes_of(call)
    if changes == NO_CHANGES:
        raise OperationError(
            "bad-request", "nothing is to be changed.", "Name copies, sides or color."
        )
    printer = await printer_of(call, mfd)
    job_id = call.args["job"]
    if job_id >= FAR:
        return await call.services.far_desk.change(user.guid, printer, job_id, changes)
    result = await call.services.desk.change(user, job_id, changes, printer)
    return change_map(result)


async def delete(call: Call) -> dict[str, Any]:
    """Delete held jobs of the person's own."""
    _, _, user = await at_session(call)
    services, jobs = call.services, call.args["jobs"]
    here, elsewhere = split(jobs)
    results = result_maps(await services.desk.delete(user, here) if here else [])["results"]
    if elsewhere:
        results += await services.far_desk.delete(user.guid, elsewhere)
    return _in_order(results, jobs)


ACCOUNT = Argument(
    "account",
    most=255,
    summary="Who pays: a shared account of mfd.accounts, or an empty text for the person.",
)
_ERROR = Argument(
    "error",
    (dict,),
    keys=tuple(Argument(name, required=True) for name in ("code", "message", "advice")),
    summary="Why it was not done; null when it was.",
)
RESULT = (
    Argument("id", (int,), required=True),
    Argument("title", required=True),
    Argument("state", summary="The job's state now (RFC 8011)."),
    Argument("price", (int,), summary="In 1/10,000 of the currency."),
    _ERROR,
)
_RESULTS = (
    Argument(
        "results",
        (list,),
        required=True,
        each=Argument("", (dict,), keys=RESULT),
        summary="What became of each job, in the order in which they were named.",
    ),
)
_UNHEARD = Argument(
    "unheard",
    (list,),
    required=True,
    each=Argument(""),
    summary="Servers that did not answer in time: more may wait there.",
)
_HELD = (
    Argument("id", (int,), required=True),
    Argument("uuid", required=True),
    Argument("title", required=True),
    Argument("owner", required=True, summary="The person, or one whose delegate the person is."),
    Argument("printer", required=True, summary="Where it waits."),
    Argument("node", required=True, summary="The server that keeps it; empty: this one."),
    Argument("pages", (int,), summary="Impressions of one copy; null: not counted so far."),
    Argument("copies", (int,), required=True),
    Argument("color", (bool,), summary="Whether something is in colour; null: nobody knows."),
    Argument("sides", required=True),
    Argument("price", (int,), summary="Of all copies, in 1/10,000; null: free, or not known."),
    Argument("created_us", (int,), required=True, summary="UTC, in microseconds."),
    Argument("expires_us", (int,), summary="When it is deleted; null: never."),
    Argument("fits", (bool,), required=True, summary="Whether it can be released here."),
    Argument("why", required=True, summary="If not, what is in the way."),
    Argument("reasons", (list,), required=True, each=Argument("")),
)

OPERATIONS = (
    Operation(
        "mfd.jobs",
        (
            SESSION,
            PRINTER,
            Argument("after_id", (int,), default=0, summary="The page before's next_after_id."),
            Argument("limit", (int,), default=50, least=1, most=PAGE_JOBS_MAX),
        ),
        DEVICES,
        KNOWN,
        jobs,
        "A page of the held jobs that can be fetched, oldest first.",
        (
            Argument("jobs", (list,), required=True, each=Argument("", (dict,), keys=_HELD)),
            Argument("next_after_id", (int,), summary="Null: there are no more."),
            _UNHEARD,
        ),
    ),
    Operation(
        "mfd.release",
        (
            SESSION,
            PRINTER,
            IDS,
            *CHANGES,
            ACCOUNT,
        ),
        DEVICES,
        KNOWN,
        release,
        "Print held jobs here.",
        (*_RESULTS, _UNHEARD),
    ),
    Operation(
        "mfd.change",
        (
            SESSION,
            PRINTER,
            ID,
            *CHANGES,
        ),
        DEVICES,
        KNOWN,
        change,
        "Change a held job.",
        RESULT,
    ),
    Operation(
        "mfd.delete",
        (
            SESSION,
            replace(IDS, required=True, summary="Which."),
        ),
        DEVICES,
        KNOWN,
        delete,
        "Delete held jobs.",
        _RESULTS,
    ),
)
