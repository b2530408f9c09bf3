"""The node and those who may come in: `node.*`, `provider.*`, `daemon.reload`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import uuid4

import trio

from spoold import __version__
from spoold.daemon.authority import fingerprint_of
from spoold.daemon.operations import certificates
from spoold.daemon.operations.access import ADMINS, KNOWN, LOCAL, STAFF
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import ConfigError, OperationError
from spoold.model.person import normalise_name
from spoold.model.principal import Role
from spoold.model.printer import check_printer_name
from spoold.release.news import Mode
from spoold.spool import chains
from spoold.spool.store import Provider, PutProvider, RevokeProvider

DAYS_MAX = 3650
USERS_MAX = 200


async def show_node(call: Call) -> dict[str, Any]:
    services = call.services
    config = services.config
    journal, incarnation = services.journal.identity
    chain = await services.reader.look(chains.own)
    parent = chain.parent_incarnation
    return {
        "name": services.node_name,
        "guid": str(services.node_guid),
        "role": config.node.role,
        "version": __version__,
        "data_dir": str(config.node.data_dir),
        "started_us": services.started_us,
        "listen": [f"{key} {address}" for key, address in config.listen.every_address()][:200],
        "endpoints": list(config.advertise.endpoints)[:50],
        "journal": journal,
        "incarnation": incarnation,
        "incarnation_started_us": chain.started_us,
        "parent_incarnation": None if parent is None else str(parent),
        "parent_position": chain.parent_position,
        "journal_head": services.journal.head,
        "ca_fingerprint": services.identity.fingerprint,
    }


async def show_ca(call: Call) -> dict[str, Any]:
    """As a site, the deployment's comes first: it signs what this node serves with."""
    authority, membership = call.services.identity, call.services.membership
    pem = authority.ca_pem
    if membership is not None and membership.chain is not None:
        pem = membership.ca_pem + pem
    return {"pem": pem.decode(), "fingerprint": fingerprint_of(pem)}


async def reload(call: Call) -> dict[str, Any]:
    """Read the configuration again; a line for each change."""
    try:
        lines = call.services.reload()
    except ConfigError as error:
        cause = f"nothing changed: {error.subject}: {error.cause}."
        raise OperationError("bad-request", cause, error.advice) from error
    return {"changes": [line[:500] for line in lines][:100]}


async def follow_node(call: Call) -> dict[str, Any]:
    """How the node serves, and where else to go: at once, and when it changes."""
    services = call.services
    client = call.principal.address
    while True:
        mode, endpoints = services.news.mode, services.endpoints.told_to(client)
        await call.send_event("node-mode", {"mode": mode.value, "endpoints": endpoints})
        if mode is Mode.STOPPING:
            return {"mode": mode.value}
        await _first_of(
            partial(services.news.wait_mode, mode),
            partial(services.endpoints.wait_other, client, endpoints),
        )


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Until the first of these has ended."""
    async with trio.open_nursery() as nursery:

        async def leave(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(leave, wait)


# -- providers ---------------------------------------------------------------------------------


async def enrol(call: Call) -> dict[str, Any]:
    """A key and a certificate for a provider, known here when they are handed out.

    A provider that is enrolled again keeps its GUID, its older certificates and, unless others
    are named, its users. A new one without users may speak for nobody.
    """
    args, services = call.args, call.services
    name = check_printer_name(args["name"], "provider")
    async with services.changing:
        same = [one for one in await services.reader.providers() if one.name == name]
        if same and same[0].revoked:
            raise OperationError(
                "conflict", f"the provider {name} was revoked.", "Enrol it by another name."
            )
        guid = same[0].guid if same else uuid4()
        if args["may_assert"] is None:
            users = same[0].may_assert if same else ()
        else:
            users = tuple(dict.fromkeys(_user(one) for one in args["may_assert"]))
        made = certificates.make(call, "provider", guid, name, args["days"])
        now_us = services.wall_clock()
        await services.journal.commit(
            PutProvider(guid, name, made.serial, users, made.until_us, now_us, call.actor)
        )
    return {"name": name, "guid": str(guid), "may_assert": list(users), **made.shown}


def _user(name: str) -> str:
    """A user's name in its one form, or the star that stands for anybody.

    Raises:
        OperationError: `bad-request`: nothing of the name is left.
    """
    user = "*" if name == "*" else normalise_name(name)
    if not user:
        raise OperationError(
            "bad-request", f"{name[:40]!r} is no user's name.", "Name users, or '*' for any."
        )
    return user


def _provider_map(provider: Provider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "guid": str(provider.guid),
        "serials": list(provider.serials)[-20:],
        "may_assert": list(provider.may_assert)[:USERS_MAX],
        "revoked": provider.revoked,
        "not_after_us": provider.not_after_us,
    }


async def list_providers(call: Call) -> dict[str, Any]:
    found = await call.services.reader.providers()
    after, limit = call.args["after_id"], call.args["limit"]
    page, more = fitting((_provider_map(one) for one in found if one.name > after), limit)
    return {"providers": page, "next_after_id": page[-1]["name"] if more else None}


async def revoke(call: Call) -> dict[str, Any]:
    """Refuse a provider's certificates, now and for ever."""
    services = call.services
    name = call.args["name"]
    change = RevokeProvider(name, services.wall_clock(), call.actor)
    serials = await services.journal.commit(change)
    return {"name": name, "serials": serials[-200:]}


_NAME = Argument("name", required=True, most=127, summary="Name a provider.")

OPERATIONS = (
    Operation("node.show", (), STAFF, KNOWN, show_node, "Who the node is."),
    Operation(
        "node.follow",
        (),
        STAFF | {Role.PROVIDER},
        KNOWN,
        follow_node,
        "How the node serves, and where else to go.",
    ),
    Operation("node.ca", (), STAFF, KNOWN, show_ca, "The deployment's CA certificate."),
    Operation("daemon.reload", (), ADMINS, LOCAL, reload, "Read the configuration again."),
    Operation(
        "provider.enrol",
        (
            _NAME,
            Argument(
                "may_assert",
                (list,),
                most=USERS_MAX,
                each=Argument("", least=1, most=255),
                summary="The users that it may speak for; '*' is any.",
            ),
            Argument("days", (int,), default=365, least=1, most=DAYS_MAX),
        ),
        ADMINS,
        LOCAL,
        enrol,
        "Key and certificate for a print provider.",
    ),
    Operation(
        "provider.list",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        STAFF,
        KNOWN,
        list_providers,
        "The print providers.",
    ),
    Operation("provider.revoke", (_NAME,), ADMINS, LOCAL, revoke, "Refuse a provider for ever."),
)
