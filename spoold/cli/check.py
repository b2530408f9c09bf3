"""`spoold check`: a line for each thing that a node needs, with advice where it is not well."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from spoold.cli import grammar, render
from spoold.cli.control import NotAnswering, NotRunning, connect, pages
from spoold.cli.grammar import DONE, REFUSED, Nouns, Parser
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.daemon.check import Finding, Subject
    from spoold.daemon.check_node import Device

MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}
COLORS = {"ok": "32", "warning": "33", "failed": "31"}


def add(nouns: Nouns[Parser]) -> None:
    checking = grammar.command(
        nouns,
        "check",
        check,
        "look whether this machine and this configuration are fit to run a node",
        """spoold check --config /etc/spoold/spoold.toml
        spoold check --printers --json""",
    )
    checking.add_argument("--config", metavar="FILE", help="TOML; without it the defaults")
    checking.add_argument(
        "--printers",
        action="store_true",
        help="ask the daemon for its printers, and whether each takes a connection",
    )
    grammar.add_json(checking)


def check(args: Namespace) -> int:
    """Exit code 1 when something is wrong; warnings alone are 0."""
    from spoold.daemon import check as checks
    from spoold.daemon import check_machine, check_node

    known, silent = _ask_daemon(args)
    checkers: list[Callable[[Subject], Iterable[Finding]]] = [
        *check_machine.CHECKERS,
        *check_node.CHECKERS,
        *check_machine.AFTER_NODE,
        partial(_daemon, known, silent),
    ]
    if args.printers:
        checkers.append(partial(_printers, known))
    found = []
    daemon = known.get("node_guid", "") if known is not None else "" if silent else None
    for finding in checks.check(args.config, daemon, checkers):
        found.append(finding)
        if not args.json:
            _print(finding)
    failed = sum(one.verdict is checks.Verdict.FAILED for one in found)
    warned = sum(one.verdict is checks.Verdict.WARNING for one in found)
    if args.json:
        render.print_json_list(
            {"what": one.what, "verdict": one.verdict, "text": one.text, "advice": one.advice}
            for one in found
        )
    elif failed or warned:
        print(f"{failed} failed, {warned} warnings.")
    else:
        print("All is well.")
    return REFUSED if failed else DONE


def _print(finding: Finding) -> None:
    mark = MARKS[finding.verdict]
    if sys.stdout.isatty():
        mark = f"\x1b[{COLORS[finding.verdict]}m{mark}\x1b[0m"
    line = f"{mark}  {finding.what}: {plain(finding.text)}"
    print(f"{line}. {plain(finding.advice)}" if finding.advice else line, flush=True)


def _ask_daemon(args: Namespace) -> tuple[dict[str, Any] | None, str]:
    """What the daemon says of itself, and its devices if they are asked for; None without one.
    Beside it, why one that is there cannot be asked.
    """
    try:
        with connect(args) as client:
            status = client.call("status", {})
            if args.printers:
                status["devices"] = list(_devices(pages(client, "printer.list", {}, "printers")))
            return status, ""
    except NotAnswering as error:
        return None, str(error)
    except NotRunning:
        return None, ""


def _devices(printers: Iterable[dict[str, Any]]) -> Iterator[Device]:
    """Each device once, by the first printer on it."""
    from spoold.daemon.check_node import Device

    seen = set()
    for printer in printers:
        uri = printer.get("uri") or ""
        if uri and uri not in seen:
            seen.add(uri)
            yield Device(printer["name"], uri)


def _daemon(known: dict[str, Any] | None, silent: str, subject: Subject) -> Iterator[Finding]:
    from spoold.daemon import check as checks

    if silent:
        yield checks.warning("daemon", silent, "")
        return
    if known is None:
        yield checks.ok("daemon", "none is running here")
        return
    if not subject.is_running:
        text = f"the one that answers is of another node, {known['node_name']}"
        yield checks.warning("daemon", text, "Name the socket of this node's with --control.")
        return
    version = known.get("version", "")
    yield checks.ok("daemon", f"spoold {version} has run for {_uptime(known)}")
    for one in known.get("checks", ()):
        make = {"warning": checks.warning, "failed": checks.failed}.get(one["verdict"])
        if make is not None:
            yield make(f"daemon's {one['part']}", one["text"], one["advice"])


def _uptime(known: dict[str, Any]) -> str:
    return render.duration(known.get("uptime_s", 0))


def _printers(known: dict[str, Any] | None, subject: Subject) -> Iterator[Finding]:
    from spoold.daemon import check as checks
    from spoold.daemon import check_node

    if known is None or not subject.is_running:
        advice = "Start it, and check again."
        yield checks.warning("printers", "the daemon that knows them does not run", advice)
    else:
        yield from check_node.check_printers(known["devices"])
