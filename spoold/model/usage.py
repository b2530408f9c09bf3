"""What was made, or is to be made, for somebody: impressions and sheets, by what they cost.

Impressions are sides of paper with something on them, sheets are pieces of paper, both of all
copies (RFC 8011 5.3.17). A medium has the self-describing name of PWG 5101.1, which says its size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from spoold.model.errors import OperationError

LINES_MAX = 16
COUNT_MAX = 10**9
MEDIA_CHARACTERS_MAX = 127
UNKNOWN = "unknown"
COLORS = ("color", "monochrome", UNKNOWN)
SIDES = ("one-sided", "two-sided")

_SIZE = re.compile(r"_([0-9]{1,5}(?:\.[0-9]{1,3})?)x([0-9]{1,5}(?:\.[0-9]{1,3})?)(mm|in)")
_MM = {"mm": Decimal(1), "in": Decimal("25.4")}


class Work(StrEnum):
    """What a machine does for somebody."""

    PRINT = "print"
    COPY = "copy"
    SCAN = "scan"
    FAX = "fax"


@dataclass(frozen=True, slots=True)
class Line:
    """Impressions of one kind. `media` is "" where it is not known."""

    impressions: int
    sheets: int
    color: str = UNKNOWN
    sides: str = "one-sided"
    media: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """`is_known` False: the pages could not be counted; the price list says what that costs."""

    work: Work
    lines: tuple[Line, ...] = ()
    is_known: bool = True

    @property
    def impressions(self) -> int:
        return sum(line.impressions for line in self.lines)

    @property
    def sheets(self) -> int:
        return sum(line.sheets for line in self.lines)

    @property
    def color_impressions(self) -> int:
        """Those that are known to be in colour."""
        return sum(line.impressions for line in self.lines if line.color == "color")

    def limited_to(self, impressions: int) -> Usage:
        """The first so many impressions of it, on as many sheets as they need."""
        kept: list[Line] = []
        left = max(0, impressions)
        for line in self.lines:
            count = min(line.impressions, left)
            left -= count
            if count == line.impressions:
                kept.append(line)
            elif count:
                sheets = -(-count * line.sheets // line.impressions)
                kept.append(replace(line, impressions=count, sheets=sheets))
        return replace(self, lines=tuple(kept))

    def as_map(self) -> dict[str, Any]:
        lines = [
            [one.impressions, one.sheets, one.color, one.sides, one.media] for one in self.lines
        ]
        return {"work": self.work.value, "known": self.is_known, "lines": lines}

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Usage:
        """The usage that `as_map` made a map of."""
        lines = tuple(Line(*one) for one in found["lines"])
        return cls(Work(found["work"]), lines, bool(found["known"]))


NOTHING = Usage(Work.PRINT)


def check_usage(usage: Usage) -> Usage:
    """`usage` when it can be.

    Raises:
        OperationError: `bad-request`: what counts it makes no sense, or too many kinds of paper.
    """
    if len(usage.lines) > LINES_MAX:
        raise OperationError(
            "bad-request", f"more than {LINES_MAX} kinds of impressions.", "Add up those alike."
        )
    for line in usage.lines:
        if not (0 <= line.impressions <= COUNT_MAX and 0 <= line.sheets <= COUNT_MAX):
            raise OperationError(
                "bad-request", "a count is beyond all measure.", f"It can be 0 to {COUNT_MAX}."
            )
        if line.color not in COLORS or line.sides not in SIDES:
            raise OperationError(
                "bad-request",
                "a colour or sides keyword is unknown.",
                f"Use {', '.join(COLORS)} and {', '.join(SIDES)}.",
            )
        if len(line.media) > MEDIA_CHARACTERS_MAX:
            raise OperationError("bad-request", "a name of a medium is too long.")
    return usage


def media_size_mm(name: str) -> tuple[Decimal, Decimal] | None:
    """Width and height in mm as the medium's name says them (PWG 5101.1 5); None: it does not."""
    match = _SIZE.search(name)
    if match is None or match.end() != len(name):
        return None
    factor = _MM[match[3]]
    size = (Decimal(match[1]) * factor, Decimal(match[2]) * factor)
    return size if all(size) else None


# The self-describing names (PWG 5101.1) of what people call by less.
_CALLED = {
    "a0": "iso_a0_841x1189mm",
    "a1": "iso_a1_594x841mm",
    "a2": "iso_a2_420x594mm",
    "a3": "iso_a3_297x420mm",
    "a4": "iso_a4_210x297mm",
    "a5": "iso_a5_148x210mm",
    "a6": "iso_a6_105x148mm",
    "letter": "na_letter_8.5x11in",
    "legal": "na_legal_8.5x14in",
    "tabloid": "na_ledger_11x17in",
    "ledger": "na_ledger_11x17in",
}


def media_name(text: str) -> str:
    """The name of a medium that people call `a4` or `letter`; any other text stays."""
    return _CALLED.get(text.lower(), text)
