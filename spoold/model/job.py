"""A Job as RFC 8011 names it, with its owner and its document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from spoold.model.person import Owner


class JobState(StrEnum):
    """RFC 8011 5.3.7, `job-state`; the value is the wire keyword."""

    PENDING = "pending"
    PENDING_HELD = "pending-held"
    PROCESSING = "processing"
    PROCESSING_STOPPED = "processing-stopped"
    CANCELED = "canceled"
    ABORTED = "aborted"
    COMPLETED = "completed"

    @property
    def is_final(self) -> bool:
        return self in FINAL


PRIORITY_MAX = 100  # RFC 8011 5.2.1
DOCUMENTS_MAX = 100  # of one job
WAITING = (JobState.PENDING, JobState.PENDING_HELD)  # for its turn, or for somebody
ACTIVE = (JobState.PROCESSING, JobState.PROCESSING_STOPPED)  # a device has it, or some of it
FINAL = (JobState.CANCELED, JobState.ABORTED, JobState.COMPLETED)


class JobReason(StrEnum):
    """RFC 8011 5.3.8, `job-state-reasons`, with the few that spoold adds (marked ours)."""

    NONE = "none"
    JOB_INCOMING = "job-incoming"
    JOB_HOLD_UNTIL_SPECIFIED = "job-hold-until-specified"
    JOB_HELD_ON_CREATE = "job-held-on-create"  # RFC 3998: the printer holds new jobs
    JOB_SUSPENDED = "job-suspended"  # RFC 3998
    SUBMISSION_INTERRUPTED = "submission-interrupted"
    PRINTER_STOPPED = "printer-stopped"
    QUEUED_IN_DEVICE = "queued-in-device"
    PROCESSING_TO_STOP_POINT = "processing-to-stop-point"
    JOB_CANCELED_BY_USER = "job-canceled-by-user"
    JOB_CANCELED_BY_OPERATOR = "job-canceled-by-operator"
    JOB_CANCELED_AT_DEVICE = "job-canceled-at-device"
    ABORTED_BY_SYSTEM = "aborted-by-system"
    DOCUMENT_FORMAT_ERROR = "document-format-error"
    UNSUPPORTED_DOCUMENT_FORMAT = "unsupported-document-format"
    JOB_COMPLETED_SUCCESSFULLY = "job-completed-successfully"
    JOB_RESTARTABLE = "job-restartable"
    SERVICE_OFF_LINE = "service-off-line"
    RESOURCES_ARE_NOT_READY = "resources-are-not-ready"
    JOB_IN_DOUBT = "job-in-doubt"  # ours: bytes left, nobody knows whether they printed
    JOB_ASSUMED_PRINTED = "job-assumed-printed"  # ours: settled by policy or by an operator
    DOCUMENT_DAMAGED = "document-damaged"  # ours: the stored bytes are missing or changed
    OWNER_NOT_KNOWN_WELL_ENOUGH = "owner-not-known-well-enough"  # ours: its printer asks for more
    JOB_RELEASE_WAIT = "job-release-wait"  # PWG 5100.11: until its owner stands at the machine
    JOB_BEING_COUNTED = "job-being-counted"  # ours: what it holds, and who pays, is being found
    ACCOUNT_INFO_NEEDED = "account-info-needed"  # PWG 5100.3: nobody knows who pays
    ACCOUNT_LIMIT_REACHED = "account-limit-reached"  # PWG 5100.3
    JOB_NOT_ALLOWED = "job-not-allowed"  # ours: a rule of the printer says no
    JOB_DONE_ELSEWHERE = "job-done-elsewhere"  # ours: another node had it, too, and printed it
    JOB_WAITS_ELSEWHERE = "job-waits-elsewhere"  # ours: its application server has it, and releases
    JOB_REHOMED = "job-rehomed"  # ours: another node has its printer now, and was given it, too
    JOB_PRINTED_DIRECTLY = "job-printed-directly"  # ours: by its provider, which reached no server
    JOB_CANCELED_AFTER_TIMEOUT = "job-canceled-after-timeout"  # PWG 5100.7: nobody fetched it


# What a job waits for that no plain release ends: it is released at a machine, or cleared.
AWAITS_RELEASE = frozenset(
    {
        JobReason.JOB_RELEASE_WAIT.value,
        JobReason.JOB_BEING_COUNTED.value,
        JobReason.ACCOUNT_INFO_NEEDED.value,
        JobReason.ACCOUNT_LIMIT_REACHED.value,
        JobReason.JOB_NOT_ALLOWED.value,
    }
)

LACKS_PAYMENT = frozenset(
    {JobReason.ACCOUNT_INFO_NEEDED.value, JobReason.ACCOUNT_LIMIT_REACHED.value}
)


def reasons_after(reasons: Iterable[str], over: str) -> tuple[str, ...]:
    """What is left when one reason of a held job is over: whether somebody can pay for it by now
    is to be found out again.
    """
    left = tuple(one for one in reasons if one != over)
    return (JobReason.JOB_BEING_COUNTED.value,) if left and set(left) <= LACKS_PAYMENT else left


# Somebody else's word is waited for: nobody but an operator releases these.
WAITS_FOR_OTHERS = (
    JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH.value,
    JobReason.JOB_HELD_ON_CREATE.value,
)


@dataclass(frozen=True, slots=True)
class Document:
    """The bytes of a job: `size` in bytes, `digest` as `blake3:HEX` or `sha256:HEX`.

    `format` is the document-format (a MIME media type, RFC 8011 5.1.10). `stored` says where the
    bytes are: `inline` (in the row), `file`, `gone` (retention removed them), or `none` (they are
    still to come: the job is open). `name` is the document-name that came with it.
    """

    size: int
    digest: str
    format: str = "application/octet-stream"
    stored: str = "inline"
    encoding: str = ""
    key_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One job in the spool. `id` is a number of this store; `uuid` is the global name.

    `printer_id` is the Printer that holds it now, `origin` the one that it was submitted to when
    it has been moved or pooled. `attributes` holds the job template attributes as submitted
    (`copies`, `sides`, ...). `copies_embedded` says that the stream itself asks for its copies,
    which must then never be applied again. `hold_until` is the job-hold-until of a job that is
    held for it (RFC 8011 5.2.2; `time` for a moment of its own), else empty; `release_us` is when
    it ends by itself. `attempts` is the number of the last attempt; `uncounted` of them spoold
    itself ended, before anything had left. A `priority` beyond 100 is that of a job which was
    promoted (RFC 3998).

    Of a job's `documents` (PWG 5100.5) the one with the number `document_number`, from 1, is
    `document`: it is printed next, is being printed, or was the last to be. `size` is that of all
    in bytes, None while there is but one; `copies` are those of `document`.

    `impressions` of one copy, and `media_sheets` of all, are what its documents were counted to
    make (RFC 8011 5.3.17.2 and 3), None when nobody knows. `held_us` is since when the job waits to
    be released by its owner, or cleared; None when it does not.
    """

    id: int
    uuid: UUID
    printer_id: int
    state: JobState
    reasons: tuple[str, ...]
    owner: Owner
    submitter: str
    title: str
    client_host: str
    intake: str
    priority: int
    created_us: int
    document: Document
    position: int
    attributes: dict[str, Any] = field(default_factory=dict)
    copies: int = 1
    copies_embedded: bool = False
    attempts: int = 0
    changed_us: int = 0
    finished_us: int | None = None
    message: str = ""
    hold_until: str = ""
    release_us: int | None = None
    uncounted: int = 0
    documents: int = 1
    document_number: int = 1
    size: int | None = None
    impressions: int | None = None
    media_sheets: int | None = None
    held_us: int | None = None

    @property
    def awaits_release(self) -> bool:
        """Whether it waits for its owner at a machine."""
        return JobReason.JOB_RELEASE_WAIT in self.reasons

    @property
    def job_priority(self) -> int:
        """`job-priority` as it is told: of a job that was promoted the highest that there is."""
        return min(self.priority, PRIORITY_MAX)

    @property
    def is_incoming(self) -> bool:
        """Whether the job is open: its document, or the word that it was the last, is to come."""
        return JobReason.JOB_INCOMING in self.reasons

    @property
    def has_more(self) -> bool:
        """Whether another document comes after the one that is printed now."""
        return self.document_number < self.documents

    @property
    def documents_here(self) -> int:
        """How many documents have come: none, for a job that was just opened."""
        return 0 if self.document.stored == "none" else self.documents

    @property
    def bytes_total(self) -> int:
        """The size of all documents."""
        return self.document.size if self.size is None else self.size

    @property
    def k_octets(self) -> int:
        """`job-k-octets` (RFC 8011 5.3.17.1): the size in units of 1,024 octets, rounded up."""
        return -(-self.bytes_total // 1024)
