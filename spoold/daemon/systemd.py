"""What systemd asks of a daemon: readiness (sd_notify) and sockets it hands over (LISTEN_FDS).

The environment enters; datagrams to $NOTIFY_SOCKET and sockets by name leave. Without systemd
every function does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

FIRST_FD = 3
READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def reloading() -> str:
    """The state to send when a reload begins; `READY` follows when it is done."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def status(text: str) -> str:
    """The state that `systemctl status` shows; one line."""
    return f"STATUS={' '.join(text.split())}"


def notify(environ: Mapping[str, str], *states: str) -> bool:
    """Whether systemd was told `states`; it is never waited for."""
    where = environ.get("NOTIFY_SOCKET", "")
    if where[:1] not in ("/", "@"):
        return False
    name = "\0" + where[1:] if where[0] == "@" else where
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.sendto("\n".join(states).encode(), name)
        except OSError:
            return False
    return True


def more_time(seconds: float) -> str:
    """The state that asks to wait at least so long for the end of a start, reload or stop."""
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}"


def watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """How often to send `WATCHDOG`: half of what systemd allows, or None when it does not watch."""
    allowed_us, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not allowed_us.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return int(allowed_us) / 2_000_000 or None


def take_sockets(
    environ: MutableMapping[str, str], first_fd: int = FIRST_FD
) -> dict[str, list[socket.socket]]:
    """The sockets that systemd hands over, by `FileDescriptorName=`, not inherited by children.

    The variables are removed, so that no child takes them for its own.
    """
    found: dict[str, list[socket.socket]] = {}
    for index, name in enumerate(socket_names(environ)):
        taken = socket.socket(fileno=first_fd + index)
        taken.set_inheritable(False)
        found.setdefault(name, []).append(taken)
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(variable, None)
    return found


def socket_names(environ: Mapping[str, str]) -> list[str]:
    """The `FileDescriptorName=` of each socket that systemd hands over to this process."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID", "") != str(os.getpid()) or not count.isdecimal():
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return [name or "unknown" for name in names[: int(count)]]
