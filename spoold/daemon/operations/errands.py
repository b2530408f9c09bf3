"""`site.errands` and `site.did`, and how a site does what it is asked: see `site/errands.py`.

A site lets its application server do to its jobs what an operator may do who names one, and what
people may do to held jobs of theirs; no more. Where staff did it, the journal of the site names the
application server, and who it was stands in the log of that.
"""

from __future__ import annotations

from typing import Any

from spoold.daemon.operations import queueing, steering
from spoold.daemon.operations.access import LINES, SITES
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.held_jobs import CHANGES, change_map
from spoold.daemon.operations.sites import refusal_arguments, refusal_of, site_of
from spoold.daemon.operations.table import Argument, Call, Operation, read_arguments
from spoold.daemon.operations.views import uuid_of
from spoold.model.errors import OperationError
from spoold.model.job import Job
from spoold.model.node import identity_of
from spoold.model.principal import Port, Principal, Role
from spoold.model.release import Changes
from spoold.model.user import User

_DONE_HERE = {
    one.name: one
    for one in (*steering.OPERATIONS, *queueing.OPERATIONS)
    if one.name in ("job.cancel", "job.hold", "job.set")
}


async def do(services: Services, op: str, args: dict[str, Any]) -> dict[str, Any]:
    """Do, at a site, what its application server asks for.

    Raises:
        OperationError: it was refused, or is nothing that it may ask for.
    """
    held = _HELD.get(op)
    if held is not None:
        return await held(services, args)
    operation = _DONE_HERE.get(op)
    upstream = None if services.line is None else services.line.upstream
    if operation is None or upstream is None or args.get("job") is None:
        raise OperationError("not-found", "that is not done for an application server.")
    roles = frozenset({Role.OPERATOR})
    principal = Principal(identity_of(upstream.guid), Port.CONTROL, roles)
    values = read_arguments(operation.arguments, args)
    return await operation.handler(Call(services, principal, roles, values, _tell_nobody))


async def _person_and_job(services: Services, args: dict[str, Any]) -> tuple[User, Job]:
    """Raises OperationError: `not-found`: one of them is not here."""
    person, uuid = uuid_of(str(args.get("person"))), uuid_of(str(args.get("job")))
    user = None if person is None else await services.reader.user_by_guid(person)
    job = None if uuid is None else await services.reader.job_by_uuid(uuid)
    if user is None or job is None:
        raise OperationError("not-found", "there is no such job of such a person here.")
    return user, job


async def _delete_held(services: Services, args: dict[str, Any]) -> dict[str, Any]:
    user, job = await _person_and_job(services, args)
    [done] = await services.desk.delete(user, [job.id])
    return change_map(done)


async def _change_held(services: Services, args: dict[str, Any]) -> dict[str, Any]:
    user, job = await _person_and_job(services, args)
    given = {one.name: args[one.name] for one in CHANGES if one.name in args}
    changes = Changes(**read_arguments(CHANGES, given))
    return change_map(await services.desk.change(user, job.id, changes))


# What people do at a machine elsewhere to jobs of theirs that wait here.
_HELD = {"held.delete": _delete_held, "held.change": _change_held}


async def _tell_nobody(event: str, args: dict[str, Any]) -> None:
    """What is done for an application server has an answer, and no events."""


async def errands(call: Call) -> dict[str, Any]:
    site = await site_of(call)
    return {"errands": call.services.errands.take(site.guid)}


async def did(call: Call) -> dict[str, Any]:
    site, args = await site_of(call), call.args
    error = refusal_of(site, args)
    call.services.errands.did(site.guid, args["number"], args["result"], error)
    return {}


OPERATIONS = (
    Operation("site.errands", (), SITES, LINES, errands, "What a site is to do to its jobs."),
    Operation(
        "site.did",
        (
            Argument("number", (int,), required=True, least=1),
            Argument("result", (dict,), summary="As the operation answers."),
            *refusal_arguments("Why it was not done."),
        ),
        SITES,
        LINES,
        did,
        "A site has done what it was asked, or says why not.",
    ),
)
