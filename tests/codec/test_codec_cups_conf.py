"""The files of a CUPS server, as cupsd writes them and as nobody should."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec.cups_conf import (
    LEVELS_MAX,
    LINE_BYTES_MAX,
    read_lpoptions,
    read_queues,
    read_sections,
)
from spoold.model.errors import RemoteProtocolError

PRINTERS = """\
# Printer configuration file for CUPS v2.4.2
# Written by cupsd
NextPrinterId 3
<DefaultPrinter desk>
PrinterId 1
UUID urn:uuid:eb447f7b-fd53-31be-4638-3412be126174
Info Front \\# desk # 2
Location Größe 3
MakeModel Acme Jet
DeviceURI socket://192.0.2.7:9101/?waiteof=false
State Stopped
StateMessage toner at noon
Accepting No
Shared Yes
JobSheets standard none
Option sides two-sided-long-edge
AllowUser alice
AllowUser @staff
</DefaultPrinter>
<Printer annex>
DeviceURI lpd://192.0.2.8/raw
State Idle
Accepting Yes
</Printer>
""".encode()
CLASSES = b"""\
<Class floor>
Info Both
State Idle
Printer desk
Printer annex
</Class>
"""


def test_queues_with_all_that_cups_says_of_them():
    """The default one, states, options, and the lines that others make sense of."""
    desk, annex = read_queues(PRINTERS)
    assert (desk.name, desk.number, desk.is_default, desk.is_class) == ("desk", 4, True, False)
    assert desk.info == "Front # desk # 2"
    assert (desk.location, desk.make_and_model) == ("Größe 3", "Acme Jet")
    assert desk.uri == "socket://192.0.2.7:9101/?waiteof=false"
    assert (desk.is_stopped, desk.state_message) == (True, "toner at noon")
    assert (desk.accepting, desk.shared) == (False, True)
    assert desk.options == {"sides": "two-sided-long-edge"}
    rest = {(line.number, line.name, line.value) for line in desk.lines}
    assert {(15, "JobSheets", "standard none"), (17, "AllowUser", "alice")} < rest
    assert (annex.is_default, annex.is_stopped, annex.accepting) == (False, False, True)


def test_classes_have_members():
    """In the order in which they stand."""
    (floor,) = read_queues(CLASSES)
    assert (floor.is_class, floor.members, floor.info) == (True, ["desk", "annex"], "Both")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<Printer desk>\nInfo x\n", r"line 1: <Printer desk> has no end; .*cut off"),
        ("<Printer desk>\n</Class>\n", "line 2: </Class> ends nothing"),
        ("</Printer>\n", "line 1: </Printer> ends nothing"),
        ("\n<Printer desk\n</Printer>\n", "line 2: a section's line has no >"),
        ("<Printer desk>\nAccepting Maybe\n</Printer>\n", "line 2: Accepting is neither"),
        ("<Printer >\n</Printer>\n", "line 1: the queue has no name"),
        ("<Location />\n</Location>\n", "line 1: <Location> is no queue"),
        ("<Printer a>\n</Printer>\n<Printer A>\n</Printer>\n", "line 3: A stands there twice"),
        ("<Printer a>\nInfo \0\n</Printer>\n", "line 2: it has a zero byte"),
        (f"Info {'x' * LINE_BYTES_MAX}\n", "line 1: it is over"),
        ("<A>\n" * (LEVELS_MAX + 1), f"line {LEVELS_MAX + 1}: over {LEVELS_MAX} sections"),
        ("<Printer a>\n" + "X 1\n" * 1001, "line 1002: over 1000 lines"),
        ("<Printer a>\n</Printer>\n<P b>\n</P>\n" * 5001, "line 2.*: over 10000 sections"),
    ],
)
def test_a_file_that_is_none_names_the_line(text, message):
    """Half a file must not look like fewer queues, and no file takes more than its share."""
    with pytest.raises(RemoteProtocolError, match=message):
        read_queues(text.encode())


def test_sections_within_sections_are_passed_over():
    """cupsd.conf has limits within policies; what stands outside of all is read."""
    outside, sections = read_sections(
        b"MaxJobs 500\n<Policy default>\n<Limit All>\nOrder deny,allow\n</Limit>\nA 1\n</Policy>\n"
        b"Browsing No # not here\n"
    )
    assert [(one.number, one.name, one.value) for one in outside] == [
        (1, "MaxJobs", "500"),
        (8, "Browsing", "No"),
    ]
    assert [(one.kind, one.name, len(one.lines)) for one in sections] == [("policy", "default", 1)]


def test_lpoptions_say_defaults_of_queues_and_of_instances():
    """One line each; the default one says so."""
    found = read_lpoptions(
        b"Dest desk sides=one-sided media=a4\nDefault annex/draft print-quality=3\n"
    )
    assert found == [
        (1, "desk", "", False, {"sides": "one-sided", "media": "a4"}),
        (2, "annex", "draft", True, {"print-quality": "3"}),
    ]
    for text in (b"Nonsense desk\n", b"Dest\n"):
        with pytest.raises(RemoteProtocolError, match="line 1"):
            read_lpoptions(text)


@given(st.binary(max_size=300) | st.text(alphabet="<>/ #\\\nPrinteaClsdD", max_size=200))
def test_any_bytes_are_read_or_refused(data):
    """Nothing but queues or the one error comes of a file."""
    raw = data.encode() if isinstance(data, str) else data
    for read in (read_queues, read_lpoptions, read_sections):
        with contextlib.suppress(RemoteProtocolError):
            read(raw)
