"""Looking at printers and devices: `printer.list`, `printer.show`, `device.list`, `device.show`.

A printer is shown with its queue, with what the dispatcher knows of its device, and with advice
on whatever an operator can do about it now.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import trio

from spoold.daemon.operations.access import KNOWN, STAFF
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.conversions import conversion_map
from spoold.daemon.operations.jobs import AFTER_ID, find_printer
from spoold.daemon.operations.ownership import absence, names_of_owners
from spoold.daemon.operations.settings import read_uri
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, plain_value, uuid_of
from spoold.daemon.operations.watch import Known
from spoold.dispatch.status import PrinterStatus
from spoold.driver.link import DeviceStatus
from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.person import Known as HowKnown
from spoold.model.printer import Device, Printer
from spoold.model.release import SOMEBODY_CHOOSES, Charging
from spoold.model.text import plain
from spoold.spool import accounts, nodes, repairs
from spoold.spool.store import JobFilter

PAGE_MAX = 200
ASK_S = 3.0  # for a device to say how it is

Counts = dict[JobState, int]


def midnight_us(now_us: int) -> int:
    """When the day of `now_us` began, where this machine is."""
    day = datetime.fromtimestamp(now_us / 1e6).astimezone()
    return int(day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1_000_000


def printer_map(
    printer: Printer, known: Known, status: PrinterStatus, counts: Counts, interrupted: int
) -> dict[str, Any]:
    device = known.device_of(printer)
    return {
        "id": printer.id,
        "guid": str(printer.guid),
        "name": printer.name,
        "state": status.state,
        "reasons": list(status.reasons),
        "message": status.message,
        "accepting": printer.accepting,
        "paused": printer.paused,
        "pause_reason": printer.pause_reason,
        "uri": device.uri if device else "",
        "device_guid": str(device.guid) if device else "",
        "options": dict(device.options) if device else {},
        "members": list(printer.members),
        "standby": list(printer.standby),
        "order": printer.order.value,
        "in_doubt": printer.in_doubt.value,
        "when_unreachable": printer.when_unreachable.value,
        "formats": list(printer.formats),
        "conversions": [conversion_map(one) for one in printer.conversions],
        "hold_new_jobs": printer.hold_new_jobs,
        "least_owner": printer.least_owner.value,
        "info": printer.info,
        "location": printer.location,
        "geo_location": printer.geo_location,
        "organization": printer.organization,
        "organizational_unit": printer.organizational_unit,
        "more_info": printer.more_info,
        "shared": printer.shared,
        "release": printer.release.value,
        "releases_at": list(printer.releases_at),
        "keep_held_s": printer.keep_held_s,
        "charging": printer.charging.value,
        "default_account": printer.default_account,
        "policies": [str(one) for one in printer.policies],
        "senders": [str(one) for one in printer.senders],
        "owner": "" if printer.owner is None else str(printer.owner),
        "changed_us": printer.changed_us,
        "jobs": {
            "pending": counts.get(JobState.PENDING, 0),
            "held": counts.get(JobState.PENDING_HELD, 0),
            "processing": counts.get(JobState.PROCESSING, 0)
            + counts.get(JobState.PROCESSING_STOPPED, 0),
        },
        "interrupted_today": interrupted,
        "active_job_id": status.active_job_id,
        "bytes_sent": status.bytes_sent,
        "retry_at_us": status.retry_at_us,
        "failures": status.failures,
        "supplies": plain_value(status.supplies),
        "said_us": status.said_us,
        "advice": advice_on(printer, status, interrupted),
    }


def advice_on(printer: Printer, status: PrinterStatus, interrupted: int) -> list[str]:
    """What an operator can do about the printer as it is."""
    name = printer.name
    told = []
    if printer.paused:
        told.append(f"It is paused: `spoold printer resume {name}`.")
    if not printer.accepting:
        told.append(f"It takes no new jobs: `spoold printer set {name} --accepting on`.")
    is_at_once = not printer.release.is_secure and printer.charging is Charging.ON
    if is_at_once and printer.least_owner is HowKnown.CLAIMED:
        told.append(
            "Whoever claims to be somebody prints at their cost: `spoold printer set "
            f"{name} --least-owner authenticated`, or --release hold."
        )
    if status.failures and status.retry_at_us is not None:
        told.append(
            "Its device is tried again by itself; look at its power, cable and paper, or move "
            f"the jobs: `spoold printer redirect {name} OTHER`."
        )
    if "stalled" in status.reasons and status.active_job_id is not None:
        told.append(
            f"Its device has stopped in the middle of job {status.active_job_id}, which goes on by "
            "itself when the device does: look at its paper and panel, or "
            f"`spoold job cancel {status.active_job_id}`."
        )
    if interrupted:
        told.append(
            f"Submissions that broke off today: {interrupted}. They were held, as their ends may "
            f"be missing: `spoold job list --printer {name} --reason submission-interrupted`. If "
            'the sender keeps its connection open between jobs, set ends_on = "idle 2s" for its '
            "listener."
        )
    return told


async def _repaired(services: Services) -> dict[UUID, list[str]]:
    """What sites have changed of printers while they were cut off, and nobody has settled."""
    names = await services.reader.look(nodes.names) | {services.node_guid: "This site"}
    told: dict[UUID, list[str]] = {}
    for one in await services.reader.look(repairs.find_all):
        did = f"has its device at {one.value}"
        if one.field == repairs.PAUSED:
            did = "lets it print" if one.value is None else "has paused it"
        told.setdefault(one.printer, []).append(
            f"{names.get(one.site, one.site)} {did}, by a repair: `spoold site overrides list`."
        )
    return told


async def maps_of(call: Call, known: Known, printers: Iterable[Printer]) -> list[dict[str, Any]]:
    """Each printer as it is now."""
    services = call.services
    counts = await services.reader.counts()
    since_us = midnight_us(services.wall_clock())
    owners = await names_of_owners(services, printers := list(printers))
    repaired = await _repaired(services)
    shown = []
    for printer in printers:
        one = printer_map(
            printer,
            known,
            services.dispatcher.status(printer.id),
            counts.get(printer.id, {}),
            await services.reader.interrupted(printer.id, since_us),
        )
        if printer.owner is not None:
            one["owner"] = owners.get(printer.owner, one["owner"])
            if gone := absence(services, printer, one["owner"]):
                one["advice"].append(gone)
        one["advice"] += repaired.get(printer.guid, [])
        told = services.announced(printer.id)
        one["announced_as"] = told.name
        if told.trouble:
            one["advice"].append(f"It is shared, but not announced: {told.trouble}.")
        one["advice"] += await _missing_accounts(call, printer)
        shown.append(one)
    return shown


async def _missing_accounts(call: Call, printer: Printer) -> list[str]:
    """Advice on accounts that a printer names and nobody has added: jobs would wait for them."""
    named = {printer.default_account, *(one.account for one in printer.senders)}
    named -= {"", SOMEBODY_CHOOSES}
    missing = await call.services.reader.look(accounts.missing, named) if named else []
    return [
        f"It names the account {plain(one[:60])}, which is not there: `spoold account add`."
        for one in missing
    ]


async def list_printers(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    after, limit = call.args["after_id"], call.args["limit"]
    names = sorted(name for name in known.by_name if name > after)
    shown = await maps_of(call, known, (known.by_name[name] for name in names[:limit]))
    if call.args["whole"]:
        for one in shown:
            one["offer"] = known.by_name[one["name"]].options
    page, more = fitting(shown, limit)
    more = more or len(names) > len(page)
    return {"printers": page, "next_after_id": page[-1]["name"] if more else None}


async def show_printer(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    printer = find_printer(known, call.args["name"])
    said = await _ask(call, known.device_of(printer))
    (shown,) = await maps_of(call, known, [printer])
    shown["offer"] = printer.options
    if said is not None and not said.reachable and not shown["failures"]:
        shown["advice"].append(f"It cannot be asked how it is now: {said.detail}")
    in_doubt = JobFilter(
        states=(JobState.PENDING_HELD,),
        printer_id=printer.id,
        reason=JobReason.JOB_IN_DOUBT,
        limit=1,
    )
    for job in await call.services.reader.jobs(in_doubt):
        shown["advice"].append(
            f"Nobody knows whether job {job.id} printed, and maybe others: `spoold job list "
            f"--printer {printer.name} --reason job-in-doubt`, then `spoold job settle`."
        )
    return shown


# -- devices -----------------------------------------------------------------------------------


def device_map(device: Device, known: Known) -> dict[str, Any]:
    return {
        "id": device.id,
        "guid": str(device.guid),
        "uri": device.uri,
        "options": dict(device.options),
        "serial": device.serial,
        "printers": [printer.name for printer in known.sharing(device.id)][:100],
    }


async def list_devices(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    limit = call.args["limit"]
    ids = sorted(id_ for id_ in known.devices if id_ > call.args["after_id"])
    page, more = fitting((device_map(known.devices[id_], known) for id_ in ids), limit)
    return {"devices": page, "next_after_id": page[-1]["id"] if more else None}


async def show_device(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    device = _find_device(known, call.args["device"])
    said = await _ask(call, device)
    status = PrinterStatus()
    for printer in known.sharing(device.id):
        status = call.services.dispatcher.status(printer.id)
        if status.active_job_id is not None:
            break
    return {
        **device_map(device, known),
        "state": status.state,
        "reasons": list(status.reasons),
        "message": status.message,
        "active_job_id": status.active_job_id,
        "retry_at_us": status.retry_at_us,
        "failures": status.failures,
        "supplies": plain_value(status.supplies),
        "said_us": status.said_us,
        "says": None if said is None else said_map(said),
    }


async def _ask(call: Call, device: Device | None) -> DeviceStatus | None:
    """How the device says that it is; None for one that cannot be asked, or does not answer."""
    with trio.move_on_after(ASK_S):
        return None if device is None else await call.services.dispatcher.ask(device.id)
    return None


def said_map(said: DeviceStatus) -> dict[str, Any]:
    return {
        "reachable": said.reachable,
        "reasons": list(said.reasons),
        "detail": said.detail,
        "counters": plain_value(said.counters),
    }


def _find_device(known: Known, name: int | str) -> Device:
    """A device by its number, its GUID, its URI, or the name of a printer that points to it.

    Raises:
        OperationError: `not-found`.
    """
    text = str(name)
    if text.isascii() and text.isdigit() and (found := known.devices.get(int(text))) is not None:
        return found
    if (printer := known.by_name.get(text)) and (found := known.device_of(printer)) is not None:
        return found
    guid = uuid_of(text)
    uri = read_uri(text)[0] if "://" in text else None
    for device in known.devices.values():
        if device.guid == guid or device.uri == uri:
            return device
    raise OperationError(
        "not-found", f"there is no device {plain(text[:200])!r}.", "See `spoold device list`."
    )


_LIMIT = Argument("limit", (int,), default=PAGE_MAX, least=1, most=PAGE_MAX)

OPERATIONS = (
    Operation(
        "printer.list",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            _LIMIT,
            Argument("whole", (bool,), default=False, summary="With what each of them offers."),
        ),
        STAFF,
        KNOWN,
        list_printers,
        "The printers, by name.",
    ),
    Operation(
        "printer.show",
        (Argument("name", required=True, summary="Name a printer."),),
        STAFF,
        KNOWN,
        show_printer,
        "A printer, its queue and its device.",
    ),
    Operation("device.list", (AFTER_ID, _LIMIT), STAFF, KNOWN, list_devices, "The devices."),
    Operation(
        "device.show",
        (
            Argument(
                "device",
                (int, str),
                required=True,
                summary="Name it by its GUID, its URI, or a printer that points to it.",
            ),
        ),
        STAFF,
        KNOWN,
        show_device,
        "A device and the printers that point to it.",
    ),
)
