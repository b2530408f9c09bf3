"""`spoold account …`: what people and shared accounts have; `booking` has the rest of its verbs."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from typing import Any

from spoold.cli import booking, grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, USAGE, Nouns, Parser
from spoold.cli.money import money, price
from spoold.cli.render import Column
from spoold.cli.showing import show_each, show_list
from spoold.model.money import format_amount
from spoold.model.purse import EVERYBODY, Period
from spoold.model.text import plain

_TERMS = ("currency", "zone", "spare_account")


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "account", "say who has how much, and which accounts are shared")
    adding = grammar.command(
        verbs,
        "add",
        add_account,
        "add a shared account, in the one that its name names",
        """spoold account add faculty --group staff
        spoold account add faculty/physics --code 4711 --member ada --restricted""",
    )
    adding.add_argument("name", metavar="NAME")
    _add_settings(adding)
    setting = grammar.command(
        verbs,
        "set",
        set_account,
        "change a shared account; or allowances, currency and time zone of people",
        """spoold account set faculty/physics --code 4712 --closed
        spoold account set everybody --currency EUR --zone Europe/Berlin --overdraft 2.00
        spoold account set group:students --allowance 5.00/month --carry-over 10.00
        spoold account set user:ada --allowance 0/week           # no more of it""",
    )
    setting.add_argument("name", metavar="NAME", help="or user:NAME, group:NAME, everybody")
    _add_settings(setting)
    setting.add_argument("--rename", metavar="NAME", help="its history stays with it")
    state = setting.add_mutually_exclusive_group()
    state.add_argument("--open", action="store_const", const=True)
    state.add_argument("--closed", dest="open", action="store_const", const=False)
    people = setting.add_argument_group("allowances, and what holds for everybody")
    people.add_argument(
        "--allowance",
        type=_allowance,
        metavar="AMOUNT/PERIOD",
        help=f"each {', '.join(Period)}; 0 ends it",
    )
    people.add_argument(
        "--carry-over", type=price, metavar="AMOUNT", help="what may be left from a period before"
    )
    people.add_argument("--currency", metavar="EUR")
    people.add_argument("--zone", metavar="Europe/Berlin", help="in which periods begin and end")
    people.add_argument(
        "--spare-account",
        metavar="NAME",
        help="the shared account that pays where somebody's purses are empty",
    )
    listing = grammar.command(
        verbs, "list", list_accounts, "list shared accounts", "spoold account list"
    )
    grammar.add_json(listing)
    showing = grammar.command(
        verbs,
        "show",
        show_account,
        "show what somebody has, and of what",
        "spoold account show user:ada faculty/physics\nspoold account show everybody",
    )
    showing.add_argument("names", nargs="+", metavar="NAME")
    grammar.add_json(showing)
    removing = grammar.command(
        verbs, "remove", remove, "remove a shared account", "spoold account remove faculty/physics"
    )
    removing.add_argument("name", metavar="NAME")
    booking.add(verbs)


def _add_settings(parser: Parser) -> None:
    parser.add_argument("--code", help="what is typed at a machine")
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument(
        "--group", action="append", metavar="NAME", help="who may charge to it; * is everybody"
    )
    groups.add_argument("--no-groups", dest="group", action="store_const", const=[])
    members = parser.add_mutually_exclusive_group()
    members.add_argument("--member", action="append", metavar="USER", help="who may, too")
    members.add_argument("--no-members", dest="member", action="store_const", const=[])
    may = parser.add_mutually_exclusive_group()
    may.add_argument(
        "--restricted",
        action="store_const",
        const=True,
        help="goes below zero by the overdraft at most",
    )
    may.add_argument(
        "--unrestricted",
        dest="restricted",
        action="store_const",
        const=False,
        help="only counts; so is every account at first",
    )
    parser.add_argument("--overdraft", type=price, metavar="AMOUNT", help="how far below zero")
    grammar.add_json(parser)


def _allowance(text: str) -> tuple[int, str]:
    much, _, period = text.partition("/")
    if period not in tuple(Period):
        raise ArgumentTypeError(f"{text!r} names no period; write 5.00/month ({', '.join(Period)})")
    return price(much), period


# -- shared accounts ---------------------------------------------------------------------------


def _settings(args: Namespace) -> dict[str, Any]:
    found = {
        "code": args.code,
        "groups": args.group,
        "members": args.member,
        "restricted": args.restricted,
        "overdraft": args.overdraft,
    }
    return {key: value for key, value in found.items() if value is not None}


def add_account(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("account.add", {"name": args.name, **_settings(args)})
    return _told(args, answer, "is added")


def set_account(args: Namespace) -> int:
    """One command for three operations: people have no settings of shared accounts."""
    settings = _settings(args)
    for name in ("rename", "open"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    terms = {key: getattr(args, key) for key in _TERMS if getattr(args, key) is not None}
    if args.name == EVERYBODY and "overdraft" in settings:
        terms["overdraft"] = settings.pop("overdraft")
    is_shared = args.name != EVERYBODY and not args.name.startswith(("user:", "group:"))
    wrong = ""
    if settings and not is_shared:
        wrong = f"{args.name} is no shared account: it has allowances only."
    elif terms and args.name != EVERYBODY:
        wrong = "currency, time zone and spare account are those of everybody."
    elif args.carry_over is not None and args.allowance is None:
        wrong = "--carry-over goes with --allowance."
    elif not (settings or terms or args.allowance):
        wrong = "nothing is to be changed."
    if wrong:
        print(plain(f"spoold: {wrong}"), file=sys.stderr)
        return USAGE
    answer: dict[str, Any] = {}
    with connect(args) as client:
        if settings:
            answer = client.call("account.set", {"name": args.name, **settings})
        if terms:
            answer |= client.call("account.terms", terms)
        if args.allowance is not None:
            much, period = args.allowance
            asked = {"name": args.name, "amount": much, "period": period}
            asked["carry_over"] = args.carry_over or 0
            answer["allowance"] = client.call("account.allow", asked)
    return _told(args, {"name": args.name, **answer}, "is changed")


def _told(args: Namespace, answer: dict[str, Any], what: str) -> int:
    if args.json:
        render.print_json(answer)
    else:
        code = f" (code {answer['code']})" if answer.get("code") else ""
        print(plain(f"Account {answer['name']}{code} {what}."))
        _tell_advice(answer)
    return DONE


def list_accounts(args: Namespace) -> int:
    columns = (
        Column("NAME", gives_way=True),
        Column("CODE"),
        Column("BALANCE", align_right=True),
        Column("AVAILABLE", align_right=True),
        Column("WHO", gives_way=True),
    )
    none = "No shared accounts yet: `spoold account add NAME`."
    return show_list(args, "account.list", "accounts", columns, _row, none)


def _row(account: dict[str, Any]) -> list[str]:
    who = ["everybody" if one == "*" else one for one in account["groups"]]
    return [
        account["name"],
        account["code"],
        format_amount(account["balance"]),
        money(account["available"]) if account["open"] else "closed",
        ", ".join([*who, *account["members"]]),
    ]


def show_account(args: Namespace) -> int:
    return show_each(args, "account.show", [{"name": name} for name in args.names], _tell)


def _tell(found: dict[str, Any]) -> None:
    purses, allowances = found.pop("purses", ()), found.pop("allowances")
    currency, at_sites = found.pop("currency"), found.pop("at_sites", ())
    unit = f" {currency}" if currency else ""
    shown = []
    for key, value in found.items():
        if key in ("balance", "available", "overdraft"):
            shown.append((key, f"{money(value)}{unit if value is not None else ''}"))
        else:
            shown.append(render.readable(key, value))
    for one in purses:
        if one["balance"] or one["purse"] == "allowance":
            until = f", until {render.local_time(one['until_us'])[:16]}" if one["until_us"] else ""
            of = f" of {one['period']}" if one["period"] else ""
            shown.append((one["purse"] + of, f"{money(one['balance'])}{unit}{until}"))
    shown += [(f"held for {one['site']}", f"{money(one['amount'])}{unit}") for one in at_sites]
    for one in allowances:
        carried = one["carry_over"]
        over = f", up to {money(carried)}{unit} carried over" if carried else ""
        shown.append((f"each {one['period']}", f"{money(one['amount'])}{unit}{over}"))
    render.print_fields(shown)


def remove(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("account.remove", {"name": args.name})
    print(plain(f"Account {answer['name']} is removed; what was charged to it stays known."))
    _tell_advice(answer)
    return DONE


def _tell_advice(answer: dict[str, Any]) -> None:
    for advice in answer.get("advice", ()):
        print(plain(f"  {advice}"))
