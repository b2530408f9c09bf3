"""Held jobs at MFDs: `mfd.jobs`, `.release`, `.change` and `.delete`.

What the person of the session may do with which job, and at which printer, is the desk's business
(`release/desk.py`); here it is asked and shown. Several jobs are several decisions: one that is
refused leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spoold.daemon.operations.access import DEVICES, KNOWN
from spoold.daemon.operations.mfd import PRINTER, SESSION, at_session, printer_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.model.release import COLORS, NO_CHANGES, SIDES, Changes
from spoold.release.desk import PAGE_JOBS_MAX, RELEASED_AT_ONCE, HeldJob, Result

COPIES_MAX = 9999
JOB_ID_MAX = 2**31 - 1


def held_map(job: HeldJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "uuid": str(job.uuid),
        "title": job.title,
        "owner": job.owner,
        "printer": job.printer,
        "pages": job.pages,
        "copies": job.copies,
        "color": job.color,
        "sides": job.sides,
        "price": job.price,
        "created_us": job.created_us,
        "expires_us": job.expires_us,
        "fits": job.fits,
        "why": job.why,
        "reasons": list(job.reasons),
    }


def result_map(result: Result) -> dict[str, Any]:
    """What became of a job; `error` is nil when it was done."""
    error = result.error
    told = error and {"code": error.code, "message": error.message, "advice": error.advice}
    return {
        "id": result.job_id,
        "title": result.title,
        "state": result.state.value if result.state is not None else None,
        "price": result.price,
        "error": told,
    }


def _results(results: Iterable[Result]) -> dict[str, Any]:
    page, _ = fitting(map(result_map, results), RELEASED_AT_ONCE)
    return {"results": page}


def _changes(call: Call) -> Changes:
    args = call.args
    return Changes(args["copies"], args["sides"], args["color"])


async def jobs(call: Call) -> dict[str, Any]:
    """The held jobs of the person, and of those whose delegate the person is."""
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    after, limit = call.args["after_id"], call.args["limit"]
    held = await call.services.desk.held(user, printer, after_id=after, limit=limit)
    page, is_cut = fitting(map(held_map, held), limit)
    is_more = is_cut or len(held) == limit
    return {"jobs": page, "next_after_id": page[-1]["id"] if page and is_more else None}


async def release(call: Call) -> dict[str, Any]:
    """Print some or all of the held jobs here."""
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    results = await call.services.desk.release(
        user, call.args["jobs"], printer, mfd.identity, _changes(call), call.args["account"]
    )
    return _results(results)


async def change(call: Call) -> dict[str, Any]:
    """Change a held job before it is released."""
    mfd, _, user = await at_session(call)
    changes = _changes(call)
    if changes == NO_CHANGES:
        raise OperationError(
            "bad-request", "nothing is to be changed.", "Name copies, sides or color."
        )
    printer = await printer_of(call, mfd)
    result = await call.services.desk.change(user, call.args["job"], changes, printer)
    if result.error is not None:
        raise result.error
    return result_map(result)


async def delete(call: Call) -> dict[str, Any]:
    """Delete held jobs of the person's own."""
    _, _, user = await at_session(call)
    return _results(await call.services.desk.delete(user, call.args["jobs"]))


_ID = Argument("", (int,), least=1, most=JOB_ID_MAX)
_CHANGES = (
    Argument("copies", (int,), least=1, most=COPIES_MAX),
    Argument("sides", choices=SIDES),
    Argument("color", choices=COLORS, summary="A print-color-mode (PWG 5100.13)."),
)
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
_HELD = (
    Argument("id", (int,), required=True),
    Argument("uuid", required=True),
    Argument("title", required=True),
    Argument("owner", required=True, summary="The person, or one whose delegate the person is."),
    Argument("printer", required=True, summary="Where it waits."),
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
        ),
    ),
    Operation(
        "mfd.release",
        (
            SESSION,
            PRINTER,
            Argument(
                "jobs",
                (list,),
                least=1,
                most=RELEASED_AT_ONCE,
                each=_ID,
                summary="Which; without it all that can be released here.",
            ),
            *_CHANGES,
            ACCOUNT,
        ),
        DEVICES,
        KNOWN,
        release,
        "Print held jobs here.",
        _RESULTS,
    ),
    Operation(
        "mfd.change",
        (
            SESSION,
            PRINTER,
            Argument("job", (int,), required=True, least=1, most=JOB_ID_MAX),
            *_CHANGES,
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
            Argument("jobs", (list,), required=True, least=1, most=RELEASED_AT_ONCE, each=_ID),
        ),
        DEVICES,
        KNOWN,
        delete,
        "Delete held jobs.",
        _RESULTS,
    ),
)
