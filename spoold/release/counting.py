"""What a job will use: from what its documents contain, and what is asked for; pure.

In: `Contents` of each document, the job's copies and attributes. Out: a `Usage`, and the numbers
that IPP tells of a job. Where paper or color of single pages is not known they are shared out, so
that the sums are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from spoold.codec.pages.charged import Charged, charged
from spoold.codec.pages.contents import Contents, MediaSize, Sides, contents_from_map
from spoold.model.job import Job
from spoold.model.release import NO_CHANGES, Changes
from spoold.model.usage import UNKNOWN, Line, Usage, Work
from spoold.spool.rows import unpack

READ_MAX = 4096  # contents of documents that stay read

# The sizes that have a name of their own (PWG 5101.1), in hundredths of a millimetre.
_NAMES = {
    (21000, 29700): "iso_a4_210x297mm",
    (29700, 42000): "iso_a3_297x420mm",
    (14800, 21000): "iso_a5_148x210mm",
    (10500, 14800): "iso_a6_105x148mm",
    (42000, 59400): "iso_a2_420x594mm",
    (17600, 25000): "iso_b5_176x250mm",
    (18200, 25700): "jis_b5_182x257mm",
    (25700, 36400): "jis_b4_257x364mm",
    (10000, 14800): "jpn_hagaki_100x148mm",
    (21590, 27940): "na_letter_8.5x11in",
    (21590, 35560): "na_legal_8.5x14in",
    (27940, 43180): "na_ledger_11x17in",
    (18415, 26670): "na_executive_7.25x10.5in",
    (10477, 24130): "na_number-10_4.125x9.5in",
    (11000, 22000): "iso_dl_110x220mm",
    (16200, 22900): "iso_c5_162x229mm",
}
_GRAY = frozenset({"monochrome", "process-monochrome", "bi-level"})


class Count(NamedTuple):
    """What a job comes to; None is unknown. `impressions` are of one copy (RFC 8011 5.3.17.2)."""

    usage: Usage
    impressions: int | None
    media_sheets: int | None

    @property
    def has_color(self) -> bool:
        """Whether it has color, or may have."""
        usage = self.usage
        return not usage.is_known or any(line.color != "monochrome" for line in usage.lines)

    @property
    def printed(self) -> int | None:
        """All impressions of all copies."""
        return self.usage.impressions if self.usage.is_known else None


NOT_COUNTED = Count(Usage(Work.PRINT, (), is_known=False), None, None)


def read_contents(found: Mapping[int, bytes]) -> dict[int, Contents]:
    """Contents as they are kept; what another version has kept otherwise is not known."""
    read = ((number, _read(packed)) for number, packed in found.items())
    return {number: contents for number, contents in read if contents is not None}


@lru_cache(maxsize=READ_MAX)
def _read(packed: bytes) -> Contents | None:
    """A panel shows the same jobs again and again: they are read once."""
    try:
        return contents_from_map(unpack(packed))
    except ValueError:
        return None


def count_of(job: Job, found: Mapping[int, Contents], changes: Changes = NO_CHANGES) -> Count:
    """What `job` comes to, with these changes, by the contents of its documents."""
    if len(found) < job.documents:
        return NOT_COUNTED
    lines: list[Line] = []
    impressions = sheets = 0
    for number in range(1, job.documents + 1):
        contents = found[number]
        told = _attributes(job, changes)
        one = charged(contents, told)
        if one is None:
            return NOT_COUNTED
        lines += _lines(one, contents, told)
        impressions += one.job_impressions
        sheets += one.media_sheets
    return Count(Usage(Work.PRINT, _added_up(lines)), impressions, sheets)


def _attributes(job: Job, changes: Changes) -> dict[str, Any]:
    told = {**job.attributes, **changes.attributes}
    ranges = told.get("page-ranges")
    if isinstance(ranges, list):
        told["page-ranges"] = [_range(one) for one in ranges]
    if not job.copies_embedded:
        told["copies"] = job.copies if changes.copies is None else changes.copies
    return told


def _range(value: Any) -> Any:
    """A range of pages is kept as `1-4`."""
    if isinstance(value, str):
        low, _, high = value.partition("-")
        if low.isdecimal() and high.isdecimal():
            return int(low), int(high)
    return value


def _lines(one: Charged, contents: Contents, told: Mapping[str, Any]) -> list[Line]:
    sides = "one-sided" if one.sides is Sides.ONE_SIDED else "two-sided"
    shares = _media(contents, told)
    colors = _colors(one, told)
    return [
        Line(impressions, sheets, color, sides, media)
        for (media, color), impressions, sheets in _shared(one, shares, colors)
        if impressions or sheets
    ]


def _media(contents: Contents, told: Mapping[str, Any]) -> dict[str, int]:
    """Names of media, with the pages on each."""
    asked = told.get("media")
    if isinstance(asked, str) and "_" in asked:
        return {asked[:127]: 1}
    named: dict[str, int] = {}
    for size, pages in contents.media.items():
        name = media_name(size)
        named[name] = named.get(name, 0) + pages
    rest = (contents.pages or 0) - sum(named.values())
    if rest > 0:
        named[""] = named.get("", 0) + rest
    return named or {"": 1}


def media_name(size: MediaSize) -> str:
    """The self-describing name of a size (PWG 5101.1 5)."""
    found = _NAMES.get((size.x_dimension, size.y_dimension))
    if found is not None:
        return found
    width, length = (f"{one / 100:.2f}".rstrip("0").rstrip(".") for one in size)
    return f"custom_{width}x{length}mm_{width}x{length}mm"


def _colors(one: Charged, told: Mapping[str, Any]) -> dict[str, int]:
    """The impressions of each color."""
    if told.get("print-color-mode") in _GRAY:
        return {"monochrome": one.impressions}
    if one.full_color is None or one.monochrome is None:
        return {UNKNOWN: one.impressions}
    found = {"color": one.full_color, "monochrome": one.monochrome}
    return {name: count for name, count in found.items() if count}


def _shared(
    one: Charged, media: dict[str, int], colors: dict[str, int]
) -> list[tuple[tuple[str, str], int, int]]:
    """Impressions and sheets of each medium and color: by either the sums are those of the job."""
    of_media = share_out(one.impressions, list(media.values()))
    sheets_of_media = share_out(one.media_sheets, of_media)
    left = dict(colors)
    found = []
    for medium, impressions, sheets in zip(media, of_media, sheets_of_media, strict=True):
        parts = share_out(impressions, list(left.values()))
        sheet_parts = share_out(sheets, parts)
        for color, part, sheet_part in zip(left, parts, sheet_parts, strict=True):
            found.append(((medium, color), part, sheet_part))
            left[color] -= part
    return found


def share_out(total: int, weights: list[int]) -> list[int]:
    """`total` in whole parts by weight: what is left over goes to the largest remainders."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    parts = [total * weight // whole for weight in weights]
    by_rest = sorted(range(len(weights)), key=lambda n: -(total * weights[n] % whole))
    for number in by_rest[: total - sum(parts)]:
        parts[number] += 1
    return parts


def _added_up(lines: list[Line]) -> tuple[Line, ...]:
    """Lines of the same kind as one."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for line in lines:
        counts = found.setdefault((line.color, line.sides, line.media), [0, 0])
        counts[0] += line.impressions
        counts[1] += line.sheets
    return tuple(Line(counts[0], counts[1], *key) for key, counts in found.items())
