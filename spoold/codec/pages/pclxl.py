"""PCL-XL, also called PCL 6 (HP's PCL XL Feature Reference, protocol classes 1.1 to 3.0).

A stream header, then tagged values, attributes and operators. A page is an EndPage operator; its
copies are an attribute of that, its sides and its size attributes of BeginPage, which hold until
another page says otherwise. Arrays and embedded data are passed over by their length.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from spoold.codec.pages.contents import MediaSize, Sides, Tally, media_size
from spoold.codec.pages.document import WINDOW_BYTES, Damaged, Document

HEADERS = (b") HP-PCL XL;", b"( HP-PCL XL;")
_HEADER_BYTES_MAX = 65536
_SESSION, _END_SESSION, _BEGIN_PAGE, _END_PAGE = 0x41, 0x42, 0x43, 0x44
_SET_COLOUR_SPACE, _SET_BRUSH, _SET_PEN, _BEGIN_IMAGE = 0x6A, 0x63, 0x79, 0xB0
_OPERATORS = frozenset(
    {_SESSION, _END_SESSION, _BEGIN_PAGE, _END_PAGE}
    | {_SET_COLOUR_SPACE, _SET_BRUSH, _SET_PEN, _BEGIN_IMAGE}
)
# Attributes.
_COLOUR_SPACE, _PALETTE, _GRAY, _RGB, _PRIMARIES = 3, 6, 9, 11, 14
_MEDIA_SIZE, _CUSTOM_SIZE, _CUSTOM_UNITS, _COPIES = 37, 47, 48, 49
_SIMPLEX, _DUPLEX, _DUPLEX_SIDE = 52, 53, 54
_KEPT = frozenset(
    {_COLOUR_SPACE, _PALETTE, _RGB, _PRIMARIES, _MEDIA_SIZE, _CUSTOM_SIZE, _CUSTOM_UNITS, _COPIES}
    | {_SIMPLEX, _DUPLEX, _DUPLEX_SIDE}
)
_E_GRAY = 1
_SHORT_EDGE, _LONG_EDGE = 0, 1  # binding along the horizontal, the vertical edge
_BACK = 1
_SIZES = {
    0: (21590, 27940),
    1: (21590, 35560),
    2: (21000, 29700),
    3: (18415, 26670),
    4: (27940, 43180),
    5: (29700, 42000),
    6: (10477, 24130),
    7: (9842, 19050),
    8: (16200, 22900),
    9: (11000, 22000),
    10: (25700, 36400),
    11: (18200, 25700),
    12: (17600, 25000),
    13: (17600, 25000),
    14: (10000, 14800),
    15: (14800, 20000),
    16: (14800, 21000),
    17: (10500, 14800),
    18: (12800, 18200),
}
_NAMES = {
    "LETTER": 0,
    "LEGAL": 1,
    "A4": 2,
    "EXEC": 3,
    "EXECUTIVE": 3,
    "LEDGER": 4,
    "A3": 5,
    "JIS B4": 10,
    "JIS B5": 11,
    "A5": 16,
    "A6": 17,
}
_PER_UNIT = {0: 2540.0, 1: 100.0, 2: 254.0}  # inch, millimetre, tenth of a millimetre
_ELEMENT = (1, 2, 4, 2, 4, 4)  # ubyte uint16 uint32 sint16 sint32 real32
_VALUE_MAX = 256  # bytes of an array that are kept: names and colours are shorter

_SCALAR = (
    rb"\xc0.|[\xc1\xc3].{2}|[\xc2\xc4\xc5].{4}|\xd0.{2}|[\xd1\xd3].{4}|[\xd2\xd4\xd5].{8}"
    rb"|\xe0.{4}|[\xe1\xe3].{8}|[\xe2\xe4\xe5].{16}"
)
_DULL = b"".join(re.escape(bytes([one])) for one in range(0x41, 0xC0) if one not in _OPERATORS)
# Whole statements that say nothing of pages: skipped without a look at each token. The bound keeps
# values without end from being read again and again.
_STATEMENTS = re.compile(
    rb"(?:(?:[\x00\t-\r ]|(?:%b)\xf8.){0,64}+[%b])++" % (_SCALAR, _DULL), re.DOTALL
)
_TOKEN_BYTES_MAX = 18


@dataclass(slots=True)
class _Page:
    """What BeginPage said, or an earlier one when it said nothing."""

    sides: Sides | None = None
    media: MediaSize | None = None
    is_front: bool = False


class PclXlCounter:
    """Reads one PCL-XL stream into `tally`; `run` returns where it ended."""

    def __init__(self, document: Document, tally: Tally) -> None:
        self._document = document
        self._tally = tally
        self._order: Any = "little"
        self._attributes: dict[int, Any] = {}
        self._page = _Page()
        self._in_page = False
        self._is_colour_space = False
        self._has_colour = False

    def run(self, at: int) -> int:
        """Count from the header at `at` on.

        Raises:
            Damaged: no such header, an unknown tag, or the stream ends inside a page.
            TooLarge: the allowance is used up.
        """
        at = self._header(at)
        document, spend = self._document, self._document.allowance.spend
        base, data = at, b""
        value: Any = None
        while True:
            here = at - base
            if here + _TOKEN_BYTES_MAX > len(data) and base + len(data) < document.end:
                base, data, here = at, document.window(at, WINDOW_BYTES), 0
            if here >= len(data):
                if self._in_page:
                    raise Damaged("it ends inside a page")
                return at
            spend(1)
            if value is None and not self._attributes:
                found = _STATEMENTS.match(data, here)
                if found is not None:
                    at = base + found.end()
                    continue
            tag = data[here]
            if tag == 0x1B:
                if self._in_page:
                    raise Damaged("it ends inside a page")
                return at
            if tag in b"\x00\t\n\x0b\x0c\r ":
                at += 1
            elif 0x41 <= tag <= 0xBF:
                self._operator(tag)
                self._attributes.clear()
                at += 1
                if tag == _END_SESSION:
                    self._in_page = False
            elif tag in (0xF8, 0xF9):
                wide = 1 if tag == 0xF8 else 2
                attribute = int.from_bytes(document.exactly(at + 1, wide), self._order)
                if attribute in _KEPT:
                    self._attributes[attribute] = value
                value = None
                at += 1 + wide
            elif tag in (0xFA, 0xFB):
                wide = 4 if tag == 0xFA else 1
                length = int.from_bytes(document.exactly(at + 1, wide), self._order)
                at += 1 + wide + length
                if at > document.end:
                    raise Damaged("embedded data is missing")
            else:
                value, at = self._value(tag, at)

    def _header(self, at: int) -> int:
        head = self._document.window(at, _HEADER_BYTES_MAX)
        if not head.startswith(HEADERS):
            raise Damaged("no header of a binary PCL-XL stream")
        end = head.find(b"\n")
        if end < 0:
            raise Damaged("the stream header has no end")
        self._order = "little" if head.startswith(b")") else "big"
        return at + end + 1

    def _value(self, tag: int, at: int) -> tuple[Any, int]:
        """The value at `at`: a number, a tuple of numbers, or the first bytes of an array."""
        document, order = self._document, self._order
        kind, group = tag & 7, tag & 0xF8
        if kind > 5 or group not in (0xC0, 0xC8, 0xD0, 0xE0):
            raise Damaged(f"the tag 0x{tag:02x} is unknown")
        size = _ELEMENT[kind]
        at += 1
        if group == 0xC8:
            length_tag = document.exactly(at, 1)[0]
            if length_tag not in (0xC0, 0xC1, 0xC2):
                raise Damaged("an array has no length")
            wide = _ELEMENT[length_tag & 7]
            count = int.from_bytes(document.exactly(at + 1, wide), order)
            at += 1 + wide
            if at + count * size > document.end:
                raise Damaged("an array is cut off")
            return document.window(at, min(count * size, _VALUE_MAX)), at + count * size
        count = {0xC0: 1, 0xD0: 2, 0xE0: 4}[group]
        data = document.exactly(at, size * count)
        numbers = tuple(
            _real(data[n : n + 4], order)
            if kind == 5
            else int.from_bytes(data[n : n + size], order, signed=kind in (3, 4))
            for n in range(0, len(data), size)
        )
        return (numbers[0] if count == 1 else numbers), at + size * count

    # --- operators --------------------------------------------------------------------------------

    def _operator(self, tag: int) -> None:
        said = self._attributes
        if tag == _SESSION:
            self._page = _Page()
            self._is_colour_space = False
        elif tag == _BEGIN_PAGE:
            if self._in_page:
                raise Damaged("a page begins inside a page")
            self._in_page, self._has_colour = True, False
            self._is_colour_space = False
            self._begin_page(said)
        elif tag == _END_PAGE:
            if not self._in_page:
                raise Damaged("a page ends that never began")
            self._in_page = False
            copies = said.get(_COPIES)
            page = self._page
            self._tally.page(
                copies if isinstance(copies, int) and copies > 0 else None,
                page.sides,
                page.media,
                self._has_colour,
                is_front=page.is_front,
            )
        elif tag == _SET_COLOUR_SPACE:
            self._is_colour_space = said.get(_COLOUR_SPACE) != _E_GRAY
            palette = said.get(_PALETTE)
            if self._is_colour_space and isinstance(palette, bytes):
                self._has_colour |= _is_coloured(palette)
        elif tag in (_SET_BRUSH, _SET_PEN):
            for name in (_RGB, _PRIMARIES):
                primaries = said.get(name)
                if isinstance(primaries, bytes):
                    self._has_colour |= _is_coloured(primaries)
        elif tag == _BEGIN_IMAGE:
            self._has_colour |= self._is_colour_space

    def _begin_page(self, said: dict[int, Any]) -> None:
        page = self._page
        if _SIMPLEX in said:
            page.sides = Sides.ONE_SIDED
        elif _DUPLEX in said:
            is_short = said[_DUPLEX] == _SHORT_EDGE
            page.sides = Sides.SHORT_EDGE if is_short else Sides.LONG_EDGE
        page.is_front = _DUPLEX_SIDE in said and said[_DUPLEX_SIDE] != _BACK
        size = said.get(_MEDIA_SIZE)
        if isinstance(size, bytes):
            size = _NAMES.get(size.decode("latin-1").strip("\0 ").upper())
        if isinstance(size, int) and size in _SIZES:
            page.media = MediaSize(*_SIZES[size])
        elif _CUSTOM_SIZE in said and isinstance(said[_CUSTOM_SIZE], tuple):
            unit = _PER_UNIT.get(said.get(_CUSTOM_UNITS, 0), 0.0)
            width, height = said[_CUSTOM_SIZE][:2]
            page.media = media_size(width * unit, height * unit)
        elif _MEDIA_SIZE in said:
            page.media = None


def _is_coloured(primaries: bytes) -> bool:
    """Does an array of RGB values have one with unequal parts?"""
    whole = len(primaries) // 3 * 3
    red, green, blue = (primaries[n:whole:3] for n in range(3))
    return not red == green == blue


def _real(data: bytes, order: str) -> float:
    value: float = struct.unpack("<f" if order == "little" else ">f", data)[0]
    return value


def count_pclxl(document: Document, tally: Tally) -> int:
    """Count a PCL-XL stream; returns where it ends."""
    return PclXlCounter(document, tally).run(document.start)
