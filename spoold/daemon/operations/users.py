"""People who may come in: `user.add`, `.set`, `.remove`, `.enrol`, `.revoke`, `.list`, `.show`.

Passwords come in and never leave; keys of certificates leave once and are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography import x509

from spoold.daemon.authority import microseconds
from spoold.daemon.operations.access import ADMINS, LOCAL, STAFF
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import IdentityError, OperationError
from spoold.model.person import normalise_name
from spoold.model.principal import Role
from spoold.model.user import GRANTABLE, User, check_password, check_user_name
from spoold.spool.store import EnrolUser, PutUser, RemoveUser, RevokeUser
from spoold.spool.users import CERTIFICATES_MAX, unknown

DAYS_MAX = 3650


def user_map(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "guid": str(user.guid),
        "roles": sorted(role.value for role in user.roles),
        "has_password": user.has_password,
        "created_us": user.created_us,
        "changed_us": user.changed_us,
    }


def _roles(given: Iterable[str] | None) -> frozenset[Role] | None:
    """Everybody who is known is a user at least."""
    return None if given is None else frozenset({Role.USER, *map(Role, given)})


async def _hash(call: Call) -> str | None:
    """The hash of the password that was given; "" takes it away, None lets it be."""
    password = call.args["password"]
    if not password:
        return "" if password == "" else None
    return await call.services.passwords.hash(check_password(password))


async def _find(call: Call) -> User:
    name = normalise_name(call.args["name"])
    user = await call.services.reader.user(name)
    if user is None:
        raise unknown(name)
    return user


async def add(call: Call) -> dict[str, Any]:
    services = call.services
    name = check_user_name(call.args["name"])
    roles, password = _roles(call.args["roles"] or ()), await _hash(call)
    change = PutUser(name, services.wall_clock(), roles, password, True, call.actor)
    return user_map(await services.journal.commit(change))


async def change(call: Call) -> dict[str, Any]:
    """What is not named stays; new roles stand in for the old ones."""
    services = call.services
    user = await _find(call)
    roles, password = _roles(call.args["roles"]), await _hash(call)
    if roles is None and password is None:
        raise OperationError("bad-request", "nothing is to be changed.", "Name roles or password.")
    change = PutUser(user.name, services.wall_clock(), roles, password, False, call.actor)
    return user_map(await services.journal.commit(change))


async def remove(call: Call) -> dict[str, Any]:
    """Refuse the user from now on, and end the user's connections; the jobs stay."""
    services = call.services
    name = normalise_name(call.args["name"])
    serials = await services.journal.commit(RemoveUser(name, services.wall_clock(), call.actor))
    return {"name": name, "serials": serials}


async def enrol(call: Call) -> dict[str, Any]:
    """A key and a certificate for a user, known here when they are handed out."""
    services = call.services
    user = await _find(call)
    try:
        key, certificate, serial = services.identity.enrol(
            "user", user.guid, user.name, call.args["days"]
        )
    except IdentityError as error:
        raise OperationError("not-possible", f"{error.cause}.", error.advice) from error
    until_us = microseconds(x509.load_pem_x509_certificate(certificate).not_valid_after_utc)
    now_us = services.wall_clock()
    await services.journal.commit(
        EnrolUser(user.guid, user.name, serial, until_us, now_us, call.actor)
    )
    return {
        **user_map(user),
        "serial": serial,
        "not_after_us": until_us,
        "key_pem": key.decode(),
        "certificate_pem": certificate.decode(),
        "ca_pem": services.identity.ca_pem.decode(),
    }


async def revoke(call: Call) -> dict[str, Any]:
    """Refuse a user's certificates, now and for ever."""
    services = call.services
    name = normalise_name(call.args["name"])
    serials = await services.journal.commit(RevokeUser(name, services.wall_clock(), call.actor))
    return {"name": name, "serials": serials}


async def list_users(call: Call) -> dict[str, Any]:
    after, limit = call.args["after_id"], call.args["limit"]
    found = await call.services.reader.users(after, limit + 1)
    page, more = fitting(map(user_map, found), limit)
    return {"users": page, "next_after_id": page[-1]["name"] if more else None}


async def show_user(call: Call) -> dict[str, Any]:
    user = await _find(call)
    certificates = await call.services.reader.certificates(user.guid)
    shown = [
        {"serial": one.serial, "not_after_us": one.not_after_us, "revoked": one.revoked}
        for one in certificates[:CERTIFICATES_MAX]
    ]
    return {**user_map(user), "certificates": shown}


_NAME = Argument("name", required=True, least=1, summary="Name a user.")
_ROLES = Argument(
    "roles",
    (list,),
    most=len(GRANTABLE),
    each=Argument("", choices=tuple(GRANTABLE)),
    summary="What the user may do beside what every user may.",
)
_PASSWORD = Argument("password", summary="An empty one takes it away.")

OPERATIONS = (
    Operation("user.add", (_NAME, _ROLES, _PASSWORD), ADMINS, LOCAL, add, "Add a user."),
    Operation(
        "user.set",
        (_NAME, _ROLES, _PASSWORD),
        ADMINS,
        LOCAL,
        change,
        "Change a user's roles or password.",
    ),
    Operation("user.remove", (_NAME,), ADMINS, LOCAL, remove, "Refuse a user from now on."),
    Operation(
        "user.enrol",
        (_NAME, Argument("days", (int,), default=365, least=1, most=DAYS_MAX)),
        ADMINS,
        LOCAL,
        enrol,
        "Key and certificate for a user.",
    ),
    Operation("user.revoke", (_NAME,), ADMINS, LOCAL, revoke, "Refuse a user's certificates."),
    Operation(
        "user.list",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        STAFF,
        LOCAL,
        list_users,
        "Who may come in.",
    ),
    Operation("user.show", (_NAME,), STAFF, LOCAL, show_user, "What is known of a user."),
)
