"""Addresses, listening sockets, the control socket and the accept loop."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing

from spoold.model.errors import ConfigError
from spoold.net import listen, tcp
from spoold.net.address import Address
from support.ports import own_port


def test_a_taken_port_is_named(listener: socket.socket) -> None:
    """The error says which port is taken and how to find out by whom."""
    port = listener.getsockname()[1]
    with pytest.raises(ConfigError, match=f"port {port} is taken") as caught:
        listen.bind(f"127.0.0.1:{port}")
    assert f"sport = :{port}" in caught.value.advice


def test_a_foreign_address_is_refused() -> None:
    """An address of another machine cannot be bound."""
    with pytest.raises(ConfigError, match=r"no address 192\.0\.2\.1"):
        listen.bind("192.0.2.1:0")


def test_a_reserved_port_needs_a_right() -> None:
    """The advice for a port below 1024 speaks of the right that is missing."""
    refusal = listen._not_bound(Address("0.0.0.0", 515), PermissionError(errno.EACCES, "no"))
    assert "port 515 is not allowed" in str(refusal)
    assert "CAP_NET_BIND_SERVICE" in refusal.advice


def test_an_unknown_name_is_refused() -> None:
    """A name that does not resolve is a configuration error, not a crash."""
    with pytest.raises(ConfigError, match="listen on"):
        listen.bind("no-such-host.invalid:0")


def test_a_port_is_free_again_at_once(listener: socket.socket) -> None:
    """A restart does not wait for connections of the last run that linger in TIME_WAIT."""
    address = listener.getsockname()
    client = socket.create_connection(address)
    connection, _ = listener.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp.ORDERLY)
    connection.close()
    client.close()
    listener.close()
    for again in listen.bind(f"127.0.0.1:{address[1]}"):
        again.close()


def test_ipv4_and_ipv6_share_a_port() -> None:
    """An IPv6 listener keeps its hands off IPv4, so both can be configured."""
    with own_port() as port:
        try:
            [six] = listen.bind(f"[::1]:{port}")
        except ConfigError:
            pytest.skip("no IPv6 here")
        with six:
            assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            [four] = listen.bind(f"127.0.0.1:{port}")
            four.close()


async def test_accepting_a_crowd(listener: socket.socket) -> None:
    """Everybody is accepted, non-blocking, with the address that connected."""
    accepted: list[tuple[socket.socket, object]] = []
    clients = [socket.create_connection(listener.getsockname()) for _ in range(200)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            listen.accept_loop, listener, lambda sock, address: accepted.append((sock, address))
        )
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert {address for _, address in accepted} == {c.getsockname() for c in clients}
    assert not any(sock.getblocking() for sock, _ in accepted)
    for sock in [*clients, *(sock for sock, _ in accepted)]:
        sock.close()


async def test_a_crowd_does_not_starve_the_others(listener: socket.socket) -> None:
    """After a burst of 64 the other tasks have a turn."""
    clients = [socket.create_connection(listener.getsockname()) for _ in range(200)]
    seen: list[int] = []
    accepted: list[socket.socket] = []

    async def watch() -> None:
        while len(accepted) < 200:
            seen.append(len(accepted))
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(listen.accept_loop, listener, lambda sock, _: accepted.append(sock))
    turns = [0, *seen, 200]  # two bursts at most between turns: the order within a tick varies
    assert max(after - before for before, after in pairwise(turns)) <= 128
    for sock in [*clients, *accepted]:
        sock.close()


async def test_a_shortage_of_descriptors_passes(listener: socket.socket) -> None:
    """Without descriptors the loop waits, says so once, and goes on when there are some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.create_connection(listener.getsockname(), timeout=30)
    shortages: list[OSError] = []
    accepted: list[socket.socket] = []

    def note(error: OSError) -> None:
        shortages.append(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def handle(sock: socket.socket, _: object) -> None:
        accepted.append(sock)
        nursery.cancel_scope.cancel()

    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: listen.accept_loop(listener, handle, on_shortage=note))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [error.errno for error in shortages] == [errno.EMFILE]
    assert len(accepted) == 1
    accepted[0].close()
    client.close()


async def test_a_closed_listener_ends_the_loop(listener: socket.socket) -> None:
    """Closing the listening socket is an error that can be told from others."""

    async def run() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listen.accept_loop(listener, lambda sock, _: sock.close())
        ended.set()

    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(listener)
        listener.close()
    assert ended.is_set()


def connect_unix(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    with tcp.unix_name(path) as name:
        client.connect(name)
    return client


@pytest.mark.parametrize("depth", [0, 4])
def test_a_control_socket_of_any_length(tmp_path: Path, depth: int) -> None:
    """A path longer than a socket address holds works for both ends, with the right mode."""
    directory = tmp_path.joinpath(*["d" * 60] * depth)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "control"
    assert (len(str(path)) > 108) == bool(depth)
    with listen.bind_unix(path) as listener:
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o660
        with connect_unix(path) as client:
            connection, _ = listener.accept()
            connection.close()
            assert client.recv(1) == b""


def test_a_control_socket_is_never_open_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mode is tight from the moment that it is there, whatever the umask."""
    modes: list[int] = []

    def watched(path: Path, mode: int) -> None:
        modes.extend([stat.S_IMODE(os.stat(path).st_mode), mode])

    monkeypatch.setattr(os, "chmod", watched)
    before = os.umask(0)
    try:
        listen.bind_unix(tmp_path / "control").close()
    finally:
        os.umask(before)
    assert modes == [0o660, 0o660]


def test_a_stale_control_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed daemon left behind is in nobody's way."""
    path = tmp_path / "control"
    listen.bind_unix(path).close()
    assert path.exists()
    with listen.bind_unix(path), connect_unix(path):
        pass


def test_a_control_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    """While a daemon answers there, a second one is refused and the first stays reachable."""
    path = tmp_path / "control"
    with listen.bind_unix(path):
        with pytest.raises(ConfigError, match="a daemon answers"):
            listen.bind_unix(path)
        connect_unix(path).close()


def test_a_file_is_never_removed_for_a_socket(tmp_path: Path) -> None:
    """Something else at that path is left alone."""
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="a file lies there"):
        listen.bind_unix(path)
    assert path.read_text() == "precious"


def test_a_control_socket_needs_its_directory(tmp_path: Path) -> None:
    """A missing directory is a configuration error with advice."""
    with pytest.raises(ConfigError, match="directory must exist"):
        listen.bind_unix(tmp_path / "missing" / "control")


def test_credentials_are_those_of_the_peer() -> None:
    """The kernel names process, user and all groups at the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = listen.peer_credentials(ours)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert found.groups == {os.getgid(), *os.getgroups()}
