"""Connecting to Unix sockets whose path may be longer than an address holds (108 bytes)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

NAME_BYTES_MAX = 107  # what fits into sockaddr_un, with its end


def connect_unix(sock: socket.socket, path: Path) -> None:
    """Connect a blocking `sock` to the socket at `path`.

    Raises:
        OSError: nobody is there.
    """
    if len(os.fsencode(path)) <= NAME_BYTES_MAX:
        sock.connect(os.fspath(path))
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
