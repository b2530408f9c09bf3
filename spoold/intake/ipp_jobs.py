"""Single jobs by IPP: asking for one, and steering it through the table of operations.

In: a request that names a job. Out: its attributes, as many as the requester may see, or what
became of it. Who may do what is decided by the table, as on every port.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from spoold.codec.ipp_model import selected
from spoold.codec.ipp_model_job import GROUPS, JOB_ATTRIBUTES, JobEncoder
from spoold.codec.ipp_names import Operation
from spoold.intake.ipp_request import Ask, Reply
from spoold.intake.ipp_server import Server

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]


async def no_event(name: str, args: dict[str, Any]) -> None:
    """Operations that follow something are not asked for by IPP."""


async def call(server: Server, ask: Ask, op: str, **args: Any) -> dict[str, Any]:
    """An operation of the table, for this requester.

    Raises:
        OperationError: it is refused.
    """
    return await server.router.call(ask.principal, op, args, no_event)


async def get_job_attributes(server: Server, ask: Ask) -> Reply:
    job = await server.job(ask.job_id())
    asked = ask.keywords("requested-attributes")
    names = selected(asked, GROUPS, JOB_ATTRIBUTES, JOB_ATTRIBUTES)
    is_redacted = not server.node.may_read(ask.principal, job)
    return Reply(groups=JobEncoder(names).group(job, server.place(ask), is_redacted=is_redacted))


async def cancel_job(server: Server, ask: Ask) -> Reply:
    await call(server, ask, "job.cancel", job=ask.job_id())
    return Reply()


OPERATIONS: Final[dict[Operation, Handler]] = {
    Operation.GET_JOB_ATTRIBUTES: get_job_attributes,
    Operation.CANCEL_JOB: cancel_job,
}
