"""One HTTP request and the answer to it, with their deadlines.

In: the events of the codec. Out: the body piece by piece, or straight into an upload, and one
answer, whole or streamed. Until the request is accepted all of it must come within the deadline of
a head; after that only silence and a rate below the least are too slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Protocol

import trio

from spoold.codec import http as codec
from spoold.intake.deadlines import Pace, Watch
from spoold.intake.upload import Upload
from spoold.model.errors import RemoteProtocolError
from spoold.model.principal import Principal
from spoold.net.stream import Stream

# A client that expects `100 Continue` may send the front of its body unasked, as libcups does: it
# has this long, so that a refusal can come before a document.
EXPECT_GRACE_S = 0.02
RECEIVE_BYTES = 65536
# What is read of a body that nobody wants, so that the answer arrives and the connection is kept.
DRAIN_BYTES_MAX = 64 * 1024
DEADLINE_STEP_S = 1.0

Headers = Iterable[tuple[str, str]]


class Limits(Pace, Protocol):
    @property
    def header_deadline_s(self) -> float: ...


class NeedsLogin(Exception):
    """What was asked is for somebody who is known, and may be granted after a login."""


class Link:
    """What the requests of one connection share. `principal` is who the transport vouches for.

    `can_log_in`: a client that is asked for a login can give it here, or after a switch to TLS.
    """

    __slots__ = (
        "can_log_in",
        "is_begun",
        "is_closing",
        "is_sending",
        "is_tls",
        "limits",
        "principal",
        "server",
        "stream",
        "watch",
    )

    def __init__(
        self, stream: Stream, principal: Principal, is_tls: bool, limits: Limits, watch: Watch
    ) -> None:
        self.stream = stream
        self.principal = principal
        self.is_tls = is_tls
        self.limits = limits
        self.watch = watch
        self.server = codec.HttpServer()
        self.can_log_in = False
        self.is_begun = False  # the first byte of a request has come
        self.is_sending = False  # an answer is on its way
        self.is_closing = False  # the daemon stops: no further request is read

    async def next_request(self) -> codec.Request | None:
        """The head of the next request; None when the client has ended the stream.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        server, watch = self.server, self.watch
        while True:
            event = server.next_event()
            if type(event) is codec.Request:
                watch.is_quiet = False
                return event
            if event is not None:
                return None
            now = trio.current_time()
            if not self.is_begun:
                watch.deadline = now + self.limits.idle_deadline_s
                watch.is_quiet = True
            data = await self.stream.receive_some(RECEIVE_BYTES)
            if data and not self.is_begun:
                self.is_begun = True
                watch.is_quiet = False
                watch.deadline = trio.current_time() + self.limits.header_deadline_s
            server.receive_data(data)

    async def send(self, data: bytes) -> None:
        """The kernel has taken `data`; a client that does not read is cut off by the deadline."""
        self.is_sending = True
        self.watch.deadline = trio.current_time() + self.limits.idle_deadline_s
        await self.stream.send_all(data)
        self.watch.deadline = inf
        self.is_sending = False


class Exchange:
    """One request of a connection. Read the body, then answer once.

    `principal` is who asks: by the transport, or by a login that came with this request.
    """

    __slots__ = (
        "_accepted_at",
        "_held",
        "_is_expected",
        "_is_whole",
        "_link",
        "_moved_at",
        "_received",
        "drain_bytes_max",
        "is_answered",
        "principal",
        "request",
    )

    def __init__(self, link: Link, request: codec.Request) -> None:
        self._link = link
        self.request = request
        self.principal: Principal = link.principal
        self.is_answered = False
        self._is_whole = False
        self._is_expected = link.server.is_client_waiting
        self._received = 0
        self.drain_bytes_max = DRAIN_BYTES_MAX
        self._held = b""
        self._accepted_at: float | None = None
        self._moved_at = 0.0

    @property
    def is_tls(self) -> bool:
        return self._link.is_tls

    @property
    def limits(self) -> Limits:
        return self._link.limits

    @property
    def can_log_in(self) -> bool:
        return self._link.can_log_in

    @property
    def is_coming(self) -> bool:
        """The request is neither whole nor accepted: nobody works on it yet."""
        return not self._is_whole and self._accepted_at is None

    @property
    def body_bytes_left(self) -> int | None:
        """How many bytes of the body have not been read; None when nobody knows."""
        if self._is_whole:
            return 0
        return self._link.server.body_bytes_left

    # -- the body ------------------------------------------------------------------------------

    async def accept(self) -> None:
        """The request is taken: the rest of the body may come, at its own pace."""
        self._accepted_at = self._moved_at = now = trio.current_time()
        if not self._is_whole:
            self._link.watch.deadline = now + self._link.limits.idle_deadline_s
            if self._is_expected:
                await self._go_ahead()

    async def _go_ahead(self) -> None:
        self._is_expected = False
        await self._link.stream.send_all(self._link.server.continue_response())

    async def read(self) -> bytes:
        """The next bytes of the body; b"" at its end.

        Raises:
            RemoteProtocolError: the body is malformed, cut off, or comes too slowly.
        """
        server = self._link.server
        while not self._is_whole:
            event = server.next_event()
            if type(event) is codec.BodyChunk:
                return event.data
            if type(event) is codec.End:
                self._is_whole = True
                self._link.watch.deadline = inf
            else:
                await self._receive()
        return b""

    async def _receive(self) -> None:
        link = self._link
        if self._is_expected:
            with trio.move_on_after(EXPECT_GRACE_S) as scope:
                data = await link.stream.receive_some(RECEIVE_BYTES)
            if scope.cancelled_caught:
                await self._go_ahead()
                data = await link.stream.receive_some(RECEIVE_BYTES)
        else:
            data = await link.stream.receive_some(RECEIVE_BYTES)
        self._count(len(data))
        link.server.receive_data(data)

    def _count(self, size: int) -> None:
        """Move the deadline of a body that comes at a good pace.

        Raises:
            RemoteProtocolError: it does not.
        """
        self._received += size
        since = self._accepted_at
        if since is None:
            return
        now = trio.current_time()
        if now - self._moved_at < DEADLINE_STEP_S:
            return
        self._moved_at = now
        limits = self._link.limits
        elapsed_s = now - since
        if (
            elapsed_s > limits.minimum_rate_grace_s
            and self._received < elapsed_s * limits.minimum_rate_bytes_s
        ):
            raise RemoteProtocolError("the body comes too slowly", "408")
        self._link.watch.deadline = now + limits.idle_deadline_s

    async def read_into(self, upload: Upload) -> None:
        """The rest of the body, as the bytes of a document.

        Raises:
            RemoteProtocolError: as `read`.
            OperationError, SpoolError: the upload does not take them.
        """
        link = self._link
        server, stream = link.server, link.stream
        while not self._is_whole:
            event = server.next_event()
            if type(event) is codec.BodyChunk:
                await upload.write(event.data)
            elif type(event) is codec.End:
                self._is_whole = True
                link.watch.deadline = inf
            elif upload.is_large:
                self._count(await upload.receive_framed(stream, server.take_body))
            else:
                await self._receive()

    async def drain(self) -> None:
        """Throw away what still comes of the body, as far as that is worth it.

        A client that asked before it sends needs no more than an answer.
        """
        if self._is_expected:
            return
        left = self.drain_bytes_max
        while left > 0 and (data := await self.read()):
            left -= len(data)

    # -- the answer ----------------------------------------------------------------------------

    async def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """The one answer, with its whole body."""
        if not self._is_whole:
            await self.drain()
        link = self._link
        if link.is_closing:
            headers = [*headers, ("Connection", "close")]
        self.is_answered = True
        await link.send(link.server.response(status, headers, body))

    async def begin(self, status: int, headers: Headers) -> None:
        """An answer whose length is not known begins; `send` and `end` follow."""
        if not self._is_whole:
            await self.drain()
        self.is_answered = True
        link = self._link
        if link.is_closing:
            headers = [*headers, ("Connection", "close")]
        self._held = link.server.start_response(status, headers)

    async def send(self, data: bytes) -> None:
        """A part of the answer."""
        held, self._held = self._held, b""
        await self._link.send(held + self._link.server.body(data))

    async def end(self, data: bytes = b"") -> None:
        """The last part of the answer."""
        held, self._held = self._held, b""
        server = self._link.server
        await self._link.send(held + server.body(data) + server.end())
