"""Connections without async, for programs that live for one of them: clear, TLS or local.

In: a host and a port, or a path. Out: a `BlockingStream` that sends and receives at the same time,
in turns with a time limit each. Nothing here is slower to load than the sockets themselves.

`check` is called at least every `CHECK_S` while something is waited for; what it raises ends that.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spoold.net.unix import connect_unix

CHECK_S = 0.2
RECEIVE_BYTES = 64 * 1024

Check = Callable[[], None]


class BlockingStream:
    """A connected socket, over TLS if it is an `ssl.SSLSocket`. One thread uses it."""

    def __init__(self, sock: socket.socket, check: Check) -> None:
        self._socket = sock
        self._check = check
        self._poll = select.poll()
        self._reading_wants_room = False
        self._sending_wants_data = False

    def exchange(self, data: bytes | memoryview, timeout_s: float) -> tuple[int, bytes | None]:
        """Send some of `data`, or receive something, or both; how much, and what.

        Nothing of either came about within `timeout_s` where it is (0, None). Received b"" is the
        end.

        Raises:
            OSError: the connection broke; `ssl.SSLError` when the peer says why.
        """
        ends_at = time.monotonic() + timeout_s
        while True:
            received = self._receive()
            sent = self._send(data) if data else 0
            if sent or received is not None:
                return sent, received
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return 0, None
            wants_room = bool(data) and not self._sending_wants_data
            self._wait(wants_room or self._reading_wants_room, left_s)

    def handshake(self, timeout_s: float) -> None:
        """Raises:
        OSError: one side refused the other, or it took too long.
        """
        assert isinstance(self._socket, ssl.SSLSocket)
        ends_at = time.monotonic() + timeout_s
        while True:
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                wants_room = False
            except ssl.SSLWantWriteError:
                wants_room = True
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(errno.ETIMEDOUT, f"no handshake within {timeout_s:.3g} s")
            self._wait(wants_room, left_s)

    def _receive(self) -> bytes | None:
        self._reading_wants_room = False
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._reading_wants_room = True
            return None

    def _send(self, data: bytes | memoryview) -> int:
        self._sending_wants_data = False
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0
        except ssl.SSLWantReadError:
            self._sending_wants_data = True
            return 0

    def _wait(self, wants_room: bool, timeout_s: float) -> None:
        wait_for(self._poll, self._socket, wants_room, timeout_s, self._check)

    def close(self) -> None:
        """The peer sees an end. Over TLS too, if it takes no waiting."""
        if isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.unwrap()
            except (OSError, ValueError):
                pass  # its answer is not waited for; or there was no handshake
        self._socket.close()


def wait_for(
    poll: select.poll, sock: socket.socket, wants_room: bool, timeout_s: float, check: Check
) -> None:
    """Until there is something to read (or room to write), `CHECK_S` at most."""
    check()
    poll.register(sock, select.POLLIN | (select.POLLOUT if wants_room else 0))
    poll.poll(max(1.0, 1000 * min(timeout_s, CHECK_S)))
    check()


def connect(
    host: str, port: int, context: ssl.SSLContext | None, *, timeout_s: float, check: Check
) -> BlockingStream:
    """A connected stream; with a `context` its handshake is done, and the server is `host`.

    Raises:
        OSError: refused, unreachable, no such host, too late; `ssl.SSLError` when one side refused
            the other.
    """
    ends_at = time.monotonic() + timeout_s
    targets = _look_up(host, port, ends_at, check)
    failed: OSError | None = None
    for number, (family, address) in enumerate(targets):
        left_s = max(0.05, ends_at - time.monotonic())
        try:
            # No address takes the time of those behind it.
            sock = _connect_one(family, address, left_s / (len(targets) - number), check)
        except OSError as error:
            failed = failed or error
            continue
        if context is None:
            return BlockingStream(sock, check)
        return _secured(sock, host, context, max(0.05, ends_at - time.monotonic()), check)
    assert failed is not None
    raise failed


def _secured(
    sock: socket.socket, host: str, context: ssl.SSLContext, timeout_s: float, check: Check
) -> BlockingStream:
    try:
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    stream = BlockingStream(secured, check)
    try:
        stream.handshake(timeout_s)
    except BaseException:
        secured.close()
        raise
    return stream


def _connect_one(
    family: socket.AddressFamily, address: Any, timeout_s: float, check: Check
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = sock.connect_ex(address)
        if answer == errno.EINPROGRESS:
            answer = _connected(sock, timeout_s, check)
        if answer:
            raise OSError(answer, os.strerror(answer))
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(sock: socket.socket, timeout_s: float, check: Check) -> int:
    """The error of a connect that is under way; 0 for none."""
    poll = select.poll()
    ends_at = time.monotonic() + timeout_s
    while (left_s := ends_at - time.monotonic()) > 0:
        check()
        poll.register(sock, select.POLLOUT)
        if poll.poll(max(1.0, 1000 * min(left_s, CHECK_S))):
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.ETIMEDOUT


def _look_up(
    host: str, port: int, ends_at: float, check: Check
) -> list[tuple[socket.AddressFamily, Any]]:
    """Where `host` is. A name is looked up in a thread that nobody waits for after the deadline.

    Raises:
        OSError: `socket.gaierror`, no such host; EINVAL, that cannot be a name; TimeoutError.
    """
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    except socket.gaierror:
        found = _named(host, port, ends_at, check)
    except (UnicodeError, ValueError) as error:
        raise OSError(errno.EINVAL, f"{host!r} is no host name") from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _named(host: str, port: int, ends_at: float, check: Check) -> list[Any]:
    import threading

    answers: list[list[Any] | OSError] = []
    is_done = threading.Event()

    def look_up() -> None:
        try:
            answers.append(
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICSERV)
            )
        except OSError as error:
            answers.append(error)
        except (UnicodeError, ValueError):
            answers.append(OSError(errno.EINVAL, f"{host!r} is no host name"))
        is_done.set()

    threading.Thread(target=look_up, daemon=True).start()
    while not is_done.wait(max(0.0, min(CHECK_S, ends_at - time.monotonic()))):
        check()
        if time.monotonic() >= ends_at:
            raise TimeoutError(errno.ETIMEDOUT, f"nobody says in time where {host} is")
    (answer,) = answers
    if isinstance(answer, OSError):
        raise answer
    return answer


def connect_local(path: Path, *, timeout_s: float, check: Check) -> BlockingStream:
    """A stream to the Unix socket at `path`.

    Raises:
        OSError: nobody is there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        connect_unix(sock, path)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return BlockingStream(sock, check)
