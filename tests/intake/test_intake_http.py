"""HTTP over real sockets: what is answered, what is refused, and how a connection ends."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import pytest
import trio
import trio.testing

from spoold.intake.deadlines import Deadlines
from spoold.intake.http import Site, serve_http
from spoold.model.errors import RemoteProtocolError
from spoold.model.principal import Port, Principal
from spoold.net.tcp import SocketStream
from support.holding import WatchedStream
from support.waiting import wait_until

CLIENT = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")


@dataclass(frozen=True)
class Limits:
    header_deadline_s: float = 5.0
    idle_deadline_s: float = 5.0
    minimum_rate_bytes_s: int = 1
    minimum_rate_grace_s: float = 5.0


def answer(path):
    if path == "/healthz":
        return 200, {"status": "ok"}
    return 404, {"error": "not-found"}


@asynccontextmanager
async def connection(first_bytes=b"", limits=None, deadlines=None):
    """The client's half of a served connection; `problems` is what the listener would log."""
    ours, theirs = socket.socketpair()
    client = SocketStream(theirs)
    problems = []
    deadlines = deadlines or Deadlines(0.01)

    async def serve():
        stream = SocketStream(ours)
        try:
            with deadlines.watch(stream, 5) as watch:
                await serve_http(
                    stream, first_bytes, CLIENT, Site(answer), limits or Limits(), watch
                )
        except (RemoteProtocolError, trio.TooSlowError) as error:
            problems.append(error)
        finally:
            stream.abort()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deadlines.run)
            try:
                async with trio.open_nursery() as serving:
                    serving.start_soon(serve)
                    try:
                        yield client, problems
                    finally:
                        client.abort()
            finally:
                nursery.cancel_scope.cancel()


async def everything(client):
    """All that comes until the server ends."""
    data = b""
    while piece := await client.receive_some():
        data += piece
    return data


def answers(data, *methods):
    """The (status, headers, value) of each response in `data`."""
    found = []
    for method in methods:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.receive_data(data)
        head = parser.next_event()
        assert isinstance(head, h11.Response)
        body = b""
        while isinstance(event := parser.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        found.append((head.status_code, dict(head.headers), json.loads(body) if body else None))
        data = parser.trailing_data[0]
    assert not data
    return found


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
NOWHERE = b"POST /ipp/print HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_a_connection_that_waits_holds_nothing_of_what_came():
    """Thousands of them may be kept open, and the last thing that each sent was a document."""
    ours, theirs = socket.socketpair()
    stream, client = WatchedStream(ours), SocketStream(theirs)
    request = b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000)
    watch = Deadlines().add(stream, 30)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                serve_http, stream, stream.given(request), CLIENT, Site(answer), Limits(), watch
            )
            assert (await client.receive_some()).startswith(b"HTTP/1.1 404")
            await wait_until(lambda: not stream.held())
            await client.send_all(request)
            assert (await client.receive_some()).startswith(b"HTTP/1.1 404")
            await wait_until(lambda: not stream.held())
            await client.finish()


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_kept_connection_answers_request_after_request(size):
    """Health, its head, and what is not there, over one connection and at any chunking."""
    async with connection(GET[:3]) as (client, problems):
        rest = (GET + HEAD + NOWHERE + LAST)[3:]
        for at in range(0, len(rest), size):
            await client.send_all(rest[at : at + size])
        found = answers(await everything(client), "GET", "HEAD", "POST", "GET")
    assert [status for status, _, _ in found] == [200, 200, 404, 200]
    assert found[0][2] == {"status": "ok"}
    assert found[1][2] is None
    assert found[0][1][b"content-length"] == found[1][1][b"content-length"]
    assert not problems


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40000, 431),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nshort", 400),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"a" * 70000, 404),
        (
            b"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            404,
        ),
    ],
)
async def test_a_refusal_says_why(request_bytes, status):
    """Each has its status, a reason for people, and an orderly end of the connection."""
    async with connection() as (client, problems):
        await client.send_all(request_bytes)
        await client.send_eof()
        ((found, headers, value),) = answers(await everything(client), "GET")
    assert found == status
    assert value["error"]
    if status == 405:
        assert headers[b"allow"] == b"GET, HEAD"
    assert bool(problems) == (status in (400, 431, 505) or b"gzip" in request_bytes)


async def test_half_a_head_has_a_deadline():
    """A client that stops in the middle is told so, and costs no longer than the deadline."""
    async with connection(GET[:20], Limits(header_deadline_s=0.2)) as (client, problems):
        ((status, _, _),) = answers(await everything(client), "GET")
    assert status == 408
    assert len(problems) == 1


async def test_a_silent_connection_ends_in_order():
    """After an answer nobody needs to say anything: the connection ends without a word."""
    async with connection(GET, Limits(idle_deadline_s=0.2)) as (client, problems):
        ((status, _, _),) = answers(await everything(client), "GET")
    assert status == 200
    assert not problems


async def test_a_client_that_takes_no_answers_is_cut_off():
    """Requests without end whose answers are not read meet the deadline, not the memory."""
    async with connection(GET, Limits(idle_deadline_s=0.2)) as (client, problems):
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(GET * 200_000)
    assert [type(problem) for problem in problems] == [trio.TooSlowError]


@pytest.mark.parametrize("begun", [b"GET /heal", b"POST /x HTTP/1.1\r\nHost: x\r\n"])
async def test_a_stopping_daemon_waits_for_no_half_request(begun):
    """It is given up at once; what had been taken would have its answer."""
    deadlines = Deadlines(0.01)
    limits = Limits(header_deadline_s=60)
    async with connection(limits=limits, deadlines=deadlines) as (client, _):
        await client.send_all(begun)
        await trio.testing.wait_all_tasks_blocked(0.005)  # it has been read
        deadlines.stop()
        ((status, _, _),) = answers(await everything(client), "GET")
    assert status == 408
