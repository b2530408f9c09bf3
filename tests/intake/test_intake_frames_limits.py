"""Connections of frames that are slow, silent, too eager, or at their end."""

from __future__ import annotations

from itertools import count
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.codec import frame
from spoold.codec.frame import Answer, Request
from support.frames_server import HELLO, LARGE, chunks, eager, end, submit
from support.holding import WatchedStream
from support.waiting import wait_until


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
