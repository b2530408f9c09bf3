"""Local repair at a site that is cut off: `site.repair`; upstream `site.overrides`, `.settle`, and
for sites `.settled`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import ADMINS, KNOWN, LINES, LOCAL, SITES, STAFF
from spoold.daemon.operations.jobs import find_printer
from spoold.daemon.operations.printers import check_driver
from spoold.daemon.operations.settings import read_uri
from spoold.daemon.operations.sites import site_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.model.printer import Device
from spoold.spool import nodes, repairs
from spoold.spool.repairs import DEVICE, PAUSED, Repair, Told
from spoold.spool.store import RepairPrinter, SettleRepair

ROWS_MAX = 500


async def repair(call: Call) -> dict[str, Any]:
    """Change a printer of the application server here, as that cannot be asked."""
    services, args = call.services, call.args
    line = services.line
    if line is None or line.is_connected:
        raise OperationError(
            "not-possible",
            "this node is not cut off." if line else "this node is no site.",
            "Change the printer at its application server." if line else "Use `spoold printer`.",
        )
    if (args["paused"] is None) == (args["uri"] is None):
        raise OperationError("bad-request", "one thing is changed at a time: pause, or device.")
    async with services.changing:
        known = await services.catalogue.look()
        printer = find_printer(known, args["name"])
        if not printer.is_ours:
            raise OperationError(
                "not-possible",
                f"{printer.name} is printed by another node: here it would make no difference.",
                "Repair printers whose jobs this site prints: `spoold printer list`.",
            )
        if args["uri"] is None:
            field, value = PAUSED, args["reason"] if args["paused"] else None
        else:
            own = known.device_of(printer)
            if own is None:
                raise OperationError("not-possible", f"{printer.name} has no device.")
            address, options = read_uri(args["uri"])
            await check_driver(services, Device(0, own.guid, address, {**own.options, **options}))
            field, value = DEVICE, address
        now_us = services.wall_clock()
        change = RepairPrinter(printer.guid, field, value, now_us, call.actor)
        await services.journal.commit(change)
    services.dispatcher.wake(printer.id)
    return await overrides(call)


async def overrides(call: Call) -> dict[str, Any]:
    """What sites have changed and nobody has settled yet; at a site, what it has changed itself."""
    services = call.services
    found = await services.reader.look(repairs.find_all)
    known = await services.catalogue.look()
    printers = {one.guid: one.name for one in known.printers.values()}
    sites = await services.reader.look(nodes.names)
    sites[services.node_guid] = services.node_name

    def row(one: Repair) -> dict[str, Any]:
        return {
            "site": sites.get(one.site, str(one.site)),
            "printer": printers.get(one.printer, str(one.printer)),
            "field": one.field,
            "value": one.value,
            "was": one.was,
            "since_us": one.since_us,
            "actor": one.actor,
            "is_reverted": one.is_reverted,
        }

    return {"overrides": [row(one) for one in found[:ROWS_MAX]]}


async def settle(call: Call) -> dict[str, Any]:
    """Take what a site has changed of a printer over, for everybody, or have it taken back."""
    services, args = call.services, call.args
    async with services.changing:
        printer = find_printer(await services.catalogue.look(), args["name"])
        sites = await services.reader.look(nodes.names)
        found = [
            one
            for one in await services.reader.look(repairs.find_all)
            if one.printer == printer.guid
            and one.site != services.node_guid
            and args["site"] in (None, sites.get(one.site, str(one.site)))
        ]
        if not found:
            raise OperationError(
                "not-found",
                f"no site has changed {printer.name}.",
                "See `spoold site overrides list`.",
            )
        if len({one.site for one in found}) > 1:
            raise OperationError("bad-request", "several sites have changed it.", "Name one.")
        now_us = services.wall_clock()
        for one in found:
            change = SettleRepair(
                one.site, one.printer, one.field, args["accept"], now_us, call.actor
            )
            await services.journal.commit(change)
    return await overrides(call)


async def settled(call: Call) -> dict[str, Any]:
    """Which repairs the calling site is to end, of those that it tells of and of others."""
    site = await site_of(call)
    those = [_told(one) for one in call.args["repairs"]]
    found = await call.services.reader.look(repairs.over, site.guid, those)
    rows = sorted((printer.bytes, *rest) for printer, *rest in found)
    return {"settled": [list(one) for one in rows[:ROWS_MAX]]}


def _told(values: list[Any]) -> Told:
    """Raises: OperationError: `bad-request`."""
    match values:
        case [bytes(printer), str(field), bytes(incarnation), int(position), bytes(hash_)] if (
            len(printer) == len(incarnation) == 16 and 0 <= position < 2**63
        ):
            return Told(UUID(bytes=printer), field, UUID(bytes=incarnation), position, hash_)
    raise OperationError(
        "bad-request", "repairs has one that is not [printer, field, incarnation, position, hash]."
    )


_NAME = Argument("name", required=True, least=1, most=127, summary="A printer.")

OPERATIONS = (
    Operation(
        "site.repair",
        (
            _NAME,
            Argument("paused", (bool,)),
            Argument("reason", default="", most=200, summary="Why it is paused."),
            Argument("uri", least=1, most=1024, summary="Where its device is now."),
        ),
        ADMINS,
        LOCAL,
        repair,
        "Change a printer of the application server while the site is cut off.",
    ),
    Operation("site.overrides", (), STAFF, KNOWN, overrides, "What sites have changed so."),
    Operation(
        "site.settle",
        (
            _NAME,
            Argument("accept", (bool,), required=True),
            Argument("site", most=127, summary="Where several sites have changed it."),
        ),
        ADMINS,
        LOCAL,
        settle,
        "Take a site's change of a printer over, or have it taken back.",
    ),
    Operation(
        "site.settled",
        (
            Argument(
                "repairs", (list,), default=[], most=ROWS_MAX, each=Argument("", (list,), most=5)
            ),
        ),
        SITES,
        LINES,
        settled,
        "Which of its repairs a site is to end.",
    ),
)
