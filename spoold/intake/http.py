"""HTTP/1.1 on every port: connections that are kept, the upgrade to TLS, and who answers what.

In: a connection that opened with an HTTP/1.x request line. Out: IPP for who posts it, small JSON
answers at a few paths, and clear refusals, before the body where there is one. A client may secure
the connection in place (RFC 2817); logins (HTTP Basic, RFC 7617) count over TLS only.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Protocol

import trio

from spoold.codec import basic
from spoold.codec import http as codec
from spoold.intake.deadlines import Watch
from spoold.intake.exchange import Exchange, Limits, Link, NeedsLogin
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.model.principal import Port, Principal
from spoold.net.stream import Stream
from spoold.net.tcp import SocketStream
from spoold.net.tls import TlsStream

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"}
)
_JSON = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n"
)
UPGRADE_HEADERS = (("Upgrade", "TLS/1.2, HTTP/1.1"), ("Connection", "Upgrade"))
CHALLENGE = ("WWW-Authenticate", 'Basic realm="spoold", charset="UTF-8"')
BEARER_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="spoold", error="invalid_token"')
RETRY_AFTER = ("Retry-After", "2")  # s; a login that has to wait longer says so in its answer
HANDSHAKE_S = 10.0
REFUSAL_S = 5.0
STOP_S = 0.1  # for a request that has begun when the daemon stops

Answer = Callable[[str], tuple[int, dict[str, Any]]]


class Logins(Protocol):
    async def login(self, name: str, password: str, address: str) -> Principal:
        """Who has this name and password.

        Raises:
            OperationError: `unauthorized`, or `busy` after too many failures.
        """
        ...


class Api(Protocol):
    """Whatever answers below some paths, in all methods."""

    def speaks(self, path: str) -> bool: ...
    async def serve(self, exchange: Exchange) -> None:
        """Answer; raises NeedsLogin for what is granted after one."""
        ...


class PostHandler(Protocol):
    """A protocol that is spoken in the bodies of POST requests."""

    def speaks(self, path: str) -> bool: ...
    async def serve(self, exchange: Exchange) -> None: ...


@dataclass(frozen=True, slots=True)
class Site:
    """What is served. `answer(path)` gives status and map of a small resource, 404 for none.

    `files` are others, by path: their media type and bytes. `ipp` takes requests of type
    application/ipp, `apis` whatever comes below their paths. `by_token` says who shows a token, as
    `Authorization: Bearer`, and raises OperationError. `upgrade` gives the TLS context of the
    moment; without it a clear connection stays clear.
    """

    answer: Answer
    ipp: PostHandler | None = None
    logins: Logins | None = None
    upgrade: Callable[[], ssl.SSLContext] | None = None
    files: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    by_token: Callable[[str, Principal], Principal] | None = None
    apis: tuple[Api, ...] = ()


async def serve_http(
    stream: Stream,
    first_bytes: bytes,
    principal: Principal,
    site: Site,
    limits: Limits,
    watch: Watch,
) -> None:
    """Answer the requests of one connection until it ends.

    `watch` is this connection's: between requests it is quiet, and too late is a silence.

    Raises:
        RemoteProtocolError: the client broke the protocol; it was answered, and the stream ended.
        trio.TooSlowError: the client did not take its answer.
    """
    is_tls = principal.port is not Port.CLEAR
    connection = _Connection(Link(stream, principal, is_tls, limits, watch), site)
    try:
        connection.begin(first_bytes)
        del first_bytes  # they may be many, and the connection may stay for hours
        await connection.run()
    finally:
        watch.on_late = watch.on_stop = None
        watch.deadline = inf
        connection.link.stream.abort()


class _Connection:
    def __init__(self, link: Link, site: Site) -> None:
        self.link = link
        self._site = site
        self._scope = trio.CancelScope()
        self._is_late = False
        self._exchange: Exchange | None = None
        link.watch.on_late = self._late
        link.watch.on_stop = self._stop
        self._update_logins()

    def _update_logins(self) -> None:
        site, link = self._site, self.link
        has_way = link.principal.port is Port.TLS if link.is_tls else site.upgrade is not None
        link.can_log_in = site.logins is not None and has_way

    def _late(self) -> None:
        self.link.watch.deadline = inf
        self._is_late = True
        self._scope.cancel()

    def _stop(self) -> None:
        """The daemon stops: what has been taken goes on to its answer, the rest is given up."""
        link, exchange = self.link, self._exchange
        link.is_closing = True
        if not link.is_sending and (exchange is None or exchange.is_coming):
            link.watch.deadline = min(link.watch.deadline, trio.current_time() + STOP_S)

    def begin(self, first_bytes: bytes) -> None:
        """Take what came before anybody knew that this is HTTP."""
        link = self.link
        if first_bytes:
            link.is_begun = True
            link.watch.deadline = trio.current_time() + link.limits.header_deadline_s
            link.server.receive_data(first_bytes)

    async def run(self) -> None:
        link = self.link
        try:
            with self._scope:
                while await self._answer_next():
                    pass
            if self._is_late:
                await self._give_up()
        except RemoteProtocolError as error:
            if self._exchange is None or not self._exchange.is_answered:
                await self._refuse(error)
            raise
        await link.stream.finish()

    async def _give_up(self) -> None:
        """A deadline passed: say so in the middle of a request, else end without a word.

        Raises:
            RemoteProtocolError, trio.TooSlowError: for the operator.
        """
        link = self.link
        if link.is_sending:
            link.stream.abort()
            raise trio.TooSlowError
        if link.is_begun:
            raise RemoteProtocolError("the request did not come in time", "408")

    async def _refuse(self, error: RemoteProtocolError) -> None:
        body = _json({"error": str(error)})
        reply = codec.error_response(int(error.reply_hint or 400), _JSON, body)
        with trio.move_on_after(REFUSAL_S):
            await self.link.stream.send_all(reply)
            await self.link.stream.finish()
            return
        self.link.stream.abort()

    async def _answer_next(self) -> bool:
        """Wait for a request, with nothing kept of those before, and answer it.

        Returns whether another one may come.
        """
        link = self.link
        request = await link.next_request()
        if request is None:
            return False
        self._exchange = exchange = Exchange(link, request)
        if _wants_tls(request) and self._site.upgrade is not None and not link.is_tls:
            await self._secure(exchange)
        await self._serve(exchange)
        if link.is_closing or not link.server.start_next_cycle():
            return False
        link.is_begun = False
        self._exchange = None
        return True

    # -- TLS and logins ------------------------------------------------------------------------

    async def _secure(self, exchange: Exchange) -> None:
        """RFC 2817 3.2: go on over TLS, and answer the request there.

        Raises:
            RemoteProtocolError: there was something behind the request already.
        """
        link = self.link
        server = link.server
        if await exchange.read():
            raise RemoteProtocolError("a body in front of the switch to TLS", "400")
        switch = server.switch_response(UPGRADE_HEADERS)
        if server.unread:
            # What came in the clear must not be taken for something that came over TLS.
            raise RemoteProtocolError("more than a request before the switch to TLS", "400")
        clear = link.stream
        assert isinstance(clear, SocketStream)
        assert self._site.upgrade is not None
        await link.send(switch)
        stream = TlsStream(clear.detach(), self._site.upgrade(), server_side=True, peer=clear.peer)
        link.stream = link.watch.stream = stream
        await stream.handshake(HANDSHAKE_S)
        link.is_tls = True
        link.principal = replace(link.principal, port=Port.TLS)
        self._update_logins()

    async def _logged_in(self, request: codec.Request) -> Principal:
        """Who asks.

        Raises:
            OperationError: the login is wrong.
        """
        link, logins, by_token = self.link, self._site.logins, self._site.by_token
        header = request.header("authorization")
        if header is None or link.principal.port is not Port.TLS:
            return link.principal
        token = basic.token(header)
        if token is not None and by_token is not None:
            return by_token(token, link.principal)
        if logins is None:
            return link.principal
        pair = basic.credentials(header)
        if pair is None:
            raise OperationError("unauthorized", "this is no login by name and password.")
        link.watch.deadline = inf  # the pace is ours
        principal = await logins.login(*pair, link.principal.address)
        link.watch.deadline = trio.current_time() + link.limits.header_deadline_s
        return principal

    # -- routes --------------------------------------------------------------------------------

    async def _serve(self, exchange: Exchange) -> None:
        request, site = exchange.request, self._site
        if request.method not in _METHODS:
            await _answer(exchange, 501, {"error": "this method is not known"})
            return
        try:
            exchange.principal = await self._logged_in(request)
        except OperationError as error:
            if error.code == "busy":
                values = {"error": error.message, "advice": error.advice}
                await _answer(exchange, 503, values, RETRY_AFTER)
            elif basic.token(request.header("authorization") or "") is not None:
                await _answer(exchange, 401, {"error": error.as_map()}, BEARER_CHALLENGE)
            else:
                await self._challenge(exchange)
            return
        path = request.path
        api = next((one for one in site.apis if one.speaks(path)), None)
        if api is not None:
            try:
                await api.serve(exchange)
            except NeedsLogin:
                await self._challenge(exchange)
        elif request.method == "POST" and site.ipp is not None and site.ipp.speaks(path):
            await self._post(exchange, site.ipp)
        elif request.method == "OPTIONS":
            await exchange.respond(200, [("Allow", "GET, HEAD, OPTIONS, POST")])
        else:
            await self._get(exchange, path)

    async def _post(self, exchange: Exchange, ipp: PostHandler) -> None:
        request = exchange.request
        if request.header("origin") is not None:
            # Only pages in browsers say this: no page may print or ask on behalf of its reader.
            await _answer(exchange, 403, {"error": "IPP is not for web pages"})
            return
        media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if media_type != "application/ipp":
            await _answer(exchange, 415, {"error": "POST here takes application/ipp only"})
            return
        if request.header("content-encoding") not in (None, "identity"):
            advice = "use the attribute compression instead"
            await _answer(
                exchange, 415, {"error": "no Content-Encoding is known", "advice": advice}
            )
            return
        try:
            await ipp.serve(exchange)
        except NeedsLogin:
            await self._challenge(exchange)

    async def _challenge(self, exchange: Exchange) -> None:
        """401 over TLS; in the clear first TLS: a password is never asked for there."""
        if exchange.is_tls:
            await _answer(exchange, 401, {"error": "log in"}, CHALLENGE)
        else:
            await _answer(exchange, 426, {"error": "go on over TLS"}, *UPGRADE_HEADERS)

    async def _get(self, exchange: Exchange, path: str) -> None:
        if path in self._site.files and exchange.request.method in ("GET", "HEAD"):
            media_type, data = self._site.files[path]
            await exchange.respond(200, [("Content-Type", media_type)], data)
            return
        status, values = self._site.answer(path)
        if status != 404 and exchange.request.method not in ("GET", "HEAD"):
            values = {"error": "only GET and HEAD are answered here"}
            await _answer(exchange, 405, values, ("Allow", "GET, HEAD"))
        else:
            await _answer(exchange, status, values)


def _wants_tls(request: codec.Request) -> bool:
    """RFC 2817: OPTIONS, or another request without a body, that asks to go on over TLS."""
    upgrade = request.header("upgrade")
    if upgrade is None or request.method not in ("OPTIONS", "GET", "HEAD"):
        return False
    offered = [one.strip().upper() for one in upgrade.split(",")]
    options = [one.strip().lower() for one in (request.header("connection") or "").split(",")]
    return "upgrade" in options and any(one.startswith("TLS/1.") for one in offered)


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


async def _answer(
    exchange: Exchange, status: int, values: dict[str, Any], *headers: tuple[str, str]
) -> None:
    await exchange.respond(status, [*_JSON, *headers], _json(values))
