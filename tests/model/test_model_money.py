"""Amounts, prices and periods: exact, and rounded once."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoold.model.errors import OperationError
from spoold.model.money import AMOUNT_MAX, format_amount, parse_amount, rounded
from spoold.model.pricing import (
    Per,
    PriceList,
    Quote,
    Rate,
    Unknown,
    check_prices,
    quote,
)
from spoold.model.purse import Period, Purse, PurseKind, Wallet, span_at, split
from spoold.model.usage import (
    COLORS,
    SIDES,
    Line,
    Usage,
    Work,
    check_usage,
    media_name,
    media_size_mm,
)

A4, A3 = "iso_a4_210x297mm", "iso_a3_297x420mm"
PRINTER = UUID(int=7)


# -- amounts -----------------------------------------------------------------------------------


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX))
def test_an_amount_is_read_as_it_is_written(amount):
    """Every one, and with two decimals at least."""
    text = format_amount(amount)
    assert parse_amount(text) == amount
    assert len(text.partition(".")[2]) >= 2


def test_what_is_no_amount_is_refused():
    """Also what a float, another locale or a spreadsheet would write."""
    assert [parse_amount(text) for text in ("1", "+1.5", "-0.0001")] == [10_000, 15_000, -1]
    for text in ("", "1,50", "1e3", "0.00001", "nan", "٣", "1.", ".5", "1 000", "9" * 12):
        with pytest.raises(OperationError):
            parse_amount(text)


@settings(max_examples=40)
@given(st.fractions(min_value=-1000, max_value=1000), st.integers(1, 500))
def test_rounding_is_to_the_nearest_step_and_halves_go_away_from_zero(exact, step):
    """The one rule of a job."""
    found = rounded(exact, step)
    assert found % step == 0
    assert abs(found - exact) * 2 <= step
    if abs(found - exact) * 2 == step:
        assert abs(found) > abs(exact)
    assert rounded(-exact, step) == -found


# -- usages ------------------------------------------------------------------------------------


def test_sizes_of_media_stand_in_their_names():
    """PWG 5101.1: in mm or inches; anything else says none."""
    assert media_size_mm(A4) == (210, 297)
    assert media_size_mm("na_letter_8.5x11in") == (Decimal("215.9"), Decimal("279.4"))
    assert media_size_mm("custom_label_62x100.5mm") == (62, Decimal("100.5"))
    for name in ("", "a4", "iso_a4_210x297", "iso_a4_0x297mm", "x_1x1mm_more", "a_-1x2mm"):
        assert media_size_mm(name) is None
    assert (media_name("A3"), media_name("custom_label_62x100mm")) == (
        A3,
        "custom_label_62x100mm",
    )


LINES = st.builds(
    Line,
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.sampled_from(COLORS),
    st.sampled_from(SIDES),
    st.sampled_from(["", A4, A3, "na_letter_8.5x11in"]),
)
USAGES = st.builds(
    Usage, st.sampled_from(list(Work)), st.lists(LINES, max_size=5).map(tuple), st.just(True)
)


@settings(max_examples=40)
@given(USAGES, st.integers(0, 3000))
def test_a_part_of_a_usage_has_so_many_impressions(usage, count):
    """And no more sheets than the whole."""
    part = usage.limited_to(count)
    assert part.impressions == min(count, usage.impressions)
    assert part.sheets <= usage.sheets
    assert Usage.from_map(part.as_map()) == part


def test_a_usage_beyond_all_measure_is_refused():
    """What a broken machine reports."""
    for lines in (
        (Line(-1, 0),),
        (Line(1, 10**10),),
        (Line(1, 1, "pink"),),
        (Line(1, 1, sides="three"),),
        (Line(1, 1, media="x" * 200),),
        (Line(1, 1),) * 17,
    ):
        with pytest.raises(OperationError):
            check_usage(Usage(Work.COPY, lines))


# -- prices ------------------------------------------------------------------------------------

RATES = st.builds(
    Rate,
    st.integers(0, 100_000),
    st.sampled_from([Per.IMPRESSION, Per.SHEET, Per.M2]),
    st.none() | st.sampled_from(list(Work)),
    st.sampled_from(["", *COLORS[:2]]),
    st.sampled_from(["", *SIDES]),
    st.sampled_from(["", A4, A3]),
    st.sampled_from([None, PRINTER]),
) | st.builds(Rate, st.integers(0, 100_000), st.just(Per.JOB))
PRICES = st.builds(
    PriceList,
    st.just(3),
    st.just(0),
    st.lists(RATES, max_size=12, unique_by=lambda rate: rate.conditions).map(tuple),
    st.integers(0, 10_000),
    st.sampled_from([1, 7, 100, 500]),
)


@pytest.mark.slow
@given(PRICES, USAGES)
def test_a_quote_is_the_sum_of_its_lines_rounded_once(prices, usage):
    """Exactly, and the same after it was kept; never below zero."""
    check_prices(prices)
    found = quote(prices, usage, PRINTER)
    assert sum((line.amount for line in found.lines), Decimal(0)) == found.total
    unrounded = [line for line in found.lines if not line.text.startswith("rounded")]
    exact = sum((Fraction(line.amount) for line in unrounded), Fraction(0))
    assert found.total == rounded(exact, prices.step)
    assert found.total >= 0
    assert found.total % prices.step == 0
    assert Quote.from_map(found.as_map()) == found
    assert PriceList.from_map(prices.as_map()) == prices


def test_the_price_that_says_most_counts():
    """One for the printer before all; then work, medium, colour, sides."""
    rates = [
        Rate(1),
        Rate(2, sides="two-sided"),
        Rate(3, color="color"),
        Rate(4, media=A3),
        Rate(5, work=Work.PRINT),
        Rate(6, printer=PRINTER),
        Rate(7, printer=PRINTER, color="color"),
    ]
    line = Line(1, 1, "color", "two-sided", A3)
    for count in range(1, len(rates) + 1):
        prices = PriceList(1, 0, tuple(rates[:count]))
        assert quote(prices, Usage(Work.PRINT, (line,)), PRINTER).total == count
    prices = PriceList(1, 0, tuple(rates))
    other = Line(1, 1, "monochrome", "one-sided", A4)
    assert quote(prices, Usage(Work.COPY, (other,)), None).total == 1
    assert quote(prices, Usage(Work.COPY, (other,)), uuid4()).total == 1


def test_a_medium_is_the_same_under_another_name_of_its_size():
    """`custom_…_297x420mm` is A3."""
    prices = PriceList(1, 0, (Rate(1), Rate(9, media=A3)))
    line = Line(1, 1, "color", "one-sided", "custom_poster_297x420mm")
    assert quote(prices, Usage(Work.PRINT, (line,)), None).total == 9


def test_units_add_up_and_a_discount_is_off_impressions_alone():
    """Paper has its price however it is printed."""
    rates = (Rate(500), Rate(100, Per.SHEET), Rate(3000, Per.JOB), Rate(10_000, Per.M2, media=A3))
    prices = PriceList(1, 0, rates, duplex_discount=1000)
    usage = Usage(Work.PRINT, (Line(4, 2, "color", "two-sided", A4), Line(1, 1, media=A3)))
    found = quote(prices, usage, None)
    assert [(one.unit, str(one.amount.normalize())) for one in found.lines] == [
        ("impression", "2E+3"),
        ("sheet", "2E+2"),
        ("line", "-2E+2"),
        ("impression", "5E+2"),
        ("m²", "1247.4"),
        ("sheet", "1E+2"),
        ("job", "3E+3"),
        ("job", "-0.4"),
    ]
    assert found.total == 6847
    assert quote(prices, Usage(Work.PRINT, ()), None).total == 0


def test_what_is_not_known_is_priced_by_policy():
    """An unknown colour as colour, an unknown size as the default; unknown pages by the policy."""
    rates = (Rate(1), Rate(9, color="color"), Rate(10**6, Per.M2))
    prices = PriceList(1, 0, rates, unknown_color="color")
    (first, area, *_) = quote(prices, Usage(Work.PRINT, (Line(1, 1),)), None).lines
    assert (first.price, str(area.count)) == (9, "0.06237")
    assert "colour unknown" in first.text
    unknown = Usage(Work.PRINT, (), is_known=False)
    with pytest.raises(OperationError):
        quote(prices, unknown, None)
    free = PriceList(1, unknown=Unknown.FREE, unknown_price=7)
    assert quote(free, unknown, None).total == 0
    fixed = PriceList(1, unknown=Unknown.FIXED, unknown_price=7)
    assert quote(fixed, unknown, None).total == 7
    nothing = quote(PriceList(1), Usage(Work.FAX, (Line(3, 3),)), None)
    assert (nothing.total, nothing.lines[0].text) == (0, "fax, colour unknown, one-sided, no price")


@pytest.mark.parametrize(
    "prices",
    [
        PriceList(1, 0, (Rate(-1),)),
        PriceList(1, 0, (Rate(1), Rate(2))),
        PriceList(1, 0, (Rate(1, media="paper"),)),
        PriceList(1, 0, (Rate(1, color="unknown"),)),
        PriceList(1, 0, (Rate(1, Per.JOB, color="color"),)),
        PriceList(1, duplex_discount=10_001),
        PriceList(1, step=0),
        PriceList(1, unknown_color="unknown"),
        PriceList(1, default_media="a4"),
        PriceList(1, 0, tuple(Rate(1, media=f"custom_x_{n}x1mm") for n in range(1, 202))),
    ],
)
def test_a_price_list_that_cannot_be_used_is_refused(prices):
    """With advice."""
    with pytest.raises(OperationError) as caught:
        check_prices(prices)
    assert caught.value.code == "bad-request"
    assert caught.value.advice


# -- periods and purses ------------------------------------------------------------------------


def us(*date: int, zone: str = "UTC") -> int:
    return int(datetime(*date, tzinfo=ZoneInfo(zone)).timestamp()) * 10**6


@given(
    st.sampled_from(list(Period)),
    st.datetimes(datetime(1971, 1, 2), datetime(2090, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"]),
)
def test_every_moment_lies_in_one_period(period, at, name):
    """The next one begins where it ends; also where a day has 23 hours, or is left out."""
    zone = ZoneInfo(name)
    at_us = int(at.replace(tzinfo=UTC).timestamp()) * 10**6
    span = span_at(period, at_us, zone)
    assert span.from_us <= at_us < span.until_us
    following = span_at(period, span.until_us, zone)
    assert following.from_us == span.until_us
    assert following.name != span.name
    assert span_at(period, span.from_us, zone) == span


def test_periods_begin_at_the_midnight_of_the_site():
    """By the clocks there, with the name that people give them."""
    berlin = ZoneInfo("Europe/Berlin")
    at = us(2026, 10, 25, 12, zone="Europe/Berlin")
    names = {period: span_at(period, at, berlin).name for period in Period}
    assert list(names.values()) == ["2026-10-25", "2026-W43", "2026-10", "2026-Q4", "2026"]
    day = span_at(Period.DAY, at, berlin)
    assert (day.until_us - day.from_us) // 3_600_000_000 == 25
    assert span_at(Period.WEEK, us(2027, 1, 1), ZoneInfo("UTC")).name == "2026-W53"


def test_purses_are_spent_in_order():
    """What ends first before the rest; then credit, money and the overdraft."""
    holder = uuid4()
    early = Purse(holder, PurseKind.ALLOWANCE, 2, uuid4(), "2026-W47", 0, 50)
    late = Purse(holder, PurseKind.ALLOWANCE, 2, uuid4(), "2026-11", 0, 90)
    ending = Purse(holder, PurseKind.CREDIT, 1, None, "70", 0, 70)
    credit = Purse(holder, PurseKind.CREDIT, 1)
    money = Purse(holder, PurseKind.PAID_IN, 1)
    wallet = Wallet(holder, (money, credit, late, ending, early), 5)
    assert (wallet.balance, wallet.available) == (7, 12)
    shares = wallet.spend(9)
    order = [early, late, ending, credit, money, wallet.purse(PurseKind.OVERDRAFT)]
    assert [one.purse for one in shares] == [purse.guid for purse in order]
    assert [one.amount for one in shares] == [2, 2, 1, 1, 1, 2]
    kept, rest = split(shares, 5)
    assert sum(one.amount for one in kept) == 5
    assert sum(one.amount for one in rest) == 4
    after = wallet.after(shares)
    assert (after.balance, after.available) == (-2, 3)
    assert after.after(after.give_back(shares)).balance == 7


def test_the_purse_of_a_grant_is_the_same_on_every_node():
    """Its key says whose it is, of what and when; nothing else."""
    holder, allowance = uuid4(), uuid4()
    one = Purse(holder, PurseKind.ALLOWANCE, 5, allowance, "2026-11", 1, 2)
    other = Purse(holder, PurseKind.ALLOWANCE, 7, allowance, "2026-11", 3, 4)
    assert one.guid == other.guid
    assert one.guid != Purse(holder, PurseKind.ALLOWANCE, 5, allowance, "2026-12").guid
    assert one.guid != Purse(uuid4(), PurseKind.ALLOWANCE, 5, allowance, "2026-11").guid
