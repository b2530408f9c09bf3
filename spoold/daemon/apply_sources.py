"""Sources as objects of a file: `[source.NAME]`, with the keys that `source.set` takes.

A source names the file of its password; the password itself stands in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from spoold.daemon.apply import Asked, Kind, Problem, Whole
from spoold.daemon.operations.sources import ARGUMENTS
from spoold.model.errors import OperationError
from spoold.model.objects import Action, Object, Step
from spoold.model.source import check_source_name, settings_map, source_of

_NOBODY = UUID(int=0)
# What a source cannot be without, to look at the rest of one.
_WHOLE = {"servers": ["ldaps://localhost"], "bases": ["dc=localhost"]}

# Settings that are judged by others: looked at when all of them are known.
_TOGETHER = frozenset({"bind_dn", "password_file", "start_tls", "clear_password", "logins"})


class Sources(Kind):
    word = "source"
    arguments = ARGUMENTS
    listing = Asked("source.list", {})
    rows = "sources"

    def name(self, text: str) -> str:
        return check_source_name(text)

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        alone = {key: value for key, value in given.items() if key not in _TOGETHER}
        shown = settings_map(source_of(_NOBODY, name, {**_WHOLE, **alone}))
        found = {key: shown[key] if key in alone else given[key] for key in given}
        if "attributes" in given:  # an empty one goes back to the flavour's
            found["attributes"] = dict(given["attributes"])
        return found

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        for step in steps:
            there = whole.there["source"].get(step.name, {})
            try:
                if step.wanted is not None:
                    source_of(_NOBODY, step.name, {**there, **step.wanted})
            except OperationError as error:
                yield Problem(f"source.{step.name}", error.message, error.advice)

    def asked(self, step: Step, there: Object | None) -> Asked:
        if step.action is Action.REMOVE:
            return Asked("source.remove", {"name": step.name})
        assert step.wanted is not None
        args = {key: step.wanted[key] for key in step.keys}
        op = "source.add" if step.action is Action.ADD else "source.set"
        return Asked(op, {"name": step.name, **args})

    def blank(self) -> Object:
        empty: Object = {"servers": [], "bases": []}
        return {**settings_map(source_of(_NOBODY, "x", _WHOLE)), **empty}
