"""Real documents of every kind, made by the programs that make them for people.

`KINDS` names them and says which format spoold must see in them; `document(kind)` gives the bytes,
made once a session. A program that is missing fails the test that asks.
"""

from __future__ import annotations

import functools
import random
import subprocess
import tempfile
from pathlib import Path

PCL = "application/vnd.hp-PCL"
PCL_XL = "application/vnd.hp-PCLXL"
PDF = "application/pdf"
POSTSCRIPT = "application/postscript"
PWG = "image/pwg-raster"
TEXT = "text/plain"
ZPL = "application/vnd.zebra-zpl"

# Three pages with text and a colour wheel that no encoder makes trivial.
PROGRAM = b"""%!PS-Adobe-3.0
%%Pages: 3
%%EndComments
1 1 3 {
  /page exch def
  0 2 358 {
    /angle exch def
    angle 360 div 0.5 page 3 div setrgbcolor
    newpath 300 400 moveto 300 400 200 angle angle 2 add arc closepath fill
  } for
  0 setgray /Helvetica findfont 24 scalefont setfont
  72 720 moveto (Page ) show page 10 string cvs show
  showpage
} for
%%EOF
"""

# What ghostscript's device of the name makes, and what spoold should call it.
DEVICES = {
    "pdfwrite": PDF,
    "pclm": PDF,  # PCLm is a PDF with a comment in front
    "ps2write": POSTSCRIPT,
    "ljet4": PCL,
    "ljet4pjl": PCL,
    "cdj550": PCL,
    "pxlmono": PCL_XL,
    "pxlcolor": PCL_XL,
    "pwgraster": PWG,
    "urf": "image/urf",
    "cups": "application/vnd.cups-raster",
    "tiffg4": "image/tiff",
    "tiff24nc": "image/tiff",
    "jpeg": "image/jpeg",
    "png16m": "image/png",
    "epson": "application/octet-stream",  # ESC/P: nothing in it says what it is
}

TEXTS = [
    "A list of things, one to a line, with a form feed behind each page.",
    "Umlauts äöüß, Greek αβγ, Kanji 印刷, a snowman ☃, and a\ttab.",
]

LABEL = b"""^XA
^PW812^LL1218^CI28
^FO50,50^A0N,60,60^FDParcel 4711^FS
^FO50,150^BY3^BCN,200,Y,N,N^FD00340434161094021501^FS
^FO50,450^GFA,32,32,4,FFFFFFFF80000001BFFFFFFDA0000005A0000005BFFFFFFD80000001FFFFFFFF^FS
^PQ1
^XZ
"""

WINDOWS_HEAD = (
    b'\x1b%%-12345X@PJL JOB NAME="Quarter \xe4\xf6\xfc"\r\n'
    b'@PJL SET USERNAME="cashier"\r\n@PJL SET COPIES=2\r\n@PJL SET DUPLEX=ON\r\n'
    b"@PJL ENTER LANGUAGE=%b\r\n"
)
WINDOWS_END = b"\x1b%-12345X@PJL EOJ\r\n\x1b%-12345X"

KINDS: dict[str, str] = {
    **DEVICES,
    "enscript": POSTSCRIPT,
    "enscript-2up": POSTSCRIPT,
    "windows-postscript": POSTSCRIPT,
    "windows-pdf": PDF,
    "windows-pcl": PCL,
    "cupsfilter-pwg": PWG,
    "cupsfilter-pdf": PDF,
    "text-utf-8": TEXT,
    "text-latin-1": TEXT,
    "text-dos": TEXT,
    "zpl": ZPL,
}


@functools.cache
def document(kind: str) -> bytes:
    """The document of this kind; the same bytes whenever it is asked for."""
    if kind in DEVICES:
        return _ghostscript(kind)
    match kind:
        case "enscript":
            return _run(["enscript", "-q", "-p", "-"], _text("latin-1"))
        case "enscript-2up":
            return _run(["enscript", "-q", "-2r", "-G", "-p", "-"], _text("latin-1"))
        case "windows-postscript":
            # As Windows drivers do it: Ctrl-D before and behind, lines end with CR LF.
            body = b"\x04" + document("enscript").replace(b"\n", b"\r\n") + b"\x04"
            return WINDOWS_HEAD % b"POSTSCRIPT" + body + WINDOWS_END
        case "windows-pdf":
            return WINDOWS_HEAD % b"PDF" + document("pdfwrite") + WINDOWS_END
        case "windows-pcl":
            return WINDOWS_HEAD % b"PCL" + document("ljet4") + WINDOWS_END
        case "cupsfilter-pwg":
            return _cups_filter("application/pdf", PWG, document("pdfwrite"))
        case "cupsfilter-pdf":
            return _cups_filter("text/plain", PDF, _text("utf-8"))
        case "text-utf-8":
            return _text("utf-8")
        case "text-latin-1":
            return _text("latin-1")
        case "text-dos":
            return _text("utf-8").replace(b"\n", b"\r\n") + b"\x1a"
        case "zpl":
            return LABEL
    raise LookupError(kind)


def large_pdf(size: int) -> bytes:
    """A PDF a little larger than `size` bytes, the same in each run; what is in it is noise.

    Made anew each time: kept, such documents are a good part of what a process of tests takes.
    """
    noise = random.Random(size).randbytes(1_000_003)  # a prime: no piece of a document is another
    noise = (noise * (size // len(noise) + 1))[:size]
    head = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\n"
    )
    stream = b"4 0 obj<</Length %d>>stream\n%b\nendstream endobj\n" % (len(noise), noise)
    return head + stream + b"trailer<</Root 1 0 R/Size 5>>\n%%EOF\n"


def _text(encoding: str) -> bytes:
    lines = [f"{n:5}  {TEXTS[n % 2]}" + ("\f" if n % 60 == 59 else "") for n in range(200)]
    return ("\n".join(lines) + "\n").encode(encoding, "replace")


def _ghostscript(device: str) -> bytes:
    command = ["gs", "-q", "-dBATCH", "-dNOPAUSE", "-dSAFER", "-r100", f"-sDEVICE={device}"]
    with tempfile.TemporaryDirectory() as folder:
        # A file, because some devices go back to write their directory.
        made = Path(folder) / "made"
        _run([*command, f"-sOutputFile={made}", "-"], PROGRAM)
        return made.read_bytes()


def _cups_filter(source: str, target: str, data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "document"
        path.write_bytes(data)
        return _run(["/usr/sbin/cupsfilter", "-i", source, "-m", target, str(path)], b"")


def _run(command: list[str], data: bytes) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    assert done.returncode == 0, (command, done.stderr[-2000:])
    assert done.stdout or "-sOutputFile=" in " ".join(command), (command, done.stderr[-2000:])
    return done.stdout
