"""Sites, as their application server serves them: what goes over a line, `site.hello` first.

The operations by which an administrator lets sites in are in `joining`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spoold import __version__
from spoold.daemon.operations.access import LINES, SITES
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.model.node import Node, NodeState, common_version
from spoold.model.user import User
from spoold.spool import guests, nodes

VERSIONS_MAX = 64


async def site_of(call: Call) -> Node:
    """The site that calls.

    Raises:
        OperationError: `forbidden`: it is approved no more.
    """
    guid = UUID(call.principal.identity.removeprefix("node:"))
    node = await call.services.reader.look(nodes.find, guid)
    if node is None or node.state is not NodeState.APPROVED:
        raise OperationError("forbidden", "this site is not approved.", "See `spoold site list`.")
    return node


def refusal_arguments(summary: str) -> tuple[Argument, ...]:
    """How a site says that it did not do something; `refusal_of` reads it."""
    return (
        Argument("error", most=64, summary=summary),
        Argument("message", default="", most=1024),
        Argument("advice", default="", most=1024),
    )


def refusal_of(site: Node, args: dict[str, Any]) -> OperationError | None:
    """Why a site did not do something, in its words; None: it did."""
    if args["error"] is None:
        return None
    return OperationError(args["error"], f"{site.name}: {args['message']}", args["advice"])


async def is_copied(call: Call, site: Node, user: User) -> bool:
    """Whether a site has a copy of somebody, by its groups or as of a guest."""
    groups, key = set(site.scope.groups), user.guid.bytes
    if not groups or not groups.isdisjoint(user.groups):
        return True
    return bool(await call.services.reader.look(guests.among, site.guid, (key,)))


async def hello(call: Call) -> dict[str, Any]:
    """The first on a line: who both are, and where each stands. `more` is for the rooms."""
    services, args = call.services, call.args
    version = common_version(args["versions"])
    node = await site_of(call)
    now_us = services.wall_clock()
    more = await services.sites.greet(node, call.principal.address, args, args["clock_us"] - now_us)
    journal, incarnation = services.journal.identity
    return {
        "version": version,
        "guid": str(services.node_guid),
        "name": services.node_name,
        "software": f"spoold/{__version__}",
        "journal": journal,
        "incarnation": incarnation,
        "position": services.journal.head,
        "clock_us": services.wall_clock(),
        "endpoints": list(services.config.advertise.endpoints_for(call.principal.address))[:50],
        "more": more,
    }


async def follow(call: Call) -> dict[str, Any]:
    """What the application server tells a site, until one of them ends it."""
    node = await site_of(call)
    async with call.services.sites.follow(node) as follower:
        while found := await follower.take():
            for event, args in found:
                await call.send_event(event, args)
    return {"reason": "replaced"}


async def clock(call: Call) -> dict[str, Any]:
    return {"clock_us": call.services.wall_clock()}


OPERATIONS = (
    Operation(
        "site.hello",
        (
            Argument(
                "versions",
                (list,),
                required=True,
                least=1,
                most=VERSIONS_MAX,
                each=Argument("", (int,)),
                summary="The versions of the line that the site speaks.",
            ),
            Argument("software", default="", summary="For people and logs."),
            Argument("journal", required=True, least=36, most=36, summary="The site's journal."),
            Argument("incarnation", required=True, least=36, most=36),
            Argument("position", (int,), required=True, summary="Where it ends."),
            Argument("clock_us", (int,), required=True, summary="The site's clock, UTC µs."),
            Argument("more", (dict,), default={}, summary="What the rooms of the site say."),
        ),
        SITES,
        LINES,
        hello,
        "The first on the line of a site.",
    ),
    Operation("site.follow", (), SITES, LINES, follow, "What a site is told."),
    Operation("site.clock", (), SITES, LINES, clock, "The clock of the application server."),
)
