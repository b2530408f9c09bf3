"""Copies, scans and faxes at MFDs, and who pays: `mfd.accounts`, `.authorize` and `.report`.

`release/work.py` decides; here it is asked and shown. A report needs no open session: what was made
counts, whoever has left since.
"""

from __future__ import annotations

from typing import Any

from spoold.daemon.operations.access import DEVICES, KNOWN
from spoold.daemon.operations.mfd import PRINTER, SESSION, at_session, printer_of
from spoold.daemon.operations.mfd_jobs import ACCOUNT
from spoold.daemon.operations.standing import standing_of
from spoold.daemon.operations.table import WHOLE_MAX, Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.model.mfd import SECRET_CHARACTERS_MAX
from spoold.model.usage import (
    COLORS,
    LINES_MAX,
    MEDIA_CHARACTERS_MAX,
    SIDES,
    UNKNOWN,
    Line,
    Usage,
    Work,
)
from spoold.release.sessions import KEPT_S
from spoold.release.work import Kind, sheets_of

ACCOUNTS_MAX = 500
KEY_CHARACTERS_MAX = 64
PAGES_MAX = 9999
PAGES_DEFAULT = 100
IMPRESSIONS_MAX = 1_000_000
WORKS = (Work.COPY, Work.SCAN, Work.FAX)


async def accounts(call: Call) -> dict[str, Any]:
    """Who can pay for what the person does: the person, and shared accounts."""
    _, _, user = await at_session(call)
    has = await standing_of(call.services, user.guid)
    own = {"name": "", "code": "", "balance": has.balance, "available": has.available}
    found = await call.services.charging.choices(user)
    shared = (
        {"name": one.name, "code": one.code, "balance": None, "available": None} for one in found
    )
    page, _ = fitting((own, *shared), ACCOUNTS_MAX + 1)
    return {"accounts": page}


async def authorize(call: Call) -> dict[str, Any]:
    """How many pages may be made; they are paid for until they are reported."""
    args = call.args
    mfd, _, user = await at_session(call)
    printer = await printer_of(call, mfd)
    kind = Kind(Work(args["work"]), args["color"], args["sides"], args["media"])
    allowed = await call.services.work.authorize(
        mfd, user, printer, kind, args["key"], args["pages"], args["account"]
    )
    return {"pages": allowed.pages, "price": allowed.price, "why": allowed.why}


async def report(call: Call) -> dict[str, Any]:
    """What was made. The same key again is the same charge."""
    args, services = call.args, call.services
    mfd = services.mfds.of(call.principal)
    person = None
    if args["session"]:
        person = (await services.sessions.find_any(mfd, args["session"])).person
    printer = await printer_of(call, mfd)
    usage = Usage(Work(args["work"]), tuple(line_of(one) for one in args["lines"]))
    if usage.impressions > IMPRESSIONS_MAX:
        raise OperationError(
            "bad-request",
            f"{usage.impressions} pages are beyond all measure.",
            f"At once it can be {IMPRESSIONS_MAX}.",
        )
    happened_us = services.wall_clock() - args["ago_s"] * 1_000_000
    reported = await services.work.report(
        mfd, person, printer, usage, args["key"], args["account"], happened_us
    )
    charge = reported.charge
    if charge is None:
        return {"impressions": 0, "total": None, "flags": [], "duplicate": False}
    made = charge.usage.impressions if charge.ended_us and charge.state == "settled" else 0
    return {
        "impressions": made,
        "total": None if charge.is_shadow else charge.net,
        "flags": list(charge.flags),
        "duplicate": reported.is_duplicate,
    }


def line_of(given: dict[str, Any]) -> Line:
    impressions, sides = given["impressions"], given["sides"]
    sheets = given["sheets"]
    if sheets is None:
        sheets = sheets_of(impressions, sides)
    return Line(impressions, sheets, given["color"], sides, given["media"])


_WORK = Argument("work", required=True, choices=WORKS)
_KEY = Argument(
    "key",
    required=True,
    least=1,
    most=KEY_CHARACTERS_MAX,
    summary="The MFD's own name of this work: new for each, as a UUID; one key is one charge.",
)
_KIND = (
    Argument("color", default=UNKNOWN, choices=COLORS),
    Argument("sides", default="one-sided", choices=SIDES),
    Argument(
        "media",
        default="",
        most=MEDIA_CHARACTERS_MAX,
        summary="A name of PWG 5101.1, as iso_a4_210x297mm.",
    ),
)
LINE = (
    Argument("impressions", (int,), required=True, most=IMPRESSIONS_MAX),
    Argument("sheets", (int,), most=IMPRESSIONS_MAX, summary="As many as the sides need."),
    *_KIND,
)
_ACCOUNT_SHOWN = (
    Argument("name", required=True, summary="Empty: the person's own."),
    Argument("code", required=True, summary="What can be typed for it, or empty."),
    Argument("balance", (int,), least=-WHOLE_MAX, summary="In 1/10,000; null: not shown."),
    Argument(
        "available",
        (int,),
        least=-WHOLE_MAX,
        summary="What can be spent; null: without a limit.",
    ),
)

OPERATIONS = (
    Operation(
        "mfd.accounts",
        (SESSION,),
        DEVICES,
        KNOWN,
        accounts,
        "Who can pay for what the person does.",
        (
            Argument(
                "accounts", (list,), required=True, each=Argument("", (dict,), keys=_ACCOUNT_SHOWN)
            ),
        ),
    ),
    Operation(
        "mfd.authorize",
        (
            SESSION,
            PRINTER,
            _WORK,
            _KEY,
            Argument(
                "pages", (int,), default=PAGES_DEFAULT, least=1, most=PAGES_MAX, summary="Wanted."
            ),
            *_KIND,
            ACCOUNT,
        ),
        DEVICES,
        KNOWN,
        authorize,
        "How many pages of a copy, scan or fax may be made now; none: stop.",
        (
            Argument("pages", (int,), required=True, summary="So many may be made."),
            Argument("price", (int,), summary="Of all of them, in 1/10,000; null: nobody pays."),
            Argument("why", required=True, summary="Why none may be made."),
        ),
    ),
    Operation(
        "mfd.report",
        (
            Argument(
                "session",
                most=SECRET_CHARACTERS_MAX,
                summary="Whose it was, also when it has ended; not needed for what was authorized.",
            ),
            PRINTER,
            _WORK,
            _KEY,
            Argument(
                "lines",
                (list,),
                required=True,
                most=LINES_MAX,
                each=Argument("", (dict,), keys=LINE),
                summary="What came out, pages of one kind a line; empty: nothing.",
            ),
            Argument(
                "ago_s", (int,), default=0, most=KEPT_S, summary="How long ago it was, in seconds."
            ),
            ACCOUNT,
        ),
        DEVICES,
        KNOWN,
        report,
        "What was made; sent twice it is charged once.",
        (
            Argument("impressions", (int,), required=True, summary="Charged for."),
            Argument("total", (int,), summary="Paid, in 1/10,000; null: nobody pays."),
            Argument("flags", (list,), required=True, each=Argument("")),
            Argument("duplicate", (bool,), required=True, summary="It was reported before."),
        ),
    ),
)
