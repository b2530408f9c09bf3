"""SNMP: the bytes of RFC 1157, and no datagram that is more than a RemoteProtocolError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import snmp
from spoold.model.errors import RemoteProtocolError

NAME = "1.3.6.1.2.1.43.10.2.1.4.1.1"


def response(value: bytes, error: int = 0, name: str = NAME) -> bytes:
    """A response with one binding, made from our own request by its tags."""
    binding = snmp._wrap(0x30, snmp._name(name) + value)
    pdu = snmp._integer(77) + snmp._integer(error) + snmp._integer(0) + snmp._wrap(0x30, binding)
    return snmp._wrap(0x30, snmp._integer(1) + snmp._wrap(0x04, b"public") + snmp._wrap(0xA2, pdu))


def test_a_request_has_the_octets_of_the_standard():
    """Version, community, GetRequest, id, two zeros, and the name with a NULL."""
    request = snmp.get_request("1", b"public", 1, ["1.3.6.1.2.1.1.1.0"])
    assert request == bytes.fromhex(
        "3026" "020100" "04067075626c6963" "a019" "020101" "020100" "020100"
        "300e" "300c" "06082b06010201010100" "0500"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("02017f", 127),
        ("0201ff", -1),
        ("4103 01e240", 123456),
        ("4104 ffffffff", 2**32 - 1),
        ("4105 00ffffffff", 2**32 - 1),
        ("4609 00ffffffffffffffff", 2**64 - 1),
        ("0402 40 00", b"\x40\x00"),
        ("0400", b""),
        ("0500", None),
        ("8000", None),
        ("8100", None),
        ("06022b06", None),
    ],
)
def test_values_of_each_kind_are_read(value, read):
    """Integers, counters with and without their zero octet, octets, and what is missing."""
    found = snmp.parse_response(response(bytes.fromhex(value.replace(" ", ""))))
    assert found == snmp.Response(77, b"public", 0, {NAME: read})


@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 2**32), max_size=12))
def test_names_and_numbers_come_back_as_they_went(number, tail):
    """Any name of ours and any number survive the way out and in."""
    name = ".".join(map(str, (1, 3, *tail)))
    assert snmp.parse_response(response(snmp._integer(number), name=name)).values == {name: number}


@given(st.binary(max_size=200))
def test_no_datagram_is_more_than_a_protocol_error(data):
    """Any bytes: a response, or RemoteProtocolError."""
    check(data)


@given(st.data())
def test_a_damaged_response_is_no_more_than_a_protocol_error(data):
    """Octets changed, cut off or put in; also lengths that promise too much."""
    good = bytearray(response(bytes.fromhex("410301e240")))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
    check(bytes(good[: data.draw(st.integers(0, len(good)))]))
    check(bytes(good))


def check(data: bytes) -> None:
    try:
        snmp.parse_response(data)
    except RemoteProtocolError:
        pass


def test_a_flood_of_values_ends_early():
    """A datagram full of bindings is refused at the 65th."""
    many = b"".join(snmp._wrap(0x30, snmp._name(f"1.3.{n}") + b"\x05\x00") for n in range(100))
    pdu = snmp._integer(1) + snmp._integer(0) + snmp._integer(0) + snmp._wrap(0x30, many)
    message = snmp._integer(1) + snmp._wrap(0x04, b"") + snmp._wrap(0xA2, pdu)
    with pytest.raises(RemoteProtocolError, match="more SNMP values"):
        snmp.parse_response(snmp._wrap(0x30, message))
