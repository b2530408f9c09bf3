"""Single jobs by IPP: asking for one, and steering it through the table of operations.

In: a request that names a job. Out: its attributes, as many as the requester may see, or what
became of it. Who may do what is decided by the table, as on every port.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from spoold.codec.ipp_model import selected
from spoold.codec.ipp_model_job import GROUPS, JOB_ATTRIBUTES, TIME, JobEncoder
from spoold.codec.ipp_names import Operation
from spoold.codec.ipp_values import DateTime, Group, Tag
from spoold.intake.ipp_request import Ask, Reply, bad, parse_target
from spoold.intake.ipp_server import Server

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

SECOND_US: Final = 1_000_000
HOLDING: Final = ("job-hold-until", "job-hold-until-time")
DAY_S: Final = 86_400
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?").fullmatch
_PROCESSING: Final = ("time-at-processing", "date-time-at-processing")
_WAITING: Final = ("pending", "pending-held")


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
    place = server.place(ask)
    if job.attempts and not names.isdisjoint(_PROCESSING):
        attempts = await server.reader.attempts(job.id)
        place = place._replace(started_us=attempts[-1].started_us if attempts else None)
    is_redacted = not server.node.sight(ask.principal)(job)
    return Reply(groups=JobEncoder(names).group(job, place, is_redacted=is_redacted))


# -- steering ----------------------------------------------------------------------------------


def holding(group: Group, now_us: int) -> dict[str, Any]:
    """Until when to hold, as arguments of an operation (RFC 8011 4.3.5, PWG 5100.11).

    Raises:
        Refusal: it is said wrongly.
    """
    until, when = group.get("job-hold-until"), group.get("job-hold-until-time")
    if when is not None:
        seconds = when.first.unix_s if isinstance(when.first, DateTime) else None
        if seconds is None:
            raise bad("job-hold-until-time is no time.")
        return {"hold_until": TIME, "hold_until_us": seconds * SECOND_US}
    if until is None:
        return {}
    if until.tag not in (Tag.KEYWORD, Tag.NAME) or len(until.values) != 1:
        raise bad("job-hold-until is no keyword.")
    at_us = time_of_day_us(until.first, now_us)
    if at_us is not None:
        return {"hold_until": TIME, "hold_until_us": at_us}
    return {"hold_until": until.first}


def time_of_day_us(text: str, now_us: int) -> int | None:
    """When it is next `HH:MM` or `HH:MM:SS` in UTC, as CUPS's clients hold jobs; or None."""
    found = _TIME_OF_DAY(text)
    if found is None:
        return None
    hours, minutes, seconds = int(found[1]), int(found[2]), int(found[3] or 0)
    now_s = now_us // SECOND_US
    at_s = now_s - now_s % DAY_S + hours * 3600 + minutes * 60 + seconds
    return (at_s if at_s > now_s else at_s + DAY_S) * SECOND_US


async def cancel_job(server: Server, ask: Ask) -> Reply:
    await call(server, ask, "job.cancel", job=ask.job_id())
    return Reply()


async def _with_hold(server: Server, ask: Ask, op: str) -> Reply:
    """An operation on the job that may say until when it is held."""
    hold = holding(ask.operation, server.node.wall_clock())
    await call(server, ask, op, job=ask.job_id(), **hold)
    return Reply()


async def hold_job(server: Server, ask: Ask) -> Reply:
    return await _with_hold(server, ask, "job.hold")


async def release_job(server: Server, ask: Ask) -> Reply:
    """Release-Job, and Resume-Job for one that was suspended (RFC 3998)."""
    await call(server, ask, "job.release", job=ask.job_id())
    return Reply()


async def restart_job(server: Server, ask: Ask) -> Reply:
    """Restart-Job: the same job, once more."""
    return await _with_hold(server, ask, "job.retry")


async def promote_job(server: Server, ask: Ask) -> Reply:
    await call(server, ask, "job.promote", job=ask.job_id())
    return Reply()


async def schedule_job_after(server: Server, ask: Ask) -> Reply:
    after = ask.integer("predecessor-job-id", 1)
    await call(server, ask, "job.schedule-after", job=ask.job_id(), after=after)
    return Reply()


async def move_job(server: Server, ask: Ask) -> Reply:
    """CUPS-Move-Job: one job, or all that wait on a printer, to `job-printer-uri`."""
    group = ask.group(Tag.JOB)
    uri = None if group is None else group.first("job-printer-uri")
    to = parse_target(uri) if isinstance(uri, str) else None
    if to is None or not to.printer:
        raise bad("job-printer-uri names no printer here.")
    target = ask.target()
    if target.job_id is not None:
        await call(server, ask, "job.move", job=target.job_id, to=to.printer)
        return Reply()
    chosen = {"printer": server.printer(ask).name, "states": list(_WAITING)}
    after: int | None = 0
    while after is not None:
        done = await call(server, ask, "job.move", filter=chosen, to=to.printer, after_id=after)
        after = done["next_after_id"]
    return Reply()


async def cancel_jobs(server: Server, ask: Ask) -> Reply:
    """Cancel-Jobs (PWG 5100.11): those that are named, or all; for operators."""
    return await _cancel_many(server, ask, is_mine=False)


async def cancel_my_jobs(server: Server, ask: Ask) -> Reply:
    """Cancel-My-Jobs (PWG 5100.11): the requester's own, those that are named, or all."""
    return await _cancel_many(server, ask, is_mine=True)


async def _cancel_many(server: Server, ask: Ask, *, is_mine: bool) -> Reply:
    args: dict[str, Any] = {"mine": is_mine}
    if is_mine and ask.user:
        args["owner"] = ask.user
    if ask.target().printer is not None:
        args["printer"] = server.printer(ask).name
    if (ids := ask.integers("job-ids")) is not None:
        args["jobs"] = ids
    after: int | None = 0
    while after is not None:
        done = await call(server, ask, "job.cancel-many", **args, after_id=after)
        after = done.get("next_after_id")
    return Reply()


OPERATIONS: Final[dict[Operation, Handler]] = {
    Operation.GET_JOB_ATTRIBUTES: get_job_attributes,
    Operation.CANCEL_JOB: cancel_job,
    Operation.HOLD_JOB: hold_job,
    Operation.RELEASE_JOB: release_job,
    Operation.RESUME_JOB: release_job,
    Operation.RESTART_JOB: restart_job,
    Operation.PROMOTE_JOB: promote_job,
    Operation.SCHEDULE_JOB_AFTER: schedule_job_after,
    Operation.CANCEL_JOBS: cancel_jobs,
    Operation.CANCEL_MY_JOBS: cancel_my_jobs,
    Operation.CUPS_MOVE_JOB: move_job,
}
