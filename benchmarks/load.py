"""Clients that cost little: one process, one epoll loop, requests built beforehand.

Started as `python -m benchmarks.load SPEC` with a JSON object; prints one JSON object.
kind raw     a connection a job, half-closed, until the FIN of the server (a reset is a failure)
kind ipp     Print-Job over kept connections, one at a time on each
kind frames  submit over kept connections, pipelined
kind bulk    one raw job, or one Print-Job, of many bytes
kind hold    keeps connections open, idle or stalled, until its standard input ends
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import blake3
import msgpack

from benchmarks import ipp
from benchmarks.answers import http_answer, read_http

CHUNK_BYTES = 32768
MAGIC = b"\x00SPOOLD1"
Spec = dict[str, Any]


def document(size: int) -> bytes:
    """A document that looks like PCL and does not compress."""
    return b"\x1bE" + blake3.blake3(b"benchmark").digest(length=size - 2)


def open_files_max() -> int:
    """How many descriptors this process may hold, after taking all that it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def percentile(sorted_values: list[float], part: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(part * len(sorted_values)))]


class Tally:
    """When to stop, and what came of it. A run ends after so many jobs, or so many seconds."""

    def __init__(self, spec: Spec) -> None:
        self.jobs_max: int = spec.get("jobs") or 1 << 60
        self.ends_at = time.monotonic() + (spec.get("seconds") or 1e9)
        self.started = self.done = self.failed = 0
        self.latencies: list[float] = []
        self.error = ""
        self._began = time.monotonic()
        self._cpu = time.process_time()

    def may_start(self) -> bool:
        return self.started < self.jobs_max and time.monotonic() < self.ends_at

    def fail(self, error: object) -> None:
        self.failed += 1
        self.error = self.error or repr(error)

    def result(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        latencies = sorted(self.latencies)
        found: dict[str, Any] = {
            "jobs": self.done,
            "failed": self.failed,
            "error": self.error,
            "seconds": seconds,
            "rate": self.done / seconds,
            "client_cpu_share": (time.process_time() - self._cpu) / seconds,
        }
        if latencies:
            found |= {
                "p50_ms": percentile(latencies, 0.50) * 1000,
                "p99_ms": percentile(latencies, 0.99) * 1000,
                "max_ms": latencies[-1] * 1000,
            }
        return found


def raw(spec: Spec) -> dict[str, Any]:
    """Jobs of one connection each, timed from before connect to the FIN."""
    addresses = itertools.cycle([(spec["host"], port) for port in spec["ports"]])
    payload = document(spec["size"])
    epoll = select.epoll()
    tally = Tally(spec)
    open_jobs: dict[int, tuple[socket.socket, float]] = {}
    clock = time.monotonic

    def start() -> None:
        tally.started += 1
        began = clock()
        job = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        job.connect_ex(next(addresses))
        open_jobs[job.fileno()] = (job, began)
        try:
            send(job)
        except BlockingIOError:  # The connection is not there yet.
            epoll.register(job, select.EPOLLOUT)
            return
        epoll.register(job, select.EPOLLIN)

    def send(job: socket.socket) -> None:
        if job.send(payload) != len(payload):
            raise RuntimeError("a job did not fit into the socket buffer")
        job.shutdown(socket.SHUT_WR)

    for _ in range(spec["connections"]):
        start()
    while open_jobs:
        events = epoll.poll(30)
        if not events:
            tally.fail("nothing happened for 30 s")
            break
        for descriptor, event in events:
            job, began = open_jobs[descriptor]
            try:
                if event & select.EPOLLOUT:
                    send(job)
                    epoll.modify(job, select.EPOLLIN)
                    continue
                if job.recv(16):
                    raise RuntimeError("the server answered a raw job with bytes")
                tally.done += 1
                tally.latencies.append(clock() - began)
            except (OSError, RuntimeError) as error:
                tally.fail(error)
            del open_jobs[descriptor]
            job.close()
            if tally.may_start():
                start()
    return tally.result()


class _Kept:
    """A kept connection: what is to be sent, and what came and is not understood yet."""

    def __init__(self, kept: socket.socket) -> None:
        self.socket = kept
        self.out = bytearray()
        self.received = bytearray()
        self.waiting: dict[int, float] = {}

    def flush(self) -> bool:
        """Sends what the socket takes; whether all of it went."""
        while self.out:
            try:
                sent = self.socket.send(self.out)
            except BlockingIOError:
                return False
            del self.out[:sent]
        return True


def connect(spec: Spec) -> socket.socket:
    kept = socket.create_connection((spec["host"], spec["port"]), timeout=30)
    kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return kept


def _serve(
    connections: list[_Kept], tally: Tally, answered: Callable[[_Kept], None]
) -> dict[str, Any]:
    """Runs kept connections until none waits for an answer; `answered` eats `received`."""
    epoll = select.epoll()
    by_descriptor = {kept.socket.fileno(): kept for kept in connections}
    for kept in connections:
        kept.socket.setblocking(False)
        events = select.EPOLLIN if kept.flush() else select.EPOLLIN | select.EPOLLOUT
        epoll.register(kept.socket, events)
    busy = len(connections)
    while busy:
        found = epoll.poll(30)
        if not found:
            tally.fail("nothing happened for 30 s")
            break
        for descriptor, event in found:
            kept = by_descriptor[descriptor]
            try:
                if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    data = kept.socket.recv(262_144)
                    if not data:
                        raise ConnectionError("the server closed a kept connection")
                    kept.received += data
                    answered(kept)
                all_sent = kept.flush()
            except (OSError, RuntimeError) as error:
                tally.fail(error)
                kept.waiting.clear()
                all_sent = True
            if not kept.waiting:
                epoll.unregister(kept.socket)
                kept.socket.close()
                busy -= 1
            elif not all_sent:
                epoll.modify(kept.socket, select.EPOLLIN | select.EPOLLOUT)
            elif event & select.EPOLLOUT:
                epoll.modify(kept.socket, select.EPOLLIN)
    return tally.result()


def ipp_jobs(spec: Spec) -> dict[str, Any]:
    """Print-Job over kept connections, spread over the queues named."""
    payload = document(spec["size"])
    requests = [
        ipp.post(f"/printers/{queue}", spec["port"], ipp.print_job(queue), len(payload)) + payload
        for queue in spec["queues"]
    ]
    which = itertools.cycle(requests)
    connections = [_Kept(connect(spec)) for _ in range(spec["connections"])]
    tally = Tally(spec)

    def start(kept: _Kept) -> None:
        tally.started += 1
        kept.waiting[1] = time.monotonic()
        kept.out += next(which)

    def answered(kept: _Kept) -> None:
        answer = http_answer(kept.received)
        if answer is None:
            return
        began = kept.waiting.pop(1)
        if ipp.is_success(answer):
            tally.done += 1
            tally.latencies.append(time.monotonic() - began)
        else:
            tally.fail(f"IPP status {answer[2:4].hex()}")
        if tally.may_start():
            start(kept)

    for kept in connections:
        start(kept)
    return _serve(connections, tally, answered)


def message(value: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(value)
    return struct.pack(">I", len(packed)) + packed


def hello(ping_s: float = 300) -> bytes:
    args = {
        "versions": [1],
        "kind": "provider",
        "name": "benchmark",
        "software": "benchmark",
        "ping_s": ping_s,
    }
    return MAGIC + message({"id": 1, "op": "hello", "args": args})


class SubmitTemplate:
    """The bytes of one eager submit, chunk and end, where only id and uuid change from job to job.

    An id above 65,535 always takes four bytes, and a uuid as hexadecimal always 32.
    """

    def __init__(self, printer: str, payload: bytes, *, hold: bool = False) -> None:
        self._id = 0x7ABBCCDD
        self._uuid = b"0123456789abcdef0123456789abcdef"
        args = {
            "job_uuid": self._uuid.decode(),
            "printer": printer,
            "title": "benchmark",
            "user": "benchmark",
            "copies": 1,
            "size": len(payload),
            "format": "application/octet-stream",
            "attributes": {},
            "priority": 50,
            "hold": hold,
            "digest_algorithm": "blake3",
            "eager": True,
        }
        digest = "blake3:" + blake3.blake3(payload).hexdigest()
        end = {"size": len(payload), "digest": digest}
        self._bytes = b"".join(
            (
                message({"id": self._id, "op": "submit", "args": args}),
                struct.pack(">IIQ", 0x8000_0000 | (12 + len(payload)), self._id, 0),
                payload,
                message({"event": "end", "id": self._id, "args": end}),
            )
        )
        pattern = struct.pack(">I", self._id)
        self._id_at = [at for at in range(len(self._bytes)) if self._bytes.startswith(pattern, at)]
        self._uuid_at = self._bytes.index(self._uuid)
        if len(self._id_at) != 3:
            raise RuntimeError("the document contains the id of the template")

    def fill(self, request_id: int) -> bytearray:
        filled = bytearray(self._bytes)
        for at in self._id_at:
            struct.pack_into(">I", filled, at, request_id)
        filled[self._uuid_at : self._uuid_at + 32] = os.urandom(16).hex().encode()
        return filled


def frame_messages(received: bytearray) -> list[dict[str, Any]]:
    """Takes the whole messages out of `received`."""
    found, at = [], 0
    while len(received) - at >= 4:
        (length,) = struct.unpack_from(">I", received, at)
        if len(received) - at - 4 < length:
            break
        found.append(msgpack.unpackb(received[at + 4 : at + 4 + length]))
        at += 4 + length
    del received[:at]
    return found


def read_message(kept: socket.socket) -> dict[str, Any]:
    """One message from a blocking socket, and nothing after it."""

    def exactly(count: int) -> bytes:
        data = kept.recv(count, socket.MSG_WAITALL)
        if len(data) != count:
            raise ConnectionError("the server closed the connection")
        return data

    (length,) = struct.unpack(">I", exactly(4))
    read: dict[str, Any] = msgpack.unpackb(exactly(length))
    return read


def say_hello(kept: socket.socket) -> dict[str, Any]:
    kept.sendall(hello())
    answer = read_message(kept)
    if "result" not in answer:
        raise RuntimeError(f"hello was refused: {answer}")
    result: dict[str, Any] = answer["result"]
    return result


def frames(spec: Spec) -> dict[str, Any]:
    """Submits over kept connections, so many at a time on each as the server allows."""
    template = SubmitTemplate(spec["printer"], document(spec["size"]), hold=spec.get("hold", False))
    request_ids = itertools.count(1 << 20)
    connections = []
    depth: int = spec["depth"]
    for _ in range(spec["connections"]):
        kept = _Kept(connect(spec))
        depth = min(depth, say_hello(kept.socket).get("inflight_max") or depth)
        connections.append(kept)
    tally = Tally(spec)

    def start(kept: _Kept) -> None:
        request_id = next(request_ids)
        tally.started += 1
        kept.waiting[request_id] = time.monotonic()
        kept.out += template.fill(request_id)

    def answered(kept: _Kept) -> None:
        for read in frame_messages(kept.received):
            if read.get("op") == "ping":
                kept.out += message({"id": read["id"], "result": {}})
            elif "result" in read:
                tally.done += 1
                tally.latencies.append(time.monotonic() - kept.waiting.pop(read["id"]))
            elif "error" in read:
                kept.waiting.pop(read["id"], None)
                tally.fail(read["error"])
        while len(kept.waiting) < depth and tally.may_start():
            start(kept)

    for _ in range(depth):
        for kept in connections:
            if tally.may_start():
                start(kept)
    return _serve(connections, tally, answered)


def bulk(spec: Spec) -> dict[str, Any]:
    """One large job out of memory, timed from before connect to the FIN or the IPP answer."""
    piece = document(64 << 20)
    memory = os.memfd_create("benchmark")
    os.write(memory, piece)
    size: int = spec["size"]
    began = time.monotonic()
    with socket.create_connection((spec["host"], spec["port"]), timeout=600) as job:
        queue, is_chunked = spec.get("queue"), spec.get("chunked", False)
        if queue:
            request = ipp.print_job(queue)
            length = None if is_chunked else size
            job.sendall(ipp.post(f"/printers/{queue}", spec["port"], request, length))
        job.settimeout(None)
        if is_chunked:
            _send_chunks(job, piece, size)
        elif spec.get("copied"):
            for start in range(0, size, len(piece)):
                job.sendall(memoryview(piece)[: size - start])
        else:
            left = size
            while left:
                start = (size - left) % len(piece)
                left -= os.sendfile(job.fileno(), memory, start, min(left, len(piece) - start))
        if queue:
            answer = read_http(job)
            if not ipp.is_success(answer):
                raise RuntimeError(f"IPP status {answer[2:4].hex()}")
        else:
            job.shutdown(socket.SHUT_WR)
            if job.recv(16):
                raise RuntimeError("the server answered a raw job with bytes")
    ended = time.monotonic()
    return {
        "began_at": began,
        "seconds": ended - began,
        "mib_s": size / (ended - began) / (1 << 20),
    }


def _send_chunks(job: socket.socket, piece: bytes, size: int) -> None:
    """The document in the chunks that libcups makes (`cupsDoFileRequest`)."""
    chunks = b"".join(
        ipp.chunk(piece[at : at + CHUNK_BYTES]) for at in range(0, len(piece), CHUNK_BYTES)
    )
    for _ in range(size // len(piece)):
        job.sendall(chunks)
    rest = size % len(piece)
    job.sendall((ipp.chunk(piece[:rest]) if rest else b"") + ipp.chunk(b""))


def _stall(kind: str) -> bytes:
    """What a client sends before it falls silent."""
    submit = SubmitTemplate("q0", document(4096)).fill(1 << 20)
    return {
        "idle": hello(),
        "http-head": b"POST /printers/q0 HTTP/1.1\r\nHost: loc",
        "frames-head": MAGIC + b"\x00\x00",
        "frames-body": hello() + submit[: len(submit) // 2],
        "raw-body": document(4096)[:2048],
    }[kind]


def hold(spec: Spec) -> dict[str, Any]:
    """Opens the connections, says that they stand, and opens again whatever the server closes."""
    kinds: list[str] = spec["kinds"]
    tls = None
    if spec.get("tls"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    held: dict[int, tuple[socket.socket, str]] = {}
    epoll = select.epoll()
    opened = 0

    def open_one(kind: str) -> None:
        nonlocal opened
        kept = connect(spec)
        if tls:
            kept = tls.wrap_socket(kept)
        kept.sendall(_stall(kind))
        if kind == "idle":
            head = b""
            while len(head) < 4:
                head += kept.recv(4 - len(head))
            left = struct.unpack(">I", head)[0]
            while left:
                left -= len(kept.recv(left))
        kept.setblocking(False)
        held[kept.fileno()] = (kept, kind)
        epoll.register(kept, select.EPOLLIN | select.EPOLLRDHUP)
        opened += 1

    for which in range(spec["connections"]):
        open_one(kinds[which % len(kinds)])
    print(json.dumps({"ready": len(held)}), flush=True)
    epoll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
    pinged = 0
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == sys.stdin.fileno():
                for kept, _kind in held.values():
                    kept.close()
                return {"opened": opened, "reopened": opened - spec["connections"], "pings": pinged}
            kept, kind = held[descriptor]
            try:
                data = kept.recv(65536)
            except ssl.SSLWantReadError:
                continue
            except OSError:
                data = b""
            if data and kind in ("idle", "frames-body"):
                for read in frame_messages(bytearray(data)):
                    if read.get("op") == "ping" and kind == "idle":
                        kept.sendall(message({"id": read["id"], "result": {}}))
                        pinged += 1
            if not data:
                del held[descriptor]
                epoll.unregister(descriptor)
                kept.close()
                open_one(kind)


KINDS: dict[str, Callable[[Spec], dict[str, Any]]] = {
    "raw": raw,
    "ipp": ipp_jobs,
    "frames": frames,
    "bulk": bulk,
    "hold": hold,
}

if __name__ == "__main__":
    open_files_max()
    given: Spec = json.loads(sys.argv[1])
    given.setdefault("host", "127.0.0.1")
    print(json.dumps(KINDS[given["kind"]](given)), flush=True)
