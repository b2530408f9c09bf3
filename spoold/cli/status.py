"""`spoold status`: is everything all right, and if not, what to do; on one screen."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from spoold.cli import grammar, render
from spoold.cli.control import connect
from spoold.cli.grammar import DONE, REFUSED, Nouns, Parser
from spoold.cli.offline import told as emergency
from spoold.model.text import plain

SHOWN_MAX = 5  # printers that are told by name
LINES_MIN = 24
VERDICTS = {
    "ok": "All is well.",
    "warning": "Something wants a look:",
    "failed": "Something does not work:",
}
COLORS = {"ok": "32", "warning": "33", "failed": "31"}


def add(nouns: Nouns[Parser]) -> None:
    grammar.add_json(
        grammar.command(
            nouns,
            "status",
            status,
            "say whether everything is all right, and if not, what to do",
            "spoold status\nspoold status --json",
        )
    )


def status(args: Namespace) -> int:
    """Exit code 1 when something does not work."""
    with connect(args) as client:
        answer = client.call("status", {})
    if args.json:
        render.print_json(answer)
    else:
        lines = [*_head(answer), *_figures(answer), "", *_verdict(answer)]
        screen = shutil.get_terminal_size((100, LINES_MIN))
        for line in lines[: max(LINES_MIN, screen.lines) - 1]:
            print(line)
    return REFUSED if answer.get("verdict") == "failed" else DONE


def _head(answer: Mapping[str, Any]) -> Iterator[str]:
    name, version = plain(answer["node_name"]), answer["version"]
    line = f"spoold {version} on {name}, up for {render.duration(answer['uptime_s'])}"
    restored_us = answer["restored_us"]
    if restored_us is not None:
        line += f"; restored or rolled back {render.age(restored_us)} ago"
    yield line


def _figures(answer: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that there is, whatever its state."""
    jobs, printers = answer["jobs"], answer["printers"]
    told = [
        f"{jobs.get('pending', 0)} waiting",
        f"{jobs.get('processing', 0)} printing",
        f"{jobs.get('pending-held', 0)} held",
        f"{jobs.get('processing-stopped', 0)} stuck",
        f"{answer['jobs_finished']} finished",
    ]
    yield f"jobs          {', '.join(told)}"
    told = [f"{count} {state}" for state, count in sorted(printers.items())]
    named = answer.get("paused_names", [])[:SHOWN_MAX]
    named += ["…"] * (len(named) < answer["paused"])
    paused = f" ({answer['paused']} paused: {plain(', '.join(named))})" if answer["paused"] else ""
    yield f"printers      {', '.join(told) or 'none'}{paused}"
    free, total = answer["spool_free_bytes"], answer["spool_total_bytes"]
    line = f"disk          {render.bytes_text(free)} of {render.bytes_text(total)} free"
    if answer["quarantined"]:
        line += f"; {answer['quarantined']} in quarantine/, damaged or of no job"
    yield line
    yield from _lines(answer)
    days: dict[str, int] = {}
    for check in answer["checks"]:
        days |= check.get("days_left", {})
    if days:
        told = [f"{plain(name)} {left} days" for name, left in sorted(days.items())]
        yield f"certificates  {', '.join(told)}"
    made_us = answer["backup_us"]
    yield f"backup        {'never' if made_us is None else render.age(made_us) + ' ago'}"
    if answer.get("copy"):
        yield f"copy          {copied(answer['copy'])}"
    if answer.get("emergency"):
        yield f"emergency     {plain(emergency(answer['emergency']))}"
    if answer.get("at_stake"):
        yield f"at stake      {at_stake(answer['at_stake'])}"
    told = [f"{port} {count}" for port, count in sorted(answer["connections"].items())]
    yield f"connections   {', '.join(told)}"


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The line of a site, or the sites of an application server."""
    line = answer.get("line")
    if line is not None:
        since = render.age(line["since_us"])
        if line["state"] != "joined":
            told = "waits to be approved there"
            if line["state"] == "alone":
                told = "not joined: `spoold site join`"
        elif line["line"] == "up":
            told = f"up for {since}, to {line['upstream']} ({line['server']})"
            if line["clock_offset_ms"] is not None:
                told += f", whose clock is {render.clock(line['clock_offset_ms'])} off ours"
        else:
            told = f"{line['line']} for {since}"
        yield plain(f"line          {told}")
    for name in answer.get("sites_pending", ()):
        yield plain(f"to approve    {name} has joined: `spoold site approve {name}`")
    if answer.get("overrides"):
        count, verb = answer["overrides"], "waits" if answer["overrides"] == 1 else "wait"
        told = f"{render.counted(count, 'repair')} of printers {verb} to be settled"
        yield f"overrides     {told}: `spoold site overrides list`"
    if answer.get("sites"):
        gone = answer["sites_gone"]
        told = f"; no line: {', '.join(gone)}" if gone else ", all lines up"
        yield plain(f"sites         {answer['sites']}{told}")
        for name, count in sorted(answer["sites_exposed"].items()):
            told = f"{name} does not know what {count} people or machines may do no more"
            yield plain(f"exposed       {told}: `spoold site show {name}`")


def at_stake(found: Mapping[str, Any]) -> str:
    """What would be lost with this machine."""
    jobs, records = found["jobs"], found["records"]
    line = f"{render.counted(jobs, 'job')} {'is' if jobs == 1 else 'are'} here alone"
    if found["jobs_elsewhere"]:
        more = found["jobs_elsewhere"]
        line += " (1 more is at its owner)" if more == 1 else f" ({more} more are at their owners)"
    if records is not None:
        are = "is" if records == 1 else "are"
        line += f", {render.counted(records, 'record')} {are} not acknowledged"
    return line


def copied(copy: Mapping[str, Any]) -> str:
    """How old the copy of a site is."""
    whose = f", of {plain(copy['upstream'])}" if copy["upstream"] else ""
    if copy["age_s"] is None:
        return f"begun{whose}" if whose else "none so far: nobody is known here yet"
    line = f"{render.duration(copy['age_s'])} old{whose}"
    return line if copy["is_whole"] else f"{line}; it is being taken anew"


def _verdict(answer: Mapping[str, Any]) -> Iterator[str]:
    """What is not well, the worst first, each with what to do."""
    verdict, is_well = answer["verdict"], answer["verdict"] == "ok"
    if is_well and answer["stopped"]:
        yield _colored("All is well, but for printers that print nothing now:", verdict)
    else:
        yield _colored(VERDICTS[verdict], verdict)
    for check in answer["checks"]:
        if check["verdict"] != "ok":
            mark = check["verdict"].upper()
            yield from _told(f"{mark} {check['part']}: {check['text']}.", check["advice"])
    for printer in answer["stopped"][:SHOWN_MAX]:
        yield from _told(_printer(printer), printer["advice"])
    more = len(answer["stopped"]) - SHOWN_MAX
    if more > 0:
        yield f"And {more} more: `spoold printer list`."


def _printer(printer: Mapping[str, Any]) -> str:
    why = ", ".join(printer["reasons"]) or "stopped"
    message = f": {printer['message']}" if printer["message"] else ""
    since = render.duration(time.time() - printer["since_us"] / 1e6)
    waiting = "1 job waits" if printer["waiting"] == 1 else f"{printer['waiting']} jobs wait"
    return f"{printer['name']} ({why}{message}) for {since}, {waiting}."


def _told(text: str, advice: str) -> Iterator[str]:
    """One trouble, wrapped, the lines after its first moved in."""
    width = shutil.get_terminal_size((100, LINES_MIN)).columns
    for one, indent in ((text, "  "), (advice, "    ")):
        yield from textwrap.wrap(
            plain(one), width, initial_indent=indent, subsequent_indent=indent + "  "
        )


def _colored(text: str, verdict: str) -> str:
    return f"\x1b[{COLORS[verdict]}m{text}\x1b[0m" if sys.stdout.isatty() else text
