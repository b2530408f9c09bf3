"""Ada, as she comes in by password."""

from __future__ import annotations

from spoold.model.principal import Port, Principal, Role

RIGHT = "correct horse"
ADA = Principal(
    "user:00000000-0000-4000-8000-0000000000ad",
    Port.TLS,
    frozenset({Role.USER, Role.ANYBODY}),
    "ada",
    (),
    "192.0.2.7",
    "basic",
)
