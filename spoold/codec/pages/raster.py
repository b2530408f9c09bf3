"""Rasters: PWG (PWG 5102.4), CUPS (versions 1 to 3) and Apple's URF, a header before every page.

The next header is found only by walking the lines of the page: a byte says how often a line
repeats, then runs fill it: 0 to 127 repeats the next pixel one more time than it says, 129 to 255
brings 257 minus it pixels, 128 leaves the rest of the line blank. What a header claims (the number
of all pages, above all) is not believed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from spoold.codec.pages.contents import (
    MediaSize,
    Sides,
    Tally,
    media_size,
    media_size_points,
)
from spoold.codec.pages.document import WINDOW_BYTES, Damaged, Document

_PADDING = b"\x00\t\r\n \x04\x1a"
_EDGE_MAX = 200_000  # pixels: four metres at 1,200 dpi
_PIXEL_BYTES_MAX = 32
_URF_HEADER = 32
_COMPRESSED = (b"RaS2", b"2SaR")
_HEADER_BYTES = {b"RaSt": 420, b"tSaR": 420}
_CUPS_HEADER = 1796
_SYNC = {
    b"RaS2": ">",
    b"RaS3": ">",
    b"RaSt": ">",
    b"2SaR": "<",
    b"3SaR": "<",
    b"tSaR": "<",
}
_GRAY_SPACES = frozenset({0, 3, 18})  # W, K, sGray
_RGB_SPACES = frozenset({1, 19, 20})  # RGB, sRGB, AdobeRGB
_URF_GRAY = frozenset({0, 4})  # sGray, device gray: W
_URF_RGB = frozenset({1, 3, 5})  # sRGB, AdobeRGB, device RGB


@dataclass(frozen=True, slots=True)
class Frame:
    """What a page header says of the data behind it."""

    width: int  # pixels
    height: int
    line_bytes: int
    pixel_bytes: int  # what a run counts in
    is_gray: bool
    is_rgb: bool  # 8 bits each: colour can be seen
    copies: int | None
    sides: Sides
    media: MediaSize | None


class LineWalker:
    """Walks packed lines; `colour` is whether a pixel had unequal parts, where that was asked."""

    def __init__(self, document: Document, wants_colour: bool) -> None:
        self._document = document
        self._wants_colour = wants_colour
        self.has_colour = False

    def page(self, at: int, frame: Frame) -> int:
        """Where the page that begins at `at` ends.

        Raises:
            Damaged: lines and runs do not fit the header.
        """
        document, spend = self._document, self._document.allowance.spend
        pixels = -(-frame.line_bytes // frame.pixel_bytes)
        # The longest line there is: each pixel a run of its own.
        line_max = 1 + pixels * (frame.pixel_bytes + 1)
        watches = self._wants_colour and frame.is_rgb
        self.has_colour = False
        rows, base, data = 0, at, b""
        while rows < frame.height:
            here = at - base
            if here + line_max > len(data) and base + len(data) < document.end:
                base, data, here = at, document.window(at, max(WINDOW_BYTES, 2 * line_max)), 0
            if here >= len(data):
                raise Damaged("it ends inside a page")
            rows += data[here] + 1
            try:
                end = self._line(data, here + 1, pixels, frame.pixel_bytes)
            except IndexError:
                raise Damaged("it ends inside a page") from None
            if end > len(data):
                raise Damaged("it ends inside a page")
            if watches and not self.has_colour:
                self.has_colour = _line_has_colour(data, here + 1, end)
            spend(8 + (end - here) // 8)
            at = base + end
        if rows > frame.height:
            raise Damaged("more lines than a page has")
        return at

    @staticmethod
    def _line(data: bytes, at: int, pixels: int, size: int) -> int:
        x = 0
        run = 1 + size
        while x < pixels:
            code = data[at]
            if code < 128:
                x += code + 1
                at += run
            elif code > 128:
                x += 257 - code
                at += 1 + (257 - code) * size
            else:
                return at + 1
        if x > pixels:
            raise Damaged("a run is longer than its line")
        return at


def _line_has_colour(data: bytes, at: int, end: int) -> bool:
    """Do the runs of a line of RGB pixels have one with unequal parts?"""
    while at < end:
        code = data[at]
        if code == 128:
            return False
        count = 1 if code < 128 else 257 - code
        stop = at + 1 + 3 * count
        if not data[at + 1 : stop : 3] == data[at + 2 : stop : 3] == data[at + 3 : stop : 3]:
            return True
        at = stop
    return False


# --- PWG and CUPS ---------------------------------------------------------------------------------


def count_raster(document: Document, tally: Tally, wants_colour: bool = False) -> int:
    """Count a PWG or CUPS raster; returns where it ends."""
    at = document.start
    sync = document.exactly(at, 4)
    order = _SYNC.get(sync)
    if order is None:
        raise Damaged("no raster")
    length = _HEADER_BYTES.get(sync, _CUPS_HEADER)
    is_packed = sync in _COMPRESSED
    walker = LineWalker(document, wants_colour)
    at += 4
    while not _is_behind_the_last(document, at):
        frame = _cups_frame(document.exactly(at, length), order, is_packed)
        at += length
        if is_packed:
            at = walker.page(at, frame)
            seen: bool | None = walker.has_colour
        else:
            at += frame.height * frame.line_bytes
            seen = None
            if at > document.end:
                raise Damaged("it ends inside a page")
        document.allowance.spend(100)
        tally.page(frame.copies, frame.sides, frame.media, _colour(frame, wants_colour, seen))
    return document.end


def _cups_frame(header: bytes, order: str, is_packed: bool) -> Frame:
    def number(offset: int) -> int:
        value: int = struct.unpack_from(f"{order}I", header, offset)[0]
        return value

    duplex, tumble, copies = number(272), number(368), number(340)
    x_dpi, y_dpi = number(276), number(280)
    width, height, bits, line = number(372), number(376), number(388), number(392)
    planes_order, space = number(396), number(400)
    _check(width, height, line)
    if not 1 <= bits <= _PIXEL_BYTES_MAX * 8:
        raise Damaged(f"{bits} bits a pixel")
    if is_packed and planes_order:
        raise Damaged("its colours are not chunked")
    if is_packed and line != (width * bits + 7) // 8:
        raise Damaged("lines as long as the header says do not hold its pixels")
    media = media_size_points(number(352), number(356))
    if media is None and x_dpi and y_dpi:
        media = media_size(width * 2540 / x_dpi, height * 2540 / y_dpi)
    sides = Sides.ONE_SIDED
    if duplex:
        sides = Sides.SHORT_EDGE if tumble else Sides.LONG_EDGE
    if planes_order == 2 and not is_packed:  # a plane after the other
        planes = max(1, number(420)) if len(header) > 424 else 1
        height *= min(planes, 16)
    return Frame(
        width,
        height,
        line,
        (bits + 7) // 8,
        space in _GRAY_SPACES,
        space in _RGB_SPACES and bits == 24,
        copies or None,
        sides,
        media,
    )


def _check(width: int, height: int, line: int) -> None:
    if not (0 < width <= _EDGE_MAX and 0 < height <= _EDGE_MAX):
        raise Damaged(f"a page of {width} by {height} pixels")
    if not 0 < line <= _EDGE_MAX * _PIXEL_BYTES_MAX:
        raise Damaged(f"a line of {line} bytes")


def _colour(frame: Frame, wants_colour: bool, seen: bool | None) -> bool | None:
    if frame.is_gray:
        return False
    return seen if wants_colour and frame.is_rgb else None


def _is_behind_the_last(document: Document, at: int) -> bool:
    """Nothing but padding follows: a header begins with text or with numbers that are not blank."""
    if at >= document.end:
        return True
    if document.end - at >= _CUPS_HEADER:
        return False
    return not document.window(at, _CUPS_HEADER).strip(_PADDING)


# --- URF ------------------------------------------------------------------------------------------

_URF_MAGIC = b"UNIRAST\x00"
_URF_SIDES = {2: Sides.SHORT_EDGE, 3: Sides.LONG_EDGE}


def count_urf(document: Document, tally: Tally, wants_colour: bool = False) -> int:
    """Count an Apple raster; returns where it ends. Its page count is not believed."""
    if document.window(document.start, len(_URF_MAGIC)) != _URF_MAGIC:
        raise Damaged("no Apple raster")
    document.exactly(document.start, 12)
    walker = LineWalker(document, wants_colour)
    at = document.start + 12
    while not _is_urf_end(document, at):
        frame = _urf_frame(document.exactly(at, _URF_HEADER))
        at = walker.page(at + _URF_HEADER, frame)
        colour = _colour(frame, wants_colour, walker.has_colour)
        tally.page(None, frame.sides, frame.media, colour)
        document.allowance.spend(100)
    return document.end


def _is_urf_end(document: Document, at: int) -> bool:
    rest = document.end - at
    return rest <= 0 or (rest < 4096 and not document.window(at, rest).strip(_PADDING))


def _urf_frame(header: bytes) -> Frame:
    bits, space, duplex = header[0], header[1], header[2]
    width, height, dpi = struct.unpack_from(">III", header, 12)
    if bits not in (1, 8, 16, 24, 32, 48, 64):
        raise Damaged(f"{bits} bits a pixel")
    _check(width, height, (width * bits + 7) // 8)
    return Frame(
        width,
        height,
        (width * bits + 7) // 8,
        max(1, bits // 8),
        space in _URF_GRAY,
        space in _URF_RGB and bits == 24,
        None,
        _URF_SIDES.get(duplex, Sides.ONE_SIDED),
        media_size(width * 2540 / dpi, height * 2540 / dpi) if dpi else None,
    )
