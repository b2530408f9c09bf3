"""The nouns of an IPP message: values with their syntaxes, attributes, groups; and makers of them.

RFC 8011 5.1 names the syntaxes, RFC 8010 3.5 numbers their tags and 3.9 says what each holds.
A maker of attributes (`integer`, `keyword`, ...) takes the name and the values of one attribute.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final, NamedTuple

PER_INCH: Final = 3  # units of a resolution (RFC 8011 5.1.16)
PER_CENTIMETER: Final = 4
INTEGER_MIN: Final = -(1 << 31)
INTEGER_MAX: Final = (1 << 31) - 1


class Tag(IntEnum):
    """Delimiter tags (0x01 to 0x0F), out-of-band values (0x10 to 0x1F), and value tags."""

    OPERATION = 0x01
    JOB = 0x02
    END = 0x03
    PRINTER = 0x04
    UNSUPPORTED = 0x05
    SUBSCRIPTION = 0x06
    EVENT = 0x07
    RESOURCE = 0x08
    DOCUMENT = 0x09
    SYSTEM = 0x0A
    UNSUPPORTED_VALUE = 0x10
    UNKNOWN = 0x12
    NO_VALUE = 0x13
    NOT_SETTABLE = 0x15
    DELETE = 0x16
    ADMIN_DEFINE = 0x17
    INTEGER = 0x21
    BOOLEAN = 0x22
    ENUM = 0x23
    OCTETS = 0x30
    DATE_TIME = 0x31
    RESOLUTION = 0x32
    RANGE = 0x33
    COLLECTION = 0x34
    TEXT_LANGUAGE = 0x35
    NAME_LANGUAGE = 0x36
    END_COLLECTION = 0x37
    TEXT = 0x41
    NAME = 0x42
    KEYWORD = 0x44
    URI = 0x45
    URI_SCHEME = 0x46
    CHARSET = 0x47
    LANGUAGE = 0x48
    MIME = 0x49
    MEMBER_NAME = 0x4A
    EXTENSION = 0x7F


class DateTime(NamedTuple):
    """DateAndTime of RFC 2579: local time, and how far it is from UTC."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    decisecond: int
    direction: str  # "+" or "-" from UTC
    utc_hours: int
    utc_minutes: int

    @classmethod
    def at(cls, unix_s: float) -> DateTime:
        """The UTC date and time of `unix_s` seconds after 1970."""
        when = datetime.fromtimestamp(unix_s, UTC)
        day = (when.year, when.month, when.day)
        return cls(
            *day, when.hour, when.minute, when.second, when.microsecond // 100_000, "+", 0, 0
        )

    @property
    def unix_s(self) -> int | None:
        """Seconds after 1970; None for a date that no calendar has."""
        try:
            seconds = calendar.timegm((*self[:6], 0, 0, 0))
        except ValueError:
            return None
        offset_s = self.utc_hours * 3600 + self.utc_minutes * 60
        return seconds - offset_s if self.direction == "+" else seconds + offset_s


class Resolution(NamedTuple):
    """Dots across the feed and along it, for each `PER_INCH` or `PER_CENTIMETER`."""

    x: int
    y: int
    units: int = PER_INCH


class Range(NamedTuple):
    low: int
    high: int


class WithLanguage(NamedTuple):
    """A text or name that says in which natural language it is."""

    language: str
    text: str


class Value(NamedTuple):
    """One value and its tag.

    `value` is an int, bool, str, bytes (octetString, and every syntax that is not known here),
    `DateTime`, `Resolution`, `Range`, `WithLanguage`, a dict of `Attribute` by name (collection),
    or None (out-of-band).
    """

    tag: int
    value: Any


@dataclass(slots=True)
class Attribute:
    """A name and its values, at least one."""

    name: str
    values: list[Value]

    @property
    def tag(self) -> int:
        """The tag of the first value."""
        return self.values[0].tag

    @property
    def first(self) -> Any:
        return self.values[0].value

    @property
    def all(self) -> list[Any]:
        return [value for _, value in self.values]


@dataclass(slots=True)
class Group:
    """The attributes of one thing, in their order."""

    tag: int
    attributes: dict[str, Attribute]

    def get(self, name: str) -> Attribute | None:
        return self.attributes.get(name)

    def first(self, name: str, default: Any = None) -> Any:
        """The first value of the attribute `name`; `default` without it."""
        found = self.attributes.get(name)
        return default if found is None else found.values[0].value


@dataclass(slots=True)
class Message:
    """A request or an answer. `code` is its operation-id or its status-code."""

    version: tuple[int, int]
    code: int
    request_id: int
    groups: list[Group]

    def group(self, tag: int) -> Group | None:
        """The first group with this tag."""
        for group in self.groups:
            if group.tag == tag:
                return group
        return None

    def groups_of(self, tag: int) -> list[Group]:
        return [group for group in self.groups if group.tag == tag]


def group(tag: int, attributes: Iterable[Attribute]) -> Group:
    """A group of attributes, which all have different names."""
    return Group(int(tag), {attribute.name: attribute for attribute in attributes})


# --- makers ---------------------------------------------------------------------------------------


def integer(name: str, *values: int) -> Attribute:
    return Attribute(name, [Value(0x21, value) for value in values])


def boolean(name: str, value: bool) -> Attribute:
    return Attribute(name, [Value(0x22, value)])


def enum_(name: str, *values: int) -> Attribute:
    return Attribute(name, [Value(0x23, value) for value in values])


def octets(name: str, *values: bytes) -> Attribute:
    return Attribute(name, [Value(0x30, value) for value in values])


def date_time(name: str, *values: DateTime) -> Attribute:
    return Attribute(name, [Value(0x31, value) for value in values])


def resolution(name: str, *values: Resolution) -> Attribute:
    return Attribute(name, [Value(0x32, value) for value in values])


def range_(name: str, *values: Range) -> Attribute:
    return Attribute(name, [Value(0x33, value) for value in values])


def members(attributes: Iterable[Attribute]) -> dict[str, Attribute]:
    """The value of a collection that has these members."""
    return {attribute.name: attribute for attribute in attributes}


def collection(name: str, *values: Iterable[Attribute]) -> Attribute:
    """An attribute of collections; each is given by its members."""
    return Attribute(name, [Value(0x34, members(value)) for value in values])


def text(name: str, *values: str) -> Attribute:
    """Texts without language. The encoder cuts one that is longer than 1023 octets."""
    return Attribute(name, [Value(0x41, value) for value in values])


def name_(name: str, *values: str) -> Attribute:
    """Names without language. The encoder cuts one that is longer than 255 octets."""
    return Attribute(name, [Value(0x42, value) for value in values])


def keyword(name: str, *values: str) -> Attribute:
    return Attribute(name, [Value(0x44, value) for value in values])


def uri(name: str, *values: str) -> Attribute:
    return Attribute(name, [Value(0x45, value) for value in values])


def uri_scheme(name: str, *values: str) -> Attribute:
    return Attribute(name, [Value(0x46, value) for value in values])


def charset(name: str, *values: str) -> Attribute:
    return Attribute(name, [Value(0x47, value) for value in values])


def language(name: str, *values: str) -> Attribute:
    return Attribute(name, [Value(0x48, value) for value in values])


def mime(name: str, *values: str) -> Attribute:
    return Attribute(name, [Value(0x49, value) for value in values])


def out_of_band(name: str, tag: int) -> Attribute:
    """An attribute whose place of a value is taken by `tag`, such as `Tag.NOT_SETTABLE`."""
    return Attribute(name, [Value(int(tag), None)])


def no_value(name: str) -> Attribute:
    return out_of_band(name, Tag.NO_VALUE)


def unknown(name: str) -> Attribute:
    return out_of_band(name, Tag.UNKNOWN)


def unsupported(name: str) -> Attribute:
    """For the unsupported-attributes group: the Printer does not know this attribute."""
    return out_of_band(name, Tag.UNSUPPORTED_VALUE)


def delete_attribute(name: str) -> Attribute:
    return out_of_band(name, Tag.DELETE)
