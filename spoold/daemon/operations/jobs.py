"""Looking at jobs: `job.list`, `job.show`, `job.follow`, and how a job is named.

A provider sees the jobs that it submitted, a user their own; whoever has no credentials sees of
any job its number, uuid and state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from spoold.daemon.operations import elsewhere
from spoold.daemon.operations.access import (
    EVERYBODY,
    EVERYWHERE,
    KNOWN,
    USERS_AND_STAFF,
    is_own,
)
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.table import DOORS, Argument, Call, Operation, near
from spoold.daemon.operations.views import (
    attempt_map,
    fitting,
    job_map,
    plain_value,
    redacted_map,
    uuid_of,
)
from spoold.daemon.operations.watch import Known
from spoold.model.errors import OperationError
from spoold.model.job import Job, JobState
from spoold.model.person import normalise_name
from spoold.model.principal import Principal, Role
from spoold.model.printer import Printer
from spoold.model.text import plain
from spoold.spool.store import Attempt, JobFilter

PAGE_JOBS_MAX = 500
ATTEMPTS_SHOWN_MAX = 30

JOB = Argument("job", (int, str), required=True, summary="Name a job: ID, NODE/ID or its uuid.")
FILTER = (
    Argument("owner", summary="A user's name."),
    Argument("title", summary="A part of the title, in any case."),
    Argument("printer", summary="A printer's name."),
    Argument(
        "states", (list,), least=1, each=Argument("", choices=tuple(one.value for one in JobState))
    ),
    Argument("reason", summary="One of the job's reasons, as `job-in-doubt`."),
    Argument("since_us", (int,), summary="Submitted at or after this time."),
    Argument("until_us", (int,), summary="Submitted before this time."),
)
AFTER_ID = Argument("after_id", (int,), default=0, summary="The page before's next_after_id.")


def parse_job(services: Services, name: int | str) -> int | UUID:
    """The number or the uuid that names a job here.

    Raises:
        OperationError: it names no job, or one of another node.
    """
    if isinstance(name, int):
        return name
    node, slash, rest = name.strip().rpartition("/")
    if slash:
        ours = node == services.node_name or uuid_of(node) == services.node_guid
        if not ours:
            raise OperationError(
                "not-found",
                f"{plain(name[:100])} is a job of another node; this is {services.node_name}.",
                "Ask that node.",
            )
    if rest.isascii() and rest.isdigit() and len(rest) <= 10:
        return int(rest)
    uuid = uuid_of(rest)
    if uuid is None:
        raise OperationError(
            "bad-request", f"{plain(name[:100])!r} names no job.", "Use ID, NODE/ID or the uuid."
        )
    return uuid


async def find_job(call: Call, name: int | str) -> Job:
    """The job, if the caller may know of it.

    Raises:
        OperationError: `not-found`, or the name is wrong.
    """
    parsed = parse_job(call.services, name)
    reader = call.services.reader
    if isinstance(parsed, int):
        job = await reader.job(parsed)
    else:
        job = await reader.job_by_uuid(parsed)
    if job is None or not (may_read(call, job) or _may_know(call.principal)):
        advice = "See `spoold job list`." if call.is_staff else ""
        raise OperationError("not-found", f"there is no job {plain(str(name)[:60])}.", advice)
    return job


def may_read(call: Call, job: Job) -> bool:
    """Whether the caller may see more of the job than that it is there."""
    return call.is_staff or is_own(call.principal, call.roles, job)


def _may_know(principal: Principal) -> bool:
    """Whether somebody may know that jobs of others are there."""
    return Role.ANYBODY in principal.roles and principal.port in DOORS[Role.ANYBODY]


def find_printer(known: Known, name: str) -> Printer:
    """The printer called `name`.

    Raises:
        OperationError: `not-found`.
    """
    printer = known.by_name.get(name)
    if printer is None:
        raise OperationError(
            "not-found",
            f"there is no printer {plain(name[:127])!r}.",
            near(name, known.by_name) or "See `spoold printer list`.",
        )
    return printer


def filter_of(known: Known, args: dict[str, Any]) -> JobFilter:
    """The jobs that the arguments of `FILTER` choose.

    Raises:
        OperationError: the printer does not exist.
    """
    printer = args["printer"]
    owner = args["owner"]
    return JobFilter(
        states=tuple(JobState(one) for one in args["states"] or ()),
        printer_id=None if printer is None else find_printer(known, printer).id,
        owner=None if owner is None else normalise_name(owner),
        title=args["title"],
        reason=args["reason"],
        since_us=args["since_us"],
        until_us=args["until_us"],
    )


def only_own(call: Call, which: JobFilter) -> JobFilter:
    """The filter, for a user as far as it chooses their own jobs.

    Raises:
        OperationError: `forbidden`, it names somebody else.
    """
    if call.is_staff:
        return which
    own = call.principal.name
    if which.owner not in (None, own):
        raise OperationError(
            "forbidden", "these are not your jobs.", f"Yours are those of {plain(own)}."
        )
    return replace(which, owner=own)


def view(call: Call, job: Job, known: Known) -> dict[str, Any]:
    """The job, as much of it as the caller may see."""
    if may_read(call, job):
        return job_map(job, known.name_of(job.printer_id))
    return redacted_map(job)


async def list_jobs(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    args = call.args
    chosen = only_own(call, filter_of(known, args))
    limit = args["limit"]
    which = JobFilter(
        states=chosen.states,
        printer_id=chosen.printer_id,
        owner=chosen.owner,
        title=chosen.title,
        reason=chosen.reason,
        since_us=chosen.since_us,
        until_us=chosen.until_us,
        after_id=args["after_id"],
        newest_first=args["newest_first"],
        limit=limit + 1,
    )
    found = await call.services.reader.jobs(which)
    page, more = fitting((view(call, job, known) for job in found), limit)
    return {"jobs": page, "next_after_id": page[-1]["id"] if more else None}


def device_names(known: Known, attempt: Attempt) -> tuple[str, str]:
    """The device's URI and the printer's name of an attempt."""
    device = known.devices.get(attempt.device_id)
    return device.uri if device else "", known.name_of(attempt.printer_id)


async def show_job(call: Call) -> dict[str, Any]:
    there = await elsewhere.find(call, call.args["job"])
    if there is not None:
        return there
    job = await find_job(call, call.args["job"])
    known = await call.services.catalogue.look()
    shown = view(call, job, known)
    if not call.is_staff:
        return shown
    shown["attributes"] = plain_value(job.attributes)
    attempts = await call.services.reader.attempts(job.id)
    newest_first = (attempt_map(one, *device_names(known, one)) for one in reversed(attempts))
    kept, _ = fitting(newest_first, ATTEMPTS_SHOWN_MAX, shown)
    return {**shown, "attempts_list": kept[::-1]}


async def follow_job(call: Call) -> dict[str, Any]:
    """Events `job-state`, the first at once; returns when the job is finished."""
    services = call.services
    job = await find_job(call, call.args["job"])
    is_told = may_read(call, job)
    told: tuple[JobState, tuple[str, ...]] | None = None

    async def tell(state: JobState, reasons: tuple[str, ...]) -> None:
        nonlocal told
        if told == (state, reasons):
            return
        told = (state, reasons)
        is_now = told == (job.state, job.reasons)
        args = {
            "job_id": job.id,
            "job_uuid": str(job.uuid),
            "state": state.value,
            "reasons": list(reasons),
            "message": job.message if is_now and is_told else "",
        }
        await call.send_event("job-state", args)

    with services.watch.following(job.id) as moves:
        # Read after the watch began, so that no change falls between the two; what was committed
        # before the reading is in it already.
        seen = services.journal.head
        job = await find_job(call, job.id)
        await tell(job.state, job.reasons)
        while not job.state.is_final:
            news = [moved for moved in await moves.wait() if moved.position > seen]
            job = await find_job(call, job.id)
            for moved in news:
                await tell(moved.new, moved.reasons)
        await tell(job.state, job.reasons)
    shown = view(call, job, await services.catalogue.look())
    return shown | await counted(call, job) if is_told else shown


async def counted(call: Call, job: Job) -> dict[str, Any]:
    """`impressions`, where the evidence of the deliveries says how many sides came out."""
    if job.state is not JobState.COMPLETED:
        return {}
    pages: dict[int, Any] = {}  # of each document, by its last delivery
    for attempt in await call.services.reader.attempts(job.id):
        if attempt.outcome == "delivered":
            pages[attempt.document] = attempt.evidence.get("pages")
    is_told = all(type(found) is int and found > 0 for found in pages.values())
    return {"impressions": sum(pages.values())} if is_told and len(pages) == job.documents else {}


OPERATIONS = (
    Operation(
        "job.list",
        (
            *FILTER,
            AFTER_ID,
            Argument("newest_first", (bool,), default=False),
            Argument("limit", (int,), default=50, least=1, most=PAGE_JOBS_MAX),
        ),
        USERS_AND_STAFF,
        KNOWN,
        list_jobs,
        "A page of the jobs, finished ones included; a user's own.",
    ),
    Operation("job.show", (JOB,), EVERYBODY, EVERYWHERE, show_job, "What is known of a job."),
    Operation(
        "job.follow", (JOB,), EVERYBODY, EVERYWHERE, follow_job, "A job's states until it ends."
    ),
)
