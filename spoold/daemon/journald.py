"""Log events to the systemd journal, with their fields (systemd.io/JOURNAL_NATIVE_PROTOCOL).

In: events as structlog has them. Out: entries whose MESSAGE is the line of JSON that would go to
stdout elsewhere, with PRIORITY, SYSLOG_IDENTIFIER, SPOOLD_EVENT and SPOOLD_<KEY> for each plain
value. What journald does not take at once is written to stdout instead.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any, TextIO

IDENTIFIER = "spoold"
SOCKET = "/run/systemd/journal/socket"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
VALUE_BYTES_MAX = 2048
FIELDS_MAX = 32
NAME_MAX = 64  # of a field's name


def is_behind(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether what is written to `stream` goes to the journal: $JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # it is no file, or closed
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


def entry(event: Mapping[str, Any], message: str) -> bytes:
    """One entry; `event` has been made harmless already."""
    lines = [
        _field("MESSAGE", message),
        _field("PRIORITY", str(_priority(event))),
        _field("SYSLOG_IDENTIFIER", IDENTIFIER),
    ]
    for key, value in list(event.items())[:FIELDS_MAX]:
        name = _name(str(key))
        if name and isinstance(value, str | int | float) and key not in ("at", "level"):
            lines.append(_field(f"SPOOLD_{name}", str(value)))
    return b"".join(lines)


def _priority(event: Mapping[str, Any]) -> int:
    return PRIORITIES.get(str(event.get("level")), 6)


def _name(key: str) -> str:
    name = key.upper().replace("-", "_")[:NAME_MAX]
    return name if name.isascii() and name.replace("_", "").isalnum() else ""


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if name != "MESSAGE":
        data = data[:VALUE_BYTES_MAX].decode("utf-8", "ignore").encode()
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


class Journald:
    """The end of structlog's chain: sends each event, or writes its line to `stream`."""

    def __init__(self, stream: TextIO, where: str = "") -> None:
        self._stream = stream
        self._where = where or SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def close(self) -> None:
        """From now on events go to the stream."""
        self._socket.close()

    def msg(self, line: str, event: Mapping[str, Any]) -> None:
        try:
            self._socket.sendto(entry(event, line), self._where)
        except OSError:  # too large for a datagram, or journald is busy or away
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(f"<{_priority(event)}>{line}\n")
                self._stream.flush()

    debug = info = warning = warn = error = critical = fatal = exception = msg
