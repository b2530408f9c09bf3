"""HTTP/1.1 from the client's side, over h11. Sans-IO.

In: requests, and the bytes of one connection. Out: the bytes of requests, and `Continue`,
`Response`, `BodyChunk`, `End`, `Closed`. A malformed answer is a `RemoteProtocolError`. A stream
that ends before the first byte of an answer is `Closed`: the request may have been carried out.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11

from spoold.codec.http import BodyChunk as BodyChunk
from spoold.codec.http import Closed as Closed
from spoold.codec.http import End as End
from spoold.codec.http import Headers
from spoold.model.errors import RemoteProtocolError

HEAD_BYTES_MAX = 65536
BODY_BYTES_MAX = 16 << 20  # of an answer: attributes, never a document
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Continue:
    """`100 Continue`: the body is wanted."""


@dataclass(frozen=True, slots=True)
class Response:
    """The head of the answer. Names of headers are in small letters."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    version: str  # "1.1"

    def header(self, name: str) -> str | None:
        """The value of the first header `name` (in small letters), None without one."""
        return next((value for key, value in self.headers if key == name), None)


Event = Continue | Response | BodyChunk | End | Closed


class _Elsewhere:
    """Stands for bytes of a body that do not pass through here."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class HttpClient:
    """One connection. `request`, `body` as often as needed, `end`; meanwhile drain `next_event`.

    After `End`, `start_next_cycle`. An answer may come before the request is whole: when it is
    final, there is nothing more to send. A `RemoteProtocolError` is final.
    """

    def __init__(
        self, head_bytes_max: int = HEAD_BYTES_MAX, body_bytes_max: int = BODY_BYTES_MAX
    ) -> None:
        self._head_bytes_max = head_bytes_max
        self._body_bytes_max = body_bytes_max
        self._h11 = self._connection()
        self._request: h11.Request | None = None
        self._is_chunked = False
        self._is_answer_begun = False
        self._is_end = False
        self._has_failed = False
        self._body_bytes = 0
        self._unread = b""

    def _connection(self) -> h11.Connection:
        return h11.Connection(h11.CLIENT, max_incomplete_event_size=self._head_bytes_max)

    # --- the request ------------------------------------------------------------------------------

    def request(self, method: str, target: str, headers: Headers, length: int | None) -> bytes:
        """The head of a request with a body of `length` bytes; None: in chunks.

        The caller names the Host, and `Expect: 100-continue` where it is to be waited for.

        Raises:
            ValueError: a header or the target cannot be sent.
        """
        fields = list(headers)
        if length is None:
            fields.append(("Transfer-Encoding", "chunked"))
        elif length or method not in _WITHOUT_BODY:
            fields.append(("Content-Length", str(length)))
        try:
            self._request = h11.Request(method=method, target=target, headers=fields)
            sent = self._h11.send(self._request)
        except h11.LocalProtocolError as error:
            raise ValueError(f"a request that cannot be sent: {error}") from error
        self._is_chunked = length is None
        self._is_answer_begun = False
        self._body_bytes = 0
        return sent or b""

    def body(self, data: bytes) -> bytes:
        """The bytes of the next part of the body."""
        if not data:
            return b""
        return self._h11.send(h11.Data(data=data)) or b""

    def body_bytes_sent(self, count: int) -> None:
        """`count` bytes of a body with a length go to the server on another way (`sendfile`)."""
        if self._is_chunked:
            raise RuntimeError("chunks have frames: their bytes must pass through `body`")
        if count:
            data: bytes = _Elsewhere(count)  # type: ignore[assignment]
            self._h11.send_with_data_passthrough(h11.Data(data=data))

    def end(self) -> bytes:
        """The bytes behind the body; the request is whole with them.

        Raises:
            ValueError: the body was shorter than was said.
        """
        try:
            return self._h11.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise ValueError(f"the body is not whole: {error}") from error

    # --- the answer -------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take what came from the server; b"" says that it ended the stream."""
        if data:
            self._is_answer_begun = True
        elif self._is_end:
            return
        else:
            self._is_end = True
        self._h11.receive_data(data)

    def next_event(self) -> Event | None:
        """The next event; None when more data is needed, or `start_next_cycle`.

        Status 101 comes as a `Response` without `End`: what follows it is `unread`, and after an
        upgrade to TLS the final answer comes over TLS, through `receive_data` as before.

        Raises:
            RemoteProtocolError: the answer is malformed, cut off or too large.
        """
        if self._has_failed:
            raise RemoteProtocolError("the connection has failed already")
        try:
            return self._next()
        except h11.RemoteProtocolError as error:
            self._has_failed = True
            raise RemoteProtocolError(f"the answer is malformed: {error}") from error
        except RemoteProtocolError:
            self._has_failed = True
            raise

    def _next(self) -> Event | None:
        if self._is_end and not self._is_answer_begun:
            return Closed()
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Data):
                self._body_bytes += len(event.data)
                if self._body_bytes > self._body_bytes_max:
                    raise RemoteProtocolError(f"an answer of over {self._body_bytes_max} bytes")
                return BodyChunk(bytes(event.data))
            if isinstance(event, h11.EndOfMessage):
                return End()
            if isinstance(event, h11.ConnectionClosed):
                return Closed()
            if isinstance(event, h11.Response):
                return self._response(event)
            if not isinstance(event, h11.InformationalResponse):
                return None
            if event.status_code == 101:
                self._switch()
                return self._response(event)
            self._is_answer_begun = bool(self.unread)
            if event.status_code == 100:
                return Continue()

    def _response(self, event: h11.Response | h11.InformationalResponse) -> Response:
        # h11 looks at its limit only while a head is not yet whole.
        size = sum(len(name) + len(value) + 4 for name, value in event.headers)
        if size > self._head_bytes_max:
            raise RemoteProtocolError(f"a head of over {self._head_bytes_max} bytes")
        return Response(
            event.status_code,
            bytes(event.reason).decode("latin-1"),
            tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers),
            event.http_version.decode("ascii"),
        )

    def _switch(self) -> None:
        """h11 has no way back from 101: a new one is told of the same request and reads on."""
        if self._h11.our_state is not h11.SWITCHED_PROTOCOL:
            raise RemoteProtocolError("another protocol before the end of the request")
        self._unread, _ = self._h11.trailing_data
        assert self._request is not None
        host = [(name, value) for name, value in self._request.headers if name == b"host"]
        self._h11 = self._connection()
        self._h11.send(
            h11.Request(method=self._request.method, target=self._request.target, headers=host)
        )
        self._h11.send(h11.EndOfMessage())
        self._is_answer_begun = False

    @property
    def unread(self) -> bytes:
        """What came behind the last event; behind a 101 it is the other protocol's."""
        return self._unread or self._h11.trailing_data[0]

    def start_next_cycle(self) -> bool:
        """Get ready for the next request; false when this connection must be closed instead."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        # More than was asked for: it would be taken for the next answer.
        if self._has_failed or self._is_end or self._h11.trailing_data[0]:
            return False
        self._h11.start_next_cycle()
        self._is_answer_begun = False
        self._unread = b""
        return True
