"""What nodes ask about the jobs that they handed on to this one: `handed.follow`, `handed.cancel`.

Whoever may hand on jobs of others (`intake/arguments.hands_on`) may ask how any is that came this
way, by its uuid: a job may have come over another node before. Only who handed it on cancels it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import NODES
from spoold.daemon.operations.plans import plan_cancel
from spoold.daemon.operations.steering import apply
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import uuid_of
from spoold.driver.handed_on import UNKNOWN, told_of
from spoold.intake.arguments import hands_on
from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.principal import Port
from spoold.spool.handed import HANDED_ON, JobThere, find_there, may_cancel

JOBS_MAX = 500


def check_node(call: Call) -> None:
    """Raises OperationError: `forbidden`."""
    if not hands_on(call.principal):
        raise OperationError(
            "forbidden",
            f"{call.principal.name or call.principal.identity} hands on no jobs of others.",
            "Nodes of the deployment do, and providers that may speak for anybody.",
        )


def read_uuids(texts: list[str]) -> list[UUID]:
    """Raises OperationError: `bad-request`: one is none."""
    found = [uuid_of(text) for text in texts]
    if None in found:
        raise OperationError("bad-request", "jobs must be UUIDs.", "See FRAMES.md, section 12.")
    return [one for one in dict.fromkeys(found) if one is not None]


async def look(call: Call, uuids: list[UUID]) -> dict[UUID, JobThere]:
    """Those of the jobs that came by handing on, as they are now."""
    found: dict[UUID, JobThere] = await call.services.reader.look(find_there, uuids)
    return {uuid: one for uuid, one in found.items() if one.intake in (HANDED_ON, "")}


async def follow(call: Call) -> dict[str, Any]:
    """Events `job-state`, of each job at once and at each change; until all are finished."""
    check_node(call)
    uuids = read_uuids(call.args["jobs"])
    known = await look(call, uuids)
    by_id = {one.job_id: uuid for uuid, one in known.items()}
    told: dict[UUID, dict[str, Any]] = {}

    async def tell(some: list[UUID]) -> None:
        now = await look(call, some)
        for uuid in some:
            if told.get(uuid) != (shown := told_of(uuid, now.get(uuid))):
                told[uuid] = shown
                await call.send_event("job-state", shown)

    with call.services.watch.following_all(by_id) as moved:
        await tell(uuids)
        while not all(_is_over(one) for one in told.values()):
            await tell([by_id[job_id] for job_id in await moved.wait()])
    return {}


def _is_over(shown: dict[str, Any]) -> bool:
    return shown["state"] == UNKNOWN or JobState(shown["state"]).is_final


async def cancel(call: Call) -> dict[str, Any]:
    """Cancel a job for the node that handed it on: there somebody canceled it."""
    check_node(call)
    [uuid] = read_uuids([call.args["job"]])
    there = (await look(call, [uuid])).get(uuid)
    job = None if there is None else await call.services.reader.job(there.job_id)
    if job is None:
        raise OperationError("not-found", "no such job was handed on to this node.")
    if not await call.services.reader.look(may_cancel, job.id, call.principal.identity):
        raise OperationError(
            "forbidden", "somebody else handed this job on.", "Cancel it where it came in first."
        )
    [done] = await apply(call, [job], plan_cancel(JobReason.JOB_CANCELED_BY_USER), dry_run=False)
    if done.error is not None:
        raise done.error
    return {"state": done.state.value}


_UUID = Argument("", least=32, most=45)
OPERATIONS = (
    Operation(
        "handed.follow",
        (Argument("jobs", (list,), required=True, least=1, most=JOBS_MAX, each=_UUID),),
        NODES,
        frozenset({Port.MUTUAL}),
        follow,
        "The states of jobs that were handed on, until all are finished.",
    ),
    Operation(
        "handed.cancel",
        (Argument("job", required=True, least=32, most=45),),
        NODES,
        frozenset({Port.MUTUAL}),
        cancel,
        "Cancel a job that was handed on.",
    ),
)
