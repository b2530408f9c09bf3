"""Users as objects of a file: `[user.NAME]`, with the keys that `user.set` takes.

A password never stands in the file: `initial_password_file` names one that holds it, for a user who
has no password yet. Whoever came from a directory (`spoold source`) is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from spoold.daemon.apply import Asked, Kind, Problem, Whole
from spoold.daemon.operations import users
from spoold.daemon.operations.table import Argument
from spoold.model.errors import OperationError
from spoold.model.objects import Action, Object, Step
from spoold.model.principal import Role
from spoold.model.user import check_password, check_user_name

# What names the user, or is a secret.
_NO_KEYS = frozenset({"name", "password"})
_ADD = next(one for one in users.OPERATIONS if one.name == "user.add")


class Users(Kind):
    """`read_secret` reads what stands in a file, or raises OperationError."""

    word = "user"
    arguments = (
        *(one for one in _ADD.arguments if one.name not in _NO_KEYS),
        Argument("initial_password_file", least=1, summary="Holds the password of a new user."),
    )
    listing = Asked("user.list", {})
    rows = "users"
    unspoken = frozenset({"has_password"})

    def __init__(self, read_secret: Callable[[str], str]) -> None:
        self._read_secret = read_secret
        self._files: dict[str, str] = {}

    def name(self, text: str) -> str:
        return check_user_name(text)

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        found = dict(given)
        if (file := found.pop("initial_password_file", None)) is not None:
            self._files[name] = file
            found["has_password"] = True
        if "roles" in found:
            found["roles"] = sorted({Role.USER.value, *found["roles"]})
        return found

    def there(self, row: dict[str, Any]) -> Object:
        return {**super().there(row), "has_password": row["has_password"]}

    def problems(self, step: Step, whole: Whole, gone: set[str]) -> Iterable[Problem]:
        if "has_password" in step.keys:
            try:
                self._password(step.name)
            except OperationError as error:
                key = f"user.{step.name}.initial_password_file"
                yield Problem(key, error.message, error.advice)

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
        return {"roles": [Role.USER.value]}
