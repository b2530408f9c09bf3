"""Documents over IPP at a whole node: how they come in, what is kept of them, and who gets them."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Tag
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, RemoveJobs
from support.ipp_node import ANN, HERE, OPERATOR, PDF, THERE, answer_of, decoded, post, request


@pytest.mark.parametrize("how", ["gzip", "deflate", "zlib"])
async def test_a_compressed_document_is_kept_plain(node, spool, how):
    """gzip, and deflate with and without its header."""
    bits = {"gzip": 31, "deflate": -15, "zlib": 15}[how]
    packer = zlib.compressobj(wbits=bits)
    document = packer.compress(PDF * 100) + packer.flush()
    keyword = ipp.keyword("compression", "deflate" if how == "zlib" else how)
    answer = await node.ask(Operation.PRINT_JOB, keyword, document=document)
    job_id = answer.group(Tag.JOB).first("job-id")
    assert await spool.reader.document_body(job_id) == PDF * 100
    for broken in (document[:-9], document + b"x", b"no " + document):
        answer = await node.ask(Operation.PRINT_JOB, keyword, document=broken)
        assert answer.code == Status.CLIENT_ERROR_COMPRESSION_ERROR
    assert len((await node.jobs())["jobs"]) == 1


@pytest.mark.slow
async def test_a_small_document_that_becomes_a_huge_one_is_refused(node, desk):
    """The limit holds for what comes out, and little of it is ever in memory."""
    desk.acceptance.limits = replace(desk.services.config.limits, document_bytes_max=1 << 20)
    bomb = zlib.compress(bytes(64 << 20), 9)
    answer = await node.ask(
        Operation.PRINT_JOB, ipp.keyword("compression", "deflate"), document=bomb
    )
    assert answer.code == Status.CLIENT_ERROR_REQUEST_ENTITY_TOO_LARGE
    assert (await node.jobs())["jobs"] == []


async def test_a_body_that_breaks_off_makes_no_job(node):
    """The client has no answer, and has its document still."""
    body = request(Operation.PRINT_JOB) + PDF
    async with node.connection() as client:
        await client.send_all(post(body, length=len(body) + 1))
        await client.send_eof()
        status, _, _ = await answer_of(client)
    assert status == 400
    assert (await node.jobs())["jobs"] == []


async def test_100_continue_comes_at_once_or_a_refusal_before_the_document(node):
    """A client that sends the attributes and waits, as libcups does, is told either."""
    body = request(Operation.PRINT_JOB)
    async with node.connection() as client:
        head = post(body, b"Expect: 100-continue", length=len(body) + len(PDF))
        await client.send_all(head)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 100 ")
        await client.send_all(PDF)
        status, _, answer = await answer_of(client)
    assert (status, decoded(answer).code) == (200, Status.SUCCESSFUL_OK)
    wrong = request(Operation.PRINT_JOB, ipp.mime("document-format", "application/x-tape"))
    async with node.connection() as client:
        await client.send_all(post(wrong, b"Expect: 100-continue", length=len(wrong) + 10**9))
        status, headers, answer = await answer_of(client)
    assert status == 200
    assert headers[b"connection"] == b"close"
    assert decoded(answer).code == Status.CLIENT_ERROR_DOCUMENT_FORMAT_NOT_SUPPORTED


async def test_a_client_that_waits_for_100_before_it_sends_anything_gets_it(node):
    """As HTTP allows, and as curl does."""
    body = request(Operation.PRINT_JOB) + PDF
    async with node.connection() as client:
        await client.send_all(post(b"", b"Expect: 100-continue", length=len(body)))
        assert (await client.receive_some()).startswith(b"HTTP/1.1 100 ")
        await client.send_all(body)
        status, _, answer = await answer_of(client)
    assert (status, decoded(answer).code) == (200, Status.SUCCESSFUL_OK)


async def test_a_large_document_in_chunks_arrives_byte_for_byte(node, spool, desk):
    """Past the size at which documents go into files, in chunks of any size."""
    document = bytes(range(256)) * 6000
    body = request(Operation.PRINT_JOB) + document
    async with node.connection() as client:
        await client.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ipp\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for at in range(0, len(body), 70_001):
            piece = body[at : at + 70_001]
            await client.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send_all(b"0\r\n\r\n")
        _, _, answer = await answer_of(client)
    job = await spool.reader.job(decoded(answer).group(Tag.JOB).first("job-id"))
    assert job.document.size == len(document)
    assert job.document.stored == "file"
    source = await spool.documents.open(job)
    with source if hasattr(source, "__enter__") else _closing(source) as opened:
        assert opened.read_at(0, len(document)) == document


class _closing:
    def __init__(self, source) -> None:
        self.source = source

    def __enter__(self):
        return self.source

    def __exit__(self, *_) -> None:
        self.source.close()


async def test_the_document_of_a_job_is_an_object(node):
    """Get-Documents and Get-Document-Attributes; there is no second one."""
    await node.ask(Operation.PRINT_JOB, ipp.name_("document-name", "a.pdf"), document=PDF)
    about = ipp.integer("job-id", 1)
    answer = await node.ask(Operation.GET_DOCUMENTS, about)
    assert answer.group(Tag.DOCUMENT).first("document-number") == 1
    first = ipp.integer("document-number", 1)
    answer = await node.ask(Operation.GET_DOCUMENT_ATTRIBUTES, about, first)
    group = answer.group(Tag.DOCUMENT)
    assert (group.first("document-name"), group.first("document-state")) == ("a.pdf", 3)
    second = ipp.integer("document-number", 2)
    answer = await node.ask(Operation.GET_DOCUMENT_ATTRIBUTES, about, second)
    assert answer.code == Status.CLIENT_ERROR_NOT_FOUND


async def test_each_document_keeps_its_name(node, spool):
    """Of a job that is made in steps, too; one without a name has the job's."""
    made = await node.ask(Operation.CREATE_JOB, ipp.name_("job-name", "Report"))
    about = ipp.integer("job-id", made.group(Tag.JOB).first("job-id"))
    for name in ("cover.pdf", "", "größe.pdf"):
        named = [ipp.name_("document-name", name)] if name else []
        last = ipp.boolean("last-document", name == "größe.pdf")
        await node.ask(Operation.SEND_DOCUMENT, about, last, *named, document=PDF)
    asked = ipp.keyword("requested-attributes", "document-name")
    answer = await node.ask(Operation.GET_DOCUMENTS, about, asked)
    names = [group.first("document-name") for group in answer.groups_of(Tag.DOCUMENT)]
    assert names == ["cover.pdf", "Report", "größe.pdf"]
    added = [one for one in await spool.reader.records(1, 100) if one.kind == "document-added"]
    assert [(one.personal or {}).get("name") for one in added] == ["cover.pdf", None, "größe.pdf"]


@pytest.mark.parametrize("body", [PDF, PDF * 50_000], ids=["row", "file"])
async def test_a_document_is_handed_to_its_owner_and_to_operators(node, spool, body):
    """Byte for byte, behind the answer; others are refused, and each time is on record."""
    await node.ask(
        Operation.PRINT_JOB, ipp.name_("document-name", "a.pdf"), user="ann", document=body
    )
    about = (ipp.integer("job-id", 1), ipp.integer("document-number", 1))
    for who in (HERE, THERE, replace(ANN, name="bob")):
        refused = await node.ask(Operation.CUPS_GET_DOCUMENT, *about, principal=who)
        assert refused.code == Status.CLIENT_ERROR_FORBIDDEN
    for who in (ANN, OPERATOR):
        answer, document = await node.fetch(Operation.CUPS_GET_DOCUMENT, *about, principal=who)
        assert answer.code == Status.SUCCESSFUL_OK
        group = answer.group(Tag.JOB)
        assert group.first("document-format") == "application/pdf"
        assert (group.first("document-number"), group.first("document-name")) == (1, "a.pdf")
        assert document == body
    fetched = [one for one in await spool.reader.records(1, 100) if one.kind == "document-fetched"]
    assert [one.actor for one in fetched] == [ANN.identity, OPERATOR.identity]
    second = ipp.integer("document-number", 2)
    answer = await node.ask(Operation.CUPS_GET_DOCUMENT, about[0], second, principal=OPERATOR)
    assert answer.code == Status.CLIENT_ERROR_NOT_FOUND


async def test_a_document_that_is_not_kept_any_more_is_gone(node, spool):
    """Retention has removed it, or it has never come."""
    await node.ask(Operation.PRINT_JOB, document=PDF)
    await spool.journal.commit(ChangeJob(1, JobEvent.CANCEL, 1))
    await spool.journal.commit(RemoveJobs((1,), 1, documents_only=True))
    about = (ipp.integer("job-id", 1), ipp.integer("document-number", 1))
    answer = await node.ask(Operation.CUPS_GET_DOCUMENT, *about, principal=OPERATOR)
    assert answer.code == Status.CLIENT_ERROR_GONE


async def test_a_document_with_a_password_is_refused(node):
    """Whatever the client insists on, in one step and in two; the password is kept nowhere."""
    secret = ipp.octets("document-password", b"open sesame")
    for operation in (Operation.PRINT_JOB, Operation.VALIDATE_JOB, Operation.CREATE_JOB):
        document = PDF if operation is Operation.PRINT_JOB else b""
        answer = await node.ask(operation, secret, document=document)
        assert answer.code == Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED
        assert answer.group(Tag.UNSUPPORTED).get("document-password").tag == Tag.UNSUPPORTED_VALUE
    assert (await node.jobs())["jobs"] == []
    made = await node.ask(Operation.CREATE_JOB)
    about = ipp.integer("job-id", made.group(Tag.JOB).first("job-id"))
    last = ipp.boolean("last-document", True)
    answer = await node.ask(Operation.SEND_DOCUMENT, about, last, secret, document=PDF)
    assert answer.code == Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED
    answer = await node.ask(Operation.SEND_DOCUMENT, about, last, document=PDF)
    assert answer.code == Status.SUCCESSFUL_OK


async def test_attributes_that_stop_coming_have_a_deadline(node, desk):
    """A client that stops in the middle of them is told so, and costs nobody anything else."""
    config = desk.services.config
    desk.services = replace(
        desk.services, config=replace(config, limits=replace(config.limits, header_deadline_s=0.4))
    )
    body = request(Operation.PRINT_JOB)
    async with node.connection() as client:
        await client.send_all(post(body[:40], length=len(body)))
        status, _, _ = await answer_of(client)
    assert status == 408


async def test_a_body_that_can_only_be_too_large_is_refused_before_it_comes(node, desk):
    """413 in HTTP's terms, on the announced length alone; within the limit IPP says it."""
    desk.acceptance.limits = replace(desk.services.config.limits, document_bytes_max=1000)
    body = request(Operation.PRINT_JOB)
    async with node.connection() as client:
        await client.send_all(post(body, b"Expect: 100-continue", length=10**9))
        status, headers, _ = await answer_of(client)
    assert (status, headers[b"connection"]) == (413, b"close")
    answer = await node.ask(Operation.PRINT_JOB, document=PDF * 100)
    assert answer.code == Status.CLIENT_ERROR_REQUEST_ENTITY_TOO_LARGE
