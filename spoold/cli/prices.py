"""`spoold price …`: what printing, copying, scanning and faxing cost.

A price is written `CONDITIONS=PRICE/UNIT`, as in `print/color/a3=0.40/sheet`: conditions in any
order, and the unit an impression where none is said.
"""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from typing import Any

from spoold.cli import grammar, render
from spoold.cli.booking import print_derivation
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, USAGE, Nouns, Parser
from spoold.cli.money import price
from spoold.cli.render import Column
from spoold.cli.showing import show_list
from spoold.model.errors import OperationError
from spoold.model.money import format_amount
from spoold.model.pricing import DISCOUNT_MAX, Per
from spoold.model.text import plain
from spoold.model.usage import COLORS, SIDES, Work, media_name, media_size_mm

_ANY = "any"
_NONE = "none"
_SHARE = 100  # parts of a per cent


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "price", "say what printing, copying, scanning and faxing cost")
    setting = grammar.command(
        verbs,
        "set",
        set_prices,
        "change prices, as a new version of the list",
        """spoold price set print=0.05 print/color=0.20 copy=0.04 any/a3=0.10 scan=0
        spoold price set print/color=none                       # take a price away
        spoold price set --printer plotter print=3.50/m2
        spoold price set print/two-sided=0.08/sheet fax=0.30/job --duplex-discount 10
        spoold price set --unknown 0.50 --round-to 0.01 --from 2027-01-01""",
    )
    setting.add_argument(
        "rates",
        nargs="*",
        type=rate,
        metavar="WHAT=PRICE",
        help=f"WHAT: {', '.join((*Work, _ANY))}, {', '.join((*COLORS[:2], *SIDES))}, a medium "
        f"(a3, or a PWG name), with / between; PRICE: 0.05, or with a unit ({', '.join(Per)}), "
        f"as 0.08/sheet; or {_NONE}",
    )
    setting.add_argument("--printer", metavar="NAME", help="the prices are of this printer alone")
    setting.add_argument("--replace", action="store_true", help="take all other prices away")
    setting.add_argument(
        "--duplex-discount", type=_percent, metavar="PERCENT", help="off two-sided impressions"
    )
    setting.add_argument(
        "--round-to", type=price, metavar="AMOUNT", help="totals, halves away from zero"
    )
    setting.add_argument(
        "--unknown",
        type=_unknown,
        metavar="refuse|free|AMOUNT",
        help="what a job costs whose pages nobody can count",
    )
    setting.add_argument(
        "--unknown-color", choices=COLORS[:2], help="as what an unknown colour is priced"
    )
    setting.add_argument("--default-media", metavar="MEDIUM", help="where a size is not known")
    setting.add_argument(
        "--from",
        type=grammar.until_us,
        dest="from_us",
        metavar="TIME",
        help="a date (2027-01-01), or how long from now (2h); else from now on",
    )
    grammar.add_json(setting)
    listing = grammar.command(
        verbs, "list", list_versions, "list the versions of the price list", "spoold price list"
    )
    grammar.add_json(listing)
    showing = grammar.command(
        verbs, "show", show_prices, "show the prices in force", "spoold price show --version 3"
    )
    showing.add_argument("--version", type=grammar.count, metavar="N", help="another version")
    grammar.add_json(showing)
    testing = grammar.command(
        verbs,
        "test",
        test_prices,
        "show what something would cost, line by line",
        """spoold price test print --pages 12 --color --two-sided --media a3
        spoold price test copy --pages 3 --printer plotter""",
    )
    testing.add_argument("work", nargs="?", default="print", choices=tuple(Work))
    testing.add_argument("--pages", type=grammar.count, default=1, metavar="N")
    testing.add_argument("--color", action="store_true")
    testing.add_argument("--two-sided", action="store_true")
    testing.add_argument("--media", type=_medium, default="a4", help="a4, or a PWG name")
    testing.add_argument("--printer", metavar="NAME")
    testing.add_argument("--unknown", action="store_true", help="nobody can count its pages")
    testing.add_argument("--version", type=grammar.count, metavar="N")
    grammar.add_json(testing)


def rate(text: str) -> dict[str, Any]:
    """A price as an operation takes it, from `print/color=0.20`."""
    what, equals, much = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r} is not WHAT=PRICE; write print/color=0.20")
    found: dict[str, Any] = {}
    for word in what.split("/"):
        _read_condition(found, word, text)
    value, _, unit = much.partition("/")
    if unit and unit not in tuple(Per):
        raise ArgumentTypeError(f"{unit!r} is no unit; use {', '.join(Per)}")
    if unit:
        found["per"] = unit
    if value != _NONE:
        found["price"] = price(value)
    return found


def _read_condition(found: dict[str, Any], word: str, text: str) -> None:
    media = media_name(word)
    if word in tuple(Work):
        key = "work"
    elif word in COLORS[:2]:
        key = "color"
    elif word in SIDES:
        key = "sides"
    elif media_size_mm(media) is not None:
        key, word = "media", media
    elif word == _ANY:
        return
    else:
        known = ", ".join((*Work, _ANY, *COLORS[:2], *SIDES))
        raise ArgumentTypeError(f"{word!r} in {text!r} is none of {known}, and no medium")
    if key in found:
        raise ArgumentTypeError(f"{text!r} names two kinds of {key}")
    found[key] = word


def _medium(text: str) -> str:
    if media_size_mm(media_name(text)) is None:
        raise ArgumentTypeError(f"{text!r} is no medium; write a4, or a PWG name")
    return text


def _percent(text: str) -> int:
    """1/100 of a per cent, from `12.5`."""
    found = price(text.removesuffix("%"))
    if found % _SHARE or found // _SHARE > DISCOUNT_MAX:
        raise ArgumentTypeError(f"{text!r} is no discount; write 0 to 100, with two decimals")
    return found // _SHARE


def _unknown(text: str) -> dict[str, Any]:
    if text in ("refuse", "free"):
        return {"unknown": text}
    try:
        return {"unknown": "fixed", "unknown_price": price(text)}
    except (ArgumentTypeError, OperationError):
        raise ArgumentTypeError(f"{text!r} is neither refuse, free nor an amount") from None


def set_prices(args: Namespace) -> int:
    rates = [{**one, "printer": args.printer} if args.printer else one for one in args.rates]
    found = {
        "rates": rates or None,
        "replace": args.replace or None,
        "duplex_discount": args.duplex_discount,
        "step": args.round_to,
        "unknown_color": args.unknown_color,
        "default_media": args.default_media,
        "from_us": args.from_us,
        **(args.unknown or {}),
    }
    asked = {key: value for key, value in found.items() if value is not None}
    if not asked.keys() - {"from_us"}:
        print("spoold price set: name what to change; see --help.", file=sys.stderr)
        return USAGE
    with connect(args) as client:
        answer = client.call("price.set", asked)
    if args.json:
        render.print_json(answer)
        return DONE
    since = render.local_time(answer["from_us"])[:19]
    print(f"Version {answer['version']} of the prices is in force from {since} on.")
    return DONE


def list_versions(args: Namespace) -> int:
    columns = (Column("VERSION", align_right=True), Column("FROM"), Column("PRICES"), Column(""))
    none = "Nothing has a price yet: `spoold price set print=0.05`."
    return show_list(args, "price.list", "versions", columns, _row, none)


def _row(one: dict[str, Any]) -> list[str]:
    since = render.local_time(one["from_us"])[:19]
    return [str(one["version"]), since, str(one["rates"]), "in force" if one["is_in_force"] else ""]


def show_prices(args: Namespace) -> int:
    asked = {} if args.version is None else {"version": args.version}
    with connect(args) as client:
        found = client.call("price.show", asked)
    if args.json:
        render.print_json(found)
        return DONE
    columns = (
        Column("WHAT", gives_way=True),
        Column("PRINTER", gives_way=True),
        Column("PRICE", align_right=True),
        Column("PER"),
    )
    rows = [
        [_conditions(one), one["printer"], format_amount(one["price"]), one["per"]]
        for one in found["rates"]
    ]
    render.print_table(columns, rows, "Nothing has a price.")
    policy = found["unknown"]
    if policy == "fixed":
        policy = format_amount(found["unknown_price"])
    discount = found["duplex_discount"]
    render.print_fields(
        [
            ("version", found["version"]),
            ("from", render.local_time(found["from_us"])),
            ("two-sided", f"{discount / _SHARE:g} % off" if discount else ""),
            ("rounded to", format_amount(found["step"])),
            ("pages unknown", policy),
            ("colour unknown", f"as {found['unknown_color']}"),
            ("medium unknown", found["default_media"]),
        ]
    )
    return DONE


def _conditions(found: dict[str, Any]) -> str:
    words = [found[key] for key in ("work", "color", "sides", "media") if found[key]]
    return "/".join(words) or _ANY


def test_prices(args: Namespace) -> int:
    asked: dict[str, Any] = {
        "work": args.work,
        "impressions": args.pages,
        "color": "color" if args.color else "monochrome",
        "sides": "two-sided" if args.two_sided else "one-sided",
        "media": args.media,
        "is_unknown": args.unknown,
    }
    for name in ("printer", "version"):
        if getattr(args, name) is not None:
            asked[name] = getattr(args, name)
    with connect(args) as client:
        found = client.call("price.test", asked)
    if args.json:
        render.print_json(found)
        return DONE
    print_derivation(found["derivation"])
    total = f"{format_amount(found['total'])} {found['currency']}".rstrip()
    print(plain(f"Total: {total}, by version {found['version']} of the prices."))
    return DONE
