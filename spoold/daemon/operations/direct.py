"""What providers do without a server: `printer.direct` says it in advance, `job.report` afterwards.

A provider that may speak for somebody is told the printers with `when_unreachable` `direct`, and
where their devices are. What it prints there while it reaches no server it reports under the job's
own uuid. A report tells of paper: it is not refused for what the job would have been refused for.
Where no provider is to print (any more), it is kept, and flagged, and nobody pays for it by itself.
"""

from __future__ import annotations

from typing import Any

import structlog

from spoold.daemon.operations.access import LINES
from spoold.daemon.operations.mfd_work import IMPRESSIONS_MAX, LINE, line_of
from spoold.daemon.operations.releasing import DIRECT_SCHEME
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, uuid_of
from spoold.daemon.operations.watch import Known
from spoold.intake import arguments
from spoold.model.charge import Charge
from spoold.model.errors import OperationError
from spoold.model.job import JobReason
from spoold.model.person import Known as HowKnown
from spoold.model.person import Owner, decode_text, normalise_name
from spoold.model.principal import Principal, Role
from spoold.model.printer import Printer, WhenUnreachable
from spoold.model.usage import LINES_MAX, Usage, Work
from spoold.release.reported import charge_for, is_expected
from spoold.spool.crashpoint import crash_point
from spoold.spool.store import Accepted, NewDocument, ReportJob

log = structlog.get_logger("spoold.daemon")

PROVIDERS = frozenset({Role.PROVIDER})
AGO_S_MAX = 366 * 86_400
# What the driver of a socket is told of its device; SNMP is left out, for it has its secrets.
OPTIONS = frozenset(
    {
        "busy_wait_s", "connect_timeout_s", "counter_wait_s", "drain_timeout_s", "half_close",
        "pagecount", "pjl", "pjl_timeout_s", "silence", "stall_s", "status_poll_s",
    }
)  # fmt: skip


async def list_direct(call: Call) -> dict[str, Any]:
    """The printers that this provider may print on itself, by name; all others hold."""
    args = call.args
    known = await call.services.catalogue.look()
    found = sorted(known.printers.values(), key=lambda one: one.name)
    if not call.principal.may_assert:
        found = []
    shown = (_shown(one, known) for one in found if _is_direct(one, known))
    page, more = fitting((one for one in shown if one["printer"] > args["after_id"]), args["limit"])
    return {"printers": page, "next_after_id": page[-1]["printer"] if more else None}


def _is_direct(printer: Printer, known: Known) -> bool:
    """Whether jobs of providers would print there now; what a server would hold, waits for one."""
    device = known.device_of(printer)
    return (
        printer.when_unreachable is WhenUnreachable.DIRECT
        and not printer.release.is_secure
        and not printer.hold_new_jobs
        and printer.least_owner is not HowKnown.AUTHENTICATED
        and printer.accepting
        and not printer.paused
        and device is not None
        and device.scheme == DIRECT_SCHEME
    )


def _shown(printer: Printer, known: Known) -> dict[str, Any]:
    device = known.device_of(printer)
    assert device is not None
    return {
        "printer": printer.name,
        "printer_guid": str(printer.guid),
        "uri": device.uri,
        "options": {key: value for key, value in device.options.items() if key in OPTIONS},
        "formats": list(printer.formats),
    }


async def report(call: Call) -> dict[str, Any]:
    """A job that the provider printed. The same again is the same job, and the same charge."""
    services = call.services
    _check_may_report(call.principal)
    printer = _printer_of(await services.catalogue.look(), call.args["printer_guid"])
    now_us = services.wall_clock()
    change = _change_of(call, printer, now_us)
    accepted: Accepted = await services.journal.commit(change)
    crash_point("job-reported")
    usage = _usage_of(call.args)
    charge = await _charged(call, accepted, printer, usage, change.created_us or now_us)
    if not accepted.is_duplicate:
        log.warning(
            "job_printed_directly" if is_expected(printer) else "job_report_unexpected",
            job_id=accepted.job_id,
            job_uuid=str(accepted.uuid),
            printer=printer.name,
            provider=call.principal.name,
            in_doubt=call.args["in_doubt"],
        )
    return {
        "job_id": accepted.job_id,
        "job_uuid": str(accepted.uuid),
        "position": accepted.position,
        "node_guid": str(services.node_guid),
        "state": accepted.state.value,
        "duplicate": accepted.is_duplicate,
        "total": None if charge is None or charge.is_shadow else charge.net,
        "flags": [] if charge is None else list(charge.flags),
    }


def _check_may_report(principal: Principal) -> None:
    """Raises OperationError: `forbidden`."""
    if not principal.may_assert:
        raise OperationError(
            "forbidden",
            f"{principal.name or principal.identity} may speak for nobody, and so print nothing.",
            "An administrator says for whom it may: `spoold provider enrol NAME --may-assert`.",
        )


def _printer_of(known: Known, guid: str) -> Printer:
    """By its GUID: it may have another name by now.

    Raises:
        OperationError: `not-found`.
    """
    wanted = uuid_of(guid)
    for printer in known.printers.values():
        if printer.guid == wanted:
            return printer
    raise OperationError("not-found", "the printer was removed.", "See `spoold printer list`.")


def _change_of(call: Call, printer: Printer, now_us: int) -> ReportJob:
    """Raises OperationError: `bad-request`."""
    args, principal = call.args, call.principal
    uuid = uuid_of(args["job_uuid"])
    if uuid is None:
        raise OperationError("bad-request", "job_uuid must be a UUID.", "See FRAMES.md, section 7.")
    size, digest = arguments.ending(args, args["digest"].partition(":")[0])
    how = JobReason.JOB_COMPLETED_SUCCESSFULLY
    told = "Its provider printed it, and reached no server."
    if args["in_doubt"]:
        how = JobReason.JOB_ASSUMED_PRINTED
        told += " Nobody knows whether all of it came out."
    return ReportJob(
        printer.id,
        _owner(principal, args["user"]),
        principal.identity,
        NewDocument(size, digest, args["format"]),
        now_us,
        uuid=uuid,
        title=decode_text(args["title"].encode()) if args["title"] else "",
        client_host=principal.address,
        copies=args["copies"],
        attributes=args["attributes"],
        reasons=(how.value, JobReason.JOB_PRINTED_DIRECTLY.value),
        message=told,
        created_us=now_us - args["ago_s"] * 1_000_000,
    )


def _owner(principal: Principal, user: str) -> Owner:
    """As for a submission; for whom the provider may not speak is claimed, for it is printed."""
    try:
        return arguments.owner(principal, user)
    except OperationError:
        return Owner(normalise_name(user), HowKnown.CLAIMED)


def _usage_of(args: dict[str, Any]) -> Usage:
    """What came out; not known where the provider could not count it."""
    if args["lines"] is None:
        return Usage(Work.PRINT, (), is_known=False)
    return Usage(Work.PRINT, tuple(line_of(one) for one in args["lines"]))


async def _charged(
    call: Call, accepted: Accepted, printer: Printer, usage: Usage, happened_us: int
) -> Charge | None:
    services = call.services
    job = await services.reader.job(accepted.job_id)
    if job is None or JobReason.JOB_PRINTED_DIRECTLY not in job.reasons:
        return None  # it is forgotten by now, or was charged as the job that it was here
    owner = await services.reader.user(job.owner.name)
    return await charge_for(
        services.charging,
        job,
        printer,
        owner,
        usage,
        actor=call.principal.identity,
        happened_us=happened_us,
    )


OPERATIONS = (
    Operation(
        "printer.direct",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        PROVIDERS,
        LINES,
        list_direct,
        "The printers that a provider may print on while it reaches no server.",
    ),
    Operation(
        "job.report",
        (
            Argument("job_uuid", required=True, most=60),
            Argument("printer_guid", required=True, most=60),
            Argument("user", default="", most=255, summary="Whose job it is."),
            Argument("title", default="", most=1024),
            Argument("copies", (int,), default=1, least=1, most=arguments.COPIES_MAX),
            Argument("format", default="application/octet-stream", least=1, most=255),
            Argument("attributes", (dict,), default={}, most=128),
            Argument("size", (int,), required=True),
            Argument("digest", required=True, most=80, summary="blake3: or sha256:, and HEX."),
            Argument("ago_s", (int,), default=0, most=AGO_S_MAX, summary="How long ago it was."),
            Argument("in_doubt", (bool,), default=False, summary="It may not have come out."),
            Argument(
                "lines",
                (list,),
                most=LINES_MAX,
                each=Argument("", (dict,), keys=LINE),
                summary=f"What came out, up to {IMPRESSIONS_MAX} a line; nil: not counted.",
            ),
        ),
        PROVIDERS,
        LINES,
        report,
        "A job that a provider printed itself; sent twice it is one.",
    ),
)
