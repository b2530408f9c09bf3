"""The operations of MFDs as JSON over HTTPS: POST `/mfd/v1/NAME`, and their OpenAPI document.

The body of a request is the map of arguments, the answer the map of the result; an error has a
status by its code, and code, message and advice as in frames. `follow` answers with server-sent
events (HTML, 9.2): an `event` and `data`, a JSON map, for each; the last is `end`, with the result.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import structlog
import trio

from spoold.intake.exchange import Exchange
from spoold.intake.router import Router, SendEvent
from spoold.model.errors import OperationError, SpooldError, SpoolFull, StoreFailed
from spoold.model.principal import Port, Principal, Role
from spoold.model.text import plain
from spoold.web.openapi import Operation, document

log = structlog.get_logger("spoold.web")

PREFIX = "/mfd/v1/"
DOCUMENT = PREFIX + "openapi.json"
BODY_BYTES_MAX = 64 * 1024
KEEP_ALIVE_S = 15.0  # a stream says something at least so often: a comment
JSON_TYPE = "application/json"
HEADERS = (("Content-Type", JSON_TYPE), ("Cache-Control", "no-store"))
STREAM_HEADERS = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"))
CHALLENGE = ("WWW-Authenticate", 'Bearer realm="spoold"')

# What an error's code is over HTTP; codes that are not here are faults of ours.
STATUSES = {
    "bad-request": 400,
    "unauthorized": 401,
    "account-limit-reached": 402,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "not-possible": 409,
    "account-info-needed": 409,
    "session-ended": 410,
    "too-large": 413,
    "busy": 503,
    "not-accepting": 503,
    "spool-area-full": 507,
    "internal-error": 500,
    "in-doubt": 504,
}


class MfdApi:
    """`operations` are those of the table that begin with `mfd.`."""

    def __init__(self, router: Router, operations: Sequence[Operation], version: str) -> None:
        self._router = router
        self._names = {one.name.rpartition(".")[2]: one.name for one in operations}
        streams = frozenset(name for name in self._names.values() if name.endswith(".follow"))
        described = document(
            operations, prefix=PREFIX, version=version, statuses=STATUSES, streams=streams
        )
        self._streams = streams
        self._document = _bytes(described)

    def speaks(self, path: str) -> bool:
        return path.startswith("/mfd/")

    async def serve(self, exchange: Exchange) -> None:
        try:
            if exchange.request.path == DOCUMENT:
                await self._describe(exchange)
            else:
                await self._operate(exchange)
        except OperationError as error:
            await _refuse(exchange, error)

    async def _describe(self, exchange: Exchange) -> None:
        if exchange.request.method not in ("GET", "HEAD"):
            await exchange.respond(405, [*HEADERS, ("Allow", "GET, HEAD")], _wrong_method("GET"))
        else:
            await exchange.respond(200, HEADERS, self._document)

    async def _operate(self, exchange: Exchange) -> None:
        op = self._names.get(exchange.request.path.removeprefix(PREFIX))
        if op is None or not exchange.request.path.startswith(PREFIX):
            raise OperationError(
                "not-found",
                f"there is nothing at {plain(exchange.request.path[:100])}.",
                f"See {DOCUMENT}.",
            )
        if exchange.request.method != "POST":
            await exchange.respond(405, [*HEADERS, ("Allow", "POST")], _wrong_method("POST"))
            return
        if Role.DEVICE not in exchange.principal.roles:
            raise _needs_device(exchange.principal)
        args = await _arguments(exchange)
        if op in self._streams:
            await self._stream(exchange, op, args)
        else:
            result = await self._call(exchange, op, args, _no_events)
            await exchange.respond(200, HEADERS, _bytes(result))

    async def _call(
        self, exchange: Exchange, op: str, args: dict[str, Any], send_event: SendEvent
    ) -> dict[str, Any]:
        """The result. Faults of the node are told as little as over frames.

        Raises:
            OperationError: it is refused.
            StoreFailed: the daemon must stop.
        """
        try:
            return await self._router.call(exchange.principal, op, args, send_event)
        except StoreFailed:
            raise
        except SpoolFull as error:
            message, advice = "the spool has no room.", "Try again later."
            raise OperationError("spool-area-full", message, advice) from error
        except SpooldError as error:
            log.error("operation_failed", op=op, reason=str(error))
            message, advice = "the server could not do it.", "Its log says why."
            raise OperationError("internal-error", message, advice) from error

    async def _stream(self, exchange: Exchange, op: str, args: dict[str, Any]) -> None:
        """Events as they come, and the end of it; errors before the first event are as ever."""
        stream = _Events(exchange)
        is_gone = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.keep_alive)
                try:
                    result = await self._call(exchange, op, args, stream.send)
                    await stream.send("end", result)
                except OperationError as error:
                    if not stream.is_begun:
                        await _refuse(exchange, error)
                    else:
                        await stream.send("error", error.as_map())
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            is_gone = True
        if is_gone:
            raise trio.BrokenResourceError("the client has gone")
        if stream.is_begun:
            await exchange.end()


class _Events:
    """Server-sent events as the body of an answer, one at a time."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._turn = trio.Lock()
        self.is_begun = False

    async def send(self, name: str, args: dict[str, Any]) -> None:
        data = json.dumps(args, ensure_ascii=True)  # on one line, whatever is in it
        async with self._turn:
            if not self.is_begun:
                self.is_begun = True
                await self._exchange.begin(200, STREAM_HEADERS)
            await self._exchange.send(f"event: {name}\ndata: {data}\n\n".encode())

    async def keep_alive(self) -> None:
        while True:
            await trio.sleep(KEEP_ALIVE_S)
            async with self._turn:
                if self.is_begun:
                    await self._exchange.send(b":\n\n")


async def _no_events(name: str, args: dict[str, Any]) -> None:
    """Only streams have events."""


async def _arguments(exchange: Exchange) -> dict[str, Any]:
    """The JSON map in the body.

    Raises:
        OperationError: `bad-request` or `too-large`.
    """
    media_type = (exchange.request.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type != JSON_TYPE or exchange.request.header("content-encoding") not in (
        None,
        "identity",
    ):
        raise OperationError(
            "bad-request", "this is no JSON.", f"Send the arguments as {JSON_TYPE}, not encoded."
        )
    body = bytearray()
    while data := await exchange.read():
        body += data
        if len(body) > BODY_BYTES_MAX:
            raise OperationError(
                "too-large", f"the body is over {BODY_BYTES_MAX} bytes.", "Send less at once."
            )
    return read_json(bytes(body))


def read_json(body: bytes) -> dict[str, Any]:
    """The map that `body` is in JSON (RFC 8259), each name in it once; nothing at all is empty.

    Raises:
        OperationError: `bad-request`: it is none, or holds texts that are no Unicode.
    """
    try:
        found = json.loads(
            body.decode("utf-8") or "{}", object_pairs_hook=_unique, parse_constant=_no_constant
        )
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # refuses lone surrogates
    except (ValueError, RecursionError) as error:
        reason = plain(str(error)[:120])
        raise OperationError(
            "bad-request", f"the body is no JSON: {reason}.", "Send a JSON map of arguments."
        ) from None
    if type(found) is not dict:
        raise OperationError(
            "bad-request", "the body is no JSON map.", "Send the arguments as one."
        )
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in a map")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _needs_device(principal: Principal) -> OperationError:
    if principal.port is Port.TLS:
        return OperationError(
            "unauthorized", "this is for MFDs.", "Send the token: Authorization: Bearer TOKEN."
        )
    return OperationError(
        "forbidden",
        "this is for MFDs.",
        "Come to 9192 with a token, or to 9195 with a certificate; see `spoold device enrol`.",
    )


async def _refuse(exchange: Exchange, error: OperationError) -> None:
    headers = [*HEADERS]
    if error.code == "unauthorized" and Role.DEVICE not in exchange.principal.roles:
        headers.append(CHALLENGE)
    elif error.code == "busy":
        headers.append(("Retry-After", "2"))
    body = _bytes({"error": error.as_map()})
    await exchange.respond(STATUSES.get(error.code, 500), headers, body)


def _wrong_method(method: str) -> bytes:
    message = f"only {method} is answered here."
    return _bytes({"error": OperationError("bad-request", message).as_map()})


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
