"""Option strings of CUPS: what a job's options and lines of lpoptions say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec.cups_options import OPTIONS_MAX, parse_options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("media=A4 sides=one-sided", {"media": "A4", "sides": "one-sided"}),
        ("  media = A4", {"media": "", "A4": "true"}),
        ("collate nolandscape no", {"collate": "true", "landscape": "false", "no": "true"}),
        (r"a=Price\ list b=it\'s c=\\", {"a": "Price list", "b": "it's", "c": "\\"}),
        ("a='one two' b=\"it's\" c=x'y z'", {"a": "one two", "b": "it's", "c": "xy z"}),
        (r'a="say \"yes\""', {"a": 'say "yes"'}),
        ("a='open to the end", {"a": "open to the end"}),
        ("a=1 a=2", {"a": "2"}),
        ("page-ranges=1-2,5 finishings=3,4", {"page-ranges": "1-2,5", "finishings": "3,4"}),
        (
            "media-col={media-size={x-dimension=21000 y-dimension=29700}} b=1",
            {"media-col": "{media-size={x-dimension=21000 y-dimension=29700}}", "b": "1"},
        ),
        ("a={open", {"a": "{open"}),
        ("a=\\", {"a": "\\"}),
        ("=a b=1", {}),
    ],
)
def test_options_are_read_as_cups_reads_them(text, options):
    """Quotes, backslashes, braces and switches."""
    assert parse_options(text) == options


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True), st.text(max_size=20), max_size=4
    )
)
def test_what_cups_writes_is_what_is_read(options):
    """cupsd puts a backslash before white space, quotes and backslashes."""
    options = {name: value for name, value in options.items() if "{" not in value}

    def quoted(value: str) -> str:
        return "".join(f"\\{c}" if c in " \t\n\r\f\v\\'\"" else c for c in value)

    text = " ".join(f"{name}={quoted(value)}" for name, value in options.items())
    assert parse_options(text) == options


@given(st.text(alphabet=" =\\'\"{}ab\t", max_size=200))
def test_any_text_is_read(text):
    """There is no text that is an error, and none that makes more options than words."""
    assert len(parse_options(text)) <= len(text)


def test_options_without_end_are_cut_off():
    """A string of a million words takes no more than its share."""
    text = " ".join(f"o{number}=1" for number in range(100_000))
    assert len(parse_options(text)) == OPTIONS_MAX
