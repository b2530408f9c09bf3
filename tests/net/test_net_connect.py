"""Connecting: deadlines, addresses that take turns, source ports, Unix sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from spoold.net import connect, listen, tcp
from spoold.net.connect import TcpNetwork
from support.tls import Client


async def test_connecting_has_a_deadline_and_clear_errors(listener: socket.socket) -> None:
    """Nobody there, nobody by that name, nobody who answers in time."""
    network = TcpNetwork()
    host, port = listener.getsockname()
    with listener, pytest.raises(TimeoutError, match="no handshake"):
        await network.connect_tls(host, port, Client().context(), timeout_s=0.05)
    with pytest.raises(ConnectionRefusedError):
        await network.connect(host, port, timeout_s=30)
    with pytest.raises(OSError, match="no host name"):
        await network.connect("", port, timeout_s=30)
    with pytest.raises(socket.gaierror):
        await network.connect("no-such-host.invalid", port, timeout_s=30)


async def test_a_connected_stream_carries_what_accepted_ones_do(listener: socket.socket) -> None:
    """Reset on close, no delay, keep-alive; and the name of the peer."""
    host, port = listener.getsockname()
    stream = await TcpNetwork().connect(host, port, timeout_s=30)
    sock = stream.socket
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == tcp.RESET
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert stream.peer == f"127.0.0.1:{port}"
    stream.abort()


async def test_source_ports_are_tried_in_turn(listener: socket.socket) -> None:
    """A connection comes from the first free port of the range; none left is an error."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        base = probe.getsockname()[1]
        ports = range(base, base + 100)  # many linger where thousands of connections were made
        host, port = listener.getsockname()
        network = TcpNetwork()
        first = await network.connect(host, port, timeout_s=30, source_ports=ports)
        assert first.socket.getsockname()[1] in ports[1:]
        with pytest.raises(OSError, match="all in use"):
            await network.connect(host, port, timeout_s=30, source_ports=range(base, base + 1))
        first.abort()


async def test_the_address_that_answers_is_taken(listener: socket.socket) -> None:
    """When the first address refuses, the next is tried at once; when all do, all are named."""
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # it never listens
    refusing = (socket.AF_INET, closed.getsockname())
    with closed, listener:
        answering = (socket.AF_INET, listener.getsockname())
        stream = await connect._connect_first([refusing, answering], None, stagger_s=60)
        assert stream.peer == tcp.peer_name(answering[1])
        stream.abort()
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1:\d+: .*; 127"):
        await connect._connect_first([refusing, answering], None)


def test_families_take_turns() -> None:
    """Addresses of both families are mixed, starting with the resolver's first, each once."""
    six = [(socket.AF_INET6, ("2001:db8::1", 1)), (socket.AF_INET6, ("2001:db8::2", 1))]
    four = [(socket.AF_INET, ("192.0.2.1", 1))]
    mixed = connect._alternate([*six, *four, six[0]])
    assert mixed == [six[0], four[0], six[1]]


async def test_connecting_to_a_unix_socket_of_any_length(tmp_path: Path) -> None:
    """The control socket is reached by its path, however long."""
    folder = tmp_path.joinpath(*["d" * 60] * 3)
    folder.mkdir(parents=True)
    with listen.bind_unix(folder / "control") as listener:
        stream = await connect.connect_unix(folder / "control", timeout_s=30)
        connection, _ = listener.accept()
        assert listen.peer_credentials(connection).pid == os.getpid()
        connection.close()
        assert await stream.receive_some() == b""
        stream.abort()
    with pytest.raises(ConnectionRefusedError):
        await connect.connect_unix(folder / "control", timeout_s=30)
