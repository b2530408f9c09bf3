"""What a job makes of a document: impressions and sheets, after the attributes of the job.

`copies`, `sides`, `number-up` and `page-ranges` are those of RFC 8011 5.2. Where they are given
they take precedence over what the document asks for itself (`pdl-override-supported` = attempted,
RFC 8011 5.4.28); else the document's own instructions stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spoold.codec.pages.contents import COPIES_MAX, PAGES_MAX, Contents, Sides

NUMBER_UP_MAX = 1024
RANGES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Charged:
    """What comes out. A blank back of the last sheet is no impression.

    `job_impressions` are of one copy (RFC 8011 5.3.17.2 leaves the copies out), `impressions` of
    all of them, as job-impressions-completed will say; `media_sheets` are of all copies (5.3.17.3).
    `full_color` and `monochrome` are members of job-impressions-col (PWG 5100.7); None is unknown.
    """

    pages: int  # of the document that are printed, in one copy
    copies: int
    sides: Sides
    job_impressions: int
    impressions: int
    media_sheets: int
    full_color: int | None
    monochrome: int | None
    is_exact: bool


def charged(
    contents: Contents, attributes: Mapping[str, Any] | None = None, *, is_attempted: bool = True
) -> Charged | None:
    """What a job of `contents` with these attributes prints; None when the pages are unknown.

    `attributes` are plain values of IPP's job attributes; `page-ranges` are pairs. What makes no
    sense (no copies, no such sides) counts as not given. With `is_attempted` false the document's
    own copies and sides win over the attributes.
    """
    if contents.pages is None:
        return None
    said = attributes or {}
    copies = _whole(said.get("copies"), COPIES_MAX)
    sides = _sides(said.get("sides"))
    if not is_attempted:
        copies = copies if contents.copies is None else None
        sides = sides if contents.sides is None else None
    number_up = _whole(said.get("number-up"), NUMBER_UP_MAX) or 1
    pages = _selected(said.get("page-ranges"), contents.pages)
    is_as_it_is = number_up == 1 and pages == contents.pages
    one_copy = -(-pages // number_up)
    in_use = sides or contents.sides or Sides.ONE_SIDED
    sheets = one_copy if in_use is Sides.ONE_SIDED else -(-one_copy // 2)
    is_exact = contents.is_exact
    if sides is None and contents.sides_vary:
        # Which pages share a sheet is known for the document as it is, and for nothing else.
        is_exact = is_exact and is_as_it_is
        sheets = (contents.sheets_of_one_copy or sheets) if is_as_it_is else one_copy
    elif sides is None and is_as_it_is:
        sheets = contents.sheets_of_one_copy or sheets
    if copies is None and contents.copies_vary and is_as_it_is and sides is None:
        impressions = contents.impressions or one_copy
        all_sheets = contents.media_sheets or sheets
    else:
        is_exact = is_exact and not (copies is None and contents.copies_vary)
        count = copies or contents.copies or 1
        impressions, all_sheets = one_copy * count, sheets * count
    colour, plain = _by_colour(contents, said, impressions, one_copy)
    return Charged(
        pages,
        copies or contents.copies or 1,
        in_use,
        one_copy,
        impressions,
        all_sheets,
        colour,
        plain,
        is_exact,
    )


def _by_colour(
    contents: Contents, said: Mapping[str, Any], impressions: int, one_copy: int
) -> tuple[int | None, int | None]:
    """Full-colour and monochrome impressions, where it does not matter which pages they are."""
    if said.get("print-color-mode") in ("monochrome", "process-monochrome", "bi-level"):
        return 0, impressions
    colour = contents.colour_pages
    if colour == 0:
        return 0, impressions
    if colour is not None and colour == contents.pages:
        return impressions, 0
    if colour is None or one_copy != contents.pages or contents.copies_vary:
        return None, None
    full = colour * (impressions // one_copy)
    return full, impressions - full


def _whole(value: Any, most: int) -> int | None:
    return value if type(value) is int and 1 <= value <= most else None


def _sides(value: Any) -> Sides | None:
    return Sides(value) if isinstance(value, str) and value in list(Sides) else None


def _selected(ranges: Any, pages: int) -> int:
    """How many pages of the document the ranges (1-based, inclusive) name; all without any."""
    if not isinstance(ranges, Iterable) or isinstance(ranges, str | bytes):
        return pages
    total, behind, is_given = 0, 0, False
    for _, (low, high) in zip(range(RANGES_MAX), sorted(_pairs(ranges)), strict=False):
        is_given = True
        low, high = max(low, behind + 1), min(high, pages)
        if low <= high:
            total += high - low + 1
            behind = high
    return total if is_given else pages


def _pairs(ranges: Iterable[Any]) -> list[tuple[int, int]]:
    found = []
    for _, one in zip(range(RANGES_MAX), ranges, strict=False):
        try:
            low, high = one
        except (TypeError, ValueError):
            continue
        if type(low) is int and type(high) is int and 1 <= low <= high:
            found.append((low, min(high, PAGES_MAX)))
    return found
