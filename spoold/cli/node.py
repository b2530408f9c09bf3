"""`spoold node …`, `provider …` and `journal`."""

from __future__ import annotations

import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from spoold.cli import agent, enrolment, grammar, journals, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, USAGE, Nouns, Parser
from spoold.cli.render import Column
from spoold.cli.showing import show_list, show_one
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.provider.blocking import ControlClient

RECORDS_SHOWN = 50
RECORDS_PAGE = 500
CURSOR_INTERVAL_S = 0.2
_NOTHING: tuple[object, ...] = (None, [], {})  # what a record says nothing by


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "node", "look at this node and its certificate authority")
    grammar.add_json(
        grammar.command(verbs, "show", show_node, "show who this node is", "spoold node show")
    )
    authority = grammar.command(
        verbs,
        "ca",
        show_ca,
        "print the certificate that clients of 9192 and 9195 must trust",
        "spoold node ca > ca.crt\nspoold node ca --json",
    )
    grammar.add_json(authority)
    reloading = grammar.command(
        verbs,
        "reload",
        reload,
        "read the configuration again, and tell what changed",
        "spoold node reload                              # as `systemctl reload spoold` does",
    )
    grammar.add_json(reloading)

    verbs = grammar.noun(nouns, "provider", "enrol and revoke print providers")
    enrolling = grammar.command(
        verbs,
        "enrol",
        enrol,
        "make key and certificate of a print provider, for 9195",
        """spoold provider enrol mainframe --may-assert '*' --out /etc/spoold
        spoold provider enrol till-7 --may-assert cashier --days 90""",
    )
    enrolling.add_argument("name", metavar="NAME")
    enrolling.add_argument(
        "--may-assert",
        action="append",
        default=[],
        metavar="USER",
        help="a user that it may speak for; '*' is any",
    )
    enrolment.add_arguments(enrolling)
    grammar.add_json(
        grammar.command(verbs, "list", list_providers, "list providers", "spoold provider list")
    )
    revoking = grammar.command(
        verbs,
        "revoke",
        revoke,
        "refuse a provider's certificates from now on, and close its connections",
        "spoold provider revoke till-7",
    )
    revoking.add_argument("name", metavar="NAME")

    agent.add(verbs)

    reading = grammar.command(
        nouns,
        "journal",
        journal,
        f"print records of the journal, the last {RECORDS_SHOWN} or those from a position on",
        """spoold journal
        spoold journal --follow --from 1 --json
        spoold journal --follow --cursor billing --json     # goes on where it stopped
        spoold journal --audit --since 7d                   # who changed what
        spoold journal --audit --site library               # at a site, as far as it has told""",
    )
    start = reading.add_mutually_exclusive_group()
    start.add_argument(
        "--from", type=grammar.count, dest="start", metavar="POSITION", help="start at this record"
    )
    start.add_argument(
        "--cursor",
        metavar="NAME",
        help="start after this durable cursor, and move it behind what was printed; a record is "
        "printed again if this is killed before the cursor moved",
    )
    start.add_argument(
        "--audit",
        action="store_true",
        help="only who changed, allowed or refused what: the last acts, or those --since a time",
    )
    reading.add_argument(
        "--since",
        type=grammar.moment_us,
        metavar="TIME",
        help="with --audit: since an age (7d) or a local date (2025-03-01)",
    )
    reading.add_argument("--site", metavar="NAME", help="with --audit: a site, and not this node")
    reading.add_argument("--follow", action="store_true", help="wait for what comes")
    reading.add_argument("--json", action="store_true", help="print a line of JSON for each record")
    journals.add_to_journal(reading)


def show_node(args: Namespace) -> int:
    return show_one(args, "node.show")


def show_ca(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("node.ca", {})
    if args.json:
        render.print_json(answer)
        return DONE
    print(answer["pem"].rstrip())
    print(f"SHA-256 fingerprint: {answer['fingerprint']}", file=sys.stderr)
    return DONE


def reload(args: Namespace) -> int:
    with connect(args) as client:
        answer = client.call("daemon.reload", {})
    if args.json:
        render.print_json(answer)
    else:
        print("\n".join(map(plain, answer["changes"])) or "Nothing changed.")
    return DONE


def enrol(args: Namespace) -> int:
    answer = enrolment.enrol(args, "provider.enrol", {"may_assert": args.may_assert})
    if isinstance(answer, int):
        return answer
    enrolment.tell(args, f"Provider {args.name} is enrolled ({answer['guid']})")
    if not answer["may_assert"]:
        print("It may speak for no user; enrol with --may-assert USER, or '*' for any.")
    return DONE


def list_providers(args: Namespace) -> int:
    now_us = int(time.time() * 1e6)

    def row(one: dict[str, Any]) -> list[str]:
        is_expired = one["not_after_us"] < now_us
        return [
            one["name"],
            "revoked" if one["revoked"] else "expired" if is_expired else "valid",
            ", ".join(one["may_assert"]) or "-",
            render.local_time(one["not_after_us"])[:10],
            one["guid"],
        ]

    columns = (
        Column("NAME", gives_way=True),
        Column("STATE"),
        Column("MAY ASSERT", gives_way=True),
        Column("VALID UNTIL"),
        Column("GUID"),
    )
    none = "No providers yet: `spoold provider enrol NAME`."
    return show_list(args, "provider.list", "providers", columns, row, none)


def revoke(args: Namespace) -> int:
    with connect(args) as client:
        client.call("provider.revoke", {"name": args.name})
    print(plain(f"Provider {args.name} is revoked."))
    return DONE


def journal(args: Namespace) -> int:
    if args.follow if args.audit else (args.since is not None or args.site is not None):
        said = "--since and --site go with --audit, and --follow does not."
        print(f"spoold: {said}", file=sys.stderr)
        return USAGE
    if args.audit:
        return _audit(args)
    with connect(args) as client, _teller(args) as tell:
        if args.follow and args.cursor:
            asked: dict[str, Any] = {"cursor": args.cursor}
        else:
            asked = {"from": _first_position(client, args)}
        if not (args.json or args.start or args.cursor or args.follow):
            journals.print_head(client)
        records = _follow(client, asked) if args.follow else _read(client, asked["from"])
        for record in records:
            tell(record)
    return DONE


def _audit(args: Namespace) -> int:
    """The last acts, or all of them since a time; the oldest first."""
    asked = {"since_us": args.since or 0, "limit": RECORDS_SHOWN, "site": args.site or ""}
    acts: list[dict[str, Any]] = []
    with connect(args) as client:
        while args.since is not None or len(acts) < RECORDS_SHOWN:
            answer = client.call("journal.audit", asked)
            acts += answer["records"]
            if answer["next_before"] is None:
                break
            asked["before"] = answer["next_before"]
    for act in reversed(acts if args.since is not None else acts[:RECORDS_SHOWN]):
        _print_record(args, {**act, "actor": act["who"]} if not args.json else act)
    return DONE


def _first_position(client: ControlClient, args: Namespace) -> int:
    """What to read from: as asked, behind the cursor, or a page before the end."""
    if args.start is not None:
        return int(args.start)
    if args.cursor:
        cursors = client.call("journal.cursors", {})["cursors"]
        return int(cursors.get(args.cursor, 0)) + 1
    head: int = client.call("journal.cursors", {})["head"]
    return max(1, head - RECORDS_SHOWN + 1)


def _follow(client: ControlClient, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for event in client.stream("journal.follow", asked):
        yield event.args


def _read(client: ControlClient, start: int) -> Iterator[dict[str, Any]]:
    """The records from `start` up to the head as it is now."""
    head: int | None = None
    while head is None or start <= head:
        answer = client.call("journal.read", {"from": start, "limit": RECORDS_PAGE})
        head = answer["head"] if head is None else head
        yield from answer["records"]
        if not answer["records"]:
            return
        start = answer["records"][-1]["position"] + 1


@contextmanager
def _teller(args: Namespace) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that prints a record and moves the cursor, if one is named, behind it.

    The cursor is kept now and then and at the end. SIGTERM ends the command as Ctrl-C does, and
    both do it between two records: a service manager costs no record and repeats none.
    """
    if not args.cursor:
        yield lambda record: _print_record(args, record)
        return
    kept = printed = 0
    kept_at = time.monotonic()
    is_printing = is_stopping = False

    def tell(record: dict[str, Any]) -> None:
        nonlocal printed, is_printing
        is_printing = True
        _print_record(args, record)
        printed = record["position"]
        is_printing = False
        if is_stopping:
            raise KeyboardInterrupt
        if time.monotonic() - kept_at >= CURSOR_INTERVAL_S:
            keep()

    def keep() -> None:
        nonlocal kept, kept_at
        sys.stdout.flush()
        client.call("journal.cursor", {"name": args.cursor, "position": printed})
        kept, kept_at = printed, time.monotonic()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        if is_stopping or not is_printing:
            raise KeyboardInterrupt
        is_stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    with connect(args) as client:  # its own: the other one is in the middle of an answer
        try:
            yield tell
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if printed > kept:
                keep()


def _print_record(args: Namespace, record: dict[str, Any]) -> None:
    if args.json:
        print(render.json_text(record), flush=args.follow)
        return
    payload = {**record.get("payload", {}), **(record.get("personal") or {})}
    told = "  ".join(
        f"{key}={_brief(value)}" for key, value in payload.items() if value not in _NOTHING
    )
    line = f"{record['position']:>8}  {render.local_time(record['event_us'])}  {record['kind']}"
    line += f"  {record['actor']}  {told}"
    width = render.terminal_width()
    line = plain(line)
    print(line if width is None else render.cut(line, width), flush=args.follow)


def _brief(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else render.json_text(value).strip('"')
