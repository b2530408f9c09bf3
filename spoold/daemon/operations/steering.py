"""Changing jobs: hold, cancel, retry, move, settle; one, or all that a filter chooses.

Users change their own jobs, operators any. Each change is planned against the job as it is read and
committed only from the states it was planned for; when the job has moved on meanwhile it is planned
again. Bulk changes come in pages of one transaction each, with a line for each job; `next_after_id`
asks for the next page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import Any

from spoold.daemon.operations.access import (
    CLIENTS_AND_OPERATORS,
    EVERYWHERE,
    KNOWN,
    OPERATORS,
    USERS_AND_OPERATORS,
)
from spoold.daemon.operations.elsewhere import run_there
from spoold.daemon.operations.jobs import (
    AFTER_ID,
    FILTER,
    JOB,
    filter_of,
    find_job,
    find_printer,
    may_read,
    only_own,
)
from spoold.daemon.operations.plans import (
    FOREVER,
    Plan,
    Planner,
    plan_cancel,
    plan_hold,
    plan_move,
    plan_retry,
    plan_settle,
)
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.watch import Known
from spoold.model.errors import OperationError
from spoold.model.job import ACTIVE, WAITING, Job, JobReason, JobState
from spoold.model.person import Known as HowKnown
from spoold.model.policy import HOLD_KEYWORDS, HOLD_TIME, Hold, hold_of
from spoold.model.principal import Role
from spoold.model.printer import Printer
from spoold.spool.store import Change, ChangeJob, EndHold, JobFilter

# A line is at most about 1 KiB, so that a batch of them fits one message.
BATCH_JOBS = 50
TITLE_CHARACTERS_MAX = 80
TRIES = 3


@dataclass(slots=True)
class Done:
    """What became of one job: a state, or a refusal."""

    job: Job
    state: JobState
    advice: str = ""
    error: OperationError | None = None

    def line(self, *, with_title: bool) -> dict[str, Any]:
        error = self.error
        return {
            "id": self.job.id,
            "uuid": str(self.job.uuid),
            "title": self.job.title[:TITLE_CHARACTERS_MAX] if with_title else "",
            "ok": error is None,
            "state": self.state.value,
            "error": error.message if error else "",
            "advice": error.advice if error else self.advice,
        }


async def apply(call: Call, jobs: list[Job], planner: Planner, dry_run: bool) -> list[Done]:
    """Plan and commit for each job, in one transaction; those that moved on are planned again."""
    services = call.services
    done: dict[int, Done] = {}
    left = jobs
    for _ in range(TRIES):
        planned: list[tuple[Job, Plan]] = []
        changes: list[Change] = []
        for job in left:
            try:
                plan = planner(job)
            except OperationError as error:
                done[job.id] = Done(job, job.state, error=error)
                continue
            done[job.id] = Done(job, plan.state, plan.advice)
            if plan.event is not None and not dry_run:
                planned.append((job, plan))
                changes.append(change_of(call, job, plan))
        left = []
        if not changes:
            break
        answers = await services.journal.commit_all(changes)
        for (job, plan), answer in zip(planned, answers, strict=True):
            if isinstance(answer, OperationError):
                done[job.id] = Done(job, job.state, error=answer)
                now = await services.reader.job(job.id)
                if now is not None and now.state not in plan.only_from:
                    left.append(now)
            elif isinstance(answer, Exception):
                raise answer
            else:
                done[job.id].state = answer
    return [done[job.id] for job in jobs]


def change_of(call: Call, job: Job, plan: Plan) -> Change:
    """What is committed for a plan that has an event."""
    assert plan.event is not None
    now_us = call.services.wall_clock()
    if plan.ends:
        return EndHold(job.id, plan.ends, now_us, call.actor)
    return ChangeJob(
        job.id,
        plan.event,
        now_us,
        call.actor,
        tuple(str(one) for one in plan.reasons),
        plan.message,
        plan.printer_id,
        plan.only_from,
        "" if plan.hold is None else plan.hold.until,
        None if plan.hold is None else plan.hold.release_us,
    )


async def change_one(call: Call, job: Job, planner: Planner) -> dict[str, Any]:
    """The line of one job.

    Raises:
        OperationError: it cannot be done; nothing was changed.
    """
    (done,) = await apply(call, [job], planner, bool(call.args.get("dry_run")))
    if done.error is not None:
        raise done.error
    return {"results": [done.line(with_title=may_read(call, job))]}


async def change_many(call: Call, which: JobFilter, planner: Planner) -> dict[str, Any]:
    """The lines of a page of the jobs that `which` chooses, and where the next page begins."""
    which = replace(which, after_id=call.args["after_id"], limit=BATCH_JOBS)
    jobs = await call.services.reader.jobs(which)
    done = await apply(call, jobs, planner, call.args["dry_run"])
    return {
        "results": [one.line(with_title=True) for one in done],
        "next_after_id": jobs[-1].id if len(jobs) == BATCH_JOBS else None,
    }


async def change(
    call: Call, default_states: tuple[JobState, ...], planner: Planner, many: Any = None
) -> dict[str, Any]:
    """One job or those of a filter, whichever the arguments name."""
    name, chosen = call.args["job"], call.args["filter"]
    if (name is None) == (chosen is None):
        raise OperationError("bad-request", "name a job or a filter.", "Give one of the two.")
    if name is not None:
        return await change_one(call, await find_own(call, name), planner)
    which = only_own(call, filter_of(await call.services.catalogue.look(), chosen))
    if which == JobFilter():
        raise OperationError(
            "bad-request",
            "the filter is empty, and would take every job.",
            "Choose by state, printer, owner, title, reason or time.",
        )
    if not which.states:
        which = replace(which, states=default_states)
    return await change_many(call, which, planner if many is None else many(which))


async def find_own(call: Call, name: int | str) -> Job:
    """The job, if the caller may change it.

    Raises:
        OperationError: `not-found`, or `forbidden`.
    """
    job = await find_job(call, name)
    if not may_read(call, job):
        raise _not_yours(job)
    return job


def hold_asked(call: Call, default: Hold | None) -> Hold | None:
    """For how long the arguments of `HOLD` say that a job is to be held.

    Raises:
        OperationError: `bad-request`: a time without the time.
    """
    until, at_us = call.args["hold_until"], call.args["hold_until_us"]
    if until is None and at_us is None:
        return default
    if until == HOLD_TIME and at_us is None:
        raise OperationError("bad-request", "until when?", "Give hold_until_us.")
    return hold_of(until or HOLD_TIME, at_us, call.services.wall_clock())


async def hold(call: Call) -> dict[str, Any]:
    there = await run_there(call, "job.hold")
    if there is not None:
        return there
    return await change(call, (JobState.PENDING,), plan_hold(hold_asked(call, FOREVER)))


async def retry(call: Call) -> dict[str, Any]:
    # Without a word on states only what failed: printing finished jobs again is said in full.
    known = await call.services.catalogue.look()
    return await change(call, (JobState.ABORTED,), plan_retry(known, hold_asked(call, None)))


async def cancel(call: Call) -> dict[str, Any]:
    """Staff cancel any job, users and providers theirs, anybody what they alone can have sent."""
    by_user = plan_cancel(JobReason.JOB_CANCELED_BY_USER)
    there = await run_there(call, "job.cancel")
    if there is not None:
        return there
    if call.is_staff:
        planner = plan_cancel(JobReason.JOB_CANCELED_BY_OPERATOR)
        return await change(call, (*WAITING, *ACTIVE), planner)
    name = call.args["job"]
    if name is None and Role.USER in call.roles:
        return await change(call, (*WAITING, *ACTIVE), by_user)
    if name is None or call.args["filter"] is not None:
        raise OperationError("bad-request", "name the job to cancel.", "Give its number or uuid.")
    job = await find_job(call, name)
    check_sender(call, job)
    return await change_one(call, job, by_user)


def check_sender(call: Call, job: Job) -> None:
    """Let through whoever may cancel the job.

    Raises:
        OperationError: `forbidden`.
    """
    if not may_read(call, job):
        _check_address(job, call.principal.address)


def _check_address(job: Job, address: str) -> None:
    """Let through the address that sent a job whose owner is only claimed.

    Raises:
        OperationError: `forbidden`.
    """
    is_claimed = job.owner.known is HowKnown.CLAIMED and bool(address)
    if is_claimed and is_same_address(job.client_host, address):
        return
    raise _not_yours(job)


def _not_yours(job: Job) -> OperationError:
    return OperationError(
        "forbidden",
        f"job {job.id} is not yours to change here.",
        "Log in as its owner, cancel it from the computer that sent it, or ask an operator.",
    )


def is_same_address(one: str, other: str) -> bool:
    try:
        return _plain_address(one) == _plain_address(other)
    except ValueError:
        return False


def _plain_address(text: str) -> str:
    """One way to write each address; an IPv4 one in IPv6 clothes is an IPv4 one."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


async def move(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    to = accepting_printer(known, call.args["to"])
    return await change(call, WAITING, plan_move(to))


def accepting_printer(known: Known, name: str) -> Printer:
    """The printer that jobs can be moved to.

    Raises:
        OperationError: `not-found`, or `not-accepting`.
    """
    to = find_printer(known, name)
    if not to.accepting:
        raise OperationError(
            "not-accepting",
            f"the printer {name} takes no jobs now.",
            f"`spoold printer set {name} --accepting on` first.",
        )
    return to


async def settle(call: Call) -> dict[str, Any]:
    job = await find_job(call, call.args["job"])
    return await change_one(call, job, plan_settle(call.args["printed"]))


HOLD = (
    Argument(
        "hold_until",
        choices=(*HOLD_KEYWORDS, HOLD_TIME),
        summary="The job-hold-until of RFC 8011, or `time`.",
    ),
    Argument("hold_until_us", (int,), summary="Hold it until this time."),
)
DRY_RUN = Argument("dry_run", (bool,), default=False, summary="Only say what would be done.")

ONE_OR_MANY = (
    replace(JOB, required=False),
    Argument("filter", (dict,), keys=FILTER, summary="Which jobs, as in job.list."),
    DRY_RUN,
    AFTER_ID,
)

OPERATIONS = (
    Operation(
        "job.hold",
        (*ONE_OR_MANY, *HOLD),
        USERS_AND_OPERATORS,
        KNOWN,
        hold,
        "Hold waiting jobs.",
    ),
    Operation("job.cancel", ONE_OR_MANY, CLIENTS_AND_OPERATORS, EVERYWHERE, cancel, "Cancel jobs."),
    Operation(
        "job.retry",
        (*ONE_OR_MANY, *HOLD),
        USERS_AND_OPERATORS,
        KNOWN,
        retry,
        "Print finished jobs again.",
    ),
    Operation(
        "job.move",
        (*ONE_OR_MANY, Argument("to", required=True, summary="Name a printer.")),
        OPERATORS,
        KNOWN,
        move,
        "Move waiting jobs to another printer.",
    ),
    Operation(
        "job.settle",
        (
            JOB,
            Argument("printed", (bool,), required=True, summary="Say whether it printed."),
        ),
        OPERATORS,
        KNOWN,
        settle,
        "Say what became of a job in doubt.",
    ),
)
