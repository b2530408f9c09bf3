"""Counters survive every byte: they answer within their allowance, and never say zero."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spoold.codec.pages.container import Wishes, count
from spoold.codec.pages.document import Allowance

UEL = b"\x1b%-12345X"
_PWG = bytearray(1796)
_PWG[:9] = b"PwgRaster"
for _offset, _value in (
    (276, 300),
    (280, 300),
    (372, 4),
    (376, 8),
    (388, 24),
    (392, 12),
    (400, 19),
):
    struct.pack_into(">I", _PWG, _offset, _value)
_LINES = b"\x05\x03\xff\x00\xff\x00\xfd\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x00\x80"
SEEDS = [
    b"\x1bE\x1b&l2x1s26A\x1b*p300x300Yone\x0c\x1b*b3m5v\x0c\x0c\x0c\x0c\x0c3Wabc\x1b%0BPD1,1;\x1b%0A\x1bE",
    b") HP-PCL XL;2;0;t\n\x41\xc0\x02\xf8\x25\x43\xc8\xc1\x03\x00abc\xf8\x06"
    b"\x6a\xfa\x03\x00\x00\x00abc\xc1\x02\x00\xf8\x31\x44\x42",
    b"RaS2" + (bytes(_PWG) + _LINES) * 2,
    b"RaS3" + (bytes(_PWG) + bytes(96)) * 2,
    b"UNIRAST\x00\x00\x00\x00\x02"
    + (struct.pack(">BBBBIIIII8x", 24, 1, 3, 4, 0, 0, 4, 8, 300)[:32] + _LINES) * 2,
    b"%!PS-Adobe-3.0\n%%Pages: 2\n%%BeginSetup\n"
    b"<</Duplex true/NumCopies 2/PageSize[595 842]>>setpagedevice\n"
    b"%%EndSetup\n%%Page: 1 1\n%%BeginData: 4 Binary Bytes\nabcd\n%%EndData\n%%Page: 2 2\n%%EOF\n",
    b"\xc5\xd0\xd3\xc6\x1e\x00\x00\x00\x28\x00\x00\x00"
    + bytes(18)
    + b"%!PS-Adobe-3.0 EPSF-3.0\n%%EOF\n" * 2,
    b"II*\x00\x08\x00\x00\x00\x01\x00\xfe\x00\x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00",
    b"MM\x00+\x00\x08\x00\x00"
    + struct.pack(">QQ", 16, 1)
    + struct.pack(">HHQQ", 254, 4, 1, 0)
    + bytes(8),
    b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08\x00\x04\x00\x04\x01\x01\x11\x00\xff\xd9",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x04\x00\x00\x00\x04\x08\x02\x00\x00\x00abcd",
    UEL
    + b"@PJL SET COPIES=3\r\n@PJL SET DUPLEX=ON\r\n@PJL ENTER LANGUAGE=PCL\r\n\x1bEone\x0c"
    + UEL,
    b"plain text\f" * 5,
]
TYPES = ["", "application/postscript", "application/vnd.hp-PCL", "application/vnd.hp-PCLXL"]
TYPES += ["image/pwg-raster", "image/urf", "image/tiff", "image/jpeg", "image/png", "text/plain"]
JUNK = [UEL, b"\x1bE", b"\x1b&l", b"\x1b*b", b"\x0c", b"%%Page: 1 1\n", b"%%BeginData: 9999999\n"]
JUNK += [
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"99999999W",
    b"\x04%!",
    b"@PJL EOJ\r\n",
    b"\x43",
]


@st.composite
def mutants(draw):
    """A good document with bytes changed, cut out, repeated, moved and put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 200)))
        match draw(st.integers(0, 4)):
            case 0:
                del data[at:end]
            case 1:
                data[at:at] = draw(st.sampled_from(JUNK))
            case 2:
                data[at : at + 4] = draw(st.binary(min_size=1, max_size=4))
            case 3:
                data[at:at] = data[at:end] * draw(st.integers(1, 20))
            case 4:
                data += draw(st.sampled_from(SEEDS))
    return bytes(data)


def check(data: bytes, media_type: str = "") -> None:
    reads = 0

    def read_at(offset: int, size: int) -> bytes:
        nonlocal reads
        reads += size
        assert offset >= 0
        assert offset + size <= len(data)
        return data[offset : offset + size]

    allowance = Allowance(steps=100_000, bytes=50_000_000)
    contents = count(read_at, len(data), media_type, Wishes(colour=True), allowance)
    assert (contents.pages is None) == (contents.reason is not None)
    assert contents.pages is None or contents.pages > 0
    assert (contents.colour_pages is None) == (contents.colour_reason is not None)
    if contents.pages is not None:
        assert contents.sheets_of_one_copy is not None
        assert contents.sheets_of_one_copy <= contents.pages <= contents.impressions
        assert (contents.colour_pages or 0) <= contents.pages
    assert reads <= 50_000_000


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(mutants(), st.sampled_from(TYPES))
def test_mutants_of_good_documents(data, media_type):
    """They are counted or unknown."""
    check(data, media_type)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(TYPES))
@example(b"\x1b", "application/vnd.hp-PCL")
@example(b"\x1b&l", "application/vnd.hp-PCL")
@example(b"%!", "")
@example(b"\x04\x04", "application/postscript")
def test_any_bytes(data, media_type):
    """Whatever somebody calls them."""
    check(data, media_type)


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_every_cut_of_a_good_document(seed):
    """A connection that broke ends a document anywhere."""
    for end in range(0, len(SEEDS[seed]), 1 if len(SEEDS[seed]) < 500 else 37):
        check(SEEDS[seed][:end])


LONG = 3_000_000
WIDE = bytearray(_PWG)
struct.pack_into(">II", WIDE, 372, 200_000, 200_000)
struct.pack_into(">I", WIDE, 392, 600_000)
URF_DOT = struct.pack(">BBBBIIIII8x", 8, 0, 1, 4, 0, 0, 1, 1, 72)[:32]
HEAVY = {
    "escapes": b"\x1bE" + b"\x1b" * LONG,
    "one command": b"\x1bE\x1b*b" + b"1m" * (LONG // 2),
    "empty transfers": b"\x1bE" + b"\x1b*b0W" * (LONG // 5),
    "far jumps": b"\x1bE" + b"\x1b*b32767W" * (LONG // 9),
    "form feeds": b"\x0c" * LONG,
    "values": b") HP-PCL XL;2;0;t\n" + b"\xc0\x01" * (LONG // 2),
    "operators": b") HP-PCL XL;2;0;t\n" + b"\x43\x44" * (LONG // 2),
    "half statements": b") HP-PCL XL;2;0;t\n" + b"\xc0\x01\xf8\x01" * (LONG // 4),
    "comments": b"%!PS-Adobe-3.0\n" + b"%%Page: 1\n" * (LONG // 10),
    "data sections": b"%!PS-Adobe-3.0\n" + b"%%BeginData: 30\n" * (LONG // 16),
    "one line": b"%!PS-Adobe-3.0\n" + b"%%" * (LONG // 2),
    "settings": b"%!PS-Adobe-3.0\n" + b"/PageSize [" * (LONG // 11),
    "jobs": b"\x04%!PS-Adobe-3.0\n%%Pages: 1\n" * (LONG // 27),
    "pjl": (UEL + b"@PJL EOJ\r\n") * (LONG // 19),
    "uels": UEL * (LONG // 9),
    "lines": b"\n" * LONG,
    "blank rows": b"RaS2" + bytes(WIDE) + b"\x00\x80" * (LONG // 2),
    "short pages": b"UNIRAST\x00\x00\x00\x00\x00" + (URF_DOT + b"\x00\x00\x00") * (LONG // 35),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEAVY)
def test_the_worst_of_three_megabytes_is_soon_done(kind):
    """No form makes the time grow faster than the document."""
    data = HEAVY[kind]
    began = time.process_time()
    contents = count(lambda at, n: data[at : at + n], len(data), wishes=Wishes(colour=True))
    assert time.process_time() - began < 10
    assert contents.pages is None or contents.pages > 0
