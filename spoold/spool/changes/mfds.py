"""Changes of MFDs, and of the sessions of people at them."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from spoold.model.mfd import MfdSettings, SessionEnd


@dataclass(slots=True)
class PutMfd:
    """Add an MFD, or change the one of this GUID. Answer: the `Mfd`.

    `serial` and `not_after_us` are of a certificate that was made for it; `token_key` the hash of
    its new token, which takes the place of the one before. None keeps what was.
    """

    guid: UUID
    name: str
    now_us: int
    settings: MfdSettings | None = None
    serial: str | None = None
    not_after_us: int = 0
    token_key: bytes | None = field(default=None, repr=False)
    actor: str = "node"


@dataclass(slots=True)
class RevokeMfd:
    """Refuse an MFD for ever, and end its session. Answer: the serials of its certificates."""

    name: str
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class StartSession:
    """Somebody logged in at an MFD; the session before, if any, ends. Answer: the `Session`.

    `key` is the hash of its id. `changed_us` is when the person was changed last, as the login
    found it: what it proved may be revoked since, and then it is refused (`busy`).
    """

    key: bytes = field(repr=False)
    mfd: UUID
    person: UUID
    method: str
    changed_us: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class EndSession:
    """Answer: whether it was open."""

    key: bytes = field(repr=False)
    reason: SessionEnd
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class TouchSessions:
    """When sessions were used last, in UTC µs; no record tells that. Answer: None."""

    used_us: dict[bytes, int] = field(repr=False)


@dataclass(slots=True)
class ForgetSessions:
    """Forget sessions that ended before a time, at most `limit`. Answer: how many."""

    before_us: int
    limit: int
