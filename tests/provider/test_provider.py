"""The provider against real servers: jobs, documents, calls, and what is refused."""

from __future__ import annotations

import io
import os
import ssl
import time
from dataclasses import replace
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.daemon import authority
from spoold.daemon.authority import Authority
from spoold.model.errors import ConfigError, OperationError
from spoold.net.listen import accept_loop, bind
from spoold.net.tls import TlsStream, server_context
from spoold.provider.client import Provider
from spoold.provider.document import Document
from spoold.provider.endpoint import Tls
from spoold.provider.receipt import SubmitRefused, Unreachable
from spoold.spool.store import JobFilter, PutPrinter
from support.serving import LARGE


async def test_a_job_is_handed_over(one, provider):
    """The receipt names the job at its server; the attributes arrive."""
    seen = []
    async with provider(one) as client:
        receipt = await client.submit(
            LARGE,
            printer="default",
            user="Mara",
            title="offer",
            copies=2,
            format="application/pdf",
            attributes={"sides": "two-sided-long-edge"},
            progress=lambda done, size: seen.append((done, size)),
        )
    (job,) = await one.spool.reader.jobs(JobFilter())
    assert (receipt.job_id, receipt.job_uuid, receipt.position) == (job.id, job.uuid, job.position)
    assert (receipt.node_name, receipt.node_guid) == ("one", "guid-one")
    assert (receipt.endpoint, receipt.unknown) == (one.endpoint, ())
    assert (receipt.state, receipt.is_duplicate) == ("pending", False)
    assert (receipt.size, receipt.digest) == (len(LARGE), job.document.digest)
    assert (job.title, job.owner.name, job.copies) == ("offer", "mara", 2)
    assert job.document.format == "application/pdf"
    assert job.attributes == {"sides": "two-sided-long-edge"}
    assert await one.bodies() == {"offer": LARGE}
    assert seen[-1] == (len(LARGE), len(LARGE))
    assert seen == sorted(seen)


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
@pytest.mark.parametrize("size", [1, 5, 64 * 1024, 64 * 1024 + 1])
async def test_sources_of_every_kind(one, tmp_path, size, algorithm, provider):
    """Bytes, a path, an open file and a pipe arrive alike, small and large."""
    body = LARGE[:size]
    path = tmp_path / "document"
    path.write_bytes(body)
    reading, writing = os.pipe()
    async with provider(one) as client:
        with path.open("rb") as file, os.fdopen(reading, "rb") as pipe:
            os.write(writing, body[:65536])  # as much as a pipe holds
            os.close(writing)
            sources = {"bytes": body, "path": path, "file": file, "pipe": pipe}
            for title, source in sources.items():
                await client.submit(
                    source, printer="default", title=title, digest_algorithm=algorithm
                )
            assert not file.closed
    expected = dict.fromkeys(sources, body) | {"pipe": body[:65536]}
    assert await one.bodies() == expected


async def test_many_submits_share_a_connection_and_commits(one):
    """A hundred tasks submit at once: one connection, every job, a fraction of the commits."""
    async with Provider([one.endpoint]) as client:
        before = one.spool.journal.commits
        async with trio.open_nursery() as nursery:
            for number in range(100):
                body = b"document %d" % number

                async def submit(title=str(number), body=body):
                    await client.submit(body, printer="default", title=title)

                nursery.start_soon(submit)
    assert one.connections == 1
    assert one.spool.journal.commits - before < 50
    assert await one.bodies() == {str(n): b"document %d" % n for n in range(100)}


async def test_refusals_that_are_final(one, provider):
    """What no server will ever take is refused at once, with the server's words."""
    async with provider(one) as client:
        with pytest.raises(SubmitRefused, match="no printer 'nowhere'") as refused:
            await client.submit(b"body", printer="nowhere")
        assert refused.value.code == "not-found"
        assert refused.value.advice
        uuid = uuid4()
        await client.submit(b"body", printer="default", job_uuid=uuid)
        with pytest.raises(SubmitRefused) as refused:
            await client.submit(b"other", printer="default", job_uuid=uuid)
        assert refused.value.code == "conflict"
    assert await one.count() == 1


async def test_a_printer_that_takes_no_jobs_here_may_take_them_elsewhere(one, two, provider):
    """`not-accepting` goes on to the next server; when all say so it is the answer."""
    for site in (one, two):
        async with provider(one, two, learns_endpoints=False) as client:
            if site is two:
                receipt = await client.submit(b"body", printer="default")
                assert receipt.endpoint == two.endpoint
            closed = replace(site.printer, accepting=False)
            await site.spool.journal.commit(PutPrinter(closed, site.spool.wall_clock()))
    async with provider(one, two) as client:
        with pytest.raises(SubmitRefused) as refused:
            await client.submit(b"body", printer="default")
    assert refused.value.code == "not-accepting"


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
async def test_one_uuid_from_several_providers_at_once_is_one_job(one, body, provider):
    """Two providers race with the same job: one job, and both get its number."""
    uuid = uuid4()
    receipts = []

    async def submit():
        async with provider(one) as client:
            receipts.append(await client.submit(body, printer="default", job_uuid=uuid))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(submit)
    assert len({receipt.job_id for receipt in receipts}) == 1
    assert await one.count() == 1


@pytest.mark.slow
async def test_a_certificate_is_shown_and_asked_for(one, tmp_path, face):
    """Over mutual TLS an enrolled provider is served; without a certificate nobody is."""

    def now_us():
        return time.time_ns() // 1000

    issuer = Authority(*authority.make_ca(now_us), now_us)
    key, chain, _ = issuer.enrol_node(uuid4(), "node", ["127.0.0.1"])
    context = server_context(chain, key, client_ca_pem=issuer.ca_pem)
    files = {"ca": issuer.ca_pem}
    files["key"], files["chain"], _ = issuer.enrol("provider", uuid4(), "till", 30)
    for name, pem in files.items():
        (tmp_path / name).write_bytes(pem)
    (listener,) = bind("127.0.0.1:0")
    endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
    mine = Tls(tmp_path / "ca", tmp_path / "chain", tmp_path / "key")

    async def serve(sock):
        stream = TlsStream(sock, context, server_side=True)
        try:
            await stream.handshake(5)
        except (ssl.SSLError, trio.BrokenResourceError):
            return
        await one.serve(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, lambda sock, _: nursery.start_soon(serve, sock))
        async with face([endpoint], tls=mine) as client:
            await client.submit(LARGE, printer="default", title="enrolled")
        for tls in (Tls(tmp_path / "ca"), Tls()):
            async with face([endpoint], tls=tls, unreachable_timeout_s=0) as client:
                with pytest.raises(Unreachable, match="certificate") as caught:
                    await client.submit(b"body", printer="default")
                assert caught.value.distrusted == {endpoint}
        nursery.cancel_scope.cancel()
    listener.close()
    assert await one.bodies() == {"enrolled": LARGE}


async def test_calls_and_follows(one, provider):
    """Other operations go to the server in use; events come as they happen."""
    events = []
    async with provider(one) as client:
        assert await client.call("echo", {"x": 1}) == {"x": 1}
        with pytest.raises(OperationError, match="no operation"):
            await client.call("nonsense", {})
        await client.call("job.follow", {}, lambda name, args: events.append(args["state"]))
    assert events == ["pending", "processing", "completed"]


async def test_an_error_in_the_block_comes_out_as_it_is(one):
    """The block of a provider does not wrap what is raised in it."""
    with pytest.raises(KeyError):
        async with Provider([one.endpoint]):
            raise KeyError
    with pytest.raises(RuntimeError, match="async with"):
        await Provider([one.endpoint]).call("echo", {})


def test_endpoints_are_checked_at_once():
    """A wrong endpoint is an error before anything is sent."""
    for wrong in ("nowhere", "host:0", "host:port"):
        with pytest.raises(ConfigError):
            Provider([wrong])
    with pytest.raises(ValueError, match="needs an endpoint"):
        Provider([])


def test_a_document_is_read_and_digested_in_any_order(tmp_path):
    """The digest is that of the whole, whatever was read before; a pipe is copied."""
    path = tmp_path / "document"
    path.write_bytes(LARGE)
    whole = Document(LARGE)
    document = Document(path)
    assert bytes(document.read(1_000_000, 70_000)) == LARGE[1_000_000:1_070_000]
    assert bytes(document.read(0, 10)) == LARGE[:10]
    assert document.digest() == whole.digest() == Document(io.BytesIO(LARGE)).digest()
    document.close()
    with pytest.raises(ValueError, match="md5"):
        Document(b"", "md5")


async def test_a_document_that_shrinks_is_an_error_and_no_job(one, tmp_path, provider):
    """A file that is cut while it is sent never becomes a job."""
    path = tmp_path / "document"
    path.write_bytes(LARGE)
    async with provider(one) as client:
        with pytest.raises(OSError, match="shorter"):
            await client.submit(
                path, printer="default", progress=lambda *_: os.truncate(path, 300_000)
            )
        await client.submit(b"next", printer="default", title="next")
    assert await one.bodies() == {"next": b"next"}
