"""How jobs, attempts and records are shown: maps that fit JSON and the frames protocol.

Whoever has no credentials sees a job's number, uuid and state, and nothing that names anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any
from uuid import UUID

import msgpack

from spoold.codec.frame import MESSAGE_BYTES_MAX
from spoold.model.job import Job
from spoold.model.record import Kind, Record
from spoold.spool.store import Attempt

# The limits of one text in the frames protocol; what is longer is cut, and says so.
TEXT_CHARACTERS_MAX = 2000
BYTES_SHOWN_MAX = 4000
# What a page may take of a message; the rest is the envelope and what stands beside the page.
PAGE_BYTES_MAX = MESSAGE_BYTES_MAX - 4096

_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def packed_size(value: Any) -> int:
    return len(_pack(value))


def fitting(
    rows: Iterable[dict[str, Any]], limit: int, beside: Any = None
) -> tuple[list[dict[str, Any]], bool]:
    """As many of `rows` as one message carries, at most `limit`; and whether some are left.

    `beside` is what the message carries as well.

    The first row is always there, so that a page never stands still.
    """
    page: list[dict[str, Any]] = []
    size = packed_size(beside)
    for row in rows:
        size += packed_size(row)
        if page and (len(page) >= limit or size > PAGE_BYTES_MAX):
            return page, True
        page.append(row)
    return page, False


def plain_value(value: Any) -> Any:
    """`value` as JSON can carry it: bytes in hexadecimal, enum members and UUIDs as texts."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return _cut(value, TEXT_CHARACTERS_MAX)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _cut(bytes(value[: BYTES_SHOWN_MAX + 1]).hex(), 2 * BYTES_SHOWN_MAX)
    if isinstance(value, dict):
        return {str(plain_value(key)): plain_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(one) for one in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[:characters_max] + "…"


def job_map(job: Job, printer: str) -> dict[str, Any]:
    """A job for those who may see all of it."""
    return {
        "id": job.id,
        "uuid": str(job.uuid),
        "printer": printer,
        "state": job.state.value,
        "reasons": list(job.reasons),
        "message": job.message,
        "owner": job.owner.name,
        "owner_known": job.owner.known.value,
        "owner_by": job.owner.by,
        "submitter": job.submitter,
        "title": job.title,
        "client_host": job.client_host,
        "intake": job.intake,
        "priority": job.job_priority,
        "hold_until": job.hold_until,
        "release_us": job.release_us,
        "copies": job.copies,
        "documents": job.documents_here,
        "document_number": job.document_number,
        "size": job.bytes_total,
        "format": job.document.format,
        "digest": job.document.digest,
        "created_us": job.created_us,
        "changed_us": job.changed_us,
        "finished_us": job.finished_us,
        "attempts": job.attempts - job.uncounted,
        "pages": job.impressions,
        "media_sheets": job.media_sheets,
        "position": job.position,
        "stored": job.document.stored,
    }


def redacted_map(job: Job) -> dict[str, Any]:
    """A job for those without credentials."""
    return {
        "id": job.id,
        "uuid": str(job.uuid),
        "state": job.state.value,
        "reasons": list(job.reasons),
    }


def attempt_map(attempt: Attempt, device: str, printer: str) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "document": attempt.document,
        "device": device,
        "printer": printer,
        "started_us": attempt.started_us,
        "ended_us": attempt.ended_us,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "detail": attempt.detail,
        "bytes_sent": attempt.bytes_sent,
        "evidence": plain_value(attempt.evidence),
    }


_WITH_ATTRIBUTES = (Kind.JOB_ACCEPTED, Kind.JOB_ATTRIBUTES_SET, Kind.JOB_RELEASED)


def _readable(kind: str, part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A part of a record with the attributes of its job as they were before they were packed."""
    with_attributes = kind in _WITH_ATTRIBUTES
    if part is None or not with_attributes or not isinstance(part.get("attributes"), bytes):
        return part
    return {**part, "attributes": msgpack.unpackb(part["attributes"])}


def record_map(record: Record, *, with_personal: bool) -> dict[str, Any]:
    """A record of the journal; its personal part only for those who may read it."""
    payload = _readable(record.kind, record.payload)
    personal = _readable(record.kind, record.personal)
    shown: dict[str, Any] = {
        "position": record.position,
        "kind": str(record.kind),
        "version": record.version,
        "actor": record.actor,
        "event_us": record.event_us,
        "clock_offset_us": record.clock_offset_us,
        "payload": plain_value(payload),
        "hash": record.hash.hex(),
    }
    if with_personal:
        shown["personal"] = plain_value(personal)
    if packed_size(shown) > PAGE_BYTES_MAX:
        # A reader of the journal must get past it, whatever another version put in there.
        shown["payload"] = {"left_out": "larger than a message"}
    if packed_size(shown) > PAGE_BYTES_MAX:
        shown["personal"] = {"left_out": "larger than a message"}
    return shown


def uuid_of(text: str) -> UUID | None:
    """The UUID that `text` is, as hexadecimal, with hyphens, or as a URN."""
    try:
        return UUID(text)
    except ValueError:
        return None
