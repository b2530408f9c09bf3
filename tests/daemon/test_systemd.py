"""systemd: readiness over real datagrams, and sockets handed over by descriptor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoold.daemon import systemd


@pytest.mark.parametrize("abstract", [False, True])
def test_states_arrive_as_one_datagram(tmp_path: Path, abstract: bool) -> None:
    """Both kinds of $NOTIFY_SOCKET get the states, a line each."""
    name = f"\0spoold-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(30)
        receiver.bind(name)
        environ = {"NOTIFY_SOCKET": name.replace("\0", "@")}
        assert systemd.notify(environ, systemd.READY, systemd.status("up\nand running"))
        assert receiver.recv(4096) == b"READY=1\nSTATUS=up and running"
        assert systemd.notify(environ, systemd.reloading())
        reload = receiver.recv(4096).decode().split("\n")
        assert reload[0] == "RELOADING=1"
        assert reload[1].removeprefix("MONOTONIC_USEC=").isdecimal()


def test_without_systemd_nobody_is_told(tmp_path: Path) -> None:
    """No variable, no listener, or no path: false, and nothing raised."""
    assert not systemd.notify({}, systemd.READY)
    assert not systemd.notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}, systemd.READY)
    assert not systemd.notify({"NOTIFY_SOCKET": "vsock:2:1"}, systemd.READY)


def test_watchdog_interval_is_half_of_what_is_allowed() -> None:
    """The interval is for this process alone."""
    assert systemd.watchdog_interval_s({"WATCHDOG_USEC": "30000000"}) == 15.0
    own = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert systemd.watchdog_interval_s(own) == 15.0
    assert systemd.watchdog_interval_s({**own, "WATCHDOG_PID": "1"}) is None
    assert systemd.watchdog_interval_s({"WATCHDOG_USEC": "0"}) is None
    assert systemd.watchdog_interval_s({}) is None


@pytest.fixture
def handed() -> Iterator[tuple[int, list[socket.socket]]]:
    """Three descriptors in a row, as systemd lays them, and the sockets behind them."""
    first = 200
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    for index, one in enumerate(sockets):
        os.dup2(one.fileno(), first + index)
    yield first, sockets
    for one in sockets:
        one.close()


def test_sockets_come_by_name_and_are_kept_from_children(
    handed: tuple[int, list[socket.socket]],
) -> None:
    """Names group the sockets; the variables are gone; exec does not inherit them."""
    first, sockets = handed
    environ = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": "3",
        "LISTEN_FDNAMES": "lpd:clear:lpd",
        "HOME": "/",
    }
    found = systemd.take_sockets(environ, first)
    try:
        ports = {name: [one.getsockname()[1] for one in some] for name, some in found.items()}
        expected = [one.getsockname()[1] for one in sockets]
        assert ports == {"lpd": [expected[0], expected[2]], "clear": [expected[1]]}
        assert not any(one.get_inheritable() for some in found.values() for one in some)
        assert environ == {"HOME": "/"}
    finally:
        for some in found.values():
            for one in some:
                one.close()


def test_sockets_of_another_process_are_left_alone() -> None:
    """With another pid, or no variables, there is nothing to take."""
    assert systemd.take_sockets({}) == {}
    assert systemd.take_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == {}


def test_sockets_have_names_before_they_are_taken() -> None:
    """What is handed over is known when the configuration is read."""
    own = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "lpd::extra"}
    assert systemd.socket_names(own) == ["lpd", "unknown", "extra"]
    assert systemd.socket_names({**own, "LISTEN_FDS": "1"}) == ["lpd"]
    assert systemd.socket_names({**own, "LISTEN_PID": "1"}) == []
    assert systemd.socket_names({}) == []


def test_more_time_is_asked_for_in_microseconds() -> None:
    """A drain that is longer than systemd would wait is told to it."""
    assert systemd.more_time(50.5) == "EXTEND_TIMEOUT_USEC=50500000"
