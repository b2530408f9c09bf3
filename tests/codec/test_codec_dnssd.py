"""What is announced of printers, and what the announcements of others say."""

from __future__ import annotations

from itertools import islice
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoold.codec import dnssd
from spoold.codec.ipp_capabilities import capabilities
from spoold.model.person import Known
from spoold.model.printer import Printer

GUID = UUID("22dab4ba-ffe5-4da5-8dfb-4d1c55c0d779")


def printer(name="frontdesk", **fields) -> Printer:
    return Printer(1, GUID, name, 1, **fields)


def record(one: Printer, **more) -> dict[str, str]:
    plain = capabilities(one.options, one.formats)
    return dnssd.txt_record(one, plain, **{"web": "https://x:9192", "is_tls": True, **more})


def test_record_of_a_driverless_printer():
    """Clients of CUPS, AirPrint and Mopria find the keys that they choose and print by."""
    options = {
        "printer-make-and-model": "Example (tm) 4000",
        "color-supported": True,
        "sides-supported": ["one-sided", "two-sided-long-edge"],
        "urf-supported": ["V1.4", "RS300-600", "W8", "SRGB24"],
        "media-supported": ["iso_a4_210x297mm", "na_legal_8.5x14in"],
        "finishings-supported": [3, 4],
    }
    formats = ("image/urf", "application/postscript", "image/pwg-raster", "application/pdf")
    one = printer(location="Hall 1", options=options, formats=formats)
    assert record(one) == {
        "txtvers": "1",
        "qtotal": "1",
        "rp": "printers/frontdesk",
        "ty": "Example (tm) 4000",
        "adminurl": "https://x:9192/printers/frontdesk",
        "note": "Hall 1",
        "priority": "0",
        "product": "(Example tm 4000)",
        "pdl": "application/pdf,image/urf,image/pwg-raster,application/postscript,"
        "application/octet-stream",
        "UUID": str(GUID),
        "TLS": "1.3",
        "URF": "V1.4,RS300-600,W8,SRGB24",
        "Color": "T",
        "Duplex": "T",
        "Copies": "T",
        "Collate": "T",
        "Bind": "F",
        "Punch": "F",
        "Staple": "T",
        "kind": "document",
        "PaperMax": "legal-A4",
        "printer-type": "0x5E",
    }
    assert dnssd.subtypes(capabilities(options, formats)) == ("_print", "_universal")


def test_record_of_a_plain_printer():
    """A label printer without colours, TLS or AirPrint says so, and a login is asked for early."""
    options = {
        "print-color-mode-supported": ["monochrome"],
        "media-supported": ["oe_label_4x6in"],
        "copies-supported": "1-1",
    }
    formats = ("application/vnd.zebra-zpl",)
    one = printer(options=options, formats=formats, least_owner=Known.AUTHENTICATED)
    found = record(one, is_tls=False)
    assert "TLS" not in found
    assert "note" not in found
    assert (found["Color"], found["Copies"], found["URF"]) == ("F", "F", "none")
    assert found["PaperMax"] == "<legal-A4"
    assert found["air"] == "username,password"
    assert dnssd.subtypes(capabilities(options, formats)) == ("_print",)


@pytest.mark.parametrize(
    ("media", "largest"),
    [
        (["iso_a4_210x297mm", "iso_a3_297x420mm"], "tabloid-A3"),
        (["iso_a2_420x594mm"], "isoC-A2"),
        (["iso_a0_841x1189mm"], ">isoC-A2"),
    ],
)
def test_largest_paper(media, largest):
    """PaperMax is the class of the largest medium."""
    assert record(printer(options={"media-supported": media}))["PaperMax"] == largest


def test_formats_are_cut_at_a_comma():
    """A long list loses whole formats, those that driverless clients send last of all."""
    formats = (*(f"application/vnd.example-{n:030}" for n in range(20)), "application/pdf")
    kept = record(printer(formats=formats))["pdl"].split(",")
    assert kept[0] == "application/pdf"
    assert set(kept) <= {*formats, "application/octet-stream"}


def test_names_are_tried_in_turn():
    """The printer's own words come first, then the node's name, then numbers."""
    one = printer(info="Front desk, 2nd floor v1.2")
    assert list(islice(dnssd.service_names(one, "library"), 3)) == [
        "Front desk, 2nd floor v1-2",
        "Front desk, 2nd floor v1-2 @ library",
        "Front desk, 2nd floor v1-2 @ library (2)",
    ]
    told = printer(info="x", options={"printer-dns-sd-name": "Offered"})
    assert dnssd.service_name(told) == "Offered"
    assert dnssd.service_name(printer(info="\u200b")) == "frontdesk"


@given(st.text(max_size=200), st.text(min_size=1, max_size=100))
@example("", "0" + "\U0001d400" * 14)
def test_every_name_is_one_label(info, node):
    """Whatever people write, a name is one label of DNS, and not empty."""
    for name in islice(dnssd.service_names(printer(info=info), node), 4):
        assert 0 < len(name.encode()) <= dnssd.LABEL_BYTES_MAX
        assert "." not in name


@given(st.text(max_size=300), st.text(max_size=300))
def test_every_string_fits(location, model):
    """No key with its value is longer than a string of a TXT record."""
    options = {"printer-make-and-model": model}
    for key, value in record(printer(location=location, options=options)).items():
        assert len(f"{key}={value}".encode()) <= dnssd.STRING_BYTES_MAX


def test_host_name():
    """The node's name on the link is its own, or the .local one that the configuration names."""
    assert dnssd.host_name("Lib_rary.example", GUID) == "lib-rary-example-22dab4ba.local"
    assert dnssd.host_name("ß", GUID) == "spoold-22dab4ba.local"
    assert dnssd.host_name("x", GUID, ["a.example.org", "prints.local."]) == "prints.local"


def find(kind=dnssd.IPP, host="printer.local.", port=631, addresses=("192.0.2.7",), **txt):
    raw = {key.encode(): value.encode() for key, value in txt.items()}
    return dnssd.found(kind, "Printer", host, port, addresses, raw)


@pytest.mark.parametrize(
    ("kind", "port", "rp", "uri"),
    [
        (dnssd.IPP, 631, "ipp/print", "ipp://192.0.2.7/ipp/print"),
        (dnssd.IPPS, 443, "/printers/a b", "ipps://192.0.2.7:443/printers/a%20b"),
        (dnssd.RAW, 9100, "", "socket://192.0.2.7"),
        (dnssd.RAW, 9101, "x", "socket://192.0.2.7:9101"),
        (dnssd.LPD, 515, "lp1", "lpd://192.0.2.7/lp1"),
    ],
)
def test_device_uris(kind, port, rp, uri):
    """Each kind of service has its device URI."""
    assert find(kind, port=port, rp=rp).uri("192.0.2.7") == uri


def test_who_is_found():
    """Make, model and identity come from whichever keys there are, in any case."""
    one = find(TY="Example 4000", Uuid=f"urn:uuid:{GUID}")
    assert (one.make_and_model, one.uuid, one.host) == ("Example 4000", GUID, "printer.local")
    assert one.uri("2001:db8::7") == "ipp://[2001:db8::7]/ipp/print"
    assert find(usb_MFG="Example", usb_MDL="4000").make_and_model == "Example 4000"
    assert find(product="(Example 4000)").make_and_model == "Example 4000"


def test_who_is_not_found():
    """A port of 0 only keeps a name; a host that is no name counts only by its address."""
    assert find(port=0) is None
    assert find(host="bad host\x1b[2J", addresses=()) is None
    assert find(host="bad host\x1b[2J").host == ""


@given(st.binary(max_size=64), st.dictionaries(st.binary(max_size=9), st.binary(max_size=64)))
def test_strangers_reach_no_uri(rp, more):
    """Whatever a stranger announces, the device URI is plain ASCII on one line."""
    one = dnssd.found(dnssd.IPP, "x", "h.local", 631, ["192.0.2.7"], {**more, b"rp": rp})
    uri = one.uri("192.0.2.7")
    assert uri.isascii()
    assert uri.isprintable()
    assert not set(uri) & set(" \"'<>\\`$;|&")
