"""Releasing jobs, by their owners and by operators: `job.release`, and `release.*` for people.

What waits for its owner at a machine is released there (`release/desk.py`). Here operators release
it, at this machine alone and by name in the journal; other holds end as they always did. People who
logged in look at what waits for them, delete it, or change it before they fetch it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spoold.daemon.operations import everywhere
from spoold.daemon.operations.access import (
    KNOWN,
    USERS,
    USERS_AND_OPERATORS,
    USERS_AND_STAFF,
)
from spoold.daemon.operations.held_jobs import CHANGES, ID, IDS
from spoold.daemon.operations.jobs import (
    AFTER_ID,
    filter_of,
    find_printer,
    only_own,
)
from spoold.daemon.operations.plans import (
    Plan,
    Planner,
    plan_release,
    plan_release_by_owner,
    plan_release_of_many,
)
from spoold.daemon.operations.steering import (
    BATCH_JOBS,
    ONE_OR_MANY,
    Done,
    apply,
    change,
    find_own,
)
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.watch import Known
from spoold.model.errors import OperationError
from spoold.model.job import AWAITS_RELEASE, Job, JobState
from spoold.model.person import normalise_name
from spoold.model.principal import Port
from spoold.model.printer import Printer
from spoold.model.user import User
from spoold.release.desk import PAGE_JOBS_MAX
from spoold.release.releasing import Releaser
from spoold.spool.store import JobFilter

HELD = (JobState.PENDING_HELD,)


# -- operators, and other holds ----------------------------------------------------------------


async def release(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    to = None if call.args["to"] is None else find_printer(known, call.args["to"])
    if call.is_staff and call.principal.port is Port.CONTROL:
        return await _release_for_staff(call, known, to)
    if to is not None:
        raise OperationError(
            "forbidden",
            "where a job comes out is said at the machine.",
            "Release it there, or ask an operator.",
        )

    def allowed(planner: Planner) -> Planner:
        mine = planner if call.is_staff else plan_release_by_owner(planner)
        return _not_at_machines(known, mine)

    one = allowed(plan_release)
    return await change(call, HELD, one, lambda which: allowed(plan_release_of_many(which)))


def _not_at_machines(known: Known, planner: Planner) -> Planner:
    """What waits for its owner at a machine is released at none but that."""

    def plan(job: Job) -> Plan:
        printer = known.printers.get(job.printer_id)
        if printer is not None and printer.release.is_secure and job.awaits_release:
            raise OperationError(
                "not-possible",
                f"{printer.name} keeps jobs until their owner stands at the machine.",
                "Release it there, or ask an operator.",
            )
        return planner(job)

    return plan


async def _release_for_staff(call: Call, known: Known, to: Printer | None) -> dict[str, Any]:
    name, chosen = call.args["job"], call.args["filter"]
    if (name is None) == (chosen is None):
        raise OperationError("bad-request", "name a job or a filter.", "Give one of the two.")
    if name is not None:
        job = await find_own(call, name)
        (done,) = await _released(call, known, [job], to, plan_release)
        if done.error is not None:
            raise done.error
        return {"results": [done.line(with_title=True)]}
    which = only_own(call, filter_of(known, chosen))
    if which == JobFilter():
        raise OperationError(
            "bad-request",
            "the filter is empty, and would take every job.",
            "Choose by state, printer, owner, title, reason or time.",
        )
    states = which.states or HELD
    which = replace(which, states=states, after_id=call.args["after_id"], limit=BATCH_JOBS)
    jobs = await call.services.reader.jobs(which)
    found = await _released(call, known, jobs, to, plan_release_of_many(which))
    return {
        "results": [one.line(with_title=True) for one in found],
        "next_after_id": jobs[-1].id if len(jobs) == BATCH_JOBS else None,
    }


async def _released(
    call: Call, known: Known, jobs: list[Job], to: Printer | None, planner: Planner
) -> list[Done]:
    """Each job released: what waits at a gate through it, the others as planned."""
    gated = [job for job in jobs if not AWAITS_RELEASE.isdisjoint(job.reasons)]
    if to is not None and len(gated) < len(jobs):
        raise OperationError(
            "not-possible",
            "only what waits for its owner can come out somewhere.",
            "Move the others: `spoold job move`.",
        )
    dry_run = call.args["dry_run"]
    others = [job for job in jobs if job not in gated]
    done = {one.job.id: one for one in await apply(call, others, planner, dry_run)}
    for job in gated:
        done[job.id] = await _release_one(call, known, job, to, planner)
    return [done[job.id] for job in jobs]


async def _release_one(
    call: Call, known: Known, job: Job, to: Printer | None, planner: Planner
) -> Done:
    try:
        state = planner(job).state
        printer = to or known.printers.get(job.printer_id)
        if printer is None:
            raise OperationError("not-possible", "its printer was removed.", "Say where: --to.")
        if not call.args["dry_run"]:
            by = Releaser(call.actor)
            state = (await call.services.releases.release(job, printer, by)).released.state
    except OperationError as error:
        return Done(job, job.state, error=error)
    return Done(job, state)


# -- people and what waits for them ------------------------------------------------------------


async def _person(call: Call) -> User:
    """Whose held jobs are asked about: the caller's, or for staff those of the user it names.

    Raises:
        OperationError: `forbidden`, or `not-found`.
    """
    name = call.args.get("user")
    own = call.principal.name
    wanted = own if name is None else normalise_name(name)
    if wanted != own and not call.is_staff:
        raise OperationError("forbidden", "these are not your jobs.", "Ask for your own.")
    user = await call.services.reader.user(wanted)
    if user is None:
        raise OperationError(
            "not-found", f"there is no user {wanted[:80]!r}.", "See `spoold user list`."
        )
    return user


async def _place(call: Call) -> Printer | None:
    """Where somebody stands, if that is said.

    Raises:
        OperationError: `not-found`.
    """
    name = call.args["printer"]
    return None if name is None else find_printer(await call.services.catalogue.look(), name)


async def held(call: Call) -> dict[str, Any]:
    return await everywhere.held(call, await _person(call), await _place(call))


async def release_own(call: Call) -> dict[str, Any]:
    """As at a machine, by somebody who logged in and says where: a page on a phone."""
    printer = await _place(call)
    assert printer is not None  # the argument is required
    return await everywhere.release(call, await _person(call), printer, call.actor)


async def delete(call: Call) -> dict[str, Any]:
    return await everywhere.delete(call, await _person(call))


async def change_held(call: Call) -> dict[str, Any]:
    return await everywhere.change(call, await _person(call), await _place(call))


_USER = Argument("user", summary="For staff: whose jobs.")
_STANDS = Argument("printer", summary="Where somebody stands; jobs elsewhere need it.")

OPERATIONS = (
    Operation(
        "job.release",
        (*ONE_OR_MANY, Argument("to", summary="Where a job comes out that waits for its owner.")),
        USERS_AND_OPERATORS,
        KNOWN,
        release,
        "Let held jobs print.",
    ),
    Operation(
        "release.held",
        (
            _USER,
            _STANDS,
            AFTER_ID,
            Argument("limit", (int,), default=50, least=1, most=PAGE_JOBS_MAX),
        ),
        USERS_AND_STAFF,
        KNOWN,
        held,
        "What waits for somebody to release it.",
    ),
    Operation(
        "release.release",
        (
            IDS,
            Argument("printer", required=True, summary="Where they come out."),
            *CHANGES,
            Argument("account", most=255, summary='Who pays; "" is the owner.'),
        ),
        USERS,
        KNOWN,
        release_own,
        "Let jobs print that wait for their owner.",
    ),
    Operation(
        "release.delete",
        (replace(IDS, required=True, summary="Which."),),
        USERS,
        KNOWN,
        delete,
        "Delete jobs that wait for their owner.",
    ),
    Operation(
        "release.change",
        (ID, *CHANGES, _STANDS),
        USERS,
        KNOWN,
        change_held,
        "Change a job that waits for its owner.",
    ),
)
