"""`status`: is everything all right, and if not, what to do; one answer that fits a screen."""

from __future__ import annotations

from typing import Any

import trio

from spoold import __version__
from spoold.daemon import backup
from spoold.daemon.operations.access import EVERYBODY, EVERYWHERE
from spoold.daemon.operations.copies import copy_map
from spoold.daemon.operations.emergency import emergency_map
from spoold.daemon.operations.membership import line_map
from spoold.daemon.operations.showing import advice_on
from spoold.daemon.operations.table import Call, Operation
from spoold.daemon.operations.watch import Known
from spoold.model.job import JobState
from spoold.model.node import Node, NodeState
from spoold.model.principal import Role
from spoold.spool import chains, exposure, handed, nodes, repairs
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
    counts = await services.reader.counts()
    printers: dict[str, int] = {}
    for printer_id in known.printers:
        doing = services.dispatcher.status(printer_id).state
        printers[doing] = printers.get(doing, 0) + 1
    finished, kept_bytes = await services.reader.finished_totals()
    space = await trio.to_thread.run_sync(services.documents.space)
    aside = await trio.to_thread.run_sync(services.documents.quarantined)
    last = await trio.to_thread.run_sync(backup.last, services.config.node.data_dir)
    chain = await services.reader.look(chains.own)
    checks = services.checks()
    paused = sorted(one.name for one in known.printers.values() if one.paused)
    known_nodes = await services.reader.look(nodes.find_all)
    sites = [one for one in known_nodes if one.is_approved]
    waiting = [one.name for one in known_nodes if one.state is NodeState.PENDING]
    return {
        "state": "up",
        "verdict": health.worst(checks).value,
        "checks": health.as_maps(checks),
        "node_name": services.node_name,
        "node_guid": str(services.node_guid),
        "version": __version__,
        "uptime_s": max(0, services.wall_clock() - services.started_us) // 1_000_000,
        "jobs": _by_state(counts),
        "jobs_finished": finished,
        "documents_finished_bytes": kept_bytes,
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
        "overrides": len(await services.reader.look(repairs.find_all)),
        "sites_exposed": await _exposed(call, sites),
        "backup_us": (last or {}).get("made_us"),
        "backup_path": str((last or {}).get("path", ""))[:1000],
        "copy": copy_map(services.replica),
        "emergency": await emergency_map(services),
        "at_stake": await _at_stake(call, counts),
        "restored_us": chain.started_us if chain.parent_incarnation is not None else None,
    }


async def _exposed(call: Call, sites: list[Node]) -> dict[str, int]:
    """Sites that are cut off, and how many people and machines may do more there than here."""
    found: dict[str, int] = {}
    for site in sites:
        since = await call.services.objects.untold_from(site.guid)
        if since is not None and len(found) < NAMES_SHOWN_MAX:
            count = await call.services.reader.look(exposure.count_untold, since)
            if count:
                found[site.name] = count
    return found


async def _at_stake(call: Call, counts: dict[int, dict[JobState, int]]) -> dict[str, int | None]:
    """What would be lost if this machine died for good now.

    `jobs` are unfinished and here alone, `jobs_elsewhere` those that another node has; `records`
    are those that the application server does not have, None where there is none.
    """
    services = call.services
    elsewhere: int = await services.reader.look(handed.count_handed)
    unfinished = sum(sum(by_state.values()) for by_state in counts.values())
    uplink = services.uplink
    return {
        "jobs": max(0, unfinished - elsewhere),
        "jobs_elsewhere": elsewhere,
        "records": None if uplink is None else uplink.lag,
    }


def _by_state(counts: dict[int, dict[JobState, int]]) -> dict[str, int]:
    jobs: dict[str, int] = {}
    for by_state in counts.values():
        for state, count in by_state.items():
            jobs[state.value] = jobs.get(state.value, 0) + count
    return jobs


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
