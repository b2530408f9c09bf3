"""Nodes of a deployment: site servers as their application server knows them, and their line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from spoold.model.errors import OperationError

LINE_VERSIONS = (1,)  # of what is said on the line of a site, the newest first
INVITE_S = 3600  # how long an invitation lasts, unless said otherwise
INVITE_S_MAX = 30 * 86_400


class NodeState(StrEnum):
    """Where a node stands on its way in."""

    PENDING = "pending"  # it has joined; an administrator has to approve it
    APPROVED = "approved"
    REVOKED = "revoked"  # for ever


class LineState(StrEnum):
    """How the line of a site to its application servers is, with hysteresis."""

    JOINING = "joining"  # it was never up since the start, nor given up
    UP = "up"
    GONE = "gone"  # the site answers alone


@dataclass(frozen=True, slots=True)
class Scope:
    """What is copied to a site: printers (GUIDs) and groups of people; nothing named is all."""

    printers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


EVERYTHING = Scope()


def identity_of(guid: UUID) -> str:
    """What a node is called where it acts: in records, and as a principal."""
    return f"node:{guid}"


@dataclass(frozen=True, slots=True)
class Node:
    """A site server. `key` is the SHA-256 of its public key; `certificate_pem` was given last, for
    its line, and `server_pem` for its own ports.
    """

    guid: UUID
    name: str
    state: NodeState
    key: bytes
    created_us: int
    changed_us: int
    scope: Scope = EVERYTHING
    certificate_pem: str = ""
    not_after_us: int = 0
    server_pem: str = ""

    @property
    def identity(self) -> str:
        return identity_of(self.guid)

    @property
    def is_approved(self) -> bool:
        return self.state is NodeState.APPROVED


@dataclass(frozen=True, slots=True)
class Invite:
    """An open invitation."""

    name: str
    is_approved: bool
    expires_us: int


def common_version(offered: Iterable[int], spoken: Iterable[int] = LINE_VERSIONS) -> int:
    """The newest version of the line that both sides speak.

    Each speaks its own and the one before, so that either side can be updated first.

    Raises:
        OperationError: `version-not-supported`: they are further apart.
    """
    theirs, ours = set(offered), set(spoken)
    both = theirs & ours
    if both:
        return max(both)
    behind = "site" if not theirs or max(theirs) < max(ours) else "application server"
    raise OperationError(
        "version-not-supported",
        f"the site speaks versions {_listed(theirs)} of the line, the application server "
        f"{_listed(ours)}.",
        f"Update the {behind}: programs one version apart work together.",
    )


def _listed(versions: set[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"
