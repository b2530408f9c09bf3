"""Which node a printer belongs to: named by people, kept by GUID."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from spoold.daemon.operations.context import Services
from spoold.daemon.operations.table import Call
from spoold.model.errors import OperationError
from spoold.model.job import Job, JobState
from spoold.model.printer import Printer
from spoold.model.text import plain
from spoold.spool import nodes


async def owner_of(call: Call) -> dict[str, Any]:
    """The field `owner` of a printer, when it was given.

    Raises:
        OperationError: `not-found`: no node of the deployment is called that.
    """
    name = call.args["owner"]
    return {} if name is None else {"owner": await find_node(call.services, name)}


async def find_node(services: Services, name: str) -> UUID | None:
    """The node of the deployment that is called that, or has that GUID; None is this one.

    Raises:
        OperationError: `not-found`.
    """
    if name in ("", services.node_name, str(services.node_guid)):
        return None
    node = await services.reader.look(nodes.find_called, name)
    if node is not None:
        return node.guid
    raise OperationError(
        "not-found",
        f"there is no node {plain(name)!r}.",
        "See `spoold site list`; a site joins by `spoold site invite`.",
    )


async def names_of_owners(services: Services, printers: Iterable[Printer]) -> dict[UUID, str]:
    """What the nodes are called that own these printers; those that this node knows.

    A site knows its application server alone.
    """
    owners = {one.owner for one in printers if one.owner is not None}
    if not owners:
        return {}
    known = await services.reader.look(nodes.names) | upstream_name(services)
    return dict.fromkeys(owners if services.line is not None else (), "another site") | known


def upstream_name(services: Services) -> dict[UUID, str]:
    """What the application server of this site is called, also while it is away."""
    line, copy = services.line, None if services.replica is None else services.replica.state
    if line is not None and line.upstream is not None:
        return {line.upstream.guid: line.upstream.name}
    return {} if copy is None else {copy.upstream: copy.upstream_name}


def absence(services: Services, printer: Printer, name: str) -> str:
    """What to say when the owner of a printer does not fetch its jobs now; "" when it does.

    Only an application server knows: sites have no lines to each other.
    """
    if printer.owner is None or services.line is not None or services.sites.is_up(printer.owner):
        return ""
    command = f"`spoold printer rehome --from-site {name}`"
    if not services.handing.is_site(printer.owner):
        return f"Its owner {name} was revoked, and jobs wait for nobody: {command}."
    return (
        f"Its owner {name} has no line now, and jobs wait for it. If it is dead for good: "
        f"{command}."
    )


async def why_not_printed(services: Services, job: Job, printer: Printer) -> str:
    """Why a job of another node's printer is where it is."""
    assert printer.owner is not None
    names = await names_of_owners(services, [printer])
    name = names.get(printer.owner, str(printer.owner))
    if job.state is not JobState.PENDING:
        return f"It is on its way to {name}, which prints it."
    if printer.paused:
        return f"{printer.name} is paused: {name} is given no more jobs of it."
    return absence(services, printer, name) or f"{name}, which prints it, is about to fetch it."
