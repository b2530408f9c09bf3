"""Documents of a length that is known, by every program that makes some: for counting pages.

`PRODUCERS` maps a name to a `Producer`; `made(name, pages)` gives the bytes, made once a session.
"""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support import documents

FILTERS = Path("/usr/lib/cups/filter")
PXL_PPD = "/usr/share/ppd/cupsfilters/pxlcolor.ppd"


@dataclass(frozen=True)
class Producer:
    """`one_page`: whatever it is given, it makes one. `is_two_sided`: it asks for that."""

    format: str
    make: Callable[[int], bytes]
    one_page: bool = False
    is_two_sided: bool = False
    is_exact: bool = True


def program(pages: int, is_coloured: bool = True) -> bytes:
    """A PostScript program without comments, of so many pages."""
    colour = b"page 2 mod 0 eq {1 0 0 setrgbcolor} {0 setgray} ifelse" if is_coloured else b""
    return b"""%%!PS
1 1 %d {
  /page exch def
  %b
  /Helvetica findfont 24 scalefont setfont
  72 720 moveto (Page ) show page 10 string cvs show
  newpath 300 400 page 50 mod 50 add 0 360 arc fill
  showpage
} for
""" % (pages, colour)


def run(command: list[str], data: bytes = b"", **environment: str) -> bytes:
    done = subprocess.run(
        command,
        input=data,
        capture_output=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
    )
    # qpdf says 3 for what it did, and warns of.
    assert done.returncode in (0, 3), (command, done.stderr[-2000:])
    return done.stdout


def _with_files(*command: str) -> Callable[[bytes], bytes]:
    """A program that reads the file IN and writes the file OUT."""

    def convert(data: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            before, behind = Path(folder) / "in", Path(folder) / "out"
            before.write_bytes(data)
            words = {"IN": str(before), "OUT": str(behind)}
            run([words.get(word, word) for word in command])
            return behind.read_bytes()

    return convert


def _ghostscript(device: str, *options: str) -> Callable[[int], bytes]:
    def make(pages: int) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            before, behind = Path(folder) / "in.ps", Path(folder) / "out"
            before.write_bytes(program(pages))
            run(
                [
                    *("gs", "-q", "-dBATCH", "-dNOPAUSE", "-dSAFER", "-sPAPERSIZE=a4", "-r72"),
                    *(*options, f"-sDEVICE={device}", f"-sOutputFile={behind}", str(before)),
                ]
            )
            return behind.read_bytes()

    return make


def _from_pdf(*command: str) -> Callable[[int], bytes]:
    convert = _with_files(*command)
    return lambda pages: convert(made("gs-pdfwrite", pages))


def _filter(name: str, source: str, ppd: str = "", options: str = "", **environment: str):
    """A CUPS filter: a document on its standard input, another on its output."""

    def make(pages: int) -> bytes:
        said = dict(environment)
        if ppd:
            said["PPD"] = _ppd(ppd)
        command = [str(FILTERS / name), "1", "cashier", "Title", "1", options]
        return run(command, made(source, pages), **said)

    return make


@functools.cache
def _ppd(name: str) -> str:
    if name.startswith("/"):
        return name
    handle, path = tempfile.mkstemp(suffix=".ppd", prefix="spoold-test-")
    with os.fdopen(handle, "wb") as file:
        file.write(run(["/usr/lib/cups/daemon/cups-driverd", "cat", name]))
    atexit.register(os.unlink, path)
    return path


def _text(pages: int) -> bytes:
    return b"\f".join(b"Page %d\nof it\n" % number for number in range(1, pages + 1))


def _incremental(pages: int) -> bytes:
    """A PDF that was changed twice by appending: the page tree of the last change counts."""
    data = made("qpdf-tables", pages)
    for _ in range(2):
        at = int(data.rpartition(b"startxref")[2].split()[0])
        behind = len(data)
        data += b"9000 0 obj\n<< /Changed true >>\nendobj\n"
        table = len(data)
        trailer = data[at:].partition(b"trailer")[2].partition(b"startxref")[0].strip()
        trailer = trailer.removesuffix(b">>") + b" /Prev %d >>" % at
        data += b"xref\n9000 1\n%010d 00000 n \ntrailer %b\nstartxref\n%d\n%%%%EOF\n" % (
            behind,
            trailer,
            table,
        )
    return data


def _binary_eps(pages: int) -> bytes:
    body = run(["pdftops", "-eps", "-f", "1", "-l", "1", "-", "-"], made("gs-pdfwrite", 1))
    head = b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + len(body).to_bytes(4, "little")
    return head + bytes(16) + b"\xff\xff" + body


def _in_pjl(language: bytes, source: str) -> Callable[[int], bytes]:
    return lambda pages: (
        documents.WINDOWS_HEAD % language + made(source, pages) + documents.WINDOWS_END
    )


_PDF, _PS, _PCL, _XL = documents.PDF, documents.POSTSCRIPT, documents.PCL, documents.PCL_XL
_PWG, _URF, _CUPS = documents.PWG, "image/urf", "application/vnd.cups-raster"
_TIFF = "image/tiff"
_LASERJET = "drv:///sample.drv/laserjet.ppd"
_QPDF = ("qpdf", "IN", "OUT")

PRODUCERS: dict[str, Producer] = {
    # ghostscript
    "gs-pdfwrite": Producer(_PDF, _ghostscript("pdfwrite")),
    "gs-pclm": Producer(_PDF, _ghostscript("pclm")),
    "gs-ps2write": Producer(_PS, _ghostscript("ps2write")),
    "gs-eps2write": Producer(_PS, lambda _: _ghostscript("eps2write")(1), one_page=True),
    "gs-ljet4": Producer(_PCL, _ghostscript("ljet4")),
    "gs-ljet4d": Producer(_PCL, _ghostscript("ljet4d"), is_two_sided=True),
    "gs-laserjet": Producer(_PCL, _ghostscript("laserjet")),
    "gs-cdj550": Producer(_PCL, _ghostscript("cdj550")),
    "gs-cljet5c": Producer(_PCL, _ghostscript("cljet5c", "-sPAPERSIZE=letter", "-r300")),
    "gs-pxlmono": Producer(_XL, _ghostscript("pxlmono")),
    "gs-pxlmono-duplex": Producer(_XL, _ghostscript("pxlmono", "-dDuplex"), is_two_sided=True),
    "gs-pxlcolor": Producer(_XL, _ghostscript("pxlcolor")),
    "gs-pwgraster": Producer(_PWG, _ghostscript("pwgraster")),
    "gs-pwgraster-rgb": Producer(
        _PWG, _ghostscript("pwgraster", "-dcupsColorSpace=19", "-dcupsBitsPerColor=8")
    ),
    "gs-pwgraster-duplex": Producer(_PWG, _ghostscript("pwgraster", "-dDuplex"), is_two_sided=True),
    "gs-urf": Producer(_URF, _ghostscript("urf")),
    "gs-urf-rgb": Producer(
        _URF, _ghostscript("urf", "-dcupsColorSpace=19", "-dcupsBitsPerColor=8")
    ),
    "gs-cups": Producer(_CUPS, _ghostscript("cups")),
    "gs-tiffg4": Producer(_TIFF, _ghostscript("tiffg4")),
    "gs-tiff24nc": Producer(_TIFF, _ghostscript("tiff24nc")),
    "gs-tiff-big": Producer(_TIFF, _ghostscript("tiff24nc", "-dUseBigTIFF=true")),
    "gs-jpeg": Producer("image/jpeg", lambda _: _ghostscript("jpeg")(1), one_page=True),
    "gs-jpeg-gray": Producer("image/jpeg", lambda _: _ghostscript("jpeggray")(1), one_page=True),
    "gs-png": Producer("image/png", lambda _: _ghostscript("png16m")(1), one_page=True),
    # poppler, with its own writer and with cairo
    "poppler-ps": Producer(_PS, _from_pdf("pdftops", "IN", "OUT")),
    "poppler-level1": Producer(_PS, _from_pdf("pdftops", "-level1", "IN", "OUT")),
    "cairo-ps": Producer(_PS, _from_pdf("pdftocairo", "-ps", "IN", "OUT")),
    "cairo-pdf": Producer(_PDF, _from_pdf("pdftocairo", "-pdf", "IN", "OUT")),
    "poppler-eps-binary": Producer(_PS, _binary_eps, one_page=True),
    # qpdf
    "qpdf-objects": Producer(_PDF, _from_pdf(*_QPDF, "--object-streams=generate")),
    "qpdf-tables": Producer(_PDF, _from_pdf(*_QPDF, "--object-streams=disable")),
    "qpdf-linear": Producer(_PDF, _from_pdf(*_QPDF, "--linearize")),
    "qpdf-readable": Producer(_PDF, _from_pdf(*_QPDF, "--qdf")),
    "qpdf-owner-password": Producer(
        _PDF, _from_pdf("qpdf", "--encrypt", "", "owner", "256", "--", "IN", "OUT")
    ),
    "incremental": Producer(_PDF, _incremental),
    # CUPS
    "cups-pdftopdf": Producer(_PDF, _filter("pdftopdf", "gs-pdfwrite")),
    "cups-pdftops": Producer(_PS, _filter("pdftops", "gs-pdfwrite", _LASERJET)),
    "cups-pstops": Producer(_PS, _filter("pstops", "poppler-ps", _LASERJET)),
    "cups-gstoraster": Producer(_CUPS, _filter("gstoraster", "gs-pdfwrite", _LASERJET)),
    "cups-rastertohp": Producer(_PCL, _filter("rastertohp", "cups-gstoraster", _LASERJET)),
    "cups-gstopxl": Producer(
        _XL, _filter("gstopxl", "gs-pdfwrite", PXL_PPD, CUPS_SERVERBIN="/usr/lib/cups")
    ),
    "cups-rastertopwg": Producer(
        _PWG,
        _filter("rastertopwg", "cups-gstoraster", _LASERJET, FINAL_CONTENT_TYPE="image/pwg-raster"),
    ),
    "cups-rastertopdf": Producer(_PDF, _filter("rastertopdf", "cups-gstoraster", _LASERJET)),
    "cups-texttopdf": Producer(_PDF, _filter("texttopdf", "text", CONTENT_TYPE="text/plain")),
    # others
    "enscript": Producer(_PS, lambda n: run(["enscript", "-q", "-p", "-"], _text(n))),
    "text": Producer(documents.TEXT, _text, is_exact=False),
    "pjl-pdf": Producer(_PDF, _in_pjl(b"PDF", "gs-pdfwrite"), is_two_sided=True),
    "pjl-ps": Producer(_PS, _in_pjl(b"POSTSCRIPT", "poppler-level1"), is_two_sided=True),
    "pjl-pcl": Producer(_PCL, _in_pjl(b"PCL", "gs-cdj550"), is_two_sided=True),
}


@functools.cache
def made(name: str, pages: int) -> bytes:
    """The document of this producer with so many pages."""
    data = PRODUCERS[name].make(pages)
    assert data, name
    return data
