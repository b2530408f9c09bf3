"""Changes of the nodes that dial in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.model.node import EVERYTHING, Scope


@dataclass(slots=True)
class InviteNode:
    """Let a node of this name join, once; an invitation before gives way. Answer: the `Invite`."""

    name: str
    secret: bytes = field(repr=False)  # the hash of it
    is_approved: bool
    expires_us: int
    now_us: int
    scope: Scope = EVERYTHING
    actor: str = "node"


@dataclass(slots=True)
class JoinNode:
    """A node with this key comes in. Answer: the `Node`.

    Known by GUID and key it is what it was; else `secret`, the hash of what an invitation gave out,
    lets it in, and the invitation is used up.
    """

    guid: UUID
    key: bytes
    now_us: int
    secret: bytes | None = field(default=None, repr=False)
    actor: str = "node"


@dataclass(slots=True)
class ApproveNode:
    """Answer: the `Node`."""

    name: str
    now_us: int
    scope: Scope | None = None  # None: as it was invited
    actor: str = "node"


@dataclass(slots=True)
class CertifyNode:
    """Certificates were made for an approved node: to dial with, and to serve with.

    Answer: the `Node`.
    """

    guid: UUID
    serials: tuple[str, str]
    certificate_pem: str
    server_pem: str
    not_after_us: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class RevokeNode:
    """Refuse a node for ever, or forget an invitation. Answer: the revoked serials."""

    name: str
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class NoteTold:
    """A site was told up to a position what was taken away, and hears no more. Answer: None."""

    site: UUID
    revoked: int


@dataclass(slots=True)
class NoteAdvertised:
    """A site said where its clients are to go; see `daemon/endpoints`. Answer: None."""

    site: UUID
    told: dict[str, Any]


@dataclass(slots=True)
class AdmitGuest:
    """Somebody has logged in at a site that is not told of the person: it is, from now on."""

    node: UUID
    person: UUID
    now_us: int
