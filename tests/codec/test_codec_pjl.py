"""PJL: what we send is what a device reads, and nothing that a device says is an error."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import pjl


def read(data: bytes, size: int | None = None) -> list[pjl.Command | bytes]:
    """What a device understands, data joined, in pieces of `size`."""
    reader = pjl.CommandReader()
    step = size or max(1, len(data))
    events: list[pjl.Command | bytes] = []
    for at in range(0, len(data), step):
        events += reader.receive(data[at : at + step])
    events.append(reader.end())
    joined: list[pjl.Command | bytes] = []
    for event in events:
        if isinstance(event, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += event
        elif event:
            joined.append(event)
    return joined


def hear(data: bytes, size: int | None = None) -> list[pjl.Message]:
    channel = pjl.BackChannel()
    step = size or max(1, len(data))
    return [m for at in range(0, len(data), step) for m in channel.receive(data[at : at + step])]


@pytest.mark.parametrize("size", [1, 7, None])
def test_a_job_around_a_document_is_read_as_it_was_meant(size):
    """Commands, then the bytes of the document alone, under every chunking."""
    body = b"\x00\x1b%-1234 almost\x1b%\r\n@PJL not at a line of PJL\f"
    stream = (
        pjl.opening("token", page_count=True, follow_jobs=True)
        + pjl.job("id-1", "A title", 3, "application/postscript; x=y")
        + body
        + pjl.end_of_job("id-1")
    )
    assert read(stream, size) == [
        pjl.Command("ECHO", "token"),
        pjl.Command("INFO", "PAGECOUNT"),
        pjl.Command("USTATUS", "JOB=ON"),
        pjl.Command("JOB", 'NAME="id-1" DISPLAY="A title"'),
        pjl.Command("SET", "QTY=3"),
        pjl.Command("ENTER", "LANGUAGE=POSTSCRIPT"),
        body,
        pjl.Command("EOJ", 'NAME="id-1"'),
    ]


@given(st.text(), st.text())
def test_no_title_can_break_out_of_its_string(name, title):
    """Quotes, line ends, UEL: whatever is in a title stays one line of two strings."""
    line = pjl.job(name, title)
    assert line.startswith(pjl.UEL + b"@PJL JOB")
    assert line.count(b"\n") == 1
    assert line.count(pjl.UEL) == 1
    assert line.count(b'"') == (4 if title else 2)


@pytest.mark.parametrize("size", [1, 5, None])
def test_what_a_device_says_becomes_messages(size):
    """The answers of HP's reference, with the noise that devices add."""
    said = (
        b"@PJL ECHO token\r\n\f"
        b"@PJL INFO PAGECOUNT\r\n183933\r\n\f"
        b"@PJL INFO PAGECOUNT\r\nPAGECOUNT=183934\r\n\f"
        b'@PJL INFO STATUS\r\nCODE=41213\r\nDISPLAY="LOAD PAPER"\r\nONLINE=FALSE\r\n\f'
        b'@PJL USTATUS JOB\r\nSTART\r\nNAME="id"\r\nID=77\r\n\f'
        b"@PJL USTATUS PAGE\r\n1\r\n\f"
        b'%%[ Error: undefined ]%%\r\n@PJL USTATUS JOB\r\nEND\r\nNAME="id"\r\nPAGES=2\r\n'
        b"RESULT=OK\r\n\f"
        b"?\r\n\f"
    )
    assert hear(said, size) == [
        pjl.Echo("token"),
        pjl.PageCount(183933),
        pjl.PageCount(183934),
        pjl.Status(41213, "LOAD PAPER", False),
        pjl.JobReport("START", "id"),
        pjl.PageReport(1),
        pjl.Other("%%[ Error: undefined ]%%"),
        pjl.JobReport("END", "id", 2, "OK"),
        pjl.Other("?"),
    ]


@pytest.mark.parametrize(
    ("code", "reasons", "is_idle"),
    [
        (10001, (), True),
        (10023, (), False),
        (41213, ("media-needed",), False),
        (42202, ("media-jam",), False),
        (40021, ("cover-open",), False),
        (40000, (), True),
        (40600, ("other",), False),
        (50010, ("other",), False),
        (0, (), False),
    ],
)
def test_status_codes_are_printer_state_reasons(code, reasons, is_idle):
    """What keeps the device from printing, in the words of RFC 8011."""
    status = pjl.Status(code)
    assert (status.reasons, status.is_idle) == (reasons, is_idle)


@pytest.mark.parametrize(
    ("report", "is_canceled"),
    [
        (pjl.JobReport("END", "id", 1, "OK"), False),
        (pjl.JobReport("END", "id", 0, "USER_CANCELED"), True),
        (pjl.JobReport("CANCELED", "id"), True),
        (pjl.JobReport("END", "id"), False),
    ],
)
def test_a_canceled_job_is_told_from_a_printed_one(report, is_canceled):
    """RESULT where the device says it, CANCELED where it knows no RESULT."""
    assert report.is_end
    assert report.is_canceled is is_canceled


@pytest.mark.parametrize(
    ("head", "has_job"),
    [
        (b'\x1b%-12345X@PJL JOB NAME="x"\r\n', True),
        (b'\x1b%-12345X@PJL\r\n@PJL SET A=B\r\n@PJL job name="x"\r\n', True),
        (b"\x1bE\x1b%-12345X@PJL JOB\r\n", True),
        (b"@PJL JOB\r\n", True),
        (b"\x1b%-12345X@PJL SET JOBNAME=X\r\n", False),
        (b"\x1b%-12345X@PJL JOBS\r\n", False),
        (b"text\n@PJL JOB\r\n", False),
    ],
)
def test_a_job_of_the_documents_own_is_seen(head, has_job):
    """Only a stream that begins with PJL can have one."""
    assert pjl.has_own_job(head) is has_job


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(
    [b"@PJL ", b"USTATUS JOB\r\n", b"END\r\n", b"PAGES=", b"\f", b"INFO PAGECOUNT\r\n", b"9" * 30,
     b'NAME="', b"ECHO", b"\r\n", b"INFO STATUS\r\nCODE="]
))))  # fmt: skip
def test_nothing_that_a_device_says_is_an_error(pieces):
    """Any bytes in any pieces: messages or nothing, and the same in one piece."""
    said = b"".join(pieces)
    channel = pjl.BackChannel()
    assert [m for piece in pieces for m in channel.receive(piece)] == hear(said)


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(
    [pjl.UEL, b"@PJL ", b"@PJL JOB\r\n", b"@PJL ENTER LANGUAGE=X\r\n", b"\r\n", b"\x1b%-12", b"@P"]
))))  # fmt: skip
def test_any_stream_is_commands_and_data(pieces):
    """Any bytes in any pieces: no error, the same as in one piece, and no data invented."""
    stream = b"".join(pieces)
    reader = pjl.CommandReader()
    events = [event for piece in pieces for event in reader.receive(piece)]
    rest = reader.end()
    data = b"".join(event for event in events if isinstance(event, bytes)) + rest
    whole = read(stream)
    assert data == b"".join(event for event in whole if isinstance(event, bytes))
    assert [e for e in events if not isinstance(e, bytes)] == [
        e for e in whole if not isinstance(e, bytes)
    ]
    assert len(data) <= len(stream)


def test_a_device_that_never_ends_a_message_fills_no_memory():
    """Megabytes without a form feed are thrown away."""
    channel = pjl.BackChannel()
    for _ in range(100):
        assert channel.receive(b"x" * 65536) == []
    assert channel.receive(b"\f@PJL ECHO still\r\n\f")[-1] == pjl.Echo("still")


def test_a_line_without_an_end_is_cut_and_read_on():
    """A command of over 4 KiB is none of PJL's; the reader keeps no more than that."""
    reader = pjl.CommandReader()
    events = reader.receive(pjl.UEL + b"@PJL COMMENT " + b"x" * 100_000)
    assert isinstance(events[0], pjl.Command)
    assert re.fullmatch("COMMENT", events[0].word)
    assert len(events[0].rest) < pjl.LINE_BYTES_MAX


@pytest.mark.parametrize(
    ("sides", "color", "told"),
    [
        ("two-sided-long-edge", None, b"SET DUPLEX=ON\r\n@PJL SET BINDING=LONGEDGE"),
        ("two-sided-short-edge", "color", b"SET BINDING=SHORTEDGE\r\n@PJL SET RENDERMODE=COLOR"),
        ("one-sided", "monochrome", b"SET DUPLEX=OFF\r\n@PJL SET RENDERMODE=GRAYSCALE"),
    ],
)
def test_a_job_of_ours_says_sides_and_color(sides, color, told):
    """As the attributes of the job ask for them."""
    assert told in pjl.job("id", sides=sides, color=color)


def test_what_is_no_keyword_says_nothing():
    """Nothing of a sender's words reaches the device."""
    plain = pjl.job("id")
    assert pjl.job("id", sides="on\r\n@PJL SET X=1", color=["monochrome"]) == plain
