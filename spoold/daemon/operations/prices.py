"""What things cost: `price.set`, `.list`, `.show`, `.test`.

A change makes a new version of the price list; charges keep the version by which they were made.
Prices and amounts are whole numbers of 1/10,000, the discount one of 1/100 of a per cent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import KNOWN, MONEY, STAFF
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.model.money import AMOUNT_MAX
from spoold.model.pricing import (
    DISCOUNT_MAX,
    NO_PRICES,
    RATES_MAX,
    Per,
    PriceList,
    Rate,
    Unknown,
    quote,
)
from spoold.model.text import plain
from spoold.model.usage import COLORS, COUNT_MAX, SIDES, Line, Usage, Work, check_usage, media_name
from spoold.spool import price_lists
from spoold.spool.postings import terms
from spoold.spool.store import PutPrices

READERS = STAFF | MONEY
_PLAIN = ("duplex_discount", "step", "unknown_price", "unknown_color")


# -- maps --------------------------------------------------------------------------------------


async def _names(call: Call) -> dict[UUID, str]:
    """The printers by their GUIDs."""
    return {one.guid: one.name for one in await call.services.reader.printers()}


def rate_map(rate: Rate, names: dict[UUID, str]) -> dict[str, Any]:
    printer = "" if rate.printer is None else names.get(rate.printer, str(rate.printer))
    return {
        "price": rate.price,
        "per": rate.per.value,
        "work": "" if rate.work is None else rate.work.value,
        "color": rate.color,
        "sides": rate.sides,
        "media": rate.media,
        "printer": printer,
    }


def prices_map(prices: PriceList, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "version": prices.version,
        "from_us": prices.from_us,
        "rates": [rate_map(one, names) for one in prices.rates],
        "duplex_discount": prices.duplex_discount,
        "step": prices.step,
        "unknown": prices.unknown.value,
        "unknown_price": prices.unknown_price,
        "unknown_color": prices.unknown_color,
        "default_media": prices.default_media,
    }


# -- setting -----------------------------------------------------------------------------------


async def set_prices(call: Call) -> dict[str, Any]:
    """A new version: the last one with what is named changed, or `replace`d by it."""
    services, args = call.services, call.args
    names = await _names(call)
    guids = {name: guid for guid, name in names.items()}
    last = await services.reader.look(price_lists.page, 0, 1)
    before = last[0] if last and not args["replace"] else replace(NO_PRICES, unknown=Unknown.REFUSE)
    rates = {rate.conditions: rate for rate in before.rates}
    for given in args["rates"] or ():
        rate = _rate(given, guids)
        if given["price"] is None:
            if rates.pop(rate.conditions, None) is None:
                raise OperationError(
                    "not-found", "there is no such price to take away.", "See `spoold price show`."
                )
        else:
            rates[rate.conditions] = rate
    now_us = services.wall_clock()
    named = {key: args[key] for key in _PLAIN if args[key] is not None}
    if args["unknown"] is not None:
        named["unknown"] = Unknown(args["unknown"])
    if args["default_media"] is not None:
        named["default_media"] = media_name(args["default_media"])
    from_us = now_us if args["from_us"] is None else args["from_us"]
    if from_us < now_us and from_us < (await services.charging.prices()).from_us:
        raise OperationError(
            "bad-request",
            "these prices would never be in force: later ones are already.",
            "Leave the time out, or name one to come; what was charged stays as it is.",
        )
    prices = replace(before, rates=tuple(rates.values()), from_us=from_us, **named)
    prices = await services.journal.commit(PutPrices(prices, now_us, call.actor))
    return prices_map(prices, names)


def _rate(given: dict[str, Any], printers: dict[str, UUID]) -> Rate:
    printer = None
    if given["printer"]:
        printer = printers.get(given["printer"])
        if printer is None:
            raise OperationError(
                "not-found",
                f"there is no printer {plain(given['printer'][:60])}.",
                "See `spoold printer list`.",
            )
    return Rate(
        given["price"] or 0,
        Per(given["per"]),
        Work(given["work"]) if given["work"] else None,
        given["color"],
        given["sides"],
        media_name(given["media"]),
        printer,
    )


# -- showing -----------------------------------------------------------------------------------


async def list_prices(call: Call) -> dict[str, Any]:
    """The versions, the newest first."""
    after, limit = call.args["after_id"], call.args["limit"]
    found = await call.services.reader.look(price_lists.page, after, limit + 1)
    in_force = (await call.services.charging.prices()).version
    rows = [
        {
            "version": one.version,
            "from_us": one.from_us,
            "rates": len(one.rates),
            "is_in_force": one.version == in_force,
        }
        for one in found
    ]
    page, more = fitting(rows, limit)
    return {"versions": page, "next_after_id": page[-1]["version"] if more else None}


async def show_prices(call: Call) -> dict[str, Any]:
    """A version of the list, or the one that is in force."""
    return prices_map(await _version(call), await _names(call))


async def _version(call: Call) -> PriceList:
    version = call.args["version"]
    if version is None:
        return await call.services.charging.prices()
    found = await call.services.reader.look(price_lists.prices_of_version, version)
    if found is None:
        raise OperationError(
            "not-found", f"there is no version {version} of the prices.", "See `spoold price list`."
        )
    return found


async def test_prices(call: Call) -> dict[str, Any]:
    """What a piece of work would cost, line by line; nothing is charged."""
    args = call.args
    prices, printer = await _version(call), None
    if args["printer"] is not None:
        by_name = {name: guid for guid, name in (await _names(call)).items()}
        printer = by_name.get(args["printer"])
        if printer is None:
            raise OperationError(
                "not-found", "there is no such printer.", "See `spoold printer list`."
            )
    impressions = args["impressions"]
    sheets = args["sheets"]
    if sheets is None:
        sheets = impressions if args["sides"] == SIDES[0] else -(-impressions // 2)
    line = Line(impressions, sheets, args["color"], args["sides"], media_name(args["media"]))
    usage = Usage(Work(args["work"]), (line,) if impressions else (), not args["is_unknown"])
    found = quote(prices, check_usage(usage), printer)
    return {
        "version": found.price_version,
        "total": found.total,
        "currency": (await call.services.reader.look(terms)).currency,
        "derivation": found.told(),
    }


# -- the table ---------------------------------------------------------------------------------

_RATE = Argument(
    "",
    (dict,),
    keys=(
        Argument("price", (int,), most=AMOUNT_MAX, summary="Without one the price is taken away."),
        Argument("per", default=Per.IMPRESSION.value, choices=tuple(Per)),
        Argument("work", default="", choices=("", *Work)),
        Argument("color", default="", choices=("", *COLORS[:2])),
        Argument("sides", default="", choices=("", *SIDES)),
        Argument("media", default="", summary="A PWG name, or as people say: a3, letter."),
        Argument("printer", default=""),
    ),
)
_VERSION = Argument("version", (int,), least=1, summary="Else the one in force.")

OPERATIONS = (
    Operation(
        "price.set",
        (
            Argument("rates", (list,), most=RATES_MAX, each=_RATE, summary="Prices that change."),
            Argument("replace", (bool,), default=False, summary="Take all other prices away."),
            Argument("duplex_discount", (int,), most=DISCOUNT_MAX),
            Argument("step", (int,), least=1, most=AMOUNT_MAX, summary="Totals are rounded to it."),
            Argument("unknown", choices=tuple(Unknown), summary="Of pages that are not counted."),
            Argument("unknown_price", (int,), most=AMOUNT_MAX),
            Argument("unknown_color", choices=COLORS[:2]),
            Argument("default_media"),
            Argument("from_us", (int,), summary="In force from then on; else from now on."),
        ),
        MONEY,
        KNOWN,
        set_prices,
        "Change what things cost, as a new version.",
    ),
    Operation(
        "price.list",
        (
            Argument("after_id", (int,), default=0, summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        READERS,
        KNOWN,
        list_prices,
        "The versions of the price list.",
    ),
    Operation("price.show", (_VERSION,), READERS, KNOWN, show_prices, "What things cost."),
    Operation(
        "price.test",
        (
            Argument("work", default=Work.PRINT.value, choices=tuple(Work)),
            Argument("impressions", (int,), default=1, most=COUNT_MAX),
            Argument("sheets", (int,), most=COUNT_MAX, summary="Else as the sides say."),
            Argument("color", default="monochrome", choices=COLORS),
            Argument("sides", default=SIDES[0], choices=SIDES),
            Argument("media", default=""),
            Argument("printer"),
            Argument("is_unknown", (bool,), default=False, summary="Nobody could count it."),
            _VERSION,
        ),
        READERS,
        KNOWN,
        test_prices,
        "What something would cost, line by line.",
    ),
)
