"""A User: a person who may come in, and what the directory knows of them; and what names,
passwords, PINs and texts of the directory are.

A user is a person of the journal with roles. `guid` is the person's key: records, certificates
(`spoold:user:GUID`) and submitters (`user:GUID`) name the user by it, never by name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.person import NAME_CHARACTERS_MAX, normalise_name
from spoold.model.principal import Role, Scope
from spoold.model.text import plain

# What an administrator may give to a user; every user is at least a user.
GRANTABLE = (Role.ADMIN, Role.OPERATOR, Role.HELP_DESK, Role.ACCOUNTANT, Role.USER)
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 256
PIN_DIGITS_MIN = 4
PIN_DIGITS_MAX = 16
PIN_ALONE_DIGITS_MIN = 6  # a shorter one proves its owner beside a card only
# Of so many guesses one finds the PIN of somebody; `accounts/guard.py` says how many a day has.
PIN_GUESSES = 1_000_000
TEXT_CHARACTERS_MAX = 255
EMAIL_CHARACTERS_MAX = 254  # RFC 5321 4.5.3.1.3
LABEL_CHARACTERS_MAX = 40
GROUPS_MAX = 500
GROUPS_BYTES_MAX = 16 * 1024  # of all together: they stand in one record
DELEGATES_MAX = 100
CARDS_MAX = 16
SCOPES_MAX = 8
SCOPE_NAMES_MAX = 50
OVERDRAFT_MAX = 2**53 - 1
# Characters that turn the direction of what stands around them (UAX 9): never a part of a name.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Format characters that names of Persian, Indic and mixed scripts are written with.
_JOINERS = frozenset("\u200c\u200d\u200e\u200f")


@dataclass(frozen=True, slots=True)
class CardRef:
    """A card of a user: `number` counts the user's cards, `ending` is the last of what it says."""

    number: int
    label: str
    ending: str
    added_us: int


@dataclass(frozen=True, slots=True)
class User:
    """Whoever may come in as `name` (normalised). Password, PIN and card numbers stand nowhere.

    `restricted`: may not spend below zero but for the `overdraft` (1/10,000; None: what is usual).
    `delegates` are the keys of those who may release this user's jobs. `groups` are case folded.
    """

    guid: UUID
    name: str
    roles: frozenset[Role]
    has_password: bool
    created_us: int
    changed_us: int
    full_name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    restricted: bool = True
    overdraft: int | None = None
    disabled: bool = False
    cards: tuple[CardRef, ...] = ()
    has_pin: bool = False
    delegates: tuple[UUID, ...] = ()
    default_account: str = ""
    scopes: tuple[Scope, ...] = ()

    @property
    def free_roles(self) -> frozenset[Role]:
        """The roles that count everywhere and for everybody."""
        return self.roles - {scope.role for scope in self.scopes}

    @property
    def identity(self) -> str:
        """How principals, submitters and the actors of records say who this is."""
        return f"user:{self.guid}"


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


# -- names -------------------------------------------------------------------------------------


def check_user_name(text: str) -> str:
    """The one form of a name that a user can have.

    Raises:
        OperationError: `bad-request`, with what a name can be.
    """
    name = normalise_name(text[: 4 * NAME_CHARACTERS_MAX])
    if len(text) > NAME_CHARACTERS_MAX:
        cause = f"is longer than {NAME_CHARACTERS_MAX} characters"
    elif not name:
        cause = "holds no name"
    elif ":" in name:
        cause = "has a colon, which no login can carry (RFC 7617)"
    elif name == "*":
        cause = "stands for anybody"
    else:
        return name
    raise _bad(f"{plain(text[:40])!r} {cause}.", "Use the name with which the user prints: `ada`.")


def check_text(text: str, what: str, most: int = TEXT_CHARACTERS_MAX) -> str:
    """A text of the directory on one line, as it reads on a screen: NFC, without its ends' spaces.

    Raises:
        OperationError: `bad-request`: too long, or with characters that act or hide.
    """
    if len(text) > most:
        raise _bad(f"the {what} is {len(text)} characters long.", f"It can be {most} long.")
    found = unicodedata.normalize("NFC", text).strip()
    for character in found:
        category = unicodedata.category(character)
        is_hidden = category == "Cf" and character not in _JOINERS
        if character in _BIDI or is_hidden or category in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp"):
            shown = f"U+{ord(character):04X}"
            raise _bad(
                f"the {what} {plain(text[:40])!r} has a character that does not show ({shown}).",
                "Leave control and direction characters out.",
            )
    return found[:most]


def check_group(text: str) -> str:
    """The one form of a group's name: as it reads, without case.

    Raises:
        OperationError: `bad-request`.
    """
    name = check_text(text, "group").casefold()
    if not name:
        raise _bad("a group has no name.", "Leave it out.")
    return name[:TEXT_CHARACTERS_MAX]


# -- fields ------------------------------------------------------------------------------------


def _email(value: str) -> str:
    found = check_text(value, "e-mail address", EMAIL_CHARACTERS_MAX)
    local, at, domain = found.rpartition("@")
    if found and not (at and local and domain and not any(c.isspace() or c == "," for c in found)):
        raise _bad(f"{plain(value[:40])!r} is no e-mail address.", "Write it as ada@example.org.")
    return found


def _groups(value: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(sorted({check_group(one) for one in value}))
    if len(found) > GROUPS_MAX or sum(len(one.encode()) for one in found) > GROUPS_BYTES_MAX:
        raise _bad(
            f"{len(found)} groups are too many for one user.",
            f"{GROUPS_MAX} are possible, and {GROUPS_BYTES_MAX} bytes of names.",
        )
    return found


def _delegates(value: list[UUID] | tuple[UUID, ...]) -> tuple[UUID, ...]:
    found = tuple(dict.fromkeys(value))
    if len(found) > DELEGATES_MAX:
        raise _bad(f"{len(found)} delegates are too many.", f"{DELEGATES_MAX} are possible.")
    return found


def _overdraft(value: int | None) -> int | None:
    if value is not None and not 0 <= value <= OVERDRAFT_MAX:
        raise _bad("the overdraft is no amount from 0 on.", "Write it as 5.00.")
    return value


def _scopes(value: Iterable[Scope]) -> tuple[Scope, ...]:
    found = tuple(
        Scope(
            one.role,
            tuple(sorted(set(one.sites))),
            tuple(sorted(set(one.printers))),
            tuple(sorted({check_group(group) for group in one.groups})),
        )
        for one in value
    )
    if any(one.role is Role.USER for one in found):
        raise _bad("what every user may do has no scope.", "Give a scope to another role.")
    if len(found) > SCOPES_MAX or any(
        len(part) > SCOPE_NAMES_MAX for one in found for part in (one.printers, one.groups)
    ):
        raise _bad(
            "the scopes are too many.",
            f"{SCOPES_MAX} are possible, with {SCOPE_NAMES_MAX} printers or groups each.",
        )
    return found


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "full_name": lambda value: check_text(value, "full name"),
    "email": _email,
    "groups": _groups,
    "restricted": bool,
    "overdraft": _overdraft,
    "disabled": bool,
    "delegates": _delegates,
    "default_account": lambda value: check_text(value, "account"),
    "scopes": _scopes,
}
# What can be set of a user beside roles with their scopes, and password.
FIELDS = tuple(name for name in _CHECKS if name != "scopes")


def check_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `User` to be set, each in its one form. Keys are of `FIELDS`, or `scopes`.

    Raises:
        OperationError: `bad-request`, with what it can be.
    """
    return {name: _CHECKS[name](value) for name, value in given.items()}


# -- secrets -----------------------------------------------------------------------------------


def normalise_password(text: str) -> str:
    """The one form of a password, for all keyboards and charsets (RFC 8265 4.2, OpaqueString)."""
    if text.isascii():
        return text
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
    return unicodedata.normalize("NFC", spaced)


def check_password(text: str) -> str:
    """The one form of a password that a user can have.

    Raises:
        OperationError: `bad-request`; the message never holds it.
    """
    password = normalise_password(text)
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise _bad(
            f"the password is {len(password)} characters long.",
            f"It can be {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters long.",
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in password):
        raise _bad(
            "the password has control characters, which no login can carry (RFC 7617).",
            "Give it on one line, without tabs.",
        )
    return password


def is_pin(text: str) -> bool:
    """Whether somebody could have this PIN."""
    is_number = text.isascii() and text.isdecimal()
    return is_number and PIN_DIGITS_MIN <= len(text) <= PIN_DIGITS_MAX


def pin_digits_alone(users: int) -> int:
    """How long a PIN has to be to stand alone among so many users: 6 digits for one, 8 for 100, 10
    for 10,000. The more people have one, the more guesses are right.
    """
    return min(max(PIN_ALONE_DIGITS_MIN, len(str(users * PIN_GUESSES - 1))), PIN_DIGITS_MAX)


def check_pin(text: str) -> str:
    """A PIN that a user can have.

    Raises:
        OperationError: `bad-request`; the message never holds it.
    """
    if not is_pin(text):
        raise _bad("this is no PIN.", f"It is {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX} digits.")
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(text)}
    if len(steps) == 1 and steps <= {0, 1, 9}:
        raise _bad("this PIN is what everybody tries first.", "Take another, or `--generate`.")
    return text
