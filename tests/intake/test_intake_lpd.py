"""LPD over real sockets into a real spool: when the octets come, and what is kept."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager

import pytest
import trio

from spoold.codec import lpd
from spoold.codec.lpd import ControlFile, PrintFile
from spoold.intake.acceptance import Acceptance
from spoold.intake.lpd import serve_lpd
from spoold.model.errors import OperationError, RemoteProtocolError, SpooldError, SpoolFull
from spoold.model.job import JobState
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Principal
from spoold.net.tcp import SocketStream
from spoold.spool.store import JobFilter
from support.limits import Limits

CLIENT = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")
LARGE = bytes(range(256)) * 2048  # goes into a file


async def queues(name, is_long):
    if name != "labels":
        raise OperationError("not-found", "there is no such printer.")
    return b"long\n" if is_long else b"short\n"


class Client:
    """The client's half, an octet at a time."""

    def __init__(self, stream):
        self.stream = stream
        self.problems = []

    async def send(self, *pieces):
        await self.stream.send_all(b"".join(pieces))

    async def octet(self):
        """The next octet as a number; None at the end."""
        data = await self.stream.receive_some(1)
        return data[0] if data else None

    async def is_acknowledged(self, *pieces):
        await self.send(*pieces)
        return await self.octet() == 0

    async def everything(self):
        data = b""
        while piece := await self.stream.receive_some():
            data += piece
        return data


@pytest.fixture
async def connect(spool):
    """`async with connect() as client`: one LPD connection; the printer is `labels`."""
    await spool.add_printer("labels")

    @asynccontextmanager
    async def connected(**changes):
        limits = Limits(**changes)
        acceptance = Acceptance(
            spool.journal, spool.reader, spool.documents, limits, spool.wall_clock
        )
        await acceptance.start()
        ours, theirs = socket.socketpair()
        client = Client(SocketStream(theirs))

        async def serve():
            stream = SocketStream(ours)
            try:
                await serve_lpd(stream, CLIENT, acceptance, limits, queues)
            except (
                RemoteProtocolError,
                OperationError,
                SpooldError,
                trio.TooSlowError,
                trio.BrokenResourceError,
            ) as error:
                client.problems.append(error)
            finally:
                stream.abort()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                yield client
                client.stream.abort()

    return connected


@pytest.fixture
def jobs(spool):
    async def all_jobs():
        return await spool.reader.jobs(JobFilter())

    return all_jobs


async def body_of(spool, job):
    source = await spool.documents.open(job)
    try:
        return source.read_at(0, 1 << 24)
    finally:
        source.close()


def control_part(control, number=7):
    body = lpd.build_control(control)
    name = lpd.file_name("c", 0, number, "desk")
    return lpd.control_file(name, len(body)), body + lpd.END_OF_FILE


def data_part(name, data):
    return lpd.data_file(name, len(data)), data + lpd.END_OF_FILE


A, B = b"dfA007desk", b"dfB007desk"
ONE = ControlFile("desk", "Desk\\User", job_name="Report", files=[PrintFile(A, "l", 3)])
TWO = ControlFile(
    "desk", "user", files=[PrintFile(A, "f", source="a.txt"), PrintFile(B, "o", source="b.ps")]
)
PCL = b"\x1bE page\x0c"
COMMAND = lpd.receive_job(b"labels")


@pytest.mark.parametrize("order", ["control first", "data first"])
@pytest.mark.parametrize("data", [PCL, LARGE], ids=["small", "large"])
async def test_a_file_and_its_control_file_are_a_job(connect, jobs, spool, order, data):
    """The last octet says that the job is durable, with all that the control file says of it."""
    parts = [control_part(ONE), data_part(A, data)]
    if order == "data first":
        parts.reverse()
    async with connect() as client:
        assert await client.is_acknowledged(COMMAND)
        for line, file in parts:
            assert await jobs() == []
            assert await client.is_acknowledged(line)
            assert await client.is_acknowledged(file)
        (job,) = await jobs()
        await client.stream.send_eof()
        assert await client.octet() is None
    assert not client.problems
    assert job.state is JobState.PENDING
    assert (job.title, job.copies, job.copies_embedded) == ("Report", 3, False)
    assert job.owner == Owner("user", Known.CLAIMED, "lpd")
    assert (job.intake, job.client_host, job.submitter) == (
        *("lpd", "192.0.2.7"),
        "address:192.0.2.7",
    )
    assert job.attributes["lpd-format"] == "l"
    assert await body_of(spool, job) == data


@pytest.mark.parametrize("size", [1, 5, 100000])
async def test_several_jobs_and_files_share_a_connection(connect, jobs, spool, size):
    """A client that waits for nothing gets all its octets, and its jobs, at any chunking."""
    two = [*control_part(TWO), *data_part(A, b"text\n"), *data_part(B, b"%!PS\n")]
    one = [*data_part(A, PCL), *control_part(ONE)]
    stream = b"".join([COMMAND, *two, *one, COMMAND, *one])
    async with connect() as client:
        for at in range(0, len(stream), size):
            await client.send(stream[at : at + size])
        await client.stream.send_eof()
        assert await client.everything() == b"\0" * (1 + 6 + 4 + 1 + 4)
    assert not client.problems
    found = await jobs()
    assert [job.title for job in found] == ["a.txt", "b.ps", "Report", "Report"]
    assert [job.document.format for job in found[:3]] == [
        "text/plain",
        "application/postscript",
        "application/vnd.hp-PCL",
    ]
    assert [await body_of(spool, job) for job in found] == [b"text\n", b"%!PS\n", PCL, PCL]


@pytest.mark.parametrize("length", [b"0", b"999999999999"])
async def test_a_file_without_length_ends_with_the_stream(connect, jobs, length):
    """It is a job when the client ends its half, and is acknowledged for those who still listen."""
    async with connect() as client:
        await client.send(COMMAND, *control_part(ONE), b"\x03", length, b" ", A, b"\n", PCL)
        assert await jobs() == []
        await client.stream.send_eof()
        assert await client.everything() == b"\0" * 5
    (job,) = await jobs()
    assert (job.state, job.document.size) == (JobState.PENDING, len(PCL))


async def test_a_file_without_length_that_looks_cut_is_held(connect, jobs):
    """The kernel of a dying sender ends the stream too: a PDF without its end is not printed."""
    async with connect() as client:
        await client.send(COMMAND, *control_part(ONE), lpd.data_file(A, 0), b"%PDF-1.7 half")
        await client.stream.send_eof()
        await client.everything()
    (job,) = await jobs()
    assert job.state is JobState.PENDING_HELD
    assert job.reasons == ("submission-interrupted",)


@pytest.mark.parametrize(
    ("queue", "changes", "octet", "problem"),
    [
        (b"nowhere", {}, 1, OperationError),
        (b"labels", {"spool_share": 0.0}, 2, SpoolFull),
    ],
)
async def test_a_job_that_cannot_be_taken_is_refused_at_its_command(
    connect, jobs, queue, changes, octet, problem
):
    """An unknown queue and a full spool answer an octet that is not zero, and end in order."""
    async with connect(**changes) as client:
        await client.send(lpd.receive_job(queue))
        assert await client.octet() == octet
        assert await client.octet() is None
    assert [type(error) for error in client.problems] == [problem]
    assert await jobs() == []


@pytest.mark.parametrize("size", [100, 10**11])
async def test_a_file_that_is_too_large_is_refused(connect, jobs, size):
    """By its announced size before a byte of it, or at the byte that is too much."""
    async with connect(document_bytes_max=50) as client:
        assert await client.is_acknowledged(COMMAND)
        await client.send(*data_part(B, b"first"))
        assert await client.is_acknowledged()
        assert await client.is_acknowledged()
        await client.send(lpd.data_file(A, size))
        if size > 100:
            assert await client.octet() == 0
            await client.send(b"x" * 51)
        assert await client.octet() == 3
        assert await client.octet() is None
    assert [type(error) for error in client.problems] == [OperationError]
    assert await jobs() == []


async def test_a_printer_that_takes_no_jobs_says_try_later(connect, jobs, spool):
    """The client keeps its job, and its queue runs on."""
    await spool.add_printer("closed", accepting=False)
    async with connect() as client:
        await client.send(lpd.receive_job(b"closed"))
        assert await client.octet() == 2


async def test_an_abort_forgets_what_came(connect, jobs):
    """Sub-command 1 drops the files before it, acknowledged or not; the next job is a job."""
    async with connect() as client:
        await client.send(COMMAND, *data_part(A, PCL), lpd.abort_job())
        await client.send(*data_part(A, b"again"), *control_part(ONE))
        await client.stream.send_eof()
        assert await client.everything() == b"\0" * 7
    (job,) = await jobs()
    assert job.document.size == 5


@pytest.mark.parametrize("end", [0, 3, -1])
async def test_a_file_that_was_never_acknowledged_is_dropped(connect, jobs, spool, end):
    """Its sender still has it, and will send it again."""
    _, file = data_part(A, LARGE)
    cut = file[:end] + (b"\x01" if end < 0 else b"")
    async with connect() as client:
        await client.send(COMMAND, *control_part(ONE), lpd.data_file(A, len(LARGE)), cut)
        await client.stream.send_eof()
        assert await client.everything() == b"\0" * 4
    assert [type(error) for error in client.problems] == [RemoteProtocolError]
    assert await jobs() == []
    assert list(spool.documents.incoming_dir.iterdir()) == []


async def test_an_acknowledged_file_without_its_job_is_held(connect, jobs):
    """Two files of three came; what was acknowledged is kept for an operator, never printed."""
    async with connect() as client:
        await client.send(
            COMMAND, *control_part(TWO), *data_part(A, PCL), lpd.data_file(B, 9), b"x"
        )
        await client.stream.send_eof()
        await client.everything()
    (job,) = await jobs()
    assert (job.state, job.title) == (JobState.PENDING_HELD, "a.txt")
    assert job.owner.name == "user"


async def test_a_data_file_without_control_file_is_held(connect, jobs):
    """A client that leaves before its control file has handed over nothing."""
    async with connect() as client:
        await client.send(COMMAND, *data_part(A, PCL))
        await client.stream.send_eof()
        await client.everything()
    (job,) = await jobs()
    assert job.state is JobState.PENDING_HELD


async def test_a_silent_client_meets_the_deadline(connect, jobs):
    """In the middle of a file: the rest never comes, and nothing is printed."""
    async with connect(idle_deadline_s=0.4) as client:
        await client.send(COMMAND, *control_part(ONE), lpd.data_file(A, 9), b"half")
        assert await client.everything() == b"\0" * 4
    assert [type(error) for error in client.problems] == [trio.TooSlowError]
    assert await jobs() == []


async def test_a_slow_client_meets_the_minimum_rate(connect, jobs):
    """The idle deadline is far away, and still the file does not come for ever."""
    async with connect(minimum_rate_bytes_s=1000, minimum_rate_grace_s=0.4) as client:
        await client.send(COMMAND, *control_part(ONE), lpd.data_file(A, 10**6), b"little")
        assert await client.everything() == b"\0" * 4
    assert [type(error) for error in client.problems] == [trio.TooSlowError]
    assert await jobs() == []


async def test_a_connection_with_nothing_going_on_ends_in_order(connect):
    """Between jobs a silent client is no event for anybody."""
    async with connect(idle_deadline_s=0.4) as client:
        assert await client.is_acknowledged(COMMAND)
        assert await client.octet() is None
    assert not client.problems


async def test_empty_files_are_no_jobs(connect, jobs):
    """Zero bytes are acknowledged, and forgotten."""
    async with connect() as client:
        await client.send(COMMAND, *data_part(A, b""), *control_part(ONE))
        await client.stream.send_eof()
        assert await client.everything() == b"\0" * 5
    assert await jobs() == []


async def test_pjl_says_what_the_control_file_does_not(connect, jobs):
    """Names and copies of the stream fill the gaps; copies in it are marked as embedded."""
    data = (
        b'\x1b%-12345X@PJL JOB NAME="Letter"\r\n@PJL SET USERNAME="someone"\r\n'
        b"@PJL SET COPIES=4\r\n@PJL SET DUPLEX=ON\r\n@PJL ENTER LANGUAGE=PCL\r\n"
    )
    bare = ControlFile("desk", "", files=[PrintFile(A, "l")])
    async with connect() as client:
        await client.send(COMMAND, *control_part(bare), *data_part(A, data))
        await client.stream.send_eof()
        await client.everything()
    (job,) = await jobs()
    assert (job.title, job.copies, job.copies_embedded) == ("Letter", 4, True)
    assert job.owner == Owner("someone", Known.CLAIMED, "pjl")
    assert job.attributes["sides"] == "two-sided-long-edge"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (lpd.queue_state(b"labels"), b"short\n"),
        (lpd.queue_state(b"labels", [b"user"], is_long=True), b"long\n"),
        (lpd.queue_state(b"nowhere"), b"there is no such printer.\n"),
        (lpd.print_waiting(b"labels"), b"\0"),
    ],
)
async def test_questions_about_a_queue_are_answered(connect, line, answer):
    """One answer, and the connection ends."""
    async with connect() as client:
        await client.send(line)
        assert await client.everything() == answer
    assert not client.problems


async def test_jobs_are_not_removed_over_lpd(connect):
    """Anybody could say to be anybody: the client is told what to do instead."""
    async with connect() as client:
        await client.send(lpd.remove_jobs(b"labels", b"root", [b"12"]))
        assert b"not removed" in await client.everything()


async def test_a_cancelled_connection_keeps_what_it_acknowledged(connect, jobs, spool):
    """When spoold stops, acknowledged files are held, and a half one leaves nothing behind."""
    ours, theirs = socket.socketpair()
    acceptance = Acceptance(
        spool.journal, spool.reader, spool.documents, Limits(), spool.wall_clock
    )
    await acceptance.start()
    client = SocketStream(theirs)
    stream = SocketStream(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_lpd, stream, CLIENT, acceptance, Limits(), queues)
        await client.send_all(b"".join([COMMAND, *data_part(A, PCL), lpd.data_file(B, 9), b"x"]))
        for _ in range(4):
            await client.receive_some(1)
        nursery.cancel_scope.cancel()
    stream.abort()
    client.abort()
    (job,) = await jobs()
    assert (job.state, job.document.size) == (JobState.PENDING_HELD, len(PCL))
