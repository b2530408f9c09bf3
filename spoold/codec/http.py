"""HTTP/1.1 from the server's side. Sans-IO.

In: bytes of one connection. Out: `Request`, `BodyChunk`, `End`, `Closed`, and the bytes of
responses. h11 reads the heads, and what it takes and a proxy in front may read otherwise is refused
with 400: a bare LF, folded header lines, Content-Length twice or beside Transfer-Encoding (RFC 9112
sections 2.2, 5.2, 6.3). The head has a limit of its own. Bodies are framed by `http_body`, so that
their bytes can go from the socket into a buffer without passing through here. Errors are
`RemoteProtocolError`; `reply_hint` is the status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from http import HTTPStatus

import h11

from spoold.codec.http_body import Body
from spoold.model.errors import RemoteProtocolError

HEAD_BYTES_MAX = 32768
HEADERS_MAX = 100
_TRANSFER_ENCODINGS = (b"chunked",)

Headers = Iterable[tuple[str, str]]
REPEATED_HEAD_BYTES_MAX = 1024
_CREDENTIALS = re.compile(rb"\r\n(?:proxy-)?(?:authorization|cookie)[ \t]*:", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/([0-9])\.([0-9])\r\n")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_BAD_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]|\x00")


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Names of headers are in small letters."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    version: str  # "1.1"

    def header(self, name: str) -> str | None:
        """The value of the first header `name` (in small letters), None without one."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def path(self) -> str:
        """The target without its query; the path of one that names the scheme and host."""
        target = self.target.partition("?")[0]
        if "://" in target and not target.startswith("/"):
            return "/" + target.partition("://")[2].partition("/")[2]
        return target


@dataclass(frozen=True, slots=True)
class BodyChunk:
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The request is whole; what follows is the next one's."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The client ended the stream, between requests."""


Event = Request | BodyChunk | End | Closed


class _State(Enum):
    HEAD = "head"
    BODY = "body"
    WHOLE = "whole"  # until `start_next_cycle`
    CLOSED = "closed"
    ERROR = "error"


class _Answer(Enum):
    NONE = "none"
    BEGUN = "begun"  # until `end`
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class _Head:
    """A request's head, and what it says of the connection. `length` is None for a chunked body."""

    request: Request
    length: int | None
    is_expecting: bool
    is_last: bool


def _parse_head(head: bytes) -> _Head:
    """What a whole head says.

    Raises:
        h11.RemoteProtocolError, RemoteProtocolError: it is refused.
    """
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head))
    reader.receive_data(head)
    event = reader.next_event()
    if not isinstance(event, h11.Request):
        raise RemoteProtocolError("not a request", "400")
    raw: list[tuple[bytes, bytes]] = [(bytes(name), bytes(value)) for name, value in event.headers]
    if len(raw) > HEADERS_MAX:
        raise RemoteProtocolError(f"over {HEADERS_MAX} header lines", "431")
    encodings = [value.lower() for name, value in raw if name == b"transfer-encoding"]
    # h11 merges equal Content-Length lines into one: count them where they were sent.
    lengths = len(re.findall(rb"\r\ncontent-length[ \t]*:", head.lower()))
    if lengths > 1 or (lengths and encodings):
        raise RemoteProtocolError("the length of the body is said twice", "400")
    if encodings and encodings != list(_TRANSFER_ENCODINGS):
        raise RemoteProtocolError("a transfer encoding other than chunked", "501")
    if encodings and event.http_version < b"1.1":
        raise RemoteProtocolError("a transfer encoding in HTTP/1.0", "400")
    expect = [value.lower() for name, value in raw if name == b"expect"]
    if expect and expect != [b"100-continue"]:
        raise RemoteProtocolError("an expectation that is not known", "417")
    is_new = event.http_version >= b"1.1"
    length = next((int(value) for name, value in raw if name == b"content-length"), 0)
    is_last = not is_new or any(
        b"close" in (token.strip() for token in value.lower().split(b","))
        for name, value in raw
        if name == b"connection"
    )
    request = Request(
        event.method.decode("ascii"),
        event.target.decode("ascii"),
        tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in raw),
        event.http_version.decode("ascii"),
    )
    return _Head(request, None if encodings else length, bool(expect) and is_new, is_last)


# A print server says the same head before each of its jobs. At most 256 KiB are remembered.
_repeated_head = lru_cache(maxsize=256)(_parse_head)


class HttpServer:
    """One connection. Feed `receive_data`, drain `next_event`, answer, `start_next_cycle`.

    A body comes as `BodyChunk`s; or a buffer that was filled from the stream is given to
    `take_body`, which leaves the body in it. A `RemoteProtocolError` is final: answer with
    `error_response` and close.
    """

    def __init__(self, head_bytes_max: int = HEAD_BYTES_MAX) -> None:
        self._head_bytes_max = head_bytes_max
        self._state = _State.HEAD
        self._buffer = bytearray()
        self._checked = 0  # bytes of the head whose line ends have been looked at
        self._is_end = False
        self._is_first_line_seen = False
        self._body = Body(0)
        self._answer = _Answer.NONE
        self._is_head_request = False
        self._is_last = False  # no other request follows on this connection
        self._is_chunking = False  # an answer without a length comes in chunks
        self._expects_continue = False
        self._unread = b""

    def receive_data(self, data: bytes) -> None:
        """Take what came from the client; b"" says that it ended the stream."""
        if data:
            self._buffer += data
        else:
            self._is_end = True

    def next_event(self) -> Event | None:
        """The next event; None when more data is needed, or `start_next_cycle`.

        Raises:
            RemoteProtocolError: with the status to answer with.
        """
        try:
            if self._state is _State.BODY:
                return self._next_body()
            if self._state is _State.HEAD:
                return self._next_head()
        except h11.RemoteProtocolError as error:
            self._state = _State.ERROR
            # What h11 quotes behind the colon may be a login, or a part of a document.
            what = str(error).partition(":")[0]
            raise RemoteProtocolError(what, str(error.error_status_hint)) from error
        except RemoteProtocolError:
            self._state = _State.ERROR
            raise
        if self._state is _State.ERROR:
            raise RemoteProtocolError("the connection has failed already", "400")
        return None

    def _next_head(self) -> Event | None:
        if not self._is_first_line_seen:
            # RFC 9112 2.2: an empty line in front of a request line is to be ignored; one is.
            if self._buffer == b"\r" and not self._is_end:
                return None
            self._is_first_line_seen = bool(self._buffer)
            if self._buffer.startswith(b"\r\n"):
                del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", max(0, self._checked - 3))
        stop = len(self._buffer) if end < 0 else end + 4
        bad = _BAD_LINE_END.search(self._buffer, max(0, self._checked - 2), stop)
        if bad is not None:
            raise RemoteProtocolError("a line of the head ends wrongly, or is folded", "400")
        if stop > self._head_bytes_max:
            raise RemoteProtocolError(f"a head of over {self._head_bytes_max} bytes", "431")
        self._check_request_line(stop)
        self._checked = stop
        if end < 0:
            if not self._is_end:
                return None
            if self._buffer:
                raise RemoteProtocolError("the stream ended inside a head", "400")
            self._state = _State.CLOSED
            return Closed()
        head = bytes(self._buffer[:stop])
        del self._buffer[:stop]
        self._checked = 0
        if stop <= REPEATED_HEAD_BYTES_MAX and not _CREDENTIALS.search(head):
            found = _repeated_head(head)
        else:
            found = _parse_head(head)
        self._body = Body(found.length)
        self._expects_continue = found.is_expecting and not self._body.is_whole
        self._is_last = found.is_last
        self._is_chunking = found.request.version >= "1.1"
        self._is_head_request = found.request.method == "HEAD"
        self._state = _State.BODY
        return found.request

    def _check_request_line(self, stop: int) -> None:
        """Say what is wrong with the first line as soon as it is there."""
        end = self._buffer.find(b"\n", 0, stop)
        if self._checked > end or end < 0:
            return
        found = _REQUEST_LINE.match(self._buffer)
        if found is None:
            raise RemoteProtocolError("not a request line", "400")
        if found[1] != b"1":
            raise RemoteProtocolError("only HTTP/1 is spoken here", "505")

    # --- the body ---------------------------------------------------------------------------------

    def _next_body(self) -> Event | None:
        body, buffer = self._body, self._buffer
        if body.strip(buffer):
            if body.is_whole:
                self._state = _State.WHOLE
                self._expects_continue = False
                return End()
            if buffer:
                with memoryview(buffer) as view:
                    data = bytes(view[: body.left])
                del buffer[: len(data)]
                body.took(len(data))
                self._expects_continue = False
                return BodyChunk(data)
        if self._is_end:
            raise RemoteProtocolError("the stream ended inside a body", "400")
        return None

    @property
    def body_bytes_left(self) -> int | None:
        """How many bytes of the body no event has brought; None for a body in chunks."""
        return self._body.bytes_left

    def take_body(self, received: memoryview) -> int:
        """Moves the bytes of the body to the front of `received`; returns how many they are.

        For what was received in the place of `receive_data`, while there is no event. Framing
        is removed, and what belongs to the next request is kept. `next_event` says when the body
        is whole.

        Raises:
            RemoteProtocolError: as `next_event`.
        """
        if self._state is not _State.BODY:
            self._buffer += received
            return 0
        if not received:
            self._is_end = True
            return 0
        if self._buffer and self._body.left:
            raise RuntimeError("there is a part of the body that next_event has")
        self._expects_continue = False
        try:
            return self._body.compact(received, self._buffer)
        except RemoteProtocolError:
            self._state = _State.ERROR
            raise

    @property
    def is_client_waiting(self) -> bool:
        """The client sends its body only after `continue_response` or a final answer."""
        return self._expects_continue

    def continue_response(self) -> bytes:
        """`100 Continue`. Send it when the request is accepted, before its body is read."""
        self._expects_continue = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    # --- the answer -------------------------------------------------------------------------------

    def response(self, status: int, headers: Headers, body: bytes = b"") -> bytes:
        """The bytes of a whole response, with its Content-Length; without body for HEAD.

        With Connection: close where the connection cannot go on.
        """
        fields = [*headers, ("Content-Length", str(len(body)))]
        head = self._response_head(status, fields)
        self._answer = _Answer.SENT
        return head if self._is_head_request else head + body

    def start_response(self, status: int, headers: Headers) -> bytes:
        """The head of a response whose length is not known: `body` and `end` follow.

        In chunks; towards HTTP/1.0 the end of the connection ends the body.
        """
        if self._is_chunking:
            headers = [*headers, ("Transfer-Encoding", "chunked")]
        head = self._response_head(status, headers)
        self._answer = _Answer.BEGUN
        return head

    def body(self, data: bytes) -> bytes:
        """The bytes of the next part of the body."""
        self._check_begun()
        if self._is_head_request or not data:
            return b""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunking else data

    def end(self) -> bytes:
        """The bytes behind the last part; the response is whole with them."""
        self._check_begun()
        self._answer = _Answer.SENT
        return b"0\r\n\r\n" if self._is_chunking and not self._is_head_request else b""

    def switch_response(self, headers: Headers) -> bytes:
        """`101 Switching Protocols` (RFC 9110 7.8), for a request that is whole.

        `unread` is then what came behind it, in the new protocol. After an upgrade to TLS
        (RFC 2817) the request has its answer over TLS: go on with `response`.
        """
        if self._state is not _State.WHOLE or self._answer is not _Answer.NONE:
            raise RuntimeError("only a whole request that has no answer yet can switch")
        self._unread = bytes(self._buffer)
        self._buffer.clear()
        return _head(101, headers)

    @property
    def unread(self) -> bytes:
        """What had come behind the request that `switch_response` answered."""
        return self._unread

    def _response_head(self, status: int, headers: Headers) -> bytes:
        if self._answer is not _Answer.NONE:
            raise RuntimeError("this request has been answered")
        fields = list(headers)
        is_closing = any(
            name.lower() == "connection" and "close" in value for name, value in fields
        )
        if self._state is not _State.WHOLE:
            self._is_last = True  # the body was not read: nothing can follow
        if self._is_last and not is_closing:
            fields.append(("Connection", "close"))
        self._is_last = self._is_last or is_closing
        return _head(status, fields)

    def _check_begun(self) -> None:
        if self._answer is not _Answer.BEGUN:
            raise RuntimeError("there is no response that could go on")

    def start_next_cycle(self) -> bool:
        """Get ready for the next request; false when this connection must be closed instead."""
        if self._is_last or self._state is not _State.WHOLE or self._answer is not _Answer.SENT:
            return False
        self._state = _State.HEAD
        self._answer = _Answer.NONE
        self._is_first_line_seen = False
        return True


def error_response(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole response that ends the connection, whatever state the conversation is in."""
    fields = [*headers, ("Content-Length", str(len(body))), ("Connection", "close")]
    return _head(status, fields) + body


def _head(status: int, headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {status} {_reason(status)}"]
    for name, value in headers:
        if not (_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
            raise ValueError(f"a header that cannot be: {name!r}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
