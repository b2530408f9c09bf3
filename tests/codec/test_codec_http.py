"""HTTP/1.1, the server's side, under every chunking and against hostile bytes."""

from __future__ import annotations

from collections.abc import Callable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import http
from spoold.codec.http import BodyChunk, Closed, End, Event, HttpServer, Request
from spoold.model.errors import RemoteProtocolError
from support.cuts import EVERY_CUT, Cut, by_seven, one_by_one, whole


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


def converse_by_buffer(server: HttpServer, pieces: list[bytes]) -> list[Event]:
    """As `converse`, but bodies are received into a buffer of the caller's."""
    events: list[Event] = []
    for piece in [*pieces, b""]:
        if events and isinstance(events[-1], Request | BodyChunk):
            buffer = memoryview(bytearray(piece))
            count = server.take_body(buffer)
            joined = events.pop().data if isinstance(events[-1], BodyChunk) else b""
            if joined or count:
                events.append(BodyChunk(joined + bytes(buffer[:count])))
        else:
            server.receive_data(piece)
        while (event := server.next_event()) is not None:
            if isinstance(event, BodyChunk) and isinstance(events[-1], BodyChunk):
                event = BodyChunk(events.pop().data + event.data)
            events.append(event)
            if isinstance(event, End):
                server.response(200, [])
                if not server.start_next_cycle():
                    return events
            if isinstance(event, Closed):
                return events
    return events


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
    assert converse_by_buffer(HttpServer(), cut(STREAM)) == events


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
    *(
        (b"P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body, "400")
        for body in (
            *(
                b"\r\n0\r\n\r\n",
                b" 1\r\na\r\n0\r\n\r\n",
                b"-1\r\n",
                b"+1\r\na\r\n",
                b"0x1\r\na\r\n",
            ),
            *(b"1\na\r\n0\r\n\r\n", b"1\r\na\n0\r\n\r\n", b"1\r\na0\r\n\r\n", b"1\r\na\r0\r\n\r\n"),
            *(b"1\r\na\r\n", b"1\r\na\r\n0\r\n", b"1\r\na\r\n0\r\n\r", b"2\r\na", b"1", b""),
            *(b"1;a\x00b\r\na\r\n0\r\n\r\n", b"1;a\nb\r\na\r\n0\r\n\r\n", b"1 a\r\na\r\n0\r\n\r\n"),
            *(b"0" * 15 + b"1\r\na\r\n0\r\n\r\n", b"1;" + b"a" * 1024, b"1" * 2000),
            *(b"0\r\nA: b\r\n\r\n", b"0\r\n \r\n\r\n", b"0;a\r\nx"),
        )
    ),
    (b"GET / HTTP/1.1\r\nHost: x\r\n", "400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40000, "431"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", "431"),
]


@pytest.mark.parametrize("cut", [whole, one_by_one])
@pytest.mark.parametrize(("stream", "status"), BAD, ids=map(str, range(len(BAD))))
def test_what_is_malformed_is_refused_with_its_status(stream: bytes, status: str, cut: Cut) -> None:
    """Nothing that two parties could read differently passes, and the failure is final."""
    server = HttpServer()
    with pytest.raises(RemoteProtocolError) as caught:
        converse(server, cut(stream))
    assert caught.value.reply_hint == status
    with pytest.raises(RemoteProtocolError):
        server.next_event()
    with pytest.raises(RemoteProtocolError) as caught:
        converse_by_buffer(HttpServer(), cut(stream))
    assert caught.value.reply_hint == status


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


def begun(head: bytes) -> HttpServer:
    """A server that has read this head."""
    server = HttpServer()
    server.receive_data(head)
    assert isinstance(server.next_event(), Request)
    return server


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


def test_a_buffer_is_left_with_nothing_but_the_body() -> None:
    """Framing is taken out of a buffer in place; what follows the body is kept for later."""
    server = begun(POST + b"Transfer-Encoding: chunked\r\n\r\n2")
    assert server.next_event() is None
    buffer = memoryview(
        bytearray(b"\r\nab\r\n3\r\ncde\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: y\r\n\r\n")
    )
    assert server.take_body(buffer) == 5
    assert bytes(buffer[:5]) == b"abcde"
    assert server.next_event() == End()
    server.response(200, [])
    assert server.start_next_cycle()
    following = server.next_event()
    assert isinstance(following, Request)
    assert following.header("host") == "y"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 60), st.booleans())
def test_both_ways_to_receive_give_the_same_body(
    chunks: list[bytes], size: int, is_chunked: bool
) -> None:
    """Bodies of either framing, cut anywhere, arrive the same with or without a buffer."""
    body = b"".join(chunks)
    if is_chunked:
        framed = b"".join(b"%X;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        stream = POST + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    else:
        stream = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    stream *= 2
    pieces = [stream[n : n + size] for n in range(0, len(stream), size)]
    events, _ = converse(HttpServer(), pieces)
    assert [e.data for e in events if isinstance(e, BodyChunk)] == [body, body] * bool(body)
    assert converse_by_buffer(HttpServer(), pieces) == events


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


def received(request: h11.Request, answer: bytes) -> tuple[h11.Response, bytes, type]:
    """What an h11 client makes of an answer to `request`, and the state that it is in then."""
    client = h11.Connection(h11.CLIENT)
    client.send(request)
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    if event is h11.NEED_DATA:
        client.receive_data(b"")
        event = client.next_event()
    assert isinstance(event, h11.EndOfMessage)
    return head, body, client.their_state


def streamed(server: HttpServer, *parts: bytes) -> bytes:
    """An answer in parts."""
    head = server.start_response(200, [("Content-Type", "application/ipp")])
    return head + b"".join(server.body(part) for part in parts) + server.end()


@pytest.mark.parametrize(
    ("method", "version", "body", "goes_on"),
    [
        ("GET", b"1.1", b"abcdef", True),
        ("HEAD", b"1.1", b"", True),
        ("GET", b"1.0", b"abcdef", False),
        ("HEAD", b"1.0", b"", False),
    ],
)
def test_an_answer_can_be_sent_in_parts(
    method: str, version: bytes, body: bytes, goes_on: bool
) -> None:
    """Its length need not be known: chunks for HTTP/1.1, the end of the stream for HTTP/1.0."""
    server = begun(method.encode() + b" / HTTP/" + version + b"\r\nHost: x\r\n\r\n")
    assert server.next_event() == End()
    answer = streamed(server, b"abc", b"", b"def")
    request = h11.Request(method=method, target="/", headers=[("Host", "x")])
    head, found, state = received(request, answer)
    assert (b"content-type", b"application/ipp") in list(head.headers)
    assert found == body
    assert (state is h11.DONE) is goes_on
    assert server.start_next_cycle() is goes_on


def test_an_answer_in_parts_can_come_before_the_body_of_the_request() -> None:
    """It ends the connection then, as any answer before the body does."""
    server = begun(POST + b"Content-Length: 2\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in streamed(server, b"no")
    assert not server.start_next_cycle()


def test_our_own_wish_to_close_is_said_once() -> None:
    """Connection: close among the headers of an answer ends the connection."""
    server = begun(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert server.next_event() == End()
    assert server.response(200, [("Connection", "close")]).count(b"close") == 1
    assert not server.start_next_cycle()


@pytest.mark.parametrize(
    "header", [("A", "b\r\nC: d"), ("A", "b\0"), ("A b", "c"), ("A", "\u20ac")]
)
def test_a_header_of_ours_stays_one_header(header: tuple[str, str]) -> None:
    """What came from a peer cannot break out of a header of an answer."""
    server = begun(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(ValueError, match="header"):
        server.response(200, [header])


def test_a_request_has_one_answer() -> None:
    """To answer twice, or to go on with an answer that has ended, is a mistake of ours."""
    server = begun(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert server.next_event() == End()
    with pytest.raises(RuntimeError):
        server.body(b"x")
    server.start_response(200, [])
    with pytest.raises(RuntimeError):
        server.response(200, [])
    server.end()
    with pytest.raises(RuntimeError):
        server.end()


UPGRADE = [("Upgrade", "TLS/1.2, HTTP/1.1"), ("Connection", "Upgrade")]


def test_a_connection_can_be_upgraded_to_tls_in_place() -> None:
    """After 101 (RFC 2817) what was sent in clear is not taken for a request over TLS."""
    server = begun(
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade\r\n\r\n\x16\x03"
    )
    with pytest.raises(RuntimeError):
        server.switch_response(UPGRADE)
    assert server.next_event() == End()
    switched = server.switch_response(UPGRADE)
    assert switched.startswith(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n"
    )
    assert switched.endswith(b"\r\n\r\n")
    assert server.unread == b"\x16\x03"
    assert server.next_event() is None
    assert server.response(200, []).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.start_next_cycle()
    server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(server.next_event(), Request)


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
        *(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"0;a\r\n\r\n"),
        *(b"POST /x HTTP/1.0\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b":"),
    ]
)


@given(st.lists(st.one_of(PARTS, st.binary(max_size=6)), max_size=14))
def test_only_a_protocol_error_leaves(pieces: list[bytes]) -> None:
    """Any bytes are requests, or a `RemoteProtocolError` with a status; and chunking is no matter.

    The events of the whole stream and of its single bytes are the same ones.
    """
    stream = b"".join(pieces)
    seen = [
        events_of(lambda cut=cut: converse(HttpServer(), cut(stream))[0])
        for cut in (whole, one_by_one)
    ]
    seen.append(events_of(lambda: converse_by_buffer(HttpServer(), by_seven(stream))))
    assert seen[0] == seen[1] == seen[2]


def events_of(conversation: Callable[[], list[Event]]) -> list[Event] | str:
    """The events of a conversation, or the status that it failed with."""
    try:
        return conversation()
    except RemoteProtocolError as error:
        return error.reply_hint
