"""`spoold site …`: sites come in at an application server, and join from their own machine."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from spoold.cli import grammar, journals, offline, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.cli.render import Column
from spoold.cli.showing import show_list, show_one
from spoold.cli.status import copied
from spoold.model.text import plain

COLUMNS = (
    Column("NAME", gives_way=True),
    Column("STATE"),
    Column("LINE"),
    Column("SINCE"),
    Column("PEER"),
    Column("CLOCK"),
    Column("SOFTWARE", gives_way=True),
    Column("GUID"),
)


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "site", "let sites join an application server, and look at them")
    inviting = grammar.command(
        verbs,
        "invite",
        invite,
        "print a token by which one site can join, once",
        """spoold site invite library
        spoold site invite library --approved --ttl 15m
        spoold site invite annex --group staff --printer annex-1""",
    )
    inviting.add_argument("name", metavar="NAME")
    inviting.add_argument(
        "--approved", action="store_true", help="it need not be approved after it has joined"
    )
    inviting.add_argument(
        "--ttl",
        type=grammar.duration,
        default=None,
        metavar="TIME",
        help="how long the token can be used (default: 1h)",
    )
    _add_scope(inviting)
    grammar.add_json(inviting)
    joining = grammar.command(
        verbs,
        "join",
        join,
        "make a site of this node, with the token of its application server",
        """spoold site join hq.example.org:9195 --token spj-…
        ssh hq spoold site invite library | spoold site join hq.example.org:9195 --token -""",
    )
    joining.add_argument("server", metavar="HOST:PORT", help="port 9195 of the application server")
    joining.add_argument(
        "--token", required=True, help="what `spoold site invite` printed; - reads it from stdin"
    )
    grammar.add_json(joining)
    approving = grammar.command(
        verbs,
        "approve",
        approve,
        "let a site in that has joined, or change what is copied to it",
        "spoold site approve library\nspoold site approve annex --group staff",
    )
    approving.add_argument("name", metavar="NAME")
    _add_scope(approving)
    grammar.add_json(
        grammar.command(
            verbs, "list", list_sites, "list sites and invitations", "spoold site list --json"
        )
    )
    showing = grammar.command(
        verbs,
        "show",
        show,
        "show a site; on the site itself, without a name, its line",
        "spoold site show library\nspoold site show                # on a site",
    )
    showing.add_argument("name", nargs="?", metavar="NAME|GUID")
    grammar.add_json(showing)
    copying = grammar.command(
        verbs,
        "copy",
        copy,
        "show how old a site's copy of its application server's objects is, and what made way",
        "spoold site copy\nspoold site copy --anew",
    )
    copying.add_argument(
        "--anew", action="store_true", help="take all of it once more; nobody is unknown meanwhile"
    )
    grammar.add_json(copying)
    offline.add(verbs)
    revoking = grammar.command(
        verbs,
        "revoke",
        revoke,
        "shut a site out for ever, or take an invitation back; its line ends at once",
        "spoold site revoke library",
    )
    revoking.add_argument("name", metavar="NAME")
    journals.add_to_site(verbs)


def _add_scope(parser: Parser) -> None:
    parser.add_argument(
        "--printer",
        action="append",
        metavar="NAME",
        help="a printer that the site gets to know; several may be given (default: all)",
    )
    parser.add_argument(
        "--group",
        action="append",
        metavar="NAME",
        help="a group of people that it gets to know; several may be given (default: all)",
    )


def _scope(args: Namespace) -> dict[str, Any]:
    found = {"printers": args.printer, "groups": args.group}
    return {key: value for key, value in found.items() if value is not None}


def invite(args: Namespace) -> int:
    asked = {"name": args.name, "is_approved": args.approved, **_scope(args)}
    if args.ttl is not None:
        asked["ttl_s"] = args.ttl
    with connect(args) as client:
        answer = client.call("site.invite", asked)
    if args.json:
        render.print_json(answer)
        return DONE
    where = answer["endpoints"][0] if answer["endpoints"] else "HOST:9195"
    until = render.local_time(answer["expires_us"])
    said = f"Site {answer['name']} can join once, until {until}. On its machine, with its daemon"
    print(plain(f"{said} running: spoold site join {where} --token TOKEN"), file=sys.stderr)
    if not answer["is_approved"]:
        print(plain(f"Then, here: spoold site approve {answer['name']}"), file=sys.stderr)
    print(answer["token"])
    return DONE


def join(args: Namespace) -> int:
    token = sys.stdin.readline().strip() if args.token == "-" else args.token
    with connect(args) as client:
        answer = client.call("site.enter", {"server": args.server, "token": token})
    if args.json:
        render.print_json(answer)
        return DONE
    name = plain(answer["name"])
    if answer["state"] == "pending":
        print(f"This is site {name} once it is approved there: spoold site approve {name}")
    elif answer["line"] == "up":
        print(f"This is site {name} now; the line to {plain(answer['upstream'])} is up.")
    else:
        print(f"This is site {name} now; the line is {answer['line']}: {plain(answer['reason'])}")
    return DONE


def approve(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("site.approve", {"name": args.name, **_scope(args)})
    print(plain(f"Site {answer['name']} is approved ({answer['guid']})."))
    return DONE


def list_sites(args: Namespace) -> int:
    def row(one: dict[str, Any]) -> list[str]:
        since_us = one["since_us"]
        return [
            one["name"],
            one["state"],
            one["line"] or "-",
            render.age(since_us) if since_us else "-",
            one.get("peer") or "-",
            render.clock(one.get("clock_offset_ms")),
            one.get("software") or "-",
            one["guid"] or "-",
        ]

    none = "No sites here; an application server invites one: `spoold site invite NAME`."
    return show_list(args, "site.list", "sites", COLUMNS, row, none)


def show(args: Namespace) -> int:
    if args.name is None:
        return show_one(args, "site.line")
    with connect(args) as client:
        answer = client.call("site.show", {"name": args.name})
    if args.json:
        render.print_json(answer)
        return DONE
    untold = answer.pop("untold", [])
    render.print_fields(render.readable(key, value) for key, value in answer.items())
    if untold:
        print("It does not know that these may do less by now:")
    for one in untold:
        since = "" if one["since_us"] is None else f" ({render.age(one['since_us'])} ago)"
        print(plain(f"  {one['kind']} {one['name']}: {one['what']}{since}"))
    return DONE


def copy(args: Namespace) -> int:
    with connect(args) as client:
        if args.anew:
            client.call("site.copy-anew", {})
        answer = client.call("site.copy", {})
    if args.json:
        render.print_json(answer)
        return DONE
    if answer.get("upstream"):
        print(f"The copy is {copied(answer)}.")
    else:
        print("There is no copy so far: the site has not joined.")
    for kind, count in sorted(answer["objects"].items()):
        print(f"{kind:<13} {count}")
    if answer["conflicts"]:
        print("This site's own things that had names of its application server's:")
    for one in answer["conflicts"]:
        what = f"{one['kind']} {one['name']}".strip()
        print(plain(f"  {what}: {one['became']} ({render.age(one['happened_us'])} ago)"))
    if answer["conflicts"]:
        print("  Use them by their new names, rename them, or remove them.")
    return DONE


def revoke(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("site.revoke", {"name": args.name})
    if not answer["had_joined"]:
        print(plain(f"The invitation of {args.name} is taken back."))
        return DONE
    print(plain(f"Site {args.name} is revoked, and its line has ended."))
    if answer["printers"]:
        count = render.counted(len(answer["printers"]), "printer")
        print(plain(f"  It owns {count} still: `spoold printer rehome --from-site {args.name}`."))
    return DONE
