"""What `list` and `show` have in common: ask the daemon, then print JSON or what people read."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

from spoold.cli import render
from spoold.cli.control import connect, pages
from spoold.cli.grammar import DONE
from spoold.cli.render import Column


def show_list(
    args: Namespace,
    op: str,
    key: str,
    columns: Sequence[Column],
    row: Callable[[dict[str, Any]], Sequence[str]],
    none: str,
    *,
    asked: dict[str, Any] | None = None,
    limit: int | None = None,
    by: str = "",
) -> int:
    """Print what a paged operation lists under `key`: JSON, or a table of `row` for each.

    `none` is the sentence when there is nothing; `limit` how many are shown at most; `by` what
    they are sorted by, where that is not the order in which they come.
    """
    with connect(args) as client:
        found = pages(client, op, asked or {}, key)
        if by:
            found = iter(sorted(found, key=itemgetter(by)))
        if args.json:
            render.print_json_list(islice(found, limit))
            return DONE
        rows = [row(one) for one in islice(found, None if limit is None else limit + 1)]
    more = limit is not None and len(rows) > limit
    render.print_table(columns, rows[:limit], none)
    if more:
        print("There are more: use --all, --limit N, or a filter.")
    return DONE


def show_each(
    args: Namespace,
    op: str,
    questions: Iterable[dict[str, Any]],
    tell: Callable[[dict[str, Any]], None],
) -> int:
    """Ask once for each of `questions`; print a JSON list, or each answer with `tell`."""
    with connect(args) as client:
        answers = [client.call(op, asked) for asked in questions]
    if args.json:
        render.print_json_list(answers)
        return DONE
    for index, answer in enumerate(answers):
        if index:
            print()
        tell(answer)
    return DONE


def show_one(args: Namespace, op: str, asked: dict[str, Any] | None = None) -> int:
    """Print one answer: JSON, or its fields a line each."""
    with connect(args) as client:
        answer = client.call(op, asked or {})
    if args.json:
        render.print_json(answer)
    else:
        render.print_fields(render.readable(key, value) for key, value in answer.items())
    return DONE
