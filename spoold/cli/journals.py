"""`spoold journal status` and `quarantine`; `spoold site sync`, `history` and `begin-anew`.

How far the journal of a site has come on its way up, at either end.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spoold.cli import grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.cli.render import Column
from spoold.cli.showing import show_list
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.provider.blocking import ControlClient

SHOWN = 50
JOURNALS = (
    Column("SITE", gives_way=True),
    Column("STATE"),
    Column("POSITION", align_right=True),
    Column("BEHIND", align_right=True),
    Column("RATE", align_right=True),
    Column("RECEIVED"),
    Column("QUARANTINED", align_right=True),
)
ROUNDS = (
    Column("ROUND", align_right=True),
    Column("STARTED"),
    Column("TOOK"),
    Column("WITH", gives_way=True),
    Column("TRIGGER"),
    Column("RECORDS", align_right=True),
    Column("TO", align_right=True),
    Column("RESULT", gives_way=True),
)
QUARANTINED = (
    Column("ID"),
    Column("NODE", gives_way=True),
    Column("KIND"),
    Column("NOTICED"),
    Column("REASON", gives_way=True),
)


def add_to_journal(journal: Parser) -> None:
    """What `spoold journal` does besides printing records."""
    verbs = journal.add_subparsers(metavar="VERB")
    grammar.add_json(
        grammar.command(
            verbs,
            "status",
            status,
            "show how far the journal has come, and those of sites",
            "spoold journal status",
        )
    )
    held = grammar.noun(verbs, "quarantine", "look at records of sites that could not be applied")
    grammar.add_json(
        grammar.command(
            held,
            "list",
            quarantine,
            "list records of sites that could not be applied",
            "spoold journal quarantine list",
        )
    )
    showing = grammar.command(
        held,
        "show",
        show,
        "show a record that could not be applied, as far as it can be read",
        "spoold journal quarantine show 2/17",
    )
    showing.add_argument("id", metavar="ID", help="as the list shows it")
    grammar.add_json(showing)
    retrying = grammar.command(
        held,
        "retry",
        retry,
        "apply such records once more: after an upgrade they may make sense",
        "spoold journal quarantine retry\nspoold journal quarantine retry 2/17",
    )
    retrying.add_argument("id", nargs="?", metavar="ID", help="one of the list (default: all)")


def add_to_site(verbs: Nouns[Parser]) -> None:
    syncing = grammar.command(
        verbs,
        "sync",
        sync,
        "send the journal up at once, whatever it waits for",
        "spoold site sync                # on the site\nspoold site sync library",
    )
    syncing.add_argument("name", nargs="?", metavar="NAME", help="on an application server")
    listing = grammar.command(
        verbs,
        "history",
        history,
        "list the rounds in which journals were sent, the newest first",
        "spoold site history\nspoold site history --all --json",
    )
    listing.add_argument("--all", action="store_true", help=f"more than the last {SHOWN}")
    grammar.add_json(listing)
    grammar.command(
        verbs,
        "begin-anew",
        begin_anew,
        "on a site whose disk was put back: go on behind the last record that both ends have",
        "spoold site begin-anew",
    )


# -- the journal -------------------------------------------------------------------------------


def status(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("journal.status", {})
    if args.json:
        render.print_json(answer)
        return DONE
    for line in _lines(answer):
        print(plain(line))
    if answer["sites"]:
        print()
        rows = [_site(one) for one in answer["sites"]]
        render.print_table(JOURNALS, rows, "")
    return DONE


def print_head(client: ControlClient) -> None:
    """What stands above records, where somebody else has to do with the journal."""
    answer = client.call("journal.status", {})
    if answer["upstream"] is None and not answer["sites"]:
        return
    for line in _lines(answer):
        print(plain(f"# {line}"))
    for one in answer["sites"]:
        name, state, position, behind, rate, age, quarantined = _site(one)
        print(
            plain(
                f"# site {name}: {state}, at {position}, {behind} behind, {rate}, "
                f"last received {age} ago, {quarantined} in quarantine"
            )
        )


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    yield f"journal {answer['journal']}, incarnation {answer['incarnation']}"
    yield f"records {answer['oldest']} to {answer['position']}"
    upstream = answer["upstream"]
    if upstream is not None:
        name = upstream["name"] or "the application server"
        yield (
            f"to {name}: {upstream['state']}, acknowledged up to {upstream['acknowledged']}, "
            f"{upstream['lag']} behind, {_rate(upstream['rate'])}"
        )
        if upstream["reason"] and upstream["state"] in ("waiting", "forked"):
            yield f"because {upstream['reason']}"
    if answer["quarantined"]:
        yield f"in quarantine: {answer['quarantined']} (see `spoold journal quarantine list`)"


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}/s"


def _site(one: dict[str, Any]) -> list[str]:
    return [
        one["name"],
        one["state"],
        str(one["position"]),
        str(one["lag"]),
        _rate(one["rate"]),
        render.age(one["received_us"]),
        str(one["quarantined"]),
    ]


def quarantine(args: Namespace) -> int:
    def row(one: dict[str, Any]) -> list[str]:
        noticed = render.local_time(one["noticed_us"] // 1_000_000 * 1_000_000)
        return [one["id"], one["node"], one["kind"] or "-", noticed, one["reason"]]

    none = "Nothing is in quarantine."
    return show_list(args, "journal.quarantine", "records", QUARANTINED, row, none)


def show(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("journal.quarantined", {"id": args.id})
    if args.json:
        render.print_json(answer)
        return DONE
    record = answer.pop("record")
    render.print_fields(render.readable(key, value) for key, value in answer.items())
    if record is None:
        print("It cannot be read.")
    else:
        print()
        print(render.json_text(record, indent=2))
    return DONE


def retry(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("journal.retry", {} if args.id is None else {"id": args.id})
    print(f"{answer['applied']} could be applied; {answer['left']} stay in quarantine.")
    return DONE


# -- sites -------------------------------------------------------------------------------------


def sync(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("site.sync", {} if args.name is None else {"name": args.name})
    lag = render.counted(answer["lag"], "record")
    if answer["begins"]:
        print(f"A round begins, with {lag} to send. See `spoold site history`.")
    else:
        print(f"There is no line: {lag} to send when there is one. See `spoold site show`.")
    return DONE


def history(args: Namespace) -> int:
    def row(one: dict[str, Any]) -> list[str]:
        ended_us = one["ended_us"]
        took = "-" if ended_us is None else f"{(ended_us - one['started_us']) / 1e6:.1f} s"
        return [
            str(one["id"]),
            render.local_time(one["started_us"] // 1_000_000 * 1_000_000),
            took,
            one["peer"],
            one["trigger"],
            str(one["records"]),
            str(one["to"]),
            one["result"] or "goes on",
        ]

    none = "There was no round yet."
    limit = None if args.all else SHOWN
    return show_list(args, "site.history", "rounds", ROUNDS, row, none, limit=limit)


def begin_anew(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("site.begin-anew", {})
    print(f"The journal goes on as an incarnation of its own behind {answer['position']}.")
    return DONE
