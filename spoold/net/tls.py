"""TLS on the descriptor: an `ssl.SSLSocket` and Trio's waits (RFC 8446, RFC 5246).

In: connected sockets and the contexts of `context`, which can be had from here as well. Out:
`TlsStream`s. OpenSSL writes to the socket itself, so an alert is out before an error is raised.
An end is a close_notify, both ways; a FIN without it is a truncation and breaks the stream.
A refused handshake closes in order, not by a reset, so that the peer can read the alert.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from spoold.net import tcp
from spoold.net.context import LiveContext, client_context, is_cut, reason_of, server_context

__all__ = ["LiveContext", "TlsStream", "client_context", "reason_of", "server_context"]

SEND_BYTES = 65536  # of one SSL_write, which is all or nothing
CLOSE_NOTIFY_S = 5.0
CROSSING_PAUSE_S = 0.01

# how OpenSSL says that the connection ended; a reset comes as SSLEOFError, too
GONE = (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)


def _broken(error: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(f"TLS: {reason_of(error)}")


class TlsStream:
    """The `Stream` of one TLS connection; it owns the socket from now on.

    `handshake` comes first. `bytes_sent` counts plain bytes whose records the kernel has taken.
    """

    __slots__ = (
        "_budget",
        "_certificate",
        "_closed",
        "_context",
        "_early",
        "_eof_sent",
        "_failure",
        "_peer_ended",
        "_send_is_cut",
        "_server_hostname",
        "_server_side",
        "_socket",
        "_tls",
        "bytes_sent",
        "peer",
    )

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        peer: str | None = None,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock  # an SSLSocket on the same descriptor once the handshake began
        self._tls: ssl.SSLSocket | None = None  # set once the handshake is done
        self._context = context
        self._server_side = server_side
        self._server_hostname = server_hostname
        self._certificate: bytes | None = None
        self._closed = False
        self._peer_ended = False
        self._eof_sent = False
        self._send_is_cut = False
        self._early = b""  # decrypted bytes that no call has fetched yet
        self._failure: OSError | None = None  # what the call after the last bytes will raise
        self._budget = tcp.YIELD_BYTES
        self.bytes_sent = 0
        if peer is None:
            try:
                peer = tcp.peer_name(sock.getpeername())
            except OSError:  # reset already; the handshake will say so
                peer = "unknown"
        self.peer = peer

    async def handshake(self, timeout_s: float) -> None:
        """Both sides have agreed. As a TLS 1.3 client we may still be refused at the first read.

        Raises:
            trio.BrokenResourceError: they have not, and the connection is closed. The message says
                why; `__cause__` is an `ssl.SSLError` (one side refused the other), a
                `ConnectionError` or a `TimeoutError`.
        """
        self._check_open()
        try:
            with trio.fail_after(timeout_s):
                tls = self._wrap()
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        wait = wait_readable
                    except ssl.SSLWantWriteError:
                        wait = wait_writable
                    await wait(tls)
        except trio.TooSlowError:
            self.abort()
            late = TimeoutError(errno.ETIMEDOUT, f"no handshake within {timeout_s:.3g} s")
            raise _broken(late) from late
        except OSError as error:
            if isinstance(error, ssl.SSLError) and not (isinstance(error, GONE) or is_cut(error)):
                # the alert is on its way: an orderly end, or our reset would overtake it
                await self._end_in_order()
                raise _broken(error) from error
            self.abort()
            gone = ConnectionResetError(errno.ECONNRESET, "the peer left during the handshake")
            gone.__cause__ = error
            raise _broken(gone) from gone
        except BaseException:
            self.abort()
            raise
        self._certificate = tls.getpeercert(binary_form=True)
        self._tls = tls

    def peer_certificate_der(self) -> bytes | None:
        """The certificate that the peer showed in the handshake."""
        return self._certificate

    def unsent_bytes(self) -> int:
        """As `SocketStream.unsent_bytes`, in encrypted bytes."""
        self._check_open()
        return tcp.queued_bytes(self._socket)

    async def receive_some(self, bytes_max: int = 65536) -> bytes:
        if bytes_max < 1:
            raise ValueError("bytes_max must be at least 1")
        tls = self._ready()
        if self._budget <= 0:
            await self._let_others_run()
        while True:
            self._check_open()
            if self._early:
                data, self._early = self._early[:bytes_max], self._early[bytes_max:]
                return data
            if self._peer_ended:
                return b""
            try:
                if self._failure is not None:
                    raise self._failure
                data = tls.recv(bytes_max)
            except OSError as error:
                wait = self._settle_receive(error)
            else:
                self._count_received(len(data))
                return data
            if wait is not None:  # without the error, which would stay as long as the wait
                await wait(tls)

    async def receive_into(self, buffer: memoryview) -> int:
        """As many records as came, up to a MiB: one turn of the loop for all of them."""
        if not buffer:
            raise ValueError("the buffer must have room")
        tls = self._ready()
        if self._budget <= 0:
            await self._let_others_run()
        room = min(len(buffer), tcp.YIELD_BYTES)
        while True:
            self._check_open()
            if self._early:
                count = min(room, len(self._early))
                buffer[:count] = self._early[:count]
                self._early = self._early[count:]
                return count
            if self._peer_ended:
                return 0
            total = 0
            wait = None
            try:
                if self._failure is not None:
                    raise self._failure
                while total < room:
                    count = tls.recv_into(buffer[total:room])
                    if not count:
                        self._peer_ended = True
                        break
                    total += count
            except OSError as error:
                if not total:
                    wait = self._settle_receive(error)
                elif not isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
                    self._failure = error
            if total or wait is None:
                self._count_received(total)
                return total
            await wait(tls)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """The kernel has taken the records of all of `data`.

        A send that is cut off by cancelling leaves half a record behind: nothing can be sent after
        it, and `finish` will say that the stream is broken.
        """
        tls = self._ready_to_send()
        with memoryview(data) as plain, plain.cast("B") as view:
            offset = 0
            while offset < len(view):
                if self._budget <= 0:
                    await self._let_others_run()
                    self._check_open()
                part = view[offset : offset + SEND_BYTES]
                self._send_is_cut = True
                while True:
                    try:
                        sent = tls.send(part)
                        break
                    except ssl.SSLWantWriteError:
                        self._budget = tcp.YIELD_BYTES
                        await wait_writable(tls)
                    except ssl.SSLWantReadError:
                        await _wait_across(wait_readable, tls)
                    except OSError as error:
                        raise _broken(error) from error
                    self._check_open()
                self._send_is_cut = False
                offset += sent
                self.bytes_sent += sent
                self._budget -= max(sent, tcp.CALL_BYTES)

    async def send_eof(self) -> None:
        """Our close_notify is out; the peer may go on sending, and is read as before."""
        tls = self._ready_to_send()
        self._eof_sent = True
        await self._send_close_notify(tls)

    def abort(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            tcp.set_reset_on_close(self._socket)
        notify_closing(self._socket)
        self._socket.close()

    async def finish(self) -> None:
        """Our close_notify and a FIN are out; waits `CLOSE_NOTIFY_S` at most for room to send.

        What the peer still sends is thrown away, as in `SocketStream.finish`.

        Raises:
            trio.BrokenResourceError: there was no way to end in order; the peer saw a reset.
        """
        tls = self._ready()
        try:
            if not self._eof_sent:
                self._ready_to_send()
                self._eof_sent = True
                await self._send_close_notify(tls)
        except BaseException:
            self.abort()
            raise
        await self._end_in_order()

    def _wrap(self) -> ssl.SSLSocket:
        """An SSLSocket took over the descriptor.

        Raises:
            OSError: the connection is gone.
        """
        self._socket.getpeername()
        tls = self._context.wrap_socket(
            self._socket,
            server_side=self._server_side,
            server_hostname=self._server_hostname,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._socket = tls
        return tls

    async def _end_in_order(self) -> None:
        """FIN, what still comes is thrown away for a moment, and the descriptor is closed."""
        if self._socket.fileno() < 0:
            return
        self._closed = True
        notify_closing(self._socket)
        plain = socket.socket(fileno=self._socket.detach())
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp.ORDERLY)
            plain.shutdown(socket.SHUT_WR)
            if not self._peer_ended:
                await tcp.drain(plain)
        except OSError:
            pass  # the peer went first; what mattered had been sent
        finally:
            notify_closing(plain)
            plain.close()

    async def _send_close_notify(self, tls: ssl.SSLSocket) -> None:
        self._send_is_cut = True
        try:
            record = self._close_notify_record(tls)
            with trio.fail_after(CLOSE_NOTIFY_S):
                while record:
                    try:
                        record = record[socket.socket.send(tls, record) :]
                    except BlockingIOError:
                        await wait_writable(tls)
                        if tls.fileno() < 0:
                            raise trio.ClosedResourceError("closed meanwhile") from None
        except trio.TooSlowError:
            raise trio.BrokenResourceError("TLS: no room for close_notify") from None
        except OSError as error:
            raise _broken(error) from error
        self._send_is_cut = False

    def _close_notify_record(self, tls: ssl.SSLSocket) -> bytes:
        """The bytes of our close_notify, as OpenSSL made them but did not send them.

        `unwrap` sends it and then at once reads for the peer's; had the peer sent data, OpenSSL
        would give up the connection and that data with it. So for the time of this one call the
        descriptor is a socket pair: the record ends up in it, and there is nothing to read.
        """
        while count := tls.pending():
            self._early += tls.recv(count)
        descriptor = tls.fileno()
        inside, outside = socket.socketpair()
        with inside, outside:
            inside.setblocking(False)
            outside.setblocking(False)
            real = os.dup(descriptor)
            try:
                os.dup2(inside.fileno(), descriptor, inheritable=False)
                tls.unwrap()
                self._peer_ended = True  # else it would have wanted to read
            except ssl.SSLWantReadError:
                pass
            finally:
                os.dup2(real, descriptor, inheritable=False)
                os.close(real)
            return outside.recv(65536)

    def _settle_receive(self, error: OSError) -> Callable[[ssl.SSLSocket], Awaitable[None]] | None:
        """What to wait for before trying again; None: the peer has ended its half in order."""
        if isinstance(error, ssl.SSLWantReadError):
            self._budget = tcp.YIELD_BYTES
            return wait_readable
        if isinstance(error, ssl.SSLWantWriteError):
            return partial(_wait_across, wait_writable)
        if isinstance(error, ssl.SSLZeroReturnError):
            self._peer_ended = True
            return None
        self._failure = error
        raise _broken(error) from error

    def _count_received(self, count: int) -> None:
        self._budget -= max(count, tcp.CALL_BYTES)
        if not count:
            self._peer_ended = True

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed here")

    def _ready(self) -> ssl.SSLSocket:
        self._check_open()
        if self._tls is None:
            raise trio.BrokenResourceError("TLS: no handshake yet")
        return self._tls

    def _ready_to_send(self) -> ssl.SSLSocket:
        tls = self._ready()
        if self._eof_sent:
            raise trio.ClosedResourceError("our half was ended before")
        if self._send_is_cut:
            raise trio.BrokenResourceError("TLS: an earlier send was cut off")
        return tls

    async def _let_others_run(self) -> None:
        self._budget = tcp.YIELD_BYTES
        await checkpoint()


async def _wait_across(wait: Callable[[Any], Any], tls: ssl.SSLSocket) -> None:
    """A receive that wants to write, or a send that wants to read; rare, and so is the clash.

    A peer must not be able to bring two of our tasks to wait for the same thing, which Trio
    forbids: then this one looks again a little later.
    """
    try:
        await wait(tls)
    except trio.BusyResourceError:
        await trio.sleep(CROSSING_PAUSE_S)
