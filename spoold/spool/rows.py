"""Rows <-> model values: the one place that knows the columns of the spool's tables."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from typing import Any
from uuid import UUID

import msgpack

from spoold.model.conversion import Conversion
from spoold.model.job import Document, Job, JobState
from spoold.model.person import Known, Owner
from spoold.model.printer import Device, Order, Printer, WhenInDoubt, WhenUnreachable
from spoold.model.release import Charging, ReleaseMode, read_rule, read_sender
from spoold.spool.store import Attempt

pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
unpack = msgpack.unpackb

# RFC 8011 5.3.7: the enum values of job-state.
NUMBER = {
    JobState.PENDING: 3,
    JobState.PENDING_HELD: 4,
    JobState.PROCESSING: 5,
    JobState.PROCESSING_STOPPED: 6,
    JobState.CANCELED: 7,
    JobState.ABORTED: 8,
    JobState.COMPLETED: 9,
}
STATE = {number: state for state, number in NUMBER.items()}

DOCUMENTS_PER_JOB = 4096
KEPT = frozenset({"inline", "file"})  # how a document is stored that is here
JOB_ID_MAX = 2**31 - 1
CHAIN_SHIFT = 40  # record.id = chain.id << 40 | position: one table holds every chain in order

JOB_COLUMNS = [
    "id",
    "uuid",
    "printer_id",
    "state",
    "reasons",
    "message",
    "owner_id",
    "owner_known",
    "owner_by",
    "submitter",
    "title",
    "client_host",
    "intake",
    "priority",
    "copies",
    "copies_embedded",
    "attributes",
    "attempts",
    "created_us",
    "changed_us",
    "finished_us",
    "interrupted",
    "position",
    "held_us",
    "handed_by",
]
DOCUMENT_COLUMNS = [
    "id",
    "size",
    "digest",
    "format",
    "encoding",
    "key_id",
    "stored",
    "file",
    "body",
]
RECORD_COLUMNS = ["id", "header", "payload", "personal", "hash"]

JOB_SELECT = (
    "SELECT job.id, job.uuid, job.printer_id, job.state, job.reasons, job.message, "
    "person.name, job.owner_known, job.owner_by, job.submitter, job.title, job.client_host, "
    "job.intake, job.priority, job.copies, job.copies_embedded, job.attributes, job.attempts, "
    "job.created_us, job.changed_us, job.finished_us, job.position, document.size, "
    "document.digest, document.format, document.encoding, document.key_id, document.stored, "
    "job.hold_until, job.release_us, job.uncounted, job.documents, job.next_document, job.size, "
    "document.copies, job.impressions, job.media_sheets, job.held_us FROM job "
    "JOIN person ON person.id = job.owner_id "
    f"JOIN document ON document.id = job.id * {DOCUMENTS_PER_JOB} + job.next_document "
)


def document_id(job_id: int, number: int = 1) -> int:
    return job_id * DOCUMENTS_PER_JOB + number


def job_of(row: tuple[Any, ...]) -> Job:
    """The Job behind a row of `JOB_SELECT`."""
    (id_, uuid, printer_id, state, reasons, message, name, known, by, submitter, title) = row[:11]
    (host, intake, priority, copies, embedded, attributes, attempts) = row[11:18]
    (created, changed, finished, position, size, digest, format_) = row[18:25]
    (encoding, key_id, stored, hold_until, release_us, uncounted) = row[25:31]
    (documents, number, total, own_copies, impressions, sheets, held_us) = row[31:]
    return Job(
        id=id_,
        uuid=UUID(bytes=uuid),
        printer_id=printer_id,
        state=STATE[state],
        reasons=tuple(reasons.split()),
        message=message,
        owner=Owner(name or "", Known(known), by),
        submitter=submitter,
        title=title,
        client_host=host,
        intake=intake,
        priority=priority,
        copies=copies if own_copies is None else own_copies,
        copies_embedded=bool(embedded) or own_copies is not None,
        attributes=unpack(attributes) if attributes else {},
        attempts=attempts,
        created_us=created,
        changed_us=changed,
        finished_us=finished,
        position=position,
        document=Document(size, digest, format_, stored, encoding, key_id),
        hold_until=hold_until or "",
        release_us=release_us,
        uncounted=uncounted,
        documents=documents,
        document_number=number,
        size=total,
        impressions=impressions,
        media_sheets=sheets,
        held_us=held_us,
    )


ATTEMPT_SELECT = (
    "SELECT job_id, number, device_id, printer_id, started_us, ended_us, outcome, reason, detail, "
    "bytes_sent, evidence, document, device_uri FROM attempt "
)


def attempt_of(row: tuple[Any, ...]) -> Attempt:
    (job_id, number, device_id, printer_id, started, ended, name, reason, detail, sent) = row[:10]
    packed, document, device_uri = row[10:]
    evidence = unpack(packed) if packed else {}
    return Attempt(
        job_id, number, device_id, printer_id, started, ended, name, reason, detail, sent, evidence,
        document, device_uri or "",
    )  # fmt: skip


_PRINTER_FIELDS = [
    field.name for field in fields(Printer) if field.name not in {"id", "guid", "name", "device_id"}
]


REMOVED_NAME = "was"  # among the packed fields of a printer that was removed: its name until then
_RULES = {"policies": read_rule, "senders": read_sender}  # kept as their texts


def printer_fields(printer: Printer) -> dict[str, Any]:
    """The fields of a printer that lie packed in its row, and in its records."""
    found: dict[str, Any] = {}
    for name in _PRINTER_FIELDS:
        value = getattr(printer, name)
        if name in _RULES:
            value = [str(one) for one in value]
        if isinstance(value, UUID):
            value = value.bytes
        found[name] = value.value if isinstance(value, Enum) else value
    return found


def printer_of(id_: int, guid: bytes, name: str, device_id: int | None, packed: bytes) -> Printer:
    found = {key: value for key, value in unpack(packed).items() if key in _PRINTER_FIELDS}
    for key in ("members", "standby", "formats", "releases_at"):
        found[key] = tuple(found.get(key, ()))
    found["conversions"] = tuple(
        Conversion(source, target, tuple(command))
        for source, target, command in found.get("conversions", ())
    )
    for key, read in _RULES.items():
        found[key] = tuple(read(text) for text in found.get(key, ()))
    found["release"] = ReleaseMode(found.get("release", ReleaseMode.IMMEDIATE))
    found["charging"] = Charging(found.get("charging", Charging.OFF))
    found["order"] = Order(found.get("order", Order.FAIR))
    found["in_doubt"] = WhenInDoubt(found.get("in_doubt", WhenInDoubt.HOLD))
    found["when_unreachable"] = WhenUnreachable(found.get("when_unreachable", WhenUnreachable.HOLD))
    found["least_owner"] = Known(found.get("least_owner", Known.CLAIMED))
    if found.get("owner") is not None:
        found["owner"] = UUID(bytes=found["owner"])
    return Printer(id_, UUID(bytes=guid), name, device_id, **found)


def device_of(id_: int, guid: bytes, uri: str, packed: bytes) -> Device:
    found = unpack(packed)
    return Device(id_, UUID(bytes=guid), uri, found.get("options", {}), found.get("serial", ""))
