"""What changes between objects that are wanted and objects that are there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoold.model.objects import Action, Difference, differences, steps_for

PLAIN = st.sampled_from(["", "a", "b", 0, 1, True, [], ["a"], ["a", "b"]])
OBJECTS = st.dictionaries(
    st.sampled_from("xyz"),
    PLAIN | st.dictionaries(st.sampled_from("pq"), st.sampled_from(["a", "b", 1]), max_size=2),
)
HELD = st.dictionaries(st.sampled_from(["ada", "bob", "cy"]), OBJECTS)


def made(wanted, there):
    """The object after the change."""
    after = dict(there)
    for key, value in wanted.items():
        if isinstance(value, dict):
            old = there.get(key)
            after[key] = {**(old if isinstance(old, dict) else {}), **value}
        else:
            after[key] = value
    return after


@given(HELD, HELD)
def test_a_plan_that_was_made_leaves_nothing_to_do(wanted, there):
    """Planning again after every step was made finds no difference."""
    after = dict(there)
    for step in steps_for("user", wanted, there, prune=there):
        if step.action is Action.REMOVE:
            del after[step.name]
        else:
            after[step.name] = made(step.wanted, there.get(step.name, {}))
    assert steps_for("user", wanted, after, prune=after) == []


@given(HELD)
def test_what_is_not_named_stays(there):
    """Without pruning, an empty wish changes nothing."""
    assert steps_for("user", {}, there, prune=()) == []
    assert steps_for("user", {name: {} for name in there}, there, prune=there) == []


def test_entries_of_maps_are_compared_one_by_one():
    """An option that was not named stays, an empty one goes."""
    there = {"options": {"pjl": "on", "snmp": "off"}}
    assert differences({"options": {"pjl": "", "ttl_s": "5", "gone": ""}}, there) == (
        Difference("options.pjl", "on", None),
        Difference("options.ttl_s", None, "5"),
    )
