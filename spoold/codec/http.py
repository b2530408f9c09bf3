"""HTTP/1.1 from the server's side: h11, with the strictness that it lacks on top. Sans-IO.

In: bytes of one connection. Out: `Request`, `BodyChunk`, `End`, `Closed`, and the bytes of
responses. What h11 takes and a proxy in front may read otherwise is refused with 400: a bare LF,
folded header lines, Content-Length twice or beside Transfer-Encoding (RFC 9112 sections 2.2, 5.2,
6.3). The head has a limit of its own. Errors are `RemoteProtocolError`; `reply_hint` is the status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

import h11

from spoold.model.errors import RemoteProtocolError

HEAD_BYTES_MAX = 32768
HEADERS_MAX = 100
_CHUNK_LINE_BYTES_MAX = 16384  # h11's limit for a chunk's header and for the trailer
_TRANSFER_ENCODINGS = (b"chunked",)

Headers = Iterable[tuple[str, str]]
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/([0-9])\.([0-9])\r\n")
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


class HttpServer:
    """One connection. Feed `receive_data`, drain `next_event`, answer, `start_next_cycle`.

    A `RemoteProtocolError` is final: answer with `error_response` and close.
    """

    def __init__(self, head_bytes_max: int = HEAD_BYTES_MAX) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_CHUNK_LINE_BYTES_MAX)
        self._head_bytes_max = head_bytes_max
        self._state = _State.HEAD
        self._buffer = bytearray()
        self._checked = 0  # bytes of the head whose line ends have been looked at
        self._is_end = False
        self._is_chunked = False
        self._last_fed = b""
        self._is_first_line_seen = False
        self._is_head_request = False

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
            if self._state is _State.HEAD:
                return self._next_head()
            if self._state is _State.BODY:
                return self._next_body()
        except h11.RemoteProtocolError as error:
            self._state = _State.ERROR
            raise RemoteProtocolError(str(error), str(error.error_status_hint)) from error
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
        self._h11.receive_data(head)
        event = self._h11.next_event()
        if not isinstance(event, h11.Request):
            raise RemoteProtocolError("not a request", "400")
        return self._request(event, head)

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

    def _request(self, event: h11.Request, head: bytes) -> Request:
        raw: list[tuple[bytes, bytes]] = [
            (bytes(name), bytes(value)) for name, value in event.headers
        ]
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
        self._is_chunked = bool(encodings)
        self._is_head_request = event.method == b"HEAD"
        self._state = _State.BODY
        return Request(
            event.method.decode("ascii"),
            event.target.decode("ascii"),
            tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in raw),
            event.http_version.decode("ascii"),
        )

    def _next_body(self) -> Event | None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Data):
                return BodyChunk(bytes(event.data))
            if isinstance(event, h11.EndOfMessage):
                return self._end(event)
            if self._buffer:
                data = bytes(self._buffer)
                self._buffer.clear()
                self._h11.receive_data(data)
                self._last_fed = self._last_fed[-3:] + data
            elif self._is_end:
                self._h11.receive_data(b"")
                self._h11.next_event()
                raise RemoteProtocolError("the stream ended inside a body", "400")
            else:
                return None

    def _end(self, event: h11.EndOfMessage) -> End:
        unread, _ = self._h11.trailing_data
        if self._is_chunked:
            # h11 takes a bare LF behind the last chunk. The last byte that it used lies in what
            # it was fed last: before that the request was not whole.
            used = self._last_fed[: len(self._last_fed) - len(unread)]
            if event.headers or not used.endswith(b"\r\n\r\n"):
                raise RemoteProtocolError("a trailer, or a wrong end of the chunks", "400")
        self._buffer[:0] = unread
        self._last_fed = b""
        self._state = _State.WHOLE
        return End()

    @property
    def is_client_waiting(self) -> bool:
        """The client sends its body only after `continue_response` or a final answer."""
        return self._h11.they_are_waiting_for_100_continue

    def continue_response(self) -> bytes:
        """`100 Continue`. Send it when the request is accepted, before its body is read."""
        return self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b""

    def response(self, status: int, headers: Headers, body: bytes = b"") -> bytes:
        """The bytes of a whole response, with its Content-Length; without body for HEAD.

        With Connection: close where the connection cannot go on.
        """
        fields = [*headers, ("Content-Length", str(len(body)))]
        if self._state is not _State.WHOLE:
            fields.append(("Connection", "close"))  # the body was not read: nothing can follow
        parts = [
            self._h11.send(h11.Response(status_code=status, headers=fields, reason=_reason(status)))
        ]
        if body and not self._is_head_request:
            parts.append(self._h11.send(h11.Data(data=body)))
        parts.append(self._h11.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    def start_next_cycle(self) -> bool:
        """Get ready for the next request; false when this connection must be closed instead."""
        if (
            self._state is not _State.WHOLE
            or self._h11.our_state is not h11.DONE
            or self._h11.their_state is not h11.DONE
        ):
            return False
        # A new h11 connection, because bytes that follow are in our buffer, not in h11's.
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_CHUNK_LINE_BYTES_MAX)
        self._state = _State.HEAD
        self._is_first_line_seen = False
        return True


def error_response(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole response that ends the connection, whatever state the conversation is in."""
    lines = [f"HTTP/1.1 {status} ".encode() + _reason(status)]
    fields = [*headers, ("Content-Length", str(len(body))), ("Connection", "close")]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""
