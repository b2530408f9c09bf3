"""The PROXY protocol, version 2: how a load balancer says who it connects for.

The first bytes of a connection enter, the client's address leaves (HAProxy's proxy-protocol.txt,
2.2). A header says how long it is: `rest_bytes` of its first `HEAD_BYTES`, then `client` of both.
So a reader need take no byte of what follows, which may be TLS. Extensions (TLVs) are passed over.
"""

from __future__ import annotations

import ipaddress
import struct

from spoold.model.errors import RemoteProtocolError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD_BYTES = 16
REST_BYTES_MAX = 4096  # addresses take 36, and extensions that anybody sends a few hundred
_VERSION = 2
_LOCAL, _PROXY = 0, 1
_UNSPECIFIED = 0x00
_TCP4 = struct.Struct(">4s4sHH")
_TCP6 = struct.Struct(">16s16sHH")
_ADDRESSES = {0x11: _TCP4, 0x21: _TCP6}


def rest_bytes(head: bytes) -> int:
    """How many bytes of the header follow its first 16.

    Raises:
        RemoteProtocolError: this is no header of version 2, or one that is too long.
    """
    if head.startswith(b"PROXY "):
        raise RemoteProtocolError("the PROXY protocol is spoken in version 1; use 2", "bad-request")
    if len(head) != HEAD_BYTES or not head.startswith(SIGNATURE):
        raise RemoteProtocolError("there is no PROXY header", "bad-request")
    version, command = head[12] >> 4, head[12] & 0x0F
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError(f"a PROXY header says {head[12]:#04x}", "bad-request")
    length = int.from_bytes(head[14:16], "big")
    if length > REST_BYTES_MAX:
        raise RemoteProtocolError(f"a PROXY header of {length} bytes", "bad-request")
    return length


def client(head: bytes, rest: bytes) -> tuple[str, int] | None:
    """The address and port that the connection came from; None: from the balancer itself.

    Raises:
        RemoteProtocolError: it does not say where a TCP connection came from.
    """
    if head[12] & 0x0F == _LOCAL or head[13] == _UNSPECIFIED:
        return None
    shape = _ADDRESSES.get(head[13])
    if shape is None:
        raise RemoteProtocolError(
            f"a PROXY header for what is not TCP ({head[13]:#04x})", "bad-request"
        )
    if len(rest) < shape.size:
        raise RemoteProtocolError("a PROXY header without its addresses", "bad-request")
    source, _, port, _ = shape.unpack_from(rest)
    return str(ipaddress.ip_address(source)), port
