"""Held jobs at MFDs: `mfd.jobs`, `.release`, `.change` and `.delete`.

What the person of the session may do with which job, and at which printer, is the desk's business
(`release/desk.py`); here it is asked and shown. Several jobs are several decisions: one that is
refused leaves the others alone.
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
    held_page,
    result_maps,
)
from spoold.daemon.operations.mfd import PRINTER, SESSION, at_session, printer_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.model.release import NO_CHANGES
from spoold.release.desk import PAGE_JOBS_MAX


async def jobs(call: Call) -> dict[str, Any]:
    """The held jobs of the person, and of those whose delegate the person is."""
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    after, limit = call.args["after_id"], call.args["limit"]
    held = await call.services.desk.held(user, printer, after_id=after, limit=limit)
    return held_page(held, limit)


async def release(call: Call) -> dict[str, Any]:
    """Print some or all of the held jobs here."""
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    results = await call.services.desk.release(
        user, call.args["jobs"], printer, mfd.identity, changes_of(call), call.args["account"]
    )
    return result_maps(results)


async def change(call: Call) -> dict[str, Any]:
    """Change a held job before it is released."""
    mfd, _, user = await at_session(call)
    changes = changes_of(call)
    if changes == NO_CHANGES:
        raise OperationError(
            "bad-request", "nothing is to be changed.", "Name copies, sides or color."
        )
    printer = await printer_of(call, mfd)
    result = await call.services.desk.change(user, call.args["job"], changes, printer)
    return change_map(result)


async def delete(call: Call) -> dict[str, Any]:
    """Delete held jobs of the person's own."""
    _, _, user = await at_session(call)
    return result_maps(await call.services.desk.delete(user, call.args["jobs"]))


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
            IDS,
            *CHANGES,
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
