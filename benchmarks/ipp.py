"""As much of IPP as it takes to load a server: requests as bytes, and the status of an answer.

RFC 8010 3 (encoding), RFC 8011 4.2.1 (Print-Job); CUPS-Add-Modify-Printer is CUPS's own.
"""

from __future__ import annotations

import http.client
import struct

PRINT_JOB = 0x0002
GET_JOBS = 0x000A
GET_PRINTER_ATTRIBUTES = 0x000B
RESUME_PRINTER = 0x0011
ADD_MODIFY_PRINTER = 0x4003

_OPERATION, _JOB, _END, _PRINTER = 0x01, 0x02, 0x03, 0x04
_INTEGER, _BOOLEAN, _ENUM = 0x21, 0x22, 0x23
_NAME, _KEYWORD, _URI, _CHARSET, _LANGUAGE, _MIME = 0x42, 0x44, 0x45, 0x47, 0x48, 0x49

IDLE, STOPPED = 3, 5


def _attribute(tag: int, name: str, value: str | int | bool) -> bytes:
    if tag == _BOOLEAN:
        encoded = b"\x01" if value else b"\x00"
    elif isinstance(value, int):
        encoded = struct.pack(">i", value)
    else:
        encoded = value.encode()
    return (
        struct.pack(">BH", tag, len(name)) + name.encode() + struct.pack(">H", len(encoded))
    ) + encoded


def _request(operation: int, queue: str, *groups: bytes) -> bytes:
    return b"".join(
        (
            struct.pack(">BBHIB", 2, 0, operation, 1, _OPERATION),
            _attribute(_CHARSET, "attributes-charset", "utf-8"),
            _attribute(_LANGUAGE, "attributes-natural-language", "en"),
            _attribute(_URI, "printer-uri", f"ipp://localhost/printers/{queue}"),
            _attribute(_NAME, "requesting-user-name", "benchmark"),
            *groups,
            bytes((_END,)),
        )
    )


def print_job(queue: str) -> bytes:
    """A Print-Job request of a raw document, which follows it."""
    return _request(
        PRINT_JOB,
        queue,
        _attribute(_NAME, "job-name", "benchmark"),
        _attribute(_MIME, "document-format", "application/vnd.cups-raw"),
    )


def add_raw_queue(queue: str, device_uri: str, *, paused: bool) -> bytes:
    """A request that makes a raw queue, accepting jobs, paused or not."""
    return _request(
        ADD_MODIFY_PRINTER,
        queue,
        bytes((_PRINTER,)),
        _attribute(_URI, "device-uri", device_uri),
        _attribute(_NAME, "ppd-name", "raw"),
        _attribute(_BOOLEAN, "printer-is-accepting-jobs", True),
        _attribute(_ENUM, "printer-state", STOPPED if paused else IDLE),
    )


def resume_printer(queue: str) -> bytes:
    return _request(RESUME_PRINTER, queue)


def get_jobs(queue: str, limit: int | None = None) -> bytes:
    """A request for all attributes of the jobs that are not completed."""
    limits = (_attribute(_INTEGER, "limit", limit),) if limit else ()
    wanted = _attribute(_KEYWORD, "requested-attributes", "all")
    return _request(GET_JOBS, queue, *limits, wanted)


def get_printer(queue: str) -> bytes:
    wanted = _attribute(_KEYWORD, "requested-attributes", "printer-state")
    return _request(GET_PRINTER_ATTRIBUTES, queue, wanted)


def post(path: str, port: int, request: bytes, document_bytes: int | None = 0) -> bytes:
    """The HTTP request (head and IPP part) for a document of the size given, which follows.

    Chunked when the size is None: then the request is the first chunk.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/ipp\r\n"
    if document_bytes is None:
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk(request)
    length = len(request) + document_bytes
    return f"{head}Content-Length: {length}\r\n\r\n".encode() + request


def chunk(data: bytes) -> bytes:
    """RFC 9112 7.1; the last chunk for b""."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def call(port: int, path: str, request: bytes) -> bytes:
    """Sends one request and returns the answer. Raises: RuntimeError when it is no success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, request, {"Content-Type": "application/ipp"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200 or not is_success(answer):
        raise RuntimeError(f"CUPS answered {response.status} {answer[:4].hex()} to {path}")
    return answer


def is_success(answer: bytes) -> bool:
    """Whether an IPP answer is successful-ok or a variant of it."""
    return len(answer) >= 8 and answer[2] == 0
