"""The PROXY protocol: who a load balancer connects for, and hostile bytes."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import proxy, raw
from spoold.model.errors import RemoteProtocolError

ADDRESSES = st.ip_addresses()
PORTS = st.integers(0, 65535)


def header(source, port=4711, *, command=1, extensions=b"") -> bytes:
    """As a balancer writes it."""
    where = ipaddress.ip_address(source)
    kind = 0x11 if where.version == 4 else 0x21
    packed = where.packed * 2 + struct.pack(">HH", port, 9191) + extensions
    return proxy.SIGNATURE + struct.pack(">BBH", 0x20 | command, kind, len(packed)) + packed


def read(data: bytes):
    """Who the header names, and what follows it."""
    head = data[: proxy.HEAD_BYTES]
    end = proxy.HEAD_BYTES + proxy.rest_bytes(head)
    return proxy.client(head, data[proxy.HEAD_BYTES : end]), data[end:]


@given(ADDRESSES, PORTS, st.binary(max_size=300))
def test_the_client_is_who_the_balancer_says(address, port, extensions):
    """Address and port arrive, extensions are passed over, and no byte of what follows is taken."""
    stream = header(address, port, extensions=extensions) + b"%!PS"
    assert read(stream) == ((str(address), port), b"%!PS")


def test_a_balancer_that_looks_whether_we_live_speaks_for_itself():
    """LOCAL, and an unspecified family, name nobody."""
    assert read(header("192.0.2.7", command=0))[0] is None
    assert read(proxy.SIGNATURE + b"\x21\x00\x00\x00")[0] is None
    assert read(proxy.SIGNATURE + b"\x20\x00\x00\x03xyz")[0] is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 9191\r\n", "version 1"),
        (b"%!PS-Adobe-3.0 and more", "no PROXY header"),
        (proxy.SIGNATURE, "no PROXY header"),
        (b"", "no PROXY header"),
        (proxy.SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), "says 0x11"),
        (proxy.SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12), "says 0x22"),
        (proxy.SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12), "not TCP"),
        (proxy.SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), "not TCP"),
        (proxy.SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), "without its addresses"),
        (proxy.SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12), "without its addresses"),
        (proxy.SIGNATURE + b"\x21\x11\xff\xff" + bytes(65535), "65535 bytes"),
    ],
)
def test_what_is_no_header_is_refused(data, words):
    """The operator reads what was wrong with it."""
    with pytest.raises(RemoteProtocolError, match=words):
        read(data)


@given(st.binary(max_size=64) | st.binary(max_size=300).map(proxy.SIGNATURE.__add__))
def test_any_bytes_are_a_header_or_a_refusal(data):
    """Nothing else is ever raised."""
    try:
        found, _ = read(data)
    except RemoteProtocolError:
        return
    if found is not None:
        ipaddress.ip_address(found[0])


def test_a_header_that_nobody_asked_for_is_no_job():
    """It is seen for what it is; a text that begins with blank lines is one."""
    assert raw.sniff(header("192.0.2.7")) is raw.Protocol.PROXY
    for size in range(1, len(proxy.SIGNATURE)):
        assert raw.sniff(proxy.SIGNATURE[:size]) is None
        assert raw.sniff(proxy.SIGNATURE[:size], True) is raw.Protocol.RAW
    assert raw.sniff(b"\r\n\r\nDear") is raw.Protocol.RAW
    assert raw.sniff(b"\rx") is raw.Protocol.RAW
