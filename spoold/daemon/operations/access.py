"""Who is asked for, by the names that operations share: sets of roles, and sets of doors.

What changes objects or gives out credentials stays on the local socket: whoever may name devices
and programs acts as the daemon's user on this machine, and no password alone is enough for that.
"""

from __future__ import annotations

from spoold.model.job import Job
from spoold.model.principal import Port, Principal, Role

ADMINS = frozenset({Role.ADMIN})
MONEY = ADMINS | {Role.ACCOUNTANT}  # who handles money
DEVICES = frozenset({Role.DEVICE})
SITES = frozenset({Role.SITE})
NODES = SITES | {Role.PROVIDER}  # who may hand on jobs of others, if it may speak for anybody
JOINERS = SITES | {Role.JOINER}
OPERATORS = ADMINS | {Role.OPERATOR}
STAFF = OPERATORS | {Role.HELP_DESK}
EVERYBODY = STAFF | {Role.PROVIDER, Role.USER, Role.ANYBODY}
CLIENTS_AND_OPERATORS = OPERATORS | {Role.PROVIDER, Role.USER, Role.ANYBODY}
USERS = frozenset({Role.USER})
USERS_AND_STAFF = STAFF | USERS
USERS_AND_OPERATORS = OPERATORS | USERS

LOCAL = frozenset({Port.CONTROL})
KNOWN = LOCAL | {Port.TLS, Port.MUTUAL}  # after a login, or with a certificate
LINES = frozenset({Port.MUTUAL})  # the lines of sites
EVERYWHERE = frozenset(Port)


def is_own(principal: Principal, roles: frozenset[Role], job: Job) -> bool:
    """Whether the job is a user's own, however its owner is known, or a provider's submission.

    `roles` are those that count here.
    """
    if Role.PROVIDER in roles and job.submitter == principal.identity:
        return True
    return Role.USER in roles and bool(principal.name) and job.owner.name == principal.name
