"""`spoold count`: what is in a document, without a daemon, by the worker that a daemon uses."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from spoold.cli import grammar, render
from spoold.cli.grammar import DONE, REFUSED, USAGE, Nouns, Parser
from spoold.cli.render import Column
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.codec.pages.contents import Contents

EXAMPLES = """
spoold count report.pdf
spoold count --color *.pdf
spoold count --json --copies 3 --sides two-sided-long-edge job.prn
generate | spoold count -

exit codes:
0   the pages of all are known
1   the pages of one are unknown; the table says why
2   wrong usage, or FILE cannot be read
"""
_COLUMNS = (
    Column("FILE", gives_way=True),
    Column("FORMAT"),
    Column("PAGES", align_right=True),
    Column("COLOR", align_right=True),
    Column("COPIES", align_right=True),
    Column("SIDES"),
    Column("IMPRESSIONS", align_right=True),
    Column("SHEETS", align_right=True),
    Column("MEDIA"),
    Column("REMARK", gives_way=True),
)
_SIDES = ("one-sided", "two-sided-long-edge", "two-sided-short-edge")
_MEDIA = {  # by short names; the others are shown by their size
    (21000, 29700): "A4",
    (29700, 42000): "A3",
    (14800, 21000): "A5",
    (21590, 27940): "Letter",
    (21590, 35560): "Legal",
}
_READ_BYTES = 1024 * 1024


def add(nouns: Nouns[Parser]) -> None:
    parser = grammar.command(nouns, "count", count, "count the pages of documents", EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", help="- is the standard input")
    parser.add_argument("--format", default="", metavar="TYPE", help="else what the bytes say")
    parser.add_argument(
        "--color", "--colour", action="store_true", help="look for pages with color, up to 2 s"
    )
    parser.add_argument("--copies", type=grammar.count, metavar="N", help="as the job would ask")
    parser.add_argument("--sides", choices=_SIDES)
    parser.add_argument("--number-up", type=grammar.count, metavar="N", help="pages on a side")
    grammar.add_json(parser)


def count(args: Namespace) -> int:
    import trio

    from spoold.daemon import logs

    logs.configure("error", sys.stderr)
    try:
        counted = trio.run(_count_all, args)
    except OSError as error:
        name = error.filename or "the document"
        print(plain(f"spoold: {name}: {error.strerror or error}"), file=sys.stderr)
        return USAGE
    attributes = {"copies": args.copies, "sides": args.sides, "number-up": args.number_up}
    if args.json:
        render.print_json([_as_map(name, contents, attributes) for name, contents in counted])
    else:
        rows = [_row(name, contents, attributes) for name, contents in counted]
        render.print_table(_COLUMNS, rows, "")
    return REFUSED if any(contents.pages is None for _, contents in counted) else DONE


async def _count_all(args: Namespace) -> list[tuple[str, Contents]]:
    from spoold.counting.counter import Counter

    counted = []
    async with Counter() as counter:
        for name in args.files:
            if name == "-":
                with tempfile.TemporaryFile() as file:
                    while data := sys.stdin.buffer.read(_READ_BYTES):
                        file.write(data)
                    file.flush()
                    contents = await counter.count(
                        file.fileno(), media_type=args.format, colour=args.color
                    )
            else:
                contents = await counter.count(
                    Path(name), media_type=args.format, colour=args.color
                )
            counted.append((name, contents))
    return counted


def _as_map(name: str, contents: Contents, attributes: dict[str, object]) -> dict[str, object]:
    from dataclasses import asdict

    from spoold.codec.pages.charged import charged

    charge = charged(contents, attributes)
    return {
        "file": name,
        **contents.as_map(),
        "charged": None if charge is None else asdict(charge),
    }


def _row(name: str, contents: Contents, attributes: dict[str, object]) -> list[str]:
    from spoold.codec.pages.charged import charged

    charge = charged(contents, attributes)
    media_type = contents.format.rpartition("/")[2] or "-"
    if charge is None:
        why = contents.detail or str(contents.reason or "")
        return [name, media_type, "unknown", "-", "-", "-", "-", "-", "-", why]
    return [
        name,
        media_type,
        _number(contents.pages) + ("" if contents.is_exact else " ~"),
        _number(contents.colour_pages),
        str(charge.copies),
        charge.sides,
        str(charge.impressions),
        str(charge.media_sheets),
        ", ".join(
            _MEDIA.get(size, f"{size[0] / 100:g}x{size[1] / 100:g}mm") for size in contents.media
        )
        or "-",
        contents.detail,
    ]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
