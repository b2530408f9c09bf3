"""spoold's control socket for a script: one operation after the other, as FRAMES.md says."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import blake3

from benchmarks import load

UNDER_WAY = 200  # requests without an answer, of those that the daemon allows


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

    def call_all(self, op: str, each: Iterable[dict[str, Any]]) -> list[Any]:
        """The results of many calls in their order, so many of them under way at a time."""

        def request(id_: int, args: dict[str, Any]) -> bytes:
            return load.message({"id": id_, "op": op, "args": args})

        return self._all(op, each, request)

    def submit_all(self, each: Iterable[dict[str, Any]], document: bytes) -> list[Any]:
        """The results of many jobs of one small document, as `call_all`."""
        size = len(document)
        digest = f"blake3:{blake3.blake3(document).hexdigest()}"

        def request(id_: int, args: dict[str, Any]) -> bytes:
            asked = {"size": size, "eager": True, **args}
            head = struct.pack(">IIQ", 1 << 31 | 12 + size, id_, 0)
            end = {"event": "end", "id": id_, "args": {"size": size, "digest": digest}}
            submit = load.message({"id": id_, "op": "submit", "args": asked})
            return submit + head + document + load.message(end)

        return self._all("submit", each, request)

    def _all(
        self,
        op: str,
        each: Iterable[dict[str, Any]],
        request: Callable[[int, dict[str, Any]], bytes],
    ) -> list[Any]:
        results: list[Any] = []
        todo = iter(each)
        while group := list(islice(todo, UNDER_WAY)):
            ids = range(self._last_id + 1, self._last_id + 1 + len(group))
            self._last_id = ids[-1]
            self._socket.sendall(b"".join(map(request, ids, group)))
            answers: dict[int, Any] = {}
            while len(answers) < len(group):
                answer = load.read_message(self._socket)
                if "error" in answer:
                    raise RuntimeError(f"{op}: {answer['error']}")
                if "result" in answer:
                    answers[answer["id"]] = answer["result"]
            results += [answers[id_] for id_ in ids]
        return results

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
