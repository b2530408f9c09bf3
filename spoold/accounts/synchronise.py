"""What a round of synchronisation changes: people of a source and users as they are in, steps out.

Pure. Only users who came from the source are changed or taken away; whoever was made by hand, or
came from elsewhere, is left alone, whatever the source says. A person is known again by the
source's id, so that a new name is a new name and not a new person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.accounts.directory import Person, Understood
from spoold.model.source import Source, Vanished
from spoold.model.text import plain


@dataclass(frozen=True, slots=True)
class Present:
    """A user who came from the source. `fields` are those that a source may say.

    `is_off`: it was the source that disabled the user; `is_gone`: because it knew them no more.
    """

    guid: UUID
    id: str
    name: str
    fields: Mapping[str, Any]
    is_off: bool = False
    is_gone: bool = False
    card: str = ""  # what stands for the number of the card that came from the source


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one user; `guid` is None for a new one.

    `adopts`: who was made by hand is the source's from now on. `fields` are those that change.
    `name` is the name from now on, `was` the one until now. `card` is a new number, "" takes the
    source's card away, None lets it be.
    """

    id: str
    name: str
    guid: UUID | None = None
    was: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_off: bool = False
    card: str | None = None
    vanishes: Vanished | None = None
    adopts: bool = False

    @property
    def action(self) -> str:
        if self.adopts:
            return "adopt"
        if self.vanishes is not None:
            return "remove" if self.vanishes is Vanished.REMOVE else "disable"
        return "add" if self.guid is None else "change"


@dataclass(slots=True)
class Round:
    """A plan. `stop` says why nothing of it must be done; "" when it may be."""

    steps: list[Step] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    seen: int = 0
    stop: str = ""


def plan(
    source: Source,
    understood: Understood,
    present: Iterable[Present],
    others: Mapping[str, UUID | None],
    stands_for: Mapping[str, str],
    *,
    adopts: bool = False,
) -> Round:
    """The round that makes the users of a source what the source says.

    `others` are the users who are not the source's, by name: the guid of who was made by hand, None
    for who came from elsewhere. With `adopts` the former become the source's. `stands_for` gives
    for the number of a card what stands for it in `Present.card`.
    """
    known = {one.id: one for one in present}
    found = Round(troubles=list(understood.troubles), seen=len(understood.people))
    gone = [one for one in known.values() if not one.is_gone and one.id not in understood.ids]
    there = sum(not one.is_gone for one in known.values())
    share_passed = len(gone) > 1 and 100 * len(gone) > source.vanish_share * there
    if gone and (share_passed or len(gone) == there):
        found.stop = (
            f"{len(gone)} of {there} users would go, which is more than {source.vanish_share} %"
        )
    found.steps = [_farewell(source, one) for one in gone]
    taken = set(others) | {one.name for one in known.values()}
    if source.vanished is Vanished.REMOVE:
        taken -= {one.name for one in gone}
    changes: list[Step] = []
    renames: list[Step] = []
    new: list[Person] = []
    for person in understood.people:
        old = known.get(person.id)
        if old is None:
            new.append(person)
            continue
        step = _change(person, old, stands_for)
        if step is not None:
            (renames if step.was else changes).append(step)
    found.steps += changes
    _rename(renames, taken, found)
    for person in new:
        _welcome(found, person, others, taken, adopts=adopts)
    return found


def _welcome(
    found: Round,
    person: Person,
    others: Mapping[str, UUID | None],
    taken: set[str],
    *,
    adopts: bool,
) -> None:
    """Somebody who was not known: a new user, or one made by hand who becomes the source's."""
    by_hand = others.get(person.name)
    card, is_off = person.card or None, bool(person.fields.get("disabled"))
    if adopts and by_hand is not None:
        fields = dict(person.fields)
        if not is_off:  # whom somebody disabled by hand stays so
            fields.pop("disabled", None)
        step = Step(person.id, person.name, by_hand, "", fields, is_off, card, adopts=True)
        found.steps.append(step)
    elif person.name in taken:
        whose = "is a user already" if person.name in others else "is still somebody else here"
        found.troubles.append(f"{plain(person.name[:60])} {whose}, and is left alone.")
    else:
        taken.add(person.name)
        found.steps.append(Step(person.id, person.name, None, "", person.fields, is_off, card))


def _farewell(source: Source, one: Present) -> Step:
    return Step(one.id, one.name, one.guid, vanishes=source.vanished)


def _change(person: Person, old: Present, stands_for: Mapping[str, str]) -> Step | None:
    """What is to be changed of somebody who is known; nothing for most of them."""
    fields = {
        key: value
        for key, value in person.fields.items()
        if key != "disabled" and old.fields.get(key) != value
    }
    is_off = bool(person.fields.get("disabled"))
    was_disabled = bool(old.fields.get("disabled"))
    if is_off and not was_disabled:
        fields["disabled"] = True
    elif not is_off and was_disabled and old.is_off:
        fields["disabled"] = False
    # Whom somebody disabled by hand stays so, until it is undone by hand.
    remembers = is_off and (old.is_off or not was_disabled)
    card: str | None = None
    if stands_for.get(person.card, "") != old.card:
        card = person.card
    was = old.name if person.name != old.name else ""
    if not (fields or was or old.is_gone or card is not None or remembers != old.is_off):
        return None
    return Step(person.id, person.name, old.guid, was, fields, remembers, card)


def _rename(renames: list[Step], taken: set[str], found: Round) -> None:
    """Put renames in an order in which each name is free; tell of those for whom none is."""
    left = renames
    while left:
        later = []
        for step in left:
            if step.name in taken:
                later.append(step)
                continue
            found.steps.append(step)
            taken.discard(step.was)
            taken.add(step.name)
        if len(later) == len(left):
            break
        left = later
    else:
        return
    for step in left:
        found.troubles.append(
            f"{plain(step.was[:60])} is now {plain(step.name[:60])}, which is somebody else here: "
            "the old name stays."
        )
        rest = Step(step.id, step.was, step.guid, "", step.fields, step.is_off, step.card)
        if step.fields or step.card is not None:
            found.steps.append(rest)
