"""RFC 1179: a client wired to the server, odd lengths and orders, and hostile bytes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import lpd
from spoold.codec.lpd import ControlFile, Data, Event, LpdServer, PrintFile
from spoold.model.errors import RemoteProtocolError
from support.cuts import EVERY_CUT, Cut, one_by_one, whole

CUTS = pytest.mark.parametrize("cut", EVERY_CUT)


def serve(
    pieces: list[bytes], *, is_ended: bool = True, server: LpdServer | None = None
) -> list[Event]:
    """The events of a stream, neighbouring `Data` joined into one."""
    server = server or LpdServer()
    events: list[Event] = []
    for piece in [*pieces, b""] if is_ended else pieces:
        server.receive_data(piece)
        while (event := server.next_event()) is not None:
            if isinstance(event, Data):
                data = bytes(event.data)
                if events and isinstance(events[-1], Data):
                    data = bytes(events.pop().data) + data  # type: ignore[union-attr]
                event = Data(data)
            events.append(event)
    return events


CONTROL = ControlFile(
    host="desk.example.org",
    user="user",
    job_name="Größe",
    files=[PrintFile(b"dfA007desk", "l", 2, source="a.prn"), PrintFile(b"dfB007desk", "o")],
    unlink=[b"dfA007desk", b"dfB007desk"],
)
BODY = lpd.build_control(CONTROL)
CONTROL_PART = lpd.control_file(b"cfA007desk", len(BODY)) + BODY + lpd.END_OF_FILE
A, B = b"\x1bE first\x00\n" * 9, b"%!PS second\n"
A_PART = lpd.data_file(b"dfA007desk", len(A)) + A + lpd.END_OF_FILE
B_PART = lpd.data_file(b"dfB007desk", len(B)) + B + lpd.END_OF_FILE
COMMAND = lpd.receive_job(b"labels")


def files(events: list[Event]) -> dict[bytes, bytes]:
    """The data files that came whole, by name."""
    found: dict[bytes, bytes] = {}
    data = b""
    for event in events:
        if isinstance(event, lpd.DataFileBegins):
            data = b""
        elif isinstance(event, Data):
            data = bytes(event.data)
        elif isinstance(event, lpd.DataFileEnds):
            found[event.name] = data
    return found


def completions(events: list[Event]) -> list[bool]:
    return [
        event.is_job_complete
        for event in events
        if isinstance(event, (lpd.ControlFileEnds, lpd.DataFileEnds))
    ]


@CUTS
@pytest.mark.parametrize(
    ("parts", "complete"),
    [
        ([CONTROL_PART, A_PART, B_PART], [False, False, True]),
        ([A_PART, B_PART, CONTROL_PART], [False, False, True]),
        ([A_PART, CONTROL_PART, B_PART], [False, False, True]),
        ([CONTROL_PART, B_PART[:-1]], [False, False]),
        ([A_PART, B_PART, CONTROL_PART[:-1]], [False, False, True]),
    ],
)
def test_files_come_in_any_order(cut: Cut, parts: list[bytes], complete: list[bool]) -> None:
    """The last file of a job is known as such, and a missing NUL at the end is forgiven."""
    events = serve(cut(COMMAND + b"".join(parts)))
    assert events[0] == lpd.ReceiveJob("labels")
    assert events[-1] == lpd.Closed()
    assert completions(events) == complete
    wanted = {b"dfA007desk": A, b"dfB007desk": B}
    assert files(events).items() <= wanted.items()
    assert len(files(events)) == len(complete) - 1


@CUTS
def test_what_a_control_file_says_arrives(cut: Cut) -> None:
    """Texts, print lines with their copies, sources and names to unlink come as they were built."""
    events = serve(cut(COMMAND + CONTROL_PART), is_ended=False)
    (came,) = (event for event in events if isinstance(event, lpd.ControlFileEnds))
    assert came.body == BODY
    assert came.control.files == CONTROL.files
    assert came.control.unlink == CONTROL.unlink
    assert (came.control.user, came.control.title) == ("user", "Größe")
    assert came.control.raw["J"] == "Größe".encode()


@CUTS
def test_several_jobs_share_a_connection(cut: Cut) -> None:
    """With a command each or under one command, and after an abort."""
    job = A_PART + B_PART + CONTROL_PART
    events = serve(cut(COMMAND + job + COMMAND + CONTROL_PART + A_PART + B_PART + job))
    assert completions(events) == [False, False, True] * 3
    assert sum(isinstance(event, lpd.ReceiveJob) for event in events) == 2
    aborted = serve(cut(COMMAND + A_PART + lpd.abort_job() + job))
    assert lpd.Abort() in aborted
    assert completions(aborted) == [False, False, False, True]


@pytest.mark.parametrize(
    "length", [b"0", b"4294967295", b"125899906843000", b"999999999999", b"9" * 30]
)
@CUTS
def test_a_length_that_cannot_be_one_means_the_rest_of_the_stream(cut: Cut, length: bytes) -> None:
    """Every byte up to the end is the file's, and the file ends the job."""
    stream = COMMAND + CONTROL_PART + A_PART + b"\x03" + length + b" dfB007desk\n"
    events = serve(cut(stream + B * 100 + b"\x00\x03"))
    assert lpd.DataFileBegins(b"dfB007desk", None) in events
    assert files(events)[b"dfB007desk"] == B * 100 + b"\x00\x03"
    assert completions(events) == [False, False, True]


@CUTS
def test_an_announced_zero_is_an_empty_file_where_more_must_follow(cut: Cut) -> None:
    """Before the control file, or with another file missing, a file cannot run to the end."""
    empty = lpd.data_file(b"dfA007desk", 0) + lpd.END_OF_FILE
    for stream in (CONTROL_PART + empty + B_PART, empty + B_PART + CONTROL_PART):
        events = serve(cut(COMMAND + stream))
        assert files(events) == {b"dfA007desk": b"", b"dfB007desk": B}
        assert completions(events) == [False, False, True]


@CUTS
def test_a_control_file_without_print_lines_takes_any_file(cut: Cut) -> None:
    """Small devices send who and where only; the one data file completes the job."""
    bare = b"Hdesk\nPuser\n"
    control = lpd.control_file(b"cfA001", len(bare)) + bare + b"\0"
    for stream in (control + A_PART, A_PART + control):
        assert completions(serve(cut(COMMAND + stream))) == [False, True]


@CUTS
@pytest.mark.parametrize(
    ("line", "event"),
    [
        (lpd.print_waiting(b"labels"), lpd.PrintWaiting("labels")),
        (lpd.queue_state(b"labels"), lpd.QueueState("labels", False, ())),
        (
            lpd.queue_state(b"labels", [b"user", b"12"], is_long=True),
            lpd.QueueState("labels", True, ("user", "12")),
        ),
        (
            lpd.remove_jobs(b"labels", b"root", [b"user", b"12"]),
            lpd.RemoveJobs("labels", "root", ("user", "12")),
        ),
        (b"\x03\t labels \x0b user\n", lpd.QueueState("labels", False, ("user",))),
        (b"\x03labels \n", lpd.QueueState("labels", False, ())),
    ],
)
def test_the_other_commands_arrive(cut: Cut, line: bytes, event: Event) -> None:
    """Operands stand apart by any white space of RFC 1179."""
    assert serve(cut(line)) == [event, lpd.Closed()]


def test_document_bytes_are_not_copied() -> None:
    """A chunk inside a file is handed on as the same object, or as a view of it."""
    server = LpdServer()
    server.receive_data(COMMAND + lpd.data_file(b"dfA", 3 * 65536))
    while server.next_event() is not None:
        pass
    chunk = bytes(65536)
    server.receive_data(chunk)
    event = server.next_event()
    assert isinstance(event, Data)
    assert event.data is chunk
    assert server.next_event() is None
    server.receive_data(long := bytes(2 * 65536 + 1) + COMMAND)
    event = server.next_event()
    assert isinstance(event, Data)
    assert isinstance(event.data, memoryview)
    assert event.data.obj is long
    assert isinstance(server.next_event(), lpd.DataFileEnds)
    assert server.next_event() == lpd.ReceiveJob("labels")


@CUTS
@pytest.mark.parametrize(
    "stream",
    [
        b"\x02\n",
        b"\n",
        b"\x09labels\n",
        b"GET / HTTP/1.1\r\n",
        b"\x02labels",
        b"\x02labels\r\n",
        b"\x02labels more\n",
        b"\x02" + b"a" * 2000,
        COMMAND + b"\x02-1 cfA001\n",
        COMMAND + b"\x0299999 cfA001\n",
        COMMAND + b"\x0312 ../../etc/passwd\n",
        COMMAND + b"\x0312 " + b"d" * 300 + b"\n",
        COMMAND + CONTROL_PART[:-3],
        COMMAND + A_PART[:-3],
        COMMAND + A_PART[:-1] + b"\x01",
        COMMAND + CONTROL_PART[:-1] + b"\x01",
        COMMAND + A_PART + A_PART,
        COMMAND + b"".join(b"\x031 d%d\nx\0" % n for n in range(300)),
        COMMAND + b"\x02%d cf\n" % 1400 + b"".join(b"fdf%08d\n" % n for n in range(200)),
        b"\x05labels " + b"1 " * 200 + b"\n",
    ],
)
def test_what_is_malformed_is_refused_for_good(cut: Cut, stream: bytes) -> None:
    """Wrong commands, lengths, names, ends and amounts end the conversation."""
    server = LpdServer()
    with pytest.raises(RemoteProtocolError):
        serve(cut(stream), server=server)
    with pytest.raises(RemoteProtocolError):
        server.next_event()


@pytest.mark.parametrize(
    ("body", "sources"),
    [
        (b"fdfA\nUdfA\nNone\nfdfB\nNtwo\n", ["one", "two"]),
        (b"None\nfdfA\nNtwo\nfdfB\n", ["one", "two"]),
        (b"fdfA\nfdfB\nNtwo\n", ["", "two"]),
        (b"fdfA\r\nNone\r\nfdfB\n", ["one", ""]),
    ],
)
def test_sources_are_named_before_or_behind_their_print_line(
    body: bytes, sources: list[str]
) -> None:
    """Both habits of senders give each file its own name."""
    assert [file.source for file in lpd.parse_control(body).files] == sources


def test_print_lines_that_repeat_are_copies() -> None:
    """A file printed n times has n copies, also when the lines of others stand between."""
    control = lpd.parse_control(b"fdfA\nfdfB\nfdfA\nI4\nW132\nI-\nTreport\npdfC\nxunknown\n")
    assert [(f.name, f.format, f.copies) for f in control.files] == [
        (b"dfA", "f", 2),
        (b"dfB", "f", 1),
        (b"dfC", "p", 1),
    ]
    assert (control.indent, control.width, control.title) == (4, 132, "report")


def test_file_names_count_by_letters() -> None:
    """The 27th file begins with small letters, and blanks of a host are left out."""
    assert lpd.file_name("c", 0, 1234, "desk") == b"cfA234desk"
    assert lpd.file_name("d", 1, 123456, "desk", is_long=True) == b"dfB123456desk"
    assert lpd.file_name("d", 25, 1, "a host") == b"dfZ001ahost"
    assert lpd.file_name("d", 26, 1, "a host") == b"dfa001ahost"


def test_a_title_cannot_add_a_line() -> None:
    """Line ends in a text become spaces, and texts are cut between characters."""
    body = lpd.build_control(ControlFile("h", "u", job_name="a\nldfX\r", mail="é" * 100))
    assert b"\nJa ldfX \n" in body
    assert not lpd.parse_control(body).files
    assert lpd.parse_control(body).mail == "é" * 65


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N")), max_size=7).map(
    lambda text: unicodedata.normalize("NFC", text)
)
NAMES = st.builds(lpd.file_name, st.just("d"), st.integers(0, 51), st.integers(0, 999), WORDS)


@given(
    st.builds(
        ControlFile,
        host=WORDS,
        user=WORDS,
        job_name=WORDS,
        job_class=WORDS,
        banner_user=WORDS,
        mail=WORDS,
        indent=st.none() | st.integers(0, 99),
        width=st.none() | st.integers(0, 999),
        files=st.lists(
            st.builds(
                PrintFile,
                NAMES,
                st.sampled_from(lpd.FORMATS),
                st.integers(1, 4),
                WORDS,
                WORDS,
            ),
            max_size=5,
            unique_by=lambda file: file.name,
        ),
        unlink=st.lists(NAMES, max_size=3, unique=True),
    )
)
def test_a_control_file_survives_the_wire(control: ControlFile) -> None:
    """What is built is what is parsed, in the form that the model keeps."""
    again = lpd.parse_control(lpd.build_control(control))
    again.raw = {}
    assert again == control


PIECES = st.sampled_from(
    [
        *(COMMAND, CONTROL_PART, A_PART, B_PART, lpd.abort_job(), b"\0", b"\n", b"\x0312 dfA\n"),
        *(b"\x030 dfA\n", b"\x023 cfA\n", b"\x02q\n", b"\x04q a\n", b"\x0399999999999999 dfB\n"),
    ]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=5)), max_size=10))
def test_only_a_protocol_error_leaves(pieces: list[bytes]) -> None:
    """Any bytes are events or a `RemoteProtocolError`, the same ones at any chunking."""
    seen: list[list[Event] | str] = []
    for cut in (whole, one_by_one):
        try:
            seen.append(serve(cut(b"".join(pieces))))
        except RemoteProtocolError as error:
            seen.append(str(error))
    assert seen[0] == seen[1]
