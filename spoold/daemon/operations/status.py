"""`status`: is everything all right, and if not, what to do; one answer that fits a screen."""

from __future__ import annotations

from typing import Any

import trio

from spoold import __version__
from spoold.daemon import backup
from spoold.daemon.operations import emergency
from spoold.daemon.operations.access import EVERYBODY, EVERYWHERE
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.copies import copy_map
from spoold.daemon.operations.membership import line_map
from spoold.daemon.operations.showing import advice_on
from spoold.daemon.operations.table import Call, Operation
from spoold.daemon.operations.watch import Known
from spoold.model.node import Node, NodeState
from spoold.model.principal import Role
from spoold.spool import overview
from spoold.spool.documents import Space
from spoold.spool.overview import Overview
from spoold.web import health

STOPPED_MAX = 10
NAMES_SHOWN_MAX = 20  # of a kind


async def status(call: Call) -> dict[str, Any]:
    """How the node is; to those without credentials only that it is there."""
    services = call.services
    if not call.is_staff:
        shown = {"state": "up", "version": __version__}
        if Role.PROVIDER in call.roles:
            shown |= {"node_name": services.node_name, "node_guid": str(services.node_guid)}
        return shown
    known = await services.catalogue.look()
    found = await services.reader.look(overview.look)
    sites = [one for one in found.nodes if one.is_approved]
    waiting = [one.name for one in found.nodes if one.state is NodeState.PENDING]
    space, aside, last = await trio.to_thread.run_sync(_look_at_disk, services)
    printers: dict[str, int] = {}
    for printer_id in known.printers:
        doing = services.dispatcher.status(printer_id).state
        printers[doing] = printers.get(doing, 0) + 1
    checks = services.checks()
    paused = sorted(one.name for one in known.printers.values() if one.paused)
    return {
        "state": "up",
        "verdict": health.worst(checks).value,
        "checks": health.as_maps(checks),
        "node_name": services.node_name,
        "node_guid": str(services.node_guid),
        "version": __version__,
        "uptime_s": max(0, services.wall_clock() - services.started_us) // 1_000_000,
        "jobs": {state.value: count for state, count in found.unfinished.items()},
        "jobs_finished": found.finished,
        "documents_finished_bytes": found.kept_bytes,
        "printers": printers,
        "paused": len(paused),
        "paused_names": paused[:NAMES_SHOWN_MAX],
        "stopped": _stopped(call, known),
        "spool_free_bytes": space.free_bytes,
        "spool_total_bytes": space.total_bytes,
        "quarantined": len(aside),
        "quarantined_bytes": sum(aside.values()),
        "journal_head": services.journal.head,
        "connections": dict(services.connections()),
        "line": None if services.line is None else line_map(call),
        "sites": len(sites),
        "sites_gone": [one.name for one in sites if not services.sites.is_up(one.guid)][
            :NAMES_SHOWN_MAX
        ],
        "sites_pending": waiting[:NAMES_SHOWN_MAX],
        "overrides": found.overrides,
        "sites_exposed": await _exposed(services, sites),
        "backup_us": (last or {}).get("made_us"),
        "backup_path": str((last or {}).get("path", ""))[:1000],
        "copy": copy_map(services.replica),
        "emergency": emergency.as_map(found.emergency, services.wall_clock()),
        "at_stake": _at_stake(services, found),
        "restored_us": found.chain.started_us if found.chain.parent_incarnation else None,
    }


def _look_at_disk(services: Services) -> tuple[Space, dict[str, int], dict[str, Any] | None]:
    """The room there is, what stands aside, and the last backup."""
    documents = services.documents
    last = backup.last(services.config.node.data_dir)
    return documents.space(), documents.quarantined(), last


async def _exposed(services: Services, sites: list[Node]) -> dict[str, int]:
    """Sites that are cut off, and how many people and machines may do more there than here."""
    untold = await services.objects.untold(one.guid for one in sites)
    found = [(one.name, untold[one.guid]) for one in sites if one.guid in untold]
    return dict(found[:NAMES_SHOWN_MAX])


def _at_stake(services: Services, found: Overview) -> dict[str, int | None]:
    """What would be lost if this machine died for good now.

    `jobs` are unfinished and here alone, `jobs_elsewhere` those that another node has; `records`
    are those that the application server does not have, None where there is none.
    """
    uplink = services.uplink
    return {
        "jobs": max(0, sum(found.unfinished.values()) - found.elsewhere),
        "jobs_elsewhere": found.elsewhere,
        "records": None if uplink is None else uplink.lag,
    }


def _stopped(call: Call, known: Known) -> list[dict[str, Any]]:
    """The printers that do not print, and what to do; those first for which most jobs wait."""
    found = sorted(call.services.stopped(), key=lambda one: (-one.waiting, one.since_us))
    shown = []
    for one in found[:STOPPED_MAX]:
        printer = known.printers.get(one.printer_id)
        if printer is None:
            continue
        doing = call.services.dispatcher.status(printer.id)
        advice = advice_on(printer, doing, 0)
        shown.append(
            {
                "name": printer.name,
                "since_us": one.since_us,
                "reasons": list(doing.reasons)[:5] or [one.reason],
                "message": doing.message[:200],
                "waiting": one.waiting,
                "advice": advice[0] if advice else f"`spoold printer show {printer.name}`.",
            }
        )
    return shown


OPERATIONS = (Operation("status", (), EVERYBODY, EVERYWHERE, status, "How the node is."),)
