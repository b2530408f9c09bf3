"""Changes of jobs, their documents and attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.model.job import JobReason, JobState
from spoold.model.outcome import Outcome
from spoold.model.person import Owner
from spoold.model.transitions import JobEvent


@dataclass(slots=True)
class NewDocument:
    """The bytes of a job: `body` inline, or `file` (a name under `documents/`), synced; or neither:
    they are still to come. `name` is kept of a document that is attached.
    """

    size: int
    digest: str
    format: str = "application/octet-stream"
    body: bytes | None = None
    file: str = ""
    name: str = ""

    @property
    def stored(self) -> str:
        """Where the bytes are, as `model.job.Document` says it."""
        return "inline" if self.body is not None else "file" if self.file else "none"


NO_DOCUMENT = NewDocument(0, "")


@dataclass(slots=True)
class AcceptJob:
    """A job handed over. Answer: `Accepted`.

    `uuid` None lets the store name it; then it cannot be a duplicate. With a uuid the submission is
    idempotent by (submitter, uuid): the same printer and digest gets the first answer again;
    anything else is `conflict`. `created_us` is when another node accepted it first.
    With `is_released` its owner stood at the machine, or it was cleared, at that node. `handed_by`
    is the node that handed it on, as the transport knows it; "" where nobody did.
    """

    printer_id: int
    owner: Owner
    submitter: str
    document: NewDocument
    now_us: int
    uuid: UUID | None = None
    title: str = ""
    client_host: str = ""
    intake: str = "raw"
    priority: int = 50
    copies: int = 1
    copies_embedded: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    state: JobState = JobState.PENDING
    reasons: tuple[str, ...] = ()
    message: str = ""
    hold_until: str = ""
    release_us: int | None = None
    created_us: int | None = None
    is_released: bool = False
    handed_by: str = ""


@dataclass(slots=True)
class OpenJob(AcceptJob):
    """A job handed over before its document, which `AttachDocument` brings. Answer: `Accepted`.

    It waits for that until `deadline_us`. The same uuid again gets the first answer again.
    """

    state: JobState = JobState.PENDING_HELD
    reasons: tuple[str, ...] = (JobReason.JOB_INCOMING.value,)
    deadline_us: int = 0


@dataclass(slots=True)
class ReportJob(AcceptJob):
    """A job that its provider has printed itself, while it reached no server. Answer: `Accepted`.

    It is over from the start, and has no document to print. The same uuid again gets the first
    answer again; a job that waits here under it is canceled, for it is printed.
    """

    intake: str = "report"
    state: JobState = JobState.COMPLETED
    is_released: bool = True


@dataclass(slots=True)
class AttachDocument:
    """The document of an open job. Answer: `Accepted`, with the position of this record.

    After the `last` one the job waits to print, or is held for `reasons` (or for its own hold);
    else it stays open until `deadline_us`. Refused with `forbidden` to anybody but the submitter,
    `not-possible` when the job is not open, or when the document with this `number` has come, and
    `too-large` when there are too many. `copies` are those of the document, if it has a say in it.
    """

    job_id: int
    submitter: str
    document: NewDocument
    now_us: int
    last: bool = True
    deadline_us: int = 0
    reasons: tuple[str, ...] = ()
    message: str = ""
    copies: int | None = None
    copies_embedded: bool = False
    number: int | None = None


@dataclass(slots=True)
class CloseJob:
    """No more documents come for an open job. Answer: `Accepted`, with the job's new state.

    An empty one is aborted with `message`. `submitter` None is a rule of the node. `is_overdue`:
    only if its deadline has passed.
    """

    job_id: int
    now_us: int
    submitter: str | None = None
    reasons: tuple[str, ...] = ()
    message: str = ""
    is_overdue: bool = False


@dataclass(slots=True)
class CopyJob(AcceptJob):
    """A new job with the documents of the job `from_id`. Answer: `Accepted`.

    `document` says nothing but the `file`, when there is one: another name of the same bytes; so do
    `more_files` of the further documents. Refused with `not-possible` when they are not kept any
    more.
    """

    from_id: int = 0
    more_files: tuple[str, ...] = ()


@dataclass(slots=True)
class EndHold:
    """A `reason` for which a job is held is over. Answer: the `JobState`.

    Without another reason the job waits to print. `is_due`: only if its time has come.
    """

    job_id: int
    reason: str
    now_us: int
    actor: str = "node"
    is_due: bool = False


@dataclass(slots=True)
class SetJob:
    """Other attributes for a job that waits; None keeps what is. Answer: the `JobState`.

    `attributes` are merged into those that the job has; one that is None is taken away.
    """

    job_id: int
    now_us: int
    actor: str = "node"
    title: str | None = None
    priority: int | None = None
    copies: int | None = None
    attributes: dict[str, Any] | None = None


@dataclass(slots=True)
class PlaceJob:
    """Another place in its queue for a pending job. Answer: the `JobState`.

    It comes next; or, with `after_id`, after that job of the same printer, as soon as it has ended.
    """

    job_id: int
    now_us: int
    actor: str = "node"
    after_id: int | None = None


@dataclass(slots=True)
class Accepted:
    """The answer to a submission. `state` is the job's at the time of this answer, and `reasons`
    those for which it is held, where the job is new.
    """

    job_id: int
    uuid: UUID
    position: int
    state: JobState
    is_duplicate: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class StartAttempt:
    """The durable mark that bytes of a job may leave for a device. Answer: the attempt's number.

    `printer_id` prints it, `queue_id` (its pool, or the same) holds it. Refused with `not-possible`
    when the job is not pending there any more.
    """

    job_id: int
    device_id: int
    printer_id: int
    now_us: int
    queue_id: int | None = None


@dataclass(slots=True)
class NoteAttempt:
    """What is known by now of an attempt without an end, to ask the device by. Answer: None."""

    job_id: int
    number: int
    evidence: dict[str, Any]
    now_us: int


@dataclass(slots=True)
class EndAttempt:
    """What became of an attempt, and what the job becomes by it. Answer: the new `JobState`.

    A job with a further document goes on with that where it would be completed.
    """

    job_id: int
    number: int
    outcome: Outcome
    event: JobEvent
    reasons: tuple[str, ...]
    now_us: int
    message: str = ""


@dataclass(slots=True)
class ChangeJob:
    """A change of a job by somebody (`actor`) or by a rule (`node`). Answer: the new `JobState`.

    Refused with `not-possible` when the job is in none of the states `only_from`, is not held for
    the reason `only_with`, or for others than `only_for`, if that names any.
    """

    job_id: int
    event: JobEvent
    now_us: int
    actor: str = "node"
    reasons: tuple[str, ...] = ()
    message: str = ""
    printer_id: int | None = None
    only_from: tuple[JobState, ...] = ()
    hold_until: str = ""
    release_us: int | None = None
    only_with: str = ""
    only_for: tuple[str, ...] = ()


@dataclass(slots=True)
class RemoveJobs:
    """Forget finished jobs; their tombstones stay a while. Answer: file names of documents to
    unlink.
    """

    job_ids: tuple[int, ...]
    now_us: int
    documents_only: bool = False


@dataclass(slots=True)
class ForgetTombstones:
    """Nobody sends these uuids again, so long is it since their jobs were removed. Answer: None."""

    uuids: tuple[bytes, ...]
