"""HTTP until IPP arrives: small JSON answers, and clear refusals for everything else.

In: a connection that opened with an HTTP/1.x request line. Out: JSON answers over a kept
connection. A request has one deadline from its first byte to its last; bodies are of no use here
and are read only as far as keeping the connection is worth it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import trio

from spoold.codec import http as codec
from spoold.model.errors import RemoteProtocolError
from spoold.model.principal import Principal
from spoold.net.stream import Stream

BODY_BYTES_MAX = 65536
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"}
)
_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))

Answer = Callable[[str], tuple[int, dict[str, Any]]]


class Limits(Protocol):
    @property
    def header_deadline_s(self) -> float: ...
    @property
    def idle_deadline_s(self) -> float: ...


async def serve_http(
    stream: Stream, first_bytes: bytes, principal: Principal, answer: Answer, limits: Limits
) -> None:
    """Answer the requests of one connection until it ends.

    `answer(path)` gives the status and the map of a resource, 404 where there is none. What it
    says is for anybody: it does not depend on the `principal`.

    Raises:
        RemoteProtocolError: the client broke the protocol; it was answered, and the stream ended.
        trio.TooSlowError: the client did not take its answer.
    """
    requests = _Requests(stream, limits)
    if first_bytes:
        requests.server.receive_data(first_bytes)
    is_begun = bool(first_bytes)
    try:
        while (request := await requests.next(is_begun)) is not None:
            status, headers, values = _route(request, answer)
            reply = requests.server.response(status, [*_HEADERS, *headers], _json(values))
            await _send(stream, reply, limits)
            if not requests.server.start_next_cycle():
                break
            is_begun = False
    except RemoteProtocolError as error:
        body = _json({"error": str(error)})
        reply = codec.error_response(int(error.reply_hint or 400), _HEADERS, body)
        await _send(stream, reply, limits)
        await stream.finish()
        raise
    await stream.finish()


class _Requests:
    """Reads requests with their deadlines; their bodies are thrown away."""

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self.server = codec.HttpServer()
        self._stream = stream
        self._limits = limits

    async def next(self, is_begun: bool) -> codec.Request | None:
        """The next request, ready to be answered; None at the end, or after a long silence.

        Raises:
            RemoteProtocolError: it is malformed, or came too slowly (408).
        """
        limits = self._limits
        request: codec.Request | None = None
        body_bytes = 0
        wait_s = limits.header_deadline_s if is_begun else limits.idle_deadline_s
        with trio.move_on_after(wait_s) as scope:
            while True:
                match self.server.next_event():
                    case None:
                        self.server.receive_data(await self._stream.receive_some())
                        if not is_begun:
                            is_begun = True
                            scope.deadline = trio.current_time() + limits.header_deadline_s
                    case codec.Request() as begun:
                        request = begun
                        # A client that asks before it sends its body needs no more than an answer.
                        if self.server.is_client_waiting:
                            return request
                    case codec.BodyChunk(data):
                        body_bytes += len(data)
                        if body_bytes > BODY_BYTES_MAX:
                            return request
                    case codec.End():
                        return request
                    case codec.Closed():
                        return None
        if is_begun:
            raise RemoteProtocolError("the request did not come in time", "408")
        return None


def _route(
    request: codec.Request, answer: Answer
) -> tuple[int, list[tuple[str, str]], dict[str, Any]]:
    if request.method not in _METHODS:
        return 501, [], {"error": "this method is not known"}
    status, values = answer(request.path)
    if status != 404 and request.method not in ("GET", "HEAD"):
        return 405, [("Allow", "GET, HEAD")], {"error": "only GET and HEAD are answered here"}
    return status, [], values


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


async def _send(stream: Stream, reply: bytes, limits: Limits) -> None:
    with trio.fail_after(limits.idle_deadline_s):
        await stream.send_all(reply)
