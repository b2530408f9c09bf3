"""`spoold usage`: what was used, in sums, for people and for spreadsheets."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from spoold.cli import grammar, render
from spoold.cli.control import connect, pages
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.cli.money import safe, write_csv
from spoold.cli.render import Column
from spoold.model.money import format_amount

_BY = ("user", "account", "printer")
_AMOUNTS = ("amount", "shadow")
_HEAD = ("charges", "impressions", "color impressions", "sheets", "amount", "shadow", "flagged")


def add(nouns: Nouns[Parser]) -> None:
    parser = grammar.command(
        nouns,
        "usage",
        show_usage,
        "show what was used, by user, shared account or printer",
        """spoold usage --since 30d
        spoold usage --by printer --since 2026-11-01 --until 2026-12-01 --csv > november.csv""",
    )
    parser.add_argument("--by", choices=_BY, default="user")
    parser.add_argument(
        "--since", type=grammar.moment_us, metavar="TIME", help="an age (30d) or a local date"
    )
    parser.add_argument("--until", type=grammar.moment_us, metavar="TIME", help="what was before")
    parser.add_argument("--csv", action="store_true", help="print CSV, for a spreadsheet")
    grammar.add_json(parser)


def show_usage(args: Namespace) -> int:
    asked: dict[str, Any] = {"by": args.by}
    if args.since is not None:
        asked["since_us"] = args.since
    if args.until is not None:
        asked["until_us"] = args.until
    with connect(args) as client:
        found = list(pages(client, "usage.sums", asked, "sums"))
    found.sort(key=lambda one: (-one["amount"], -one["impressions"], one["name"]))
    if args.json:
        render.print_json_list(found)
        return DONE
    rows = [_row(one) for one in found]
    if args.csv:
        write_csv((args.by, *_HEAD), ([safe(row[0]), *row[1:]] for row in rows))
        return DONE
    currency = found[0]["currency"] if found else ""
    heads = [f"{one} {currency}".strip() if one in _AMOUNTS else one for one in _HEAD]
    columns = (
        Column(args.by.upper(), gives_way=True),
        *(Column(one.upper(), align_right=True) for one in heads),
    )
    shown = [[row[0] or "(nobody)", *row[1:]] for row in rows]
    render.print_table(columns, shown, "Nothing was charged in this time.")
    return DONE


def _row(one: dict[str, Any]) -> list[str]:
    return [
        one["name"],
        str(one["charges"]),
        str(one["impressions"]),
        str(one["color_impressions"]),
        str(one["sheets"]),
        format_amount(one["amount"]),
        format_amount(one["shadow"]),
        str(one["flagged"]),
    ]
