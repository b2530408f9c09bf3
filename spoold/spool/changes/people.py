"""Changes of the people who may come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from spoold.model.principal import Role


@dataclass(slots=True)
class PutUser:
    """Add a user (`is_new`), or change the one of this name. Answer: the `User`.

    None keeps what was. `password` is the Argon2id hash, "" takes it away; no record carries it.
    """

    name: str
    now_us: int
    roles: frozenset[Role] | None = None
    password: str | None = field(default=None, repr=False)
    is_new: bool = False
    actor: str = "node"


@dataclass(slots=True)
class RemoveUser:
    """Remove a user, and revoke the certificates. Answer: the serials that were valid."""

    name: str
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class EnrolUser:
    """A certificate was made for a user; `serial` in hexadecimal. Answer: None."""

    guid: UUID
    name: str
    serial: str
    not_after_us: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class RevokeUser:
    """Revoke a user's certificates, now and for ever. Answer: the serials that were valid."""

    name: str
    now_us: int
    actor: str = "node"
