"""What a PPD says of a printer, in IPP's words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import ipp_media
from spoold.codec.ppd import VALUES_MAX, media_name, read_ppd
from spoold.model.errors import RemoteProtocolError

HEAD = '*PPD-Adobe: "4.3"\n'
PPD = (
    HEAD
    + """\
*% a comment
*NickName: "Acme Jet 20, 1.0"
*1284DeviceID: "MFG:Acme;
  MDL:Jet 20;CMD:PJL,PCL3GUI,PDF;"
*End
*ColorDevice: True
*Throughput: "24"
*DefaultPageSize: A4
*PageSize Letter/US Letter: "<</PageSize[612 792]>>setpagedevice"
*PageSize A4/A4 210 x 297 mm: "<</PageSize[595 842]>>setpagedevice"
*PageSize A4.Fullbleed/A4: ""
*PageSize Badge/Badge: ""
*PaperDimension Letter/US Letter: "612 792"
*PaperDimension A4/A4: "595.2756 841.8898"
*PaperDimension A4.Fullbleed/A4: "595 842"
*PaperDimension Badge/Badge: "153 243"
*PaperDimension Nonsense: "a b"
*DefaultDuplex: DuplexTumble
*Duplex None/Off: ""
*Duplex DuplexNoTumble/Long edge: ""
*Duplex DuplexTumble/Short edge: ""
*DefaultResolution: 600x1200dpi
*Resolution 600dpi/600 dpi: ""
*Resolution 600x1200dpi: ""
*cupsFilter: "application/vnd.cups-raster 0 rastertoacme"
*cupsFilter2: "application/vnd.cups-raster image/pwg-raster 50 rastertopwg"
*cupsFilter2: "image/urf image/urf 0 -"
"""
)


def test_facts_of_a_printer():
    """Media by their PWG names, the printer's own for the odd one; sides, colours, resolutions."""
    facts = read_ppd(PPD.encode())
    assert facts.offer == {
        "printer-make-and-model": "Acme Jet 20, 1.0",
        "printer-device-id": "MFG:Acme; MDL:Jet 20;CMD:PJL,PCL3GUI,PDF;",
        "media-supported": ["na_letter_8.5x11in", "iso_a4_210x297mm", "custom_badge_54x86mm"],
        "media-default": "iso_a4_210x297mm",
        "sides-supported": ["one-sided", "two-sided-long-edge", "two-sided-short-edge"],
        "sides-default": "two-sided-short-edge",
        "print-color-mode-supported": ["auto", "color", "monochrome"],
        "print-color-mode-default": "auto",
        "printer-resolution-supported": ["600x600dpi", "600x1200dpi"],
        "printer-resolution-default": "600x1200dpi",
        "pages-per-minute": 24,
    }
    assert facts.media["A4.Fullbleed"] == "iso_a4_210x297mm"


def test_formats_are_those_of_the_device_not_of_its_driver():
    """What goes through unchanged, what filters make, and what the device id lists; no guesses."""
    facts = read_ppd(PPD.encode())
    assert facts.formats == ("image/pwg-raster", "image/urf", "application/pdf")
    assert facts.filters == ("rastertoacme", "rastertopwg")
    without = read_ppd((HEAD + '*cupsFilter: "application/vnd.cups-raster 0 x"\n').encode())
    assert (without.formats, without.filters) == ((), ("x",))
    postscript = read_ppd((HEAD + '*NickName: "A"\n').encode())
    assert postscript.formats == ("application/postscript",)
    languages = '*1284DeviceID: "CMD:PCL,PCLXL,POSTSCRIPT,PJL;"\n*cupsFilter: "a/b 0 x"\n'
    assert read_ppd((HEAD + languages).encode()).formats == (
        "application/vnd.hp-pcl",
        "application/vnd.hp-pclxl",
        "application/postscript",
    )


@pytest.mark.parametrize(
    ("width", "length", "name"),
    [
        (595, 842, "iso_a4_210x297mm"),
        (594, 843, "iso_a4_210x297mm"),
        (612, 792, "na_letter_8.5x11in"),
        (842, 595, "custom_a4-r_297x210mm"),
        (297, 684, "na_number-10_4.125x9.5in"),
    ],
)
def test_media_names(width, length, name):
    """Sizes in points are a little off what they are in millimetres."""
    assert media_name("A4 R!", width, length) == name
    assert ipp_media.size_of(name) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: this is no PPD"),
        ("<html>", "line 1: this is no PPD"),
        (HEAD + '*NickName: "no end', "line 2: a value has no end"),
        (HEAD + "*PageSize A: x\n" * (VALUES_MAX + 1), f"line {VALUES_MAX + 2}: over"),
        (HEAD + "x" * 70_000, "line 2: it is over"),
    ],
)
def test_a_file_that_is_no_ppd(text, message):
    """It names the line."""
    with pytest.raises(RemoteProtocolError, match=message):
        read_ppd(text.encode())


def test_latin_1_and_line_ends_of_any_kind():
    """PPDs are older than UTF-8."""
    text = (HEAD + '*NickName: "Gerät"\n*Throughput: "8"\n').replace("\n", "\r\n")
    offer = read_ppd(text.encode("latin-1")).offer
    assert (offer["printer-make-and-model"], offer["pages-per-minute"]) == ("Gerät", 8)


@given(st.text(alphabet='*:/" \nPageSizDuplx0129.', max_size=300))
def test_any_text_behind_the_head_is_read_or_refused(text):
    """Nothing but facts or the one error comes of a file."""
    with contextlib.suppress(RemoteProtocolError):
        read_ppd((HEAD + text).encode())
