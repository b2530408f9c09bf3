"""PCL 5 (HP's PCL 5 Technical Reference): a page ends where the printer would put it out.

A form feed always ends one; a reset, another paper size or side, and the end of the job end one
that has marks on it. Binary data behind commands is passed over by its length, so that form feeds
in it count for nothing. Lines that run over the foot of the page end it too: where depends on the
settings of the device, so then the count is not exact.
"""

from __future__ import annotations

import re

from spoold.codec.pages.contents import MediaSize, Sides, Tally
from spoold.codec.pages.document import WINDOW_BYTES, Damaged, Document

UEL = b"\x1b%-12345X"
_INCH = 2540
_SIZES = {  # ESC &l # A
    1: (18415, 26670),
    2: (21590, 27940),
    3: (21590, 35560),
    6: (27940, 43180),
    15: (10500, 14800),
    24: (10500, 14800),
    25: (14800, 21000),
    26: (21000, 29700),
    27: (29700, 42000),
    45: (18200, 25700),
    46: (25700, 36400),
    71: (10000, 14800),
    72: (14800, 20000),
    80: (9842, 19050),
    81: (10477, 24130),
    90: (11000, 22000),
    91: (16200, 22900),
    100: (17600, 25000),
}
_SIDES = {0: Sides.ONE_SIDED, 1: Sides.LONG_EDGE, 2: Sides.SHORT_EDGE}
_MARKS = frozenset({"*bV", "*bW", "*cP", "&pX"})
_COLOUR = frozenset({"*vW", "*rU", "*dW", "*iW", "*gW"})
_CLEAN = re.compile(rb"[\x1b\x0c\n!-~\xa0-\xff]")
_MARKED = re.compile(rb"[\x1b\x0c\n]")
_PARAMETER = re.compile(rb"([+-]?)([0-9]{0,9})(?:\.[0-9]{0,9})?([!-\xff]?)", re.DOTALL)
_GL_DRAWS = re.compile(rb"P[DE]|LB|[RE][ARW]|WG|FP|EP|CI|A[ART]", re.IGNORECASE)
_COMMAND_BYTES_MAX = 64
_MARGIN = 0.5  # inches at head and foot, as the device has them after a reset
_LINE = 1 / 6


class PclCounter:
    """Reads one PCL document into `tally`; `run` returns where it ended: at a UEL or the end."""

    def __init__(self, document: Document, tally: Tally) -> None:
        self._document = document
        self._tally = tally
        self._prefix = ""  # of the command that goes on
        self._has_colour_commands = False
        self._reset()

    def _reset(self) -> None:
        self._marked = False
        self._copies: int | None = None
        self._sides: Sides | None = None
        self._media: MediaSize | None = None
        self._is_front = False
        self._height = 11.0
        self._line = _LINE
        self._text_lines: int | None = None
        self._skips_foot = True
        self._y = 0.0
        self._unit = 300.0
        self._in_gl = False

    def run(self, at: int) -> int:
        """Count from `at` on.

        Raises:
            Damaged: data that a command announces is missing.
            TooLarge: the allowance is used up.
        """
        document, spend = self._document, self._document.allowance.spend
        base, data = at, b""
        while True:
            if at - base >= len(data) - _COMMAND_BYTES_MAX and base + len(data) < document.end:
                base, data = at, document.window(at, WINDOW_BYTES)
            spend(1)
            here = at - base
            if self._prefix and here < len(data):
                at = base + self._parameters(data, here, base)
                continue
            found = (_MARKED if self._marked or self._in_gl else _CLEAN).search(data, here)
            if self._in_gl:
                self._draw(data[here : found.start() if found else len(data)])
            if found is None:
                at = base + len(data)
                if at >= document.end:
                    break
                continue
            here = found.start()
            at = base + here
            if here + _COMMAND_BYTES_MAX > len(data) and base + len(data) < document.end:
                continue  # a command may go on behind the window
            byte = data[here]
            if byte == 0x1B:
                if data.startswith(UEL, here):
                    break
                at += self._escape(data[here + 1 : here + 3])
                continue
            at += 1
            if self._in_gl:
                continue
            if byte == 0x0C:
                self._end_page()
            elif byte == 0x0A:
                self._line_feed()
            else:
                self._marked = True
        self._eject()
        return at

    # --- commands ---------------------------------------------------------------------------------

    def _escape(self, head: bytes) -> int:
        """Take the bytes behind an ESC; returns how many with it are the command, or its start."""
        kind, group = head[:1], head[1:2]
        if b"!" <= kind <= b"/":
            self._prefix = kind.decode("latin-1")
            if b"`" <= group <= b"~":
                self._prefix += group.decode("latin-1")
                return 3
            return 2
        if kind == b"E":
            self._eject()
            self._reset()
        return 1 if kind in (b"", b"\x1b") else 2

    def _parameters(self, data: bytes, at: int, base: int) -> int:
        """Take parameters from `at` of the window on; returns where they end, or the window does.

        A lower-case letter goes on with another parameter of the same group. Drivers put a whole
        page into one such command.
        """
        enough = len(data) - _COMMAND_BYTES_MAX
        if base + len(data) >= self._document.end:
            enough = len(data)
        spend = self._document.allowance.spend
        while True:
            found = _PARAMETER.match(data, at)
            assert found is not None  # everything in it is optional
            at = found.end()
            letter = found[3]
            if letter:
                spend(1)
                number = int(found[2] or 0)
                name = self._prefix + letter.decode("latin-1").upper()
                if found[1] != b"-" and (name[-1] == "W" or name in ("*bV", "&pX")):
                    at += number
                    if base + at > self._document.end:
                        raise Damaged("data behind a PCL command is missing")
                self._command(name, found[1], number)
            if not b"`" <= letter <= b"~":
                self._prefix = ""
                return at
            if at >= enough:
                return at

    def _draw(self, data: bytes) -> None:
        """HP-GL/2 marks the page when it draws; its pens may be of any colour."""
        if _GL_DRAWS.search(data):
            self._marked = self._has_colour_commands = True

    def _command(self, name: str, sign: bytes, number: int) -> None:
        if name in _MARKS and (number or name == "*cP"):
            self._marked = True
        if name in _COLOUR and not (name == "*rU" and number == 1):
            self._has_colour_commands = True
        match name:
            case "%B":
                self._in_gl = True
                if sign == b"-":  # a plotter's: pages end where its own commands say
                    self._tally.doubt("HP-GL/2 stands alone")
            case "%A":
                self._in_gl = False
            case "&lX":
                self._copies = max(1, number)
            case "&lH":
                self._eject()
            case "&lS" if number in _SIDES:
                self._eject()
                self._sides = _SIDES[number]
            case "&aG":
                self._eject()
                self._is_front = number == 1
            case "&lA":
                self._eject()
                size = _SIZES.get(number)
                self._media = MediaSize(*size) if size else None
                self._height = size[1] / _INCH if size else 11.0
            case "&lO" | "&lP":
                self._eject()
            case "&lL":
                self._skips_foot = number == 1
            case "&lF":
                self._text_lines = number or None
            case "&lC":
                self._line = number / 48
            case "&lD" if number:
                self._line = 1 / number
            case "&uD" if number:
                self._unit = number
            case "*pY":
                self._move(sign, number / self._unit)
            case "&aV":
                self._move(sign, number / 720)
            case "&aR":
                self._move(sign, number * self._line)

    # --- the page ---------------------------------------------------------------------------------

    def _move(self, sign: bytes, inches: float) -> None:
        if sign:
            inches = self._y + (inches if sign == b"+" else -inches)
        self._y = max(0.0, inches)

    def _line_feed(self) -> None:
        self._y += self._line
        if not self._skips_foot or not self._line:
            return
        room = self._height - 2 * _MARGIN
        if self._text_lines:
            room = self._text_lines * self._line
        if self._y > room - self._line / 2:
            if self._marked:
                self._tally.doubt("lines run over the foot of a page")
            self._eject()
            self._y = 0.0

    def _eject(self) -> None:
        if self._marked:
            self._end_page()

    def _end_page(self) -> None:
        colour = None if self._has_colour_commands else False
        self._tally.page(self._copies, self._sides, self._media, colour, is_front=self._is_front)
        self._marked = self._is_front = False
        self._y = 0.0


def count_pcl(document: Document, tally: Tally) -> int:
    """Count a PCL 5 document; returns where it ends."""
    return PclCounter(document, tally).run(document.start)
