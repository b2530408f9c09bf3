"""Shared accounts: hierarchical names, who may charge to them, and their own purses.

`faculty/physics` lies in `faculty`: whoever may charge to an account may charge to those in it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.text import plain

NAME_CHARACTERS_MAX = 200
LEVELS_MAX = 8
CODE_CHARACTERS_MAX = 40
MEMBERS_MAX = 500
GROUPS_MAX = 100


@dataclass(frozen=True, slots=True)
class Account:
    """`code` is what a keypad takes. `members` are keys of people; the group `*` is everybody.

    An account that `is_restricted` goes below zero by `overdraft` at most, another one without end.
    """

    guid: UUID
    name: str
    code: str = ""
    groups: tuple[str, ...] = ()
    members: tuple[UUID, ...] = ()
    is_restricted: bool = False
    overdraft: int = 0
    is_open: bool = True
    created_us: int = 0
    changed_us: int = 0

    @property
    def limit(self) -> int | None:
        return self.overdraft if self.is_restricted else None


def above(name: str) -> list[str]:
    """The names of the accounts in which this one lies, and its own."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def check_account_name(text: str) -> str:
    """The one form of an account's name.

    Raises:
        OperationError: `bad-request`, with what a name can be.
    """
    name = unicodedata.normalize("NFC", text)
    parts = name.split("/")
    if len(name) > NAME_CHARACTERS_MAX or len(parts) > LEVELS_MAX:
        cause = f"is longer than {NAME_CHARACTERS_MAX} characters or {LEVELS_MAX} levels"
    elif not all(parts) or any(part != part.strip() for part in parts):
        cause = "has a part that is empty, or begins or ends with a space"
    elif any(unicodedata.category(c)[0] == "C" for c in name):
        cause = "has a control character"
    elif ":" in name:
        cause = "has a colon, which stands for another kind of holder"
    elif name == "everybody":
        cause = "stands for everybody"
    else:
        return name
    raise OperationError(
        "bad-request", f"{plain(text[:40])!r} {cause}.", "Name accounts as faculty/physics."
    )


def check_code(text: str) -> str:
    """A code that can be typed at a machine, or "".

    Raises:
        OperationError: `bad-request`.
    """
    is_plain = text.isascii() and all(c.isalnum() or c in "-_." for c in text)
    if len(text) <= CODE_CHARACTERS_MAX and (is_plain or not text):
        return text
    raise OperationError(
        "bad-request",
        f"{plain(text[:40])!r} is no code.",
        f"Use up to {CODE_CHARACTERS_MAX} letters, digits, '-', '_' and '.'.",
    )
