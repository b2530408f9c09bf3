"""What a document contains: the value that every counter answers with, and how it is added up.

Terms are those of RFC 8011 and PWG 5100.7. A *page* is an input page of the document (job-pages);
an *impression* is one side of a sheet that the device marks; a *media sheet* is a sheet of paper.
What is not known is None with a reason, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

COPIES_MAX = 32767  # PJL's range, and more than any device makes
PAGES_MAX = 10_000_000  # a document that claims more is broken
MEDIA_SIZES_MAX = 64  # different ones that are kept apart; further ones are not listed
DETAIL_CHARACTERS_MAX = 200


class Sides(StrEnum):
    """The keywords of `sides` (RFC 8011 5.2.8)."""

    ONE_SIDED = "one-sided"
    LONG_EDGE = "two-sided-long-edge"
    SHORT_EDGE = "two-sided-short-edge"


class Reason(StrEnum):
    """Why something is not known; the first four are the document's fault in every program.

    Where job-state-reasons (RFC 8011 5.3.8, PWG 5100.7) has a keyword, it is that one.
    """

    DAMAGED = "document-format-error"
    ENCRYPTED = "document-password-error"
    UNSUPPORTED = "unsupported-document-format"
    NOT_STATED = "pages-not-stated"  # only running the document would tell: PostScript without DSC
    TOO_LARGE = "count-limit-reached"  # it takes more steps or bytes than a count may take
    TOO_SLOW = "count-timeout"
    COUNTER_DIED = "counter-died"
    NOT_ASKED = "not-asked"  # nobody asked for colour


class MediaSize(NamedTuple):
    """Hundredths of a millimetre (PWG 5101.1), the shorter edge first whatever the orientation."""

    x_dimension: int
    y_dimension: int


class Source(Protocol):
    """A document to be counted, as `read_at` and `size`."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, count: int) -> bytes:
        """The bytes at `offset`; fewer than `count` only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Contents:
    """What a document contains; numbers are of the document alone, without attributes of its job.

    `copies` and `sides` are what the document asks for itself, None when it says nothing; where it
    changes its mind they are those of its first page, and `*_vary` says so. `impressions` and
    `media_sheets` follow from them; `sheets_of_one_copy` leaves its copies aside.
    `is_exact` is false where `pages` is claimed by the document and could not be checked, or
    depends on the settings of the device. `at_least` is how many pages were seen when `pages` is
    unknown.
    """

    format: str
    pages: int | None
    reason: Reason | None = None  # why `pages` is unknown
    detail: str = ""  # for people
    is_exact: bool = False
    at_least: int = 0
    copies: int | None = None
    copies_vary: bool = False
    sides: Sides | None = None
    sides_vary: bool = False
    impressions: int | None = None
    media_sheets: int | None = None
    sheets_of_one_copy: int | None = None
    media: dict[MediaSize, int] = field(default_factory=dict)  # pages of each size, where known
    colour_pages: int | None = None
    colour_reason: Reason | None = None  # why `colour_pages` is unknown

    def as_map(self) -> dict[str, Any]:
        """Plain values for JSON, in the order of the fields."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["media"] = [
            {"x_dimension": size.x_dimension, "y_dimension": size.y_dimension, "pages": pages}
            for size, pages in self.media.items()
        ]
        return values


_COUNTS = ("pages", "copies", "impressions", "media_sheets", "sheets_of_one_copy", "colour_pages")
_NUMBER_MAX = PAGES_MAX * COPIES_MAX


def contents_from_map(values: Mapping[str, Any]) -> Contents:
    """The inverse of `as_map` for values that nobody vouches for.

    Raises:
        ValueError: that is not what `as_map` makes.
    """
    try:
        made: dict[str, Any] = {name: _number(values[name], True) for name in _COUNTS}
        made["at_least"] = _number(values["at_least"])
        for name in ("is_exact", "copies_vary", "sides_vary"):
            made[name] = values[name] is True
        for name, kind in (("reason", Reason), ("colour_reason", Reason), ("sides", Sides)):
            made[name] = None if values[name] is None else kind(values[name])
        for name in ("format", "detail"):
            made[name] = str(values[name])[:DETAIL_CHARACTERS_MAX]
        made["media"] = {
            MediaSize(_number(one["x_dimension"]), _number(one["y_dimension"])): _number(
                one["pages"]
            )
            for one in values["media"][:MEDIA_SIZES_MAX]
        }
        if (made["pages"] is None) == (made["reason"] is None):
            raise ValueError("pages without a reason")
        return Contents(**made)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no contents: {error!r}") from error


def _number(value: Any, may_be_none: bool = False) -> Any:
    if value is None and may_be_none:
        return None
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise ValueError(f"no number: {value!r}")
    return value


def unknown(media_type: str, reason: Reason, detail: str = "", at_least: int = 0) -> Contents:
    """Contents of which nothing is known, for `reason`."""
    return Contents(
        media_type,
        None,
        reason,
        detail[:DETAIL_CHARACTERS_MAX],
        at_least=at_least,
        colour_reason=reason,
    )


@dataclass(slots=True)
class Defaults:
    """What holds for pages that say nothing: the device's environment, set by PJL.

    `quantity` is QTY: whole sets of everything. It multiplies what the document asks for itself;
    COPIES and DUPLEX are only defaults, which a document's own commands override.
    """

    copies: int | None = None
    sides: Sides | None = None
    quantity: int | None = None


class Tally:
    """Adds up pages as a counter meets them; `contents` is the sum so far.

    A duplex page goes to the back of the sheet before it when that one is open: same sides, same
    copies, same size. Memory is bounded, however many pages there are.
    """

    def __init__(self, defaults: Defaults | None = None) -> None:
        self.is_exact = True
        self.detail = ""
        self.pages = 0
        self.colour_reason: Reason | None = None
        self._impressions = self._sheets = self._sheets_of_one = 0
        self._colour = 0
        self._copies: list[int | None] = []  # the first, and one that differs
        self._sides: list[Sides | None] = []
        self._media: dict[MediaSize, int] = {}
        self._open: tuple[Any, ...] | None = None  # the sheet whose back is free
        self._defaults = defaults or Defaults()

    def begin_part(self, defaults: Defaults) -> None:
        """Another document of the same job follows, on a sheet of its own."""
        self._defaults = defaults
        self._open = None

    def page(
        self,
        copies: int | None = None,
        sides: Sides | None = None,
        media: MediaSize | None = None,
        colour: bool | None = False,
        *,
        is_front: bool = False,
        count: int = 1,
    ) -> None:
        """`count` equal pages. `colour` None is unknown; `is_front` takes a new sheet."""
        copies = self._defaults.copies if copies is None else max(1, min(copies, COPIES_MAX))
        sides = self._defaults.sides if sides is None else sides
        if self._defaults.quantity is not None:
            copies = min((copies or 1) * self._defaults.quantity, COPIES_MAX)
        _remember(self._copies, copies)
        _remember(self._sides, sides)
        self.pages += count
        self._impressions += count * (copies or 1)
        sheets = self._sheets_for(count, copies, sides, media, is_front)
        self._sheets += sheets * (copies or 1)
        self._sheets_of_one += sheets
        if media is not None and (media in self._media or len(self._media) < MEDIA_SIZES_MAX):
            self._media[media] = self._media.get(media, 0) + count
        if colour is None:
            self.colour_reason = self.colour_reason or Reason.NOT_STATED
        elif colour:
            self._colour += count

    def _sheets_for(
        self,
        count: int,
        copies: int | None,
        sides: Sides | None,
        media: MediaSize | None,
        is_front: bool,
    ) -> int:
        if sides in (None, Sides.ONE_SIDED):
            self._open = None
            return count
        key = (copies, sides, media)
        fits = self._open == key and not is_front
        fresh = count - 1 if fits else count
        self._open = key if fresh % 2 else None
        return (fresh + 1) // 2

    def contents(self, media_type: str) -> Contents:
        """The sum; a document without any page is damaged."""
        if self.pages == 0:
            return unknown(media_type, Reason.DAMAGED, self.detail or "it has no page")
        if self.pages > PAGES_MAX:
            return unknown(media_type, Reason.DAMAGED, f"it claims {self.pages} pages")
        known_colour = self.colour_reason is None
        return Contents(
            media_type,
            self.pages,
            None,
            self.detail,
            self.is_exact,
            self.pages,
            self._copies[0],
            len(self._copies) > 1,
            self._sides[0],
            len(self._sides) > 1,
            self._impressions,
            self._sheets,
            self._sheets_of_one,
            dict(self._media),
            self._colour if known_colour else None,
            self.colour_reason,
        )

    def doubt(self, detail: str) -> None:
        """The sum is right only if `detail` is."""
        self.is_exact = False
        self.detail = self.detail or detail


def _remember(values: list[Any], value: Any) -> None:
    if len(values) < 2 and value not in values:
        values.append(value)


# Sizes are rounded to points and pixels on their way; what is this near to one of these is it.
_NEAR = 60
_STANDARD = (
    (21000, 29700),
    (21590, 27940),
    (21590, 35560),
    (18415, 26670),
    (27940, 43180),
    (29700, 42000),
    (14800, 21000),
    (10500, 14800),
    (42000, 59400),
    (18200, 25700),
    (25700, 36400),
    (10000, 14800),
    (10477, 24130),
    (11000, 22000),
    (16200, 22900),
    (17600, 25000),
)


def media_size(width_mm100: float, height_mm100: float) -> MediaSize | None:
    """A size with the shorter edge first; None for what is no sheet of paper (up to 10 m)."""
    if not (0 < width_mm100 <= 1_000_000 and 0 < height_mm100 <= 1_000_000):
        return None  # also not a number
    short, long = sorted((round(width_mm100), round(height_mm100)))
    for x, y in _STANDARD:
        if abs(short - x) <= _NEAR and abs(long - y) <= _NEAR:
            return MediaSize(x, y)
    return MediaSize(short, long)


def media_size_points(width: float, height: float) -> MediaSize | None:
    """The same of points, 1/72 inch."""
    return media_size(width * 2540 / 72, height * 2540 / 72)
