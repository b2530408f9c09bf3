"""TLS streams: bytes, ends, resets, half-closes, deadlines."""

from __future__ import annotations

import os
import socket
import ssl
import threading

import pytest
import trio
import trio.testing

from spoold.net import tcp
from spoold.net.tls import TlsStream
from support.tls import VERSIONS, Client, accepted, arrived, clear_context, pair, read_all


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 16_384, 70_001, 1_000_003])
async def test_a_mebibyte_in_odd_chunks(version: ssl.TLSVersion, size: int) -> None:
    """Every byte arrives once and in order, both ways at a time, and ends with close_notify."""
    data = os.urandom(1 << 20) if size > 1 else os.urandom(2000)

    async def send(stream: TlsStream) -> None:
        for offset in range(0, len(data), size):
            await stream.send_all(memoryview(data)[offset : offset + size])
        await stream.send_eof()

    async def receive(stream: TlsStream) -> None:
        received.append(await read_all(stream))

    received: list[bytes] = []
    async with pair(version) as (server, client), trio.open_nursery() as nursery:
        for stream in (server, client):
            nursery.start_soon(send, stream)
            nursery.start_soon(receive, stream)
    assert received == [data, data]
    assert server.bytes_sent == len(data)


async def test_many_records_arrive_in_one_call() -> None:
    """A large buffer takes all the records that are there, in one turn of the loop."""
    async with pair() as (server, client):
        for _ in range(3):
            await client.send_all(bytes(16_384))
        await arrived(client)
        buffer = memoryview(bytearray(1 << 20))
        assert await server.receive_into(buffer) == 3 * 16_384


@pytest.mark.parametrize("version", VERSIONS)
async def test_finish_is_close_notify_and_fin(version: ssl.TLSVersion) -> None:
    """A plain TLS client reads the answer and a clean end, as an acknowledgement is."""

    def client(sock: socket.socket) -> None:
        with (
            Client(version=version)
            .context()
            .wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as wrapped
        ):
            heard.extend([wrapped.recv(100), wrapped.recv(100)])
            wrapped.setblocking(True)
            heard.append(wrapped.unwrap().recv(100))

    heard: list[bytes] = []
    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        await stream.send_all(b"accepted")
        await stream.finish()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
    assert heard == [b"accepted", b"", b""]


async def test_abort_is_a_reset() -> None:
    """Without finish a TLS client never sees an end, clean or not."""

    def client(sock: socket.socket) -> None:
        only_12 = Client(version=ssl.TLSVersion.TLSv1_2).context()  # no tickets come later
        with only_12.wrap_socket(sock, server_hostname="localhost") as wrapped:
            ready.set()
            # below TLS: Python's own receive takes a reset for a ragged end
            with pytest.raises(ConnectionResetError):
                socket.socket.recv(wrapped, 100)

    ready = threading.Event()
    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        await trio.to_thread.run_sync(ready.wait)
        stream.abort()
        stream.abort()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_fin_without_close_notify_is_a_truncation(version: ssl.TLSVersion) -> None:
    """What came is delivered; then the stream is broken, and stays so."""

    def client(sock: socket.socket) -> None:
        wrapped = Client(version=version).context().wrap_socket(sock, server_hostname="localhost")
        wrapped.sendall(b"half a job")
        socket.socket(fileno=wrapped.detach()).close()

    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        buffer = memoryview(bytearray(1000))
        assert await stream.receive_into(buffer) == 10
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match=r"without close_notify|Broken pipe"):
                await stream.receive_into(buffer)
        with pytest.raises(trio.BrokenResourceError, match=r"without close_notify|Broken pipe"):
            await stream.receive_some()


async def test_a_clean_end_is_no_truncation() -> None:
    """After the client's close_notify the end is an end, and our answer still gets through."""

    def client(sock: socket.socket) -> None:
        wrapped = Client().context().wrap_socket(sock, server_hostname="localhost")
        wrapped.sendall(b"a job")
        wrapped.unwrap().close()

    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        assert await read_all(stream) == b"a job"
        assert await stream.receive_some() == b""
        await stream.finish()


@pytest.mark.parametrize("version", VERSIONS)
async def test_half_close_keeps_what_the_peer_sends(version: ssl.TLSVersion) -> None:
    """Data that was under way, or half read, when we ended our half is received all the same."""
    async with pair(version) as (server, client):
        await server.send_all(b"half" + b"read")
        assert await client.receive_some(4) == b"half"
        await server.send_all(b" under way")
        await arrived(server)
        await client.send_eof()
        assert await server.receive_some() == b""
        await server.send_all(b" and late")
        await server.send_eof()
        assert await read_all(client) == b"read under way and late"
        with pytest.raises(trio.ClosedResourceError, match="ended before"):
            await client.send_all(b"x")


async def test_half_close_while_another_task_receives() -> None:
    """Ending our half disturbs nobody who waits on the same socket."""
    async with pair() as (server, client), trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await client.receive_some() == b"answer"

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await client.send_eof()
        assert await server.receive_some() == b""
        await server.send_all(b"answer")


async def test_a_send_that_was_cut_off_spoils_the_stream() -> None:
    """After half a record nothing can be sent, and there is no orderly end."""
    async with pair() as (server, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, bytes(64 << 20))
            await trio.testing.wait_all_tasks_blocked()  # nobody reads
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError, match="cut off"):
            await server.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError, match="cut off"):
            await server.finish()
        with pytest.raises(trio.BrokenResourceError):
            await read_all(client)


@pytest.mark.parametrize("how", ["abort", "finish"])
async def test_closing_while_another_task_waits(how: str) -> None:
    """A task that waits for bytes is told that the stream was closed."""
    async with pair() as (server, client):

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await server.receive_some()
            told.append(True)

        told: list[bool] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            if how == "abort":
                server.abort()
            else:
                nursery.start_soon(read_all, client)
                nursery.start_soon(server.finish)
                await trio.testing.wait_all_tasks_blocked()
                client.abort()
        assert told == [True]


async def test_a_silent_client_has_a_deadline() -> None:
    """Whoever connects and says nothing is reset when the time is over."""

    def client(sock: socket.socket) -> None:
        with pytest.raises(ConnectionResetError):
            sock.recv(100)

    async with accepted(clear_context(), client) as stream:
        with pytest.raises(trio.BrokenResourceError, match="no handshake within") as caught:
            await stream.handshake(0.01)
        assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_client_without_tls_is_refused() -> None:
    """A plain request on a TLS port breaks the handshake with a reason, and is closed."""

    def client(sock: socket.socket) -> None:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        heard.append(sock.recv(100))

    heard: list[bytes] = []
    async with accepted(clear_context(), client) as stream:
        with pytest.raises(trio.BrokenResourceError, match="http request"):
            await stream.handshake(5)
    assert heard == [b""]


async def test_a_connection_reset_before_the_handshake() -> None:
    """A client that is gone already is a broken connection, not a crash."""

    def client(sock: socket.socket) -> None:
        tcp.set_reset_on_close(sock)

    async with accepted(clear_context(), client) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.handshake(5)
        assert isinstance(caught.value.__cause__, ConnectionError)
