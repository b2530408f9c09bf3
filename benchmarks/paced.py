"""What goes on at a steady pace while something else is measured, and how long each time takes."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Self

from benchmarks import load, peers

JOBS_S = 50.0
STATUS_S = 20.0


def p99_ms(took_ms: list[float]) -> float:
    return load.percentile(sorted(took_ms), 0.99)


class Paced(threading.Thread):
    """Does `once`, so many times a second, as long as its block lasts; `took_ms` of each time."""

    def __init__(self, times_s: float) -> None:
        super().__init__(daemon=True)
        self._times_s = times_s
        self._over = threading.Event()
        self.took_ms: list[float] = []

    def once(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            due += 1 / self._times_s
            time.sleep(max(0.0, due - time.monotonic()))
            begun = time.monotonic()
            self.once()
            self.took_ms.append((time.monotonic() - begun) * 1000)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


class Clients(Paced):
    """Raw jobs, from connect to the acknowledgement."""

    def __init__(self, port: int) -> None:
        super().__init__(JOBS_S)
        self._port = port
        self._document = load.document(4096)

    def once(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as job:
            job.sendall(self._document)
            job.shutdown(socket.SHUT_WR)
            job.recv(1)


class Looks(Paced):
    """An operation, `status` as it is, over a connection that is kept."""

    def __init__(self, spoold: peers.Spoold, op: str = "status", **args: Any) -> None:
        super().__init__(STATUS_S)
        self._control = spoold.control()
        self._asked = op, args

    def run(self) -> None:
        with self._control:
            super().run()

    def once(self) -> None:
        op, args = self._asked
        self._control.call(op, **args)
