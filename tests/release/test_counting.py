"""What a job uses, from what its documents contain: the sums are always right."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec.pages.charged import charged
from spoold.codec.pages.contents import (
    MediaSize,
    Reason,
    Sides,
    Tally,
    contents_from_map,
    unknown,
)
from spoold.model.job import Document, Job, JobState
from spoold.model.person import NOBODY
from spoold.model.release import Changes
from spoold.model.usage import Line
from spoold.release.counting import NOT_COUNTED, count_of, media_name, read_contents, share_out
from spoold.spool.rows import pack

A4, A3 = MediaSize(21000, 29700), MediaSize(29700, 42000)


def job_of(**fields) -> Job:
    return Job(
        1, uuid4(), 1, JobState.PENDING, (), NOBODY, "uid:0", "", "", "raw", 50, 1,
        Document(1, ""), 1, **fields,
    )  # fmt: skip


def document(*pages, **defaults):
    """Contents of pages, each a medium and whether it has color."""
    tally = Tally()
    for media, colour in pages:
        tally.page(media=media, colour=colour, **defaults)
    return tally.contents("application/pdf")


def test_lines_say_color_sides_and_medium():
    """Two copies on both sides: three sheets hold five pages, of one copy."""
    job = replace(job_of(attributes={"sides": "two-sided-long-edge"}), copies=2)
    count = count_of(job, {1: document(*[(A4, False)] * 5)})
    assert count.usage.lines == (Line(10, 6, "monochrome", "two-sided", "iso_a4_210x297mm"),)
    assert (count.impressions, count.media_sheets, count.printed) == (5, 6, 10)
    assert not count.has_color


def test_mixed_paper_and_color_are_shared_out():
    """Which pages have color is not known; how many is."""
    pages = [(A4, True), (A4, False), (A4, False), (A3, True)]
    count = count_of(job_of(), {1: document(*pages)})
    assert count.has_color
    lines = count.usage.lines
    assert sum(one.impressions for one in lines if one.color == "color") == 2
    assert sum(one.impressions for one in lines if one.media == media_name(A3)) == 1
    assert (count.usage.impressions, count.usage.sheets) == (4, 4)


def test_attributes_and_changes_override():
    """Monochrome has no color, a range leaves pages out, copies asked at the release count."""
    job = job_of(attributes={"page-ranges": ["2-3"], "media": "na_letter_8.5x11in"})
    contents = {1: document(*[(A4, True)] * 4)}
    count = count_of(job, contents, Changes(3, "one-sided", "monochrome"))
    assert count.usage.lines == (Line(6, 6, "monochrome", "one-sided", "na_letter_8.5x11in"),)


def test_copies_that_the_document_makes_are_not_made_again():
    """Its own number counts, whatever the job says beside."""
    job = replace(job_of(copies_embedded=True), copies=3)
    count = count_of(job, {1: document((A4, False), copies=3)})
    assert count.printed == 3


def test_a_job_is_known_when_all_its_documents_are():
    """One that cannot be counted makes the whole unknown, never less."""
    job = job_of(documents=2)
    one = document((A4, False))
    assert count_of(job, {1: one}) is NOT_COUNTED
    assert count_of(job, {1: one, 2: unknown("", Reason.ENCRYPTED)}) is NOT_COUNTED
    assert count_of(job, {1: one, 2: one}).usage.lines[0].impressions == 2
    assert NOT_COUNTED.has_color
    assert NOT_COUNTED.printed is None


@pytest.mark.parametrize(
    ("size", "name"),
    [(A4, "iso_a4_210x297mm"), (MediaSize(10000, 20050), "custom_100x200.5mm_100x200.5mm")],
)
def test_sizes_have_names(size, name):
    """Those of the standards, and any other one."""
    assert media_name(size) == name


def test_what_is_kept_is_read_again():
    """And what nobody understands is not known."""
    one = document((A4, True))
    kept = {1: pack(one.as_map()), 2: pack({"pages": -1})}
    assert read_contents(kept) == {1: contents_from_map(one.as_map())}


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_shares_add_up(total, weights):
    """By weight, none below zero; nothing is shared out where nothing weighs."""
    shares = share_out(total, weights)
    assert sum(shares) == (total if sum(weights) else 0)
    assert all(0 <= share <= -(-total * weight // (sum(weights) or 1)) for share, weight in zip(
        shares, weights, strict=True))  # fmt: skip


@given(
    st.lists(
        st.tuples(st.sampled_from([A4, A3, None]), st.sampled_from([True, False, None])),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([None, *Sides]),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
)
def test_no_impression_and_no_sheet_is_lost(pages, sides, copies, number_up):
    """The lines of a usage are the job, whatever is asked for."""
    contents = document(*pages)
    attributes = {"number-up": number_up, **({"sides": sides.value} if sides else {})}
    job = replace(job_of(attributes=attributes), copies=copies)
    count = count_of(job, {1: contents})
    expected = charged(contents, {**attributes, "copies": copies})
    assert count.usage.impressions == expected.impressions
    assert count.usage.sheets == expected.media_sheets
