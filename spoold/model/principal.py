"""Who asks for an operation, as the transport knows it; never what the asker says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Port(StrEnum):
    """By which door somebody came in."""

    CLEAR = "clear"  # 9191
    TLS = "tls"  # 9192
    MUTUAL = "mutual"  # 9195
    JOIN = "join"  # 9195 without a certificate, for a node that asks for one
    CONTROL = "control"  # the local socket


class Role(StrEnum):
    """What somebody may do: `daemon/operations/access.py` says who is asked for what."""

    ADMIN = "admin"
    OPERATOR = "operator"
    HELP_DESK = "help-desk"
    ACCOUNTANT = "accountant"  # prices, balances and what was used; no jobs
    PROVIDER = "provider"
    DEVICE = "device"  # an MFD: what people do at it
    SITE = "site"  # a site server: what goes over its line
    JOINER = "joiner"  # a node that wants to join, or whose certificate is too old
    USER = "user"  # somebody who has proven who they are: what they may do with their own jobs
    ANYBODY = "anybody"  # no credentials: submission, redacted queries and health


@dataclass(frozen=True, slots=True)
class Scope:
    """Within what a role counts: at these sites (GUIDs of nodes), for these printers (GUIDs), and
    for people of these groups; an empty part is no limit. Several of one role add up."""

    role: Role
    sites: tuple[str, ...] = ()
    printers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Principal:
    """`identity`, the submitter of its jobs: `uid:N`, `provider:GUID`, `device:GUID`,
    `node:GUID`, `user:GUID`, `address:IP`.

    `may_assert` lists the users that a provider may speak for; `("*",)` is any. `method` is how a
    user has proven to be `name`: `basic` or `certificate`. A role of `scopes` is none of `roles`:
    whoever does not look at scopes does not see it.
    """

    identity: str
    port: Port
    roles: frozenset[Role] = frozenset({Role.ANYBODY})
    name: str = ""
    may_assert: tuple[str, ...] = ()
    address: str = ""
    method: str = ""
    scopes: tuple[Scope, ...] = ()

    def may_speak_for(self, user: str) -> bool:
        return "*" in self.may_assert or user in self.may_assert
