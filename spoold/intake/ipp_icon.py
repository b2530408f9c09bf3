"""The icon of every printer (PWG 5100.13 5.6.36): a small PNG, drawn here."""

from __future__ import annotations

import struct
import zlib
from typing import Final

ICON_PATH: Final = "/icons/printer.png"
SIZE: Final = 48
_CLEAR, _DARK, _PAPER = 0, 1, 2
_PALETTE = bytes((255, 255, 255, 64, 72, 84, 222, 228, 236))
# Left, top, right, bottom, and a colour: paper, the body, its slot, the tray.
_BOXES = (
    (13, 5, 35, 18, _DARK),
    (15, 7, 33, 18, _PAPER),
    (5, 18, 43, 35, _DARK),
    (10, 24, 38, 27, _PAPER),
    (12, 30, 36, 43, _DARK),
    (14, 32, 34, 41, _PAPER),
)


def _png() -> bytes:
    """RFC 2083, colours by palette, of which the first is transparent."""
    rows = []
    for y in range(SIZE):
        row = bytearray(SIZE)
        for left, top, right, bottom, colour in _BOXES:
            if top <= y < bottom:
                row[left:right] = bytes((colour,)) * (right - left)
        rows.append(b"\0" + bytes(row))
    head = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", head),
            _chunk(b"PLTE", _PALETTE),
            _chunk(b"tRNS", b"\0"),
            _chunk(b"IDAT", zlib.compress(b"".join(rows), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


FILES: Final = {ICON_PATH: ("image/png", _png())}
