"""What RFC 8011 calls attributes, ready to send: octets of single attributes, and which are asked.

Listings send the same attributes thousands of times, so the front of each (tag and name) is made
once and only values are added. Pure: no request, no connection, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from spoold.codec.ipp_values import Tag

TEXT_OCTETS_MAX: Final = 1023
NAME_OCTETS_MAX: Final = 255


def front(tag: int, name: str) -> bytes:
    """The octets of an attribute up to the length of its first value (RFC 8010 3.1.4)."""
    octets = name.encode("ascii")
    return bytes((tag,)) + len(octets).to_bytes(2, "big") + octets


def _further(tag: int) -> bytes:
    """The octets of a further value (RFC 8010 3.1.5) up to its length."""
    return bytes((tag, 0, 0))


def number(name: str, tag: int = Tag.INTEGER) -> Callable[[int], bytes]:
    """A maker of an integer or enum attribute; what does not fit is the largest that does."""
    start = front(tag, name) + b"\0\4"

    def make(value: int) -> bytes:
        return start + min(value, 0x7FFFFFFF).to_bytes(4, "big", signed=True)

    return make


def string(name: str, tag: int, octets_max: int = 32767) -> Callable[[str], bytes]:
    """A maker of a text, name, keyword or URI attribute; what is too long is cut."""
    start = front(tag, name)

    def make(value: str) -> bytes:
        octets = value.encode("utf-8", "replace")
        if len(octets) > octets_max:
            octets = octets[:octets_max].decode("utf-8", "ignore").encode()
        return start + len(octets).to_bytes(2, "big") + octets

    return make


def strings(name: str, tag: int) -> Callable[[Iterable[str]], bytes]:
    """A maker of an attribute of one or more keywords."""
    start, further = front(tag, name), _further(tag)

    def make(values: Iterable[str]) -> bytes:
        parts = [one.encode("utf-8", "replace") for one in values]
        rest = b"".join(further + len(one).to_bytes(2, "big") + one for one in parts[1:])
        return start + len(parts[0]).to_bytes(2, "big") + parts[0] + rest

    return make


def fixed(tag: int, name: str, value: bytes = b"") -> bytes:
    """A whole attribute whose value is octets already; empty for out-of-band values."""
    return front(tag, name) + len(value).to_bytes(2, "big") + value


def selected(
    asked: Iterable[str] | None,
    groups: Mapping[str, frozenset[str]],
    known: frozenset[str],
    default: frozenset[str],
) -> frozenset[str]:
    """The names that `requested-attributes` asks for; what nobody knows has no value to send.

    `groups` are the names that stand for several ("all", "job-template"); None asks `default`.
    """
    if asked is None:
        return default
    found: set[str] = set()
    for name in asked:
        if name in groups:
            found |= groups[name]
        elif name in known:
            found.add(name)
    return frozenset(found)
