"""Rights of sites, and what holds where they are alone: `site.rights`, `.holdings`, `.policy`, …"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import ADMINS, KNOWN, LINES, LOCAL, MONEY, SITES
from spoold.daemon.operations.holders import Names
from spoold.daemon.operations.sites import is_copied, site_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.model.money import AMOUNT_MAX
from spoold.model.node import Node, NodeState
from spoold.model.offline import (
    Choice,
    OfflinePolicy,
    RightsOut,
    Strangers,
    Want,
    check_policy,
)
from spoold.model.person import normalise_name
from spoold.model.purse import Payer, PayerKind
from spoold.model.user import PASSWORD_CHARACTERS_MAX
from spoold.site import rights_wire
from spoold.spool import accounts, escrow, leases, nodes, policies
from spoold.spool.store import Granted, PutPolicy

TOGETHER_MAX = 100
KEY_BYTES = 16
ROWS_MAX = 500
RECALLED_MAX = 1  # holders for whom one question waits


async def ask(call: Call) -> dict[str, Any]:
    """Rights for the site that calls."""
    site, services = await site_of(call), call.services
    now_us = services.wall_clock()
    change = rights_wire.read_asked(site.guid, call.args, now_us, site.identity)
    its = [one for one in change.wants if await is_its(call, site, one.kind, one.holder)]
    here = services.sites.find(site.guid)
    told = () if here is None else rights_wire.read_books(here.about)
    change = replace(change, wants=tuple(its), books=told)
    if services.recalling is not None:
        withheld = services.recalling.withheld(site.guid, change.wants)
        change = replace(change, withheld=withheld)
    granted: Granted = await services.journal.commit(change)
    lacking = [one for one in change.wants if one.least > _has(one, granted)]
    if lacking and services.recalling is not None:
        for one in lacking[:RECALLED_MAX]:
            payer, least = Payer(one.kind, one.holder), one.least - _has(one, granted)
            await services.recalling.recall(payer, least, site.guid)
        granted = await services.journal.commit(change)
    return rights_wire.told(granted)


async def is_its(call: Call, site: Node, kind: PayerKind, holder: UUID) -> bool:
    """Whether a site may have money of this holder: shared accounts are at each, people are not."""
    if kind is PayerKind.ACCOUNT or not site.scope.groups:
        return True
    user = await call.services.reader.user_by_guid(holder)
    return user is not None and await is_copied(call, site, user)


def _has(want: Want, granted: Granted) -> int:
    """What a site has of a holder's money with what it was granted."""
    total = sum(one.amount for one in granted.rights if one.purse.holder == want.holder)
    return want.has + total - want.known


async def password(call: Call) -> dict[str, Any]:
    """Whether a password is right, for a site that cannot ask the directory.

    Failures count for the person at that site, so that nobody can try more there than elsewhere,
    nor keep the others of the site out.
    """
    site = await site_of(call)
    where, name = site.identity, normalise_name(call.args["name"])
    await call.services.authentication.password(
        name, call.args["password"], where, f"{where}/{name}"
    )
    return {"is_right": True}


async def _site(call: Call, name: str) -> Node:
    for node in await call.services.reader.look(nodes.find_all):
        if name in (node.name, str(node.guid)) and node.state is not NodeState.REVOKED:
            return node
    raise nodes.unknown(name)


async def holdings(call: Call) -> dict[str, Any]:
    """What a site may spend of whose money; without a name, what this node holds as a site."""
    services, args = call.services, call.args
    own = await services.reader.look(leases.own)
    if args["name"] is not None:
        guid = (await _site(call, args["name"])).guid
    elif own is not None:
        guid = own.site
    else:
        advice = "See `spoold site list`; a site itself has rights once it has joined."
        raise OperationError("bad-request", "no site is named.", advice)
    after = args["after_id"]
    try:
        key = bytes.fromhex(after)
    except ValueError:
        raise OperationError("bad-request", "that is no next_after_id.") from None
    look, now_us = services.reader.look, services.wall_clock()
    found = await look(escrow.holdings, guid, key, args["limit"] + 1, now_us)
    page = found[: args["limit"]]
    names = await Names.of(services, [one.holder for one in page])
    rows = [
        {"holder": names.holder(one.holder), "granted": one.granted, "left": one.left}
        for one in page
    ]
    lease = await services.reader.look(leases.find, guid)
    more = len(found) > args["limit"]
    return {
        "site": str(guid),
        "epoch": None if lease is None else lease.epoch,
        "until_us": None if lease is None else lease.until_us,
        "is_frozen": lease is not None and lease.is_frozen,
        "rights": rows,
        "next_after_id": page[-1].holder.hex if more else None,
    }


# -- policies ----------------------------------------------------------------------------------


async def show_policies(call: Call) -> dict[str, Any]:
    """What was set, by site; on a site, what holds there."""
    services = call.services
    own = await services.reader.look(leases.own)
    if own is not None:
        return {"policies": [{"site": services.node_name, **own.policy.as_map()}]}
    names = await services.reader.look(nodes.names)
    found: dict[UUID | None, OfflinePolicy] = {None: OfflinePolicy()}
    found |= await services.reader.look(policies.find_all)
    rows = [
        {"site": "" if guid is None else names.get(guid, str(guid)), **policy.as_map()}
        for guid, policy in found.items()
    ]
    return {"policies": rows[:ROWS_MAX]}


async def set_policy(call: Call) -> dict[str, Any]:
    """Change what is named of a site's policy, or of that of all sites that have none."""
    services, args = call.services, call.args
    if services.membership is not None and services.membership.is_joined:
        raise OperationError(
            "not-possible",
            "what holds at this site is decided at its application server.",
            "Ask there: `spoold site policy`.",
        )
    guid = None if args["name"] is None else (await _site(call, args["name"])).guid
    policy: OfflinePolicy | None = None
    async with services.changing:
        if not args["reset"]:
            before = await services.reader.look(leases.policy_of, guid or leases.EVERY_SITE)
            policy = check_policy(replace(before, **_given(args)))
            await _check_account(call, policy)
        change = PutPolicy(guid, policy, services.wall_clock(), call.actor)
        await services.journal.commit(change)
    return await show_policies(call)


def _given(args: dict[str, Any]) -> dict[str, Any]:
    given = {key: args[key] for key in OfflinePolicy().as_map() if args[key] is not None}
    for key, kind in (("rights_out", RightsOut), ("strangers", Strangers), ("choice", Choice)):
        if key in given:
            given[key] = kind(given[key])
    return given


async def _check_account(call: Call, policy: OfflinePolicy) -> None:
    if policy.account and not await call.services.reader.look(accounts.by_name, policy.account):
        raise OperationError("not-found", "there is no such account.", "See `spoold account list`.")


def _keyword(name: str, kind: type[RightsOut] | type[Strangers] | type[Choice]) -> Argument:
    return Argument(name, choices=tuple(one.value for one in kind))


_NAME = Argument("name", most=127, summary="A site; without it all that have no policy.")

OPERATIONS = (
    Operation(
        "site.rights",
        (
            Argument("incarnation", required=True, least=36, most=36),
            Argument("epoch", (int,), required=True, most=leases.EPOCH_MAX),
            Argument("upstream", least=36, most=36, summary="Whose grants it holds."),
            Argument(
                "wants", (list,), default=[], most=TOGETHER_MAX, each=Argument("", (list,), most=5)
            ),
            Argument(
                "held", (list,), default=[], most=TOGETHER_MAX, each=Argument("", (list,), most=3)
            ),
        ),
        SITES,
        LINES,
        ask,
        "Rights to spend people's money, for a site.",
    ),
    Operation(
        "site.password",
        (
            Argument("name", required=True, least=1, most=255),
            Argument("password", required=True, least=1, most=PASSWORD_CHARACTERS_MAX),
        ),
        SITES,
        LINES,
        password,
        "Whether a password is right, for a site that cannot ask a directory.",
    ),
    Operation(
        "site.holdings",
        (
            Argument("name", most=127),
            Argument("after_id", default="", most=2 * KEY_BYTES),
            Argument("limit", (int,), default=100, least=1, most=ROWS_MAX),
        ),
        MONEY,
        KNOWN,
        holdings,
        "What a site may spend of whose money.",
    ),
    Operation("site.policies", (), MONEY, KNOWN, show_policies, "What holds at sites cut off."),
    Operation(
        "site.set-policy",
        (
            _NAME,
            Argument("reset", (bool,), default=False, summary="No policy of its own any more."),
            _keyword("rights_out", RightsOut),
            _keyword("strangers", Strangers),
            _keyword("choice", Choice),
            Argument("account", most=200, summary="The shared account of these rules."),
            Argument("overdraft", (int,), least=0, most=AMOUNT_MAX),
            Argument("passwords", (bool,)),
            Argument("password_days", (int,), least=0, most=365),
            Argument("share", (int,), least=0, most=100, summary="Per cent of a balance."),
            Argument("most", (int,), least=0, most=AMOUNT_MAX),
            Argument("valid_hours", (int,), least=1, most=24 * 90),
            Argument("ahead", (bool,), summary="Rights for everybody, not only who was there."),
            Argument("need_share", (int,), least=0, most=100, summary="At need, per cent."),
            Argument("need_most", (int,), least=0, most=AMOUNT_MAX),
            Argument("alarm", (int,), least=0, most=AMOUNT_MAX, summary="At need, in a day."),
        ),
        ADMINS,
        LOCAL,
        set_policy,
        "Decide in advance what holds at a site that is cut off.",
    ),
)
