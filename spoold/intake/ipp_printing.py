"""Handing jobs over by IPP: Print-Job, Validate-Job, Create-Job, Send-Document, Close-Job.

In: the attributes of a request, and behind them a document. Out: a job through the one door,
answered after its commit. Attributes that the printer does not know or cannot do are left out and
named in the answer, or, if the client insists on them, the job is refused (RFC 8011 4.1.7, 5.2).
An attribute of ours, `spoold-job-uuid`, makes a request that is sent again the same job. A document
with a password is refused, whatever the client insists on.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple
from uuid import UUID

from spoold.codec import ipp, raw
from spoold.codec.ipp_capabilities import COPIES_MAX, supports
from spoold.codec.ipp_model_job import created_group
from spoold.codec.ipp_model_printer import HOLD_UNTIL, PrinterSheet
from spoold.codec.ipp_names import Operation, Status, passed_on
from spoold.codec.ipp_plain import TEMPLATE, NotPlain, to_plain
from spoold.codec.ipp_values import Attribute, Group, Tag
from spoold.intake import arguments, ipp_document
from spoold.intake.ipp_jobs import HOLDING, holding
from spoold.intake.ipp_request import Ask, Refusal, Reply, bad
from spoold.intake.ipp_server import Server
from spoold.intake.submission import Submission
from spoold.intake.upload import Upload
from spoold.model.errors import OperationError
from spoold.model.job import JobReason
from spoold.model.person import decode_text
from spoold.model.printer import Printer
from spoold.spool.store import Accepted

JOB_UUID: Final = "spoold-job-uuid"
# What CUPS's clients call a document that nobody should look at.
RAW_FORMATS: Final = frozenset({"application/vnd.cups-raw", raw.OCTET_STREAM})
# Below this a document's announced size is not worth a promise of room.
PROMISED_BYTES_MIN: Final = 64 * 1024


class Wish(NamedTuple):
    """A job as it is asked for, and what of it cannot be."""

    submission: Submission
    compression: str
    unsupported: tuple[Attribute, ...]
    has_subscriptions: bool = False  # which are to be made on their own

    @property
    def status(self) -> Status:
        if self.has_subscriptions:
            return Status.SUCCESSFUL_OK_IGNORED_SUBSCRIPTIONS
        if self.unsupported:
            return Status.SUCCESSFUL_OK_IGNORED_OR_SUBSTITUTED_ATTRIBUTES
        return Status.SUCCESSFUL_OK


# -- what is asked for -------------------------------------------------------------------------


def wish_of(server: Server, ask: Ask, printer: Printer) -> Wish:
    """The job that a request describes.

    Raises:
        Refusal: it cannot be made as it is asked for.
        OperationError: the requester may not make it.
    """
    _refuse_password(ask)
    sheet = server.printers.sheet(printer)
    principal = ask.principal
    submission = Submission(
        printer.name,
        arguments.owner(principal, ask.user),
        principal.identity,
        "ipp",
        principal.address,
        uuid=_uuid(ask),
        title=_title(ask),
        format=document_format(ask, sheet),
    )
    unsupported = _read_template(ask, sheet, submission, server.node.wall_clock())
    if unsupported and ask.boolean("ipp-attribute-fidelity"):
        raise _not_supported(unsupported)
    _check_mandatory(ask, unsupported)
    if document_name := _document_name(ask):
        submission.attributes["document-name"] = document_name
    return Wish(
        submission,
        ipp_document.compression(ask),
        tuple(unsupported),
        ask.group(Tag.SUBSCRIPTION) is not None,
    )


def _refuse_password(ask: Ask) -> None:
    """Without its password the document cannot be printed, and nothing here keeps passwords.

    Raises:
        Refusal: the document has one (document-password, PWG 5100.13).
    """
    if "document-password" in ask.operation.attributes:
        raise Refusal(
            Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED,
            "a document that asks for a password is not printed here: save it without one.",
            [ipp.unsupported("document-password")],
        )


def _not_supported(unsupported: list[Attribute]) -> Refusal:
    return Refusal(
        Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED,
        "the printer cannot do all that is asked for.",
        unsupported,
    )


def _uuid(ask: Ask) -> UUID | None:
    text = ask.uri(JOB_UUID)
    if text is None:
        return None
    try:
        return UUID(text.removeprefix("urn:uuid:"))
    except ValueError:
        raise bad(f"{JOB_UUID} is no urn:uuid.") from None


def _title(ask: Ask) -> str:
    title = ask.text("job-name") or ask.text("document-name") or ""
    return title if title.isascii() and title.isprintable() else decode_text(title.encode())


def _document_name(ask: Ask) -> str:
    return decode_text((ask.text("document-name") or "").encode())


def document_format(ask: Ask, sheet: PrinterSheet) -> str:
    """The media type that the client says the document has.

    Raises:
        Refusal: the printer does not take it.
    """
    said = ask.mime("document-format")
    if said is None:
        return raw.OCTET_STREAM
    found = said.lower()
    if found not in sheet.plain["document-format-supported"]:
        raise Refusal(
            Status.CLIENT_ERROR_DOCUMENT_FORMAT_NOT_SUPPORTED,
            f"{sheet.printer.name} does not take {found[:100]}.",
            [ipp.mime("document-format", said)],
        )
    return raw.OCTET_STREAM if found in RAW_FORMATS else found


def _read_template(
    ask: Ask, sheet: PrinterSheet, submission: Submission, now_us: int
) -> list[Attribute]:
    """Take over the Job Template attributes; returns those that cannot be."""
    group = ask.group(Tag.JOB)
    unsupported: list[Attribute] = []
    wanted = {} if group is None else dict(group.attributes)
    for name, attribute in ask.operation.attributes.items():
        if name in TEMPLATE:  # some clients put them there
            wanted.setdefault(name, attribute)
    until = Group(Tag.JOB, {name: wanted[name] for name in HOLDING if name in wanted})
    if held := holding(until, now_us):
        if held["hold_until"] not in HOLD_UNTIL and "hold_until_us" not in held:
            unsupported.append(wanted["job-hold-until"])
        else:
            submission.hold_until = held["hold_until"]
            submission.hold_until_us = held.get("hold_until_us")
    for name, attribute in wanted.items():
        if name in HOLDING:
            continue
        if name not in TEMPLATE:
            unsupported.append(ipp.unsupported(name))
            continue
        try:
            plain = to_plain(attribute)
        except NotPlain:
            unsupported.append(attribute)
            continue
        if not _take(sheet, submission, name, plain):
            unsupported.append(attribute)
    return unsupported


def _take(sheet: PrinterSheet, submission: Submission, name: str, plain: Any) -> bool:
    """Whether the job can have this; if so, it has it now."""
    if name == "copies":
        if not (isinstance(plain, int) and 1 <= plain <= COPIES_MAX):
            return False
        if not supports(sheet.plain, name, plain):
            return False
        submission.copies = plain
    elif name == "job-priority":
        if not 1 <= plain <= arguments.PRIORITY_MAX:
            return False
        submission.priority = plain
    elif supports(sheet.plain, name, plain):
        submission.attributes[name] = plain
    else:
        return False
    return True


def _check_mandatory(ask: Ask, unsupported: list[Attribute]) -> None:
    """PWG 5100.11, job-mandatory-attributes: what must be, or the job is not made."""
    mandatory = ask.keywords("job-mandatory-attributes") or ()
    missing = [one for one in unsupported if one.name in mandatory]
    if missing:
        raise _not_supported(missing)


async def _refuse_circle(server: Server, wish: Wish, printer: Printer) -> None:
    """A printer whose device is this printer again, perhaps by way of others, waits for itself.

    Raises:
        Refusal: the job comes from a job of this printer that is under way.
    """
    for uuid in passed_on(wish.submission.title):
        job = await server.reader.job_by_uuid(uuid)
        if job is not None and not job.state.is_final and job.printer_id == printer.id:
            raise Refusal(
                Status.CLIENT_ERROR_NOT_FOUND,
                f"the device URI of {printer.name} leads back to {printer.name} itself: give it "
                "that of a device.",
            )


# -- Print-Job and Validate-Job ----------------------------------------------------------------


async def validate_job(server: Server, ask: Ask) -> Reply:
    printer = server.printer(ask)
    wish = wish_of(server, ask, printer)
    await _refuse_circle(server, wish, printer)
    server.acceptance.printer(printer.name)  # it takes jobs now
    return Reply(wish.status, unsupported=wish.unsupported)


async def print_job(server: Server, ask: Ask) -> Reply:
    printer = server.printer(ask)
    wish = wish_of(server, ask, printer)
    await _refuse_circle(server, wish, printer)
    upload = _admit(server, ask, wish)
    try:
        await ipp_document.receive(ask, upload, wish.compression)
        if not upload.offset:
            raise bad("there is no document in the request.")
        await ipp_document.describe(upload)
    except BaseException:
        await upload.abandon()
        raise
    accepted = await upload.commit()
    return _created(server, ask, accepted, upload.reasons, upload.message, wish)


def _admit(server: Server, ask: Ask, wish: Wish) -> Upload:
    """Room for the document. Whether its job-uuid was used before, the commit finds by itself.

    Raises:
        OperationError, SpoolFull: it is refused.
    """
    acceptance, submission = server.acceptance, wish.submission
    if wish.compression == ipp_document.NO_COMPRESSION:
        size = announced_size(ask)
        if size is not None and size > PROMISED_BYTES_MIN:
            submission.size = size
    printer = acceptance.printer(submission.printer)
    limit = acceptance.limits.document_bytes_max
    if submission.size is not None and submission.size > limit:
        raise OperationError("too-large", f"the document is larger than {limit} bytes.")
    acceptance.check_room(submission.size or 0)
    name = "" if submission.uuid is None else os.urandom(16).hex()
    return Upload(acceptance, submission, printer, name)


def announced_size(ask: Ask) -> int | None:
    """How many bytes of a document are on their way, if that is known."""
    left = ask.exchange.body_bytes_left
    return None if left is None else left + len(ask.rest)


def _created(
    server: Server,
    ask: Ask,
    accepted: Accepted,
    reasons: tuple[str, ...],
    message: str,
    wish: Wish | None = None,
) -> Reply:
    group = created_group(
        server.place(ask), accepted.job_id, accepted.uuid, accepted.state, reasons, message
    )
    return Reply(groups=group) if wish is None else Reply(wish.status, group, wish.unsupported)


# -- Create-Job, Send-Document, Close-Job ------------------------------------------------------


async def create_job(server: Server, ask: Ask) -> Reply:
    printer = server.printer(ask)
    wish = wish_of(server, ask, printer)
    await _refuse_circle(server, wish, printer)
    accepted = await server.open_jobs.open(wish.submission)
    return _created(server, ask, accepted, (JobReason.JOB_INCOMING.value,), "", wish)


async def send_document(server: Server, ask: Ask) -> Reply:
    job_id = ask.job_id()
    is_last = ask.required_boolean("last-document")
    how = ipp_document.compression(ask)
    _refuse_password(ask)
    size = announced_size(ask)
    if size == 0:
        return await _send_nothing(server, ask, job_id, is_last)
    job = await server.job(job_id)
    format_ = document_format(ask, server.sheet_of(job))
    try:
        upload = await server.open_jobs.begin_document(
            job_id,
            ask.principal.identity,
            size=size if how == ipp_document.NO_COMPRESSION else None,
            format=format_,
            name=_document_name(ask),
        )
    except OperationError as error:
        if error.code == "too-large" and not await ask.has_document():
            return await _send_nothing(server, ask, job_id, is_last)
        raise
    try:
        await ipp_document.receive(ask, upload, how)
        if upload.offset:
            await ipp_document.describe(upload)
    except BaseException:
        await upload.abandon()
        raise
    if not upload.offset:
        await upload.abandon()
        return await _send_nothing(server, ask, job_id, is_last)
    upload.last = is_last
    accepted = await upload.commit()
    return _created(server, ask, accepted, upload.reasons, upload.message)


async def _send_nothing(server: Server, ask: Ask, job_id: int, is_last: bool) -> Reply:
    """Send-Document without a document says at most that no more will come (RFC 8011 4.3.1)."""
    job = await server.job(job_id)
    if is_last:
        reply = await _close(server, ask, job_id)
        if not job.documents_here:
            # `lp` looks at nothing but the status: it would take its empty file for printed.
            raise bad("the document is empty, and was to be the only one: the job is aborted.")
        return reply
    if not job.is_incoming:
        raise Refusal(Status.CLIENT_ERROR_NOT_POSSIBLE, f"job {job_id} takes no more documents.")
    raise bad("there is no document in the request.")


async def close_job(server: Server, ask: Ask) -> Reply:
    return await _close(server, ask, ask.job_id())


async def _close(server: Server, ask: Ask, job_id: int) -> Reply:
    closed = await server.open_jobs.close(job_id, ask.principal.identity)
    job = await server.job(job_id)
    return _created(server, ask, closed, job.reasons, job.message)


OPERATIONS: Final[dict[Operation, Callable[[Server, Ask], Awaitable[Reply | None]]]] = {
    Operation.PRINT_JOB: print_job,
    Operation.VALIDATE_JOB: validate_job,
    Operation.CREATE_JOB: create_job,
    Operation.SEND_DOCUMENT: send_document,
    Operation.CLOSE_JOB: close_job,
}
