"""TIFF (6.0, and BigTIFF): a page for each image directory. JPEG (T.81) and PNG: one page."""

from __future__ import annotations

import struct

from spoold.codec.pages.contents import Tally, media_size
from spoold.codec.pages.document import Damaged, Document

_DIRECTORIES_MAX = 100_000
_ENTRIES_MAX = 65_535
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC = 254, 256, 257, 262
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_TAGS = frozenset(
    {_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT}
)
_REDUCED, _MASK = 1, 4  # of NewSubfileType: a preview or a mask of another image, no page
_GRAY = (0, 1, 4)  # white is zero, black is zero, mask
_PER_UNIT = {2: 2540, 3: 1000}  # per inch, per centimetre


def count_tiff(document: Document, tally: Tally) -> int:
    """Count the directories of the main chain; directories below a page are no pages."""
    start = document.start
    head = document.exactly(start, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise Damaged("no TIFF")
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version not in (42, 43):
        raise Damaged("no TIFF")
    is_big = version == 43
    if is_big:
        (at,) = struct.unpack(f"{order}Q", document.exactly(start + 8, 8))
    else:
        (at,) = struct.unpack_from(f"{order}I", head, 4)
    seen: set[int] = set()
    while at:
        if at in seen:
            raise Damaged("its directories go in a circle")
        if len(seen) >= _DIRECTORIES_MAX:
            raise Damaged("it has more directories than any document")
        seen.add(at)
        at = _directory(document, start + at, order, is_big, tally)
    return document.end


def _directory(document: Document, at: int, order: str, is_big: bool, tally: Tally) -> int:
    """Count the directory at `at`; returns the offset of the next one, 0 behind the last."""
    wide, entry, offset, code = (8, 20, 8, "Q") if is_big else (2, 12, 4, "I")
    (entries,) = struct.unpack(f"{order}{'Q' if is_big else 'H'}", document.exactly(at, wide))
    if not 0 < entries <= _ENTRIES_MAX:
        raise Damaged(f"a directory of {entries} entries")
    body = document.exactly(at + wide, entries * entry + offset)
    document.allowance.spend(entries)
    values: dict[int, float] = {}
    for here in range(0, entries * entry, entry):
        tag, kind = struct.unpack_from(f"{order}HH", body, here)
        if tag in _TAGS:
            field = body[here + (12 if is_big else 8) : here + entry]
            values[tag] = _value(document, kind, field, order, code)
    kind_of_image = int(values.get(_SUBFILE_TYPE, 0))
    if not kind_of_image & (_REDUCED | _MASK):
        per_unit = _PER_UNIT.get(int(values.get(_RESOLUTION_UNIT, 2)), 0)
        x, y = values.get(_X_RESOLUTION, 0), values.get(_Y_RESOLUTION, 0)
        media = None
        if x > 0 and y > 0:
            width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
            media = media_size(width * per_unit / x, height * per_unit / y)
        is_gray = values.get(_PHOTOMETRIC) in _GRAY
        tally.page(media=media, colour=False if is_gray else None)
    (following,) = struct.unpack_from(f"{order}{code}", body, entries * entry)
    return int(following)


def _value(document: Document, kind: int, field: bytes, order: str, code: str) -> float:
    """The first value of a field: SHORT, LONG or RATIONAL; 0 for anything else."""
    if kind == 3:
        return float(struct.unpack_from(f"{order}H", field)[0])
    if kind == 4:
        return float(struct.unpack_from(f"{order}I", field)[0])
    if kind == 5:
        data = field
        if code == "I":
            (at,) = struct.unpack(f"{order}I", field)
            data = document.window(document.start + at, 8)
        if len(data) == 8:
            above, below = struct.unpack(f"{order}II", data)
            return above / below if below else 0.0
    return 0.0


# --- one page -------------------------------------------------------------------------------------

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEGMENTS_MAX = 10_000


def count_jpeg(document: Document, tally: Tally) -> int:
    """One page, if there is a frame header; images behind the first are not printed."""
    at = document.start
    if document.exactly(at, 2) != b"\xff\xd8":
        raise Damaged("no JPEG")
    at += 2
    for _ in range(_SEGMENTS_MAX):
        marker, code = document.exactly(at, 2)
        if marker != 0xFF:
            raise Damaged("a marker is missing")
        if code == 0xFF:  # fill
            at += 1
            continue
        if code in (0xD9, 0xDA):
            break
        (length,) = struct.unpack(">H", document.exactly(at + 2, 2))
        if length < 2:
            raise Damaged("a segment without a length")
        if code in _JPEG_FRAMES:
            height, width, parts = struct.unpack(">xHHB", document.exactly(at + 4, 6))
            if not width or not parts:
                raise Damaged(f"an image of {width} by {height} pixels")
            tally.page(colour=False if parts == 1 else None)
            return document.end
        at += 2 + length
    raise Damaged("it has no image")


def count_png(document: Document, tally: Tally) -> int:
    """One page, if there is an image header."""
    head = document.exactly(document.start, 33)
    if not head.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"):
        raise Damaged("no PNG")
    width, height, _, kind = struct.unpack_from(">IIBB", head, 16)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise Damaged(f"an image of {width} by {height} pixels")
    tally.page(colour=False if kind in (0, 4) else None)
    return document.end
