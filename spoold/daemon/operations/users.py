"""People who may come in: `user.add`, `.set`, `.remove`, `.enrol`, `.revoke`, `.list`, `.show`.

Passwords come in and never leave; keys of certificates leave once and are not kept. Cards and PINs
are given by the operations of `people`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from spoold.daemon.operations import certificates
from spoold.daemon.operations.access import ADMINS, LOCAL, STAFF
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.roles import SCOPES, scope_maps, scopes_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import OperationError
from spoold.model.person import normalise_name
from spoold.model.principal import Role
from spoold.model.text import plain
from spoold.model.user import (
    DELEGATES_MAX,
    EMAIL_CHARACTERS_MAX,
    FIELDS,
    GRANTABLE,
    GROUPS_MAX,
    OVERDRAFT_MAX,
    TEXT_CHARACTERS_MAX,
    User,
    check_fields,
    check_password,
    check_user_name,
)
from spoold.spool import accounts, synchronised, verifiers
from spoold.spool.store import EnrolUser, PutUser, RemoveUser, RenameUser, RevokeUser
from spoold.spool.users import CERTIFICATES_MAX, certified, unknown

DAYS_MAX = 3650
USUAL = "default"  # an overdraft that is what is usual here


async def user_maps(services: Services, users: Sequence[User]) -> list[dict[str, Any]]:
    """Users as they are shown: delegates by name, no secret, and advice on what is amiss.

    `asks_directory`: a directory is asked for the password; at a site, one has found it right.
    """
    look, guids = services.reader.look, [one.guid for one in users]
    delegates = {guid for user in users for guid in user.delegates}
    names = await services.reader.names(sorted(delegates)) if delegates else {}
    scopes = await scope_maps(services, users)
    origins = await look(synchronised.origins_of, guids)
    remembered = await look(verifiers.kept, guids)
    asked = {guid for guid, origin in origins.items() if origin.is_asked} | remembered
    with_certificate = await look(certified, guids, services.wall_clock())
    named = {one.default_account for one in users} - {""}
    missing = await look(accounts.missing, named) if named else []
    return [
        {
            **_user_map(one, names),
            "scopes": told,
            "source": origins[one.guid].source.name if one.guid in origins else "",
            "asks_directory": one.guid in asked and not one.has_password,
            "has_certificate": one.guid in with_certificate,
            "advice": [no_account(one.default_account)] * (one.default_account in missing),
        }
        for one, told in zip(users, scopes, strict=True)
    ]


def no_account(name: str) -> str:
    """Advice on an account that somebody names, and nobody has added."""
    return (
        f"The account {plain(name[:60])}, which pays when nothing else is said, is not there, and "
        "jobs wait for it: `spoold account add`."
    )


def _user_map(user: User, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "name": user.name,
        "guid": str(user.guid),
        "full_name": user.full_name,
        "email": user.email,
        "roles": sorted(role.value for role in user.roles),
        "groups": list(user.groups),
        "disabled": user.disabled,
        "has_password": user.has_password,
        "has_pin": user.has_pin,
        "cards": [
            {
                "number": card.number,
                "label": card.label,
                "ending": card.ending,
                "added_us": card.added_us,
            }
            for card in user.cards
        ],
        "delegates": sorted(names[guid] for guid in user.delegates if guid in names),
        "restricted": user.restricted,
        "overdraft": USUAL if user.overdraft is None else user.overdraft,
        "default_account": user.default_account,
        "created_us": user.created_us,
        "changed_us": user.changed_us,
    }


async def user_map(services: Services, user: User) -> dict[str, Any]:
    return (await user_maps(services, [user]))[0]


def roles_of(given: Iterable[str] | None) -> frozenset[Role] | None:
    """Everybody who is known is a user at least."""
    return None if given is None else frozenset({Role.USER, *map(Role, given)})


async def fields_of(services: Services, args: dict[str, Any]) -> dict[str, Any]:
    """The fields of a user that were given, checked.

    Raises:
        OperationError: `bad-request`; `not-found`: a delegate is no user.
    """
    given = {name: args[name] for name in FIELDS if args[name] is not None}
    if given.get("overdraft") == USUAL:
        given["overdraft"] = None
    elif isinstance(given.get("overdraft"), str):
        raise OperationError(
            "bad-request", "the overdraft is a text.", f"Give 1/10,000, or {USUAL!r}."
        )
    if "delegates" in given:
        given["delegates"] = [
            (await find_user(services, name)).guid for name in dict.fromkeys(given["delegates"])
        ]
    return check_fields(given)


async def _hash(call: Call) -> str | None:
    """The hash of the password that was given; "" takes it away, None lets it be."""
    password = call.args["password"]
    if not password:
        return "" if password == "" else None
    return await call.services.passwords.hash(check_password(password))


async def find_user(services: Services, text: str) -> User:
    """Raises:
    OperationError: `not-found`.
    """
    name = normalise_name(text)
    user = await services.reader.user(name)
    if user is None:
        raise unknown(name)
    return user


async def _find(call: Call) -> User:
    return await find_user(call.services, call.args["name"])


async def add(call: Call) -> dict[str, Any]:
    services = call.services
    name = check_user_name(call.args["name"])
    fields = await fields_of(services, call.args)
    roles, password = roles_of(call.args["roles"] or ()), await _hash(call)
    fields |= await scopes_of(services, call.args["scopes"], roles or ())
    change = PutUser(name, services.wall_clock(), roles, password, True, call.actor, fields=fields)
    return await user_map(services, await services.journal.commit(change))


async def change(call: Call) -> dict[str, Any]:
    """What is not named stays; new roles, groups and delegates stand in for the old ones."""
    services, args = call.services, call.args
    user = await _find(call)
    fields = await fields_of(services, args)
    roles, password = roles_of(args["roles"]), await _hash(call)
    fields |= await scopes_of(services, args["scopes"], roles or user.roles)
    name = user.name
    if args["rename"] is not None:
        name = check_user_name(args["rename"])
    is_more = not (roles is None and password is None and not fields)
    if not is_more and name == user.name:
        raise OperationError("bad-request", "nothing is to be changed.", "Name what is to change.")
    if user.guid in fields.get("delegates", ()):
        raise OperationError("bad-request", "nobody is their own delegate.", "Name others.")
    now_us = services.wall_clock()
    if name != user.name:
        user = await services.journal.commit(RenameUser(user.name, name, now_us, call.actor))
        if not is_more:
            return await user_map(services, user)
    change = PutUser(name, now_us, roles, password, False, call.actor, fields=fields)
    return await user_map(services, await services.journal.commit(change))


async def remove(call: Call) -> dict[str, Any]:
    """Refuse the user from now on, and end the user's connections; the jobs stay."""
    services = call.services
    name = normalise_name(call.args["name"])
    before = await services.reader.user(name)
    origin = await services.reader.look(synchronised.origin_of, before.guid) if before else None
    serials = await services.journal.commit(RemoveUser(name, services.wall_clock(), call.actor))
    return {"name": name, "serials": serials, "source": origin.source.name if origin else ""}


async def enrol(call: Call) -> dict[str, Any]:
    """A key and a certificate for a user, known here when they are handed out."""
    services = call.services
    user = await _find(call)
    made = certificates.make(call, "user", user.guid, user.name, call.args["days"])
    now_us = services.wall_clock()
    await services.journal.commit(
        EnrolUser(user.guid, user.name, made.serial, made.until_us, now_us, call.actor)
    )
    return {**await user_map(services, user), **made.shown}


async def revoke(call: Call) -> dict[str, Any]:
    """Refuse a user's certificates, now and for ever."""
    services = call.services
    name = normalise_name(call.args["name"])
    serials = await services.journal.commit(RevokeUser(name, services.wall_clock(), call.actor))
    return {"name": name, "serials": serials}


async def list_users(call: Call) -> dict[str, Any]:
    after, limit = call.args["after_id"], call.args["limit"]
    found = await call.services.reader.users(after, limit + 1)
    page, more = fitting(await user_maps(call.services, found), limit)
    return {"users": page, "next_after_id": page[-1]["name"] if more else None}


async def show_user(call: Call) -> dict[str, Any]:
    user = await _find(call)
    given = await call.services.reader.certificates(user.guid)
    shown = [
        {"serial": one.serial, "not_after_us": one.not_after_us, "revoked": one.revoked}
        for one in given[:CERTIFICATES_MAX]
    ]
    return {**await user_map(call.services, user), "certificates": shown}


NAME = Argument("name", required=True, least=1, summary="Name a user.")
ROLES = Argument(
    "roles",
    (list,),
    most=len(GRANTABLE),
    each=Argument("", choices=tuple(GRANTABLE)),
    summary="What the user may do beside what every user may.",
)
_PASSWORD = Argument("password", summary="An empty one takes it away.")
DETAILS = (
    Argument("full_name", most=TEXT_CHARACTERS_MAX),
    Argument("email", most=EMAIL_CHARACTERS_MAX),
    Argument("groups", (list,), most=GROUPS_MAX, each=Argument("", most=TEXT_CHARACTERS_MAX)),
    Argument("disabled", (bool,), summary="Refused, however well proven."),
    Argument(
        "delegates",
        (list,),
        most=DELEGATES_MAX,
        each=Argument("", least=1),
        summary="Users who may release this one's jobs.",
    ),
    Argument("restricted", (bool,), summary="May not spend more than the overdraft allows."),
    Argument(
        "overdraft",
        (int, str),
        least=0,
        most=OVERDRAFT_MAX,
        summary=f"In 1/10,000, or {USUAL!r}: what is usual here.",
    ),
    Argument(
        "default_account", most=TEXT_CHARACTERS_MAX, summary="Pays when nothing else is said."
    ),
)

OPERATIONS = (
    Operation(
        "user.add", (NAME, ROLES, SCOPES, _PASSWORD, *DETAILS), ADMINS, LOCAL, add, "Add a user."
    ),
    Operation(
        "user.set",
        (
            NAME,
            Argument("rename", least=1, summary="A new name."),
            ROLES,
            SCOPES,
            _PASSWORD,
            *DETAILS,
        ),
        ADMINS,
        LOCAL,
        change,
        "Change what is known of a user.",
    ),
    Operation("user.remove", (NAME,), ADMINS, LOCAL, remove, "Refuse a user from now on."),
    Operation(
        "user.enrol",
        (NAME, Argument("days", (int,), default=365, least=1, most=DAYS_MAX)),
        ADMINS,
        LOCAL,
        enrol,
        "Key and certificate for a user.",
    ),
    Operation("user.revoke", (NAME,), ADMINS, LOCAL, revoke, "Refuse a user's certificates."),
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
    Operation("user.show", (NAME,), STAFF, LOCAL, show_user, "What is known of a user."),
)
