"""The values of IPP as octets: what each tag holds and how long it may be. Used by `ipp`.

RFC 8010 3.9 lays values out, RFC 8011 5.1 sets the longest of each syntax.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Any, Final

from spoold.codec.ipp_values import DateTime, Range, Resolution, Tag, WithLanguage

NAME_OCTETS_MAX: Final = 255  # of an attribute's name: it is a keyword
TEXT_OCTETS_MAX: Final = 1023
LANGUAGE_OCTETS_MAX: Final = 63
VALUE_OCTETS_MAX: Final = 32767  # a length is a SIGNED-SHORT

INT = Struct(">i")
_DATE_TIME = Struct(">H6BcBB")
_RESOLUTION = Struct(">iib")
_RANGE = Struct(">ii")
_LENGTH = Struct(">H")


class Kind(IntEnum):
    """What is behind a tag; the usual kinds come first."""

    ASCII = 1
    TEXT = 2
    INTEGER = 3
    BOOLEAN = 4
    PARSED = 5  # by a function of `PARSERS`
    OPAQUE = 6  # octetString, and what is not known here
    OUT_OF_BAND = 7
    COLLECTION = 8
    MEMBER_NAME = 9
    END_COLLECTION = 10


def _date_time(octets: bytes, is_forgiving: bool) -> DateTime:
    year, month, day, hour, minute, second, tenth, sign, hours, minutes = _DATE_TIME.unpack(octets)
    if (
        not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 60)
        or not (tenth <= 9 and hours <= 14 and minutes <= 59)
        or sign not in (b"+", b"-")
    ):
        raise ValueError("not a date and time")
    direction = sign.decode("ascii")
    return DateTime(year, month, day, hour, minute, second, tenth, direction, hours, minutes)


def _resolution(octets: bytes, is_forgiving: bool) -> Resolution:
    return Resolution(*_RESOLUTION.unpack(octets))


def _range(octets: bytes, is_forgiving: bool) -> Range:
    return Range(*_RANGE.unpack(octets))


def _with_language(octets: bytes, text_max: int, is_forgiving: bool) -> WithLanguage:
    """Two lengths, each before its octets, fill the value (RFC 8010 3.9)."""
    if len(octets) < 4:
        raise ValueError("too short")
    at = 2 + _LENGTH.unpack_from(octets)[0]
    if at + 2 > len(octets) or at + 2 + _LENGTH.unpack_from(octets, at)[0] != len(octets):
        raise ValueError("lengths that do not fit")
    if not is_forgiving and (at - 2 > LANGUAGE_OCTETS_MAX or len(octets) - at - 2 > text_max):
        raise OverflowError("too long")
    errors = "replace" if is_forgiving else "strict"
    return WithLanguage(
        octets[2:at].decode("ascii", errors), octets[at + 2 :].decode(errors=errors)
    )


def _text_with_language(octets: bytes, is_forgiving: bool) -> WithLanguage:
    return _with_language(octets, TEXT_OCTETS_MAX, is_forgiving)


def _name_with_language(octets: bytes, is_forgiving: bool) -> WithLanguage:
    return _with_language(octets, NAME_OCTETS_MAX, is_forgiving)


# A parser raises ValueError or struct.error for a malformed value, OverflowError for a long one.
PARSERS: Final[dict[int, Callable[[bytes, bool], Any]]] = {
    Tag.DATE_TIME: _date_time,
    Tag.RESOLUTION: _resolution,
    Tag.RANGE: _range,
    Tag.TEXT_LANGUAGE: _text_with_language,
    Tag.NAME_LANGUAGE: _name_with_language,
}

_KINDS: Final[dict[int, Kind]] = {
    **dict.fromkeys(range(0x10, 0x20), Kind.OUT_OF_BAND),
    **dict.fromkeys(range(0x20, 0x80), Kind.OPAQUE),
    **dict.fromkeys((Tag.INTEGER, Tag.ENUM), Kind.INTEGER),
    Tag.BOOLEAN: Kind.BOOLEAN,
    **dict.fromkeys(PARSERS, Kind.PARSED),
    Tag.COLLECTION: Kind.COLLECTION,
    Tag.END_COLLECTION: Kind.END_COLLECTION,
    Tag.MEMBER_NAME: Kind.MEMBER_NAME,
    **dict.fromkeys((Tag.TEXT, Tag.NAME), Kind.TEXT),
    **dict.fromkeys(range(Tag.KEYWORD, Tag.MIME + 1), Kind.ASCII),
}
KINDS: Final = [int(_KINDS.get(tag, 0)) for tag in range(256)]  # 0: not the tag of a value

_FIXED: Final[dict[int, int]] = {
    **dict.fromkeys((Tag.COLLECTION, Tag.END_COLLECTION), 0),
    **dict.fromkeys((Tag.INTEGER, Tag.ENUM), 4),
    Tag.BOOLEAN: 1,
    Tag.DATE_TIME: _DATE_TIME.size,
    Tag.RESOLUTION: _RESOLUTION.size,
    Tag.RANGE: _RANGE.size,
    Tag.MEMBER_NAME: NAME_OCTETS_MAX,
}
_LONGEST: Final[dict[int, int]] = {
    **dict.fromkeys(range(0x10, 0x20), 0),
    Tag.TEXT_LANGUAGE: 4 + LANGUAGE_OCTETS_MAX + TEXT_OCTETS_MAX,
    Tag.NAME_LANGUAGE: 4 + LANGUAGE_OCTETS_MAX + NAME_OCTETS_MAX,
    **dict.fromkeys((Tag.NAME, Tag.KEYWORD, Tag.MIME), NAME_OCTETS_MAX),
    **dict.fromkeys((Tag.URI_SCHEME, Tag.CHARSET, Tag.LANGUAGE), LANGUAGE_OCTETS_MAX),
    **_FIXED,
}
# By tag: what a request may hold, and what is put up with in an answer.
LENGTHS_MAX: Final = [_LONGEST.get(tag, TEXT_OCTETS_MAX) for tag in range(256)]
FORGIVING_LENGTHS_MAX: Final = [_FIXED.get(tag, VALUE_OCTETS_MAX) for tag in range(256)]


def pack(tag: int, value: Any) -> bytes:
    """The octets of a value that a parser made, or could have made."""
    if tag == Tag.DATE_TIME:
        return _DATE_TIME.pack(*value[:7], value.direction.encode("ascii"), *value[8:])
    if tag == Tag.RESOLUTION:
        return _RESOLUTION.pack(*value)
    if tag == Tag.RANGE:
        return _RANGE.pack(*value)
    language = value.language.encode("ascii")
    text_max = TEXT_OCTETS_MAX if tag == Tag.TEXT_LANGUAGE else NAME_OCTETS_MAX
    text = cut(value.text.encode("utf-8", "replace"), text_max)
    return b"".join((_LENGTH.pack(len(language)), language, _LENGTH.pack(len(text)), text))


def cut(octets: bytes, length_max: int) -> bytes:
    """The first whole UTF-8 characters of `octets` that are no longer than `length_max`."""
    if len(octets) <= length_max:
        return octets
    return octets[:length_max].decode("utf-8", "ignore").encode()
