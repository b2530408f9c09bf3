"""Frames as a server takes them: greeting, jobs, what is refused, other operations."""

from __future__ import annotations

from uuid import uuid4

import pytest

from spoold.codec import frame
from spoold.codec.frame import Answer, Event, Refusal
from spoold.intake.arguments import owner
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Principal, Role
from support.frames_server import CLIENT, HELLO, LARGE, chunks, eager, end, submit


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
        ({"size": 0}, "bad-request"),
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
