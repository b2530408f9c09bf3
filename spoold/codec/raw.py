"""What the first and last bytes of a connection say: which protocol, which PJL, which format.

In: the head of what a client sent, the tail of a raw job. Out: a `Protocol`, a `Pjl`, a media
type, and whether the end of a raw job is missing. Nothing here raises on any bytes; every reader
looks at a bounded head. PJL is HP's Printer Job Language; raw jobs have no framing of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from spoold.codec.proxy import SIGNATURE as PROXY_SIGNATURE
from spoold.model import person

FRAMES_MAGIC = b"\x00SPOOLD1"
UEL = b"\x1b%-12345X"  # Universal Exit Language: opens and closes PJL
REQUEST_LINE_BYTES_MAX = 8192  # longer than any request line that a printing client sends
HEAD_BYTES_MAX = 65536  # where a PJL header is looked for
TAIL_BYTES = 4096  # what `missing_end` wants to see of the end of a job


class Protocol(Enum):
    """What a client speaks. The last four are answered with an error, and are never a job."""

    RAW = "raw"
    FRAMES = "frames"
    HTTP = "http"
    BAD_HTTP = "bad-http"  # begins like HTTP and is no request line of HTTP/1: 400
    HTTP2 = "http2"
    TLS = "tls"
    PROXY = "proxy"  # of a load balancer that is not listed as one


# Only a letter (HTTP), NUL (frames), 0x16 (a TLS handshake) or a carriage return needs a second
# look.
_LETTERS = range(0x41, 0x5B), range(0x61, 0x7B)
_IS_RAW_AT_ONCE = tuple(
    byte not in (0x00, 0x0D, 0x16) and not any(byte in letters for letters in _LETTERS)
    for byte in range(256)
)
_TOKEN = rb"[A-Za-z][!#$%&'*+.^_`|~0-9A-Za-z-]{0,31}"  # a method that begins with a letter
_METHOD = rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE|PRI)"
_REQUEST_LINE = re.compile(rb"%b [\x21-\x7e]+ HTTP/1\.[0-9]\r\n" % _TOKEN)
# A known method alone is no proof: a letter may begin with POST OFFICE BOX. A target that looks
# like one is, and so is a protocol version at the line's end: scanners send SIP and RTSP too.
_LIKE_HTTP = re.compile(
    rb"%b (?:[/*]|https?:|[^\r\n]*[ \t][A-Z]{2,8}/[0-9](?:\.[0-9])?[ \t]*\r?\n)"
    rb"|%b [\x21-\x7e]+ HTTP/[0-9]" % (_METHOD, _TOKEN)
)
_MAY_BECOME_HTTP = re.compile(
    rb"%b [^\r\n]*\r?|%b(?: (?:[\x21-\x7e]+(?: (?:H|HT|HTT|HTTP[\x21-\x7e]*\r?)?)?)?)?"
    % (_METHOD, _TOKEN)
)


def sniff(head: bytes, is_end: bool = False) -> Protocol | None:
    """Which protocol opens with `head`; None when that needs more bytes.

    Most raw jobs are decided by their first byte, the rest at the end of their first line at the
    latest, and always within `REQUEST_LINE_BYTES_MAX`. With `is_end` (the sender ended, or went
    quiet where a pause ends a job) the answer is None for no bytes at all only: they are no job.
    """
    if not head:
        return None
    first = head[0]
    if _IS_RAW_AT_ONCE[first]:
        return Protocol.RAW
    if first == 0x00:
        if head.startswith(FRAMES_MAGIC):
            return Protocol.FRAMES
        if not FRAMES_MAGIC.startswith(head):
            return Protocol.RAW
        # A client of ours that died while it greeted is no job of a few bytes.
        return Protocol.FRAMES if is_end else None
    if first == 0x0D:
        if head.startswith(PROXY_SIGNATURE):
            return Protocol.PROXY
        return Protocol.RAW if is_end or not PROXY_SIGNATURE.startswith(head) else None
    if first == 0x16:
        if len(head) == 1:
            return Protocol.RAW if is_end else None
        return Protocol.TLS if head[1] == 0x03 else Protocol.RAW
    return _sniff_line(head, is_end)


def _sniff_line(head: bytes, is_end: bool) -> Protocol | None:
    end = head.find(b"\n", 0, REQUEST_LINE_BYTES_MAX)
    line = head[: end + 1] if end >= 0 else head[:REQUEST_LINE_BYTES_MAX]
    if line.startswith(b"PRI * HTTP/2"):
        return Protocol.HTTP2
    if (
        end < 0
        and not is_end
        and len(head) < REQUEST_LINE_BYTES_MAX
        and _MAY_BECOME_HTTP.fullmatch(line)
    ):
        return None
    if _REQUEST_LINE.fullmatch(line):
        return Protocol.HTTP
    return Protocol.BAD_HTTP if _LIKE_HTTP.match(line) else Protocol.RAW


# --- PJL ------------------------------------------------------------------------------------------

PJL_LINES_MAX = 512
PJL_LINE_BYTES_MAX = 4096
PJL_OPTIONS_MAX = 64
PJL_COPIES_MAX = 32767  # HP's range of COPIES and QTY


@dataclass(frozen=True, slots=True)
class Pjl:
    """What the PJL header of a stream says; texts are NFC.

    `copies` is COPIES (uncollated) times QTY (collated sets), and `copies_embedded` says that the
    stream named one of them: the device makes them, nobody else may. `body_offset` is where the
    document begins, None when the header goes on behind the bytes that were read.
    """

    job_name: str = ""
    user_name: str = ""
    printer: str = ""  # SPOOLD-PRINTER
    copies: int = 1
    copies_embedded: bool = False
    is_duplex: bool | None = None
    language: str = ""  # of ENTER LANGUAGE, in capitals
    options: dict[str, str] = field(default_factory=dict)  # SET variables, at most 64
    body_offset: int | None = None

    @property
    def account(self) -> str:
        """Who is to pay, by the variable SPOOLD-ACCOUNT; "" when it does not say."""
        return self.options.get("SPOOLD-ACCOUNT", "")


_UEL_OPENINGS = (UEL, b"\x1bE" + UEL)  # some drivers reset the printer before they open PJL
_OPENINGS = (*_UEL_OPENINGS, b"@PJL")
_BLANKS = re.compile(rb"(?:\x1b%-12345X|[ \t\r\n\x00])*")
_COMMAND = re.compile(rb"@PJL[ \t]+([A-Za-z]+)[ \t]*")
_PAIR = re.compile(
    rb"(?<![0-9A-Za-z_:-])([A-Za-z][0-9A-Za-z_:-]{0,63})[ \t]*="
    rb"[ \t]*(?:\"([^\"]*)\"?|([^ \t\r\"]+))"
)
_LPARM = re.compile(rb"[LI]PARM[ \t]*:[ \t]*[0-9A-Za-z]+[ \t]*", re.IGNORECASE)
_FORGOTTEN_BY_RESET = ("COPIES", "QTY", "DUPLEX")


def read_pjl(head: bytes) -> Pjl | None:
    """What the PJL header at the front of `head` says; None when there is no such header.

    Unknown commands are skipped. At most `PJL_LINES_MAX` lines in `HEAD_BYTES_MAX` are read.
    """
    if not head.startswith(_OPENINGS):
        return None
    head = head[:HEAD_BYTES_MAX]
    name = language = b""
    values: dict[str, bytes] = {}
    at, lines = _opened(head), 0
    body: int | None = None
    while body is None and lines < PJL_LINES_MAX:
        if not head.startswith(b"@PJL", at):
            rest = head[at : at + len(UEL)]
            if not (b"@PJL".startswith(rest) or UEL.startswith(rest)):
                body = at
            break
        end = head.find(b"\n", at, at + PJL_LINE_BYTES_MAX)
        if end < 0:
            if len(head) - at >= PJL_LINE_BYTES_MAX:
                body = at
            break
        lines += 1
        found = _COMMAND.match(head, at, end)
        at = end + 1
        if found is not None:
            command, rest = found[1].upper(), head[found.end() : end]
            if command == b"ENTER":
                language = _pairs(rest).get("LANGUAGE", b"")
                body = at
                break
            if command == b"JOB":
                name = _pairs(rest).get("NAME", b"") or name
            elif command == b"SET":
                _set(values, rest)
            elif command in (b"RESET", b"INITIALIZE"):
                for key in _FORGOTTEN_BY_RESET:
                    values.pop(key, None)
        at = _behind_blanks(head, at)
    if lines >= PJL_LINES_MAX:
        body = at
    return _pjl(name or values.get("JOBNAME", b""), language, values, body)


def _opened(head: bytes) -> int:
    return _behind_blanks(head, 2 if head.startswith(b"\x1bE") else 0)


def _behind_blanks(head: bytes, at: int) -> int:
    """Behind any UEL and empty line at `at`, when PJL goes on there; else behind the UELs only."""
    match = _BLANKS.match(head, at)
    end = match.end() if match else at
    if b"@PJL".startswith(head[end : end + 4]):
        return end
    while head.startswith(UEL, at):
        at += len(UEL)
    return at


def _pairs(text: bytes) -> dict[str, bytes]:
    return {
        found[1].decode("ascii").upper(): (found[3] if found[2] is None else found[2]).strip()
        for found in _PAIR.finditer(text)
    }


def _set(values: dict[str, bytes], text: bytes) -> None:
    lparm = _LPARM.match(text)
    pairs = _pairs(text[lparm.end() :] if lparm else text)
    for key, value in pairs.items():
        if key in values or len(values) < PJL_OPTIONS_MAX:
            values[key] = value


def _pjl(name: bytes, language: bytes, values: dict[str, bytes], body: int | None) -> Pjl:
    copies, quantity = _count(values.get("COPIES")), _count(values.get("QTY"))
    duplex = values.get("DUPLEX", b"").upper()
    return Pjl(
        job_name=person.decode_text(name),
        user_name=person.decode_text(values.get("USERNAME", b"")),
        printer=person.decode_text(values.get("SPOOLD-PRINTER", b"")),
        copies=(copies or 1) * (quantity or 1),
        copies_embedded=copies is not None or quantity is not None,
        is_duplex={b"ON": True, b"OFF": False}.get(duplex),
        language=language.decode("ascii", "replace").upper()[:64],
        options={key: person.decode_text(value) for key, value in values.items()},
        body_offset=body,
    )


def _count(value: bytes | None) -> int | None:
    if value is None or not value.isdigit() or len(value) > 5:
        return None
    number = int(value)
    return number if 1 <= number <= PJL_COPIES_MAX else None


# --- formats --------------------------------------------------------------------------------------

OCTET_STREAM = "application/octet-stream"
PDF = "application/pdf"
POSTSCRIPT = "application/postscript"
PCL = "application/vnd.hp-PCL"
PCL_XL = "application/vnd.hp-PCLXL"
ZPL = "application/vnd.zebra-zpl"
TEXT = "text/plain"

_MAGIC = (
    (b"%PDF-", PDF),
    (b"%!", POSTSCRIPT),
    (b"\x04%!", POSTSCRIPT),  # Windows drivers end the job before with Ctrl-D
    (b"\xc5\xd0\xd3\xc6", POSTSCRIPT),  # EPS with a DOS header
    (b"\x1bE", PCL),
    (b"\x1b&", PCL),
    (b"\x1b*", PCL),
    (b"\x1b(", PCL),
    (b"\x1b)", PCL),
    (b"\x1b%", PCL),
    (b") HP-PCL XL;", PCL_XL),
    (b"( HP-PCL XL;", PCL_XL),
    (b"' HP-PCL XL;", PCL_XL),
    (b"RaS2", "image/pwg-raster"),
    (b"UNIRAST\x00", "image/urf"),
    (b"RaS3", "application/vnd.cups-raster"),
    (b"3SaR", "application/vnd.cups-raster"),
    (b"2SaR", "application/vnd.cups-raster"),
    (b"RaSt", "application/vnd.cups-raster"),
    (b"tSaR", "application/vnd.cups-raster"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),  # BigTIFF
    (b"MM\x00+", "image/tiff"),
    (b"^XA", ZPL),
    (b"^xa", ZPL),
    (b"CT~~CD,~CC^~CT~", ZPL),  # what Zebra's Windows driver begins with
)
_BY_FIRST_BYTE: dict[int, tuple[tuple[bytes, str], ...]] = {
    first: tuple(entry for entry in _MAGIC if entry[0][0] == first)
    for first in {magic[0] for magic, _ in _MAGIC}
}
_LANGUAGES = {
    "PCL": PCL,
    "PCL5": PCL,
    "PCLXL": PCL_XL,
    "POSTSCRIPT": POSTSCRIPT,
    "PDF": PDF,
    "TEXT": TEXT,
    "ZPL": ZPL,
}
_WHITE = b" \t\r\n\x0b\x0c\x00"
_LOOKED_AT_FOR_TEXT = 512  # enough: compressed or binary data shows a control character sooner
_TEXT_BYTES = bytes([*b"\b\t\n\f\r\x1a", *range(0x20, 0x7F), *range(0x80, 0x100)])


def guess_format(head: bytes, pjl: Pjl | None = None) -> str:
    """The media type of a document that begins with `head`; `OCTET_STREAM` when nothing tells.

    Looks behind a PJL header (pass `pjl` when it has been read already). The language that the
    header enters is what the device will use, so it wins over what the bytes look like.
    """
    if head.startswith(_OPENINGS):
        pjl = read_pjl(head) if pjl is None else pjl
        if pjl is not None:
            if pjl.language in _LANGUAGES:
                return _LANGUAGES[pjl.language]
            return _by_magic(head[pjl.body_offset :]) if pjl.body_offset else OCTET_STREAM
    return _by_magic(head)


def _by_magic(head: bytes) -> str:
    if not head:
        return OCTET_STREAM
    for magic, media_type in _BY_FIRST_BYTE.get(head[0], ()):
        if head.startswith(magic):
            return media_type
    if head[0] in _WHITE:
        begin = head[:1024].lstrip(_WHITE)
        if begin and (found := _by_magic(begin)) != OCTET_STREAM and found != TEXT:
            return found
    elif head[0] == 0x7E and b"^XA" in head:  # ~: ZPL control commands in front of a label
        return ZPL
    if not head[:_LOOKED_AT_FOR_TEXT].translate(None, _TEXT_BYTES):
        return TEXT
    return OCTET_STREAM


# --- the end of a raw job -------------------------------------------------------------------------

_END_PADDING = b" \t\r\n\x0b\x0c\x00\x04\x1a"
_PDF_END_BYTES = 1024  # where readers of PDF look for %%EOF


def missing_end(head: bytes, tail: bytes, size: int) -> str:
    """What is missing at the end of a raw job; "" when nothing is known to be.

    The kernel of a sender that died ends its stream in order, so a cut job can look whole. A job
    that opened PJL must close it with UEL or with an `@PJL EOJ` line; a PDF must have `%%EOF` in
    its last 1,024 bytes. White space, NUL, Ctrl-D and Ctrl-Z behind the end are tolerated: senders
    pad. Every other format has no end that could be missing.

    `tail` is the last bytes of the job: `TAIL_BYTES` of them, or all of a smaller one.
    """
    if head.startswith(_UEL_OPENINGS):
        return "" if _is_pjl_closed(tail, size) else "the job opened PJL and never closed it"
    if head.startswith(b"%PDF-"):
        end = tail.rstrip(_END_PADDING)
        if b"%%EOF" not in end[-_PDF_END_BYTES:]:
            return "the PDF has no %%EOF at its end"
    return ""


def _is_pjl_closed(tail: bytes, size: int) -> bool:
    if size <= len(UEL) + 2:
        return True  # nothing but the opening: a printer reset
    end = tail.rstrip(_END_PADDING)
    if end.endswith(UEL):
        return True
    last = tail.rfind(UEL)
    if last < 0 or (size <= len(tail) and last <= 2):
        return False
    behind = tail[last + len(UEL) :].lstrip(_WHITE)
    return behind.startswith(b"@PJL") and re.search(rb"@PJL[ \t]+EOJ[^\n]*\n", behind) is not None


class ZplEnd:
    """Finds where jobs may end in a stream of ZPL labels from a sender that keeps the socket.

    A label is `^XA … ^XZ`. A job ends behind a `^XZ` when the sender pauses there: labels that
    come in one burst stay one job, because the first often stores the form that the others
    recall, and in a pool they must reach the same device. A pause inside a label, or behind
    control commands (`~…`) that no label followed, ends nothing. Binary graphics may contain
    `^XZ` by chance; the pause that must follow makes that harmless. `is_in_label`: a `^XA` came,
    and no `^XZ` behind it.
    """

    def __init__(self) -> None:
        self.is_between_labels = self.is_in_label = False
        self._carry = b""

    def feed(self, data: bytes) -> bool:
        """Look at the next bytes; true when the job may end behind them if a pause follows."""
        window = self._carry + data
        upper = window.upper()
        end = upper.rfind(b"^XZ")
        if upper.rfind(b"^XA") > end:
            self.is_between_labels, self.is_in_label = False, True
        elif end >= 0:
            self.is_in_label = False
            self.is_between_labels = not window[end + 3 :].strip(_WHITE)
        elif data.strip(_WHITE):
            self.is_between_labels = False
        self._carry = window[-2:]
        return self.is_between_labels
