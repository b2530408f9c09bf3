"""`printer.rehome`: the printers of a site that is dead for good are given to another node.

What waits here prints at the new owner. What the old one had may have come out there: it is held in
doubt until somebody settles it. Should the old owner return, it holds what it still has of these
printers (`site/fencing.py`). What stood at it alone is told: nobody prints that any more.
"""

from __future__ import annotations

from typing import Any

from spoold.daemon.operations.access import ADMINS, LOCAL
from spoold.daemon.operations.ownership import find_node
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.model.text import plain
from spoold.spool import remote_views
from spoold.spool.remote_views import OnlyThere

NAMES_SHOWN_MAX = 200


async def rehome(call: Call) -> dict[str, Any]:
    services, args = call.services, call.args
    async with services.changing:
        old = await find_node(services, args["from_site"])
        new = await find_node(services, args["to"])
        if old is None or old == new:
            raise OperationError(
                "bad-request",
                "the printers are there already.",
                "Name two different nodes; by its GUID (`spoold site list`) one whose name another "
                "has by now.",
            )
        known = await services.catalogue.look()
        found = sorted(
            (one for one in known.printers.values() if one.owner == old),
            key=lambda printer: printer.name,
        )
        if not found:
            raise OperationError(
                "not-found",
                f"{plain(args['from_site'])} owns no printers.",
                "See `spoold printer list`.",
            )
        lost = await services.reader.look(remote_views.only_at, old)
        in_doubt = await services.handing.doubtful(old)
        if not args["dry_run"]:
            in_doubt = await services.handing.rehome(found, old, new, call.actor)
    return {
        "printers": [one.name for one in found[:NAMES_SHOWN_MAX]],
        "count": len(found),
        "in_doubt": in_doubt,
        "only_there": lost.jobs,
        "held_there": lost.held,
        "advice": _advice(args["from_site"], in_doubt, lost),
    }


def _advice(name: str, in_doubt: int, lost: OnlyThere) -> list[str]:
    found = []
    if in_doubt:
        found.append("Settle what is in doubt: `spoold job list --reason job-in-doubt`.")
    if lost.jobs:
        found.append(
            f"What stands at {plain(name)} alone, its owners have to submit again: "
            f"`spoold job list --site {plain(name)} --state unfinished`."
        )
    return found


OPERATIONS = (
    Operation(
        "printer.rehome",
        (
            Argument("from_site", required=True, least=1, most=63, summary="The node they leave."),
            Argument("to", default="", most=63, summary="The node they go to; empty is this one."),
            Argument("dry_run", (bool,), default=False, summary="Only say what would happen."),
        ),
        ADMINS,
        LOCAL,
        rehome,
        "Give all printers of a node to another one.",
    ),
)
