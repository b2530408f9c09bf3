"""`spoold apply FILE.toml` and `spoold export objects`: objects as a file says, and the file.

The file is read and the whole plan is checked before anything changes; then each step is one
operation, told in a line. Asked again, it finds everything in place.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spoold.cli import grammar, render
from spoold.cli.control import connect, pages
from spoold.cli.grammar import DONE, REFUSED, USAGE, Nouns, Parser
from spoold.codec import toml
from spoold.model.errors import ConfigError, OperationError
from spoold.model.text import plain
from spoold.net.credentials import is_private

if TYPE_CHECKING:
    from spoold.daemon.apply import Kind, Problem, Whole
    from spoold.model.objects import Difference, Step
    from spoold.provider.blocking import ControlClient

FILE_BYTES_MAX = 64 << 20
SECRET_BYTES_MAX = 4096
VALUE_CELLS = 120
NOTHING = "none"
SIGNS = {"add": "+", "change": "~", "remove": "-"}
DONE_WORDS = {"add": "added", "change": "changed", "remove": "removed"}


def add(nouns: Nouns[Parser]) -> None:
    applying = grammar.command(
        nouns,
        "apply",
        apply,
        "make printers, users and other objects what a file says, after showing the difference",
        """spoold export objects > objects.toml
        spoold apply objects.toml --dry-run              # only the difference
        spoold apply objects.toml                        # asks before it changes anything
        spoold apply objects.toml --yes --prune          # what is not named goes""",
    )
    applying.add_argument("file", type=Path, metavar="FILE.toml")
    applying.add_argument("--dry-run", action="store_true", help="only show the difference")
    applying.add_argument("--yes", action="store_true", help="do not ask")
    applying.add_argument(
        "--prune",
        action="store_true",
        help="remove what the file does not name, of the kinds that it names",
    )
    grammar.add_json(applying)
    verbs = grammar.noun(nouns, "export", "write what this node knows, for other programs")
    exporting = grammar.command(
        verbs,
        "objects",
        export,
        "write the objects of this node as a file for `spoold apply`, without secrets",
        "spoold export objects > objects.toml\nspoold export objects --kind printer",
    )
    exporting.add_argument("--kind", action="append", metavar="KIND", help="only these; else all")


def _kinds(folder: Path) -> list[Kind]:
    """Every kind of object, in the order in which they can refer to one another."""
    from spoold.daemon.apply_devices import Devices
    from spoold.daemon.apply_money import Accounts, Allowances, Prices, Terms
    from spoold.daemon.apply_printers import Printers
    from spoold.daemon.apply_sources import Sources
    from spoold.daemon.apply_users import Users

    users = Users(lambda file: _secret(folder / file))
    money = [users, Accounts(), Allowances()]
    return [Terms(), Sources(), Printers(), Devices(), Prices(), *money]


# -- applying ----------------------------------------------------------------------------------


def apply(args: Namespace) -> int:
    from spoold.daemon.apply import Whole, plan, read

    kinds = _kinds(args.file.absolute().parent)
    wanted, problems = read(kinds, _written(args.file))
    if problems:
        return _refuse(args, problems)
    named = [kind for kind in kinds if kind.word in wanted]
    with connect(args) as client:
        whole = Whole(wanted)
        also = {word for kind in named for word in kind.refers}
        _look(client, [kind for kind in kinds if kind in named or kind.word in also], whole)
        steps, problems = plan(named, whole, prune=args.prune)
        if problems:
            return _refuse(args, problems)
        return _go_on(args, client, steps, {kind.word: kind for kind in named}, whole)


def _written(file: Path) -> dict[str, Any]:
    """Raises:
    ConfigError: the file cannot be read, or is not TOML.
    """
    from spoold.daemon.apply import parse

    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES_MAX + 1)
        if len(text) > FILE_BYTES_MAX:
            raise ValueError(f"it is over {FILE_BYTES_MAX >> 20} MiB long")
        return parse(text)
    except OSError as error:
        advice = "Name a file that you can read."
        raise ConfigError("apply", str(file), error.strerror, advice) from error
    except ValueError as error:
        advice = "Correct it there; `spoold export objects` shows the form."
        raise ConfigError("apply", str(file), error, advice) from None


def _look(client: ControlClient, kinds: list[Kind], whole: Whole) -> None:
    from spoold.daemon.apply import arrange

    rows: dict[str, Iterable[Any]] = {}
    for kind in kinds:
        op, args = kind.listing.op, kind.listing.args
        rows[kind.word] = (
            pages(client, op, args, kind.rows) if kind.rows else [client.call(op, args)]
        )
    arrange(whole, kinds, rows)


def _refuse(args: Namespace, problems: list[Problem]) -> int:
    for problem in problems:
        print(f"spoold: {plain(str(args.file))}: {problem}", file=sys.stderr)
    print("spoold: nothing is changed.", file=sys.stderr)
    return REFUSED


def _go_on(
    args: Namespace,
    client: ControlClient,
    steps: list[Step],
    kinds: dict[str, Kind],
    whole: Whole,
) -> int:
    told = [_as_map(step) for step in steps]
    if not args.json:
        for step in steps:
            print(_shown(step, kinds[step.kind]))
    if not steps and not args.json:
        count = sum(map(len, whole.wanted.values()))
        print(f"Nothing to change: {_counted(count, 'object')} as the file says.")
    elif steps and args.dry_run and not args.json:
        print(f"{_counted(len(steps), 'change')}; nothing is changed in a dry run.")
    elif steps and not args.dry_run:
        if (refusal := _not_confirmed(args, len(steps))) is not None:
            return refusal
        _make(args, client, steps, kinds, whole, told)
    if args.json:
        render.print_json({"steps": told, "dry_run": args.dry_run})
    return REFUSED if any(one["outcome"] in ("refused", "not tried") for one in told) else DONE


def _not_confirmed(args: Namespace, count: int) -> int | None:
    """The exit code when nobody says yes; None when somebody does."""
    if args.yes:
        return None
    if not sys.stdin.isatty() or args.json:
        print(
            f"spoold apply: {_counted(count, 'change')}, and nobody to ask: use --yes.",
            file=sys.stderr,
        )
        return USAGE
    print(f"Make {_counted(count, 'change')}? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return None
    print("Nothing is changed.")
    return REFUSED


def _make(
    args: Namespace,
    client: ControlClient,
    steps: list[Step],
    kinds: dict[str, Kind],
    whole: Whole,
    told: list[dict[str, Any]],
) -> None:
    """Make the steps one after the other; after one that is refused, no more."""
    for index, step in enumerate(steps):
        there = whole.there[step.kind].get(step.name)
        try:
            asked = kinds[step.kind].asked(step, there)
            answer = client.call(asked.op, asked.args)
        except OperationError as error:
            told[index] |= {"outcome": "refused", "error": str(error)}
            for left in told[index + 1 :]:
                left["outcome"] = "not tried"
            if not args.json:
                print(plain(f"{_called(step)}: refused: {error}"))
                left_over = _counted(len(steps) - index - 1, "change")
                print(f"{_counted(index, 'change')} made; {left_over} not tried after that.")
            return
        told[index]["outcome"] = "done"
        if not args.json:
            print(plain(f"{_called(step)}: {DONE_WORDS[step.action]}"))
            for advice in answer.get("advice") or ():
                print(plain(f"  {advice}"))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _as_map(step: Step) -> dict[str, Any]:
    changes = [
        {"key": one.key, "before": one.before, "after": one.after} for one in step.differences
    ]
    return {
        "kind": step.kind,
        "name": step.name,
        "action": step.action.value,
        "differences": changes,
        "outcome": "planned",
    }


def _shown(step: Step, kind: Kind) -> str:
    parts = [_difference(one, kind, step.action == "add") for one in step.differences]
    told = ", ".join(part for part in parts if part)
    line = f"{SIGNS[step.action]} {_called(step)}"
    return plain(f"{line}: {told}" if told else line)


def _called(step: Step) -> str:
    return f"{step.kind} {step.name}" if step.name else step.kind


def _difference(one: Difference, kind: Kind, is_new: bool) -> str:
    before, after = (_value(kind.told(one.key, value)) for value in (one.before, one.after))
    if is_new:
        return "" if after == NOTHING else f"{one.key} {after}"
    return f"{one.key} {before} -> {after}"


def _value(value: Any) -> str:
    """A value as it stands in a file."""
    return NOTHING if value in (None, "", [], {}) else render.cut(toml.value(value), VALUE_CELLS)


def _secret(file: Path) -> str:
    """The first line of a file that holds a secret, and is nobody else's.

    Raises:
        OperationError: `bad-request`: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            if not is_private(file, os.fstat(opened.fileno())):
                raise ValueError("others can read it")
            raw = opened.read(SECRET_BYTES_MAX + 1)
        if len(raw) > SECRET_BYTES_MAX:
            raise ValueError(f"it is larger than {SECRET_BYTES_MAX} bytes")
        return raw.decode("utf-8").partition("\n")[0].removesuffix("\r")
    except OSError as error:
        cause = f"{file}: {error.strerror}."
        raise OperationError("bad-request", cause, "Name a file that you can read.") from None
    except ValueError as error:
        cause = f"{file}: {error}."
        raise OperationError("bad-request", cause, "Write one line of UTF-8; chmod 600.") from None


# -- exporting ---------------------------------------------------------------------------------


def export(args: Namespace) -> int:
    from spoold.daemon.apply import Whole
    from spoold.daemon.apply import export as exported

    kinds = _kinds(Path())
    words = [kind.word for kind in kinds]
    for word in args.kind or ():
        if word not in words:
            raise OperationError(
                "bad-request",
                f"there is no kind {plain(word[:40])!r} of objects.",
                f"Known are {', '.join(words)}.",
            )
    chosen = [kind for kind in kinds if kind.word in (args.kind or words)]
    whole = Whole()
    with connect(args) as client:
        _look(client, chosen, whole)
    sys.stdout.write(exported(chosen, whole))
    return DONE
