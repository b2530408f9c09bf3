"""Objects as somebody wants them beside objects as they are: what would have to change.

Pure. An object is a map of plain values in the one form in which it is shown. What is not wanted
of an object stays as it is: a wish names a part of it, and of the maps in it a part, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Object = Mapping[str, Any]


class Action(StrEnum):
    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key (`location`, or `options.pjl` in a map): None where there is nothing."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done to one object. `wanted` is all that was said of it."""

    action: Action
    kind: str
    name: str
    differences: tuple[Difference, ...] = ()
    wanted: Object | None = None

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the object that change."""
        return frozenset(one.key.partition(".")[0] for one in self.differences)

    def changed(self, key: str) -> dict[str, Any]:
        """What changes of the map that stands under `key`; "" where something goes."""
        return {
            one.key.partition(".")[2]: "" if one.after is None else one.after
            for one in self.differences
            if one.key.startswith(f"{key}.")
        }


def differences(wanted: Object, there: Object) -> tuple[Difference, ...]:
    """Every key in which an object is another one than is wanted; of maps, each entry.

    An entry of a map that is wanted to be empty ("") is not to be there.
    """
    found = []
    for key, value in wanted.items():
        old = there.get(key)
        if isinstance(value, dict):
            inside = old if isinstance(old, dict) else {}
            for name, one in value.items():
                before, after = inside.get(name), (None if one in ("", []) else one)
                if before != after:
                    found.append(Difference(f"{key}.{name}", before, after))
        elif value != old:
            found.append(Difference(key, old, value))
    return tuple(found)


def steps_for(
    kind: str, wanted: Mapping[str, Object], there: Mapping[str, Object], *, prune: Iterable[str]
) -> list[Step]:
    """What makes the objects of one kind what is wanted, each only once, by name.

    `prune` names those that go when nobody wants them.
    """
    steps = []
    for name in sorted(wanted):
        if name not in there:
            new = differences(wanted[name], {})
            steps.append(Step(Action.ADD, kind, name, new, wanted[name]))
        elif found := differences(wanted[name], there[name]):
            steps.append(Step(Action.CHANGE, kind, name, found, wanted[name]))
    gone = sorted(set(prune) - wanted.keys())
    return steps + [Step(Action.REMOVE, kind, name) for name in gone if name in there]
