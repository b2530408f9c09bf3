"""Jobs in their queues: other attributes, another place, a copy of one, the end of many.

Users change their own jobs; who comes next is for operators to say. What is asked of several jobs
by number is done when it can be done to all of them; one that moves on in that moment is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import trio

from spoold.codec.ipp_plain import TEMPLATE, NotPlain, to_attribute
from spoold.daemon.operations.access import (
    CLIENTS_AND_OPERATORS,
    EVERYWHERE,
    KNOWN,
    OPERATORS,
    USERS_AND_OPERATORS,
    is_own,
)
from spoold.daemon.operations.elsewhere import run_there
from spoold.daemon.operations.jobs import JOB, find_job, find_printer, may_read
from spoold.daemon.operations.plans import Plan, Planner, check_document, plan_cancel, plan_hold
from spoold.daemon.operations.steering import (
    BATCH_JOBS,
    HOLD,
    Done,
    accepting_printer,
    apply,
    change_of,
    check_sender,
    find_own,
    hold_asked,
)
from spoold.daemon.operations.table import Argument, Call, Operation, near
from spoold.dispatch.verdict import fits
from spoold.intake.arguments import COPIES_MAX
from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.model.job import PRIORITY_MAX, WAITING, Job, JobReason, JobState
from spoold.model.person import Known as HowKnown
from spoold.model.person import Owner, normalise_name
from spoold.model.principal import Role
from spoold.model.printer import Printer
from spoold.model.text import plain
from spoold.spool.pages import PageQuery, Which
from spoold.spool.store import Accepted, Change, CopyJob, NewDocument, PlaceJob, SetJob

NAMED_MAX = 1000


def _line(job: Job, state: JobState) -> dict[str, Any]:
    return {"results": [Done(job, state).line(with_title=True)]}


# -- attributes --------------------------------------------------------------------------------


def read_attributes(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Job Template attributes as they are kept; nil takes one away.

    Raises:
        OperationError: `bad-request`: one is not known, has a field of its own, or cannot be.
    """
    for name, value in (given or {}).items():
        if name not in TEMPLATE or name in _FIELDS:
            raise OperationError(
                "bad-request",
                f"there is no job template attribute {plain(name[:60])} to set here.",
                _FIELDS.get(name) or near(name, TEMPLATE),
            )
        try:
            if value is not None:
                to_attribute(name, value)
        except NotPlain as error:
            raise OperationError("bad-request", f"{plain(str(error)[:200])}.") from None
    return given


_FIELDS = {
    "copies": "Give copies as an argument of its own.",
    "job-priority": "Give priority as an argument of its own.",
    "job-hold-until": "Give hold_until as an argument of its own.",
}


async def set_job(call: Call) -> dict[str, Any]:
    """All of what is asked for, or nothing."""
    there = await run_there(call, "job.set")
    if there is not None:
        return there
    args = call.args
    job = await find_own(call, args["job"])
    wanted = {name: args[name] for name in ("title", "priority", "copies")}
    wanted["attributes"] = read_attributes(args["attributes"])
    changes: list[Change] = []
    if any(value is not None for value in wanted.values()):
        changes.append(SetJob(job.id, call.services.wall_clock(), call.actor, **wanted))
    if args["hold_until"] is not None or args["hold_until_us"] is not None:
        plan = plan_hold(hold_asked(call, None))(job)
        if plan.event is not None:
            changes.append(change_of(call, job, plan))
    if job.state not in WAITING:
        raise OperationError("not-possible", f"the job is {job.state}.", "Only a waiting one can.")
    state = job.state
    for answer in await call.services.journal.commit_all(changes) if changes else ():
        if isinstance(answer, Exception):
            raise answer
        state = answer
    return _line(job, state)


# -- places ------------------------------------------------------------------------------------


async def promote(call: Call) -> dict[str, Any]:
    return await _place(call, None)


async def schedule_after(call: Call) -> dict[str, Any]:
    name = call.args["after"]
    return await _place(call, None if name is None else (await find_job(call, name)).id)


async def _place(call: Call, after_id: int | None) -> dict[str, Any]:
    job = await find_job(call, call.args["job"])
    services = call.services
    place = PlaceJob(job.id, services.wall_clock(), call.actor, after_id)
    return _line(job, await services.journal.commit(place))


# -- copies ------------------------------------------------------------------------------------


async def resubmit(call: Call) -> dict[str, Any]:
    """A new job with the documents of one that waits or has ended, which stays as it is."""
    args, services = call.args, call.services
    job = await find_own(call, args["job"])
    check_document(job)
    known = await services.catalogue.look()
    if args["printer"] is not None:
        printer = accepting_printer(known, args["printer"])
    elif job.printer_id in known.printers:
        printer = accepting_printer(known, known.name_of(job.printer_id))
    else:
        raise OperationError("not-possible", "its printer was removed.", "Name another one.")
    for document in await services.reader.documents(job.id):
        if not fits(replace(job, document=document), printer):
            raise OperationError("not-possible", f"{printer.name} does not take {document.format}.")
    files: list[str] = []
    try:
        for file in await services.reader.files_of(job.id) or [""]:
            shared = await trio.to_thread.run_sync(services.documents.share, file) if file else ""
            files.append(shared)
        copy = _copy_of(call, job, printer, files, await services.reader.copies_asked(job.id))
        made: Accepted = await services.journal.commit(copy)
    except (OperationError, SpoolError) as error:
        if not isinstance(error, StoreFailed):  # then nobody knows whether the copy is there
            for file in files:
                services.documents.remove(file)
        raise
    return {
        "id": made.job_id,
        "uuid": str(made.uuid),
        "state": made.state.value,
        "reasons": list(copy.reasons),
    }


def _copy_of(
    call: Call, job: Job, printer: Printer, files: list[str], asked: tuple[int, bool]
) -> CopyJob:
    args, principal = call.args, call.principal
    copies, copies_embedded = asked
    owner = job.owner
    if Role.USER in call.roles and owner.name == principal.name:
        owner = Owner(owner.name, HowKnown.AUTHENTICATED, principal.method)
    hold = hold_asked(call, None)
    reasons = [JobReason.JOB_HOLD_UNTIL_SPECIFIED.value] if hold is not None else []
    if printer.hold_new_jobs:
        reasons.append(JobReason.JOB_HELD_ON_CREATE.value)
    if not owner.known.is_at_least(printer.least_owner):
        reasons.append(JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH.value)
    given = {**job.attributes, **(read_attributes(args["attributes"]) or {})}
    return CopyJob(
        printer.id,
        owner,
        principal.identity,
        NewDocument(0, "", file=files[0]),
        call.services.wall_clock(),
        title=job.title if args["title"] is None else args["title"],
        client_host=principal.address,
        intake=job.intake,
        priority=args["priority"] or job.job_priority,
        copies=copies if copies_embedded else args["copies"] or copies,
        copies_embedded=copies_embedded,
        attributes={name: value for name, value in given.items() if value is not None},
        state=JobState.PENDING_HELD if reasons else JobState.PENDING,
        reasons=tuple(reasons),
        hold_until="" if hold is None else hold.until,
        release_us=None if hold is None else hold.release_us,
        from_id=job.id,
        more_files=tuple(files[1:]),
    )


# -- many --------------------------------------------------------------------------------------


async def cancel_many(call: Call) -> dict[str, Any]:
    """Those that are named, all of them or none; or all that the caller may cancel and asks for."""
    args = call.args
    if not args["mine"] and not call.is_staff:
        raise OperationError(
            "forbidden", "these are jobs of others.", "Cancel your own, or ask an operator."
        )
    why = JobReason.JOB_CANCELED_BY_USER if args["mine"] else JobReason.JOB_CANCELED_BY_OPERATOR
    known = await call.services.catalogue.look()
    printer = None if args["printer"] is None else find_printer(known, args["printer"])
    may_cancel = _chooser(call)
    if args["jobs"] is not None:
        jobs = [await _named(call, name, printer) for name in dict.fromkeys(args["jobs"])]
        for job in jobs:
            if not may_cancel(job):
                check_sender(call, job)
                raise OperationError("forbidden", f"job {job.id} is not yours.")
        return await _all_or_none(call, jobs, plan_cancel(why))
    owner = _owner_asked(call) if args["mine"] else None
    lines: list[dict[str, Any]] = []
    count = 0
    async for page in unfinished(call, printer, owner):
        chosen = [job for job in page if may_cancel(job)]
        done = await apply(call, chosen, plan_cancel(why), dry_run=False)
        count += sum(one.error is None for one in done)
        shown = done[: BATCH_JOBS - len(lines)]
        lines += [one.line(with_title=may_read(call, one.job)) for one in shown]
    return {"canceled": count, "results": lines, "next_after_id": None}


def _chooser(call: Call) -> Callable[[Job], bool]:
    """Which jobs the caller may cancel by this."""
    args, principal = call.args, call.principal
    name = normalise_name(args["owner"] or "")

    def may_cancel(job: Job) -> bool:
        if not args["mine"]:
            return True
        if Role.PROVIDER in call.roles:
            return is_own(principal, call.roles, job)
        if principal.name:
            return is_own(principal, call.roles | {Role.USER}, job)
        if name and job.owner.name != name:
            return False
        try:
            check_sender(call, job)
        except OperationError:
            return False
        return True

    return may_cancel


def _owner_asked(call: Call) -> str | None:
    """Whose jobs are looked through; None for a provider, whose jobs have any owner."""
    if Role.PROVIDER in call.roles:
        return None
    return call.principal.name or normalise_name(call.args["owner"] or "") or None


async def _named(call: Call, name: int, printer: Printer | None) -> Job:
    job = await find_job(call, name)
    if printer is not None and job.printer_id != printer.id:
        raise OperationError("not-found", f"there is no job {name} on {printer.name}.")
    return job


async def _all_or_none(call: Call, jobs: list[Job], planner: Planner) -> dict[str, Any]:
    plans: list[tuple[Job, Plan]] = [(job, planner(job)) for job in jobs]
    changes = [change_of(call, job, plan) for job, plan in plans if plan.event is not None]
    answers = await call.services.journal.commit_all(changes) if changes else []
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    lines = [
        Done(job, plan.state).line(with_title=may_read(call, job))
        for job, plan in plans[:BATCH_JOBS]
    ]
    return {"canceled": len(plans), "results": lines, "next_after_id": None}


async def unfinished(
    call: Call, printer: Printer | None, owner: str | None = None
) -> AsyncIterator[list[Job]]:
    """The jobs of a printer, or of all, that have not ended, a page at a time."""
    query = PageQuery(
        Which.NOT_COMPLETED, None if printer is None else printer.id, owner, BATCH_JOBS
    )
    async for page in pages(call, query):
        yield page


async def pages(call: Call, query: PageQuery) -> AsyncIterator[list[Job]]:
    """Every page of a listing."""
    more = True
    while more:
        page = await call.services.reader.page(query)
        yield page.jobs
        more = page.next is not None
        query = PageQuery(query.which, query.printer_id, query.owner, query.limit, 0, page.next)


Handler = Callable[[Call], Awaitable[dict[str, Any]]]
_ATTRIBUTES = (
    Argument("title", most=255),
    Argument("priority", (int,), least=1, most=PRIORITY_MAX),
    Argument("copies", (int,), least=1, most=COPIES_MAX),
    *HOLD,
    Argument(
        "attributes",
        (dict,),
        each=Argument("", (str, int, bool, list, dict, type(None))),
        summary="Job Template attributes of IPP; nil takes one away.",
    ),
)

OPERATIONS = (
    Operation(
        "job.set",
        (JOB, *_ATTRIBUTES),
        USERS_AND_OPERATORS,
        KNOWN,
        set_job,
        "Change a waiting job.",
    ),
    Operation("job.promote", (JOB,), OPERATORS, KNOWN, promote, "Let a waiting job come next."),
    Operation(
        "job.schedule-after",
        (JOB, Argument("after", (int, str), summary="The job that it follows; nil: it is next.")),
        OPERATORS,
        KNOWN,
        schedule_after,
        "Let a waiting job follow another one.",
    ),
    Operation(
        "job.resubmit",
        (JOB, Argument("printer", summary="Another printer."), *_ATTRIBUTES),
        USERS_AND_OPERATORS,
        KNOWN,
        resubmit,
        "Make a new job of a document that is kept.",
    ),
    Operation(
        "job.cancel-many",
        (
            Argument("printer", summary="Only jobs of this printer."),
            Argument("jobs", (list,), least=1, most=NAMED_MAX, each=Argument("", (int,))),
            Argument("mine", (bool,), default=False, summary="Only the caller's own."),
            Argument("owner", summary="Who the caller is, when nothing proves it."),
            Argument("after_id", (int,), default=0),
        ),
        CLIENTS_AND_OPERATORS,
        EVERYWHERE,
        cancel_many,
        "Cancel several jobs, or all.",
    ),
)
