"""The name in a ClientHello, as real clients write it, and anything else as bytes."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec.client_hello import server_name


def hello(name: str | None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


@pytest.mark.parametrize("name", ["join.spoold.invalid", "hq.example.org"])
def test_the_name_is_read(name):
    """A client names the server that it wants."""
    assert server_name(hello(name)) == name


def test_no_name_is_no_name():
    """Clients that dial an address name nobody."""
    assert server_name(hello(None)) == ""


def test_more_bytes_are_waited_for():
    """A hello that comes in pieces is not judged before it is whole."""
    data = hello("join.spoold.invalid")
    for size in range(len(data)):
        assert server_name(data[:size]) is None
    assert server_name(data + b"more") == "join.spoold.invalid"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x00SPOOLD1", b"\x15\x03\x01\x00\x02"])
def test_what_is_no_hello_names_nobody(data):
    """Other protocols are not held up."""
    assert server_name(data) == ""


@given(st.binary(max_size=600))
def test_any_bytes_are_survived(data):
    """Nothing that a client sends can break the look at it."""
    assert server_name(data) in (None, "") or isinstance(server_name(data), str)


@given(st.data())
def test_a_damaged_hello_is_survived(data):
    """Lengths that point anywhere lead nowhere."""
    damaged = bytearray(hello("join.spoold.invalid"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    assert server_name(bytes(damaged)) is None or isinstance(server_name(bytes(damaged)), str)
