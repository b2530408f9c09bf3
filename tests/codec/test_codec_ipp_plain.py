"""Attributes as plain values and back, and what a printer's options make of it."""

from __future__ import annotations

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_capabilities import capabilities, supports
from spoold.codec.ipp_media import size_of
from spoold.codec.ipp_plain import PRINTER, TEMPLATE, NotPlain, to_attribute, to_plain
from spoold.codec.ipp_values import Range, Resolution, Tag, Value, WithLanguage

COLUMN = {"media-size": {"x-dimension": 21000, "y-dimension": 29700}, "media-type": "stationery"}


@pytest.mark.parametrize(
    ("name", "plain", "values"),
    [
        ("copies", 3, [Value(Tag.INTEGER, 3)]),
        ("print-quality", 4, [Value(Tag.ENUM, 4)]),
        ("sides", "one-sided", [Value(Tag.KEYWORD, "one-sided")]),
        ("page-ranges", ["1-4", "7-7"], [Value(0x33, Range(1, 4)), Value(0x33, Range(7, 7))]),
        ("printer-resolution", "600x1200dpi", [Value(0x32, Resolution(600, 1200))]),
        ("page-ranges-supported", True, [Value(Tag.BOOLEAN, True)]),
        ("number-up-supported", [1, 2], [Value(Tag.INTEGER, 1), Value(Tag.INTEGER, 2)]),
    ],
)
def test_a_plain_value_comes_back(name, plain, values):
    """Both ways, for each kind of value."""
    attribute = to_attribute(name, plain)
    assert attribute.values == values
    assert to_plain(attribute) == plain


def test_a_collection_comes_back():
    """Members of members, too."""
    attribute = to_attribute("media-col", COLUMN)
    assert attribute.first["media-size"].first["x-dimension"].first == 21000
    assert to_plain(attribute) == COLUMN


def test_what_may_be_written_in_a_short_form():
    """One resolution for both ways, one value for a list, a number for a range."""
    assert to_attribute("printer-resolution-supported", "300dpi").all == [Resolution(300, 300)]
    assert to_attribute("page-ranges", "5").all == [Range(5, 5)]
    assert to_attribute("copies-supported", 9).first == Range(9, 9)
    name = ipp.Attribute("media", [Value(Tag.NAME_LANGUAGE, WithLanguage("de", "Karton"))])
    assert to_plain(name) == "Karton"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("no-such-attribute", 1),
        ("copies", "many"),
        ("copies", True),
        ("copies", [1, 2]),
        ("sides", 1),
        ("page-ranges", "4-1"),
        ("page-ranges", []),
        ("printer-resolution", "600"),
        ("media-col", "A4"),
        ("media-col", {"no-such-member": 1}),
    ],
)
def test_what_is_no_such_value_is_refused(name, plain):
    """A value of another kind never becomes an attribute."""
    with pytest.raises(NotPlain):
        to_attribute(name, plain)


def test_an_attribute_of_another_syntax_has_no_plain_value():
    """A peer that sends a keyword where a number belongs is not believed."""
    for attribute in (
        ipp.keyword("copies", "3"),
        ipp.integer("copies", 1, 2),
        ipp.integer("no-such-attribute", 1),
        ipp.range_("page-ranges", Range(4, 1)),
    ):
        with pytest.raises(NotPlain):
            to_plain(attribute)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("iso_a4_210x297mm", (21000, 29700)),
        ("na_letter_8.5x11in", (21590, 27940)),
        ("na_number-10_4.125x9.5in", (10477, 24130)),
        ("a4", None),
        ("iso_a4_210x297", None),
    ],
)
def test_a_name_of_a_medium_says_its_size(name, size):
    """In hundredths of a millimetre, when it describes itself."""
    assert size_of(name) == size


def test_every_capability_can_be_sent():
    """Those that are made up, with nothing said, and with everything that follows."""
    for options in ({}, {"media-supported": ["iso_a5_148x210mm"], "urf-supported": ["V1.4"]}):
        found = capabilities(options, ("application/pdf", "image/pwg-raster", "image/jpeg"))
        for name, plain in found.items():
            assert name in PRINTER
            assert plain is None or ipp.encode_attributes([to_attribute(name, plain)])
    assert "application/octet-stream" in found["document-format-supported"]
    assert [one["media-size-name"] for one in found["media-col-database"]] == ["iso_a5_148x210mm"]
    assert found["media-default"] == "iso_a5_148x210mm"


def test_what_is_said_is_not_made_up():
    """Options win; the default is one of what is supported; colour follows from the modes."""
    found = capabilities(
        {"sides-supported": ["two-sided-long-edge"], "print-color-mode-supported": ["monochrome"]}
    )
    assert found["sides-default"] == "two-sided-long-edge"
    assert found["print-color-mode-default"] == "monochrome"
    assert found["color-supported"] is False
    assert "pages-per-minute-color" not in found


@pytest.mark.parametrize(
    ("name", "value", "is_supported"),
    [
        ("copies", 9999, True),
        ("copies", 10000, False),
        ("sides", "one-sided", True),
        ("sides", "two-sided-long-edge", False),
        ("media", "iso_a4_210x297mm", True),
        ("media", "na_ledger_11x17in", False),
        ("media-col", COLUMN, True),
        ("media-col", {"media-size": {"x-dimension": 1, "y-dimension": 2}}, False),
        ("media-col", {"media-weight-metric": 80}, False),
        ("page-ranges", ["1-2"], False),
        ("finishings", [3], True),
        ("finishings", [3, 4], False),
        ("job-account-id", "0815", True),
        ("print-content-optimize", "photo", False),
    ],
)
def test_what_a_job_may_ask_for(name, value, is_supported):
    """By what the printer says of itself."""
    assert name in TEMPLATE
    assert supports(capabilities({}), name, value) is is_supported
