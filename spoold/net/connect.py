"""Connecting: names and addresses become connected streams within a deadline.

In: a host and a port. Out: a `SocketStream` or `TlsStream` with TCP_NODELAY, SO_KEEPALIVE and, as
accepted sockets have it, SO_LINGER {1,0}: our crash is a reset at the device, never an end of the
document. A name is looked up in a thread; its addresses are tried in turn, IPv6 and IPv4 mixed, the
next one when the last failed or is silent for 250 ms (RFC 8305, in short).
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import trio
from trio.lowlevel import notify_closing, wait_writable

from spoold.net.address import Address
from spoold.net.listen import set_keepalive
from spoold.net.tcp import SocketStream, peer_name, set_reset_on_close, unix_name
from spoold.net.tls import TlsStream

STAGGER_S = 0.25
LOOKUPS_MAX = 16

Target = tuple[socket.AddressFamily, Any]


class TcpNetwork:
    """The real network; what rooms take as their `Network` Protocol.

    At most `LOOKUPS_MAX` names are looked up at a time, also those that nobody waits for any more:
    a dead name server holds some threads, and no more. `node_context` shows the certificate of this
    node, where there is one: to other nodes.
    """

    node_context: Callable[[], ssl.SSLContext] | None

    def __init__(self, node_context: Callable[[], ssl.SSLContext] | None = None) -> None:
        self.node_context = node_context
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)

    async def connect(
        self, host: str, port: int, *, timeout_s: float, source_ports: range | None = None
    ) -> SocketStream:
        """A connected stream; with `source_ports`, from one of these ports (RFC 1179, 3.1).

        Raises:
            OSError: refused, unreachable, no such host, no source port; `TimeoutError` after
                `timeout_s`.
        """
        with trio.move_on_after(timeout_s):
            targets = await self._look_up(host, port)
            return await _connect_first(targets, source_ports)
        raise TimeoutError(
            errno.ETIMEDOUT, f"no connection to {Address(host, port)} within {timeout_s:g} s"
        )

    async def connect_tls(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        timeout_s: float,
    ) -> TlsStream:
        """A stream whose handshake is done; the server must be `server_hostname`, else `host`.

        Raises:
            OSError: as `connect`; `ssl.SSLError` when one side refused the other.
        """
        started = trio.current_time()
        plain = await self.connect(host, port, timeout_s=timeout_s)
        peer = plain.peer
        stream = TlsStream(
            plain.detach(),
            context,
            server_side=False,
            server_hostname=server_hostname or host,
            peer=peer,
        )
        left_s = max(0.0, started + timeout_s - trio.current_time())
        try:
            await stream.handshake(left_s)
        except trio.BrokenResourceError as broken:
            if isinstance(broken.__cause__, OSError):
                raise broken.__cause__ from None
            raise
        return stream

    async def _look_up(self, host: str, port: int) -> list[Target]:
        """Where `host` is; never empty, and without a thread when it is an address.

        Raises:
            OSError: `socket.gaierror`, no such host; EINVAL, that cannot be a name.
        """
        if not host:  # which the resolver would take for this machine
            raise OSError(errno.EINVAL, "there is no host name")
        try:
            try:
                return _numeric(host, port)
            except socket.gaierror:
                found = await trio.to_thread.run_sync(
                    lambda: socket.getaddrinfo(
                        host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICSERV
                    ),
                    abandon_on_cancel=True,
                    limiter=self._lookups,
                )
        except (UnicodeError, ValueError) as error:
            raise OSError(errno.EINVAL, f"{host!r} is no host name") from error
        return _alternate([(family, address) for family, _, _, _, address in found])


async def connect_unix(path: Path, *, timeout_s: float) -> SocketStream:
    """A stream to the Unix socket at `path`, of any length.

    Raises:
        OSError: nobody is there; `TimeoutError` after `timeout_s`.
    """
    with trio.move_on_after(timeout_s), unix_name(path) as name:
        return await _connect_one((socket.AF_UNIX, name), None)
    raise TimeoutError(errno.ETIMEDOUT, f"no connection to {path} within {timeout_s:g} s")


@lru_cache(maxsize=4096)
def _numeric(host: str, port: int) -> list[Target]:
    """Where an address is; to be read only. Raises `socket.gaierror` for a name."""
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    return _alternate([(family, address) for family, _, _, _, address in found])


def _alternate(targets: Sequence[Target]) -> list[Target]:
    """In the order of the resolver, but the families in turn; no address twice."""
    targets = list(dict.fromkeys(targets))
    first = [target for target in targets if target[0] == targets[0][0]]
    others = [target for target in targets if target[0] != targets[0][0]]
    mixed: Iterable[Target | None] = chain.from_iterable(zip_longest(first, others))
    return [target for target in mixed if target is not None]


async def _connect_first(
    targets: Sequence[Target], source_ports: range | None, stagger_s: float = STAGGER_S
) -> SocketStream:
    """The first connection that comes about; the other attempts have ended.

    Raises:
        OSError: none did; the kind of the first failure, with what each address said.
    """
    if len(targets) == 1:
        return await _connect_one(targets[0], source_ports)
    failures: dict[int, OSError] = {}
    winner: SocketStream | None = None

    async def attempt(number: int, failed: trio.Event) -> None:
        nonlocal winner
        try:
            stream = await _connect_one(targets[number], source_ports)
        except OSError as error:
            failures[number] = error
            failed.set()
            return
        if winner is None:
            winner = stream
            nursery.cancel_scope.cancel()
        else:
            stream.abort()

    try:
        async with trio.open_nursery() as nursery:
            for number in range(len(targets)):
                failed = trio.Event()
                nursery.start_soon(attempt, number, failed)
                with trio.move_on_after(stagger_s):
                    await failed.wait()
    except BaseException:
        if winner is not None:
            winner.abort()
        raise
    if winner is not None:
        return winner
    said = "; ".join(
        f"{peer_name(targets[number][1])}: {error.strerror}"
        for number, error in sorted(failures.items())
    )
    raise OSError(failures[0].errno, said)


async def _connect_one(target: Target, source_ports: range | None) -> SocketStream:
    """A connection to one address, from the first of `source_ports` that can be had."""
    if source_ports is None:
        return await _connect_from(target, None)
    for port in source_ports:
        try:
            return await _connect_from(target, port)
        except OSError as error:
            # EADDRNOTAVAIL: this pair of ports is still in TIME_WAIT
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
    raise OSError(
        errno.EADDRINUSE, f"the source ports {source_ports[0]} to {source_ports[-1]} are all in use"
    )


async def _connect_from(target: Target, source_port: int | None) -> SocketStream:
    family, address = target
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        set_reset_on_close(sock)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_keepalive(sock)
        if source_port is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", source_port))
        answer = sock.connect_ex(address)
        if answer == errno.EINPROGRESS:
            answer = sock.connect_ex(address)  # who is on this machine has answered by now
        if answer == errno.EALREADY:
            await wait_writable(sock)
            answer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if answer:
            raise OSError(answer, os.strerror(answer))
    except BaseException:
        notify_closing(sock)
        sock.close()
        raise
    return SocketStream(sock, peer_name(address))
