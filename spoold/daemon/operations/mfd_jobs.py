"""Held jobs at MFDs: `mfd.jobs`, `.release`, `.change` and `.delete`.

What the person of the session may do with which job, and at which printer, is the desk's business
(`release/desk.py`); here it is asked and shown. Several jobs are several decisions: one that is
refused leaves the others alone. At a site the jobs that wait at its application server follow those
that are here, and are dealt with there (`site/far_desk.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spoold.daemon.operations.access import DEVICES, KNOWN
from spoold.daemon.operations.held_jobs import (
    CHANGES,
    ID,
    IDS,
    change_map,
    changes_of,
    held_map,
    result_maps,
)
from spoold.daemon.operations.mfd import PRINTER, SESSION, at_session, printer_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.model.job import JobReason
from spoold.model.printer import Printer
from spoold.model.release import NO_CHANGES
from spoold.model.user import User
from spoold.release.desk import PAGE_JOBS_MAX, RELEASED_AT_ONCE
from spoold.site.far_desk import FAR, FarDesk, FarJobs


async def jobs(call: Call) -> dict[str, Any]:
    """The held jobs of the person, and of those whose delegate the person is."""
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    after_id, limit = call.args["after_id"], call.args["limit"]
    rows: list[dict[str, Any]] = []
    if after_id < FAR:
        held = await call.services.desk.held(user, printer, after_id=after_id, limit=limit)
        rows = [held_map(one) | {"node": ""} for one in held]
    if len(rows) == limit:
        far = FarJobs(next_after_id=rows[-1]["id"])
    else:
        far = await _far(call, user, printer, after_id, limit - len(rows))
    page, is_cut = fitting([*rows, *far.jobs], limit, far.unheard)
    return {
        "jobs": page,
        "next_after_id": page[-1]["id"] if is_cut else far.next_after_id,
        "unheard": list(far.unheard),
    }


async def _far(call: Call, user: User, printer: Printer, after_id: int, limit: int) -> FarJobs:
    """What waits elsewhere and may come out at this printer of ours."""
    desk = call.services.far_desk
    if desk is None or not printer.is_ours:
        return FarJobs()
    return await desk.held(user.guid, printer.guid, after_id, limit)


def _split(call: Call, jobs: list[int]) -> tuple[list[int], list[int], FarDesk | None]:
    """The jobs that are here, those that are elsewhere, and who knows of the latter."""
    desk = call.services.far_desk
    if desk is None:
        return jobs, [], None
    return [one for one in jobs if one < FAR], [one for one in jobs if one >= FAR], desk


async def release(call: Call) -> dict[str, Any]:
    """Print some or all of the held jobs here."""
    args, services = call.args, call.services
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    changes, account = changes_of(call), args["account"]
    here, elsewhere, desk = _split(call, args["jobs"] or [])
    unheard: tuple[str, ...] = ()
    if args["jobs"] is None:
        far = await _far(call, user, printer, FAR, RELEASED_AT_ONCE)
        elsewhere, unheard = [one["id"] for one in far.jobs if _is_whole(one)], far.unheard
    results = []
    if here or args["jobs"] is None:
        ids = None if args["jobs"] is None else here
        done = await services.desk.release(user, ids, printer, mfd.identity, changes, account)
        results = result_maps(done)["results"]
    if elsewhere and desk is not None:
        results += await desk.release(
            user.guid, printer.guid, elsewhere, mfd.identity, changes, account
        )
    return _in_order(results, args["jobs"]) | {"unheard": list(unheard)}


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
    _, elsewhere, desk = _split(call, [job_id])
    if elsewhere and desk is not None:
        return await desk.change(user.guid, printer.guid, job_id, changes)
    result = await call.services.desk.change(user, job_id, changes, printer)
    return change_map(result)


async def delete(call: Call) -> dict[str, Any]:
    """Delete held jobs of the person's own."""
    _, _, user = await at_session(call)
    jobs = call.args["jobs"]
    here, elsewhere, desk = _split(call, jobs)
    results = result_maps(await call.services.desk.delete(user, here))["results"] if here else []
    if elsewhere and desk is not None:
        results += await desk.delete(user.guid, elsewhere)
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
