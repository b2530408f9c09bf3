"""What a directory says: entries in, people out; pure.

Groups may be members of groups, in rings, too: a person is in every group that can be reached. What
cannot be understood of an entry is a trouble that is told, and leaves the person as known before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spoold.model.card import convert
from spoold.model.errors import OperationError
from spoold.model.source import Flavour, Source
from spoold.model.text import plain
from spoold.model.user import check_fields, check_group, check_user_name

ACCOUNT_DISABLED = 2  # of userAccountControl (MS-ADTS 2.2.16)
ACCOUNT_CONTROL = "userAccountControl"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it came: attributes by their names in small letters."""

    dn: str
    values: Mapping[str, tuple[str, ...]]

    def all(self, attribute: str) -> tuple[str, ...]:
        return self.values.get(attribute.lower(), ()) if attribute else ()

    def first(self, attribute: str) -> str:
        found = self.all(attribute)
        return found[0] if found else ""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as the source knows them. `fields` are those of a user that the source says."""

    id: str
    name: str
    fields: Mapping[str, Any]
    card: str = ""  # its number, converted


@dataclass(slots=True)
class Understood:
    """`ids` are all that were seen, also those of whom nothing could be made."""

    people: list[Person] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)


def dn_key(dn: str) -> str:
    """A distinguished name in one form to be compared by: case, spaces and escapes are levelled.

    Every attribute is taken to be compared without case, as those of people and groups are
    (RFC 4517 4.2.11).
    """
    if "\\" not in dn and ", " not in dn and " =" not in dn and "= " not in dn:
        return dn.casefold()
    parts = re.split(r"(?<!\\)[,;]", _unescaped_hex(dn))
    levelled = []
    for part in parts:
        name, _, value = part.partition("=")
        levelled.append(f"{name.strip()}={value.strip()}")
    return ",".join(levelled).casefold()


def _unescaped_hex(dn: str) -> str:
    """`\\2C` as `\\,`: the same character in its other spelling (RFC 4514 2.4)."""

    def spelled(found: re.Match[str]) -> str:
        raw = bytes.fromhex(found[0].replace("\\", ""))
        text = raw.decode("utf-8", "replace")
        return "".join(f"\\{c}" if c in ',+"\\<>;= #' else c for c in text)

    return re.sub(r"(\\[0-9A-Fa-f]{2})+", spelled, dn)


class Groups:
    """Who is in which groups, through groups in groups."""

    def __init__(self, source: Source, entries: Iterable[Entry], troubles: list[str]) -> None:
        self._source = source
        self._names: dict[str, str] = {}
        self._above: dict[str, set[str]] = {}  # a member's key -> the groups that name it
        self._by_user_name = source.flavour is Flavour.RFC2307
        member, member_of = source.attribute("member"), source.attribute("member_of")
        for entry in entries:
            try:
                name = check_group(entry.first(source.attribute("group")))
            except OperationError as error:
                troubles.append(f"{plain(entry.dn[:100])}: {error.message}")
                continue
            key = dn_key(entry.dn)
            self._names[key] = name
            for one in entry.all(member):
                below = one.casefold() if self._by_user_name else dn_key(one)
                self._above.setdefault(below, set()).add(key)
            self._above.setdefault(key, set()).update(map(dn_key, entry.all(member_of)))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._names.values())

    def of(self, entry: Entry, user_name: str) -> set[str]:
        """The names of the groups that a person is in."""
        start = user_name.casefold() if self._by_user_name else dn_key(entry.dn)
        to_see = list(self._above.get(start, ()))
        to_see += map(dn_key, entry.all(self._source.attribute("member_of")))
        seen = set()
        while to_see:
            key = to_see.pop()
            if key not in seen:
                seen.add(key)
                to_see += self._above.get(key, ())
        return {self._names[key] for key in seen if key in self._names}


def understand(source: Source, people: Iterable[Entry], groups: Iterable[Entry]) -> Understood:
    """The people of a source, each once; of two with one name neither is taken over.

    Raises:
        OperationError: `not-possible`: entries have no id, so that nobody would be known again.
    """
    found = Understood()
    known = Groups(source, groups, found.troubles)
    for name in sorted(set(source.members_of) - known.names):
        found.troubles.append(f"there is no group {plain(name)}, whose members are to be users")
    by_name: dict[str, list[Person]] = {}
    for entry in people:
        id_ = entry.first(source.attribute("id"))
        if not id_:
            raise OperationError(
                "not-possible",
                f"{plain(entry.dn[:100])} has no {source.attribute('id')}.",
                "Name an attribute that every entry has and keeps: attributes.id.",
            )
        if id_ in found.ids:
            continue  # two bases of which one lies in the other
        try:
            person = _person(source, entry, id_, known, found.troubles)
        except OperationError as error:
            found.troubles.append(f"{plain(entry.dn[:100])}: {error.message}")
            found.ids.add(id_)
            continue
        if person is not None:
            found.ids.add(id_)
            by_name.setdefault(person.name, []).append(person)
    found.people = list(_each_once(by_name, found.troubles))
    return found


def _person(
    source: Source, entry: Entry, id_: str, groups: Groups, troubles: list[str]
) -> Person | None:
    """The person of an entry; None for one who is in none of the groups that are asked for."""
    written = entry.first(source.attribute("name"))
    member_of = groups.of(entry, written)
    if source.members_of and member_of.isdisjoint(source.members_of):
        return None
    name = check_user_name(written)
    if source.groups:
        member_of &= set(source.groups)
    given: dict[str, Any] = {"groups": tuple(sorted(member_of)), "disabled": False}
    for key, what in (
        ("full_name", "full_name"),
        ("email", "email"),
        ("default_account", "account"),
    ):
        if attribute := source.attribute(what):
            given[key] = entry.first(attribute)
    control = entry.first(ACCOUNT_CONTROL)
    if source.flavour is Flavour.ACTIVE_DIRECTORY and re.fullmatch(r"-?[0-9]{1,10}", control):
        given["disabled"] = bool(int(control) & ACCOUNT_DISABLED)
    fields: dict[str, Any] = {}
    for key, value in given.items():
        try:
            fields |= check_fields({key: value})
        except OperationError as error:  # the rest of the person is taken over all the same
            troubles.append(f"{plain(entry.dn[:100])}: {error.message}")
    return Person(id_, name, fields, _card(source, entry, troubles))


def _card(source: Source, entry: Entry, troubles: list[str]) -> str:
    raw = entry.first(source.attribute("card"))
    if not raw:
        return ""
    try:
        return convert(source.card_converter or "plain/1", raw)
    except OperationError as error:
        troubles.append(f"{plain(entry.dn[:100])}: {error.message}")
        return ""


def _each_once(by_name: Mapping[str, list[Person]], troubles: list[str]) -> Iterator[Person]:
    for name, those in by_name.items():
        if len(those) == 1:
            yield those[0]
        else:
            troubles.append(f"{plain(name[:60])} names {len(those)} entries: none is taken over.")
