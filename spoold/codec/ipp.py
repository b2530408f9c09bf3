"""IPP's message encoding (RFC 8010): bytes to messages and back, both roles. Sans-IO.

In: the bytes of one message in any pieces. Out: a `Message`, and what is behind its end tag, where
the document begins. What an operation asks of its attributes (charset first, a target, ...) is for
those who know operations; framing, syntaxes and lengths are decided here.

Promised: whatever the bytes, `feed` raises nothing but `RemoteProtocolError`, whose `reply_hint` is
the keyword of a status, and work and memory are linear in what `Limits` lets pass. The nouns and
the makers of attributes are in `ipp_values`, and named here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, NoReturn

from spoold.codec import ipp_syntax
from spoold.codec.ipp_syntax import FORGIVING_LENGTHS_MAX, KINDS, LENGTHS_MAX, PARSERS, Kind
from spoold.codec.ipp_values import INTEGER_MAX as INTEGER_MAX
from spoold.codec.ipp_values import INTEGER_MIN as INTEGER_MIN
from spoold.codec.ipp_values import PER_CENTIMETER as PER_CENTIMETER
from spoold.codec.ipp_values import PER_INCH as PER_INCH
from spoold.codec.ipp_values import Attribute as Attribute
from spoold.codec.ipp_values import DateTime as DateTime
from spoold.codec.ipp_values import Group as Group
from spoold.codec.ipp_values import Message as Message
from spoold.codec.ipp_values import Range as Range
from spoold.codec.ipp_values import Resolution as Resolution
from spoold.codec.ipp_values import Tag as Tag
from spoold.codec.ipp_values import Value as Value
from spoold.codec.ipp_values import WithLanguage as WithLanguage
from spoold.codec.ipp_values import boolean as boolean
from spoold.codec.ipp_values import charset as charset
from spoold.codec.ipp_values import collection as collection
from spoold.codec.ipp_values import date_time as date_time
from spoold.codec.ipp_values import delete_attribute as delete_attribute
from spoold.codec.ipp_values import enum_ as enum_
from spoold.codec.ipp_values import group as group
from spoold.codec.ipp_values import integer as integer
from spoold.codec.ipp_values import keyword as keyword
from spoold.codec.ipp_values import language as language
from spoold.codec.ipp_values import members as members
from spoold.codec.ipp_values import mime as mime
from spoold.codec.ipp_values import name_ as name_
from spoold.codec.ipp_values import no_value as no_value
from spoold.codec.ipp_values import octets as octets
from spoold.codec.ipp_values import out_of_band as out_of_band
from spoold.codec.ipp_values import range_ as range_
from spoold.codec.ipp_values import resolution as resolution
from spoold.codec.ipp_values import text as text
from spoold.codec.ipp_values import unknown as unknown
from spoold.codec.ipp_values import unsupported as unsupported
from spoold.codec.ipp_values import uri as uri
from spoold.codec.ipp_values import uri_scheme as uri_scheme
from spoold.model.errors import RemoteProtocolError

END: Final = b"\x03"
BAD_REQUEST: Final = "client-error-bad-request"
TOO_LONG: Final = "client-error-request-value-too-long"
TOO_LARGE: Final = "client-error-request-entity-too-large"

_HEAD = Struct(">BBHi")
_INT_FIELD = Struct(">Hi")
_LENGTH = Struct(">H")
_CHARSETS = ("utf-8", "us-ascii")
# The hot loops compare with plain numbers: an enum's member costs twice as much.
_ASCII, _TEXT, _INTEGER, _BOOLEAN = map(int, (Kind.ASCII, Kind.TEXT, Kind.INTEGER, Kind.BOOLEAN))
_PARSED, _OPAQUE, _OUT_OF_BAND = map(int, (Kind.PARSED, Kind.OPAQUE, Kind.OUT_OF_BAND))
_COLLECTION, _MEMBER_NAME = map(int, (Kind.COLLECTION, Kind.MEMBER_NAME))
_STRINGS = (_ASCII, _TEXT)
_OF_ANY_LENGTH = (_ASCII, _TEXT, _OPAQUE, _MEMBER_NAME)
_WITH_LANGUAGE = (Tag.TEXT_LANGUAGE, Tag.NAME_LANGUAGE)
_new_value = tuple.__new__
_unpack_int = ipp_syntax.INT.unpack_from

_Open = tuple[
    dict[str, Attribute], list[Value] | None
]  # attributes, and values of the last of them


@dataclass(frozen=True, slots=True)
class Limits:
    """What one message may take.

    `fields_max` counts tags: of groups, values, members, and ends of collections.
    `is_forgiving` is for what printers answer: texts may be longer than RFC 8011 5.1 allows and
    ill-coded, a name may stand twice (its first values count), an out-of-band value may hold
    octets, an integer none (no-value, as libcups has it), groups may come in any order.
    """

    message_bytes_max: int = 256 * 1024
    fields_max: int = 8192
    depth_max: int = 8
    is_forgiving: bool = False


REQUEST_LIMITS: Final = Limits()
ANSWER_LIMITS: Final = Limits(4 << 20, 131_072, 12, is_forgiving=True)


class Decoder:
    """One message. Feed it until the message comes; what followed it is then in `rest`.

    `version`, `code` and `request_id` are there as soon as they have been read, so that a broken
    request can be answered. After an error there is nothing more to be read.
    """

    __slots__ = (
        *("_attributes", "_fields_left", "_groups", "_has_failed", "_is_done", "_kept", "_limits"),
        *("_member", "_needed", "_outer", "_taken", "_values"),
        *("code", "request_id", "rest", "version"),
    )

    def __init__(self, limits: Limits = REQUEST_LIMITS) -> None:
        self.version: tuple[int, int] | None = None
        self.code: int | None = None
        self.request_id: int | None = None
        self.rest = b""
        self._limits = limits
        self._fields_left = limits.fields_max
        self._kept = bytearray()  # the front of a field that is not yet whole
        self._needed = _HEAD.size  # how much of it must be there before it is worth a look
        self._taken = 0  # bytes before `_kept`
        self._groups: list[Group] = []
        self._attributes: dict[str, Attribute] = {}  # of the group or collection that is open
        self._values: list[Value] | None = None  # of the last of these attributes
        self._member = ""  # the name of a member that has no value yet
        self._outer: list[_Open] = []  # what is around the collection that is open
        self._is_done = False
        self._has_failed = False

    def feed(self, data: bytes | bytearray | memoryview) -> Message | None:
        """Take the next bytes; the message once they complete it.

        Raises:
            RemoteProtocolError: this is no message, or it goes beyond a limit.
        """
        if self._has_failed or self._is_done:
            _fail("there is nothing more to be read of this message")
        if self._kept:
            self._kept += data
            if len(self._kept) < self._needed:
                return None
            data = bytes(self._kept)
            self._kept.clear()
        elif type(data) is not bytes:
            data = bytes(data)
        try:
            at = self._decode(data)
        except RemoteProtocolError:
            self._has_failed = True
            raise
        if not self._is_done:
            self._taken += at
            self._kept += data[at:]
            return None
        self.rest = data[at:]
        assert self.version is not None
        assert self.code is not None
        assert self.request_id is not None
        return Message(self.version, self.code, self.request_id, self._groups)

    def end(self) -> None:
        """The stream has ended.

        Raises:
            RemoteProtocolError: the message has not.
        """
        if not self._is_done:
            self._has_failed = True
            _fail("the stream ended inside a message")

    def _decode(self, data: bytes) -> int:
        """Decode what is whole; returns where that ends."""
        at = 0
        if self.version is None:
            if len(data) < _HEAD.size:
                return 0
            major, minor, self.code, self.request_id = _HEAD.unpack_from(data)
            self.version = (major, minor)
            at = _HEAD.size
        try:
            at = self._fields(data, at)
        except UnicodeDecodeError:
            self._fail_text()
        # Also when the field that is not yet whole would go beyond.
        wanted = self._taken + at + (0 if self._is_done else self._needed)
        if wanted > self._limits.message_bytes_max:
            _fail(f"attributes of over {self._limits.message_bytes_max} bytes", TOO_LARGE)
        return at

    def _fields(self, data: bytes, at: int) -> int:
        """The loop over the tags. It keeps the state in locals, which is half of its speed."""
        limits = self._limits
        is_forgiving = limits.is_forgiving
        lengths_max = FORGIVING_LENGTHS_MAX if is_forgiving else LENGTHS_MAX
        errors = "replace" if is_forgiving else "strict"
        end_max = limits.message_bytes_max - self._taken
        size = min(len(data), end_max)
        left = self._fields_left
        attributes, values, member = self._attributes, self._values, self._member
        outer = self._outer
        needed = 1
        while at < size:
            tag = data[at]
            kind = KINDS[tag]
            if tag == 3 and not outer:
                at += 1
                self._is_done = True
                break
            if not left:
                _fail(f"over {limits.fields_max} groups and values", TOO_LARGE)
            if not kind:
                attributes, values = self._begin_group(tag), None
                at += 1
                left -= 1
                continue

            if at + 3 > size:
                needed = 3
                break
            name_at = at + 3
            name_end = name_at + (data[at + 1] << 8 | data[at + 2])
            if name_end - name_at > 255:
                _fail("a name of over 255 octets", TOO_LONG)
            first = name_end + 2
            if first > size:
                needed = first - at
                break
            length = data[name_end] << 8 | data[name_end + 1]
            if length > lengths_max[tag]:
                _fail_length(tag, kind, length)
            last = first + length
            if last > size:
                needed = last - at
                break
            at = last
            left -= 1

            if kind == _ASCII:
                value = _new_value(Value, (tag, data[first:last].decode("ascii", errors)))
            elif kind == _TEXT:
                value = _new_value(Value, (tag, data[first:last].decode("utf-8", errors)))
            elif kind == _INTEGER and length == 4:
                value = _new_value(Value, (tag, _unpack_int(data, first)[0]))
            elif kind < _COLLECTION:
                value = _value(tag, kind, data[first:last], is_forgiving)
            elif kind == _COLLECTION:
                value = Value(tag, {})
            else:  # a member's name, or the end of the collection
                if name_end > name_at or not outer or member:
                    _fail("a collection that is not well formed")
                if kind == _MEMBER_NAME:
                    member, values = _name(data[first:last]), None
                else:
                    attributes, values = outer.pop()
                continue

            if name_end > name_at:
                if outer or not self._groups:
                    _fail("an attribute where none can be")
                name = _name(data[name_at:name_end])
            elif member:
                name, member = member, ""
            elif values is None:
                _fail("a value without a name")
            else:
                name = ""
                values.append(value)
            if name:
                values = [value]
                if name not in attributes:
                    attributes[name] = Attribute(name, values)
                elif not is_forgiving:
                    _fail("a name stands twice in a group")
            if kind == _COLLECTION:
                if len(outer) >= limits.depth_max:
                    _fail(f"collections nested over {limits.depth_max} deep", TOO_LARGE)
                outer.append((attributes, values))
                attributes, values = value.value, None
        self._attributes, self._values, self._member = attributes, values, member
        self._fields_left = left
        self._needed = needed
        return at

    def _begin_group(self, tag: int) -> dict[str, Attribute]:
        if self._outer or not 0 < tag < 0x10:
            _fail(f"tag {tag:#04x} where it cannot be")
        groups = self._groups
        if (tag == Tag.OPERATION) is bool(groups) and not self._limits.is_forgiving:
            _fail("the operation attributes come first, and once")
        begun = Group(tag, {})
        groups.append(begun)
        return begun.attributes

    def _fail_text(self) -> NoReturn:
        """Text that is no UTF-8: a charset that is not spoken here, if it says so."""
        named = self._groups[0].first("attributes-charset") if self._groups else None
        if isinstance(named, str) and named.lower() not in _CHARSETS:
            _fail("a charset other than utf-8", "client-error-charset-not-supported")
        _fail("text that is not well coded")


@lru_cache(maxsize=2048)
def _name(octets: bytes) -> str:
    """The name of an attribute: visible ASCII (options of PPDs are not all keywords)."""
    name = octets.decode("ascii")
    if not name or not name.isprintable() or " " in name:
        _fail("a name that is not one")
    return name


def _value(tag: int, kind: int, octets: bytes, is_forgiving: bool) -> Value:
    """A value of one of the rarer syntaxes."""
    if kind == _BOOLEAN and octets in (b"\0", b"\1"):
        return Value(tag, octets == b"\1")
    if kind == _OPAQUE and (tag != Tag.EXTENSION or len(octets) >= 4):
        return Value(tag, octets)
    if kind == _OUT_OF_BAND:
        return Value(tag, None)
    if kind == _PARSED:
        return Value(tag, _parsed(tag, octets, is_forgiving))
    if is_forgiving and kind == _INTEGER and not octets:
        return Value(int(Tag.NO_VALUE), None)
    raise RemoteProtocolError(f"a value that tag {tag:#04x} cannot have", BAD_REQUEST)


def _parsed(tag: int, octets: bytes, is_forgiving: bool) -> Any:
    try:
        return PARSERS[tag](octets, is_forgiving)
    except UnicodeDecodeError:
        raise
    except OverflowError as error:
        raise RemoteProtocolError(f"a value of tag {tag:#04x}: {error}", TOO_LONG) from error
    except (ValueError, struct_error) as error:
        raise RemoteProtocolError(f"a value of tag {tag:#04x}: {error}", BAD_REQUEST) from error


def _fail_length(tag: int, kind: int, length: int) -> NoReturn:
    hint = TOO_LONG if kind in _OF_ANY_LENGTH or tag in _WITH_LANGUAGE else BAD_REQUEST
    _fail(f"{length} octets in a value of tag {tag:#04x}", hint)


def _fail(message: str, hint: str = BAD_REQUEST) -> NoReturn:
    raise RemoteProtocolError(message, hint)


# --- encoding -------------------------------------------------------------------------------------

_TAGS = [bytes((tag,)) for tag in range(256)]
_LENGTHS = [_LENGTH.pack(length) for length in range(1024)]
_ADDITIONAL = b"\0\0"
_TRUE, _FALSE, _EMPTY = b"\0\1\1", b"\0\1\0", b"\0\0"
_END_COLLECTION = b"\x37\0\0\0\0"


def encode(message: Message) -> bytes:
    """The bytes of a message, its end tag included.

    A text or name that is too long is cut at a character.

    Raises:
        ValueError: a value does not fit its syntax; also of `encode_group`.
    """
    parts = [encode_head(message.version, message.code, message.request_id)]
    parts += [encode_group(group.tag, group.attributes.values()) for group in message.groups]
    parts.append(END)
    return b"".join(parts)


def encode_head(version: tuple[int, int], code: int, request_id: int) -> bytes:
    """What is in front of the first group."""
    return _HEAD.pack(*version, code, request_id)


def encode_group(tag: int, attributes: Iterable[Attribute]) -> bytes:
    """A group's tag and its attributes."""
    return _TAGS[tag] + encode_attributes(attributes)


def encode_attributes(attributes: Iterable[Attribute]) -> bytes:
    """Attributes without their group's tag, for those that are the same in many answers."""
    parts: list[bytes] = []
    try:
        for attribute in attributes:
            _put(parts, _name_field(attribute.name), attribute.values)
    except (struct_error, OverflowError) as error:
        raise ValueError(f"a value that does not fit its syntax: {error}") from error
    return b"".join(parts)


@lru_cache(maxsize=2048)
def _name_field(name: str) -> bytes:
    octets = name.encode("ascii")
    if not 0 < len(octets) <= ipp_syntax.NAME_OCTETS_MAX:
        raise ValueError("a name that cannot be")
    return _LENGTH.pack(len(octets)) + octets


def _put(parts: list[bytes], name: bytes, values: list[Value]) -> None:
    """Append the fields of one attribute; `name` with its length."""
    for tag, value in values:
        kind = KINDS[tag]
        if kind in _STRINGS:
            octets = value.encode("utf-8", "replace")
            if len(octets) > LENGTHS_MAX[tag] or len(octets) > 1023:
                octets = _shortened(tag, octets)
                parts += (_TAGS[tag], name, _LENGTH.pack(len(octets)), octets)
            else:
                parts += (_TAGS[tag], name, _LENGTHS[len(octets)], octets)
        elif kind == _INTEGER:
            parts += (_TAGS[tag], name, _INT_FIELD.pack(4, value))
        elif kind == _BOOLEAN:
            parts += (_TAGS[tag], name, _TRUE if value else _FALSE)
        elif kind == _COLLECTION:
            parts += (_TAGS[tag], name, _EMPTY)
            for member in value.values():
                field = _name_field(member.name)
                parts += (b"\x4a\0\0", field)
                _put(parts, _ADDITIONAL, member.values)
            parts.append(_END_COLLECTION)
        else:
            octets = _octets(tag, kind, value)
            parts += (_TAGS[tag], name, _LENGTH.pack(len(octets)), octets)
        name = _ADDITIONAL


def _shortened(tag: int, octets: bytes) -> bytes:
    if KINDS[tag] == _TEXT:
        return ipp_syntax.cut(octets, LENGTHS_MAX[tag])
    if len(octets) > ipp_syntax.VALUE_OCTETS_MAX:
        raise ValueError(f"{len(octets)} octets in a value of tag {tag:#04x}")
    return octets


def _octets(tag: int, kind: int, value: Any) -> bytes:
    """A value of one of the rarer syntaxes."""
    if kind == _OUT_OF_BAND:
        return b""
    if kind == _PARSED:
        return ipp_syntax.pack(tag, value)
    if kind != _OPAQUE or len(value) > ipp_syntax.VALUE_OCTETS_MAX:
        raise ValueError(f"a value that tag {tag:#04x} cannot have")
    return bytes(value)
