"""Writing TOML: the standard library reads back what was written."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    TEXTS | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
).filter(lambda one: one not in (float("inf"), float("-inf")))


@given(TEXTS, st.dictionaries(TEXTS, VALUES, max_size=5))
def test_what_is_written_is_read_back(name, values):
    """Any name and any values come back, whatever characters are in them."""
    try:
        text = toml.table(("printer", name), values)
    except ValueError:
        return  # an infinity within a list
    assert tomllib.loads(text)["printer"][name] == values


def test_what_acts_on_a_terminal_is_written_as_its_number():
    """A file can be looked at without harm."""
    assert toml.value("\x1b[2J\u202e\x7f") == '"\\u001b[2J\\u202e\\u007f"'


@pytest.mark.parametrize("value", [None, b"x", float("nan"), "\ud800"])
def test_what_toml_cannot_say_is_refused(value):
    """Nothing is written that would be read as something else."""
    with pytest.raises(ValueError, match=r"TOML|surrogate"):
        toml.value(value)
