"""What commands about money share: amounts as people write them, and tables for spreadsheets."""

from __future__ import annotations

import csv
import sys
import unicodedata
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from typing import Any

from spoold.model.errors import OperationError
from spoold.model.money import format_amount, parse_amount
from spoold.model.text import plain

_FORMULA = ("=", "+", "-", "@")  # with which a spreadsheet begins to calculate


def amount(text: str) -> int:
    """1/10,000 from `12.50`, of either sign."""
    try:
        return parse_amount(text)
    except OperationError as error:
        raise ArgumentTypeError(str(error)) from None


def price(text: str) -> int:
    """The same, from zero on."""
    found = amount(text)
    if found < 0:
        raise ArgumentTypeError(f"{text!r} is below zero")
    return found


def money(value: int | None) -> str:
    """An amount for people; none is one without end."""
    return "unlimited" if value is None else format_amount(value)


def signed(value: int) -> str:
    return f"+{format_amount(value)}" if value > 0 else format_amount(value)


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula, on one line."""
    shown = plain(text)
    begins = unicodedata.normalize("NFKC", shown).lstrip()  # a wide = is one, too
    return f"'{shown}" if begins.startswith(_FORMULA) else shown


def write_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV (RFC 4180): amounts as numbers, texts made safe before."""
    out = csv.writer(sys.stdout, lineterminator="\r\n")
    out.writerow(head)
    out.writerows(rows)
