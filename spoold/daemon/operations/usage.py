"""What was used, in sums: `usage.sums` by user, shared account or printer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import KNOWN, MONEY, STAFF
from spoold.daemon.operations.holders import Names
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.spool import ledger_views
from spoold.spool.ledger_views import By
from spoold.spool.postings import terms

FOREVER_US = 2**53 - 1


async def sums(call: Call) -> dict[str, Any]:
    """What was settled between two times; refunds are taken off.

    `shadow` is what would have been paid where nothing is enforced; `flagged` how many charges an
    accountant should look at. A row without a name is of work that nobody is known for.
    """
    services, args = call.services, call.args
    by, limit = By(args["by"]), args["limit"]
    until_us = FOREVER_US if args["until_us"] is None else args["until_us"]
    try:
        after = None if args["after_id"] is None else bytes.fromhex(args["after_id"])
    except ValueError:
        raise OperationError("bad-request", "after_id is of no page.") from None
    found = await services.reader.report(
        ledger_views.usage, by, args["since_us"] or 0, until_us, after, limit + 1
    )
    guids = [UUID(bytes=one.key) for one in found if one.key]
    names = await Names.of(services, [] if by is By.PRINTER else guids)
    printers = {one.guid: one.name for one in await services.reader.printers()}

    def name(key: bytes) -> str:
        if not key:
            return ""
        guid = UUID(bytes=key)
        if by is By.PRINTER:
            return printers.get(guid, str(guid))
        return names.person(guid) if by is By.USER else names.holder(guid)

    currency = (await services.reader.look(terms)).currency
    rows = [
        {
            "key": one.key.hex(),
            "name": name(one.key),
            "charges": one.charges,
            "impressions": one.impressions,
            "color_impressions": one.color_impressions,
            "sheets": one.sheets,
            "amount": one.amount,
            "shadow": one.shadow,
            "currency": currency,
            "flagged": one.flagged,
        }
        for one in found
    ]
    page, more = fitting(rows, limit)
    return {"by": by.value, "sums": page, "next_after_id": page[-1]["key"] if more else None}


OPERATIONS = (
    Operation(
        "usage.sums",
        (
            Argument("by", default=By.USER.value, choices=tuple(By)),
            Argument("since_us", (int,), summary="What happened from then on."),
            Argument("until_us", (int,), summary="What happened before."),
            Argument("after_id", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=200, least=1, most=500),
        ),
        STAFF | MONEY,
        KNOWN,
        sums,
        "What was used, in sums.",
    ),
)
