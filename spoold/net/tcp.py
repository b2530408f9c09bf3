"""Sockets as streams: TCP and Unix, try first and wait only when the kernel says so.

In: connected `socket.socket`s. Out: `SocketStream`s. A socket made here or accepted by `listen`
carries SO_LINGER {1,0}: whoever dies, forgets or aborts sends a reset; only `finish` and `send_eof`
send a FIN (RFC 9293, 3.10.4 and 3.10.5). A Unix socket has no reset: its peer sees an end, or
ECONNRESET when bytes were left unread.

Fairness: a call that succeeds at once does not yield, but a stream lets the other tasks run after
each MiB, or 16 calls. Cancelling takes effect there, or at a wait; it never loses received bytes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

YIELD_BYTES = 1 << 20
CALL_BYTES = YIELD_BYTES // 16  # the least that a call counts for
SENDFILE_BYTES = 1 << 20
DRAIN_S = 1.0
DRAIN_BYTES = 8 << 20
RESET = struct.pack("ii", 1, 0)
ORDERLY = struct.pack("ii", 0, 0)
UNIX_NAME_BYTES = 107


def set_reset_on_close(sock: socket.socket) -> None:
    """From now on closing the socket in any way, a crash among them, is a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def peer_name(address: Any) -> str:
    """What `Stream.peer` says for an address as `accept` and `getpeername` return it."""
    if not isinstance(address, tuple):
        return "unix"
    host, port = address[0], address[1]
    if ":" not in host:
        return f"{host}:{port}"
    if host.startswith("::ffff:") and "." in host:  # a dual-stack socket handed in from outside
        return f"{host[7:]}:{port}"
    return f"[{host}]:{port}"


@contextlib.contextmanager
def unix_name(path: Path) -> Iterator[str]:
    """A name for `path` that fits into sockaddr_un; good while the context is open.

    Raises:
        OSError: the name is too long and its directory cannot be opened.
    """
    if len(os.fsencode(path)) <= UNIX_NAME_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def queued_bytes(sock: socket.socket) -> int:
    """How many bytes of the kernel's send queue are not acknowledged (SIOCOUTQ, tcp(7))."""
    answer = fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])


def broken(error: OSError) -> trio.BrokenResourceError:
    """The error of the stream contract for an error of the kernel."""
    return trio.BrokenResourceError(error.strerror or str(error))


class SocketStream:
    """The `Stream` of one connected socket, which it owns from now on.

    `bytes_sent` counts what the kernel has taken, also when a send broke or was cancelled. For what
    the peer has acknowledged see `unsent_bytes`. `socket` is for asking the kernel, not for use.
    """

    __slots__ = ("_budget", "_closed", "_has_waited", "_peer_ended", "bytes_sent", "peer", "socket")

    def __init__(self, sock: socket.socket, peer: str | None = None) -> None:
        if sock.getblocking():  # asking is free, setting is a system call
            sock.setblocking(False)
        self.socket = sock
        self._closed = False
        self._peer_ended = False
        self._has_waited = False  # Trio knows the descriptor, and is told when it closes
        self._budget = YIELD_BYTES
        self.bytes_sent = 0
        if peer is None:
            try:
                peer = peer_name(sock.getpeername())
            except OSError:  # reset already; the first receive will say so
                peer = "unknown"
        self.peer = peer

    async def receive_some(self, bytes_max: int = 65536) -> bytes:
        if bytes_max < 1:
            raise ValueError("bytes_max must be at least 1")
        if self._budget <= 0:
            await self._let_others_run()
        while True:
            self._check_open()
            try:
                data = self.socket.recv(bytes_max)
            except BlockingIOError:
                pass  # who waits for hours keeps no error and its traceback meanwhile
            except OSError as error:
                raise broken(error) from error
            else:
                count = len(data)
                self._budget -= count if count > CALL_BYTES else CALL_BYTES
                if not count:
                    self._peer_ended = True
                return data
            self._note_wait()
            await wait_readable(self.socket)

    async def receive_into(self, buffer: memoryview) -> int:
        if not buffer:
            raise ValueError("the buffer must have room")
        if self._budget <= 0:
            await self._let_others_run()
        while True:
            self._check_open()
            try:
                count = self.socket.recv_into(buffer)
            except BlockingIOError:
                pass
            except OSError as error:
                raise broken(error) from error
            else:
                self._budget -= count if count > CALL_BYTES else CALL_BYTES
                if not count:
                    self._peer_ended = True
                return count
            self._note_wait()
            await wait_readable(self.socket)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """The kernel has taken all of `data`."""
        self._check_open()
        with memoryview(data) as plain, plain.cast("B") as view:
            offset = 0
            while offset < len(view):
                if self._budget <= 0:
                    await self._let_others_run()
                    self._check_open()
                try:
                    sent = self.socket.send(view[offset:])
                except BlockingIOError:
                    self._note_wait()
                    await wait_writable(self.socket)
                    self._check_open()
                except OSError as error:
                    raise broken(error) from error
                else:
                    offset += sent
                    self.bytes_sent += sent
                    self._budget -= sent if sent > CALL_BYTES else CALL_BYTES

    async def sendfile(self, descriptor: int, offset: int, count: int) -> int:
        """The kernel has taken `count` bytes of the file from `offset`, or all up to its end.

        Returns how many. A cold file blocks on the disk: read it ahead in a thread.

        Raises:
            OSError: the file could not be read (EIO); the connection stands.
        """
        self._check_open()
        done = 0
        while done < count:
            if self._budget <= 0:
                await self._let_others_run()
                self._check_open()
            try:
                sent = os.sendfile(
                    self.socket.fileno(),
                    descriptor,
                    offset + done,
                    min(count - done, SENDFILE_BYTES),
                )
            except BlockingIOError:
                self._note_wait()
                await wait_writable(self.socket)
                self._check_open()
            except OSError as error:
                if error.errno in (errno.EIO, errno.EINVAL, errno.EBADF, errno.EOVERFLOW):
                    raise
                raise broken(error) from error
            else:
                if not sent:
                    break
                done += sent
                self.bytes_sent += sent
                self._budget -= sent if sent > CALL_BYTES else CALL_BYTES
        return done

    def unsent_bytes(self) -> int:
        """How many sent bytes the peer's kernel has not acknowledged.

        A FIN that is on its way counts as one byte. The answer stays good after a reset: it is what
        was lost. Over a Unix socket it is a measure of memory, and 0 still means that all was read.
        """
        self._check_open()
        return queued_bytes(self.socket)

    async def send_eof(self) -> None:
        self._check_open()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise broken(error) from error

    def abort(self) -> None:
        if self.socket.fileno() < 0:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            set_reset_on_close(self.socket)
        self._close()

    async def finish(self) -> None:
        """The peer will see an orderly end, also when this call is cancelled.

        What the peer still sends is thrown away for up to `DRAIN_S`: bytes that are unread when a
        socket closes turn the FIN, and an answer before it, into a reset.

        Raises:
            trio.BrokenResourceError: the connection was broken before; it is closed.
        """
        self._check_open()
        self._closed = True
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ORDERLY)
            if not self._peer_ended:  # else nothing is unread, and closing sends the FIN
                self._tell_trio()
                self.socket.shutdown(socket.SHUT_WR)
                self._has_waited = True
                await drain(self.socket)
        except OSError as error:
            raise broken(error) from error
        finally:
            self._close()

    def detach(self) -> socket.socket:
        """The socket, which is the caller's again; this stream counts as closed."""
        self._check_open()
        self._closed = True
        self._tell_trio()
        return socket.socket(fileno=self.socket.detach())

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed here")

    def _close(self) -> None:
        if self.socket.fileno() >= 0:
            self._tell_trio()
            self.socket.close()

    def _tell_trio(self) -> None:
        if self._has_waited:
            notify_closing(self.socket)

    async def _let_others_run(self) -> None:
        self._budget = YIELD_BYTES
        await checkpoint()

    def _note_wait(self) -> None:
        """A wait begins: Trio will know the descriptor, and the others run meanwhile."""
        self._budget = YIELD_BYTES
        self._has_waited = True


async def drain(sock: socket.socket) -> None:
    """The peer has ended its half, or `DRAIN_S` or `DRAIN_BYTES` are over; its bytes are gone."""
    scrap = bytearray(65536)
    left = DRAIN_BYTES
    with trio.move_on_after(DRAIN_S):
        while left > 0:
            try:
                count = sock.recv_into(scrap)
            except BlockingIOError:
                await wait_readable(sock)
            except ConnectionError:  # it went away; our FIN had been sent before
                return
            else:
                if not count:
                    return
                left -= count
