"""Held jobs at MFDs: `mfd.jobs`, `.release`, `.change` and `.delete`.

A machine asks for the person of a session, at one of its printers; what is done is in `everywhere`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spoold.daemon.operations import everywhere
from spoold.daemon.operations.access import DEVICES, KNOWN
from spoold.daemon.operations.held_jobs import CHANGES, ID, IDS
from spoold.daemon.operations.mfd import PRINTER, SESSION, at_session, printer_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.release.desk import PAGE_JOBS_MAX


async def jobs(call: Call) -> dict[str, Any]:
    """The held jobs of the person, and of those whose delegate the person is."""
    mfd, _, user = await at_session(call)
    return await everywhere.held(call, user, await printer_of(call, mfd))


async def release(call: Call) -> dict[str, Any]:
    """Print some or all of the held jobs here."""
    mfd, _, user = await at_session(call)
    return await everywhere.release(call, user, await printer_of(call, mfd), mfd.identity)


async def change(call: Call) -> dict[str, Any]:
    """Change a held job before it is released."""
    mfd, _, user = await at_session(call)
    return await everywhere.change(call, user, await printer_of(call, mfd))


async def delete(call: Call) -> dict[str, Any]:
    """Delete held jobs of the person's own."""
    _, _, user = await at_session(call)
    return await everywhere.delete(call, user)


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
