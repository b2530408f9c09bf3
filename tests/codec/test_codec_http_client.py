"""HTTP/1.1, the client's side, against our server, servers of every kind, and hostile bytes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import http
from spoold.codec.http_client import (
    BodyChunk,
    Closed,
    Continue,
    End,
    Event,
    HttpClient,
    Response,
)
from spoold.model.errors import RemoteProtocolError
from support.cuts import EVERY_CUT, Cut, one_by_one, whole

HOST = [("Host", "printer.example.org")]


def events(client: HttpClient, pieces: Iterable[bytes]) -> list[Event]:
    """What the client makes of the pieces, chunks joined."""
    found: list[Event] = []
    for piece in pieces:
        client.receive_data(piece)
        while (event := client.next_event()) is not None:
            if isinstance(event, BodyChunk) and isinstance(found[-1], BodyChunk):
                event = BodyChunk(found.pop().data + event.data)
            found.append(event)
            if isinstance(event, Closed):
                return found
    return found


def asked(method: str = "POST", length: int | None = 0, **limits: int) -> HttpClient:
    """A client that has sent a request."""
    client = HttpClient(**limits)
    client.request(method, "/ipp/print", HOST, length)
    if not length:
        client.end()
    return client


def served(server: http.HttpServer, data: bytes) -> list[http.Event]:
    """What our server makes of a request, chunks joined."""
    server.receive_data(data)
    found: list[http.Event] = []
    while (event := server.next_event()) is not None:
        if isinstance(event, BodyChunk) and isinstance(found[-1], BodyChunk):
            event = BodyChunk(found.pop().data + event.data)
        found.append(event)
    return found


@given(st.lists(st.binary(max_size=50), max_size=5), st.booleans(), st.booleans())
def test_a_client_and_our_server_understand_one_another(
    parts: list[bytes], is_chunked: bool, is_streamed: bool
) -> None:
    """Request after request goes over one connection, in either framing, both ways."""
    client, server = HttpClient(), http.HttpServer()
    body = b"".join(parts)
    for _ in range(2):
        sent = client.request("POST", "/ipp/print", HOST, None if is_chunked else len(body))
        sent += b"".join(client.body(part) for part in parts) + client.end()
        head, *chunks, end = served(server, sent)
        assert isinstance(head, http.Request)
        assert (head.method, head.target) == ("POST", "/ipp/print")
        assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, BodyChunk)) == body
        assert end == End()
        if is_streamed:
            answer = server.start_response(200, [("Content-Type", "application/ipp")])
            answer += b"".join(server.body(part) for part in parts) + server.end()
        else:
            answer = server.response(200, [("Content-Type", "application/ipp")], body)
        response, *chunks, end = events(client, one_by_one(answer))
        assert isinstance(response, Response)
        assert (response.status, response.reason, response.version) == (200, "OK", "1.1")
        assert response.header("content-type") == "application/ipp"
        assert response.header("x-none") is None
        assert [chunk.data for chunk in chunks if isinstance(chunk, BodyChunk)] == [body] * bool(
            body
        )
        assert end == End()
        assert server.start_next_cycle()
        assert client.start_next_cycle()
    assert events(client, [b""]) == [Closed()]


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;x\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\n",
        True,
    ),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", False),
    (b"HTTP/1.1 200 OK\r\n\r\nabc", False),
    (b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nabc", False),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
    (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
]


@pytest.mark.parametrize("cut", EVERY_CUT)
@pytest.mark.parametrize(("answer", "goes_on"), ANSWERS, ids=map(str, range(len(ANSWERS))))
def test_answers_of_every_framing_are_read(answer: bytes, goes_on: bool, cut: Cut) -> None:
    """Length, chunks or the end of the stream end a body; the connection is kept if it can be."""
    client = asked()
    found = events(client, cut(answer))
    if End() not in found:
        found += events(client, [b""])
    assert [event for event in found if isinstance(event, BodyChunk | End)] == [
        BodyChunk(b"abc"),
        End(),
    ]
    assert client.start_next_cycle() is goes_on


def test_a_client_can_wait_until_its_body_is_wanted() -> None:
    """100 Continue is an event; a refusal in its place is the answer, and ends the connection."""
    expecting = [*HOST, ("Expect", "100-continue")]
    client = HttpClient()
    assert b"\r\nExpect: 100-continue\r\n" in client.request("POST", "/", expecting, 3)
    assert events(client, [b"HTTP/1.1 100 Continue\r\n\r\n"]) == [Continue()]
    assert client.body(b"abc") + client.end() == b"abc"
    assert events(client, [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])[1:] == [End()]
    assert client.start_next_cycle()

    client.request("POST", "/", expecting, None)
    response, end = events(client, [b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"])
    assert isinstance(response, Response)
    assert (response.status, end) == (401, End())
    assert not client.start_next_cycle()


def test_a_body_may_go_past_the_codec() -> None:
    """Bytes that `sendfile` sends are only counted, and a body that is too short is noticed."""
    client = HttpClient()
    client.request("POST", "/", HOST, 1 << 40)
    client.body_bytes_sent((1 << 40) - 3)
    assert client.body(b"abc") == b"abc"
    assert client.end() == b""
    short = asked(length=5)
    short.body_bytes_sent(4)
    with pytest.raises(ValueError, match="not whole"):
        short.end()
    with pytest.raises(RuntimeError):
        asked(length=None).body_bytes_sent(1)


def test_requests_without_a_body_say_no_length() -> None:
    """GET and OPTIONS have no Content-Length; POST says that it has nothing."""
    assert b"ength" not in HttpClient().request("GET", "/", HOST, 0)
    assert b"ength" not in HttpClient().request("OPTIONS", "*", HOST, 0)
    assert b"\r\nContent-Length: 0\r\n" in HttpClient().request("POST", "/", HOST, 0)


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", HOST), ("/\r\n", HOST), ("/", [*HOST, ("A", "b\r\nC: d")]), ("/", []), ("", HOST)],
)
def test_what_cannot_be_sent_is_an_error_of_ours(
    target: str, headers: list[tuple[str, str]]
) -> None:
    """A device's URI from the configuration cannot smuggle anything into a request."""
    with pytest.raises(ValueError, match="cannot be sent"):
        HttpClient().request("POST", target, headers, 0)


UPGRADE = [("Upgrade", "TLS/1.2"), ("Connection", "Upgrade")]
SWITCHED = b"HTTP/1.1 101 Switching\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("cut", EVERY_CUT)
def test_a_connection_can_be_upgraded_to_tls_in_place(cut: Cut) -> None:
    """After 101 (RFC 2817) the final answer to the same request comes over TLS."""
    client = HttpClient()
    client.request("OPTIONS", "*", [*HOST, *UPGRADE], 0)
    client.end()
    (response,) = events(client, cut(SWITCHED))
    assert isinstance(response, Response)
    assert response.status == 101
    assert client.unread == b""
    response, end = events(client, cut(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert isinstance(response, Response)
    assert (response.status, end) == (200, End())
    assert client.start_next_cycle()
    assert client.request("POST", "/", HOST, 0).startswith(b"POST / HTTP/1.1\r\n")


def test_what_follows_an_upgrade_is_not_read_as_http() -> None:
    """The first bytes of TLS may come with the 101."""
    client = HttpClient()
    client.request("OPTIONS", "*", [*HOST, *UPGRADE], 0)
    client.end()
    client.receive_data(SWITCHED + b"\x16\x03\x03")
    assert isinstance(client.next_event(), Response)
    assert client.unread == b"\x16\x03\x03"
    assert client.next_event() is None


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_connection_that_ends_without_an_answer_is_closed(before: bytes) -> None:
    """That is no fault of the protocol: nobody knows what became of the request."""
    assert events(asked(), [before, b""])[-1] == Closed()


def test_what_was_not_asked_for_is_not_taken_for_an_answer() -> None:
    """A server that answers twice gets no second request on this connection."""
    client = asked()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert events(client, [answer + answer])[1:] == [End()]
    assert not client.start_next_cycle()


BAD = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
    b"HTTP/1.1 OK\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    b"@PJL INFO STATUS\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: " + b"b" * 3000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nA: " + b"b" * 3000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + bytes(5000),
    b"HTTP/1.1 200 OK\r\n\r\n" + bytes(5000),
]


@pytest.mark.parametrize("cut", [whole, one_by_one])
@pytest.mark.parametrize("answer", BAD, ids=map(str, range(len(BAD))))
def test_what_is_malformed_cut_off_or_too_large_is_refused(answer: bytes, cut: Cut) -> None:
    """Nothing but `RemoteProtocolError` leaves, and it is final."""
    client = asked(head_bytes_max=2048, body_bytes_max=4096)
    with pytest.raises(RemoteProtocolError):
        events(client, [*cut(answer), b""])
    with pytest.raises(RemoteProtocolError):
        client.next_event()
    assert not client.start_next_cycle()


def test_another_protocol_is_not_taken_inside_a_request() -> None:
    """A server that switches before the request was whole has misunderstood it."""
    client = HttpClient()
    client.request("POST", "/", [*HOST, *UPGRADE], 3)
    with pytest.raises(RemoteProtocolError):
        events(client, [SWITCHED])


PARTS = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 \r\n", b"HTTP/1.1 100 \r\n\r\n", b"\r\n", b"\n"),
        *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"abc", b"3\r\nabc\r\n"),
        *(b"0\r\n\r\n", b"Connection: close\r\n", b"\x00", b":", b" ", SWITCHED),
    ]
)


@given(st.lists(st.one_of(PARTS, st.binary(max_size=6)), max_size=12))
def test_only_a_protocol_error_leaves(pieces: list[bytes]) -> None:
    """Any bytes are answers or a `RemoteProtocolError`; and chunking is no matter."""
    seen: list[list[Event] | None] = []
    for cut in (whole, one_by_one):
        try:
            seen.append(events(asked(), [*cut(b"".join(pieces)), b""]))
        except RemoteProtocolError:
            seen.append(None)
    assert seen[0] == seen[1]
