"""What is booked by hand, and what was booked: adjustments, refunds, charges and statements.

A question that is asked twice with the same key books once. Beside what `accounts` does, these are
operations called `account.*` as well.
"""

from __future__ import annotations

import secrets
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import KNOWN, MONEY, STAFF, USERS
from spoold.daemon.operations.holders import (
    Holder,
    Names,
    actors,
    entry_map,
    find_holder,
    names_of,
    story_map,
)
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.users import find_user
from spoold.daemon.operations.views import fitting, uuid_of
from spoold.model.charge import Charge
from spoold.model.errors import OperationError
from spoold.model.money import AMOUNT_MAX
from spoold.model.pricing import quote
from spoold.model.purse import PayerKind, PurseKind
from spoold.spool import ledger_views, price_lists
from spoold.spool.ledger_views import Story
from spoold.spool.store import Adjust, Refund

READERS = STAFF | MONEY


def _key(call: Call, what: str) -> bytes:
    """The key under which this is booked: the caller's, or one that nobody has."""
    given = call.args["key"]
    if not given:
        return what.encode() + b"/" + secrets.token_bytes(16)
    found = uuid_of(given)
    if found is None:
        raise OperationError("bad-request", "the key is no UUID.", "Leave it out, or make one.")
    return what.encode() + b"/" + found.bytes


async def adjust(call: Call) -> dict[str, Any]:
    """Give to a holder, or take: credit, or money that is paid in or out."""
    services, args = call.services, call.args
    holder = await find_holder(services, args["name"])
    purse = args["purse"]
    balance = await services.journal.commit(
        Adjust(
            _key(call, "adjust"),
            holder.kind,
            holder.guid,
            args["amount"],
            args["reason"],
            services.wall_clock(),
            call.actor,
            None if purse is None else PurseKind(purse),
            args["until_us"],
        )
    )
    return {"name": holder.name, "amount": args["amount"], "balance": balance}


async def _stories(call: Call) -> list[Story]:
    """The charges that are asked for: of a job, or the one of a key."""
    reader, args = call.services.reader, call.args
    if (args["job"] is None) == (args["charge"] is None):
        raise OperationError("bad-request", "which charge is not said.", "Name job or charge.")
    if args["job"] is not None:
        found: list[Story] = await reader.look(ledger_views.charges_of_job, args["job"])
        missing = f"nothing was charged for job {args['job']}."
    else:
        try:
            key = bytes.fromhex(args["charge"])
        except ValueError:
            raise OperationError("bad-request", "a charge is named in hexadecimal.") from None
        story = await reader.look(ledger_views.charge_by_key, key)
        found = [] if story is None else [story]
        missing = "there is no such charge."
    if not found:
        raise OperationError("not-found", missing, "See `spoold account statement`.")
    return found


async def charges(call: Call) -> dict[str, Any]:
    """Charges with their derivation, and the purses before and after."""
    stories = await _stories(call)
    names = await names_of(call.services, stories)
    printers = await _printers(call)
    shown = [story_map(one, names, printers.get(one.charge.printer, "")) for one in stories]
    page, _ = fitting(shown, len(shown))
    return {"charges": page}


async def _printers(call: Call) -> dict[UUID | None, str]:
    return {one.guid: one.name for one in await call.services.reader.printers()}


async def refund(call: Call) -> dict[str, Any]:
    """Give back all of a charge, an amount of it, or what its last pages cost."""
    services, args = call.services, call.args
    stories = await _stories(call)
    # Asked again after it was all given back, the last one answers what was done.
    story = next((one for one in reversed(stories) if one.charge.net), stories[-1])
    charge = await services.journal.commit(
        Refund(
            _key(call, "refund"),
            story.charge.key,
            await _amount(call, story.charge),
            args["reason"],
            services.wall_clock(),
            call.actor,
        )
    )
    names = await Names.of(services, [charge.payer.guid])
    return {
        "charge": charge.key.hex(),
        "payer": names.holder(charge.payer.guid),
        "refunded": charge.refunded,
        "paid": charge.net,
    }


async def _amount(call: Call, charge: Charge) -> int:
    """How much is to be given back of a charge."""
    args = call.args
    if args["amount"] is not None and args["pages"] is not None:
        raise OperationError("bad-request", "amount and pages are both named.", "Name one.")
    if args["amount"] is not None:
        return int(args["amount"])
    if args["pages"] is None:
        return charge.net
    usage, version = charge.usage, charge.quote.price_version
    prices = await call.services.reader.look(price_lists.prices_of_version, version)
    if not usage.is_known or prices is None:
        raise OperationError("not-possible", "its pages were not counted.", "Name an amount.")
    rest = quote(prices, usage.limited_to(usage.impressions - args["pages"]), charge.printer)
    return charge.total - rest.total


async def statement(call: Call) -> dict[str, Any]:
    """What was booked for a holder, the last first."""
    holder = await find_holder(call.services, call.args["name"])
    return await _statement(call, holder)


async def _statement(call: Call, holder: Holder) -> dict[str, Any]:
    args, limit = call.args, call.args["limit"]
    found = await call.services.reader.look(
        ledger_views.statement,
        holder.guid,
        args["since_us"],
        args["until_us"],
        args["after_id"],
        limit + 1,
    )
    names = await Names.of(call.services, actors(found))
    page, more = fitting([entry_map(one, names) for one in found], limit)
    return {"name": holder.name, "entries": page, "next_after_id": page[-1]["id"] if more else None}


async def my_statement(call: Call) -> dict[str, Any]:
    user = await find_user(call.services, call.principal.name)
    return await _statement(call, Holder(PayerKind.PERSON, user.guid, user.name))


# -- the table ---------------------------------------------------------------------------------

_NAME = Argument("name", required=True, least=1, summary="Name a shared account, or user:NAME.")
_REASON = Argument("reason", required=True, least=1, most=500, summary="Say why.")
_KEY = Argument("key", most=64, summary="A UUID: asked again with it, nothing more is booked.")
_TIMES = (Argument("since_us", (int,)), Argument("until_us", (int,)))
_PAGE = (
    Argument("after_id", (int,), default=0, summary="The page before's next_after_id."),
    Argument("limit", (int,), default=100, least=1, most=500),
)
_WHICH = (
    Argument("job", (int,), least=1, summary="The number of a job."),
    Argument("charge", most=128, summary="A charge of a statement."),
)

OPERATIONS = (
    Operation(
        "account.adjust",
        (
            _NAME,
            Argument("amount", (int,), required=True, least=-AMOUNT_MAX, most=AMOUNT_MAX),
            _REASON,
            Argument("purse", choices=(PurseKind.CREDIT.value, PurseKind.PAID_IN.value)),
            Argument("until_us", (int,), summary="When credit ends."),
            _KEY,
        ),
        MONEY,
        KNOWN,
        adjust,
        "Give to a holder, or take.",
    ),
    Operation(
        "account.refund",
        (
            *_WHICH,
            Argument("amount", (int,), least=1, most=AMOUNT_MAX, summary="Else all of it."),
            Argument("pages", (int,), least=1, summary="What so many pages cost."),
            _REASON,
            _KEY,
        ),
        MONEY,
        KNOWN,
        refund,
        "Give back what was paid for something.",
    ),
    Operation("account.charges", _WHICH, READERS, KNOWN, charges, "What something has cost."),
    Operation(
        "account.statement",
        (_NAME, *_TIMES, *_PAGE),
        READERS,
        KNOWN,
        statement,
        "What was booked for somebody.",
    ),
    Operation(
        "account.my-statement",
        (*_TIMES, *_PAGE),
        USERS,
        KNOWN,
        my_statement,
        "What was booked for the caller.",
    ),
)
