"""SocketStream on real loopback sockets, seen from plain sockets at the other end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from spoold.net import tcp
from spoold.net.tcp import SocketStream

Pair = tuple[SocketStream, socket.socket]


@pytest.fixture
async def pair(listener: socket.socket) -> AsyncIterator[Pair]:
    """A stream that was accepted, and the plain client socket that connected."""
    client = socket.create_connection(listener.getsockname(), timeout=30)
    connection, address = listener.accept()
    stream = SocketStream(connection, tcp.peer_name(address))
    yield stream, client
    stream.abort()
    client.close()


def unix_pair() -> tuple[SocketStream, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    return SocketStream(ours), theirs


def linger(sock: socket.socket) -> tuple[int, ...]:
    return struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))


async def read_all(stream: SocketStream, bytes_max: int = 65536) -> bytes:
    parts = []
    while part := await stream.receive_some(bytes_max):
        parts.append(part)
    return b"".join(parts)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_accepted_sockets_inherit_what_the_listener_carries(listener: socket.socket) -> None:
    """Linger {1,0}, no delay and keep-alive need no system call after accept."""
    with socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert linger(connection) == (1, 0)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_finish_is_a_fin(pair: Pair) -> None:
    """The peer reads what was sent, and then an orderly end."""
    stream, client = pair
    client.shutdown(socket.SHUT_WR)
    assert await stream.receive_some() == b""
    await stream.send_all(b"accepted")
    await stream.finish()
    assert client.recv(100) == b"accepted"
    assert client.recv(100) == b""


async def test_abort_is_a_reset(pair: Pair) -> None:
    """The peer gets ECONNRESET, never an end; aborting again does nothing."""
    stream, client = pair
    stream.abort()
    stream.abort()
    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_a_forgotten_connection_is_a_reset(listener: socket.socket) -> None:
    """Closing an accepted socket in any other way than by finish is a reset."""
    with socket.create_connection(listener.getsockname(), timeout=30) as client:
        listener.accept()[0].close()
        with pytest.raises(ConnectionResetError):
            client.recv(100)


async def test_finish_throws_away_what_the_peer_still_sends(pair: Pair) -> None:
    """A client that sends all before it reads can do so, and then reads the answer."""
    stream, client = pair

    def send_then_read() -> None:
        client.sendall(bytes(4 << 20))
        while part := client.recv(100):
            heard.append(part)
        client.close()

    heard: list[bytes] = []
    thread = in_thread(send_then_read)
    assert await stream.receive_some()
    await stream.send_all(b"413 too large")
    await stream.finish()
    await trio.to_thread.run_sync(thread.join)
    assert heard == [b"413 too large"]


async def test_finish_delivers_what_the_kernel_still_holds(listener: socket.socket) -> None:
    """A peer that reads slowly gets all that was sent before the end."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(listener.getsockname())
    stream = SocketStream(listener.accept()[0])
    client.shutdown(socket.SHUT_WR)
    assert await stream.receive_some() == b""
    await stream.send_all(bytes(100_000))
    assert stream.unsent_bytes() > 50_000
    await stream.finish()
    count = 0
    while part := client.recv(65536):
        count += len(part)
    assert count == 100_000
    client.close()


async def test_a_cancelled_finish_is_still_a_fin(pair: Pair) -> None:
    """Once finish was called the peer sees an orderly end."""
    stream, client = pair
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.finish()
    assert client.recv(100) == b""
    with pytest.raises(trio.ClosedResourceError):
        await stream.finish()


async def test_finish_reports_a_broken_connection(pair: Pair) -> None:
    """A reset that came before is not passed over, and the socket is closed all the same."""
    stream, client = pair
    tcp.set_reset_on_close(client)
    client.close()
    with pytest.raises(trio.BrokenResourceError):
        await stream.finish()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_send_eof_leaves_the_other_half_open(pair: Pair) -> None:
    """After our end the peer may still answer."""
    stream, client = pair
    await stream.send_eof()
    assert client.recv(10) == b""
    client.sendall(b"late")
    client.shutdown(socket.SHUT_WR)
    assert await read_all(stream) == b"late"


async def test_a_reset_breaks_receiving_and_sending(pair: Pair) -> None:
    """The kernel's errors arrive as the errors of the stream contract."""
    stream, client = pair
    tcp.set_reset_on_close(client)
    client.close()
    with pytest.raises(trio.BrokenResourceError, match="reset by peer"):
        await stream.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_eof()


@pytest.mark.parametrize("how", ["abort", "finish"])
async def test_closing_while_another_task_waits(pair: Pair, how: str) -> None:
    """A task that waits for bytes is told that the stream was closed."""
    stream, client = pair

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        told.append(True)

    told: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        if how == "abort":
            stream.abort()
        else:
            client.shutdown(socket.SHUT_WR)
            await stream.finish()
    assert told == [True]


async def test_closing_while_another_task_sends(pair: Pair) -> None:
    """A task that waits for room is told as well, and what it had sent is known."""
    stream, _ = pair

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(bytes(64 << 20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        stream.abort()
    assert 0 < stream.bytes_sent < 64 << 20


async def test_a_closed_stream_refuses_everything(pair: Pair) -> None:
    """Every method says that the stream was closed here."""
    stream, _ = pair
    stream.abort()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_into(memoryview(bytearray(1)))
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_eof()
    with pytest.raises(trio.ClosedResourceError):
        stream.unsent_bytes()


async def test_a_buffer_without_room_is_not_an_end(pair: Pair) -> None:
    """Asking for no bytes is our own mistake, not an answer of 0."""
    stream, _ = pair
    with pytest.raises(ValueError, match="room"):
        await stream.receive_into(memoryview(b""))
    with pytest.raises(ValueError, match="at least 1"):
        await stream.receive_some(0)


@pytest.mark.parametrize("size", [1, 1460, 65_537, 1_000_003])
async def test_a_mebibyte_in_odd_chunks(pair: Pair, size: int) -> None:
    """Every byte arrives once and in order, both ways, whatever the sizes of the calls."""
    stream, client = pair
    data = os.urandom(1 << 20) if size > 1 else os.urandom(5000)

    def echo() -> None:
        with client:
            while part := client.recv(7919):
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)

    thread = in_thread(echo)

    async def send() -> None:
        for offset in range(0, len(data), size):
            await stream.send_all(memoryview(data)[offset : offset + size])
        await stream.send_eof()

    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        buffer = memoryview(bytearray(size))
        while count := await stream.receive_into(buffer):
            received += buffer[:count]
    await trio.to_thread.run_sync(thread.join)
    assert received == data
    assert stream.bytes_sent == len(data)


async def test_a_busy_stream_lets_the_others_run(pair: Pair) -> None:
    """Sixteen calls that succeed at once are the most in a row."""
    stream, client = pair
    client.sendall(bytes(1000))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await trio.lowlevel.checkpoint()
        seen = turns
        for _ in range(100):
            assert len(await stream.receive_some(1)) == 1
        assert turns - seen >= 5
        nursery.cancel_scope.cancel()


async def test_a_cancelled_receive_loses_nothing(pair: Pair) -> None:
    """Bytes that were there when the task was cancelled are there for the next call."""
    stream, client = pair
    client.sendall(bytes(range(100)))
    got = bytearray()
    for _ in range(100):
        with trio.CancelScope() as scope:
            scope.cancel()
            got += await stream.receive_some(1)
    got += await stream.receive_some()
    assert got == bytes(range(100))


async def test_sendfile_sends_a_part_of_a_file(pair: Pair, tmp_path: Path) -> None:
    """It returns how much it sent, which is less at the end of the file."""
    stream, client = pair
    data = os.urandom(300_000)
    path = tmp_path / "document"
    path.write_bytes(data)
    received = bytearray()

    def read() -> None:
        while part := client.recv(65536):
            received.extend(part)

    thread = in_thread(read)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert await stream.sendfile(descriptor, 1000, 99_000) == 99_000
        assert await stream.sendfile(descriptor, 100_000, 1 << 40) == 200_000
        assert await stream.sendfile(descriptor, 300_000, 1) == 0
    finally:
        os.close(descriptor)
    await stream.send_eof()
    await trio.to_thread.run_sync(thread.join)
    assert received == data[1000:]
    assert stream.bytes_sent == 299_000


async def test_sendfile_tells_the_file_from_the_connection(pair: Pair, tmp_path: Path) -> None:
    """A descriptor that cannot be read is not the peer's fault; a reset is."""
    stream, client = pair
    with pytest.raises(OSError, match="Bad file") as caught:
        await stream.sendfile(10_000, 0, 10)
    assert caught.value.errno == errno.EBADF
    tcp.set_reset_on_close(client)
    client.close()
    (tmp_path / "document").write_bytes(b"x")
    with (tmp_path / "document").open("rb") as file, pytest.raises(trio.BrokenResourceError):
        await stream.sendfile(file.fileno(), 0, 1)


async def test_unsent_bytes_is_what_the_peer_did_not_take(pair: Pair) -> None:
    """It is 0 once the peer's kernel has all, and after a reset it says how much was lost."""
    stream, client = pair
    await stream.send_all(b"x" * 1000)
    with trio.fail_after(30):
        while stream.unsent_bytes():
            await trio.lowlevel.checkpoint()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, bytes(64 << 20))
        with trio.fail_after(30):
            while not stream.unsent_bytes():
                await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
    waiting = stream.unsent_bytes()
    assert 0 < waiting < stream.bytes_sent
    tcp.set_reset_on_close(client)
    client.close()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert stream.unsent_bytes() == waiting


async def test_detach_hands_the_socket_over(pair: Pair) -> None:
    """The socket lives on, and the stream is closed."""
    stream, client = pair
    sock = stream.detach()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    again = SocketStream(sock)
    await again.send_all(b"on")
    assert client.recv(10) == b"on"
    again.abort()


async def test_unix_sockets_are_streams_too() -> None:
    """Bytes, an orderly end, and unread bytes at an abort as a reset."""
    stream, other = unix_pair()
    assert stream.peer == "unix"
    other.sendall(b"hello")
    assert await stream.receive_some() == b"hello"
    await stream.send_all(b"answer")
    assert stream.unsent_bytes() > 0
    assert other.recv(10) == b"answer"
    assert stream.unsent_bytes() == 0
    other.shutdown(socket.SHUT_WR)
    await stream.finish()
    assert other.recv(10) == b""
    other.close()

    stream, other = unix_pair()
    other.sendall(b"unread")
    stream.abort()
    with pytest.raises(ConnectionResetError):
        other.recv(10)
    other.close()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("192.0.2.7", 515), "192.0.2.7:515"),
        (("2001:db8::1", 515, 0, 0), "[2001:db8::1]:515"),
        (("::ffff:192.0.2.7", 515, 0, 0), "192.0.2.7:515"),
        ("", "unix"),
        (b"", "unix"),
    ],
)
def test_names_of_peers(address: object, name: str) -> None:
    """A peer is written as an address is, with brackets where a colon needs them."""
    assert tcp.peer_name(address) == name


async def test_a_stream_on_a_dead_socket_says_so_on_use(listener: socket.socket) -> None:
    """A reset between accept and the first call is an error of that call, not of the start."""
    client = socket.create_connection(listener.getsockname())
    connection, _ = listener.accept()
    tcp.set_reset_on_close(client)
    client.close()
    stream = SocketStream(connection)
    assert stream.peer == "unknown"
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    stream.abort()


CHILD = """
import socket, sys, time
from spoold.net import listen
[listener] = listen.bind("127.0.0.1:0")
print(listener.getsockname()[1], flush=True)
listener.setblocking(True)
connection, _ = listener.accept()
data = connection.recv(100)
assert data == b"a job", data
print("read", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_process_resets_its_connections() -> None:
    """kill -9 between reading and committing is a reset at the client, never an end."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(b"a job")
                client.shutdown(socket.SHUT_WR)
                assert process.stdout.readline() == "read\n"
                process.send_signal(signal.SIGKILL)
                with pytest.raises(ConnectionResetError):
                    client.recv(100)
        finally:
            process.kill()
