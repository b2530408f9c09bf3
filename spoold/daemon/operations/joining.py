"""How sites come in: `site.invite`, `.approve`, `.list`, `.show`, `.revoke`, and `site.join`.

The administrator's operations stay on the local socket. `site.join` is what a node asks for a
certificate with, by a token the first time and by its known key from then on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from spoold.codec.dnssd import host_name
from spoold.daemon import authority as authorities
from spoold.daemon import joining
from spoold.daemon.config import Config
from spoold.daemon.identity import LOCAL_NAMES
from spoold.daemon.operations.access import ADMINS, JOINERS, LOCAL, STAFF
from spoold.daemon.operations.jobs import find_printer
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.model.errors import IdentityError, OperationError
from spoold.model.node import INVITE_S, INVITE_S_MAX, LineState, Node, NodeState, Scope, identity_of
from spoold.model.principal import Port
from spoold.net.address import Address
from spoold.site.objects import Standing
from spoold.site.presence import Site
from spoold.spool import exposure, nodes
from spoold.spool.store import ApproveNode, CertifyNode, InviteNode, JoinNode, RevokeNode

log = structlog.get_logger("spoold.daemon")

SCOPE_MAX = 500
UNTOLD_MAX = 50  # shown of a site
NODE_NAME = re.compile(r"[\w][\w.-]{0,62}")
MUTUAL_PORT = 9195  # where systemd listens, unless it was told otherwise
JOINING_PORTS = frozenset({Port.JOIN, Port.MUTUAL})


async def invite(call: Call) -> dict[str, Any]:
    """A token by which one node can join, as a site of this name."""
    args, services = call.args, call.services
    name = args["name"]
    if services.line is not None:
        raise OperationError(
            "not-possible",
            "this node is a site, and others do not join by it.",
            "Ask for the token at the application server.",
        )
    if NODE_NAME.fullmatch(name) is None:
        raise OperationError(
            "bad-request",
            f"{name[:40]!r} cannot name a site.",
            "Use at most 63 letters, digits, '.', '-' and '_'.",
        )
    fingerprint = bytes.fromhex(services.identity.fingerprint.replace(":", ""))
    token = joining.Token(fingerprint, services.random_bytes(joining.SECRET_BYTES))
    now_us = services.wall_clock()
    scope = await _scope(call) or Scope()
    found = await services.journal.commit(
        InviteNode(
            name,
            token.key,
            args["is_approved"],
            now_us + args["ttl_s"] * 1_000_000,
            now_us,
            scope,
            call.actor,
        )
    )
    return {
        "name": name,
        "token": str(token),
        "is_approved": found.is_approved,
        "expires_us": found.expires_us,
        "endpoints": _where(services.config),
    }


def _where(config: Config) -> list[str]:
    """Where nodes come in, as far as this one knows: what is advertised, else by its first name."""
    advertise = config.advertise
    if advertise.endpoints or not advertise.names:
        return list(advertise.endpoints)[:50]
    ports = (one.port for one in config.listen.mutual if one.port)
    return [str(Address(advertise.names[0], next(ports, MUTUAL_PORT)))]


async def _scope(call: Call) -> Scope | None:
    """What is to be copied to the site, if it was said."""
    printers, groups = call.args["printers"], call.args["groups"]
    if printers is None and groups is None:
        return None
    known = await call.services.catalogue.look()
    guids = tuple(str(find_printer(known, one).guid) for one in printers or ())
    return Scope(guids, tuple(dict.fromkeys(one.casefold() for one in groups or ())))


async def show_ca(call: Call) -> dict[str, Any]:
    return {"pem": call.services.identity.ca_pem.decode()}


async def join(call: Call) -> dict[str, Any]:
    """A certificate for the key of a node that is approved; asked again it is the same one."""
    args, services = call.args, call.services
    guid, key, asked = joining.read_request(args["request"])
    secret = joining.Token.parse(args["token"]).key if args["token"] else None
    if guid == services.node_guid:
        raise OperationError(
            "conflict", "this node cannot join itself.", "Join from another data directory."
        )
    async with services.changing:
        node: Node = await services.journal.commit(
            JoinNode(guid, joining.key_hash(key), services.wall_clock(), secret, identity_of(guid))
        )
        if node.state is NodeState.APPROVED:
            node = await _certify(call, node, key, asked)
    return {
        "state": node.state.value,
        "name": node.name,
        "certificate_pem": node.certificate_pem,
        "server_pem": node.server_pem,
        "ca_pem": services.identity.ca_pem.decode(),
        "upstream": services.node_name,
        "endpoints": list(services.config.advertise.endpoints_for(call.principal.address))[:50],
        "clock_us": services.wall_clock(),
    }


async def _certify(
    call: Call, node: Node, key: ec.EllipticCurvePublicKey, asked: Sequence[str]
) -> Node:
    """The node with certificates that are good for a while, and for the names that it may have."""
    services = call.services
    names = await _allowed(call, node, asked)
    now_us = services.wall_clock()
    if not _is_due(node, now_us) and set(names) == set(joining.names_in(node.server_pem)):
        return node
    try:
        made, served = services.identity.certify_site(node.guid, node.name, key, names)
    except IdentityError as error:
        raise OperationError("not-possible", f"{error.cause}.", error.advice) from error
    until = x509.load_pem_x509_certificate(made[0]).not_valid_after_utc
    found: Node = await services.journal.commit(
        CertifyNode(
            node.guid,
            (made[1], served[1]),
            made[0].decode(),
            served[0].decode(),
            authorities.microseconds(until),
            now_us,
        )
    )
    return found


async def _allowed(call: Call, node: Node, asked: Sequence[str]) -> list[str]:
    """The names under which the site may serve: none that is this server's, or another site's."""
    services = call.services
    advertise = services.config.advertise
    endpoints = [*advertise.endpoints, *(one for to in advertise.to for one in to.endpoints)]
    taken = {*advertise.names, *(one.rpartition(":")[0].strip("[]") for one in endpoints)}
    for other in await services.reader.look(nodes.find_all):
        if other.guid != node.guid and other.is_approved and other.server_pem:
            taken |= set(joining.names_in(other.server_pem))
    taken.add(host_name(services.node_name, services.node_guid, advertise.names))
    refused = {name.lower() for name in taken} - set(LOCAL_NAMES)
    names = [name for name in dict.fromkeys(asked) if name.lower() not in refused]
    if len(names) < len(set(asked)):
        log.warning("site_names_refused", site=node.name, names=sorted(set(asked) - set(names)))
    return names


def _is_due(node: Node, now_us: int) -> bool:
    """Whether the certificates that it has are of no use soon, or not yet, as they were made while
    the clock was ahead: so that asking often makes few.
    """
    if not (node.certificate_pem and node.server_pem):
        return True
    life_us = authorities.SITE_DAYS * 86_400_000_000
    made = x509.load_pem_x509_certificate(node.certificate_pem.encode()).not_valid_before_utc
    is_over = now_us >= node.not_after_us - life_us // 3 - 60_000_000
    return is_over or now_us < authorities.microseconds(made)


async def approve(call: Call) -> dict[str, Any]:
    if await call.services.reader.look(nodes.find_called, call.args["name"]) is None:
        await _refuse_invited(call, call.args["name"])
    node = await call.services.journal.commit(
        ApproveNode(call.args["name"], call.services.wall_clock(), await _scope(call), call.actor)
    )
    return await _node_map(call, node)


async def revoke(call: Call) -> dict[str, Any]:
    """Refuse a site for ever: its line ends at once, and its certificates count no more."""
    services = call.services
    name = call.args["name"]
    async with services.changing:
        node = await services.reader.look(nodes.find_called, name)
        change = RevokeNode(name, services.wall_clock(), call.actor)
        serials = await services.journal.commit(change)
    known = await services.catalogue.look()
    gone = None if node is None or node.state is NodeState.REVOKED else node.guid
    left = [one.name for one in known.printers.values() if gone and one.owner == gone]
    return {
        "name": name,
        "had_joined": gone is not None,
        "serials": serials[-200:],
        "printers": sorted(left)[:SCOPE_MAX],
    }


async def list_sites(call: Call) -> dict[str, Any]:
    services = call.services
    after, limit = call.args["after_id"], call.args["limit"]
    rows = [await _node_map(call, one) for one in await services.reader.look(nodes.find_all)]
    known = {row["name"] for row in rows if row["state"] != NodeState.REVOKED}
    for one in await services.reader.look(nodes.invites, services.wall_clock()):
        if one.name not in known:
            rows.append(
                {
                    "name": one.name,
                    "guid": "",
                    "state": "invited",
                    "line": "",
                    "since_us": None,
                    "expires_us": one.expires_us,
                }
            )
    rows.sort(key=lambda row: (row["name"], row["guid"]))
    keyed = [(f"{row['name']} {row['guid']}", row) for row in rows]
    page, more = fitting((row for key, row in keyed if key > after), limit)
    last = f"{page[-1]['name']} {page[-1]['guid']}" if page else ""
    return {"sites": page, "next_after_id": last if more else None}


async def show_site(call: Call) -> dict[str, Any]:
    look, name = call.services.reader.look, call.args["name"]
    node = await look(nodes.find_called, name)
    if node is None:
        await _refuse_invited(call, name)
        raise nodes.unknown(name)
    return {**await _node_map(call, node), **await _exposure(call, node)}


async def _refuse_invited(call: Call, name: str) -> None:
    """Raises OperationError: `not-found`, the site has not joined so far."""
    invites = await call.services.reader.look(nodes.invites, call.services.wall_clock())
    if name in (one.name for one in invites):
        raise OperationError(
            "not-found",
            f"{name} is invited, and has not joined so far.",
            "On its machine: `spoold site join`. For another token: `spoold site invite`.",
        )


async def _exposure(call: Call, node: Node) -> dict[str, Any]:
    """Who may do less than a site knows that is cut off."""
    look = call.services.reader.look
    since = await call.services.objects.untold_from(node.guid) if node.is_approved else None
    if since is None:
        return {"not_told": 0, "untold": []}
    shown = [
        {
            "kind": one.kind,
            "name": one.name or str(one.key),
            "what": one.what,
            "since_us": one.since_us,
        }
        for one in await look(exposure.untold, since, UNTOLD_MAX)
    ]
    return {"not_told": await look(exposure.count_untold, since), "untold": shown}


async def _node_map(call: Call, node: Node) -> dict[str, Any]:
    services = call.services
    site = services.sites.find(node.guid) or Site(node, LineState.GONE)
    known = await services.catalogue.look()
    names = {str(one.guid): one.name for one in known.printers.values()}
    return {
        "name": node.name,
        "guid": str(node.guid),
        "state": node.state.value,
        "line": site.state.value if node.state is NodeState.APPROVED else "",
        "since_us": site.since_us or None,
        "peer": site.peer,
        "software": str(site.about.get("software", ""))[:200],
        "clock_offset_ms": None if site.offset_us is None else round(site.offset_us / 1000, 3),
        "printers": [names.get(one, one) for one in node.scope.printers][:SCOPE_MAX],
        "groups": list(node.scope.groups)[:SCOPE_MAX],
        "serves_as": joining.names_in(node.server_pem) if node.server_pem else [],
        **_copy(services.objects.standing(node.guid)),
        "not_after_us": node.not_after_us or None,
        "created_us": node.created_us,
        "changed_us": node.changed_us,
    }


def _copy(standing: Standing | None) -> dict[str, Any]:
    """How far the site's copy of our objects has come, as it asked last."""
    return {
        "copy_position": None if standing is None else standing.position,
        "copy_us": None if standing is None else standing.asked_us,
        "copy_is_whole": standing is not None and standing.is_whole,
    }


_NAME = Argument("name", required=True, least=1, most=63, summary="Name a site.")
_SCOPE = (
    Argument(
        "printers",
        (list,),
        most=SCOPE_MAX,
        each=Argument("", least=1, most=127),
        summary="Printers that the site gets to know; without it all.",
    ),
    Argument(
        "groups",
        (list,),
        most=SCOPE_MAX,
        each=Argument("", least=1, most=255),
        summary="Groups of people that it gets to know; without it all.",
    ),
)

OPERATIONS = (
    Operation(
        "site.invite",
        (
            _NAME,
            *_SCOPE,
            Argument("is_approved", (bool,), default=False),
            Argument("ttl_s", (int,), default=INVITE_S, least=60, most=INVITE_S_MAX),
        ),
        ADMINS,
        LOCAL,
        invite,
        "A token for one node to join with.",
    ),
    Operation("site.approve", (_NAME, *_SCOPE), ADMINS, LOCAL, approve, "Let a site in."),
    Operation("site.revoke", (_NAME,), ADMINS, LOCAL, revoke, "Shut a site out for ever."),
    Operation(
        "site.list",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        STAFF,
        LOCAL,
        list_sites,
        "The sites, and who is invited.",
    ),
    Operation("site.show", (_NAME,), STAFF, LOCAL, show_site, "What is known of a site."),
    Operation("site.ca", (), JOINERS, JOINING_PORTS, show_ca, "The CA of the deployment."),
    Operation(
        "site.join",
        (
            Argument("request", required=True, most=joining.PEM_BYTES_MAX, summary="A CSR, PEM."),
            Argument("token", default="", most=200),
        ),
        JOINERS,
        JOINING_PORTS,
        join,
        "A certificate for a site.",
    ),
)
