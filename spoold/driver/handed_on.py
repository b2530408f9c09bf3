"""What two nodes say to each other of a job that one hands on: pure rules for both ways (FRAMES.md
12), whether the first dials (`next_hop`) or the other fetches (`site/handing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from spoold.model.job import ACTIVE, Job, JobReason, JobState
from spoold.model.transitions import JobEvent
from spoold.spool.handed import HandedJob, JobThere
from spoold.spool.store import ChangeJob

STUCK = (JobState.PENDING_HELD, JobState.PROCESSING_STOPPED)  # something is in the way there
UNKNOWN = "unknown"  # the state of a job that the other node never had
MESSAGE_CHARACTERS_MAX = 255


def uuid_there(job: Job) -> UUID:
    """By which uuid the other node is to know it: each further document is a job of its own."""
    if job.document_number == 1:
        return job.uuid
    return uuid5(job.uuid, f"document-{job.document_number}")


def origin_of(job: Job) -> dict[str, Any]:
    """What another node is told of a job beside what its submitter said: FRAMES.md 12."""
    told = {
        "known": job.owner.known.value,
        "by": job.owner.by,
        "client_host": job.client_host,
        "copies_embedded": job.copies_embedded,
        "created_us": job.created_us,
    }
    if not job.submitter.startswith("uid:"):  # which is somebody else at another node
        told["submitter"] = job.submitter
    return told


def job_uuid_of(evidence: dict[str, Any], job_uuid: UUID) -> UUID:
    """By which uuid the other node knows a job that was handed on with this evidence."""
    return UUID(evidence["uuid"]) if evidence.get("uuid") else job_uuid


def where_it_is(evidence: dict[str, Any], how: str = "") -> str:
    """What a job's message says of a node that has it."""
    name = evidence.get("node-name") or evidence.get("node")
    return f"{name} has it as job {evidence.get('job')}{f': {how}' if how else ''}."


def told_of(uuid: UUID, there: JobThere | None) -> dict[str, Any]:
    """What the owner tells of a job that was handed on to it, as `by_owner` reads it."""
    if there is None:
        return {"job_uuid": str(uuid), "state": UNKNOWN, "reasons": [], "message": ""}
    return {
        "job_uuid": str(uuid),
        "job_id": there.job_id,
        "state": there.state,
        "reasons": list(there.reasons),
        "message": there.message[:MESSAGE_CHARACTERS_MAX],
        "impressions": there.impressions,
    }


def by_owner(job: HandedJob, told: Mapping[str, Any], now_us: int) -> ChangeJob | None:
    """What a job that was handed on becomes by what its owner tells of it (FRAMES.md 12).

    One that the owner does not know is to be handed on again. None: nothing that is shown here.
    """
    state, message = str(told.get("state")), str(told.get("message") or "")
    reasons = tuple(str(one) for one in told.get("reasons") or ())
    known = ", ".join(one for one in reasons if one != JobReason.NONE)
    if state == JobState.COMPLETED:
        event, reasons = JobEvent.DELIVER, (JobReason.JOB_COMPLETED_SUCCESSFULLY,)
        message = where_it_is(job.evidence, "completed")
    elif state == JobState.CANCELED:
        event, reasons = JobEvent.CANCELED, _ends(reasons)
        message = where_it_is(job.evidence, _said("canceled", message))
    elif state == JobState.ABORTED:
        event, reasons = JobEvent.REFUSE, (JobReason.ABORTED_BY_SYSTEM,)
        message = where_it_is(job.evidence, _said("aborted", message or known))
    elif state == UNKNOWN and job.is_canceled:
        event, reasons = JobEvent.CANCELED, (JobReason.JOB_CANCELED_BY_OPERATOR,)
        message = "The node that was to have it has it not."
    elif state == UNKNOWN:
        event, reasons = JobEvent.DEFER, (JobReason.SERVICE_OFF_LINE,)
        message = "The node that was to have it has it not: it is handed on again."
    elif state in set(JobState):
        event = JobEvent.HAND_ON
        # Why it is held there is for people: here it waits for nobody's release.
        is_stopped = state == JobState.PROCESSING_STOPPED
        reasons = (JobReason.QUEUED_IN_DEVICE, *(JobReason.PRINTER_STOPPED,) * is_stopped)
        words = _said(state, message or known) if state in STUCK else ""
        message = where_it_is(job.evidence, words)
    else:
        return None
    kept = tuple(dict.fromkeys(reasons))
    return ChangeJob(job.job_id, event, now_us, reasons=kept, message=message, only_from=ACTIVE)


def left_behind(job: HandedJob, now_us: int, why: str, actor: str = "node") -> ChangeJob:
    """What a job becomes whose node cannot be asked any more: nobody knows whether it came out."""
    event, reason = JobEvent.DOUBT, JobReason.JOB_IN_DOUBT
    if job.is_canceled:
        event, reason = JobEvent.CANCELED, JobReason.JOB_CANCELED_BY_OPERATOR
    message = f"{where_it_is(job.evidence)} {why}"
    return ChangeJob(job.job_id, event, now_us, actor, (reason,), message, only_from=ACTIVE)


def _ends(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons of a job that was canceled there."""
    kept = tuple(one for one in reasons if one != JobReason.PROCESSING_TO_STOP_POINT)
    return kept or (JobReason.JOB_CANCELED_BY_OPERATOR.value,)


def _said(state: str, detail: str) -> str:
    return ": ".join(part for part in (state, detail) if part)
