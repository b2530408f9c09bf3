"""What documents say of themselves is read as the devices read it, by hand-made documents."""

from __future__ import annotations

import struct

import pytest

from spoold.codec.pages.container import Wishes, count
from spoold.codec.pages.contents import (
    Contents,
    MediaSize,
    Reason,
    Sides,
    contents_from_map,
)
from spoold.codec.pages.document import Allowance

UEL = b"\x1b%-12345X"
A4 = MediaSize(21000, 29700)


def counted(data: bytes, media_type: str = "", **wishes) -> Contents:
    return count(lambda at, n: data[at : at + n], len(data), media_type, Wishes(**wishes))


def pages(data: bytes, media_type: str = "") -> int | None:
    return counted(data, media_type).pages


# --- PCL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"\x1bEone\x0ctwo\x0c\x1bE", 2),
        (b"\x1bEone\x0ctwo\x1bE", 2),  # a reset puts out what is on the page
        (b"\x1bEone\x0ctwo", 2),  # so does the end
        (b"\x1bE\x0c\x0c\x1bE", 2),  # form feeds put out blank pages
        (b"\x1bEone\x1b&l0Htwo\x1b&l1Sthree\x1b&l26Afour\x1bE", 4),
        (b"\x1bE\x1b&l1S\x1b&l26A\x1b&l0Oone\x1bE", 1),  # nothing to put out yet
        (b"\x1bE\x1b*b5W\x0c\x0c\x0c\x0c\x0c\x0c\x1bE", 1),  # raster data is no form feed
        (b"\x1bE\x1b*b2m3v\x0c\x0c\x0c3W\x0c\x0c\x0c\x0c\x1bE", 1),
        (b"\x1bE\x1b(s4W\x0c\x0c\x0c\x0cone\x0c\x1bE", 1),  # nor is a font
        (b"\x1bE\x1b&p3X\x0c\x0c\x0c\x0c\x1bE", 1),  # nor is transparent data
        (b"\x1bE\x1b%0BIN;SP1;PA0,0;PD10,10;\x1b%0A\x0c\x1bE", 1),
        (b"\x1bE\x1b%0BIN;SP1;\x1b%0A\x1b*c100a100b0P\x1bE", 1),
        (b"\x1bEone\x0c" + UEL, 1),
    ],
)
def test_pcl_pages_end_where_the_device_puts_them_out(data, number):
    """Form feeds always, other commands when there are marks, binary data never."""
    contents = counted(data)
    assert (contents.pages, contents.is_exact) == (number, True)


def test_pcl_copies_sides_and_size_are_of_each_page():
    """Two copies of two pages on one sheet, then one page of another size."""
    contents = counted(b"\x1bE\x1b&l2x1s26Aone\x0ctwo\x0c\x1b&l1x0s2Athree\x0c\x1bE")
    assert (contents.pages, contents.impressions) == (3, 5)
    assert (contents.media_sheets, contents.sheets_of_one_copy) == (3, 2)
    assert (contents.copies, contents.copies_vary) == (2, True)
    assert (contents.sides, contents.sides_vary) == (Sides.LONG_EDGE, True)
    assert contents.media == {A4: 2, MediaSize(21590, 27940): 1}


def test_pcl_lines_run_over_the_foot_of_the_page():
    """Text without form feeds fills pages of 60 lines on Letter; a device may have it otherwise."""
    contents = counted(b"\x1bE" + b"line\r\n" * 130 + b"\x1bE")
    assert (contents.pages, contents.is_exact) == (3, False)


def test_plotter_files_are_not_exact():
    """HP-GL/2 that stands alone ends its pages by commands that are not looked for."""
    contents = counted(b"\x1bE\x1b%-1BIN;SP1;PA0,0;PD10,10;PG;\x1b%0A\x1bE")
    assert (contents.pages, contents.is_exact) == (1, False)


def test_pcl_data_longer_than_any_window_is_passed_over():
    """The next command is found behind it."""
    noise = b"\x0c\x1bE" * 100_000
    data = b"\x1bE\x1b*b%dW%b\x0c\x1b*b%dW%b\x0c\x1bE" % (len(noise), noise, len(noise), noise)
    assert pages(data) == 2


def test_pcl_commands_at_the_edge_of_a_window():
    """Wherever the window ends, no command is cut."""
    for shift in range(200):
        data = (
            b"\x1bE" + b" " * (262_144 - 150 + shift) + b"\x1b*b2m3v\x0c\x0c\x0c4W\x0c\x0c\x0c\x0c"
        )
        assert pages(data + b"\x0c\x1b&l1Stwo\x1bE") == 2


# --- PCL-XL ---------------------------------------------------------------------------------------


def pclxl(*body: bytes) -> bytes:
    return b") HP-PCL XL;2;0;test\n\x41" + b"".join(body) + b"\x42"


def xl_page(copies: int = 1, begin: bytes = b"\xc0\x02\xf8\x25\xc0\x00\xf8\x34") -> bytes:
    return begin + b"\x43\xc1" + copies.to_bytes(2, "little") + b"\xf8\x31\x44"


def test_pclxl_copies_and_sides():
    """PageCopies stands at the end of a page, sides at its beginning; a front takes a new sheet."""
    duplex = b"\xc0\x01\xf8\x35"
    contents = counted(pclxl(xl_page(3), xl_page(1, duplex), xl_page(1), xl_page(1, b"")))
    assert (contents.pages, contents.impressions, contents.media_sheets) == (4, 6, 6)
    contents = counted(pclxl(xl_page(1, duplex), xl_page(1, b""), xl_page(1, b"\xc0\x00\xf8\x36")))
    assert (contents.pages, contents.media_sheets) == (3, 2)
    assert contents.sides is Sides.LONG_EDGE


def test_pclxl_data_hides_nothing_and_fakes_nothing():
    """Operators within arrays and embedded data are data."""
    fake = b"\x43\x44" * 100
    array = b"\xc8\xc1" + len(fake).to_bytes(2, "little") + fake + b"\xf8\x06"
    embedded = b"\xfa" + len(fake).to_bytes(4, "little") + fake + b"\xfb\x06" + fake[:6]
    assert pages(pclxl(b"\x43", array, b"\x6a", embedded, b"\x44")) == 1


@pytest.mark.parametrize(
    "data",
    [
        pclxl(b"\x43"),  # it ends inside a page
        pclxl(b"\x44"),
        pclxl(b"\x43\x43\x44\x44"),
        pclxl(b"\xff"),
        pclxl(b"\xfa\xff\xff\xff\xff"),
        b") HP-PCL XL;2;0;no end",
    ],
)
def test_a_broken_pclxl_stream_is_unknown(data):
    """Never zero, and never what came before the break alone."""
    contents = counted(data)
    assert (contents.pages, contents.reason) == (None, Reason.DAMAGED)


# --- rasters --------------------------------------------------------------------------------------


def pwg_header(width: int, height: int, **fields: int) -> bytes:
    values = {
        "duplex": (272, 0),
        "x": (276, 300),
        "y": (280, 300),
        "copies": (340, 1),
        "tumble": (368, 0),
        "width": (372, width),
        "height": (376, height),
        "bits_color": (384, 8),
        "bits": (388, 24),
        "line": (392, width * 3),
        "space": (400, 19),
        "total": (452, 0),
    }
    header = bytearray(1796)
    header[:9] = b"PwgRaster"
    for name, (offset, value) in values.items():
        struct.pack_into(">I", header, offset, fields.get(name, value))
    return bytes(header)


WHITE = b"\x07\x03\xff\xff\xff"  # eight lines of four white pixels
RED = b"\x06\x03\xff\xff\xff\x00\x01\xff\xff\xff\x01\xff\x00\x00"


def test_pwg_lines_are_walked():
    """The count in the header is not believed, nor is what looks like a header in the lines."""
    page = pwg_header(4, 8, total=77) + WHITE
    contents = counted(b"RaS2" + page * 3 + bytes(64))
    assert (contents.pages, contents.is_exact, contents.media_sheets) == (3, True, 3)


def test_pwg_copies_and_sides():
    """They stand in each header."""
    page = pwg_header(4, 8, duplex=1, tumble=1, copies=2) + WHITE
    contents = counted(b"RaS2" + page * 3)
    assert (contents.impressions, contents.media_sheets) == (6, 4)
    assert contents.sides is Sides.SHORT_EDGE


def test_pwg_colour_is_a_pixel_with_unequal_parts():
    """Asked for, it is found in lines; a gray space needs no look."""
    white = pwg_header(4, 8) + WHITE
    red = pwg_header(4, 8) + b"\x06\x03\xff\xff\xff\x00\x01\xff\xff\xff\x01\xff\x00\x00"
    data = b"RaS2" + white + red + white
    assert counted(data, colour=True).colour_pages == 1
    assert counted(data).colour_reason is Reason.NOT_ASKED
    gray = pwg_header(4, 8, bits=8, line=4, space=18) + b"\x07\x03\xff"
    assert counted(b"RaS2" + gray).colour_pages == 0


@pytest.mark.parametrize(
    "page",
    [
        pwg_header(4, 8) + WHITE[:-1],  # cut
        pwg_header(4, 9) + WHITE,  # lines are missing
        pwg_header(4, 7) + WHITE,  # a line repeats beyond the page
        pwg_header(3, 8) + WHITE,  # a run is longer than the line
        pwg_header(2**31, 2**31, line=2**32 - 1) + WHITE,
        pwg_header(0, 0) + WHITE,
        pwg_header(4, 8, bits=0) + WHITE,
        pwg_header(4, 8, line=5) + WHITE,
        pwg_header(4, 8) + WHITE + b"PwgRaster and no more",
    ],
)
def test_a_raster_that_lies_about_its_size_is_unknown(page):
    """It says why, and how many pages were whole."""
    good = pwg_header(4, 8) + WHITE
    contents = counted(b"RaS2" + good + page)
    assert (contents.pages, contents.reason) == (None, Reason.DAMAGED)
    assert contents.at_least >= 1


def test_urf_ignores_the_count_of_its_head():
    """It is 0 or absurd when a client streams."""
    header = struct.pack(">BBBBIIIII8x", 24, 1, 3, 4, 0, 0, 4, 8, 300)[:32]
    for claimed in (0, 1, 0xFFFFFFFF):
        data = b"UNIRAST\x00" + struct.pack(">I", claimed) + (header + WHITE) * 3
        contents = counted(data)
        assert (contents.pages, contents.media_sheets) == (3, 2)
        assert contents.sides is Sides.LONG_EDGE


# --- PostScript -----------------------------------------------------------------------------------

HEAD = b"%!PS-Adobe-3.0\n"


def test_postscript_pages_are_marked_and_stated():
    """Both together are exact; the number at the end counts like one at the beginning."""
    for head, trailer in ((b"%%Pages: 2\n", b""), (b"%%Pages: (atend)\n", b"%%Pages: 2\n")):
        data = HEAD + head + b"%%Page: 1 1\nshowpage\n%%Page: 2 2\nshowpage\n%%Trailer\n" + trailer
        contents = counted(data)
        assert (contents.pages, contents.is_exact) == (2, True)


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (HEAD + b"%%Pages: 7\nshowpage\n", 7),  # stated, not marked
        (HEAD + b"%%Pages: 1\n%%Page: 1 1\nshowpage\n%%Page: 2 2\nshowpage\n", 2),
        (b"%!\n%%Page: 1 1\nshowpage\n", 1),  # no conforming head
    ],
)
def test_postscript_that_only_claims_is_not_exact(data, number):
    """The number is told, and that it is a claim."""
    contents = counted(data)
    assert (contents.pages, contents.is_exact) == (number, False)


@pytest.mark.parametrize(
    "data", [b"%!\nshowpage\n", HEAD + b"showpage\n", HEAD + b"%%Pages: (atend)\nshowpage\n"]
)
def test_postscript_without_page_comments_is_unknown(data):
    """Only running it would tell."""
    contents = counted(data)
    assert (contents.pages, contents.reason) == (None, Reason.NOT_STATED)
    assert contents.impressions is None


def test_postscript_pages_of_embedded_documents_are_not_pages():
    """Nor are those in binary data."""
    fake = b"%%Page: 9 9\n" * 5
    data = (
        HEAD
        + b"%%Pages: 1\n%%Page: 1 1\n%%BeginDocument: a.eps\n%!PS-Adobe-3.0 EPSF-3.0\n%%Pages: 4\n"
        + fake
        + b"%%EndDocument\n%%%%BeginData: %d Binary Bytes\n" % len(fake)
        + fake
        + b"%%EndData\nshowpage\n"
    )
    contents = counted(data)
    assert (contents.pages, contents.is_exact) == (1, True)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_postscript_setup_says_copies_sides_and_size(end):
    """As drivers write it; what a procedure set defines is not what is set up."""
    lines = [
        b"%!PS-Adobe-3.0",
        b"%%Pages: 3",
        b"%%EndComments",
        b"%%BeginProlog",
        b"/setup { << /NumCopies 9 /Tumble true >> setpagedevice } def",
        b"%%EndProlog",
        b"%%BeginSetup",
        b"%%BeginFeature: *Duplex DuplexNoTumble",
        b"<< /Duplex true /Tumble false >> setpagedevice",
        b"%%EndFeature",
        b"<</NumCopies 2 /PageSize [595 842]>> setpagedevice",
        b"%%EndSetup",
        *[b"%%%%Page: %d %d" % (n, n) for n in (1, 2, 3)],
        b"%%EOF",
    ]
    contents = counted(end.join(lines) + end)
    assert (contents.pages, contents.copies, contents.sides) == (3, 2, Sides.LONG_EDGE)
    assert (contents.impressions, contents.media_sheets) == (6, 4)
    assert contents.media == {A4: 3}


def test_postscript_programs_behind_each_other_add_up():
    """Ctrl-D ends one, as Windows drivers write it."""
    one = b"\x04%!PS-Adobe-3.0\r\n%%Pages: 1\r\n%%Page: 1 1\r\nshowpage\r\n"
    assert pages(one * 3 + b"\x04") == 3
    assert counted(one + b"\x04%!\r\nshowpage\r\n").at_least == 1


# --- TIFF, JPEG, PNG ------------------------------------------------------------------------------


def tiff(*types: int, following: int | None = None) -> bytes:
    """Directories with these NewSubfileTypes in a chain; `following` is where the last points."""
    data, size = b"II*\x00" + struct.pack("<I", 8), 2 + 12 + 4
    for number, kind in enumerate(types):
        behind = 8 + (number + 1) * size
        if number == len(types) - 1:
            behind = following or 0
        data += struct.pack("<HHHIII", 1, 254, 4, 1, kind, behind)
    return data


def test_tiff_pages_are_its_directories():
    """A preview and a mask are none."""
    assert pages(tiff(0, 2, 0)) == 3
    assert pages(tiff(0, 1, 2, 4)) == 2


@pytest.mark.parametrize("following", [8, 26, 10_000, 0xFFFFFFFF])
def test_a_tiff_whose_chain_does_not_end_is_unknown(following):
    """A circle, or a way out of the file."""
    contents = counted(tiff(0, 0, following=following))
    assert (contents.pages, contents.reason) == (None, Reason.DAMAGED)
    assert contents.at_least == 2


def test_an_image_without_a_frame_is_unknown():
    """Its first bytes alone are no page."""
    assert pages(b"\xff\xd8\xff\xd9") is None
    assert pages(b"\x89PNG\r\n\x1a\n" + bytes(40)) is None


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"a", 1),
        (b"a\n" * 66, 1),
        (b"a\n" * 67, 2),
        (b"a\r\n" * 66, 1),
        (b"a\r" * 132, 2),
        (b"a\fb\fc", 3),
        (b"a\fb\fc\f", 3),
        (b"a\f\n\x1a", 1),
    ],
)
def test_text_is_counted_by_form_feeds_and_lines(data, number):
    """66 lines a page are assumed, and said to be."""
    contents = counted(data)
    assert (contents.pages, contents.is_exact) == (number, False)


# --- PJL and the rest -----------------------------------------------------------------------------


def pjl(
    *lines: bytes, body: bytes = b"\x1bEone\x0ctwo\x0c\x1bE", language: bytes = b"PCL"
) -> bytes:
    head = b"".join(b"@PJL %b\r\n" % line for line in lines)
    return UEL + head + b"@PJL ENTER LANGUAGE=%b\r\n" % language + body + UEL


def test_pjl_is_the_default_and_the_document_overrides_it():
    """COPIES and DUPLEX are what holds for pages that say nothing; QTY makes sets of everything."""
    contents = counted(pjl(b"SET COPIES=3", b"SET DUPLEX=ON", b"SET BINDING=SHORTEDGE"))
    assert (contents.pages, contents.copies, contents.sides) == (2, 3, Sides.SHORT_EDGE)
    assert (contents.impressions, contents.media_sheets) == (6, 3)
    own = b"\x1bE\x1b&l2x0Sone\x0ctwo\x0c\x1bE"
    contents = counted(pjl(b"SET COPIES=3", b"SET QTY=5", b"SET DUPLEX=ON", body=own))
    assert (contents.copies, contents.impressions, contents.media_sheets) == (10, 20, 20)


def test_documents_behind_each_other_in_a_job_add_up():
    """Each has its language; EOJ ends what was set."""
    text = b"%!PS-Adobe-3.0\n%%Pages: 1\n%%Page: 1 1\nshowpage\n"
    data = (
        pjl(b"JOB", b"SET COPIES=2")
        + b"@PJL EOJ\r\n"
        + pjl(b"JOB", body=text, language=b"POSTSCRIPT")
        + b"@PJL EOJ\r\n"
        + UEL
    )
    contents = counted(data)
    assert (contents.pages, contents.impressions, contents.copies_vary) == (3, 5, True)


def test_a_form_feed_in_raster_is_no_page_and_uel_in_it_no_end():
    """Data is passed over by its length, whatever is in it."""
    body = b"\x1bE\x1b*b%dW%b\x0c\x1bE" % (len(UEL) + 1, UEL + b"\x0c")
    assert pages(pjl(body=body)) == 1


@pytest.mark.parametrize(
    ("data", "media_type", "reason"),
    [
        (b"", "", Reason.DAMAGED),
        (UEL, "", Reason.DAMAGED),
        (UEL + b"@PJL SET COPIES=2\r\n" + UEL, "", Reason.DAMAGED),
        (b"\x00\x01\x02" * 100, "", Reason.UNSUPPORTED),
        (b"^XA^FDa^FS^XZ", "", Reason.UNSUPPORTED),
        (b"hello", "application/x-unheard-of", Reason.UNSUPPORTED),
        (b"%PDF-1.4\n", "", Reason.UNSUPPORTED),  # here: no reader of PDF is plugged in
    ],
)
def test_what_cannot_be_known_is_unknown_with_a_reason(data, media_type, reason):
    """Never zero."""
    contents = counted(data, media_type)
    assert (contents.pages, contents.reason) == (None, reason)


def test_an_allowance_ends_a_count():
    """A long document costs no more than it may."""
    data = b"\x1bE" + b"a\x0c" * 10_000
    for allowance in (Allowance(steps=1000), Allowance(bytes=1000)):
        contents = count(lambda at, n: data[at : at + n], len(data), allowance=allowance)
        assert (contents.pages, contents.reason) == (None, Reason.TOO_LARGE)


def test_contents_survive_the_wire_and_nonsense_does_not():
    """A worker that was taken over can say nothing that is no contents."""
    contents = counted(b"\x1bE\x1b&l2x1s26Aone\x0ctwo\x0c\x1bE")
    plain = contents.as_map()
    assert contents_from_map(plain) == contents
    for change in (
        {"pages": -1},
        {"pages": True},
        {"pages": "7"},
        {"pages": None},
        {"pages": 10**30},
        {"sides": "upside-down"},
        {"media": 7},
        {"media": [{"x_dimension": 1}]},
        {"reason": "document-format-error"},
    ):
        with pytest.raises(ValueError, match=r"."):
            contents_from_map(plain | change)
