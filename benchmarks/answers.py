"""HTTP answers, as much of them as clients of a benchmark read."""

from __future__ import annotations

import socket
import time


def http_answer(received: bytearray) -> bytes | None:
    """Takes one whole HTTP answer out of `received` and returns its body; None when it is not
    whole yet. Raises: RuntimeError on a status that is not 200.
    """
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = bytes(received[:head_end]).lower()
    if head[9:12] == b"100":
        del received[: head_end + 4]
        return http_answer(received)
    if head[9:12] != b"200":
        raise RuntimeError(f"HTTP {head[:40]!r}")
    if b"transfer-encoding: chunked" in head:
        end = received.find(b"\r\n0\r\n\r\n", head_end)
        if end < 0:
            return None
        start = received.find(b"\r\n", head_end + 4) + 2
        body, end = bytes(received[start:end]), end + 7
    else:
        at = head.index(b"content-length:") + 15
        start = head_end + 4
        end = start + int(head[at:].split(b"\r\n", 1)[0])
        if len(received) < end:
            return None
        body = bytes(received[start:end])
    del received[:end]
    return body


def read_http(kept: socket.socket) -> bytes:
    """The body of the one answer that comes next on a blocking socket."""
    received, answer = bytearray(), None
    while answer is None:
        data = kept.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        received += data
        answer = http_answer(received)
    return answer


def drain_http(kept: socket.socket) -> tuple[float, int]:
    """When the first byte of the next answer came, and how many came in all; it is thrown away."""
    head = kept.recv(65536)
    first = time.monotonic()
    while b"\r\n\r\n" not in head:
        head += kept.recv(65536)
    start = head.index(b"\r\n\r\n") + 4
    lower = head[:start].lower()
    size, tail = len(head), head[-16:]
    if b"transfer-encoding: chunked" in lower:
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = kept.recv(1 << 18)
            if not data:
                raise ConnectionError("the server closed the connection")
            size += len(data)
            tail = (tail + data)[-16:]
    else:
        length = int(lower[lower.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        while size < start + length:
            size += len(kept.recv(1 << 18))
    return first, size
