"""`spoold card …`: try what a reader tells, before anybody's card is kept under it.

Nothing is asked of the daemon: converters are the same everywhere, and pure.
"""

from __future__ import annotations

from argparse import Namespace

from spoold.cli import grammar, render
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.cli.render import Column


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "card", "try how numbers of cards are read")
    testing = grammar.command(
        verbs,
        "test",
        test,
        "say under which number a card is known",
        """spoold card test wiegand-26 0AEF4D3
        spoold card test hex-reversed-to-decimal 04A1B2C3
        spoold card test "hex reverse-bytes decimal:10" 04A1B2C3""",
    )
    testing.add_argument("converter", metavar="CONVERTER|STEPS")
    testing.add_argument("number", nargs="+", metavar="NUMBER", help="as a reader tells it")
    grammar.add_json(testing)
    listing = grammar.command(
        verbs, "converters", converters, "list the converters", "spoold card converters"
    )
    grammar.add_json(listing)


def test(args: Namespace) -> int:
    from spoold.model.card import convert, find_converter

    name = find_converter(args.converter)
    found = [(raw, convert(name, raw)) for raw in args.number]
    if args.json:
        shown = [{"converter": name, "read": raw, "number": number} for raw, number in found]
        render.print_json_list(shown)
    else:
        for _, number in found:
            print(number)
    return DONE


def converters(args: Namespace) -> int:
    from spoold.model.card import CONVERTERS

    rows = [(name, steps, what) for name, (steps, what) in CONVERTERS.items()]
    if args.json:
        shown = [{"name": name, "steps": steps, "summary": what} for name, steps, what in rows]
        render.print_json_list(shown)
    else:
        columns = (Column("NAME"), Column("STEPS"), Column("WHAT", gives_way=True))
        render.print_table(columns, [list(row) for row in rows], "")
    return DONE
