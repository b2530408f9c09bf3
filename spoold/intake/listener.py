"""The one accept path: every connection on every port is counted, secured, sniffed, handed over.

In: bound sockets with the rules of their port. Out: a handler's work, and an end that the client
can trust: what did not succeed is a reset. Limits hold for all connections together and for each
address (IPv6 by /64); a client that says nothing costs a few kilobytes and a deadline.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import structlog
import trio

from spoold.codec import client_hello, proxy
from spoold.codec import raw as codec
from spoold.intake.deadlines import Deadlines, Pace, Watch
from spoold.intake.raw import Ending
from spoold.model.errors import OperationError, RemoteProtocolError, SpoolError, StoreFailed
from spoold.model.principal import Port, Principal
from spoold.net.listen import accept_loop
from spoold.net.stream import Stream
from spoold.net.tcp import SocketStream, peer_name
from spoold.net.tls import TlsStream

log = structlog.get_logger("spoold.intake")

HTTP_REFUSAL = (
    b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
)
CONTROL_CONNECTIONS_MAX = 256  # beside all others: a flood does not lock the operator out
PEEK_PAUSES_S = (0.0, 0.05, 0.5)  # for what comes of a ClientHello after its first bytes
NETWORK_BITS = 64  # of an IPv6 address: what one customer of a network usually holds


Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class Limits(Pace, Protocol):
    @property
    def connections_max(self) -> int: ...
    @property
    def connections_per_address_max(self) -> int: ...
    @property
    def exempt(self) -> Networks: ...
    @property
    def handshake_deadline_s(self) -> float: ...
    @property
    def header_deadline_s(self) -> float: ...


@dataclass(slots=True)
class Opening:
    """A connection whose protocol is known. `is_ended`: the client sent no more than `head`."""

    stream: Stream
    head: bytes
    is_ended: bool
    principal: Principal
    rules: Rules
    watch: Watch


@dataclass(slots=True)
class Rules:
    """What holds on one port.

    `context` gives the TLS context of the moment (certificates change), `identify` the principal of
    a connection, or raises `OperationError` when it may not come in. `only` names the one protocol
    of a port that has no other. `proxy_from` are the load balancers: each of their connections
    begins with a header that says who it is for (PROXY protocol, version 2).
    """

    port: Port
    identify: Callable[[Stream], Awaitable[Principal]]
    context: Callable[[], ssl.SSLContext] | None = None
    raw_printer: str = "default"
    ending: Ending = field(default_factory=Ending)
    only: codec.Protocol | str | None = None
    proxy_from: Networks = ()
    by_name: dict[str, Rules] = field(default_factory=dict)  # for who names this server in TLS


Handler = Callable[[Opening], Awaitable[None]]


class Listener:
    """Accepts on any number of sockets. `handlers` maps a protocol to who speaks it."""

    def __init__(
        self,
        handlers: dict[codec.Protocol | str, Handler],
        limits: Limits,
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._handlers = handlers
        self.limits = limits
        self._on_refused = on_refused
        self._by_address: dict[str, int] = {}
        self._accepting = trio.CancelScope()
        self._by_identity: dict[str, set[trio.CancelScope]] = {}
        self.deadlines = Deadlines()
        self.stopping = trio.Event()
        self.ended = trio.Event()
        self.connections = 0
        self.by_port = dict.fromkeys(Port, 0)

    async def run(
        self,
        sockets: list[tuple[socket.socket, Rules]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `stop_nowait`, and then until the last handler has ended.

        Raises:
            StoreFailed: a handler met a spool that failed; the daemon must stop.
        """
        async with trio.open_nursery() as watching:
            watching.start_soon(self.deadlines.run)
            try:
                async with trio.open_nursery() as handlers:
                    await self._accept_all(sockets, handlers, task_status)
            finally:
                self.ended.set()
            watching.cancel_scope.cancel()

    async def _accept_all(
        self,
        sockets: list[tuple[socket.socket, Rules]],
        handlers: trio.Nursery,
        task_status: trio.TaskStatus[None],
    ) -> None:
        try:
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    for sock, rules in sockets:
                        accepting.start_soon(self._accept, sock, rules, handlers)
                    task_status.started()
        finally:
            for sock, _ in sockets:
                sock.close()

    def stop_nowait(self) -> None:
        """Stop accepting, and end the connections on which nothing has begun."""
        self._accepting.cancel()
        self.stopping.set()
        self.deadlines.stop()

    async def _accept(self, sock: socket.socket, rules: Rules, handlers: trio.Nursery) -> None:
        def handle(connection: socket.socket, address: Any) -> None:
            host = address[0] if isinstance(address, tuple) else ""
            is_balancer = bool(rules.proxy_from) and _is_in(host, rules.proxy_from)
            key = self._admit(host, rules.port, is_balancer)
            if key is None:
                connection.close()  # a reset: SO_LINGER is set
                return
            handlers.start_soon(self._serve, connection, address, key, rules, name="connection")

        await accept_loop(sock, handle)

    def _admit(self, host: str, port: Port, is_balancer: bool) -> str | None:
        """The address that a new connection counts under; None when it is one too many.

        Those of a load balancer are counted for their clients, as soon as it has named them.
        """
        key = counted(host)
        limits = self.limits
        held = self._by_address.get(key, 0)
        control = self.by_port[Port.CONTROL]
        if port is Port.CONTROL:
            is_refused = control >= CONTROL_CONNECTIONS_MAX
        else:
            is_refused = self.connections - control >= limits.connections_max or (
                held >= limits.connections_per_address_max
                and not is_balancer
                and not self._is_exempt(host)
            )
        if is_refused:
            self._on_refused("connection_limit_reached", host)
            return None
        self.connections += 1
        self.by_port[port] += 1
        self._by_address[key] = held + 1
        return key

    def _is_exempt(self, host: str) -> bool:
        if not host:
            return True  # a local socket that was handed over
        return _is_in(host, self.limits.exempt)

    async def _serve(self, connection: socket.socket, address: Any, key: str, rules: Rules) -> None:
        peer = peer_name(address)
        port = rules.port
        stream: SocketStream | TlsStream
        is_proxied = bool(rules.proxy_from) and _is_in(address[0], rules.proxy_from)
        if rules.context is None or is_proxied or rules.by_name:
            stream = SocketStream(connection, peer)
        else:
            stream = TlsStream(connection, rules.context(), server_side=True, peer=peer)
        watch = self.deadlines.add(stream, self.limits.idle_deadline_s)
        try:
            if is_proxied and isinstance(stream, SocketStream):
                found = await self._client_behind(stream, watch)
                if found is None:
                    return
                key = self._count_for(found[0], key)
                stream.peer = peer = peer_name(found)
            if isinstance(stream, SocketStream) and rules.context is not None:
                rules = await self._rules_for(stream.socket, rules)
                assert rules.context is not None
                sock = stream.detach()
                stream = TlsStream(sock, rules.context(), server_side=True, peer=peer)
                watch.stream = stream
            if isinstance(stream, SocketStream) or await self._secure(stream, rules, watch):
                principal = await rules.identify(stream)
                if rules.port is Port.MUTUAL:
                    await self._speak_until_cut(stream, rules, principal, watch)
                else:
                    await (await self._speaking(stream, rules, principal, watch))
        except trio.BrokenResourceError:
            pass  # the client is gone, and knows as much
        except trio.ClosedResourceError:
            if watch.is_expired and not self.stopping.is_set():
                self._refuse("deadline_passed", stream, "the client was silent for too long")
        except RemoteProtocolError as error:
            self._refuse("protocol_error", stream, str(error))
        except trio.TooSlowError:
            self._refuse("deadline_passed", stream, "the client was too slow, or silent")
        except StoreFailed:
            raise
        except (OperationError, SpoolError) as error:
            self._refuse("submission_refused", stream, str(error))
        except Exception as error:
            failure = _store_failure(error)
            if failure is not None:
                raise failure from error
            log.exception("handler_failed", client=stream.peer)
        finally:
            self.deadlines.remove(watch)
            stream.abort()
            self.connections -= 1
            self.by_port[port] -= 1
            self._uncount(key)

    async def _rules_for(self, connection: socket.socket, rules: Rules) -> Rules:
        """The rules of this connection, by the server that the client names in its first bytes."""
        if rules.by_name:
            with trio.move_on_after(self.limits.handshake_deadline_s):
                for pause_s in PEEK_PAUSES_S:
                    await trio.lowlevel.wait_readable(connection)
                    await trio.sleep(pause_s)
                    with suppress(OSError):  # a reset shows in the handshake
                        head = connection.recv(client_hello.HELLO_BYTES_MAX, socket.MSG_PEEK)
                        name = client_hello.server_name(head)
                        if name is not None:
                            return rules.by_name.get(name, rules)
        return rules

    def _uncount(self, key: str) -> None:
        left = self._by_address[key] - 1
        if left:
            self._by_address[key] = left
        else:
            del self._by_address[key]

    async def _client_behind(self, stream: SocketStream, watch: Watch) -> tuple[str, int] | None:
        """Who a load balancer connects for, itself if it does; None when it only knocked.

        Raises:
            RemoteProtocolError: it does not say.
        """
        watch.deadline = trio.current_time() + self.limits.header_deadline_s
        head = await _exactly(stream, proxy.HEAD_BYTES)
        if not head:
            await stream.finish()  # a look whether we live
            return None
        rest = await _exactly(stream, proxy.rest_bytes(head))
        watch.deadline = trio.current_time() + self.limits.idle_deadline_s
        host, _, port = stream.peer.rpartition(":")
        return proxy.client(head, rest) or (host.strip("[]"), int(port))

    def _count_for(self, host: str, key: str) -> str:
        """Count a connection under its client, no more under the balancer that it came through.

        Raises:
            OperationError: it is one too many of this client.
        """
        new = counted(host)
        held = self._by_address.get(new, 0) - (new == key)
        if held >= self.limits.connections_per_address_max and not self._is_exempt(host):
            self._on_refused("connection_limit_reached", host)
            raise OperationError("busy", f"{host} has {held} connections.", "Close some.")
        self._uncount(key)
        self._by_address[new] = self._by_address.get(new, 0) + 1
        return new

    async def _secure(self, stream: TlsStream, rules: Rules, watch: Watch) -> bool:
        """Whether TLS stands; when not, the client has its alert, and the operator an event."""
        try:
            await stream.handshake(self.limits.handshake_deadline_s)
        except trio.BrokenResourceError as error:
            if not isinstance(error.__cause__, ConnectionError):
                self._refuse("tls_refused", stream, str(error))
                if rules.port is Port.MUTUAL:
                    self._on_refused("certificate_refused", stream.peer)
            return False
        watch.deadline = trio.current_time() + self.limits.idle_deadline_s
        return True

    def _refuse(self, event: str, stream: Stream, detail: str) -> None:
        log.warning(event, client=stream.peer, detail=detail)

    async def _speak_until_cut(
        self, stream: Stream, rules: Rules, principal: Principal, watch: Watch
    ) -> None:
        with trio.CancelScope() as scope:
            known = self._by_identity.setdefault(principal.identity, set())
            known.add(scope)
            try:
                await (await self._speaking(stream, rules, principal, watch))
            finally:
                known.discard(scope)
                if not known:
                    self._by_identity.pop(principal.identity, None)

    def cut(self, identity: str) -> None:
        """End the connections that somebody opened with a certificate; it was revoked."""
        for scope in self._by_identity.get(identity, ()):
            scope.cancel()

    async def _speaking(
        self, stream: Stream, rules: Rules, principal: Principal, watch: Watch
    ) -> Awaitable[None]:
        """What serves this connection, once its protocol shows; to be awaited at once.

        It is given back and not awaited here: what thousands of idle connections wait in is short.
        """
        if rules.only is not None:
            opening = Opening(stream, b"", False, principal, rules, watch)
            return self._handlers[rules.only](opening)
        head, is_ended, protocol = await self._sniff(stream, rules, watch)
        if protocol is None:
            return stream.finish()  # zero bytes are no job, and no fault either
        watch.is_quiet = False
        handler = self._handlers.get(protocol)
        if handler is None:
            return self._answer_unknown(stream, protocol)
        return handler(Opening(stream, head, is_ended, principal, rules, watch))

    async def _sniff(
        self, stream: Stream, rules: Rules, watch: Watch
    ) -> tuple[bytes, bool, codec.Protocol | None]:
        """Receive until the protocol shows. Waiting for the first byte may take the idle deadline.

        Raises:
            trio.ClosedResourceError: the client said nothing, or began and stopped.
        """
        head = await stream.receive_some()
        protocol = codec.sniff(head)
        if protocol is not None or not head:
            return head, not head, protocol
        watch.deadline = trio.current_time() + self.limits.header_deadline_s
        while True:
            more = await self._next(stream, rules)
            head += more or b""
            protocol = codec.sniff(head, not more)
            if protocol is not None:
                return head, more == b"", protocol

    async def _next(self, stream: Stream, rules: Rules) -> bytes | None:
        """The next bytes; where a pause ends a job, a pause (None) ends the guessing too."""
        if rules.ending.kind == "half-close":
            return await stream.receive_some()
        with trio.move_on_after(rules.ending.idle_s or 1.0):
            return await stream.receive_some()
        return None

    async def _answer_unknown(self, stream: Stream, protocol: codec.Protocol) -> None:
        """What is not spoken here is answered in its own terms, and is never a job."""
        log.warning("protocol_refused", client=stream.peer, protocol=protocol.value)
        if protocol is codec.Protocol.BAD_HTTP:
            text = b"This is not HTTP/1.1 as spoold speaks it.\n"
            await stream.send_all(HTTP_REFUSAL % (b"400 Bad Request", len(text), text))
        elif protocol is codec.Protocol.HTTP2:
            text = b"Speak HTTP/1.1 here.\n"
            reply = HTTP_REFUSAL % (b"505 HTTP Version Not Supported", len(text), text)
            await stream.send_all(reply)
        elif protocol is codec.Protocol.TLS:
            # A fatal alert, `protocol_version`: TLS is spoken on another port.
            await stream.send_all(b"\x15\x03\x01\x00\x02\x02\x46")
        elif protocol is codec.Protocol.PROXY:
            stream.abort()  # an end in order would tell the client that its job is safe
            return
        await stream.finish()


async def _exactly(stream: Stream, count: int) -> bytes:
    """The next `count` bytes, and none of what follows; fewer at the end."""
    data = b""
    while len(data) < count and (more := await stream.receive_some(count - len(data))):
        data += more
    return data


def _is_in(host: str, networks: Networks) -> bool:
    if not host:
        return False  # a local socket
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _store_failure(error: BaseException) -> StoreFailed | None:
    """The failure of the store among what the tasks of a handler raised together."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := _store_failure(one))), None)
    return error if isinstance(error, StoreFailed) else None


@lru_cache(maxsize=4096)
def counted(host: str) -> str:
    """What connections of `host` are counted under: an IPv4 address, or an IPv6 network."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, NETWORK_BITS), strict=False))
