"""`spoold source …`: directories (LDAP, Active Directory) that people come from; `user sync`."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from spoold.cli import grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, REFUSED, USAGE, Nouns, Parser
from spoold.cli.render import Column
from spoold.cli.showing import show_each, show_list
from spoold.model.text import plain

SIGNS = {"add": "+", "change": "~", "adopt": "=", "disable": "!", "remove": "-"}
_LISTS = ("servers", "bases", "group_bases", "members_of", "groups")
_TEXTS = (
    "flavour",
    "ca_file",
    "bind_dn",
    "password_file",
    "people_filter",
    "group_filter",
    "card_converter",
    "vanished",
)
_SWITCHES = ("start_tls", "clear_password", "logins")
_SECONDS = ("every", "deadline")


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "source", "name the directories (LDAP) that people come from")
    adding = grammar.command(
        verbs,
        "add",
        add_source,
        "add a directory; its people come with its first round",
        """spoold source add hq --server ldap://ldap.example.org --base dc=example,dc=org
        spoold source add hq --server HOST --base DN --bind-dn DN --password-file FILE
        spoold source add ad --flavour active-directory --server HOST --server HOST --base DN
        spoold source add hq --server HOST --base DN --members-of print-users --every 15min
        spoold source add hq --server HOST --base DN --attribute card=employeeNumber
        spoold user sync hq --dry-run""",
    )
    _add_settings(adding)
    setting = grammar.command(
        verbs,
        "set",
        set_source,
        "change a source; what is not named stays, an empty value goes back to the default",
        """spoold source set hq --every 1h --vanish-share 10
        spoold source set hq --attribute email=-          # not taken over""",
    )
    _add_settings(setting)
    listing = grammar.command(
        verbs, "list", list_sources, "list sources and their last rounds", "spoold source list"
    )
    grammar.add_json(listing)
    showing = grammar.command(
        verbs, "show", show, "show sources and their last rounds", "spoold source show hq"
    )
    showing.add_argument("names", nargs="+", metavar="NAME")
    grammar.add_json(showing)
    removing = grammar.command(
        verbs,
        "remove",
        remove,
        "forget a source; its users stay, as if made by hand",
        "spoold source remove hq",
    )
    removing.add_argument("name", metavar="NAME")


def add_sync(verbs: Nouns[Parser]) -> None:
    """`spoold user sync`."""
    syncing = grammar.command(
        verbs,
        "sync",
        sync,
        "take people over from a source (see `spoold source`), now",
        """spoold user sync hq --dry-run
        spoold user sync hq
        spoold user sync hq --let-go        # also when many vanish
        spoold user sync --status           # how the last rounds went""",
    )
    syncing.add_argument("source", nargs="?", metavar="SOURCE")
    syncing.add_argument("--dry-run", action="store_true", help="only say what would be done")
    syncing.add_argument(
        "--let-go", action="store_true", help="go on when more users vanish than a round may take"
    )
    syncing.add_argument(
        "--adopt",
        action="store_true",
        help="users of the same name who were made by hand are the source's from now on",
    )
    syncing.add_argument("--status", action="store_true", help="only say how the last rounds went")
    grammar.add_json(syncing)


def _add_settings(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME")
    several: dict[str, Any] = {"action": "append"}
    parser.add_argument(
        "--server",
        dest="servers",
        metavar="URL",
        **several,
        help="ldap://HOST[:PORT] (with STARTTLS) or ldaps://HOST[:PORT]; asked in their order",
    )
    parser.add_argument("--base", dest="bases", metavar="DN", **several, help="where people are")
    parser.add_argument(
        "--group-base", dest="group_bases", metavar="DN", **several, help="else the bases"
    )
    parser.add_argument(
        "--flavour",
        choices=("rfc2307bis", "rfc2307", "active-directory"),
        help="how it speaks of people and groups; rfc2307bis without it",
    )
    parser.add_argument(
        "--start-tls", type=grammar.switch, metavar="on|off", help="for ldap://; on without it"
    )
    parser.add_argument("--ca-file", metavar="FILE", help="PEM; else those of the system")
    parser.add_argument("--bind-dn", metavar="DN", help="who logs in; nobody without it")
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="its first line is the password; a path of the daemon's, or credential:NAME",
    )
    parser.add_argument(
        "--clear-password",
        type=grammar.switch,
        metavar="on|off",
        help="let the password go out without TLS",
    )
    parser.add_argument(
        "--logins",
        type=grammar.switch,
        metavar="on|off",
        help="it is asked for the passwords of its users who have none here",
    )
    parser.add_argument("--people-filter", metavar="FILTER", help="as (objectClass=person)")
    parser.add_argument("--group-filter", metavar="FILTER", help="as (objectClass=groupOfNames)")
    parser.add_argument(
        "--attribute",
        type=grammar.pair,
        dest="attributes",
        metavar="WHAT=NAME",
        **several,
        help="id, name, full_name, email, card, account, group, member or member_of under another "
        "name; - is not taken over",
    )
    parser.add_argument("--card-converter", metavar="NAME", help="see `spoold card converters`")
    parser.add_argument(
        "--members-of", metavar="GROUP", **several, help="only members of these are users"
    )
    parser.add_argument(
        "--group", dest="groups", metavar="GROUP", **several, help="only these are taken over"
    )
    parser.add_argument(
        "--vanished",
        choices=("remove", "disable"),
        help="what becomes of users who are gone there; who has a balance is only disabled",
    )
    parser.add_argument(
        "--vanish-share",
        type=grammar.count,
        metavar="PERCENT",
        help="a round in which more users would go, and more than one, changes nothing; "
        "20 without it",
    )
    parser.add_argument(
        "--every", type=grammar.duration, metavar="TIME", help="as 15min or 1h; 0: only when asked"
    )
    parser.add_argument(
        "--deadline", type=grammar.duration, metavar="TIME", help="for its whole answer"
    )
    grammar.add_json(parser)


def _settings(args: Namespace) -> dict[str, Any]:
    """What was named, as the arguments of `source.add` and `source.set`."""
    found: dict[str, Any] = {
        name: getattr(args, name) for name in (*_TEXTS, *_SWITCHES, "vanish_share")
    }
    for name in _LISTS:
        values = getattr(args, name)
        found[name] = None if values is None else [one for one in values if one]
    found["attributes"] = dict(args.attributes) if args.attributes else None
    found |= {f"{name}_s": getattr(args, name) for name in _SECONDS}
    return {key: value for key, value in found.items() if value is not None}


def add_source(args: Namespace) -> int:
    what = f"is added; see what its first round will do: `spoold user sync {args.name} --dry-run`"
    return _put(args, "source.add", what)


def set_source(args: Namespace) -> int:
    if not _settings(args):
        print("spoold source set: name what to change; see --help.", file=sys.stderr)
        return USAGE
    return _put(args, "source.set", "is changed")


def _put(args: Namespace, op: str, what: str) -> int:
    with connect(args) as client:
        answer = client.call(op, {"name": args.name, **_settings(args)})
    if args.json:
        render.print_json(answer)
    else:
        print(plain(f"Source {args.name} {what}."))
    return DONE


def list_sources(args: Namespace) -> int:
    columns = (
        Column("NAME"),
        Column("SERVERS", gives_way=True),
        Column("EVERY"),
        Column("LAST ROUND"),
        Column("WENT", gives_way=True),
    )
    none = "No sources: `spoold source add NAME`."
    return show_list(args, "source.list", "sources", columns, _row, none)


def _row(source: dict[str, Any]) -> list[str]:
    last = source["round"]
    return [
        source["name"],
        ", ".join(source["servers"]),
        render.duration(source["every_s"]) if source["every_s"] else "when asked",
        render.local_time(last.get("ended_us"))[:19],
        _went(last) if last else "-",
    ]


def _went(told: dict[str, Any]) -> str:
    """How a round went, in one line."""
    if told["outcome"] in ("failed", "stopped"):
        return f"{told['outcome']}: {told['message']}"
    words = ("added", "changed", "adopted", "disabled", "removed", "refused")
    counts = [f"{told[word]} {word}" for word in words if told.get(word)]
    if told["trouble"]:
        counts.append(f"{told['trouble']} with trouble")
    return f"{told['seen']} seen, {', '.join(counts) or 'nothing to change'}"


def show(args: Namespace) -> int:
    return show_each(args, "source.show", [{"name": name} for name in args.names], _tell)


def _tell(source: dict[str, Any]) -> None:
    last = source.pop("round")
    render.print_fields([render.readable(key, value) for key, value in source.items()])
    if last:
        print(plain(f"last round: {render.local_time(last['ended_us'])[:19]}, {_went(last)}"))
        _print_troubles(last)


def _print_troubles(told: dict[str, Any]) -> None:
    if told["advice"]:
        print(plain(f"  {told['advice']}"))
    for trouble in told["troubles"]:
        print(plain(f"  {trouble}"))
    if told["trouble"] > len(told["troubles"]):
        print(f"  and {told['trouble'] - len(told['troubles'])} more")


def remove(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("source.remove", {"name": args.name})
    print(plain(f"Source {answer['name']} is removed; its {answer['users']} users stay."))
    return DONE


def sync(args: Namespace) -> int:
    if args.status:
        return list_sources(args)
    if args.source is None:
        print("spoold user sync: name a source; see `spoold source list`.", file=sys.stderr)
        return USAGE
    asked = {
        "source": args.source,
        "dry_run": args.dry_run,
        "let_go": args.let_go,
        "adopt": args.adopt,
    }
    with connect(args) as client:
        answer = client.call("user.sync", asked)
    if args.json:
        render.print_json(answer)
    else:
        _print_round(answer, is_dry=args.dry_run)
    return DONE if answer["outcome"] in ("done", "planned") else REFUSED


def _print_round(answer: dict[str, Any], *, is_dry: bool) -> None:
    if is_dry:
        for step in answer["steps"]:
            print(_step(step))
        if answer["steps_in_all"] > len(answer["steps"]):
            print(f"… and {answer['steps_in_all'] - len(answer['steps'])} more")
    print(plain(f"{answer['source']}: {_went(answer)}{' (a dry run)' if is_dry else ''}."))
    _print_troubles(answer)


def _step(step: dict[str, Any]) -> str:
    """One line for what becomes of a user."""
    parts = [f"was {step['was']}"] if step["was"] else []
    parts += [
        f"{key} {render.words(value)}"
        for key, value in step["fields"].items()
        if value or step["was"]
    ]
    if step["card"] is not None:
        parts.append("a card" if step["card"] else "no card")
    told = f": {', '.join(parts)}" if parts else ""
    return plain(f"{SIGNS[step['action']]} {step['name']}{told}")
