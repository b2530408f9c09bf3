"""Steering printers while they run: what they accept and hold, what they print now, and purging."""

from __future__ import annotations

from typing import Any

import trio

from spoold.daemon.operations.access import ADMINS, KNOWN, OPERATORS
from spoold.daemon.operations.jobs import find_printer
from spoold.daemon.operations.plans import plan_cancel
from spoold.daemon.operations.printers import NAME, set_printer
from spoold.daemon.operations.queueing import pages, unfinished
from spoold.daemon.operations.settings import ARGUMENTS, read_fields
from spoold.daemon.operations.steering import apply, change_one
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.model.job import Job, JobReason, JobState
from spoold.model.printer import Printer
from spoold.model.transitions import JobEvent
from spoold.spool.pages import PageQuery, Which
from spoold.spool.store import Change, ChangeJob, EndHold, RemoveJobs

DESCRIBED = ("info", "location", "geo_location", "organization", "organizational_unit", "more_info")
PURGED_AT_ONCE = 200


async def accept(call: Call) -> dict[str, Any]:
    """Take new jobs again."""
    return await set_printer(call, accepting=True)


async def reject(call: Call) -> dict[str, Any]:
    """Take no new jobs; those that are there go on."""
    return await set_printer(call, accepting=False)


async def hold_new_jobs(call: Call) -> dict[str, Any]:
    """Hold jobs as they come; those that are there go on."""
    return await set_printer(call, hold_new_jobs=True)


async def release_held_new_jobs(call: Call) -> dict[str, Any]:
    """Let new jobs print again, and those that were held for this alone."""
    shown = await set_printer(call, hold_new_jobs=False)
    printer = await _printer(call)
    reason = JobReason.JOB_HELD_ON_CREATE.value
    released = 0
    async for page in pages(call, PageQuery(Which.PENDING_HELD, printer.id, None, PURGED_AT_ONCE)):
        now_us = call.services.wall_clock()
        ends: list[Change] = [
            EndHold(job.id, reason, now_us, call.actor) for job in page if reason in job.reasons
        ]
        answers = await call.services.journal.commit_all(ends) if ends else []
        released += sum(answer is JobState.PENDING for answer in answers)
    return {**shown, "released": released}


async def describe(call: Call) -> dict[str, Any]:
    """What people are told of the printer; nothing that changes what it does."""
    given = {name: call.args[name] for name in DESCRIBED if call.args[name] is not None}
    return await set_printer(call, **read_fields(given))


async def purge(call: Call) -> dict[str, Any]:
    """Cancel what has not ended, and forget what has, documents included; records stay."""
    printer = await _printer(call)
    canceled = removed = 0
    async for page in unfinished(call, printer):
        planner = plan_cancel(JobReason.JOB_CANCELED_BY_OPERATOR)
        done = await apply(call, page, planner, dry_run=False)
        canceled += sum(one.error is None for one in done)
    services = call.services
    until_us = services.wall_clock()  # what ends from now on is not asked for
    async for page in pages(call, PageQuery(Which.COMPLETED, printer.id, None, PURGED_AT_ONCE)):
        ids = tuple(job.id for job in page if (job.finished_us or 0) <= until_us)
        if not ids:
            continue
        for file in await services.journal.commit(RemoveJobs(ids, services.wall_clock())):
            await trio.to_thread.run_sync(services.documents.remove, file)
        removed += len(ids)
    return {"name": printer.name, "canceled": canceled, "removed": removed}


async def cancel_current(call: Call) -> dict[str, Any]:
    """Cancel what the printer prints now."""
    job = await _current(call)
    return await change_one(call, job, plan_cancel(JobReason.JOB_CANCELED_BY_OPERATOR))


async def suspend_current(call: Call) -> dict[str, Any]:
    """Hold the job that the printer is about to print, and let it go on with others.

    Bytes that have left cannot be called back: then it is refused, and nothing changes.
    """
    printer = await _printer(call)
    services = call.services
    job_id = services.dispatcher.trying(printer.id)
    if job_id is None or call.args["job"] not in (None, job_id):
        job = await _current(call)
        raise OperationError(
            "not-possible",
            f"bytes of job {job.id} have left for the printer already.",
            "Cancel it, or pause the printer after it.",
        )
    suspend = ChangeJob(
        job_id,
        JobEvent.HOLD,
        services.wall_clock(),
        call.actor,
        (JobReason.JOB_SUSPENDED.value,),
        only_from=(JobState.PENDING,),
    )
    state = await services.journal.commit(suspend)
    return {"results": [{"id": job_id, "ok": True, "state": state.value}]}


async def _printer(call: Call) -> Printer:
    return find_printer(await call.services.catalogue.look(), call.args["name"])


async def _current(call: Call) -> Job:
    """The job that is being printed, which must be the one that is named.

    Raises:
        OperationError: `not-possible`.
    """
    printer = await _printer(call)
    current = call.services.dispatcher.status(printer.id).active_job_id
    job = None if current is None else await call.services.reader.job(current)
    if job is None or call.args["job"] not in (None, job.id):
        named = "nothing" if job is None else f"job {job.id}"
        raise OperationError(
            "not-possible", f"{printer.name} prints {named} now.", "Look at the job that you mean."
        )
    return job


_CURRENT = Argument("job", (int,), summary="Only if it is this job.")
_DESCRIPTION = tuple(argument for argument in ARGUMENTS if argument.name in DESCRIBED)

OPERATIONS = (
    Operation("printer.accept", (NAME,), OPERATORS, KNOWN, accept, "Take new jobs."),
    Operation("printer.reject", (NAME,), OPERATORS, KNOWN, reject, "Take no new jobs."),
    Operation(
        "printer.hold-new-jobs", (NAME,), OPERATORS, KNOWN, hold_new_jobs, "Hold jobs that come."
    ),
    Operation(
        "printer.release-held-new-jobs",
        (NAME,),
        OPERATORS,
        KNOWN,
        release_held_new_jobs,
        "Let new jobs print, and those that were held as new.",
    ),
    Operation(
        "printer.describe",
        (NAME, *_DESCRIPTION),
        ADMINS,
        KNOWN,
        describe,
        "Change what people are told of a printer.",
    ),
    Operation(
        "printer.purge", (NAME,), OPERATORS, KNOWN, purge, "Cancel and forget a printer's jobs."
    ),
    Operation(
        "printer.cancel-current",
        (NAME, _CURRENT),
        OPERATORS,
        KNOWN,
        cancel_current,
        "Cancel what is printed now.",
    ),
    Operation(
        "printer.suspend-current",
        (NAME, _CURRENT),
        OPERATORS,
        KNOWN,
        suspend_current,
        "Hold the job that is about to print.",
    ),
)
