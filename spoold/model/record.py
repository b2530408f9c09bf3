"""A record: one fact of a node's journal: a job accepted, an attempt ended, a charge made.

Its address is (journal GUID, incarnation, position). What names people lies in `personal`, which
the chain covers only through a salted digest, so that it can be erased and the chain still verify.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

RECORD_BYTES_MAX = 32 * 1024
VERSION = 1


class Kind(StrEnum):
    """What happened: past tense. The value is the wire keyword; unknown kinds are kept as text."""

    NODE_STARTED = "node-started"
    PERSON_NAMED = "person-named"
    PERSON_RENAMED = "person-renamed"
    PERSON_SYNCHRONISED = "person-synchronised"
    PEOPLE_SYNCHRONISED = "people-synchronised"
    SOURCE_CHANGED = "source-changed"
    SOURCE_REMOVED = "source-removed"
    DEVICE_CHANGED = "device-changed"
    PRINTER_CHANGED = "printer-changed"
    PRINTER_REMOVED = "printer-removed"
    JOB_ACCEPTED = "job-accepted"
    DOCUMENT_ADDED = "document-added"
    DOCUMENT_FETCHED = "document-fetched"
    JOB_CHANGED = "job-changed"
    JOB_ATTRIBUTES_SET = "job-attributes-set"
    JOB_REMOVED = "job-removed"
    JOB_COUNTED = "job-counted"
    JOB_RELEASED = "job-released"
    ATTEMPT_STARTED = "attempt-started"
    ATTEMPT_NOTED = "attempt-noted"
    ATTEMPT_ENDED = "attempt-ended"
    PROVIDER_ENROLLED = "provider-enrolled"
    PROVIDER_REVOKED = "provider-revoked"
    CERTIFICATE_REFUSED = "certificate-refused"
    USER_CHANGED = "user-changed"
    USER_REMOVED = "user-removed"
    USER_ENROLLED = "user-enrolled"
    USER_REVOKED = "user-revoked"
    LOGIN_REFUSED = "login-refused"
    CARD_ADDED = "card-added"
    CARD_REMOVED = "card-removed"
    PIN_CHANGED = "pin-changed"
    PERSON_ERASED = "person-erased"
    MFD_ENROLLED = "mfd-enrolled"
    MFD_REVOKED = "mfd-revoked"
    NODE_INVITED = "node-invited"
    NODE_JOINED = "node-joined"
    NODE_APPROVED = "node-approved"
    NODE_CERTIFIED = "node-certified"
    NODE_REVOKED = "node-revoked"
    GUEST_ADMITTED = "guest-admitted"
    LINE_CHANGED = "line-changed"
    SESSION_STARTED = "session-started"
    SESSION_ENDED = "session-ended"
    PRICES_CHANGED = "prices-changed"
    TERMS_CHANGED = "terms-changed"
    ALLOWANCE_CHANGED = "allowance-changed"
    ALLOWANCE_REMOVED = "allowance-removed"
    ACCOUNT_CHANGED = "account-changed"
    ACCOUNT_REMOVED = "account-removed"
    LEDGER_POSTED = "ledger-posted"
    LEDGER_CARRIED = "ledger-carried"
    DOCUMENT_QUARANTINED = "document-quarantined"
    QUARANTINE_REMOVED = "quarantine-removed"
    BACKUP_MADE = "backup-made"
    NODE_RESTORED = "node-restored"
    OBJECTS_COPIED = "objects-copied"
    OBJECT_RENAMED = "object-renamed"
    PRINTER_REPAIRED = "printer-repaired"
    REPAIR_SETTLED = "repair-settled"
    POLICY_CHANGED = "policy-changed"
    EMERGENCY_CHANGED = "emergency-changed"
    RECORDS_RECEIVED = "records-received"
    RECORDS_MISSING = "records-missing"
    JOURNAL_FORKED = "journal-forked"
    JOURNAL_BRANCHED = "journal-branched"


# What happens to jobs by the day, and what people do for themselves.
_ORDINARY = frozenset(
    {
        Kind.PERSON_NAMED,
        Kind.PERSON_SYNCHRONISED,
        Kind.JOB_ACCEPTED,
        Kind.DOCUMENT_ADDED,
        Kind.DOCUMENT_FETCHED,
        Kind.JOB_REMOVED,
        Kind.JOB_COUNTED,
        Kind.JOB_RELEASED,
        Kind.ATTEMPT_STARTED,
        Kind.ATTEMPT_NOTED,
        Kind.ATTEMPT_ENDED,
        Kind.SESSION_STARTED,
        Kind.SESSION_ENDED,
        Kind.LEDGER_CARRIED,
        Kind.OBJECTS_COPIED,
        Kind.RECORDS_RECEIVED,
        Kind.NODE_CERTIFIED,
        Kind.GUEST_ADMITTED,
        Kind.LINE_CHANGED,
    }
)
# The same, unless somebody steers: an operator another one's job, an accountant a balance.
STEERED = frozenset({Kind.JOB_CHANGED, Kind.JOB_ATTRIBUTES_SET, Kind.LEDGER_POSTED})


# What tells of one job, by its uuid.
OF_JOBS = frozenset(
    {
        Kind.JOB_ACCEPTED,
        Kind.DOCUMENT_ADDED,
        Kind.JOB_CHANGED,
        Kind.JOB_RELEASED,
        Kind.JOB_COUNTED,
        Kind.JOB_ATTRIBUTES_SET,
        Kind.JOB_REMOVED,
        Kind.ATTEMPT_STARTED,
        Kind.ATTEMPT_ENDED,
    }
)


def is_administrative(kind: str, actor: str) -> bool:
    """Whether a record belongs to the audit trail: who changed, allowed or refused what.

    One of a kind that nobody here knows does: rather one too many than one too few.
    """
    if kind in STEERED:
        return actor.startswith(("uid:", "user:"))
    return kind not in _ORDINARY


@dataclass(frozen=True, slots=True)
class Record:
    """`event_us` is UTC in microseconds; `clock_offset_us` the offset to upstream, if measured.

    `actor` is `node`, `client`, `uid:N`, `provider:GUID`, `device:GUID`, `source:GUID`,
    `node:GUID` or `user:KEY`.
    """

    position: int
    kind: str
    actor: str
    event_us: int
    payload: dict[str, Any]
    personal: dict[str, Any] | None = None
    version: int = VERSION
    clock_offset_us: int | None = None
    hash: bytes = field(default=b"", compare=False)
