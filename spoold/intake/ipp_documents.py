"""The Document object by IPP (PWG 5100.5): the documents of a job, numbered from 1.

In: a request that names a job, and the document by its number. Out: its attributes, its bytes, or
what became of it. Canceling the only document of a job cancels the job; one of several is not
canceled alone. Bytes are for the job's owner and for operators, who are known by a login or a
certificate, and each time is on record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import trio

from spoold.codec import ipp
from spoold.codec.ipp_model import selected
from spoold.codec.ipp_names import JobState as Number
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Attribute, DateTime, Tag, WithLanguage
from spoold.intake.ipp_jobs import call
from spoold.intake.ipp_request import HEADERS, Ask, Refusal, Reply, bad
from spoold.intake.ipp_server import Server
from spoold.model.errors import OperationError
from spoold.model.job import Document, Job, JobState
from spoold.model.record import Kind
from spoold.spool.store import AddRecord

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

SECOND_US: Final = 1_000_000
PIECE_BYTES: Final = 256 * 1024
SETTABLE: Final = ("document-name",)
# document-state has no held state: such a document is pending (PWG 5100.5 table 10).
_STATES: Final = {
    JobState.PENDING_HELD: Number.PENDING,
    JobState.PROCESSING_STOPPED: Number.PROCESSING,
}
_PUBLIC: Final = frozenset(
    {
        "document-job-id",
        "document-job-uri",
        "document-number",
        "document-printer-uri",
        "document-state",
        "document-state-reasons",
        "k-octets",
        "last-document",
    }
)
_REASONS: Final = frozenset(
    {
        "aborted-by-system",
        "document-format-error",
        "printer-stopped",
        "processing-to-stop-point",
        "queued-in-device",
        "unsupported-document-format",
    }
)


def _state(job: Job, number: int) -> JobState:
    """What a document's job makes of it: those before the one that is next are printed."""
    if number < job.document_number:
        return JobState.COMPLETED
    if number > job.document_number and not job.state.is_final:
        return JobState.PENDING
    return job.state


def _attributes(
    server: Server, ask: Ask, job: Job, number: int, document: Document
) -> dict[str, Attribute]:
    """All that is said of a document of a job."""
    place = server.place(ask)
    printer = place.printers.get(job.printer_id)
    is_next = number == job.document_number
    found_state = _state(job, number)
    state = _STATES.get(found_state) or Number.of(found_state.value)
    said = job.reasons if is_next or found_state is not JobState.COMPLETED else ()
    reasons = [reason for reason in said if reason in _REASONS] or ["none"]
    is_last = number == job.documents and not job.is_incoming
    created_s = job.created_us // SECOND_US
    found = [
        ipp.charset("attributes-charset", "utf-8"),
        ipp.language("attributes-natural-language", "en"),
        ipp.integer("document-number", number),
        ipp.integer("document-job-id", job.id),
        ipp.uri("document-job-uri", f"{place.jobs_uri}{job.id}"),
        ipp.name_("document-name", _name(job, number, document)),
        ipp.mime("document-format", document.format),
        ipp.enum_("document-state", state),
        ipp.keyword("document-state-reasons", *reasons),
        ipp.integer("k-octets", -(-document.size // 1024)),
        ipp.boolean("last-document", is_last),
        ipp.keyword("compression", "none"),
        ipp.integer("time-at-creation", created_s),
        ipp.date_time("date-time-at-creation", DateTime.at(created_s)),
        ipp.integer("printer-up-time", place.now_s),
    ]
    if printer is not None:
        found.append(ipp.uri("document-printer-uri", printer[1]))
    for name in ("time-at-processing", "date-time-at-processing"):
        found.append(ipp.no_value(name))
    if job.finished_us is None or not is_next:
        found += [ipp.no_value("time-at-completed"), ipp.no_value("date-time-at-completed")]
    else:
        finished_s = job.finished_us // SECOND_US
        found.append(ipp.integer("time-at-completed", finished_s))
        found.append(ipp.date_time("date-time-at-completed", DateTime.at(finished_s)))
    return {one.name: one for one in found}


def _name(job: Job, number: int, document: Document) -> str:
    named: Any = job.attributes.get("document-name") if number == 1 else None
    return str(named or document.name or job.title)


def _group(
    server: Server,
    ask: Ask,
    job: Job,
    number: int,
    document: Document,
    default: frozenset[str] | None,
) -> bytes:
    found = _attributes(server, ask, job, number, document)
    known = frozenset(found)
    groups = {
        "all": known,
        "document-description": known,
        "document-status": known,
        "document-template": frozenset[str](),
    }
    asked = ask.keywords("requested-attributes")
    names = selected(asked, groups, known, known if default is None else default)
    if not server.node.sight(ask.principal)(job):
        names &= _PUBLIC
    return ipp.encode_group(Tag.DOCUMENT, [found[name] for name in found if name in names])


async def _job(server: Server, ask: Ask) -> tuple[Job, int]:
    """The job whose document is asked for, and the document's number.

    Raises:
        Refusal: there is none, or it has no such document.
    """
    job = await server.job(ask.job_id())
    number = ask.integer("document-number", 1)
    if number is None:
        raise bad("document-number is missing.")
    if number > job.documents_here:
        raise Refusal(Status.CLIENT_ERROR_NOT_FOUND, f"job {job.id} has no document {number}.")
    return job, number


async def get_document_attributes(server: Server, ask: Ask) -> Reply:
    job, number = await _job(server, ask)
    documents = await server.reader.documents(job.id)
    if number > len(documents):
        raise Refusal(Status.CLIENT_ERROR_NOT_FOUND, f"job {job.id} is gone.")
    return Reply(groups=_group(server, ask, job, number, documents[number - 1], None))


async def get_documents(server: Server, ask: Ask) -> Reply:
    job = await server.job(ask.job_id())
    limit = ask.integer("limit", 1)
    found = (await server.reader.documents(job.id))[: job.documents_here][:limit]
    default = frozenset({"document-number"})
    return Reply(
        groups=b"".join(
            _group(server, ask, job, number, document, default)
            for number, document in enumerate(found, 1)
        )
    )


async def cancel_document(server: Server, ask: Ask) -> Reply:
    job, number = await _job(server, ask)
    if job.documents > 1:
        raise Refusal(
            Status.CLIENT_ERROR_NOT_POSSIBLE,
            f"document {number} is one of {job.documents}; cancel the whole job.",
        )
    await call(server, ask, "job.cancel", job=job.id)
    return Reply()


async def set_document_attributes(server: Server, ask: Ask) -> Reply:
    job, number = await _job(server, ask)
    group = ask.group(Tag.DOCUMENT)
    if group is None or not group.attributes:
        raise bad("there is nothing to set.")
    fixed = [
        ipp.out_of_band(name, Tag.NOT_SETTABLE) for name in group.attributes if name not in SETTABLE
    ]
    if fixed:
        status = Status.CLIENT_ERROR_ATTRIBUTES_NOT_SETTABLE
        raise Refusal(status, "some of this cannot be set.", fixed)
    if number > 1:
        raise Refusal(
            Status.CLIENT_ERROR_NOT_POSSIBLE, "only the first document can be given another name."
        )
    attribute = group.attributes["document-name"]
    name: Any = attribute.first
    if attribute.tag not in (Tag.NAME, Tag.NAME_LANGUAGE, Tag.DELETE):
        raise bad("document-name has the wrong syntax.")
    text = name.text if isinstance(name, WithLanguage) else name
    await call(server, ask, "job.set", job=job.id, attributes={"document-name": text})
    return Reply()


async def get_document(server: Server, ask: Ask) -> None:
    """CUPS-Get-Document: the bytes of a document behind the answer, as they came."""
    job, number = await _job(server, ask)
    if not server.node.may_read(ask.principal, job):
        raise OperationError(
            "forbidden", "a document is only for the job's owner.", "Log in as the owner."
        )
    found = await server.reader.document(job.id, number)
    if found is None or found[0].stored in ("gone", "none"):
        message = f"document {number} of job {job.id} is not kept any more."
        raise Refusal(Status.CLIENT_ERROR_GONE, message)
    document, body, file = found
    source = server.documents.open_found(replace(job, document=document), body, file)
    try:
        await server.journal.commit(
            AddRecord(
                Kind.DOCUMENT_FETCHED,
                {"job": job.id, "uuid": job.uuid.bytes, "number": number},
                server.node.wall_clock(),
                ask.principal.identity,
            )
        )
        said = [
            ipp.mime("document-format", document.format),
            ipp.integer("document-number", number),
            ipp.name_("document-name", _name(job, number, document)),
        ]
        exchange = ask.exchange
        await exchange.begin(200, HEADERS)
        head = ask.head(Status.SUCCESSFUL_OK) + ipp.encode_group(Tag.JOB, said) + ipp.END
        await exchange.send(head)
        for offset in range(0, source.size, PIECE_BYTES):
            piece = await trio.to_thread.run_sync(source.read_at, offset, PIECE_BYTES)
            await exchange.send(piece)
        await exchange.end()
    finally:
        source.close()


OPERATIONS: Final[dict[Operation, Handler]] = {
    Operation.GET_DOCUMENT_ATTRIBUTES: get_document_attributes,
    Operation.GET_DOCUMENTS: get_documents,
    Operation.CANCEL_DOCUMENT: cancel_document,
    Operation.SET_DOCUMENT_ATTRIBUTES: set_document_attributes,
    Operation.CUPS_GET_DOCUMENT: get_document,
}
