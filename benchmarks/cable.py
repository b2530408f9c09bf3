"""A cable between two servers that can be cut: a relay of TCP connections, in threads.

`reset` ends what is open with a reset and refuses what comes; `swallow` keeps connections open and
lets nothing through, so that neither side hears anything any more.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

LINGER_RESET = struct.pack("ii", 1, 0)


class Cable:
    """From `port` on this machine to `target`, until `close`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._is_swallowing = self._is_refusing = False
        self.bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._is_refusing:
                    _reset(near)
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    _reset(near)
                    continue
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._pairs.append((near, far))
                threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with contextlib.suppress(OSError, ValueError):
            while True:
                for one in select.select([near, far], [], [], 0.05)[0]:
                    if self._is_swallowing:
                        threading.Event().wait(0.01)
                        continue
                    data = one.recv(1 << 18)
                    if not data:
                        raise OSError("the end")
                    other[one].sendall(data)
                    self.bytes += len(data)
        _reset(near)
        _reset(far)

    def reset(self) -> None:
        self._is_refusing = True
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for near, far in pairs:
            _reset(near)
            _reset(far)

    def swallow(self) -> None:
        self._is_swallowing = True

    def mend(self) -> None:
        """Whatever was held back is lost with its connections; new ones get through."""
        if self._is_swallowing:
            self.reset()
        self._is_swallowing = self._is_refusing = False

    def close(self) -> None:
        self._listener.close()
        self.reset()


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        one.shutdown(socket.SHUT_RDWR)
    one.close()
