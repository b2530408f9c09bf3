"""What entries of a directory say of people: names, groups in groups, and what cannot be read."""

from __future__ import annotations

import string
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.accounts.directory import Entry, dn_key, understand
from spoold.model.errors import OperationError
from spoold.model.source import source_of

GUID = UUID(int=7)
TEXTS = st.text(string.ascii_letters + "äß ,\\+=\x00\u202e", max_size=12)


def source(**settings):
    return source_of(GUID, "hq", {"servers": ["ldaps://dc"], "bases": ["dc=x"], **settings})


def person(name, **values):
    given = {"uid": name, "entryuuid": f"id-{name}", **values}
    return Entry(f"uid={name},dc=x", {key: _tuple(value) for key, value in given.items()})


def group(name, *members, **values):
    return Entry(f"cn={name},dc=x", {"cn": (name,), "member": members, **values})


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)


def groups_of(found):
    return {one.name: one.fields["groups"] for one in found.people}


def test_groups_may_be_in_groups_and_in_rings():
    """Somebody is in every group that can be reached, each once."""
    groups = [
        group("staff", "uid=ada,dc=x", "cn=library,dc=x"),
        group("library", "UID=Bob, DC=x", "cn=staff,dc=x"),
        group("all", "cn=staff,dc=x", "cn=all,dc=x", "cn=gone,dc=x"),
        group("guests"),
    ]
    found = understand(source(), [person("ada"), person("bob"), person("cy")], groups)
    assert groups_of(found) == {
        "ada": ("all", "library", "staff"),
        "bob": ("all", "library", "staff"),
        "cy": (),
    }
    only = understand(source(groups=["ALL"], members_of=["Library"]), [person("ada")], groups)
    assert groups_of(only) == {"ada": ("all",)}
    assert understand(source(members_of=["guests"]), [person("ada")], groups).ids == set()
    wrong = understand(source(members_of=["staff", "gests"]), [person("ada")], groups)
    assert wrong.troubles == ["there is no group gests, whose members are to be users"]
    assert groups_of(wrong) == {"ada": ("all", "library", "staff")}


def test_active_directory_says_of_a_member_what_it_is_member_of():
    """Groups of people and of groups come from memberOf; accounts that are off are disabled."""
    settings = {"flavour": "active-directory"}
    people = [
        Entry(
            "CN=Ada,DC=x",
            {
                "samaccountname": ("ADA",),
                "objectguid": ("8f1c",),
                "displayname": ("Ada L.",),
                "memberof": ("CN=Print,DC=x",),
                "useraccountcontrol": ("514",),
            },
        )
    ]
    groups = [
        Entry("CN=Print,DC=x", {"samaccountname": ("Print",), "memberof": ("cn=all,dc=x",)}),
        Entry("CN=All,DC=x", {"samaccountname": ("All",)}),
    ]
    (ada,) = understand(source(**settings), people, groups).people
    assert (ada.id, ada.name, ada.fields["full_name"]) == ("8f1c", "ada", "Ada L.")
    assert (ada.fields["groups"], ada.fields["disabled"]) == (("all", "print"), True)


def test_groups_can_name_their_members_by_user_name():
    """memberUid of RFC 2307."""
    groups = [Entry("cn=staff,dc=x", {"cn": ("staff",), "memberuid": ("ADA", "bob")})]
    found = understand(source(flavour="rfc2307"), [person("ada"), person("cy")], groups)
    assert groups_of(found) == {"ada": ("staff",), "cy": ()}


def test_attributes_can_have_other_names():
    """Card through its converter, home account, and what is not asked for."""
    attributes = {"card": "badge", "account": "costCenter", "email": "-", "full_name": "gecos"}
    one = person("ada", badge="00a1b2c3", costcenter="faculty/physics", mail="x@y", gecos="Ada")
    asked = source(attributes=attributes, card_converter="hex-reversed-to-decimal")
    (ada,) = understand(asked, [one], []).people
    assert (ada.card, ada.fields["default_account"]) == ("3283263744", "faculty/physics")
    assert "email" not in ada.fields
    assert ada.fields["full_name"] == "Ada"


def test_what_cannot_be_read_is_told_and_the_person_stays_known():
    """Bad names, doubles and bad cards are troubles; nobody vanishes for them."""
    asked = source(attributes={"card": "badge"}, card_converter="hex/1")
    entries = [
        person("a:b"),
        Entry("cn=nobody,dc=x", {"entryuuid": ("id-0",)}),
        person("ada"),
        Entry("uid=ADA,ou=b,dc=x", {"uid": ("ADA",), "entryuuid": ("id-2",)}),
        person("cy", badge="no hex", mail="not an address"),
    ]
    found = understand(asked, entries, [Entry("cn=,dc=x", {"cn": ("",)})])
    assert [one.name for one in found.people] == ["cy"]
    assert found.ids == {"id-a:b", "id-0", "id-ada", "id-2", "id-cy"}
    assert len(found.troubles) == 6
    with pytest.raises(OperationError, match="has no entryUUID"):
        understand(source(), [Entry("uid=x,dc=x", {"uid": ("x",)})], [])


def test_an_entry_that_two_bases_show_is_one():
    """Bases may lie in each other."""
    found = understand(source(), [person("ada"), person("ada")], [])
    assert ([one.name for one in found.people], found.troubles) == (["ada"], [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("uid=ada,dc=x", "UID=Ada, DC = X"),
        ("cn=Doe\\, Jane,dc=x", "cn=doe\\2C jane,dc=x"),
        ("cn=\\C3\\A4,dc=x", "cn=Ä,dc=x"),
    ],
)
def test_names_of_entries_have_several_spellings(one, other):
    """Case, spaces and escapes are levelled (RFC 4514)."""
    assert dn_key(one) == dn_key(other)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=6), st.lists(TEXTS, max_size=6))
def test_hostile_entries_do_no_harm(entries, members):
    """Whatever stands in a directory, people come out, or troubles."""
    people = [
        Entry(dn, {"uid": (uid,), "entryuuid": (f"{n}",), "cn": (cn,), "mail": (cn,)})
        for n, (dn, uid, cn) in enumerate(entries)
    ]
    groups = [Entry(dn, {"cn": (cn,), "member": tuple(members)}) for dn, _, cn in entries]
    found = understand(source(), people, groups)
    assert found.ids == {one.first("entryUUID") for one in people}
    assert len({one.name for one in found.people}) == len(found.people)
