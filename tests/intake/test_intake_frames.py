"""Frames over real sockets into a real spool: what a client is promised, and hostile clients."""

from __future__ import annotations

import socket
from collections import deque
from itertools import count
from uuid import uuid4

import pytest
import trio
import trio.testing
from blake3 import blake3

from spoold.codec import frame
from spoold.codec.frame import Answer, Event, FrameReader, Refusal, Request
from spoold.intake.acceptance import Acceptance
from spoold.intake.arguments import owner
from spoold.intake.deadlines import Deadlines
from spoold.intake.frames import Node, serve_frames
from spoold.intake.frames_link import Settings
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Principal, Role
from spoold.net.tcp import SocketStream
from spoold.spool.store import JobFilter
from support.holding import WatchedStream
from support.houses import wait_until
from support.limits import Limits

CLIENT = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")
NODE = Node("node-guid", "hq", "application", "spoold test", ("hq.example.org:9191",))
HELLO = {"versions": [1], "kind": "provider"}
LARGE = bytes(range(256)) * 2048  # 512 KiB: goes into a file


class Operations:
    """A router with the few operations that the tests call."""

    def __init__(self):
        self.calls = []
        self.running = 0
        self.most = 0
        self.go = trio.Event()

    async def call(self, principal, op, args, send_event):
        self.calls.append((principal, op, args))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if op == "wait":
                await self.go.wait()
            elif op == "job.follow":
                await send_event("job-state", {"state": "pending"})
                await trio.sleep_forever()
            elif op == "large":
                return {"text": ["x" * 8000] * 20}
            elif op != "echo":
                raise OperationError("not-found", f"there is no operation {op!r}.", "Try echo.")
            return args
        finally:
            self.running -= 1


class Client:
    """The client's half, a frame at a time."""

    def __init__(self, sock, done):
        self.stream = SocketStream(sock)
        self.done = done
        self._reader = FrameReader()
        self._items = deque()

    async def send(self, *pieces):
        await self.stream.send_all(b"".join(pieces))

    async def receive(self):
        """The next message; None at the end."""
        with trio.fail_after(30):
            while not self._items:
                data = await self.stream.receive_some()
                if not data:
                    self._reader.end()
                    return None
                self._items.extend(self._reader.feed(data))
        return self._items.popleft()

    async def answer(self, id_):
        """The answer to `id_`; events and other answers are skipped."""
        while True:
            item = await self.receive()
            assert item is not None, f"the connection ended before {id_} was answered"
            if isinstance(item, Answer | Refusal) and item.id == id_:
                return item

    async def hello(self, **args):
        await self.send(frame.MAGIC, frame.request(1, "hello", HELLO | args))
        return await self.answer(1)


def submit(id_, uuid, **args):
    args = {"job_uuid": str(uuid), "printer": "default", "digest_algorithm": "blake3"} | args
    return frame.request(id_, "submit", args)


def chunks(id_, body, offset=0, step=frame.CHUNK_BYTES_MAX):
    return b"".join(
        frame.chunk_head(id_, at, len(body[at : at + step])) + body[at : at + step]
        for at in range(offset, len(body), step)
    )


def end(id_, body):
    digest = f"blake3:{blake3(body).hexdigest()}"
    return frame.event(id_, "end", {"size": len(body), "digest": digest})


def eager(id_, body, uuid=None, **args):
    return submit(id_, uuid or uuid4(), eager=True, **args) + chunks(id_, body) + end(id_, body)


class Server:
    """Connections to one spool."""

    def __init__(self, spool, acceptance, nursery):
        self.spool = spool
        self.acceptance = acceptance
        self.operations = Operations()
        self.deadlines = Deadlines(0.05)
        nursery.start_soon(self.deadlines.run)
        self._nursery = nursery
        self.clients = []

    def connect(self, principal=CLIENT, stream=SocketStream, **settings):
        ours, theirs = socket.socketpair()
        done = trio.Event()
        self._nursery.start_soon(self._serve, stream(theirs), principal, settings, done)
        self.clients.append(Client(ours, done))
        return self.clients[-1]

    async def _serve(self, stream, principal, settings, done):
        first_bytes = await stream.receive_some(3)  # what a sniffing listener may have read
        with self.deadlines.watch(stream, 60) as watch:
            watch.is_quiet = False
            await serve_frames(
                stream,
                first_bytes,
                principal,
                self.acceptance,
                self.operations,
                NODE,
                Settings(**settings),
                watch,
            )
        done.set()

    async def jobs(self):
        return await self.spool.reader.jobs(JobFilter(limit=1000))

    async def body(self, job):
        source = await self.spool.documents.open(job)
        try:
            return source.read_at(0, source.size)
        finally:
            source.close()


@pytest.fixture
async def server(spool):
    acceptance = Acceptance(
        spool.journal,
        spool.reader,
        spool.documents,
        Limits(document_bytes_max=8 << 20),
        spool.wall_clock,
    )
    await acceptance.start()
    await spool.add_printer()
    async with trio.open_nursery() as nursery:
        opened = Server(spool, acceptance, nursery)
        yield opened
        nursery.cancel_scope.cancel()
        for client in opened.clients:
            client.stream.abort()


async def test_a_job_comes_in_by_the_book(server):
    """Hello, submit, go-ahead, chunks, end, and an answer after the commit."""
    client = server.connect()
    welcome = await client.hello(ping_s=4)
    assert welcome.result == {
        "version": 1,
        "node_guid": "node-guid",
        "node_name": "hq",
        "role": "application",
        "software": "spoold test",
        "endpoints": ["hq.example.org:9191"],
        "ping_s": 4.0,
        "chunk_bytes_max": frame.CHUNK_BYTES_MAX,
        "inflight_max": 256,
    }
    uuid = uuid4()
    await client.send(submit(2, uuid.urn, title="Offer\n7", user="EXAMPLE\\Mara", copies=3))
    assert await client.receive() == Event(2, "go-ahead", {"offset": 0})
    await client.send(chunks(2, b"page one", step=3), end(2, b"page one"))
    accepted = (await client.answer(2)).result
    (job,) = await server.jobs()
    assert accepted == {
        "job_id": job.id,
        "job_uuid": str(uuid),
        "position": job.position,
        "node_guid": "node-guid",
        "state": "pending",
        "duplicate": False,
    }
    assert (job.uuid, job.title, job.copies) == (uuid, "Offer 7", 3)
    assert (job.owner, job.submitter) == (Owner("mara", Known.CLAIMED), "address:192.0.2.7")
    assert (job.intake, job.client_host) == ("frames", "192.0.2.7")
    assert await server.body(job) == b"page one"
    await client.stream.send_eof()
    assert await client.receive() is None
    await client.done.wait()


async def test_a_connection_that_waits_holds_nothing_of_what_came(server):
    """Thousands of them may be open for weeks, and the last thing that each sent was a document."""
    streams = []

    def stream(sock):
        streams.append(WatchedStream(sock))
        return streams[-1]

    client = server.connect(stream=stream)
    await client.hello()
    await client.send(eager(2, bytes(50_000)))
    await client.answer(2)
    await wait_until(lambda: all(len(one) <= 3 for one in streams[0].held()))  # 3 were sniffed


async def test_pipelined_eager_jobs_share_commits(server):
    """Many small jobs sent at once are all accepted, each with its own bytes, in few commits."""
    client = server.connect()
    await client.hello()
    before = server.spool.journal.commits
    bodies = {n: b"document %d" % n for n in range(2, 102)}
    await client.send(*(eager(n, body, title=str(n)) for n, body in bodies.items()))
    answers = [await client.receive() for _ in bodies]
    assert {answer.id for answer in answers} == set(bodies)
    assert all(isinstance(answer, Answer) for answer in answers)
    assert server.spool.journal.commits - before < 50
    for job in await server.jobs():
        assert await server.body(job) == bodies[int(job.title)]


async def test_chunks_of_several_uploads_may_be_mixed(server):
    """Two large uploads and a small one arrive over one connection, interleaved."""
    client = server.connect()
    await client.hello()
    one, two = LARGE, LARGE[::-1]
    await client.send(submit(2, uuid4(), title="one"), submit(3, uuid4(), title="two"))
    assert {(await client.receive()).name, (await client.receive()).name} == {"go-ahead"}
    for at in range(0, len(one), 65536):
        for id_, body in ((2, one), (3, two)):
            part = body[at : at + 65536]
            await client.send(frame.chunk_head(id_, at, len(part)) + part)
    await client.send(end(3, two), eager(4, b"small", title="small"), end(2, one))
    for _ in range(3):
        while isinstance(item := await client.receive(), Event):
            assert item.name == "stored"
        assert isinstance(item, Answer)
    bodies = {job.title: await server.body(job) for job in await server.jobs()}
    assert bodies == {"one": one, "two": two, "small": b"small"}


@pytest.mark.parametrize("body", [b"x" * 65536, b"x" * 65537, LARGE], ids=len)
@pytest.mark.parametrize("announced", [True, False])
async def test_eager_documents_of_any_size_need_no_go_ahead(server, body, announced):
    """Below and above what is gathered, with and without a size, eager works the same."""
    client = server.connect()
    await client.hello()
    size = {"size": len(body)} if announced else {}
    await client.send(submit(2, uuid4(), eager=True, **size), chunks(2, body, step=30_000))
    await client.send(end(2, body))
    assert isinstance(await client.answer(2), Answer)
    (job,) = await server.jobs()
    assert await server.body(job) == body


@pytest.mark.parametrize(
    ("offered", "version"), [([1], 1), ([0, 1], 1), ([1, 2], 1), ([2, 1, 7], 1)]
)
async def test_versions_are_negotiated(server, offered, version):
    """A client of the version before or after is served in the one that both speak."""
    client = server.connect()
    assert (await client.hello(versions=offered)).result["version"] == version
    await client.send(frame.request(2, "echo", {"x": 1}))
    assert await client.receive() == Answer(2, {"x": 1})


async def test_no_common_version_is_an_error_that_says_so(server):
    """A client from far away learns which versions are spoken, and is disconnected."""
    client = server.connect()
    refusal = await client.hello(versions=[7])
    assert (refusal.code, refusal.details) == ("version-not-supported", {"versions": [1]})
    assert (await client.receive()).id == 0
    assert await client.receive() is None


HOSTILE = {
    "no hello": [frame.request(1, "ping", {})],
    "a chunk first": [frame.chunk_head(1, 0, 1) + b"x"],
    "no versions": [frame.request(1, "hello", {"kind": "cli"})],
    "no kind": [frame.request(1, "hello", {"versions": [1]})],
    "a bad interval": [frame.request(1, "hello", {**HELLO, "ping_s": -1})],
    "a wrong length": [frame.request(1, "hello", HELLO), b"\x7f\xff\xff\xff"],
    "not msgpack": [frame.request(1, "hello", HELLO), b"\x00\x00\x00\x01\xc1"],
    "a chunk of nothing": [frame.request(1, "hello", HELLO), frame.chunk_head(9, 0, 1) + b"x"],
    "an end of nothing": [frame.request(1, "hello", HELLO), end(9, b"")],
    "an id twice": [frame.request(1, "hello", HELLO), submit(2, uuid4()), submit(2, uuid4())],
    "a chunk too early": [
        frame.request(1, "hello", HELLO),
        submit(2, uuid4()),
        frame.chunk_head(2, 0, 1) + b"x",
    ],
}


@pytest.mark.parametrize("pieces", HOSTILE.values(), ids=HOSTILE)
async def test_a_breach_of_the_protocol_ends_the_connection(server, pieces):
    """The client hears why, under id 0, then the end; nobody else is disturbed."""
    other = server.connect()
    await other.hello()
    client = server.connect()
    await client.send(frame.MAGIC, *pieces)
    while (item := await client.receive()).id != 0:
        pass
    assert isinstance(item, Refusal)
    assert item.code in ("bad-request", "too-large")
    assert await client.receive() is None
    client.stream.abort()
    await client.done.wait()
    await other.send(eager(2, b"still served"))
    assert isinstance(await other.answer(2), Answer)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"job_uuid": "7"}, "bad-request"),
        ({"job_uuid": "{" + "0" * 32 + "}"}, "bad-request"),
        ({"printer": ""}, "bad-request"),
        ({"printer": "nowhere"}, "not-found"),
        ({"title": 7}, "bad-request"),
        ({"user": None}, "bad-request"),
        ({"copies": 0}, "bad-request"),
        ({"copies": True}, "bad-request"),
        ({"priority": 101}, "bad-request"),
        ({"size": -1}, "bad-request"),
        ({"size": 1 << 40}, "too-large"),
        ({"format": "pdf"}, "bad-request"),
        ({"attributes": []}, "bad-request"),
        ({"hold": 1}, "bad-request"),
        ({"digest_algorithm": "md5"}, "bad-request"),
        ({"digest_algorithm": []}, "bad-request"),
    ],
)
@pytest.mark.parametrize("is_eager", [True, False])
async def test_a_submit_that_cannot_be_is_refused_alone(server, args, code, is_eager):
    """The other requests of the connection go on, and late chunks of the refused one vanish."""
    client = server.connect()
    await client.hello()
    args = {"job_uuid": str(uuid4()), "printer": "default", "eager": is_eager} | args
    await client.send(frame.request(2, "submit", args))
    if is_eager:
        await client.send(chunks(2, b"late"), end(2, b"late"))
    refusal = await client.answer(2)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    await client.send(eager(2, b"the same id again"))
    assert isinstance(await client.answer(2), Answer)
    assert len(await server.jobs()) == 1


@pytest.mark.slow
async def test_an_upload_resumes_after_a_cut(server):
    """A reset in mid-upload loses nothing that the next go-ahead counts."""
    uuid = uuid4()
    client = server.connect()
    await client.hello()
    await client.send(submit(2, uuid, size=len(LARGE)))
    assert (await client.receive()).args == {"offset": 0}
    await client.send(chunks(2, LARGE[:300_000]))
    while (item := await client.receive()).args["offset"] < 300_000:
        assert item.name == "stored"
    client.stream.abort()
    await client.done.wait()
    assert await server.jobs() == []

    client = server.connect()
    await client.hello()
    await client.send(submit(2, uuid, size=len(LARGE)))
    assert await client.receive() == Event(2, "go-ahead", {"offset": 300_000})
    # Bytes that are there already may come again.
    await client.send(chunks(2, LARGE, offset=299_000), end(2, LARGE))
    assert isinstance(await client.answer(2), Answer)
    (job,) = await server.jobs()
    assert await server.body(job) == LARGE


@pytest.mark.slow
async def test_an_eager_resume_is_told_its_offset(server):
    """An eager client that sends from 0 again is told what it may leave out."""
    uuid = uuid4()
    client = server.connect()
    await client.hello()
    await client.send(submit(2, uuid, eager=True, size=len(LARGE)), chunks(2, LARGE[:300_000]))
    while (await client.receive()).args["offset"] < 300_000:
        pass
    client.stream.abort()
    await client.done.wait()
    client = server.connect()
    await client.hello()
    await client.send(eager(2, LARGE, uuid, size=len(LARGE)))
    assert await client.receive() == Event(2, "go-ahead", {"offset": 300_000})
    assert isinstance(await client.answer(2), Answer)
    (job,) = await server.jobs()
    assert await server.body(job) == LARGE


async def test_what_has_its_end_is_committed_though_the_client_is_gone(server):
    """A client that vanishes after `end` finds its job again by the job-uuid."""
    uuid = uuid4()
    client = server.connect()
    await client.hello()
    await client.send(eager(2, b"body", uuid))
    client.stream.abort()
    await client.done.wait()
    (job,) = await server.jobs()
    client = server.connect()
    await client.hello()
    await client.send(submit(2, uuid))
    again = await client.answer(2)
    assert (again.result["job_id"], again.result["duplicate"]) == (job.id, True)


async def test_a_uuid_twice_is_one_job(server):
    """Eager or not, before and after: the same job-uuid has one answer; other bytes conflict."""
    uuid = uuid4()
    client = server.connect()
    await client.hello()
    await client.send(eager(2, b"body", uuid))
    first = (await client.answer(2)).result
    await client.send(eager(3, b"body", uuid), submit(4, uuid), eager(5, b"other", uuid))
    answers = {}
    for _ in range(3):
        item = await client.receive()
        answers[item.id] = item
    assert answers[3].result == answers[4].result == {**first, "duplicate": True}
    assert answers[5].code == "conflict"
    assert len(await server.jobs()) == 1


async def test_a_uuid_on_two_connections_at_once_is_one_job(server):
    """Whatever each of two clients hears, there is one job, and asking again says so."""
    uuid = uuid4()
    clients = [server.connect() for _ in range(4)]
    for client in clients:
        await client.hello()
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.send, eager(2, b"body", uuid))
    answers = [await client.answer(2) for client in clients]
    assert any(isinstance(answer, Answer) for answer in answers)
    for answer in answers:
        assert isinstance(answer, Answer) or answer.code == "busy"
    (job,) = await server.jobs()
    for client in clients:
        await client.send(eager(3, b"body", uuid))
        assert (await client.answer(3)).result["job_id"] == job.id
    assert len(await server.jobs()) == 1


async def test_an_upload_that_is_taken_over_again_and_again_loses_nothing(server):
    """Many connections bring the same large job at once: one goes on, and its bytes are right."""
    uuid = uuid4()
    clients = [server.connect() for _ in range(6)]
    for client in clients:
        await client.hello()
    codes = []

    async def bring(client):
        await client.send(eager(2, LARGE, uuid))
        codes.append(getattr(await client.answer(2), "code", "accepted"))

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(bring, client)
    assert set(codes) <= {"accepted", "busy"}
    await clients[0].send(eager(3, LARGE, uuid))
    assert isinstance(await clients[0].answer(3), Answer)
    (job,) = await server.jobs()
    assert await server.body(job) == LARGE


async def test_a_wrong_digest_or_size_keeps_nothing(server):
    """A document that is not what `end` says is refused, and may then come again from 0."""
    uuid = uuid4()
    client = server.connect()
    await client.hello()
    for body in (b"small", LARGE):
        await client.send(submit(2, uuid, eager=True), chunks(2, body), end(2, body[::-1]))
        assert (await client.answer(2)).code == "digest-mismatch"
        await client.send(submit(2, uuid, eager=True), chunks(2, body), end(2, body + b"x"))
        assert (await client.answer(2)).code == "digest-mismatch"
    assert await server.jobs() == []
    await client.send(submit(2, uuid))
    assert await client.receive() == Event(2, "go-ahead", {"offset": 0})
    await client.send(chunks(2, LARGE), end(2, LARGE))
    assert isinstance(await client.answer(2), Answer)


async def test_a_wrong_end_is_refused(server):
    """`end` needs a size and a digest of the algorithm that was announced."""
    client = server.connect()
    await client.hello()
    for args in ({}, {"size": 4}, {"size": 4, "digest": "sha256:" + "0" * 64}):
        await client.send(submit(2, uuid4(), eager=True), chunks(2, b"body"))
        await client.send(frame.event(2, "end", args))
        assert (await client.answer(2)).code == "bad-request"


async def test_a_gap_is_refused(server):
    """Chunks must continue each other, gathered or not."""
    client = server.connect()
    await client.hello()
    for size in (10, len(LARGE)):
        await client.send(submit(2, uuid4(), eager=True, size=size), chunks(2, b"abc"))
        await client.send(frame.chunk_head(2, 5, 1) + b"x", chunks(2, LARGE))
        assert (await client.answer(2)).code == "bad-request"
    await client.send(frame.request(9, "echo", {}))
    assert isinstance(await client.answer(9), Answer)


async def test_a_document_over_the_limit_is_refused_while_it_comes(server):
    """`too-large` comes as soon as it is known; the rest of the connection goes on."""
    client = server.connect()
    await client.hello()
    megabyte = bytes(1 << 20)
    await client.send(submit(2, uuid4(), eager=True))
    for at in range(9):
        await client.send(frame.chunk_head(2, at << 20, 1 << 20), megabyte)
    assert (await client.answer(2)).code == "too-large"
    await client.send(eager(3, b"small"))
    assert isinstance(await client.answer(3), Answer)


async def test_an_upload_can_be_aborted(server):
    """Before and after the go-ahead, `abort` answers `canceled` and forgets what came."""
    client = server.connect()
    await client.hello()
    await client.send(submit(2, uuid4()), frame.event(2, "abort", {}))
    assert (await client.answer(2)).code == "canceled"
    uuid = uuid4()
    await client.send(submit(3, uuid, size=len(LARGE), eager=True), chunks(3, LARGE))
    await client.send(frame.event(3, "abort", {}))
    assert (await client.answer(3)).code == "canceled"
    await client.send(submit(4, uuid))
    assert (await client.receive()).args == {"offset": 0}
    assert await server.jobs() == []


async def test_other_operations_go_to_the_router(server):
    """Each call runs in a task of its own, with who asks; refusals come as errors."""
    client = server.connect()
    await client.hello()
    await client.send(
        frame.request(2, "wait", {"n": 2}),
        frame.request(3, "echo", {"n": 3}),
        frame.request(4, "nonsense", {}),
        frame.request(5, "large", {}),
        frame.request(6, "ping", {}),
        frame.request(7, "hello", HELLO),
    )
    answers = {}
    for _ in range(5):
        item = await client.receive()
        answers[item.id] = item
    assert answers[3] == Answer(3, {"n": 3})
    assert answers[4] == Refusal(
        4, "not-found", "there is no operation 'nonsense'.", "Try echo.", {}
    )
    assert answers[5].code == "too-large"
    assert answers[6] == Answer(6, {})
    assert answers[7].code == "bad-request"
    server.operations.go.set()
    assert await client.receive() == Answer(2, {"n": 2})
    assert (CLIENT, "wait", {"n": 2}) in server.operations.calls


async def test_a_follow_is_pushed_and_can_be_aborted(server):
    """Events of a follow carry its id; `abort` ends it."""
    client = server.connect()
    await client.hello()
    await client.send(frame.request(2, "job.follow", {"job": 7}))
    assert await client.receive() == Event(2, "job-state", {"state": "pending"})
    await client.send(frame.event(2, "abort", {}))
    assert (await client.answer(2)).code == "canceled"


async def test_the_server_stops_reading_when_enough_is_under_way(server):
    """Calls beyond the limit wait in the socket; those that need the client are told `busy`."""
    client = server.connect(inflight_max=4)
    await client.hello()
    await client.send(*(frame.request(n, "wait", {}) for n in range(2, 12)))
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert server.operations.running == 4
    server.operations.go.set()
    assert {(await client.receive()).id for _ in range(10)} == set(range(2, 12))
    assert server.operations.most == 4
    await client.send(*(submit(n, uuid4()) for n in range(20, 25)))
    assert (await client.answer(24)).code == "busy"


async def test_a_client_that_says_nothing_is_disconnected(server):
    """Without hello in time it hears why."""
    client = server.connect(hello_deadline_s=0.01)
    await client.send(frame.MAGIC)
    assert (await client.receive()).message == "no hello came in time."
    assert await client.receive() is None


async def test_a_silent_client_is_pinged_and_then_cut(server):
    """Two unanswered pings and three intervals later the connection is reset."""
    client = server.connect(ping_s=0.02)
    await client.hello()
    assert await client.receive() == Request(1, "ping", {})
    assert await client.receive() == Request(2, "ping", {})
    assert await client.receive() is None  # over TCP it is a reset


async def test_answers_to_pings_keep_a_connection(server):
    """A client that only answers pings stays."""
    client = server.connect(ping_s=0.01)
    await client.hello()
    for _ in range(10):
        ping = await client.receive()
        await client.send(frame.answer(ping.id, {}))
    await client.send(frame.request(2, "echo", {}))
    assert isinstance(await client.answer(2), Answer)


@pytest.mark.slow
async def test_an_upload_that_stands_still_is_ended_and_kept(server):
    """After the idle deadline the upload is answered, and can be resumed."""
    uuid = uuid4()
    client = server.connect(upload_idle_deadline_s=0.0)
    await client.hello()
    await client.send(submit(2, uuid), submit(3, uuid4(), eager=True))
    await client.receive()
    await client.send(chunks(2, LARGE))
    assert (await client.answer(3)).code == "timed-out"
    assert (await client.answer(2)).code == "timed-out"
    await client.send(submit(4, uuid))
    assert (await client.receive()).args == {"offset": len(LARGE)}


async def test_a_client_that_does_not_read_is_cut(server):
    """Answers that nobody takes do not pile up for ever."""
    client = server.connect(send_timeout_s=0.05)
    await client.hello()
    text = "x" * 8000

    async def send_for_ever():
        for number in count(2):
            await client.send(frame.request(number, "echo", {"a": text, "b": text}))

    with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
        await send_for_ever()


async def test_stopping_finishes_what_is_under_way(server):
    """New jobs are refused, open uploads finish, then the connection ends in order."""
    client = server.connect()
    await client.hello()
    await client.send(submit(2, uuid4()))
    assert (await client.receive()).name == "go-ahead"
    server.deadlines.stop()
    await trio.testing.wait_all_tasks_blocked(0.01)
    await client.send(eager(3, b"too late"), chunks(2, b"body"), end(2, b"body"))
    assert (await client.answer(3)).code == "busy"
    assert isinstance(await client.answer(2), Answer)
    assert await client.receive() is None


async def test_stopping_ends_a_connection_that_only_greeted(server):
    """Whoever has nothing under way is not waited for."""
    client = server.connect()
    await client.hello()
    server.deadlines.stop()
    assert await client.receive() is None


async def test_an_orderly_end_answers_what_is_under_way(server):
    """A client that half-closes at once still gets every answer; follows just end."""
    client = server.connect()
    await client.send(frame.MAGIC, frame.request(1, "hello", HELLO))
    await client.send(frame.request(2, "job.follow", {}), eager(3, b"body"))
    await client.stream.send_eof()
    got = []
    while (item := await client.receive()) is not None:
        got.append(item.id)
    assert {1, 3} <= set(got)
    assert len(await server.jobs()) == 1


async def test_a_held_submission_says_so(server):
    """`hold`, and a printer that asks for a better known owner, make the state pending-held."""
    await server.spool.add_printer("secure", least_owner=Known.AUTHENTICATED)
    client = server.connect()
    await client.hello()
    await client.send(eager(2, b"body", hold=True), eager(3, b"body", printer="secure"))
    for _ in range(2):
        assert (await client.receive()).result["state"] == "pending-held"
    assert {job.state for job in await server.jobs()} == {JobState.PENDING_HELD}


def test_who_a_job_belongs_to_depends_on_the_port():
    """Claimed without credentials, asserted by a provider in its bounds, authenticated locally."""
    assert owner(CLIENT, "Mara@EXAMPLE") == Owner("mara", Known.CLAIMED)
    provider = Principal("provider:7", Port.MUTUAL, name="front", may_assert=("mara",))
    assert owner(provider, "MARA") == Owner("mara", Known.ASSERTED, "front")
    assert owner(provider, "") == Owner("")
    anyone = Principal("provider:7", Port.MUTUAL, name="front", may_assert=("*",))
    assert owner(anyone, "otto") == Owner("otto", Known.ASSERTED, "front")
    local = Principal("uid:7", Port.CONTROL, name="mara")
    assert owner(local, "") == owner(local, "Mara") == Owner("mara", Known.AUTHENTICATED, "local")
    root = Principal("uid:0", Port.CONTROL, frozenset({Role.ADMIN}), name="root")
    assert owner(root, "otto") == Owner("otto", Known.ASSERTED, "uid:0")
    nameless = Principal("uid:99", Port.CONTROL)
    assert owner(nameless, "") == Owner("")
    for principal in (provider, local, nameless):
        with pytest.raises(OperationError) as refused:
            owner(principal, "otto")
        assert refused.value.code == "forbidden"
