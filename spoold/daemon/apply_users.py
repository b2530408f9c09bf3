"""Users as objects of a file: `[user.NAME]`, with the keys that `user.set` takes.

A password never stands in the file: `initial_password_file` names one that holds it, for a user who
has no password yet. Whoever came from a directory (`spoold source`) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from spoold.daemon.apply import Asked, Kind, Problem, Whole
from spoold.daemon.operations.roles import SCOPES
from spoold.daemon.operations.table import Argument
from spoold.daemon.operations.users import DETAILS, ROLES, USUAL
from spoold.model.errors import OperationError
from spoold.model.money import format_amount, parse_amount
from spoold.model.objects import Action, Object, Step
from spoold.model.principal import Role, Scope
from spoold.model.user import (
    FIELDS,
    User,
    check_fields,
    check_group,
    check_password,
    check_user_name,
)

_OF_A_SOURCE = frozenset({"full_name", "email", "groups"})  # set again by each of its rounds
_NOBODY = User(UUID(int=0), "", frozenset({Role.USER}), False, 0, 0)


class Users(Kind):
    """`read_secret` reads what stands in a file, or raises OperationError."""

    word = "user"
    arguments = (
        ROLES,
        SCOPES,
        *DETAILS,
        Argument("initial_password_file", least=1, summary="Holds the password of a new user."),
    )
    listing = Asked("user.list", {})
    rows = "users"
    refers = ("printer", "account")
    unspoken = frozenset({"has_password"})

    def __init__(self, read_secret: Callable[[str], str]) -> None:
        self._read_secret = read_secret
        self._files: dict[str, str] = {}

    def name(self, text: str) -> str:
        return check_user_name(text)

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key == "initial_password_file":
                self._files[name] = value
                found["has_password"] = True
            elif key == "roles":
                found[key] = sorted({Role.USER.value, *value})
            elif key == "delegates":
                found[key] = sorted({check_user_name(one) for one in value})
            elif key == "scopes":
                found[key] = _scopes(value)
                check_fields({key: [Scope(Role(one["role"]), **_parts(one)) for one in value]})
            elif key == "overdraft":
                found[key] = _overdraft(value)
            else:
                checked = check_fields({key: value})[key]
                found[key] = list(checked) if isinstance(checked, tuple) else checked
        return found

    def there(self, row: dict[str, Any]) -> Object:
        scopes = _scopes(row["scopes"])
        return {**super().there(row), "scopes": scopes, "has_password": row["has_password"]}

    def is_left_alone(self, row: dict[str, Any]) -> bool:
        return bool(row["source"])

    def parts(self, step: Step, whole: Whole) -> list[Step]:
        """Delegates may come with the same file: they are named when everybody is there."""
        new = whole.wanted["user"].keys() - whole.there["user"].keys()
        wanted = step.wanted or {}
        if step.action is not Action.ADD or new.isdisjoint(wanted.get("delegates", ())):
            return [step]
        first = {key: value for key, value in wanted.items() if key != "delegates"}
        now = tuple(one for one in step.differences if one.key != "delegates")
        later = tuple(one for one in step.differences if one.key == "delegates")
        return [
            replace(step, differences=now, wanted=first),
            replace(step, action=Action.CHANGE, differences=later),
        ]

    def turn(self, step: Step, there: Object | None) -> int:
        return 0 if step.action is Action.ADD else 1

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        names, printers = whole.names("user", gone), whole.names("printer")
        accounts = whole.names("account")
        accounts |= {whole.after("account", one).get("code", "") for one in accounts}
        for step in steps:
            path = f"user.{step.name}"
            if "has_password" in step.keys:
                try:
                    self._password(step.name)
                except OperationError as error:
                    yield Problem(f"{path}.initial_password_file", error.message, error.advice)
            for one in sorted(set((step.wanted or {}).get("delegates", ())) - names):
                cause = f"there is no user {one}."
                yield Problem(f"{path}.delegates", cause, "Name them in the file.")
            account = (step.wanted or {}).get("default_account", "")
            if account and account not in accounts:
                cause = f"there is no account {account}."
                yield Problem(f"{path}.default_account", cause, "Name it in the file.")
            yield from _scope_problems(step, whole, printers)
            if step.name in whole.kept["user"] and (theirs := step.keys & _OF_A_SOURCE):
                cause = f"a directory says what {', '.join(sorted(theirs))} of this user are."
                yield Problem(path, cause, "Change it there, and leave it out here.")

    def _password(self, name: str) -> str:
        return check_password(self._read_secret(self._files[name]))

    def asked(self, step: Step, there: Object | None) -> Asked:
        if step.action is Action.REMOVE:
            return Asked("user.remove", {"name": step.name})
        assert step.wanted is not None
        args = {key: step.wanted[key] for key in step.keys}
        if args.pop("has_password", False):
            args["password"] = self._password(step.name)
        op = "user.add" if step.action is Action.ADD else "user.set"
        return Asked(op, {"name": step.name, **args})

    def blank(self) -> Object:
        found = {key: getattr(_NOBODY, key) for key in FIELDS}
        found |= {key: [] for key, value in found.items() if value == ()}
        return {**found, "roles": [Role.USER.value], "scopes": [], "overdraft": USUAL}

    def told(self, key: str, value: Any) -> Any:
        return format_amount(value) if key == "overdraft" and isinstance(value, int) else value


def _scopes(given: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scopes in the one order in which they are compared; groups have no case."""
    found = [
        {
            "role": one["role"],
            "sites": sorted(set(one["sites"])),
            "printers": sorted(set(one["printers"])),
            "groups": sorted({check_group(group) for group in one["groups"]}),
        }
        for one in given
    ]
    return sorted(found, key=repr)


def _parts(scope: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(scope[key]) for key in ("sites", "printers", "groups")}


def _scope_problems(step: Step, whole: Whole, printers: set[str]) -> Iterable[Problem]:
    wanted = step.wanted or {}
    there = whole.there["user"].get(step.name, {})
    roles = wanted.get("roles", there.get("roles", ()))
    for one in wanted.get("scopes", ()):
        path = f"user.{step.name}.scopes"
        if one["role"] not in roles:
            yield Problem(path, f"the user is no {one['role']}.", "Name the role in roles.")
        for name in sorted(set(one["printers"]) - printers):
            yield Problem(path, f"there is no printer {name}.", "Name it in the file, too.")


def _overdraft(value: Any) -> Any:
    """An amount as `"5.00"`, a whole number of 1/10,000, or what is usual."""
    if value in (USUAL, ""):
        return USUAL
    amount = parse_amount(value) if isinstance(value, str) else value
    return check_fields({"overdraft": amount})["overdraft"]
