"""Plans of synchronisation: what becomes of whom, and what nothing becomes of."""

from __future__ import annotations

from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.accounts.directory import Person, Understood
from spoold.accounts.synchronise import Present, plan
from spoold.model.source import Vanished, source_of

SPACE = UUID(int=7)
SOURCE = source_of(SPACE, "hq", {"servers": ["ldaps://dc"], "bases": ["dc=x"]})


def person(id_, name=None, **more):
    card = more.pop("card", "")
    return Person(id_, name or id_, {"groups": (), "disabled": False, **more}, card)


def present(id_, name=None, **more):
    flags = {key: more.pop(key) for key in ("is_off", "is_gone", "card") if key in more}
    fields = {"groups": (), "disabled": False, **more}
    return Present(uuid5(SPACE, id_), id_, name or id_, fields, **flags)


def said(*people):
    return Understood(list(people), {one.id for one in people})


def round_of(people, there, others=(), source=SOURCE):
    cards = {one.card: one.card for one in people.people}
    return plan(source, people, there, dict.fromkeys(others), cards)


def actions(found):
    return [(step.action, step.name) for step in found.steps]


def test_people_come_change_and_go():
    """Only what differs becomes a step."""
    there = [present(str(n)) for n in range(8)] + [present("old", full_name="Old")]
    people = [person(str(n)) for n in range(8)]
    found = round_of(said(*people, person("new", full_name="New")), there)
    assert actions(found) == [("remove", "old"), ("add", "new")]
    people[3] = person("3", email="3@example.org")
    found = round_of(said(*people, person("old", full_name="Old")), there)
    assert actions(found) == [("change", "3")]
    assert found.steps[0].fields == {"email": "3@example.org"}


def test_whoever_was_made_by_hand_is_left_alone():
    """A name that is taken is told of, and nothing is done about it."""
    found = round_of(said(person("1", "ada"), person("2", "bob")), [], others=["ada"])
    assert actions(found) == [("add", "bob")]
    assert found.troubles == ["ada is a user already, and is left alone."]


def test_whoever_was_made_by_hand_can_be_adopted():
    """Only where somebody says so, and never from another source."""
    others = {"ada": UUID(int=1), "bob": None}
    people = said(person("1", "ada", full_name="Ada", card="17"), person("2", "bob"))
    found = plan(SOURCE, people, [], others, {"17": "17"}, adopts=True)
    (step,) = found.steps
    assert (step.action, step.name, step.guid, step.card) == ("adopt", "ada", UUID(int=1), "17")
    assert step.fields == {"groups": (), "full_name": "Ada"}
    assert found.troubles == ["bob is a user already, and is left alone."]


@pytest.mark.parametrize(
    ("there", "left", "share", "stops"),
    [
        (10, 9, 20, False),
        (10, 8, 20, False),
        (10, 7, 20, True),
        (3, 2, 20, False),  # one may always go
        (3, 0, 100, True),  # but not everybody
        (1, 0, 20, True),
        (100, 50, 50, False),
    ],
)
def test_it_stops_when_too_many_would_vanish(there, left, share, stops):
    """More than the share, or all of them: an empty answer is no reason to throw people out."""
    source = source_of(
        SPACE, "hq", {"servers": ["ldaps://dc"], "bases": ["dc=x"], "vanish_share": share}
    )
    known = [present(str(n)) for n in range(there)]
    found = round_of(said(*[person(str(n)) for n in range(left)]), known, source=source)
    assert bool(found.stop) is stops
    assert sum(one.vanishes is not None for one in found.steps) == there - left


def test_people_with_troubles_do_not_vanish():
    """Who was seen and not understood stays as known."""
    people = Understood([person("1")], {"1", "2"}, ["2 has no name."])
    found = round_of(people, [present("1"), present("2")])
    assert (found.steps, found.stop, found.troubles) == ([], "", ["2 has no name."])


def test_a_new_name_is_the_same_person():
    """A chain of names is put in an order that works; two who swap names keep theirs."""
    there = [present("1", "ada"), present("2", "bob"), present("3", "cy"), present("4", "dan")]
    found = round_of(
        said(person("1", "bob"), person("2", "eve"), person("3", "dan"), person("4", "cy")), there
    )
    assert [(step.was, step.name) for step in found.steps] == [("bob", "eve"), ("ada", "bob")]
    assert len(found.troubles) == 2
    assert "cy is now dan, which is somebody else here" in found.troubles[0]


def test_a_name_that_becomes_free_can_be_had_at_once():
    """Whoever goes makes room; whoever is only disabled does not."""
    there = [present(str(n)) for n in range(6)] + [present("old", "ada")]
    people = said(*[person(str(n)) for n in range(6)], person("new", "ada"))
    assert actions(round_of(people, there)) == [("remove", "ada"), ("add", "ada")]
    keeps = source_of(
        SPACE, "hq", {"servers": ["ldaps://dc"], "bases": ["dc=x"], "vanished": "disable"}
    )
    found = round_of(people, there, source=keeps)
    assert actions(found) == [("disable", "ada")]
    assert "still somebody else" in found.troubles[0]


def test_disabled_by_the_source_and_disabled_by_hand():
    """What the source did it undoes; what somebody did by hand stays."""
    off, on = person("1", disabled=True), person("1")

    def step(person, user):
        found = round_of(said(person), [user]).steps
        return [(dict(one.fields), one.is_off) for one in found]

    assert step(off, present("1")) == [({"disabled": True}, True)]
    assert step(off, present("1", disabled=True, is_off=True)) == []
    assert step(on, present("1", disabled=True, is_off=True)) == [({"disabled": False}, False)]
    assert step(on, present("1", disabled=True)) == []
    assert step(off, present("1", disabled=True)) == []
    back = present("1", disabled=True, is_off=True, is_gone=True)
    assert step(on, back) == [({"disabled": False}, False)]


def test_cards_come_and_go_with_the_source():
    """None: nothing about a card; "": it goes."""
    people = said(person("1", card="17"), person("2"), person("3", card="18"), person("4"))
    there = [present("1"), present("2", card="19"), present("3", card="18")]
    found = round_of(people, there)
    assert [(step.id, step.card) for step in found.steps] == [("1", "17"), ("2", ""), ("4", None)]


IDS = st.sampled_from("123456")
NAMES = st.sampled_from(["ada", "bob", "cy", "dan"])
PEOPLE = st.dictionaries(IDS, st.tuples(NAMES, st.booleans()))
THERE = st.dictionaries(IDS, NAMES).map(
    lambda found: {id_: name for name, id_ in {name: id_ for id_, name in found.items()}.items()}
)


@given(PEOPLE, THERE, st.sets(NAMES))
def test_a_round_that_was_made_leaves_no_name_twice_and_nothing_to_do(people, there, others):
    """Whatever was there: after the steps everybody has a name of their own, and others theirs."""
    others -= set(there.values())
    names = [name for name, _ in people.values()]
    each_once = [
        person(id_, name, disabled=off)
        for id_, (name, off) in people.items()
        if names.count(name) == 1
    ]
    understood = Understood(each_once, set(people))
    users = {id_: present(id_, name) for id_, name in there.items()}
    found = round_of(understood, users.values(), others)
    for step in found.steps:
        if step.vanishes is Vanished.REMOVE:
            del users[step.id]
            continue
        taken = {one.name for id_, one in users.items() if id_ != step.id} | others
        assert step.name not in taken
        old = users.get(step.id)
        fields = {**(old.fields if old else {}), **step.fields}
        users[step.id] = present(step.id, step.name, is_off=step.is_off, **fields)
    again = round_of(understood, users.values(), others)
    assert again.steps == []
    assert set(users) <= set(people)
