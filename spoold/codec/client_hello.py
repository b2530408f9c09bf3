"""What a TLS ClientHello asks for, before anything is decided (RFC 8446 4.1.2, RFC 6066 3).

In: the first bytes of a connection. Out: the server's name that the client named. Nothing is judged
here: whatever cannot be read names nobody, and TLS itself answers it.
"""

from __future__ import annotations

HELLO_BYTES_MAX = 4096
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0


def server_name(data: bytes) -> str | None:
    """The name asked for; "" when there is none, None when more bytes are needed to know."""
    if data[:1] not in (b"", bytes([_HANDSHAKE])):
        return ""
    if len(data) < 5:
        return None
    end = 5 + int.from_bytes(data[3:5], "big")
    if len(data) < end:
        return None if end <= HELLO_BYTES_MAX else ""
    try:
        return _name_in(data[5:end])
    except IndexError:
        return ""


def _name_in(hello: bytes) -> str:
    """Raises IndexError: it ends before it should."""
    if hello[0] != _CLIENT_HELLO:
        return ""
    at = 4 + 2 + 32  # the header, the legacy version, the random
    at += 1 + hello[at]  # the legacy session id
    at += 2 + _number(hello, at)  # cipher suites
    at += 1 + hello[at]  # compression methods
    end = at + 2 + _number(hello, at)
    at += 2
    while at < end:
        kind, size = _number(hello, at), _number(hello, at + 2)
        if kind == _SERVER_NAME:
            # a list of one name: its length, its type, the name with its length
            if hello[at + 6] != _HOST_NAME:
                return ""
            name = hello[at + 9 : at + 9 + _number(hello, at + 7)]
            return name.decode("ascii", "replace").lower()
        at += 4 + size
    return ""


def _number(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
