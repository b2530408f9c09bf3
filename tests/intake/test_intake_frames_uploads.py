"""Uploads over frames: resumed, sent twice, taken over, wrong, too large."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.codec import frame
from spoold.codec.frame import Answer, Event
from support.frames_server import LARGE, chunks, eager, end, submit


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


@pytest.mark.parametrize("is_eager", [True, False])
async def test_no_bytes_are_no_job(server, is_eager):
    """As at every door; who did not know the size is told at the end."""
    client = server.connect()
    await client.hello()
    await client.send(submit(2, uuid4(), eager=is_eager))
    if not is_eager:
        assert await client.receive() == Event(2, "go-ahead", {"offset": 0})
    await client.send(end(2, b""))
    told = await client.answer(2)
    assert (told.code, told.message) == ("bad-request", "the document is empty.")
    assert await server.jobs() == []


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
