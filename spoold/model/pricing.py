"""What something costs: versions of a price list, and the quote of a usage by one of them.

For each line of a usage and each unit that is priced, the rate that says most about the line
counts: one for its printer before all others, then one for its work, its medium, its colour, its
sides. What no rate fits costs nothing, and the quote says so. A discount for two-sided printing
takes its share of what impressions cost. The exact sum is rounded once, at the end of the job, to
the list's step, halves away from zero (`money.rounded`); a line of the quote says by how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.money import AMOUNT_MAX, check_amount, format_amount, rounded
from spoold.model.usage import COLORS, SIDES, UNKNOWN, Line, Usage, Work, media_size_mm

RATES_MAX = 200
SQUARE_MM_PER_M2 = 1_000_000
DISCOUNT_MAX = 10_000  # 1/100 of a per cent: all of it
DEFAULT_MEDIA = "iso_a4_210x297mm"


class Per(StrEnum):
    """What a price is for."""

    IMPRESSION = "impression"
    SHEET = "sheet"
    M2 = "m2"  # square metre of the medium, for each impression
    JOB = "job"  # fixed, once a job


class Unknown(StrEnum):
    """What becomes of a job whose pages cannot be counted."""

    REFUSE = "refuse"
    FREE = "free"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Rate:
    """A price in 1/10,000, for what all of its conditions fit; None and "" fit anything."""

    price: int
    per: Per = Per.IMPRESSION
    work: Work | None = None
    color: str = ""
    sides: str = ""
    media: str = ""
    printer: UUID | None = None

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What there can be one price for."""
        return (self.per, self.work, self.color, self.sides, self.media, self.printer)

    @property
    def rank(self) -> tuple[bool, ...]:
        """How much it says: the larger counts."""
        conditions = (self.printer, self.work, self.media, self.color, self.sides)
        return tuple(bool(one) for one in conditions)

    def fits(self, work: Work, line: Line, printer: UUID | None) -> bool:
        return (
            self.work in (None, work)
            and self.color in ("", line.color)
            and self.sides in ("", line.sides)
            and (not self.media or _is_same_media(self.media, line.media))
            and self.printer in (None, printer)
        )

    def as_map(self) -> dict[str, Any]:
        found: dict[str, Any] = {"price": self.price, "per": self.per.value}
        if self.work is not None:
            found["work"] = self.work.value
        for name in ("color", "sides", "media"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        if self.printer is not None:
            found["printer"] = self.printer.bytes
        return found

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Rate:
        work, printer = found.get("work"), found.get("printer")
        return cls(
            found["price"],
            Per(found["per"]),
            None if work is None else Work(work),
            found.get("color", ""),
            found.get("sides", ""),
            found.get("media", ""),
            None if printer is None else UUID(bytes=printer),
        )


@dataclass(frozen=True, slots=True)
class PriceList:
    """One version of what things cost, in force from `from_us` on, until a later one is.

    `duplex_discount` is in 1/100 of a per cent. `step` is what totals are rounded to, in 1/10,000.
    An impression whose colour is not known costs what one of `unknown_color` does; one whose
    medium has no size is taken to be `default_media` where square metres are priced. It was made
    at `made_us`; 0 is not known.
    """

    version: int
    from_us: int = 0
    rates: tuple[Rate, ...] = ()
    duplex_discount: int = 0
    step: int = 1
    unknown: Unknown = Unknown.REFUSE
    unknown_price: int = 0
    unknown_color: str = "color"
    default_media: str = DEFAULT_MEDIA
    made_us: int = 0

    def as_map(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "from_us": self.from_us,
            "rates": [rate.as_map() for rate in self.rates],
            "duplex_discount": self.duplex_discount,
            "step": self.step,
            "unknown": self.unknown.value,
            "unknown_price": self.unknown_price,
            "unknown_color": self.unknown_color,
            "default_media": self.default_media,
            "made_us": self.made_us,
        }

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> PriceList:
        return cls(
            found["version"],
            found["from_us"],
            tuple(Rate.from_map(one) for one in found["rates"]),
            found["duplex_discount"],
            found["step"],
            Unknown(found["unknown"]),
            found["unknown_price"],
            found["unknown_color"],
            found["default_media"],
            found.get("made_us", 0),
        )


NO_PRICES = PriceList(0, unknown=Unknown.FREE)


def check_prices(prices: PriceList) -> PriceList:
    """`prices` when they can be used.

    Raises:
        OperationError: `bad-request`, with what is wrong.
    """
    if len(prices.rates) > RATES_MAX:
        raise _bad(f"more than {RATES_MAX} prices.", "Leave out what a more general price says.")
    seen = set()
    for rate in prices.rates:
        check_rate(rate)
        if rate.conditions in seen:
            raise _bad("two prices are for the same.", "Give one of them.")
        seen.add(rate.conditions)
    if not 0 <= prices.duplex_discount <= DISCOUNT_MAX:
        raise _bad("the discount is no share.", "It can be 0 to 100 per cent.")
    if not 1 <= prices.step <= AMOUNT_MAX:
        raise _bad("totals cannot be rounded to that.", "Use 0.0001, or 0.01.")
    if prices.unknown_color not in ("color", "monochrome"):
        raise _bad("an unknown colour is priced as color or as monochrome.", "Name one of them.")
    if check_amount(prices.unknown_price) < 0:
        raise _bad("a price is below zero.", "Nobody is paid for printing.")
    if media_size_mm(prices.default_media) is None:
        raise _bad(f"{prices.default_media[:60]!r} says no size.", _MEDIA_ADVICE)
    return prices


def check_rate(rate: Rate) -> Rate:
    """As `check_prices`, of one price."""
    if check_amount(rate.price) < 0:
        raise _bad("a price is below zero.", "Nobody is paid for printing.")
    if rate.color not in ("", "color", "monochrome") or rate.sides not in ("", *SIDES):
        raise _bad(
            "a colour or sides keyword is unknown.", f"Use {', '.join((*COLORS[:2], *SIDES))}."
        )
    if rate.media and media_size_mm(rate.media) is None:
        raise _bad(f"{rate.media[:60]!r} names no medium.", _MEDIA_ADVICE)
    if rate.per is Per.JOB and (rate.color or rate.sides or rate.media):
        raise _bad(
            "a fixed price is for a whole job, whatever its pages are.",
            "Name no colour, sides or medium with it.",
        )
    return rate


_MEDIA_ADVICE = "Use a name with a size in it (PWG 5101.1), as iso_a3_297x420mm."


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """One step of a derivation: so many of a unit, at a price, make an exact amount (1/10,000)."""

    text: str
    count: Decimal
    unit: str
    price: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """A total in 1/10,000, and how it came about: the amounts of the lines add up to it."""

    price_version: int
    total: int
    lines: tuple[QuoteLine, ...] = ()

    def as_map(self) -> dict[str, Any]:
        lines = [
            [one.text, f"{one.count:f}", one.unit, one.price, f"{one.amount:f}"]
            for one in self.lines
        ]
        return {"version": self.price_version, "total": self.total, "lines": lines}

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Quote:
        lines = tuple(
            QuoteLine(text, Decimal(count), unit, price, Decimal(amount))
            for text, count, unit, price, amount in found["lines"]
        )
        return cls(found["version"], found["total"], lines)

    def told(self) -> list[dict[str, str]]:
        """The derivation for people: amounts with as many decimals as they have."""
        return [
            {
                "text": line.text,
                "count": f"{line.count.normalize():f}",
                "unit": line.unit,
                "price": format_amount(line.price),
                "amount": _exact_text(line.amount),
            }
            for line in self.lines
        ]


def quote(prices: PriceList, usage: Usage, printer_guid: UUID | None) -> Quote:
    """What `usage` costs at this printer.

    Raises:
        OperationError: `pages-unknown`: nobody knows how much it is, and such jobs are refused;
            `too-large`: it costs more than the ledger can count.
    """
    with localcontext() as context:
        context.prec = 60  # nothing that is priced has so many digits: all of this is exact
        lines = list(_lines(prices, usage, printer_guid))
        exact = sum((line.amount for line in lines), Decimal(0))
        total = rounded(exact, prices.step)
        if total != exact:
            step = format_amount(prices.step)
            lines.append(QuoteLine(f"rounded to {step}", Decimal(1), "job", 0, total - exact))
    if total > AMOUNT_MAX:
        raise OperationError("too-large", "this costs more than the ledger can count.")
    return Quote(prices.version, total, tuple(lines))


def _lines(prices: PriceList, usage: Usage, printer: UUID | None) -> Iterable[QuoteLine]:
    if not usage.is_known:
        yield _unknown(prices)
        return
    for line in usage.lines:
        yield from _line(prices, usage.work, line, printer)
    fixed = _best(prices, Per.JOB, usage.work, Line(0, 0), printer)
    if fixed is not None and usage.lines:
        yield QuoteLine(
            f"{usage.work}, fixed", Decimal(1), "job", fixed.price, Decimal(fixed.price)
        )


def _unknown(prices: PriceList) -> QuoteLine:
    if prices.unknown is Unknown.REFUSE:
        raise OperationError(
            "pages-unknown",
            "nobody can say how many pages this has, and such jobs are not printed.",
            "Send it in another format, as PDF.",
        )
    price = prices.unknown_price if prices.unknown is Unknown.FIXED else 0
    return QuoteLine("pages unknown", Decimal(1), "job", price, Decimal(price))


def _line(prices: PriceList, work: Work, line: Line, printer: UUID | None) -> Iterable[QuoteLine]:
    """What one line of a usage costs, by each unit that has a price for it."""
    told = _described(work, line)
    if line.color == UNKNOWN:
        line = Line(line.impressions, line.sheets, prices.unknown_color, line.sides, line.media)
    if not line.media:
        line = Line(line.impressions, line.sheets, line.color, line.sides, prices.default_media)
    impressions = Decimal(0)
    is_priced = False
    for per, count, unit in (
        (Per.IMPRESSION, Decimal(line.impressions), "impression"),
        (Per.M2, _area_m2(prices, line), "m²"),
        (Per.SHEET, Decimal(line.sheets), "sheet"),
    ):
        rate = _best(prices, per, work, line, printer)
        if rate is None:
            continue
        is_priced = True
        amount = count * rate.price
        impressions += amount if per is not Per.SHEET else 0
        yield QuoteLine(told, count, unit, rate.price, amount)
    if not is_priced:
        yield QuoteLine(f"{told}, no price", Decimal(line.impressions), "impression", 0, Decimal(0))
    if line.sides == "two-sided" and prices.duplex_discount and impressions:
        share = Decimal(prices.duplex_discount) / DISCOUNT_MAX
        percent = f"{share * 100:f}".rstrip("0").rstrip(".")
        yield QuoteLine(f"two-sided, {percent} % off", Decimal(1), "line", 0, -impressions * share)


def _described(work: Work, line: Line) -> str:
    words = [work.value, line.color if line.color != UNKNOWN else "colour unknown", line.sides]
    return ", ".join([*words, *([line.media] if line.media else [])])


def _area_m2(prices: PriceList, line: Line) -> Decimal:
    size = media_size_mm(line.media) or media_size_mm(prices.default_media)
    assert size is not None
    return size[0] * size[1] * line.impressions / SQUARE_MM_PER_M2


def _best(prices: PriceList, per: Per, work: Work, line: Line, printer: UUID | None) -> Rate | None:
    """The rate that says most of those that fit: no two of them say the same."""
    fitting = (one for one in prices.rates if one.per is per and one.fits(work, line, printer))
    return max(fitting, key=lambda rate: rate.rank, default=None)


def _is_same_media(one: str, other: str) -> bool:
    """The same name, or the same size under another one."""
    size = media_size_mm(one)
    return one == other or (size is not None and size == media_size_mm(other))


def _exact_text(amount: Decimal) -> str:
    """`0.125`, `-0.00375`: all decimals, and at least two."""
    whole, _, part = f"{amount.scaleb(-4):f}".partition(".")
    return f"{whole}.{part.rstrip('0'):0<2}"
