"""spoold's control socket for a script: one operation after the other, as FRAMES.md says."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from benchmarks import load


class Control:
    """A connection to the control socket of a running daemon."""

    def __init__(self, path: Path) -> None:
        # Through the descriptor of its folder: a socket's path holds only 108 bytes.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        load.say_hello(self._socket)
        self._last_id = 1

    def call(self, op: str, **args: Any) -> Any:
        """The result of an operation. Raises: RuntimeError with what the daemon says."""
        self._last_id += 1
        self._socket.sendall(load.message({"id": self._last_id, "op": op, "args": args}))
        while (answer := load.read_message(self._socket)).get("id") != self._last_id:
            pass
        if "error" in answer:
            raise RuntimeError(f"{op}: {answer['error']}")
        return answer["result"]

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
