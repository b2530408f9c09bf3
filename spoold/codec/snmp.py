"""SNMP v1 and v2c, the little that a page counter needs: GetRequest out, Response in. Sans-IO.

In: names (OIDs) and a datagram. Out: a datagram, and values by name. RFC 1157, RFC 3416; BER as
X.690 has it, definite lengths only. Anything malformed is a `RemoteProtocolError`, after work that
is linear in the datagram (puresnmp was seen to loop for ever on a few flipped octets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spoold.model.errors import RemoteProtocolError

DATAGRAM_BYTES_MAX: Final = 65507
VERSIONS: Final = {"1": 0, "2c": 1}
NAMES_MAX: Final = 64

_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
_UNSIGNED = (0x41, 0x42, 0x43, 0x46)  # Counter32, Gauge32, TimeTicks, Counter64
_GET_REQUEST, _RESPONSE = 0xA0, 0xA2
_INTEGER_BYTES_MAX = 9  # a Counter64 with its leading zero octet

Value = int | bytes | None


@dataclass(frozen=True, slots=True)
class Response:
    """`values` by name; None where the agent has no such object. `error` is error-status."""

    request_id: int
    community: bytes
    error: int
    values: dict[str, Value]


def get_request(version: str, community: bytes, request_id: int, names: list[str]) -> bytes:
    """A GetRequest for `names`; `version` is a key of `VERSIONS`, the id 0 to 2^31-1."""
    bindings = b"".join(_wrap(_SEQUENCE, _name(name) + _wrap(_NULL, b"")) for name in names)
    pdu = _integer(request_id) + _integer(0) + _integer(0) + _wrap(_SEQUENCE, bindings)
    return _wrap(
        _SEQUENCE,
        _integer(VERSIONS[version]) + _wrap(_OCTETS, community) + _wrap(_GET_REQUEST, pdu),
    )


def parse_response(datagram: bytes) -> Response:
    """The response in `datagram`.

    Raises:
        RemoteProtocolError: it is none.
    """
    message = _Reader(datagram).enter(_SEQUENCE)
    if message.integer() not in VERSIONS.values():
        raise RemoteProtocolError("an SNMP version that was not asked for")
    community = message.take(_OCTETS)
    pdu = message.enter(_RESPONSE)
    request_id, error, _ = pdu.integer(), pdu.integer(), pdu.integer()
    bindings = pdu.enter(_SEQUENCE)
    values: dict[str, Value] = {}
    while not bindings.is_empty:
        if len(values) >= NAMES_MAX:
            raise RemoteProtocolError("more SNMP values than were asked for")
        binding = bindings.enter(_SEQUENCE)
        name = _dotted(binding.take(_OID))
        values[name] = binding.value()
    return Response(request_id, community, error, values)


class _Reader:
    """The elements of one BER value, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def element(self) -> tuple[int, bytes]:
        """Tag and content of the next element."""
        data, at = self._data, self._at
        if len(data) - at < 2:
            raise RemoteProtocolError("SNMP ends inside an element")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 3 or len(data) - at < count:
                raise RemoteProtocolError("an SNMP length that cannot be")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if length > len(data) - at:
            raise RemoteProtocolError("SNMP ends inside an element")
        self._at = at + length
        return tag, data[at : at + length]

    def take(self, tag: int) -> bytes:
        """The content of the next element, which is a `tag`."""
        found, content = self.element()
        if found != tag:
            raise RemoteProtocolError(f"SNMP has {found:#04x} where {tag:#04x} should be")
        return content

    def enter(self, tag: int) -> _Reader:
        return _Reader(self.take(tag))

    def integer(self) -> int:
        return _number(self.take(_INTEGER), is_signed=True)

    def value(self) -> Value:
        """An integer, octets, or None for what is missing or of a type that nobody asks for."""
        tag, content = self.element()
        if tag == _INTEGER:
            return _number(content, is_signed=True)
        if tag in _UNSIGNED:
            return _number(content, is_signed=False)
        return content if tag == _OCTETS else None


def _number(content: bytes, *, is_signed: bool) -> int:
    if not 1 <= len(content) <= _INTEGER_BYTES_MAX:
        raise RemoteProtocolError("an SNMP integer that cannot be")
    # Some agents leave out the zero octet in front of a large Counter: it is never negative.
    return int.from_bytes(content, "big", signed=is_signed)


def _dotted(content: bytes) -> str:
    if not content or content[-1] & 0x80 or len(content) > 128:
        raise RemoteProtocolError("an SNMP name that cannot be")
    numbers: list[int] = []
    number = 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(n) for n in (first, numbers[0] - 40 * first, *numbers[1:]))


def _name(name: str) -> bytes:
    first, second, *rest = (int(number) for number in name.split("."))
    content = bytearray()
    for number in (40 * first + second, *rest):
        septets = [number & 0x7F]
        while number := number >> 7:
            septets.append(number & 0x7F | 0x80)
        content += bytes(reversed(septets))
    return _wrap(_OID, bytes(content))


def _integer(number: int) -> bytes:
    return _wrap(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _wrap(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
