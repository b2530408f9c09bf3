"""The provider against real servers: resume, fail-over, lost answers, and never a second job."""

from __future__ import annotations

import io
import os
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.codec import frame
from spoold.daemon import authority
from spoold.daemon.authority import Authority
from spoold.intake.acceptance import Acceptance
from spoold.intake.deadlines import Deadlines
from spoold.intake.frames import Node, serve_frames
from spoold.intake.frames_link import Settings
from spoold.model.errors import ConfigError, OperationError
from spoold.model.principal import Port, Principal
from spoold.net.listen import accept_loop, bind, bind_unix
from spoold.net.tcp import SocketStream
from spoold.net.tls import TlsStream, server_context
from spoold.provider import connection, course, line, racing, servers
from spoold.provider.blocking import BlockingProvider, ControlClient
from spoold.provider.client import Provider
from spoold.provider.course import EAGER_BYTES_MAX
from spoold.provider.direct import DirectProvider
from spoold.provider.document import Document
from spoold.provider.endpoint import Tls
from spoold.provider.receipt import AnswerUnknown, SubmitRefused, Unreachable
from spoold.spool.store import JobFilter, PutPrinter
from support.limits import Limits
from support.ports import own_port

LARGE = bytes(range(256)) * 8192  # 2 MiB


class Faulty:
    """A server's stream with faults: it breaks or stalls after some bytes, or before an answer."""

    def __init__(self, stream, site):
        self._stream = stream
        self._site = site
        self.peer = stream.peer

    async def receive_some(self, bytes_max=65536):
        data = await self._stream.receive_some(bytes_max)
        site = self._site
        site.bytes_in += len(data)
        if site.stalls_after is not None and site.bytes_in > site.stalls_after:
            site.stalls_after = None
            await trio.sleep_forever()
        if site.cut_after is not None:
            site.cut_after -= len(data)
            if site.cut_after < 0:
                site.cut_after = None
                self._stream.abort()
                raise trio.BrokenResourceError("cut")
        return data

    async def receive_into(self, buffer):
        data = await self.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def send_all(self, data):
        if self._site.answers_to_lose and b"job_id" in bytes(data):
            self._site.answers_to_lose -= 1
            if not self._site.answers_to_lose and self._site.dies_then:
                self._site.close()
            self._stream.abort()
            raise trio.BrokenResourceError("cut")
        await self._stream.send_all(data)

    async def send_eof(self):
        await self._stream.send_eof()

    def abort(self):
        self._stream.abort()

    async def finish(self):
        await self._stream.finish()


class Site:
    """One server: a spool, and a listening socket that can be closed and opened again."""

    def __init__(self, name, spool, nursery, port):
        self.name = name
        self.spool = spool
        self.acceptance = Acceptance(
            spool.journal, spool.reader, spool.documents, Limits(), spool.wall_clock
        )
        self.endpoints = ()
        self.connections = 0
        self.bytes_in = 0
        self.cut_after = None
        self.stalls_after = None
        self.answers_to_lose = 0
        self.dies_then = False
        self._nursery = nursery
        self._port = port
        self._listener = None
        self._scope = None

    async def start(self):
        await self.acceptance.start()
        self.printer = await self.spool.add_printer()
        self.open()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self._port}"

    def open(self):
        (self._listener,) = bind(f"127.0.0.1:{self._port}")
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._accept, self._listener, self._scope)

    def open_unix(self, path):
        listener = bind_unix(path)
        self._nursery.start_soon(self._accept, listener, trio.CancelScope())

    def close(self):
        """Nobody listens any more, and every connection breaks."""
        self._scope.cancel()
        self._listener.close()

    async def _accept(self, listener, scope):
        with scope, listener:
            async with trio.open_nursery() as nursery:

                def handle(sock, _):
                    self.connections += 1
                    nursery.start_soon(self.serve, SocketStream(sock))

                with suppress(trio.ClosedResourceError):
                    await accept_loop(listener, handle)

    async def serve(self, stream):
        principal = Principal("address:127.0.0.1", Port.CLEAR, address="127.0.0.1")
        node = Node(f"guid-{self.name}", self.name, "application", "test", self.endpoints)
        faulty = Faulty(stream, self)
        with Deadlines().watch(stream, 60) as watch:
            await serve_frames(
                faulty, b"", principal, self.acceptance, self, node, Settings(), watch
            )

    async def call(self, principal, op, args, send_event):
        if op == "job.follow":
            for state in ("pending", "processing", "completed"):
                await send_event("job-state", {"state": state})
        elif op == "wait":
            await send_event("waiting", {})
            await trio.sleep_forever()
        elif op != "echo":
            raise OperationError("not-found", f"there is no operation {op}.", "Try echo.")
        return args

    async def bodies(self):
        bodies = {}
        for job in await self.spool.reader.jobs(JobFilter(limit=1000)):
            source = await self.spool.documents.open(job)
            bodies[job.title] = source.read_at(0, source.size)
            source.close()
        return bodies

    async def count(self):
        return len(await self.spool.reader.jobs(JobFilter(limit=1000)))


@asynccontextmanager
async def opened_site(name, spool_at, path):
    path.mkdir()
    with own_port() as port:
        async with spool_at(path) as spool, trio.open_nursery() as nursery:
            site = Site(name, spool, nursery, port)
            await site.start()
            yield site
            nursery.cancel_scope.cancel()


@pytest.fixture
async def one(spool_at, tmp_path):
    async with opened_site("one", spool_at, tmp_path / "one") as site:
        yield site


@pytest.fixture
async def two(spool_at, tmp_path):
    async with opened_site("two", spool_at, tmp_path / "two") as site:
        yield site


class Threaded:
    """The provider without async, for tests that are: each call runs in a thread."""

    def __init__(self, endpoints, **options):
        self._direct = DirectProvider(endpoints, **options)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        await trio.to_thread.run_sync(self._direct.close)

    @property
    def current(self):
        return self._direct.current

    async def submit(self, source, **job):
        if progress := job.get("progress"):
            job["progress"] = partial(trio.from_thread.run_sync, progress)
        return await trio.to_thread.run_sync(partial(self._direct.submit, source, **job))

    async def call(self, *arguments):
        return await trio.to_thread.run_sync(self._direct.call, *arguments)


@pytest.fixture
def provider_of():
    def of(*sites, **options):
        return DirectProvider([site.endpoint for site in sites], **options)

    return of


@pytest.fixture(params=[Provider, Threaded], ids=["trio", "direct"])
def face(request):
    return request.param


@pytest.fixture
def provider(face):
    def of(*sites, **options):
        return face([site.endpoint for site in sites], **options)

    return of


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
@pytest.mark.parametrize("size", [0, 5, 64 * 1024, 64 * 1024 + 1])
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


async def test_an_upload_resumes_where_it_was_cut(one, provider):
    """After a cut in mid-upload only the rest is sent again."""
    one.cut_after = 1_500_000
    async with provider(one) as client:
        receipt = await client.submit(LARGE, printer="default", title="cut")
    assert (receipt.endpoint, one.connections) == (one.endpoint, 2)
    assert await one.bodies() == {"cut": LARGE}
    assert one.bytes_in < len(LARGE) + 800_000


@pytest.mark.slow
async def test_fail_over_in_the_middle_of_an_upload(one, two, provider):
    """A server that dies in mid-upload is left for the next; there the job starts at 0."""

    body = LARGE * 8  # more than the buffers of a connection hold

    def die(done, size):
        if done > 1_000_000:
            one.close()

    async with provider(one, two) as client:
        receipt = await client.submit(body, printer="default", title="x", progress=die)
        assert client.current == two.endpoint
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, ())
    assert (await one.count(), await two.bodies()) == (0, {"x": body})


async def test_a_lost_answer_is_asked_for_again_where_it_was_lost(one, two, provider):
    """The server that got the whole job is asked first; the other never hears of it."""
    one.answers_to_lose = 2
    async with provider(one, two) as client:
        receipt = await client.submit(b"body", printer="default")
    assert (receipt.endpoint, receipt.is_duplicate, receipt.unknown) == (one.endpoint, True, ())
    assert (await one.count(), await two.count(), two.connections) == (1, 0, 0)


@pytest.mark.slow
async def test_a_lost_answer_of_a_dead_server_is_told_in_the_receipt(one, two, provider):
    """When the first server stays away, the next gets the job, and the receipt says the risk."""
    one.answers_to_lose, one.dies_then = 1, True
    async with provider(one, two, doubt_timeout_s=0.3) as client:
        receipt = await client.submit(b"body", printer="default")
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, (one.endpoint,))
    assert (await one.count(), await two.count()) == (1, 1)


@pytest.mark.slow
async def test_a_lost_answer_without_another_server_is_an_error_of_its_own(one, provider):
    """Nobody claims that nothing was accepted when something was."""
    one.answers_to_lose, one.dies_then = 1, True
    uuid = uuid4()
    async with provider(one, doubt_timeout_s=0.1, unreachable_timeout_s=0.2) as client:
        with pytest.raises(AnswerUnknown, match="answer was lost") as unknown:
            await client.submit(b"body", printer="default", job_uuid=uuid)
        assert (unknown.value.endpoints, unknown.value.job_uuid) == ((one.endpoint,), uuid)
        one.open()
        receipt = await client.submit(b"body", printer="default", job_uuid=uuid)
    assert receipt.is_duplicate
    assert await one.count() == 1


async def test_a_refusal_elsewhere_does_not_hide_a_lost_answer(one, two, provider):
    """A printer that the second server does not know is no proof about the first one."""
    await one.spool.add_printer("only-here")
    one.answers_to_lose, one.dies_then = 1, True
    async with provider(one, two, doubt_timeout_s=0.1) as client:
        with pytest.raises(AnswerUnknown, match="another server refused"):
            await client.submit(b"body", printer="only-here")


@pytest.mark.slow
async def test_the_deadline_bounds_everything(one, provider):
    """A server that takes bytes and never answers costs no more than the deadline."""
    started = trio.current_time()
    async with provider(one) as client:
        await client.call("ping", {})
        one.acceptance.begin = never
        with pytest.raises(Unreachable, match="no answer within"):
            await client.submit(LARGE, printer="default", timeout_s=0.2)
    assert trio.current_time() - started < 10


async def never(*args):
    await trio.sleep_forever()


async def test_nobody_there(one, two, provider):
    """Unreachable says why, for each endpoint, and which job it was."""
    one.close()
    two.close()
    await trio.testing.wait_all_tasks_blocked()
    uuid = uuid4()
    async with provider(one, two, unreachable_timeout_s=0.0) as client:
        with pytest.raises(Unreachable, match="refused") as unreachable:
            await client.submit(b"body", printer="default", job_uuid=uuid)
        with pytest.raises(Unreachable, match="refused"):
            await client.call("echo", {})
    assert set(unreachable.value.causes) == {one.endpoint, two.endpoint}
    assert unreachable.value.job_uuid == uuid


@pytest.mark.parametrize("silences", [1, 2])
async def test_beside_a_server_that_says_nothing_the_next_is_tried(
    two, face, silences, monkeypatch
):
    """Connected is not welcomed: long before its deadline another one has the job."""
    for module in (servers, racing):
        monkeypatch.setattr(module, "HEAD_START_S", 0.05)
    with ExitStack() as stack, trio.fail_after(30):
        silent = [stack.enter_context(bind("127.0.0.1:0")[0]) for _ in range(silences)]
        names = [f"127.0.0.1:{one.getsockname()[1]}" for one in silent]
        async with face([*names, two.endpoint], connect_timeout_s=1000) as client:
            receipt = await client.submit(b"body", printer="default")
            assert client.current == two.endpoint
            assert await client.call("echo", {"x": 1}) == {"x": 1}
    assert (receipt.endpoint, two.connections, await two.count()) == (two.endpoint, 1, 1)


async def test_a_slow_server_without_a_rival_has_its_time(one, two, face, monkeypatch):
    """Those tried beside it refuse the connection: it is waited for as long as it may take."""
    for module in (servers, racing):
        monkeypatch.setattr(module, "HEAD_START_S", 0.01)
    two.close()
    serve = one.serve

    async def serve_late(stream):
        await trio.sleep(0.1)
        await serve(stream)

    one.serve = serve_late
    async with face([one.endpoint, two.endpoint]) as client:
        receipt = await client.submit(b"body", printer="default")
    assert (receipt.endpoint, await one.count()) == (one.endpoint, 1)


@pytest.mark.slow
@pytest.mark.parametrize("body", [LARGE * 8, b"body"], ids=["large", "small"])
async def test_a_server_that_falls_silent_in_an_upload_is_left_at_once(
    two, face, body, monkeypatch
):
    """Nobody waits for three of its pings, nor is there any doubt that it has not the job."""
    for module in (connection, line):
        monkeypatch.setattr(module, "FRESH_S", 0)  # as on a connection that was idle
    welcome = {"version": 1, "node_guid": "silent", "ping_s": 15, "inflight_max": 1}
    socks = []

    def serve():
        sock, _ = listener.accept()
        socks.append(sock)
        sock.recv(65536)
        sock.sendall(frame.answer(1, welcome))
        sock.recv(65536)  # it is to take a job
        if len(body) > EAGER_BYTES_MAX:
            sock.sendall(frame.event(2, "go-ahead", {"offset": 0}))

    (listener,) = bind("127.0.0.1:0")
    listener.setblocking(True)
    with listener, trio.fail_after(30):
        silent = f"127.0.0.1:{listener.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve)
            async with face([silent, two.endpoint]) as client:
                receipt = await client.submit(body, printer="default", title="x")
    socks[0].close()
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, ())
    assert await two.bodies() == {"x": body}


async def test_of_a_server_that_falls_silent_with_the_job_its_kin_is_asked_soon(
    two, face, monkeypatch
):
    """Of what both have one comes out; servers of anybody else wait for the end of the doubt."""
    for module in (connection, line):
        monkeypatch.setattr(module, "ANSWER_PING_S", 0.05)
    monkeypatch.setattr(course, "KIN_DOUBT_S", 0.1)
    welcome = {"version": 1, "node_guid": "silent", "role": "application", "ping_s": 15}
    welcome |= {"inflight_max": 1, "endpoints": [two.endpoint]}
    socks = []

    def serve():
        sock, _ = listener.accept()
        socks.append(sock)
        listener.close()  # it is gone then
        sock.recv(65536)
        sock.sendall(frame.answer(1, welcome))

    (listener,) = bind("127.0.0.1:0")
    listener.setblocking(True)
    silent = f"127.0.0.1:{listener.getsockname()[1]}"
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve)
            async with face([silent], doubt_timeout_s=1000) as client:
                receipt = await client.submit(b"body", printer="default")
    socks[0].close()
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, (silent,))
    assert await two.count() == 1


def test_what_kin_refuses_is_not_the_last_word_while_another_may_have_it():
    """The server that got the job whole is asked to the end of its time, then all are."""
    fare = course.Course(uuid4(), 4, 0.0)
    fare.doubts["guid-hq"] = "hq"
    kin = frozenset({"hq", "site"})
    lost = course.Lost("silence", was_silent=True)
    fare.note_lost("hq", "guid-hq", False, lost, now=10.0, doubt_timeout_s=30.0, kin=kin)
    names = ["hq", "site", "stranger"]
    assert fare.candidates(names, 10.5) == ["hq"]
    assert fare.candidates(names, 11.0) == ["site", "hq"]
    refused = OperationError("not-found", "no such printer.")
    assert not fare.note_refusal("site", "guid-site", False, refused)
    assert fare.candidates(names, 39.0) == ["site", "hq"]
    assert fare.candidates(names, 40.0) == ["site", "stranger", "hq"]
    with pytest.raises(AnswerUnknown):
        fare.note_refusal("site", "guid-site", False, refused)


@pytest.mark.slow
async def test_a_server_that_stood_still_is_asked_again_when_the_others_refuse(one, two, provider):
    """It was busy for a second: the job is none that nobody takes."""
    one.stalls_after = 1_000_000
    closed = replace(two.printer, accepting=False)
    await two.spool.journal.commit(PutPrinter(closed, two.spool.wall_clock()))
    async with provider(one, two) as client:
        receipt = await client.submit(LARGE * 8, printer="default", title="x")
    assert (receipt.endpoint, one.connections) == (one.endpoint, 2)
    assert await one.bodies() == {"x": LARGE * 8}


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


@pytest.mark.slow
async def test_back_to_the_first_server_when_it_is_well_again(one, two):
    """After a fail-over the preferred endpoint is probed, and used again."""
    one.close()
    async with Provider([one.endpoint, two.endpoint], probe_interval_s=0.02) as client:
        assert (await client.submit(b"1", printer="default")).endpoint == two.endpoint
        assert client.current == two.endpoint
        one.open()
        with trio.fail_after(30):
            while client.current != one.endpoint:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await client.submit(b"2", printer="default")).endpoint == one.endpoint


async def test_endpoints_of_the_welcome_are_used_when_the_known_ones_fail(one, two, provider):
    """A provider that knew one server fails over to those that it named."""
    one.endpoints = ("nonsense", two.endpoint)
    async with provider(one, doubt_timeout_s=0.1) as client:
        await client.submit(b"1", printer="default")
        one.close()
        assert (await client.submit(b"2", printer="default")).endpoint == two.endpoint


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


async def test_the_blocking_face(one, two, tmp_path):
    """Scripts hand jobs over without async, several at once too, with fail-over."""
    path = tmp_path / "document"
    path.write_bytes(LARGE)
    one.close()

    def script():
        with BlockingProvider([one.endpoint, two.endpoint]) as client:
            first = client.submit(path, printer="default", title="file")
            with pytest.raises(SubmitRefused):
                client.submit(b"x", printer="nowhere")
            rest = client.submit_all(
                [(b"%d" % n, {"printer": "default", "title": str(n)}) for n in range(5)]
                + [(tmp_path / "missing", {"printer": "default"})]
            )
        return first, rest

    first, rest = await trio.to_thread.run_sync(script)
    assert first.endpoint == two.endpoint
    assert isinstance(rest.pop(), FileNotFoundError)
    assert {receipt.endpoint for receipt in rest} == {two.endpoint}
    assert await two.bodies() == {"file": LARGE} | {str(n): b"%d" % n for n in range(5)}


class Interrupted(Exception):
    """What a signal's handler would say."""


async def test_an_interrupted_upload_without_async_is_forgotten_by_the_server(one, provider_of):
    """What the check raises comes out at once, and no bytes stay behind for a resume."""
    sent = 0

    def progress(done, size):
        nonlocal sent
        sent = done
        check()  # a server that reads fast enough is never waited for

    def check():
        if sent > 500_000:
            raise Interrupted

    with provider_of(one, check=check) as client:
        with pytest.raises(Interrupted):
            await trio.to_thread.run_sync(
                partial(client.submit, LARGE * 8, printer="default", progress=progress)
            )
        sent = 0
    incoming = one.spool.data_dir / "incoming"
    with trio.fail_after(30):
        while list(incoming.iterdir()):
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert await one.count() == 0


async def test_servers_by_name_and_by_path_without_async(one, tmp_path):
    """A name is looked up in a thread; a local socket may have a path of any length."""
    path = tmp_path / ("long" * 30) / "frames"
    path.parent.mkdir()
    one.open_unix(path)
    for endpoint in (one.endpoint.replace("127.0.0.1", "localhost"), f"unix:{path}"):
        with DirectProvider([endpoint]) as client:
            receipt = await trio.to_thread.run_sync(partial(client.submit, b"x", printer="default"))
        assert receipt.endpoint == endpoint
    nobody = DirectProvider([f"unix:{path}s"], unreachable_timeout_s=0)
    with nobody as client, pytest.raises(Unreachable, match="No such file"):
        await trio.to_thread.run_sync(partial(client.submit, b"x", printer="default"))


@pytest.mark.slow
async def test_a_waiting_call_without_async_answers_pings(one, provider_of):
    """The server looks every 0.2 s whether we live; more than three of them later we still do."""
    ends_at = trio.current_time() + 1

    def check():
        if time.monotonic() - begun_at > 1:
            raise Interrupted

    begun_at = time.monotonic()
    with provider_of(one, ping_s=0.2, check=check) as client, pytest.raises(Interrupted):
        await trio.to_thread.run_sync(client.call, "wait", {}, lambda name, args: None)
    assert trio.current_time() >= ends_at


@pytest.mark.slow
async def test_a_silent_server_is_given_up_without_async(one, two):
    """It took the job and says nothing more, not even to pings: the next one gets the job."""
    (listener,) = bind("127.0.0.1:0")
    welcome = {"version": 1, "node_guid": "silent", "ping_s": 0.05, "inflight_max": 1}

    def serve():
        sock, _ = listener.accept()
        sock.recv(65536)
        sock.sendall(frame.answer(1, welcome))
        return sock

    listener.setblocking(True)
    with listener:
        silent = f"127.0.0.1:{listener.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            socks = []
            nursery.start_soon(lambda: _keep(socks, serve))
            with DirectProvider([silent, two.endpoint], connect_timeout_s=0.2) as client:
                submit = partial(client.submit, LARGE, printer="default")
                receipt = await trio.to_thread.run_sync(submit)
    socks[0].close()
    assert receipt.endpoint == two.endpoint


async def _keep(socks, serve):
    socks.append(await trio.to_thread.run_sync(serve))


def test_handing_over_one_job_loads_no_trio():
    """A program that lives for one job, as a CUPS backend does, starts three times as fast."""
    program = (
        "import sys, spoold.provider.direct, spoold.provider.cups_delivery;"
        "sys.exit(bool({'trio', 'asyncio', 'structlog', 'cryptography'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_the_control_client(one, tmp_path):
    """Calls, refusals, streams (also left early) over the local socket, whatever its path."""
    path = tmp_path / ("long" * 30) / "control"
    path.parent.mkdir()
    one.open_unix(path)

    def command():
        with ControlClient(path) as client:
            assert client.welcome["node_name"] == "one"
            assert client.call("echo", {"n": 1}) == {"n": 1}
            with pytest.raises(OperationError, match="Try echo"):
                client.call("nonsense", {})
            for event in client.stream("wait", {}):
                assert event.name == "waiting"
                break
            states = [event.args["state"] for event in client.stream("job.follow", {})]
            assert client.call("echo", {}) == {}
            return states

    assert await trio.to_thread.run_sync(command) == ["pending", "processing", "completed"]
    async with Provider([f"unix:{path}"]) as client:
        await client.submit(b"local", printer="default")


def test_the_control_client_says_when_nobody_is_there(tmp_path):
    """No daemon, and a socket that is none, are errors with advice."""
    with pytest.raises(Unreachable, match="spoold serve"):
        ControlClient(tmp_path / "control")


def test_the_control_client_starts_fast():
    """Commands do not pay for what they do not use."""
    program = (
        "import sys, spoold.provider.blocking;"
        "sys.exit(bool({'trio', 'ssl', 'blake3', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "said",
    [
        frame.answer(1, {"version": 2}),
        frame.answer(1, {"version": 1, "node_guid": "x", "ping_s": "x", "inflight_max": 1}),
        frame.refusal(1, "version-not-supported", "no version in common."),
        frame.chunk_head(1, 0, 1) + b"x",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ],
)
async def test_a_server_that_is_none_is_left_for_the_next(two, said, face):
    """Whatever something else on that port says, the job goes to a real server."""
    (listener,) = bind("127.0.0.1:0")

    def handle(sock, _):
        if said:
            sock.send(said)
        sock.shutdown(1)
        socks.append(sock)

    socks = []
    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, handle)
            wrong = f"127.0.0.1:{listener.getsockname()[1]}"
            async with face([wrong, two.endpoint], connect_timeout_s=1) as client:
                receipt = await client.submit(b"body", printer="default")
            nursery.cancel_scope.cancel()
    for sock in socks:
        sock.close()
    assert receipt.endpoint == two.endpoint
