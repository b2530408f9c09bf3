"""Ports that belong to a test as long as it likes, whoever listens there meanwhile, or nobody.

The system gives a port that was closed to whoever asks next, so a daemon that comes back may find
its own taken. A port with a socket that is bound, but does not listen, is given to nobody;
connections are refused, and a daemon can listen there, as daemons set SO_REUSEADDR.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_port() -> Iterator[int]:
    """A port of 127.0.0.1."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
