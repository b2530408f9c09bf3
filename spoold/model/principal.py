"""Who asks for an operation, as the transport knows it; never what the asker says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Port(StrEnum):
    """By which door somebody came in."""

    CLEAR = "clear"  # 9191
    TLS = "tls"  # 9192
    MUTUAL = "mutual"  # 9195
    CONTROL = "control"  # the local socket


class Role(StrEnum):
    """What somebody may do; DECISIONS on operations list them."""

    ADMIN = "admin"
    OPERATOR = "operator"
    HELP_DESK = "help-desk"
    PROVIDER = "provider"
    ANYBODY = "anybody"  # no credentials: submission, redacted queries and health


@dataclass(frozen=True, slots=True)
class Principal:
    """`identity` is `uid:N`, `provider:GUID` or `address:IP`, and the submitter of its jobs.

    `may_assert` lists the users that a provider may speak for; `("*",)` is any.
    """

    identity: str
    port: Port
    roles: frozenset[Role] = frozenset({Role.ANYBODY})
    name: str = ""
    may_assert: tuple[str, ...] = ()
    address: str = ""

    def may_speak_for(self, user: str) -> bool:
        return "*" in self.may_assert or user in self.may_assert
