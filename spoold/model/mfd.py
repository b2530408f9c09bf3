"""An MFD that comes in by itself, and the session of a person who stands at it.

An MFD is known by its GUID (`device:GUID`), and shows a certificate or a token for it. A session
belongs to one MFD and one person; who knows its id may act for that person there, so the id is
made of random bytes, and only its hash is kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

SESSION_BYTES = 24  # of randomness in a session's id
TOKEN_BYTES = 32
TOKEN_PREFIX = "spd-"  # so that scanners for lost secrets, and people, recognise one
SECRET_CHARACTERS_MAX = 128  # no id or token of ours is longer
KEY_BYTES = 32
PRINTERS_MAX = 64  # that one MFD may release on
IDLE_S = 180  # after which a session ends that nobody uses
IDLE_S_MAX = 3600


class SessionEnd(StrEnum):
    """Why a session is over."""

    LOGOUT = "logout"
    IDLE = "idle"  # nobody used it for the idle time-out
    ANOTHER_LOGIN = "another-login"  # somebody logged in at the same MFD
    USER_CHANGED = "user-changed"  # the person was changed, disabled or removed, or a card revoked
    DEVICE_REVOKED = "device-revoked"
    TOO_OLD = "too-old"  # a session is never longer than a day's work


@dataclass(frozen=True, slots=True)
class MfdSettings:
    """`printers` are the GUIDs of those that it may release on, the one it stands for first.

    `converter` names what its card numbers pass before they are looked up; `methods` are those by
    which people may log in, empty for all; `idle_s` is the idle time-out of a session in seconds.
    """

    printers: tuple[UUID, ...] = ()
    converter: str = ""
    methods: tuple[str, ...] = ()
    idle_s: int = IDLE_S


@dataclass(frozen=True, slots=True)
class Mfd:
    guid: UUID
    name: str
    settings: MfdSettings
    has_token: bool
    revoked: bool
    created_us: int
    changed_us: int

    @property
    def printers(self) -> tuple[UUID, ...]:
        return self.settings.printers

    @property
    def identity(self) -> str:
        """How principals and the actors of records say who this is."""
        return f"device:{self.guid}"


@dataclass(frozen=True, slots=True)
class Session:
    """`key` is the hash of its id; `method` how the person logged in, as `card`.

    `used_us` is when it was used last, give or take half a minute. `end` is "" for an open one.
    """

    key: bytes
    mfd: UUID
    person: UUID
    method: str
    started_us: int
    used_us: int
    ended_us: int | None = None
    end: str = ""


def secret_key(secret: str) -> bytes:
    """What is kept of a session's id or a token: nobody can come in with it.

    They are random and long, so that a plain hash is enough (no dictionary has them).
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
