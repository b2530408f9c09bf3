"""Sniffing, PJL, formats, and the ends of raw jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import http, raw
from spoold.codec.raw import UEL, Protocol
from spoold.model.errors import RemoteProtocolError

SNIFFED = [
    (b"\x00SPOOLD1\x00\x00", Protocol.FRAMES),
    (b"\x00SPOOLD2", Protocol.RAW),
    (b"\x00\x00\x00", Protocol.RAW),
    (b"GET /healthz HTTP/1.1\r\n", Protocol.HTTP),
    (b"POST /ipp/print HTTP/1.0\r\nHost: x\r\n", Protocol.HTTP),
    (b"OPTIONS * HTTP/1.1\r\n", Protocol.HTTP),
    (b"PROPFIND / HTTP/1.1\r\n", Protocol.HTTP),
    (b"get / HTTP/1.1\r\n", Protocol.HTTP),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol.HTTP2),
    (b"GET / HTTP/1.1\n", Protocol.BAD_HTTP),
    (b"GET / HTTP/2.0\r\n", Protocol.BAD_HTTP),
    (b"GET /\r\n", Protocol.BAD_HTTP),
    (b"GET  / HTTP/1.1\r\n", Protocol.BAD_HTTP),
    (b"GET ../../etc/passwd HTTP/1.1 \r\n", Protocol.BAD_HTTP),
    (b"OPTIONS sip:nm SIP/2.0\r\n", Protocol.BAD_HTTP),
    (b"OPTIONS / RTSP/1.0\r\n", Protocol.BAD_HTTP),
    (b"BREW /pot HTTP/1.1 \r\n", Protocol.BAD_HTTP),
    (b"GET /" + b"a" * 9000, Protocol.BAD_HTTP),
    (b"\x16\x03\x01\x02\x00\x01", Protocol.TLS),
    (b"\x16 text", Protocol.RAW),
    (b"POST OFFICE BOX 12\nSomewhere\n", Protocol.RAW),
    (b"GET " + b"ready " * 2000, Protocol.RAW),
    (b"Invoice / 12\r\n", Protocol.RAW),
    (b'N\r\nA50,50,0,1,1,1,N,"label"\r\n', Protocol.RAW),
    (b"HELLO" * 3000, Protocol.RAW),
    (UEL + b"@PJL\r\n", Protocol.RAW),
    (b"%PDF-1.7\n", Protocol.RAW),
    (b"\r\nGET / HTTP/1.1\r\n", Protocol.RAW),
]


@pytest.mark.parametrize(("head", "protocol"), SNIFFED)
def test_each_opening_is_recognised_at_any_chunking(head: bytes, protocol: Protocol) -> None:
    """The answer is the same for the whole head and for the first prefix that decides."""
    assert raw.sniff(head) is protocol
    first = next(
        answer for size in range(len(head) + 1) if (answer := raw.sniff(head[:size])) is not None
    )
    assert first is protocol


def test_no_bytes_are_no_job() -> None:
    """Without any byte there is nothing to recognise, at the end of the stream neither."""
    assert raw.sniff(b"") is None
    assert raw.sniff(b"", is_end=True) is None


@pytest.mark.parametrize("first", [b"\x1b", b"%", b"^", b"~", b"\xff", b"\x89", b"1", b"\n", b"("])
def test_the_first_byte_of_most_raw_jobs_decides(first: bytes) -> None:
    """PCL, PDF, PostScript, ZPL, JPEG, PNG and numbers need no second byte."""
    assert raw.sniff(first) is Protocol.RAW


@pytest.mark.parametrize(
    ("head", "protocol"),
    [
        (b"G", Protocol.RAW),
        (b"GET", Protocol.RAW),
        (b"GET /healthz", Protocol.BAD_HTTP),
        (b"GET / HTTP/1.1", Protocol.BAD_HTTP),
        (b"\x00SPO", Protocol.FRAMES),
        (b"\x16", Protocol.RAW),
        (b"Dear ", Protocol.RAW),
    ],
)
def test_a_stream_that_ends_early_is_decided(head: bytes, protocol: Protocol) -> None:
    """What could become several things is decided when the sender has ended."""
    assert raw.sniff(head) is None
    assert raw.sniff(head, is_end=True) is protocol


@given(
    st.one_of(
        st.binary(max_size=40),
        st.from_regex(
            rb"(GET|POST|PRI|A) [/*]?[ -~\r]{0,9} (HTTP|SIP)/[0-9.]{1,3}\r?\n?", fullmatch=True
        ),
    ),
    st.booleans(),
)
def test_sniffing_never_raises_and_never_changes_its_mind(head: bytes, is_end: bool) -> None:
    """A decision holds for every longer head, and the end always decides."""
    answer = raw.sniff(head, is_end)
    if is_end:
        assert (answer is None) == (not head)
    elif answer is not None:
        assert raw.sniff(head + b"x HTTP/1.1\r\n") is answer
    for size in range(len(head)):
        early = raw.sniff(head[:size])
        assert early is None or early is raw.sniff(head, is_end=True)


@given(st.from_regex(rb"(GET|POST|BREW) [ -~]{1,20}[ -~\r]{0,3}\n", fullmatch=True))
def test_what_is_called_bad_is_bad_for_the_server_too(head: bytes) -> None:
    """A head that is sniffed as bad HTTP never becomes a request, and a good one does not fail."""
    server = http.HttpServer()
    server.receive_data(head)
    sniffed = raw.sniff(head)
    if sniffed is Protocol.BAD_HTTP:
        with pytest.raises(RemoteProtocolError):
            server.next_event()
    elif sniffed is Protocol.HTTP:
        assert server.next_event() is None


HEADER = (
    UEL
    + b'@PJL JOB NAME = "Report 1" DISPLAY="front"\r\n'
    + b'@PJL COMMENT made by a driver; NAME="not this"\r\n'
    + b"@PJL\r\n"
    + b'@PJL SET USERNAME="DOMAIN\\Ad\xe4le"\r\n'
    + b'@PJL SET JOBNAME="other"\r\n'
    + b"@PJL SET COPIES=2\r\n@PJL SET QTY = 3\r\n@PJL SET DUPLEX=ON\n"
    + b"@PJL SET LPARM : PCL FONTSOURCE=I\r\n"
    + b'@PJL set spoold-printer="frontdesk"\r\n'
    + b"@PJL FROBNICATE ALL\r\n"
    + b"@PJL ENTER LANGUAGE = PCLXL\r\n"
)


def test_a_header_names_job_owner_printer_and_copies() -> None:
    """Every line that matters is understood, whatever stands between them."""
    pjl = raw.read_pjl(HEADER + b") HP-PCL XL;3;0")
    assert pjl is not None
    assert (pjl.job_name, pjl.user_name) == ("Report 1", "DOMAIN\\Adäle")
    assert pjl.printer == "frontdesk"
    assert (pjl.copies, pjl.copies_embedded) == (6, True)
    assert pjl.is_duplex is True
    assert pjl.language == "PCLXL"
    assert pjl.options["FONTSOURCE"] == "I"
    assert pjl.body_offset == len(HEADER)


@pytest.mark.parametrize("size", range(len(HEADER)))
def test_a_cut_header_has_no_body_yet(size: int) -> None:
    """Before its last line is whole nobody says where the document begins."""
    pjl = raw.read_pjl(HEADER[:size])
    assert pjl is None or pjl.body_offset is None


@pytest.mark.parametrize(
    ("lines", "copies", "embedded"),
    [
        (b"@PJL SET COPIES=4\r\n", 4, True),
        (b"@PJL SET QTY=5\r\n", 5, True),
        (b"@PJL SET COPIES=1\r\n", 1, True),
        (b"@PJL SET COPIES=0\r\n", 1, False),
        (b"@PJL SET COPIES=999999999999\r\n", 1, False),
        (b"@PJL SET COPIES=-2\r\n", 1, False),
        (b"@PJL SET COPIES=4\r\n@PJL RESET\r\n", 1, False),
        (b"@PJL DEFAULT COPIES=4\r\n", 1, False),
        (b"@PJL COMMENT COPIES=4\r\n", 1, False),
    ],
)
def test_copies_come_from_set_alone_and_in_range(lines: bytes, copies: int, embedded: bool) -> None:
    """Only a SET of COPIES or QTY in HP's range makes copies."""
    pjl = raw.read_pjl(UEL + lines + b"@PJL ENTER LANGUAGE=PCL\r\n\x1bE")
    assert pjl is not None
    assert (pjl.copies, pjl.copies_embedded) == (copies, embedded)


def test_a_header_without_language_ends_where_the_document_begins() -> None:
    """The first line that is no PJL belongs to the document, blanks in front of it too."""
    front = UEL + UEL + b'\r\n@PJL SET COPIES=2\r\n\r\n@PJL JOB NAME="x"\r\n'
    pjl = raw.read_pjl(front + b"  plain text\n")
    assert pjl is not None
    assert (pjl.job_name, pjl.copies, pjl.body_offset) == ("x", 2, len(front))
    again = raw.read_pjl(front + UEL + b"%!PS\n")
    assert again is not None
    assert again.body_offset == len(front) + len(UEL)


def test_what_a_header_may_hold_is_bounded() -> None:
    """Too many variables are left out; too many or too long lines end the header."""
    many = raw.read_pjl(UEL + b"".join(b"@PJL SET V%d=1\n" % n for n in range(200)))
    assert many is not None
    assert len(many.options) == raw.PJL_OPTIONS_MAX
    endless = raw.read_pjl(UEL + b"@PJL\n" * 5000)
    assert endless is not None
    assert endless.body_offset == len(UEL) + 5 * raw.PJL_LINES_MAX
    long = raw.read_pjl(UEL + b"@PJL COMMENT " + b"x" * raw.PJL_LINE_BYTES_MAX)
    assert long is not None
    assert long.body_offset == len(UEL)


def test_no_header_no_answer() -> None:
    """A job that does not open PJL has no header, whatever it holds further on."""
    assert raw.read_pjl(b"\x1bE text " + HEADER) is None
    assert raw.read_pjl(b"") is None


FORMATS = [
    (b"%PDF-1.4", raw.PDF),
    (b"\r\n%PDF-1.4", raw.PDF),
    (b"%!PS-Adobe-3.0", raw.POSTSCRIPT),
    (b"\x04%!PS", raw.POSTSCRIPT),
    (b"\x1bE\x1b&l1O", raw.PCL),
    (b"\x1b&l1X", raw.PCL),
    (b") HP-PCL XL;3;0;", raw.PCL_XL),
    (b"RaS2PwgRaster\x00", "image/pwg-raster"),
    (b"RaS3", "application/vnd.cups-raster"),
    (b"UNIRAST\x00\x00", "image/urf"),
    (b"\xff\xd8\xff\xe0", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"^XA^FO50,50^FDx^FS^XZ", raw.ZPL),
    (b"CT~~CD,~CC^~CT~\r\n^XA", raw.ZPL),
    (b"~SD20\r\n^XA", raw.ZPL),
    ("Grüße\r\n\fnext page".encode(), raw.TEXT),
    ("Grüße\r\n".encode("latin-1"), raw.TEXT),
    (b"", raw.OCTET_STREAM),
    (b"\x00\x01\x02", raw.OCTET_STREAM),
    (b"text\x01", raw.OCTET_STREAM),
]


@pytest.mark.parametrize(("head", "media_type"), FORMATS)
def test_formats_are_known_by_their_first_bytes(head: bytes, media_type: str) -> None:
    """Bare, and behind a PJL header that enters no language."""
    assert raw.guess_format(head) == media_type
    if head.strip():
        assert raw.guess_format(UEL + b"@PJL SET COPIES=1\r\n" + head) == media_type


def test_the_language_that_pjl_enters_is_the_format() -> None:
    """The device obeys ENTER LANGUAGE, so spoold does; an unknown one leaves it to the bytes."""
    assert raw.guess_format(HEADER + b"%PDF-1.4") == raw.PCL_XL
    assert raw.guess_format(UEL + b"@PJL ENTER LANGUAGE=AUTO\r\n%PDF-1.4") == raw.PDF
    assert raw.guess_format(UEL + b"@PJL ENTER LANG") == raw.OCTET_STREAM


@pytest.mark.parametrize(
    ("job", "is_whole"),
    [
        (HEADER + b"data" + UEL, True),
        (HEADER + b"data" + UEL + b"\r\n\x00\x04", True),
        (HEADER + b"data" + UEL + b'@PJL EOJ NAME="x"\r\n' + UEL, True),
        (HEADER + b"data" + UEL + b'@PJL EOJ NAME="x"\r\n', True),
        (HEADER + b"data" + UEL + b'@PJL EOJ NAME="x"', False),
        (HEADER + b"data", False),
        (HEADER + b"data" * 3000, False),
        (HEADER + b"data" * 3000 + UEL, True),
        (HEADER + b"data" + UEL[:-1], False),
        (UEL + b"@PJL INFO ID\r\n", False),
        (UEL, True),
        (b"\x1bE" + HEADER + b"data", False),
        (b"%PDF-1.4 ... %%EOF\r\n", True),
        (b"%PDF-1.4 ... %%EOF" + b"\x00" * 3000, True),
        (b"%PDF-1.4 %%EOF ... " + b"x" * 2000, False),
        (b"%PDF-1.4 ... %%EO", False),
        (b"%!PS-Adobe-3.0 without an end", True),
        (b"plain text", True),
        (b"\x1bE half a page", True),
    ],
)
def test_an_end_that_must_be_there_is_missed(job: bytes, is_whole: bool) -> None:
    """PJL and PDF say where they end; a cut one is found, padding behind the end is not."""
    problem = raw.missing_end(job[:65536], job[-raw.TAIL_BYTES :], len(job))
    assert (problem == "") == is_whole, problem


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_readers_never_raise(front: bytes, behind: bytes) -> None:
    """Any bytes have a format, perhaps a header, and perhaps an end."""
    for head in (front, UEL + front, UEL + b"@PJL " + front + b"\n" + behind, HEADER + behind):
        pjl = raw.read_pjl(head)
        assert raw.guess_format(head) == raw.guess_format(head, pjl)
        assert pjl is None or pjl.body_offset is None or pjl.body_offset <= len(head)
        raw.missing_end(head, behind, len(head) + len(behind))


LABELS = b"^XA^DFR:A^FS^XZ\r\n^XA^XFR:A^FS^xz\r\n"


@given(st.lists(st.integers(1, 9), max_size=20))
def test_a_job_of_labels_may_end_behind_a_label_only(sizes: list[int]) -> None:
    """However the stream is cut, an end is seen behind ^XZ and white space, nowhere else."""
    end, at = raw.ZplEnd(), 0
    for size in [*sizes, len(LABELS)]:
        piece = LABELS[at : at + size]
        if not piece:
            break
        at += len(piece)
        sofar = LABELS[:at].upper().strip()
        assert end.feed(piece) == sofar.endswith(b"^XZ")
        assert end.is_in_label == (sofar.rfind(b"^XA") > sofar.rfind(b"^XZ"))


def test_control_commands_behind_a_label_are_the_next_jobs() -> None:
    """Bytes behind a label, even a few, belong to something that has not ended yet."""
    end = raw.ZplEnd()
    assert end.feed(b"^XA^XZ")
    assert not end.feed(b"~DG")
    assert not end.feed(b"000.GRF")
    assert end.feed(b"^XA^XZ\n")
