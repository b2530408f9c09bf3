"""Who is asked for, by the names that operations share: sets of roles, and sets of doors."""

from __future__ import annotations

from spoold.model.principal import Port, Role

ADMINS = frozenset({Role.ADMIN})
OPERATORS = ADMINS | {Role.OPERATOR}
STAFF = OPERATORS | {Role.HELP_DESK}
EVERYBODY = STAFF | {Role.PROVIDER, Role.ANYBODY}
CLIENTS_AND_OPERATORS = OPERATORS | {Role.PROVIDER, Role.ANYBODY}

LOCAL = frozenset({Port.CONTROL})
EVERYWHERE = frozenset(Port)
