"""A User: a person who may come in, by password or certificate; and what names and passwords are.

A user is a person of the journal with roles. `guid` is the person's key: records, certificates
(`spoold:user:GUID`) and submitters (`user:GUID`) name the user by it, never by name.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.person import NAME_CHARACTERS_MAX, normalise_name
from spoold.model.principal import Role
from spoold.model.text import plain

# What an administrator may give to a user; every user is at least a user.
GRANTABLE = (Role.ADMIN, Role.OPERATOR, Role.HELP_DESK, Role.USER)
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 256


@dataclass(frozen=True, slots=True)
class User:
    """Whoever may come in as `name` (normalised). The password itself stands nowhere."""

    guid: UUID
    name: str
    roles: frozenset[Role]
    has_password: bool
    created_us: int
    changed_us: int

    @property
    def identity(self) -> str:
        """How principals, submitters and the actors of records say who this is."""
        return f"user:{self.guid}"


def check_user_name(text: str) -> str:
    """The one form of a name that a user can have.

    Raises:
        OperationError: `bad-request`, with what a name can be.
    """
    name = normalise_name(text)
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
    raise OperationError(
        "bad-request",
        f"{plain(text[:40])!r} {cause}.",
        "Use the name with which the user prints, as `ada`.",
    )


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
        raise OperationError(
            "bad-request",
            f"the password is {len(password)} characters long.",
            f"It can be {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters long.",
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in password):
        raise OperationError(
            "bad-request",
            "the password has control characters, which no login can carry (RFC 7617).",
            "Give it on one line, without tabs.",
        )
    return password
