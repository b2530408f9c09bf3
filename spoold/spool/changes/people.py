"""Changes of the people who may come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.model.principal import Role


@dataclass(slots=True)
class PutUser:
    """Add a user (`is_new`), or change the one of this name. Answer: the `User`.

    None keeps what was. `password` is the Argon2id hash, "" takes it away; no record carries it.
    `fields` sets what it names, and keeps the rest: as `model.user.check_fields` answers it.
    """

    name: str
    now_us: int
    roles: frozenset[Role] | None = None
    password: str | None = field(default=None, repr=False)
    is_new: bool = False
    actor: str = "node"
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class PutCard:
    """Give a user a card, or another label to a card that the user has. Answer: the `User`.

    `digests` are the hashes that its number may be known by; it is kept under the last one.
    """

    name: str
    digests: tuple[bytes, ...] = field(repr=False)
    label: str
    ending: str
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class RemoveCard:
    """Take a card away: by its number of the user's cards, or by its hashes. Answer: the `User`."""

    name: str
    number: int | None
    now_us: int
    digests: tuple[bytes, ...] = field(default=(), repr=False)
    actor: str = "node"


@dataclass(slots=True)
class PutPin:
    """Set a user's PIN, by its hashes (the last one is kept); none takes it away.

    Answer: the `User`.
    """

    name: str
    digests: tuple[bytes, ...] = field(repr=False)
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class KeepThrottles:
    """Remember who has failed to log in, beyond a restart: no fact, no record. Answer: None.

    `rows` are (kind, key, count, time of the last); what is older than `before_us` is forgotten.
    """

    rows: tuple[tuple[str, bytes, int, int], ...] = field(repr=False)
    before_us: int | None = None


@dataclass(slots=True)
class RenameUser:
    """Give a user another name; all that is the user's stays so. Answer: the `User`.

    Refused with `conflict` when it is another user's, `not-possible` for who comes from a source.
    """

    name: str
    new_name: str
    now_us: int
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


@dataclass(slots=True)
class EraseRecords:
    """Take away the personal parts of records, by their row ids. Answer: None."""

    ids: tuple[int, ...]


@dataclass(slots=True)
class ErasePerson:
    """Forget who somebody was: the name, what the directory knows, and the personal parts of
    records from the row `after_id` on. Answer: how many records these were.

    `job_ids` were the person's jobs, `uuids` those of the tombstones that these left.
    """

    key: bytes = field(repr=False)
    name: str = field(repr=False)
    job_ids: frozenset[int] = field(repr=False)
    uuids: tuple[bytes, ...] = field(repr=False)
    after_id: int
    now_us: int
    actor: str = "node"
