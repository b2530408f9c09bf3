"""What a file of objects asks for: TOML in, a checked plan of operations out.

Each kind of object (`Kind`) knows the keys of its tables, how the operations show its objects, and
which operation makes each step. The plan is checked whole before anything is changed: every fault
that can be known is a `Problem`, and with one of them there is no plan.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spoold.codec import toml
from spoold.daemon.operations.table import Argument, near, read_arguments
from spoold.model.errors import OperationError
from spoold.model.objects import Action, Object, Step, steps_for
from spoold.model.text import plain

Objects = dict[str, dict[str, Object]]  # kind -> name -> object


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of the file: where (`printer.frontdesk`), what, and what to do."""

    key: str
    cause: str
    advice: str = ""

    def __str__(self) -> str:
        return plain(f"{self.key}: {self.cause} {self.advice}".strip())


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of an operation."""

    op: str
    args: dict[str, Any]


@dataclass(slots=True)
class Whole:
    """All objects of all kinds that are looked at: those of the file, and those of the node."""

    wanted: Objects = field(default_factory=dict)
    there: Objects = field(default_factory=dict)
    kept: dict[str, set[str]] = field(default_factory=dict)  # those that others look after

    def names(self, kind: str, gone: Iterable[str] = ()) -> set[str]:
        """The names that objects of a kind will have."""
        return (self.wanted.get(kind, {}).keys() | self.there.get(kind, {}).keys()) - set(gone)

    def after(self, kind: str, name: str) -> Object:
        """An object as it will be, entries of maps aside."""
        there, wanted = self.there.get(kind, {}), self.wanted.get(kind, {})
        return {**there.get(name, {}), **wanted.get(name, {})}


class Kind:
    """One kind of object. `word` names its tables: `[printer.frontdesk]`.

    Of a kind that `is_single` there is one object, without a name: `[prices]`. `refers` are kinds
    whose objects those of this kind name. Nothing of a kind that is not `is_pruned` ever goes.
    """

    word: str
    is_single: bool = False
    is_pruned: bool = True
    refers: tuple[str, ...] = ()
    arguments: tuple[Argument, ...]
    listing: Asked
    rows: str = ""  # where the listing has its rows
    unspoken: frozenset[str] = frozenset()  # keys that an export leaves out

    def name(self, text: str) -> str:
        """The one form of an object's name; raises OperationError."""
        return text

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        """What was `given`, checked, in the form in which such an object is shown.

        Raises:
            OperationError: `bad-request`: it cannot be.
        """
        raise NotImplementedError

    def there(self, row: dict[str, Any]) -> Object:
        """An object as the listing has it."""
        return {one.name: row.get(one.name) for one in self.arguments if one.name in row}

    def is_left_alone(self, row: dict[str, Any]) -> bool:
        """Whether somebody else looks after the object: it is neither exported nor removed."""
        return False

    def parts(self, step: Step, whole: Whole) -> list[Step]:
        """The steps that a step takes, where it cannot be made in one."""
        return [step]

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        """What cannot be about the steps; `gone` are the objects to be removed."""
        return ()

    def asked(self, step: Step, there: Object | None) -> Asked:
        """The operation that makes the step."""
        raise NotImplementedError

    def turn(self, step: Step, there: Object | None) -> int:
        """When it is made among the steps of its kind, lowest first."""
        return 0

    def blank(self) -> Object:
        """The object of which nothing was said; an export leaves such values out."""
        return {}

    def told(self, key: str, value: Any) -> Any:
        """A value as a file has it."""
        return value


def parse(text: bytes) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        ValueError: it is not TOML, with the place.
    """
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"this is not TOML: {error}") from None


def read(kinds: Sequence[Kind], written: dict[str, Any]) -> tuple[Objects, list[Problem]]:
    """The objects that a file asks for, and its faults."""
    known = {kind.word: kind for kind in kinds}
    found: Objects = {}
    problems = []
    for word, tables in written.items():
        kind = known.get(word)
        if kind is None:
            advice = near(word, known) or f"Known here: {', '.join(known)}."
            problems.append(Problem(word, "there is no such kind of object.", advice))
            continue
        if kind.is_single:
            tables = {"": tables}
        if not isinstance(tables, dict) or any(not isinstance(o, dict) for o in tables.values()):
            problems.append(Problem(word, "this is no table of objects.", f"Write [{word}.NAME]."))
        else:
            found[word] = {}
            for name, given in tables.items():
                problem = _read_one(kind, name, given, found[word])
                problems += [problem] if problem else []
    return found, problems


def _read_one(kind: Kind, name: str, given: dict[str, Any], found: dict[str, Object]) -> Any:
    path = kind.word if kind.is_single else f"{kind.word}.{toml.key(name)}"
    names = [one.name for one in kind.arguments]
    for key in given:
        if key not in names:
            advice = near(key, names) or f"Known here: {', '.join(names)}."
            return Problem(f"{path}.{toml.key(key)}", "there is no such key.", advice)
    try:
        own = kind.name(name)
        if own in found:
            return Problem(path, f"{own} stands here twice.", "Leave one of them out.")
        values = read_arguments(kind.arguments, given)
        found[own] = kind.wanted(own, {key: values[key] for key in given})
    except OperationError as error:
        return Problem(path, error.message, error.advice)
    return None


def arrange(whole: Whole, kinds: Sequence[Kind], rows: Mapping[str, Iterable[Any]]) -> None:
    """Take up what the listings of the node say, by kind."""
    for kind in kinds:
        there: dict[str, Object] = {}
        kept: set[str] = set()
        for row in rows.get(kind.word, ()):
            name = "" if kind.is_single else row["name"]
            there[name] = kind.there(row)
            if kind.is_left_alone(row):
                kept.add(name)
        whole.there[kind.word], whole.kept[kind.word] = there, kept


def plan(kinds: Sequence[Kind], whole: Whole, *, prune: bool) -> tuple[list[Step], list[Problem]]:
    """Every step in the order in which it can be made, and what cannot be.

    With `prune` objects go that the file does not name, of the kinds that it names.
    """
    made: list[Step] = []
    removed: list[Step] = []
    problems: list[Problem] = []
    for kind in kinds:
        if kind.word not in whole.wanted:
            continue
        there = whole.there[kind.word]
        may_go: set[str] = set()
        if prune and kind.is_pruned and not kind.is_single:
            may_go = there.keys() - whole.kept[kind.word]
        steps = steps_for(kind.word, whole.wanted[kind.word], there, prune=may_go)
        gone = {step.name for step in steps if step.action is Action.REMOVE}
        problems += kind.problems(steps, whole, gone)
        steps = [part for step in steps for part in kind.parts(step, whole)]
        steps.sort(key=lambda step: kind.turn(step, there.get(step.name)))
        made += [step for step in steps if step.action is not Action.REMOVE]
        removed = [step for step in steps if step.action is Action.REMOVE] + removed
    return made + removed, problems


def export(kinds: Sequence[Kind], whole: Whole) -> str:
    """The file that makes the node's objects what they are, but for secrets."""
    parts = []
    for kind in kinds:
        blank = kind.blank()
        for name, one in sorted(whole.there[kind.word].items()):
            if name not in whole.kept[kind.word]:
                told = {
                    key: kind.told(key, value)
                    for key, value in one.items()
                    if key not in kind.unspoken and value not in (None, {}, blank.get(key))
                }
                path = (kind.word,) if kind.is_single else (kind.word, name)
                parts.append(toml.table(path, told) if told or not kind.is_single else "")
    parts = [part for part in parts if part]
    return "\n".join(parts)
