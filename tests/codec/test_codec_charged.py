"""A job's attributes make of the pages of a document what its owner is charged for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec.pages.charged import charged
from spoold.codec.pages.contents import Contents, Defaults, Reason, Sides, Tally, unknown

LONG = "two-sided-long-edge"


def document(pages: int, copies: int | None = None, sides: Sides | None = None, colour: int = 0):
    tally = Tally()
    for number in range(pages):
        tally.page(copies, sides, colour=number < colour)
    return tally.contents("application/pdf")


@pytest.mark.parametrize(
    ("pages", "attributes", "impressions", "sheets"),
    [
        (5, {}, 5, 5),
        (5, {"copies": 3}, 15, 15),
        (5, {"sides": LONG}, 5, 3),
        (5, {"sides": "two-sided-short-edge", "copies": 2}, 10, 6),
        (5, {"number-up": 2}, 3, 3),
        (9, {"number-up": 4, "sides": LONG, "copies": 2}, 6, 4),
        (10, {"page-ranges": [(2, 4), (9, 99)]}, 5, 5),
        (10, {"page-ranges": [(1, 3), (2, 5)], "sides": LONG}, 5, 3),
        (10, {"page-ranges": [(11, 12)]}, 0, 0),
        (10, {"page-ranges": [(2, 4)], "number-up": 2, "copies": 4}, 8, 8),
        (5, {"copies": 0, "sides": "sideways", "number-up": -1, "page-ranges": "1-2"}, 5, 5),
    ],
)
def test_attributes_of_the_job(pages, attributes, impressions, sheets):
    """Ranges choose, number-up puts on sides, sides puts on sheets, copies multiply."""
    charge = charged(document(pages), attributes)
    assert charge is not None
    assert (charge.impressions, charge.media_sheets) == (impressions, sheets)
    assert charge.is_exact


def test_attributes_win_over_the_document_or_leave_it_alone():
    """As `pdl-override-supported` says: attempted, or not."""
    contents = document(3, 2, Sides.LONG_EDGE)
    own = charged(contents)
    assert own is not None
    assert (own.copies, own.impressions, own.media_sheets) == (2, 6, 4)
    attributes = {"copies": 5, "sides": "one-sided"}
    asked = charged(contents, attributes)
    assert asked is not None
    assert (asked.copies, asked.impressions, asked.media_sheets) == (5, 15, 15)
    assert charged(contents, attributes, is_attempted=False) == own
    plain = charged(document(3), attributes, is_attempted=False)
    assert plain is not None
    assert plain.impressions == 15


def test_a_document_that_changes_its_mind_is_charged_as_it_is():
    """Copies and sides of each page; what a range would choose of it is not exact."""
    tally = Tally(Defaults())
    tally.page(2, Sides.LONG_EDGE, count=3)
    tally.page(1, Sides.ONE_SIDED, count=2)
    contents = tally.contents("application/vnd.hp-PCL")
    charge = charged(contents)
    assert charge is not None
    assert (charge.impressions, charge.media_sheets, charge.is_exact) == (8, 6, True)
    part = charged(contents, {"page-ranges": [(1, 4)]})
    assert part is not None
    assert not part.is_exact


def test_colour_is_charged_where_it_is_known():
    """Pages with colour, unless the job asks for none of it or puts several on a side."""
    contents = document(5, colour=2)
    charge = charged(contents, {"copies": 3})
    assert charge is not None
    assert (charge.full_color, charge.monochrome) == (6, 9)
    gray = charged(contents, {"print-color-mode": "monochrome"})
    assert gray is not None
    assert (gray.full_color, gray.monochrome) == (0, 5)
    several = charged(contents, {"number-up": 2})
    assert several is not None
    assert several.full_color is None
    hidden = charged(replace(contents, colour_pages=None, colour_reason=Reason.TOO_SLOW))
    assert hidden is not None
    assert (hidden.full_color, hidden.monochrome) == (None, None)


def test_unknown_pages_are_not_charged_as_none():
    """There is no number to charge."""
    assert charged(unknown("application/pdf", Reason.ENCRYPTED), {"copies": 2}) is None


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(1, 5), st.none() | st.sampled_from(Sides), st.integers(1, 9)
        ),
        min_size=1,
        max_size=8,
    ),
    st.none() | st.integers(1, 9),
    st.none() | st.sampled_from([str(one) for one in Sides]),
    st.integers(1, 16),
)
def test_sheets_and_impressions_keep_their_bounds(runs, copies, sides, number_up):
    """A sheet has one or two sides with something on them, whatever is asked."""
    tally = Tally()
    for own_copies, own_sides, count in runs:
        tally.page(own_copies, own_sides, count=count)
    contents: Contents = tally.contents("image/pwg-raster")
    charge = charged(contents, {"copies": copies, "sides": sides, "number-up": number_up})
    assert charge is not None
    assert charge.media_sheets <= charge.impressions <= 2 * charge.media_sheets
    assert charge.job_impressions == -(-contents.pages // number_up)
    if copies is not None:
        assert charge.impressions == charge.job_impressions * copies
