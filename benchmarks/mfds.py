"""A thousand MFDs in one process: connected over TLS, each with its token, at a steady pace.

Started as `python -m benchmarks.mfds SPEC` with a JSON object; prints one JSON object. What is
asked comes at fixed times, whether or not the answers do: a wait is counted from when the request
was due, so that a server that stands still is not spared.

host, port     the TLS port
people         a file with a JSON list: token, card and job ids of one MFD and its person each
phases         pairs of an operation and so many a second: login, jobs, release
seconds        of each phase
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.load import Spec, percentile

DRAIN_S = 10.0


class Panel:
    """One MFD: its connection, who stands there, and what it waits for."""

    def __init__(self, spec: Spec, context: ssl.SSLContext, person: dict[str, Any]) -> None:
        self.card: str = person["card"]
        self.jobs = deque(person["jobs"])
        self.session = ""
        self.asked: deque[tuple[str, float]] = deque()
        self._id = 1
        self._received = bytearray()
        raw = socket.create_connection((spec["host"], spec["port"]), timeout=60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw)
        args = {"versions": [1], "kind": "mfd", "ping_s": 300, "token": person["token"]}
        self.socket.sendall(load.MAGIC + load.message({"id": 1, "op": "hello", "args": args}))
        while not (found := self._read()):
            pass
        if "result" not in found[0]:
            raise RuntimeError(f"hello was refused: {found[0]}")
        self.socket.setblocking(False)

    def ask(self, op: str, due: float) -> bool:
        """Ask what this operation asks here; False when there is nothing to ask it for."""
        args: dict[str, Any] = {"session": self.session}
        if op == "login":
            args = {"card": self.card}
        elif not self.session or (op == "release" and not self.jobs):
            return False
        elif op == "release":
            args["jobs"] = [self.jobs.popleft()]
        self._id += 1
        self.asked.append((op, due))
        self.socket.sendall(load.message({"id": self._id, "op": f"mfd.{op}", "args": args}))
        return True

    def take(self) -> list[tuple[str, float, dict[str, Any]]]:
        """What was answered: the operation, when it was due, and the answer."""
        done = []
        for answer in self._read():
            if answer.get("op") == "ping":
                self.socket.sendall(load.message({"id": answer["id"], "result": {}}))
                continue
            op, due = self.asked.popleft()
            if op == "login" and "result" in answer:
                self.session = answer["result"]["session"]
            done.append((op, due, answer))
        return done

    def _read(self) -> list[dict[str, Any]]:
        while True:
            try:
                data = self.socket.recv(65536)
            except ssl.SSLWantReadError:
                break
            if not data:
                raise ConnectionError("the server closed the connection of an MFD")
            self._received += data
            if not self.socket.pending():
                break
        return load.frame_messages(self._received)


def run(spec: Spec) -> dict[str, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    people = json.loads(Path(spec["people"]).read_text())
    began = time.monotonic()
    panels = [Panel(spec, context, person) for person in people]
    connected_s = time.monotonic() - began
    epoll = select.epoll()
    by_descriptor = {panel.socket.fileno(): panel for panel in panels}
    for descriptor in by_descriptor:
        epoll.register(descriptor, select.EPOLLIN)
    if any(op != "login" for op, _ in spec["phases"]):
        _phase(epoll, by_descriptor, panels, "login", 200.0, len(panels))
    found: dict[str, Any] = {"connected_s": connected_s}
    for op, rate in spec["phases"]:
        count = int(rate * spec["seconds"])
        found[op] = _phase(epoll, by_descriptor, panels, op, rate, count)
    return found


def _phase(
    epoll: select.epoll,
    by_descriptor: dict[int, Panel],
    panels: list[Panel],
    op: str,
    rate: float,
    count: int,
) -> dict[str, Any]:
    """Ask `count` times at a pace, the MFDs in turn; how long the answers took."""
    waits: list[float] = []
    failed, error = 0, ""
    cpu = time.process_time()
    begin = time.monotonic() + 0.05
    asked = 0
    end = begin + count / rate + DRAIN_S
    while len(waits) + failed < count:
        now = time.monotonic()
        if now > end:
            raise TimeoutError(f"{count - len(waits) - failed} of {count} {op} are not answered")
        while asked < count and begin + asked / rate <= now:
            if not panels[asked % len(panels)].ask(op, begin + asked / rate):
                raise RuntimeError(f"there is nothing left for {op}")
            asked += 1
        due = begin + asked / rate if asked < count else end
        for descriptor, _ in epoll.poll(max(0.0, due - time.monotonic())):
            for _, was_due, answer in by_descriptor[descriptor].take():
                wrong = _wrong(op, answer)
                if wrong:
                    failed, error = failed + 1, error or wrong
                else:
                    waits.append((time.monotonic() - was_due) * 1000)
    seconds = time.monotonic() - begin
    waits.sort()
    return {
        "done": len(waits),
        "failed": failed,
        "error": error,
        "rate": len(waits) / seconds,
        "p50_ms": percentile(waits, 0.5) if waits else 0.0,
        "p99_ms": percentile(waits, 0.99) if waits else 0.0,
        "max_ms": waits[-1] if waits else 0.0,
        "client_cpu_share": (time.process_time() - cpu) / seconds,
    }


def _wrong(op: str, answer: dict[str, Any]) -> str:
    """What is wrong with an answer; "" when nothing is."""
    if "error" in answer:
        return str(answer["error"])
    if op == "release":
        errors = [one["error"] for one in answer["result"]["results"] if one["error"]]
        return str(errors[0]) if errors else ""
    return ""


if __name__ == "__main__":
    load.open_files_max()
    print(json.dumps(run({"host": "127.0.0.1"} | json.loads(sys.argv[1]))), flush=True)
