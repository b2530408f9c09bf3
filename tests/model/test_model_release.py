"""Rules of release and of senders: one text form, and what they say."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.model.errors import OperationError
from spoold.model.release import (
    DAYS,
    Effect,
    ReleaseRule,
    changeable,
    judge,
    names_in,
    read_rule,
    read_sender,
)

NOON = datetime(2026, 3, 4, 12, 0)  # a Wednesday
NIGHT = datetime(2026, 3, 5, 2, 0)  # early on Thursday


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("*: deny", "*: deny"),
        ("@Students,!BOB mon-wed,sat 18:00-08:00:PAGES 50", None),
        ('"@Domain Users": no-color', "'@domain users': no-color"),
        ("* sat-mon: duplex", "* mon,sat,sun: duplex"),
        (r"CORP\ada: monochrome", None),
    ],
)
def test_a_rule_is_read_as_it_is_written(text, written):
    """Names are normalised, days in order; and its own form means the same."""
    rule = read_rule(text)
    assert written in (None, str(rule))
    assert read_rule(str(rule)) == rule


@given(st.sampled_from([read_rule, read_sender]), st.text())
def test_anything_else_is_refused(read, text):
    """Whatever somebody types is a rule that means the same when it is read again, or none."""
    with suppress(OperationError):
        assert read(str(read(text))) == read(text)


@pytest.mark.parametrize(
    "text",
    ["", "*", "deny", "*: fly", "* xyz: deny", "* 25:00-26:00: deny", "*: pages", "*: pages 0",
     "*: deny now", "@: deny", "!: deny", "* 8-9: deny", "'*: deny", "x" * 600 + ": deny"],
)  # fmt: skip
def test_what_is_no_rule_is_told_so(text):
    """With how one is written."""
    with pytest.raises(OperationError, match="EFFECT"):
        read_rule(text)


@pytest.mark.parametrize(
    ("who", "name", "groups", "is_for"),
    [
        ("*", "ada", set(), True),
        ("ada", "ada", set(), True),
        ("ada", "bob", set(), False),
        ("@staff", "bob", {"staff"}, True),
        ("!@staff", "bob", {"staff"}, False),
        ("!@staff", "bob", {"guests"}, True),
        ("@staff,!bob", "bob", {"staff"}, False),
        ("@staff,bob", "bob", set(), True),
    ],
)
def test_whom_a_rule_is_for(who, name, groups, is_for):
    """Names, groups, anybody; and those who are left out."""
    assert read_rule(f"{who}: deny").is_for(name, frozenset(groups)) is is_for


@pytest.mark.parametrize(
    ("when", "at", "holds"),
    [
        ("", NOON, True),
        ("mon-fri", NOON, True),
        ("sat,sun", NOON, False),
        ("08:00-18:00", NOON, True),
        ("08:00-12:00", NOON, False),
        ("18:00-08:00", NIGHT, True),
        ("wed 18:00-08:00", NIGHT, True),  # the night that began on Wednesday
        ("thu 18:00-08:00", NIGHT, False),
    ],
)
def test_when_a_rule_holds(when, at, holds):
    """By days and times of the site, also over midnight."""
    assert read_rule(f"* {when}: deny").holds_at(at) is holds


def test_rules_hold_together():
    """What is forced adds up; what is refused is refused by its rule."""
    rules = tuple(map(read_rule, ("*: duplex", "@guests: monochrome", "@guests: pages 10")))
    guests, none = frozenset({"guests"}), frozenset()
    terms = judge(rules, "ada", guests, NOON, 10, has_color=True)
    assert (terms.duplex, terms.monochrome, len(terms.by)) == (True, True, 2)
    assert not judge(rules, "ada", none, NOON, 99, has_color=True).monochrome
    for count in (11, None):
        with pytest.raises(OperationError, match="pages 10"):
            judge(rules, "ada", guests, NOON, count, has_color=False)
    no_color = (read_rule("*: no-color"),)
    judge(no_color, "ada", none, NOON, 1, has_color=False)
    with pytest.raises(OperationError, match="color"):
        judge(no_color, "ada", none, NOON, 1, has_color=True)
    judge((*no_color, read_rule("*: monochrome")), "ada", none, NOON, 1, has_color=True)


def test_rules_say_whom_they_name():
    """For those who look for what names somebody."""
    policies = (read_rule("@staff,!bob: deny"), ReleaseRule(("*",), Effect.DENY))
    senders = (read_sender("* sap1 -> erp charge works"), read_sender("10.0.0.1 -> ="))
    assert names_in(policies, senders) == ["bob", "erp", "sap1"]
    assert len(DAYS) == 7


@pytest.mark.parametrize(
    ("scheme", "has_pjl", "format_", "embedded", "can"),
    [
        ("ipps", False, "application/pdf", False, {"copies", "sides", "color"}),
        ("ipp", False, "image/pwg-raster", False, {"copies"}),
        ("socket", True, "application/pdf", True, {"sides", "color"}),
        ("socket", False, "application/pdf", False, {"copies"}),
        ("file", False, "application/pdf", True, set()),
    ],
)
def test_what_can_be_changed_at_the_release(scheme, has_pjl, format_, embedded, can):
    """What the device can be told, and the document does not say by itself."""
    assert changeable(scheme, has_pjl, format_, embedded) == can
