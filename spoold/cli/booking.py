"""`spoold account adjust | refund | charges | statement`: what is booked for somebody, and why."""

from __future__ import annotations

from argparse import Namespace
from itertools import islice
from typing import Any
from uuid import uuid4

from spoold.cli import grammar, render
from spoold.cli.control import connect, pages
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.cli.money import amount, price, safe, signed, write_csv
from spoold.cli.render import Column
from spoold.model.money import format_amount
from spoold.model.text import plain

HOLDER = "a shared account, or user:NAME"


def add(verbs: Nouns[Parser]) -> None:
    adjusting = grammar.command(
        verbs,
        "adjust",
        adjust,
        "give to somebody, or take",
        """spoold account adjust user:ada 10.00 --purse paid-in --reason "cash desk"
        spoold account adjust user:ada -1.50 --reason "lost card"
        spoold account adjust faculty 200 --until 2027-01-01 --reason "budget of 2026" """,
    )
    adjusting.add_argument("name", metavar="NAME", help=HOLDER)
    adjusting.add_argument("amount", type=amount, metavar="AMOUNT")
    adjusting.add_argument(
        "--purse",
        choices=("credit", "paid-in"),
        help="only money that was paid in can be paid out; else it is credit",
    )
    adjusting.add_argument(
        "--until",
        type=grammar.until_us,
        metavar="TIME",
        help="when the credit ends: a date (2027-01-01), or how long from now (30d)",
    )
    _add_reason(adjusting)
    refunding = grammar.command(
        verbs,
        "refund",
        refund,
        "give back what was paid for a job",
        """spoold account refund 812 --reason "bad toner"
        spoold account refund 812 --pages 3 --reason "three pages were blank"
        spoold account refund --charge 0192f3… --amount 0.50 --reason goodwill""",
    )
    which = refunding.add_mutually_exclusive_group(required=True)
    which.add_argument("job", nargs="?", type=grammar.count, metavar="JOB")
    which.add_argument("--charge", metavar="KEY", help="of `statement --csv`, for what was no job")
    much = refunding.add_mutually_exclusive_group()
    much.add_argument("--amount", type=price, help="else all of it")
    much.add_argument("--pages", type=grammar.count, metavar="N", help="what so many pages cost")
    _add_reason(refunding)
    charging = grammar.command(
        verbs,
        "charges",
        charges,
        "show what a job has cost, line by line, and who paid",
        "spoold account charges 812",
    )
    charging.add_argument("job", type=grammar.count, metavar="JOB")
    grammar.add_json(charging)
    stating = grammar.command(
        verbs,
        "statement",
        statement,
        "list what was booked for somebody, the last first",
        """spoold account statement user:ada --since 30d
        spoold account statement faculty/physics --since 2026-01-01 --csv > physics.csv""",
    )
    stating.add_argument("name", metavar="NAME", help=HOLDER)
    stating.add_argument("--since", type=grammar.moment_us, metavar="TIME")
    stating.add_argument("--until", type=grammar.moment_us, metavar="TIME")
    stating.add_argument("--limit", type=grammar.count, default=None, metavar="N")
    stating.add_argument("--csv", action="store_true", help="print CSV, for a spreadsheet")
    grammar.add_json(stating)


def _add_reason(parser: Parser) -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help="stands in the journal")
    grammar.add_json(parser)


def adjust(args: Namespace) -> int:
    asked = {"name": args.name, "amount": args.amount, "reason": args.reason, "key": str(uuid4())}
    if args.purse:
        asked["purse"] = args.purse
    if args.until is not None:
        asked["until_us"] = args.until
    with connect(args) as client:
        answer = client.call("account.adjust", asked)
    if args.json:
        render.print_json(answer)
    else:
        balance = format_amount(answer["balance"])
        print(plain(f"{answer['name']}: {signed(answer['amount'])}, the balance is {balance}."))
    return DONE


def refund(args: Namespace) -> int:
    found = {"job": args.job, "charge": args.charge, "amount": args.amount, "pages": args.pages}
    asked = {key: value for key, value in found.items() if value is not None}
    with connect(args) as client:
        answer = client.call(
            "account.refund", {**asked, "reason": args.reason, "key": str(uuid4())}
        )
    if args.json:
        render.print_json(answer)
    else:
        back, paid = format_amount(answer["refunded"]), format_amount(answer["paid"])
        print(plain(f"{answer['payer']} has {back} of it back, and has paid {paid}."))
    return DONE


def charges(args: Namespace) -> int:
    with connect(args) as client:
        found = client.call("account.charges", {"job": args.job})["charges"]
    if args.json:
        render.print_json(found)
        return DONE
    for index, one in enumerate(found):
        if index:
            print()
        _tell_charge(one)
    return DONE


def _tell_charge(charge: dict[str, Any]) -> None:
    total, flags = format_amount(charge["total"]), charge["flags"]
    shadow = " (in the shadow: nobody pays)" if charge["is_shadow"] else ""
    render.print_fields(
        [
            ("state", charge["state"] + shadow),
            ("payer", f"{charge['payer']} ({charge['payer_by']})"),
            ("user", charge["user"]),
            ("printer", charge["printer"]),
            ("total", f"{total}, by version {charge['price_version']} of the prices"),
            ("reserved", format_amount(charge["reserved"])),
            ("refunded", format_amount(charge["refunded"]) if charge["refunded"] else ""),
            ("flags", flags),
        ]
    )
    print_derivation(charge["derivation"])
    for entry in charge["entries"]:
        for line in entry["purses"]:
            before, after = format_amount(line["before"]), format_amount(line["after"])
            at = render.local_time(entry["happened_us"])[:19]
            why = f" ({entry['reason']})" if entry["reason"] else ""
            print(plain(f"  {at}  {entry['cause']}: {_purse(line)} {before} -> {after}{why}"))


def print_derivation(lines: list[dict[str, str]]) -> None:
    """The lines of a quote, as a sum on paper."""
    columns = (
        Column("WHAT", gives_way=True),
        Column("COUNT", align_right=True),
        Column("OF"),
        Column("PRICE", align_right=True),
        Column("AMOUNT", align_right=True),
    )
    rows = [[one["text"], one["count"], one["unit"], one["price"], one["amount"]] for one in lines]
    render.print_table(columns, rows, "Nothing of it has a price.")


def statement(args: Namespace) -> int:
    asked: dict[str, Any] = {"name": args.name}
    if args.since is not None:
        asked["since_us"] = args.since
    if args.until is not None:
        asked["until_us"] = args.until
    with connect(args) as client:
        found = islice(pages(client, "account.statement", asked, "entries"), args.limit)
        if args.json:
            render.print_json_list(found)
            return DONE
        entries = list(found)
    if args.csv:
        head = ("happened", "cause", "for", "amount", "balance of purses", "actor", "reason")
        rows = ([*row[:5], *map(safe, row[5:])] for row in map(_booked, entries))
        write_csv(
            (*head, "charge"),
            ([*row, one["charge"] or ""] for row, one in zip(rows, entries, strict=True)),
        )
        return DONE
    columns = (
        Column("WHEN"),
        Column("WHAT"),
        Column("FOR"),
        Column("AMOUNT", align_right=True),
        Column("PURSES", gives_way=True),
        Column("WHO", gives_way=True),
        Column("WHY", gives_way=True),
    )
    # What cost as much as was reserved moves nothing in the end: then that was what was paid.
    paid = {one["charge"] for one in entries if one["cause"] == "settle" and not one["purses"]}
    shown = [
        one | {"cause": "paid"} if one["cause"] == "reserve" and one["charge"] in paid else one
        for one in entries
        if one["purses"] or one["cause"] != "settle"
    ]
    render.print_table(columns, [_booked(one) for one in shown], "Nothing was booked.")
    return DONE


def _purse(line: dict[str, Any]) -> str:
    """`paid-in`, `allowance 2026-11`, `credit until 2026-12-31 23:00`."""
    if line["period"]:
        return f"{line['purse']} {line['period']}"
    if line["until_us"] is not None:
        return f"{line['purse']} until {render.local_time(line['until_us'])[:16]}"
    return str(line["purse"])


def _booked(entry: dict[str, Any]) -> list[str]:
    purses = [f"{_purse(line)} {format_amount(line['after'])}" for line in entry["purses"]]
    return [
        render.local_time(entry["happened_us"])[:19],
        entry["cause"],
        entry["work"] if entry["job"] is None else f"job {entry['job']}",
        format_amount(entry["amount"]),
        ", ".join(purses),
        entry["actor"],
        entry["reason"],
    ]
