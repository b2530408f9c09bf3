"""Jobs that are changed, or made anew, by IPP: Set-Job-Attributes, Resubmit-Job, Reprocess-Job.

In: attributes that a job is to have (RFC 3380 4.2, PWG 5100.11). Out: all of them, or none: what
cannot be set is named in the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from spoold.codec import ipp
from spoold.codec.ipp_capabilities import supports
from spoold.codec.ipp_model_job import JOB_ATTRIBUTES, created_group
from spoold.codec.ipp_model_printer import SETTABLE_JOB
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_plain import NotPlain, to_plain
from spoold.codec.ipp_values import Attribute, Group, Tag, WithLanguage
from spoold.intake.ipp_jobs import HOLDING, call, holding
from spoold.intake.ipp_request import Ask, Refusal, Reply, bad
from spoold.intake.ipp_server import Server
from spoold.model.job import Job, JobState

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

# Attributes that are fields of a job: the argument, and what it is after a deletion.
_FIELDS: Final[dict[str, tuple[str, Any]]] = {
    "copies": ("copies", 1),
    "job-name": ("title", ""),
    "job-priority": ("priority", 50),
}


async def set_job_attributes(server: Server, ask: Ask) -> Reply:
    job = await server.job(ask.job_id())
    group = ask.group(Tag.JOB)
    if group is None or not group.attributes:
        raise bad("there is nothing to set.")
    await call(server, ask, "job.set", job=job.id, **changes_of(server, job, group))
    return Reply()


def changes_of(server: Server, job: Job, group: Group) -> dict[str, Any]:
    """The arguments of `job.set` for these attributes.

    Raises:
        Refusal: one cannot be set, or not to this.
    """
    args = holding(group, server.node.wall_clock())
    attributes: dict[str, Any] = {}
    fixed: list[Attribute] = []
    strange: list[Attribute] = []
    capabilities = server.sheet_of(job).plain
    for name, attribute in group.attributes.items():
        if name in HOLDING:
            continue
        if name not in SETTABLE_JOB:
            if name in JOB_ATTRIBUTES:
                fixed.append(ipp.out_of_band(name, Tag.NOT_SETTABLE))
            else:
                strange.append(ipp.unsupported(name))
            continue
        is_deleted = attribute.tag == Tag.DELETE
        try:
            value = None if is_deleted else _value(attribute)
        except NotPlain:
            strange.append(attribute)
            continue
        if name in _FIELDS:
            argument, default = _FIELDS[name]
            args[argument] = default if is_deleted else value
        elif is_deleted or supports(capabilities, name, value):
            attributes[name] = value
        else:
            strange.append(attribute)
    if fixed:
        status = Status.CLIENT_ERROR_ATTRIBUTES_NOT_SETTABLE
        raise Refusal(status, "some of this cannot be set.", [*fixed, *strange])
    if strange:
        status = Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED
        raise Refusal(status, "the printer cannot do all of this.", strange)
    return {**args, "attributes": attributes} if attributes else args


def _value(attribute: Attribute) -> Any:
    if attribute.name != "job-name":
        return to_plain(attribute)
    if attribute.tag not in (Tag.NAME, Tag.NAME_LANGUAGE) or len(attribute.values) != 1:
        raise NotPlain(attribute.name)
    value = attribute.first
    return value.text if isinstance(value, WithLanguage) else value


async def resubmit_job(server: Server, ask: Ask) -> Reply:
    """Resubmit-Job (PWG 5100.11): a new job of the same document, perhaps on another printer."""
    return await _copy(server, ask)


async def reprocess_job(server: Server, ask: Ask) -> Reply:
    """Reprocess-Job (RFC 3998 4.1): a copy of a finished job, as it was."""
    job = await server.job(ask.job_id())
    if not job.state.is_final:
        raise Refusal(Status.CLIENT_ERROR_NOT_POSSIBLE, f"job {job.id} has not ended.")
    return await _copy(server, ask)


async def _copy(server: Server, ask: Ask) -> Reply:
    job = await server.job(ask.job_id())
    group = ask.group(Tag.JOB)
    args = {} if group is None else changes_of(server, job, group)
    if ask.target().printer:
        args["printer"] = server.printer(ask).name
    args |= holding(ask.operation, server.node.wall_clock())
    made = await call(server, ask, "job.resubmit", job=job.id, **args)
    place = server.place(ask)
    state, reasons = JobState(made["state"]), tuple(made["reasons"])
    return Reply(groups=created_group(place, made["id"], UUID(made["uuid"]), state, reasons, ""))


OPERATIONS: Final[dict[Operation, Handler]] = {
    Operation.SET_JOB_ATTRIBUTES: set_job_attributes,
    Operation.RESUBMIT_JOB: resubmit_job,
    Operation.REPROCESS_JOB: reprocess_job,
}
