"""`spoold site policy|rights|emergency`: what holds at a site that is alone, and what it spends."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from spoold.cli import grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.cli.money import price
from spoold.cli.render import Column
from spoold.cli.showing import show_list
from spoold.model.errors import OperationError
from spoold.model.money import format_amount
from spoold.model.text import plain

SWITCH = {"on": True, "off": False}
RIGHTS = (
    Column("HOLDER", gives_way=True),
    Column("GRANTED", align_right=True),
    Column("LEFT", align_right=True),
)
OVERRIDES = (
    Column("SITE"),
    Column("PRINTER"),
    Column("NOW", gives_way=True),
    Column("WAS", gives_way=True),
    Column("SINCE"),
    Column("BY"),
    Column("STATE"),
)
_TOLD = {
    "rights_out": "when rights run out",
    "strangers": "people who are not known",
    "choice": "choice of accounts",
    "account": "account of these rules",
    "overdraft": "overdraft in an outage",
    "passwords": "passwords without a directory",
    "password_days": "days after the last login",
    "share": "rights to a balance, per cent",
    "most": "at most",
    "valid_hours": "hours that rights hold",
    "ahead": "rights for everybody",
    "need_share": "rights at need, per cent",
    "need_most": "at need at most",
    "alarm": "alarm at so much a day",
}
_AMOUNTS = ("overdraft", "most", "need_most", "alarm")


def add(verbs: Nouns[Parser]) -> None:
    """The verbs of `site` that are about being alone."""
    _add_policy(verbs)
    _add_repair(verbs)
    holding = grammar.command(
        verbs,
        "rights",
        rights,
        "list what a site may spend of whose money without asking; on the site, without its name",
        "spoold site rights library",
    )
    holding.add_argument("name", nargs="?", metavar="NAME")
    grammar.add_json(holding)
    emerging = grammar.command(
        verbs,
        "emergency",
        emergency,
        "let printers that hold jobs print them at once for a while: no card reader, no directory",
        """spoold site emergency                    # whether there is one
        spoold site emergency on --until 2h --reason 'card readers are dead'
        spoold site emergency on --until 18:00
        spoold site emergency off""",
    )
    emerging.add_argument("state", nargs="?", choices=("on", "off"))
    emerging.add_argument(
        "--until",
        type=grammar.until_us,
        metavar="TIME",
        help="how long (2h), or until when (18:00); with on",
    )
    emerging.add_argument("--reason", default="", help="for whoever reads the audit trail")
    grammar.add_json(emerging)


def _add_repair(verbs: Nouns[Parser]) -> None:
    repairing = grammar.command(
        verbs,
        "repair",
        repair,
        "on a site that is cut off: change a printer that belongs to its application server",
        """spoold site repair frontdesk --pause --reason 'paper jam'
        spoold site repair frontdesk --resume
        spoold site repair frontdesk --device socket://192.0.2.8:9100""",
    )
    repairing.add_argument("name", metavar="PRINTER")
    what = repairing.add_mutually_exclusive_group(required=True)
    what.add_argument("--pause", action="store_true", help="let it print nothing")
    what.add_argument("--resume", action="store_true", help="let it print again")
    what.add_argument("--device", metavar="URI", help="where it is now")
    repairing.add_argument("--reason", default="", help="why it is paused")
    settling = grammar.command(
        verbs,
        "overrides",
        overrides,
        "list what cut-off sites changed by `repair`; accept it for everybody, or take it back",
        """spoold site overrides list
        spoold site overrides accept frontdesk
        spoold site overrides revert frontdesk --site library""",
    )
    settling.add_argument("what", choices=("list", "accept", "revert"))
    settling.add_argument("name", nargs="?", metavar="PRINTER")
    settling.add_argument("--site", metavar="NAME", help="where several have changed it")
    grammar.add_json(settling)


def _add_policy(verbs: Nouns[Parser]) -> None:
    setting = grammar.command(
        verbs,
        "policy",
        policy,
        "show or decide in advance what holds at a site that is cut off",
        """spoold site policy
        spoold site policy --all --rights-out overdraft --overdraft 2.00
        spoold site policy library --rights-out account --account offline --passwords on
        spoold site policy library --reset""",
    )
    setting.add_argument("name", nargs="?", metavar="NAME", help="a site")
    setting.add_argument("--all", action="store_true", help="all sites that have no policy")
    setting.add_argument("--reset", action="store_true", help="the site gets that of all again")
    setting.add_argument(
        "--rights-out",
        choices=("deny", "account", "overdraft"),
        help="when rights do not pay for the work: deny it, or who pays",
    )
    setting.add_argument(
        "--strangers", choices=("deny", "hold", "account"), help="jobs of people not known there"
    )
    setting.add_argument(
        "--choice", choices=("allowed", "own", "account"), help="who pays where accounts are chosen"
    )
    setting.add_argument("--account", metavar="NAME", help="the shared account of these rules")
    setting.add_argument(
        "--overdraft", type=price, metavar="AMOUNT", help="how far each may go below zero"
    )
    setting.add_argument(
        "--passwords", choices=tuple(SWITCH), help="that a directory has accepted there before"
    )
    setting.add_argument(
        "--password-days", type=grammar.whole, metavar="N", help="how long ago at most"
    )
    setting.add_argument(
        "--share", type=grammar.whole, metavar="PERCENT", help="of a balance, as rights"
    )
    setting.add_argument("--most", type=price, metavar="AMOUNT", help="but no more than this")
    setting.add_argument(
        "--valid-hours", type=grammar.whole, metavar="N", help="how long rights hold"
    )
    setting.add_argument("--ahead", choices=tuple(SWITCH), help="off: for who was there only")
    setting.add_argument(
        "--need-share",
        type=grammar.whole,
        metavar="PERCENT",
        help="of a balance, when it is needed at once",
    )
    setting.add_argument(
        "--need-most", type=price, metavar="AMOUNT", help="but no more than this of anybody"
    )
    setting.add_argument(
        "--alarm", type=price, metavar="AMOUNT", help="so much at need in a day is unusual"
    )
    grammar.add_json(setting)


def policy(args: Namespace) -> int:
    asked: dict[str, Any] = {
        key: getattr(args, key) for key in _TOLD if getattr(args, key) is not None
    }
    asked |= {key: SWITCH[asked[key]] for key in ("passwords", "ahead") if key in asked}
    if args.reset:
        asked["reset"] = True
    if asked and args.name is None and not args.all:
        raise OperationError("bad-request", "no site is named.", "Name one, or say --all.")
    with connect(args) as client:
        if asked:
            named = {} if args.name is None else {"name": args.name}
            answer = client.call("site.set-policy", {**asked, **named})
        else:
            answer = client.call("site.policies", {})
        found = [one for one in answer["policies"] if args.name in (None, one["site"])]
        if not found:  # it has none of its own, if there is such a site
            client.call("site.show", {"name": args.name})
            found = [one for one in answer["policies"] if not one["site"]]
    if args.json:
        render.print_json(answer)
        return DONE
    for one in found:
        print(plain(one["site"] or "all sites without one of their own"))
        for key, text in _TOLD.items():
            print(plain(f"  {text:<30} {_shown(key, one[key])}"))
    return DONE


def _shown(key: str, value: Any) -> str:
    if key in _AMOUNTS:
        return format_amount(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) or "-"


def rights(args: Namespace) -> int:
    def row(one: dict[str, Any]) -> list[str]:
        return [one["holder"], format_amount(one["granted"]), format_amount(one["left"])]

    asked = {} if args.name is None else {"name": args.name}
    none = "No rights were granted."
    return show_list(args, "site.holdings", "rights", RIGHTS, row, none, asked=asked, by="holder")


def repair(args: Namespace) -> int:
    asked: dict[str, Any] = {"name": args.name}
    if args.device is not None:
        asked["uri"] = args.device
    else:
        asked |= {"paused": args.pause, "reason": args.reason}
    with connect(args) as client:
        left = client.call("site.repair", asked)["overrides"]
    if any(one["printer"] == args.name for one in left):
        how = "so here until its application server has accepted or undone it"
    else:
        how = "as its application server has it"
    print(plain(f"{args.name} is {how}."))
    return DONE


def overrides(args: Namespace) -> int:
    if args.what != "list" and args.name is None:
        raise OperationError("bad-request", "a printer is accepted or reverted.", "Name one.")
    with connect(args) as client:
        if args.what == "list":
            answer = client.call("site.overrides", {})
        else:
            site = {} if args.site is None else {"site": args.site}
            asked = {"name": args.name, "accept": args.what == "accept", **site}
            answer = client.call("site.settle", asked)
    if args.json:
        render.print_json(answer)
        return DONE
    found = [one for one in answer["overrides"] if args.name in (None, one["printer"])]
    rows = [_override(one) for one in found]
    render.print_table(OVERRIDES, rows, "No site has changed anything.")
    return DONE


def _override(one: dict[str, Any]) -> list[str]:
    is_device = one["field"] == "device"
    now, was = (
        text if is_device else "not paused" if text is None else f"paused {text}".strip()
        for text in (one["value"], one["was"])
    )
    state = "to be undone" if one["is_reverted"] else "open"
    since = render.age(one["since_us"])
    return [one["site"], one["printer"], now or "-", was or "-", since, one["actor"], state]


def emergency(args: Namespace) -> int:
    if (args.state == "on") != (args.until is not None):
        raise OperationError(
            "bad-request", "an emergency has an end.", "Say `on --until TIME`, or `off`."
        )
    with connect(args) as client:
        if args.state is None:
            answer = client.call("site.emergency", {})
        else:
            asked = {} if args.until is None else {"until_us": args.until, "reason": args.reason}
            answer = client.call("site.set-emergency", asked)
    if args.json:
        render.print_json(answer)
        return DONE
    print(plain(told(answer["emergency"])))
    return DONE


def told(found: dict[str, Any] | None) -> str:
    """An emergency in a line."""
    if found is None:
        return "No emergency: held jobs wait for their owners."
    until, who = render.local_time(found["until_us"]), found["actor"]
    reason = f": {found['reason']}" if found["reason"] else ""
    return f"Held printers print at once until {until}, by {who}{reason}."
