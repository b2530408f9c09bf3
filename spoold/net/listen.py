"""Listening: addresses from the configuration become sockets, and connections reach a handler.

In: "0.0.0.0:9191", "[::]:9191", "name:9191", a path for the control socket. Out: non-blocking
sockets, of which all accepted ones carry SO_LINGER {1,0}, TCP_NODELAY and SO_KEEPALIVE, inherited
from the listening socket (Linux), so that an accepted connection costs one system call.
What cannot be bound is a `ConfigError` that says what to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from trio.lowlevel import checkpoint, wait_readable

from spoold.model.errors import ConfigError
from spoold.net.address import Address, parse_address
from spoold.net.tcp import set_reset_on_close, unix_name

BACKLOG = 4096
ACCEPT_BURST = 64
SHORTAGE_PAUSE_S = 0.1
SO_PEERGROUPS = 59  # <asm-generic/socket.h>; not in the socket module
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 60, 15, 4

SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# accept(2): errors of the one connection that was to be accepted; the next one may be well
PASSING = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    }
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is at the other end of a Unix socket; `groups` holds all groups of that process."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


def prepare(listener: socket.socket) -> None:
    """The listening socket, made here or handed in, gives its connections what spoold promises."""
    listener.setblocking(False)
    set_reset_on_close(listener)
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_keepalive(listener)


def set_keepalive(sock: socket.socket) -> None:
    """A peer that vanished is noticed after about two minutes of silence."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


def bind(address: str | Address, *, backlog: int = BACKLOG) -> list[socket.socket]:
    """Listening sockets on every address that a host and a port stand for, or on none of them.

    A name is looked up, which blocks: call it at start, or in a thread.

    Raises:
        ConfigError: it is no address, or it cannot be bound here.
    """
    if isinstance(address, str):
        address = parse_address(address)
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            "listen on", str(address), cause, "Check the name, or write an address instead."
        ) from error
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, sockaddr in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            prepare(listener)
            listener.bind(sockaddr)
            listener.listen(backlog)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise _not_bound(address, error) from error
    return listeners


def _not_bound(address: Address, error: OSError) -> ConfigError:
    port = address.port
    cause = error.strerror or str(error)
    advice = "Check the address in [listen]."
    if error.errno == errno.EADDRINUSE:
        cause = f"port {port} is taken"
        advice = f"`ss -ltnp sport = :{port}` names the program; stop it, or change the port."
    elif error.errno == errno.EACCES:
        cause = f"port {port} is not allowed"
        advice = "Ports below 1024 need root or CAP_NET_BIND_SERVICE; or choose a higher one."
    elif error.errno == errno.EADDRNOTAVAIL:
        cause = f"this machine has no address {address.host}"
        advice = "`ip address` shows those that it has; 0.0.0.0 and [::] stand for all."
    elif error.errno == errno.EAFNOSUPPORT:
        cause = "this machine does not speak this kind of address"
        advice = "Leave the address out, or use 0.0.0.0."
    return ConfigError("listen on", str(address), cause, advice)


def bind_unix(
    path: Path, *, mode: int = 0o660, group_id: int | None = None, backlog: int = 128
) -> socket.socket:
    """A listening Unix socket at `path`, of any length, with `mode` from its first moment on.

    A socket that nobody answers is removed first. Whoever binds holds the lock of the data
    directory, so no second daemon is between the question and the removal.

    Raises:
        ConfigError: somebody answers there, something else lies there, or it cannot be bound.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with unix_name(path) as name:
            _remove_stale(path, name)
            prepare(listener)
            os.fchmod(listener.fileno(), mode)  # bind(2) then makes the file with no more than this
            listener.bind(name)
            if group_id not in (None, os.stat(path).st_gid):  # a hardened service may not give
                os.chown(path, -1, group_id)
            os.chmod(path, mode)
            listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise ConfigError(
            "make the control socket",
            str(path),
            error.strerror,
            "Its directory must exist and be writable; --control and `[node] data_dir` choose it.",
        ) from error
    except ConfigError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path, name: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(
            "make the control socket", str(path), "a file lies there", "Move it, or use --control."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(name)
    if answer in (0, errno.EAGAIN, errno.EINPROGRESS):  # EAGAIN: its backlog is full
        raise ConfigError(
            "make the control socket",
            str(path),
            "a daemon answers there",
            "Stop it first, or give this one another data directory.",
        )
    if answer != errno.ECONNREFUSED:
        raise OSError(answer, os.strerror(answer))
    os.unlink(path)


def peer_credentials(sock: socket.socket) -> Credentials:
    """Who connected this Unix socket, as the kernel saw it at that moment (SO_PEERCRED).

    Raises:
        OSError: this is no Unix socket.
    """
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("iII", raw)
    groups = {gid}
    # ERANGE: over 256 groups, more than Python fetches; then the first group alone counts
    with contextlib.suppress(OSError):
        listed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)
        groups.update(struct.unpack(f"{len(listed) // 4}I", listed))
    return Credentials(pid, uid, gid, frozenset(groups))


async def accept_loop(
    listener: socket.socket,
    handle: Callable[[socket.socket, Any], None],
    *,
    on_shortage: Callable[[OSError], None] | None = None,
) -> None:
    """Hands every connection to `handle` until it is cancelled.

    `handle` gets a non-blocking socket, its own from now on, and the peer's address; it starts a
    task or closes the socket, and does not wait. After a burst the other tasks run. While the
    machine is short of descriptors or memory the loop pauses, and says so once per shortage.

    Raises:
        trio.ClosedResourceError: the listening socket was closed.
    """
    # As `listener.accept` does it, which looks up two enumerations for each connection.
    kind = (int(listener.family), int(listener.type), listener.proto)
    burst = 0
    is_short = False
    while True:
        if burst >= ACCEPT_BURST:
            burst = 0
            await checkpoint()
        try:
            descriptor, address = listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            burst = 0
            await wait_readable(listener)
            continue
        except OSError as error:
            if listener.fileno() < 0:
                raise trio.ClosedResourceError("the listening socket was closed") from error
            if error.errno in SHORTAGE:
                if on_shortage is not None and not is_short:
                    on_shortage(error)
                is_short = True
                await trio.sleep(SHORTAGE_PAUSE_S)
            elif error.errno in PASSING:
                burst += 1
            else:
                raise
            continue
        is_short = False
        burst += 1
        connection = socket.socket(*kind, descriptor)
        connection.setblocking(False)
        handle(connection, address)
