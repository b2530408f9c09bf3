"""HTTP/1.1, the server's side, under every chunking and against hostile bytes."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import http
from spoold.codec.http import BodyChunk, Closed, End, Event, HttpServer, Request
from spoold.model.errors import RemoteProtocolError
from support.cuts import EVERY_CUT, Cut, one_by_one, whole


def converse(server: HttpServer, pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """Feed the pieces and answer each request with 200; returns the events, chunks joined."""
    events: list[Event] = []
    answers = b""
    for piece in [*pieces, b""]:
        server.receive_data(piece)
        while (event := server.next_event()) is not None:
            if isinstance(event, BodyChunk) and events and isinstance(events[-1], BodyChunk):
                event = BodyChunk(events.pop().data + event.data)
            events.append(event)
            if isinstance(event, End):
                answers += server.response(200, [("Content-Type", "text/plain")], b"ok")
                if not server.start_next_cycle():
                    return events, answers
            if isinstance(event, Closed):
                return events, answers
    return events, answers


STREAM = (
    b"GET /healthz?x=1 HTTP/1.1\r\nHost: example.org\r\nX-A:  b \r\n\r\n"
    b"POST /a HTTP/1.1\r\nHost: example.org\r\nContent-Length: 11\r\n\r\nhello\r\nworl"
    b"\r\n"
    b"POST /b HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nabcde\r\n1;x=y\r\nf\r\n0\r\n\r\n"
    b"HEAD http://example.org/healthz HTTP/1.1\r\nHost: example.org\r\n\r\n"
)


@pytest.mark.parametrize("cut", EVERY_CUT)
def test_requests_follow_one_another_on_a_connection(cut: Cut) -> None:
    """Bodies of both framings come whole, and every request gets its answer, at any chunking."""
    events, answers = converse(HttpServer(), cut(STREAM))
    assert [type(event) for event in events] == [
        *(Request, End),
        *(Request, BodyChunk, End),
        *(Request, BodyChunk, End),
        *(Request, End, Closed),
    ]
    first, last = events[0], events[8]
    assert isinstance(first, Request)
    assert (first.method, first.target, first.path) == ("GET", "/healthz?x=1", "/healthz")
    assert (first.header("x-a"), first.header("y"), first.version) == ("b", None, "1.1")
    assert events[3] == BodyChunk(b"hello\r\nworl")
    assert events[6] == BodyChunk(b"abcdef")
    assert isinstance(last, Request)
    assert last.path == "/healthz"
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert answers.endswith(b"\r\n\r\n")  # HEAD: no body


BAD = [
    (b"GET / HTTP/1.1\nHost: x\n\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nSpace : y\r\n\r\n", "400"),
    (b"GET /\r\n\r\n", "400"),
    (b"GET  / HTTP/1.1\r\n\r\n", "400"),
    (b"\x16\x03\x01\r\n", "400"),
    (b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
    (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505"),
    (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", "505"),
    (b"P / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
    (b"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "501"),
    (b"P / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nExpect: cake\r\nContent-Length: 1\r\n\r\n", "417"),
    (b"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n", "400"),
    (b"P / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nshort", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40000, "431"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", "431"),
]


@pytest.mark.parametrize("cut", [whole, one_by_one])
@pytest.mark.parametrize(("stream", "status"), BAD)
def test_what_is_malformed_is_refused_with_its_status(stream: bytes, status: str, cut: Cut) -> None:
    """Nothing that two parties could read differently passes, and the failure is final."""
    server = HttpServer()
    with pytest.raises(RemoteProtocolError) as caught:
        converse(server, cut(stream))
    assert caught.value.reply_hint == status
    with pytest.raises(RemoteProtocolError):
        server.next_event()


def test_a_waiting_client_is_told_to_go_on_before_its_body() -> None:
    """Expect: 100-continue is seen at the head, and can be answered either way."""
    server = HttpServer()
    server.receive_data(
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert isinstance(server.next_event(), Request)
    assert server.is_client_waiting
    assert server.continue_response().startswith(b"HTTP/1.1 100 ")
    assert not server.is_client_waiting
    server.receive_data(b"ok")
    assert server.next_event() == BodyChunk(b"ok")
    assert server.next_event() == End()


def test_an_answer_before_the_body_closes_the_connection() -> None:
    """Bytes that were not read could be taken for the next request, so there is none."""
    server = HttpServer()
    server.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
    server.next_event()
    assert b"connection: close" in server.response(413, [], b"too large").lower()
    assert not server.start_next_cycle()


@pytest.mark.parametrize(
    ("head", "goes_on"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
    ],
)
def test_a_connection_is_kept_where_the_client_may(head: bytes, goes_on: bool) -> None:
    """HTTP/1.1 keeps the connection unless told otherwise; HTTP/1.0 ends it."""
    server = HttpServer()
    server.receive_data(head)
    while not isinstance(server.next_event(), End):
        pass
    server.response(200, [], b"")
    assert server.start_next_cycle() is goes_on


def test_an_error_response_stands_for_itself() -> None:
    """It is whole, and says that the connection ends."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(http.error_response(400, [("Content-Type", "text/plain")], b"no"))
    answer = client.next_event()
    assert isinstance(answer, h11.Response)
    assert answer.status_code == 400
    assert client.next_event() == h11.Data(data=b"no")
    assert isinstance(client.next_event(), h11.EndOfMessage)
    assert client.their_state is h11.MUST_CLOSE


@given(st.binary(max_size=300), st.integers(1, 50))
def test_a_client_and_a_server_agree_on_a_body(body: bytes, size: int) -> None:
    """What an h11 client sends in either framing arrives byte for byte."""
    for framing in ([("Content-Length", str(len(body)))], [("Transfer-Encoding", "chunked")]):
        client = h11.Connection(h11.CLIENT)
        head = h11.Request(method="POST", target="/", headers=[("Host", "x"), *framing])
        sent = client.send(head) or b""
        if body:
            sent += client.send(h11.Data(data=body)) or b""
        sent += client.send(h11.EndOfMessage()) or b""
        pieces = [sent[n : n + size] for n in range(0, len(sent), size)]
        events, _ = converse(HttpServer(), pieces)
        assert b"".join(e.data for e in events if isinstance(e, BodyChunk)) == body
        assert isinstance(events[-1], Closed)


PARTS = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n", b"\n", b"\r", b" ", b"\x00", b"0\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"abc", b"3\r\nabc\r\n"),
        *(b"POST /x HTTP/1.0\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b":"),
    ]
)


@given(st.lists(st.one_of(PARTS, st.binary(max_size=6)), max_size=14))
def test_only_a_protocol_error_leaves(pieces: list[bytes]) -> None:
    """Any bytes are requests, or a `RemoteProtocolError` with a status; and chunking is no matter.

    The events of the whole stream and of its single bytes are the same ones.
    """
    seen: list[list[Event] | list[int]] = []
    for cut in (whole, one_by_one):
        try:
            seen.append(converse(HttpServer(), cut(b"".join(pieces)))[0])
        except RemoteProtocolError as error:
            seen.append([int(error.reply_hint)])
    assert seen[0] == seen[1]
