"""NOUN VERB: how a command is declared, and the arguments that several share.

A command is a handler that takes the parsed arguments and returns an exit code. Exit codes:
0 done, 1 refused, 2 wrong usage, 75 nobody to ask right now, 76 sent but the answer is unknown.
"""

from __future__ import annotations

import re
import time
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace, _SubParsersAction
from argparse import RawDescriptionHelpFormatter as Formatter
from collections.abc import Callable
from typing import Any

from spoold.model.policy import HOLD_KEYWORDS

DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 75
UNKNOWN = 76

LATEST_US = 2**53 - 1  # in the year 2255: what an operation can be told exactly
DURATION_MAX_DAYS = 36_500

Handler = Callable[[Namespace], int]
Nouns = _SubParsersAction  # argparse has no public name for it


class Parser(ArgumentParser):
    """Takes no abbreviations (they would break scripts with the next option), keeps line breaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=Formatter, allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What a command does not know is told by it, with its own usage, and not by the top."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def noun(nouns: Nouns[Parser], name: str, summary: str) -> Nouns[Parser]:
    """A noun; the verbs are added to what is returned."""
    description = summary[0].upper() + summary[1:] + "."
    parser = nouns.add_parser(name, help=summary, description=description)
    return parser.add_subparsers(metavar="VERB", required=True)


def command(
    where: Nouns[Parser], name: str, handler: Handler, summary: str, examples: str
) -> Parser:
    """A command, below its noun or at the top, with examples in its help."""
    lines = "\n".join(f"  {line.strip()}".rstrip() for line in examples.strip().splitlines())
    parser = where.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{lines}",
    )
    parser.set_defaults(handler=handler)
    add_control(parser)
    return parser


def add_control(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--control",
        metavar="PATH",
        default=SUPPRESS,
        help="the daemon's control socket (else $SPOOLD_CONTROL, or where a daemon puts it)",
    )


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")


_GROUPS = {
    "waiting": ("pending", "pending-held"),
    "active": ("processing", "processing-stopped"),
    "unfinished": ("pending", "pending-held", "processing", "processing-stopped"),
    "finished": ("completed", "canceled", "aborted"),
}
STATES = (*_GROUPS["unfinished"], *_GROUPS["finished"])


def states(text: str) -> tuple[str, ...]:
    """The job states in a list of states and groups of states with commas."""
    found: list[str] = []
    for word in text.split(","):
        if word not in _GROUPS and word not in STATES:
            raise ArgumentTypeError(
                f"{word!r} is no state; use {', '.join(STATES)}, or {', '.join(_GROUPS)}"
            )
        found += _GROUPS.get(word, (word,))
    return tuple(dict.fromkeys(found))


def moment_us(text: str) -> int:
    """A UTC time in µs from an age (`2h`, `3 days`) or a local ISO time (`2025-03-01T14:00`).

    What is longer ago than anything can be is 1970: everything is since then.
    """
    if re.match(r"\s*\d+(\.\d+)?\s*[a-z]", text):
        from spoold.daemon.schema import duration_s

        try:
            return max(0, int((time.time() - duration_s(text)) * 1e6))
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is no age; write 90min, 2h or 3d") from None
    from datetime import datetime

    try:
        return _told_us(max(0.0, datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is no time; write an age (2h) or a date (2025-03-01, 2025-03-01T14:00)"
        ) from None


def duration(text: str) -> int:
    """Whole seconds from `90min`, `12h`, `3d`, or a number of them."""
    from spoold.daemon.schema import duration_s

    try:
        seconds = int(text) if text.isascii() and text.isdecimal() else int(duration_s(text))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time; write 90min, 12h or 3d") from None
    if seconds > DURATION_MAX_DAYS * 86_400:
        raise ArgumentTypeError(f"{text!r} is more than {DURATION_MAX_DAYS} days")
    return seconds


def _told_us(seconds: float) -> int:
    """A time since 1970 in µs; ValueError when it is later than an operation can be told."""
    if (found := int(seconds * 1e6)) > LATEST_US:
        raise ValueError(f"{seconds} s is too late")
    return found


def coming_us(text: str) -> int:
    """A UTC time in µs from the next `18:30`, or from a local ISO time; else ValueError."""
    from datetime import datetime, timedelta

    if re.fullmatch(r"[0-2]?\d:[0-5]\d", text):
        now = datetime.now()
        hour, minute = map(int, text.split(":"))
        then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        then += timedelta(days=then <= now)
    else:
        then = datetime.fromisoformat(text)
    return _told_us(then.timestamp())


def until_us(text: str) -> int:
    """A UTC time in µs that comes: `2h` from now, the next `18:00`, or a local ISO time."""
    try:
        return coming_us(text)
    except (ValueError, OverflowError):
        pass
    try:
        return int((time.time() + duration(text)) * 1e6)
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{text!r} is no time; write how long (2h, 3d), 18:00, or a date (2027-01-01)"
        ) from None


def hold_until(text: str) -> dict[str, Any]:
    """Until when a job is held, as the arguments of an operation: a word, or a time to come."""
    if text in HOLD_KEYWORDS:
        return {"hold_until": text}
    try:
        until = coming_us(text)
    except (ValueError, OverflowError):
        words = ", ".join(HOLD_KEYWORDS)
        raise ArgumentTypeError(
            f"{text!r} is no time to hold until; write 18:30, 2025-03-01T14:00, or one of {words}"
        ) from None
    if until <= time.time() * 1e6:
        raise ArgumentTypeError(f"{text!r} is past: the job would print at once")
    return {"hold_until_us": until}


def add_hold_until(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--hold-until",
        type=hold_until,
        default={},
        metavar="WORD|TIME",
        help=f"{', '.join(HOLD_KEYWORDS)}, a time of the day (18:30), or a date with one",
    )


def add_filters(parser: ArgumentParser, default_states: str = "") -> None:
    """The filters of listings and of actions on many jobs. `default_states` is told in the help."""
    group = parser.add_argument_group("filters")
    group.add_argument("--owner", help="the user that the jobs belong to")
    group.add_argument("--title", metavar="TEXT", help="a part of the title")
    group.add_argument("--printer", metavar="NAME")
    which = f"; without it: {default_states}" if default_states else ""
    group.add_argument(
        "--state",
        type=states,
        action="extend",
        metavar="STATE,…",
        help=f"{', '.join(STATES)}, or a group: {', '.join(_GROUPS)}{which}",
    )
    group.add_argument("--reason", metavar="KEYWORD", help="a state reason, e.g. job-in-doubt")
    since = "submitted after this time: an age (2h, 3d) or a local date (2025-03-01T14:00)"
    group.add_argument("--since", type=moment_us, metavar="TIME", help=since)
    group.add_argument("--until", type=moment_us, metavar="TIME", help="submitted before it")


def filters(args: Namespace) -> dict[str, Any]:
    """What `add_filters` took, as the argument of an operation; empty when nothing was asked."""
    found = {
        "owner": args.owner,
        "title": args.title,
        "printer": args.printer,
        "states": list(args.state or ()),
        "reason": args.reason,
        "since_us": args.since,
        "until_us": args.until,
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as a pair."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()


def count(text: str) -> int:
    """A whole number from 1 on."""
    return whole(text, least=1)


def whole(text: str, least: int = 0) -> int:
    """A whole number from `least` on."""
    if not text.isascii() or not text.isdecimal() or not least <= int(text) < 2**31:
        raise ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return int(text)


def switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"
