"""Raw intake over real sockets: what ends a job, what never does, and what the sender sees."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, replace

import pytest
import trio
import trio.testing

from spoold.intake.acceptance import Acceptance
from spoold.intake.deadlines import Deadlines
from spoold.intake.raw import Ending, serve_raw
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import JobState
from spoold.model.principal import Port, Principal
from spoold.net.tcp import SocketStream
from spoold.spool.store import JobFilter
from support import limits

SENDER = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")


@dataclass(frozen=True)
class Limits(limits.Limits):
    idle_deadline_s: float = 0.15


@pytest.fixture
async def connect(spool):
    """`client, done = await connect(...)`: a plain blocking-free client of one raw connection."""
    limits = Limits()
    acceptance = Acceptance(spool.journal, spool.reader, spool.documents, limits, spool.wall_clock)
    await acceptance.start()
    await spool.add_printer()
    deadlines = Deadlines()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)

        async def start(ending=None, limits=limits, printer="default"):
            acceptance.limits = limits
            listener = socket.create_server(("127.0.0.1", 0))
            client = trio.socket.socket()
            await client.connect(listener.getsockname())
            accepted, _ = listener.accept()
            listener.close()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream = SocketStream(accepted)
            result = []
            done = trio.Event()

            async def serve():
                try:
                    with deadlines.watch(stream, 5) as watch:
                        await serve_raw(
                            stream,
                            b"",
                            False,
                            printer,
                            ending or Ending(),
                            SENDER,
                            acceptance,
                            limits,
                            watch,
                        )
                except Exception as error:
                    result.append(error)
                finally:
                    stream.abort()
                    done.set()

            nursery.start_soon(serve)
            clients.append(client)
            return client, done, result

        clients = []
        yield start
        for client in clients:
            client.close()
        nursery.cancel_scope.cancel()


async def jobs(spool):
    return await spool.reader.jobs(JobFilter())


async def answer(client):
    """What the sender sees: "fin" or "reset"."""
    try:
        return "fin" if await client.recv(10) == b"" else "bytes"
    except ConnectionResetError:
        return "reset"


@pytest.mark.parametrize("size", [1, 4096, 200_000, 3_000_000])
async def test_a_half_closed_stream_is_a_job_and_the_fin_comes_after_the_commit(
    spool, connect, size
):
    """The sender's half-close ends the job; our FIN says that it is durable."""
    body = b"%!" + os.urandom(size)
    client, _, _ = await connect()
    await send(client, body)
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == "fin"
    (job,) = await jobs(spool)
    assert (job.state, job.document.size) == (JobState.PENDING, len(body))
    assert (job.document.format, job.client_host) == ("application/postscript", "192.0.2.7")
    source = await spool.documents.open(job)
    assert source.read_at(0, len(body)) == body
    source.close()


async def send(client, data):
    view = memoryview(data)
    while view:
        view = view[await client.send(view) :]


async def test_nothing_at_all_is_no_job(spool, connect):
    """A port scan leaves nothing behind."""
    client, _, _ = await connect()
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == "fin"
    assert await jobs(spool) == []


async def test_a_reset_keeps_what_came_and_never_prints_it(spool, connect):
    """Half an invoice on paper is worse than a question to the operator."""
    client, done, _ = await connect()
    await send(client, b"half an inv")
    await trio.testing.wait_all_tasks_blocked(0.02)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await done.wait()
    (job,) = await jobs(spool)
    assert job.state is JobState.PENDING_HELD
    assert job.reasons == ("submission-interrupted",)
    assert await spool.reader.document_body(job.id) == b"half an inv"


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_broken_stream_is_for_the_printer_and_of_the_owner_that_it_names(
    spool, connect, is_reset
):
    """Who looks for it looks there, and a release must not print it elsewhere."""
    other = await spool.add_printer("other")
    client, done, _ = await connect(limits=Limits(idle_deadline_s=60 if is_reset else 0.15))
    await send(
        client,
        b'\x1b%-12345X@PJL JOB NAME="Half"\r\n@PJL SET USERNAME="Ada"\r\n'
        b'@PJL SET SPOOLD-PRINTER="other"\r\n@PJL ENTER LANGUAGE=PCL\r\n\x1bE half a page',
    )
    await trio.testing.wait_all_tasks_blocked(0.02)
    if is_reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    with trio.fail_after(30):
        await done.wait()
    (job,) = await jobs(spool)
    assert job.reasons == ("submission-interrupted",)
    assert (job.printer_id, job.owner.name, job.title) == (other.id, "ada", "Half")


async def test_silence_is_not_the_end_of_a_job(spool, connect):
    """A sender that stops is reset, and what came is held."""
    client, done, _ = await connect()
    await send(client, b"first line\n")
    assert await answer(client) == "reset"
    await done.wait()
    (job,) = await jobs(spool)
    assert job.reasons == ("submission-interrupted",)
    assert "silent" in job.message


async def test_a_sender_that_is_too_slow_is_cut(spool, connect, monkeypatch):
    """Below the minimum rate a sender only holds a connection."""
    import spoold.intake.raw as module

    monkeypatch.setattr(module, "DEADLINE_STEP_S", 0.01)
    slow = Limits(idle_deadline_s=5, minimum_rate_bytes_s=1000, minimum_rate_grace_s=0.05)
    client, done, _ = await connect(limits=slow)
    with trio.move_on_after(5):
        while not done.is_set():
            try:
                await client.send(b"x")
            except OSError:
                break
            await trio.sleep(0.02)
    await done.wait()
    (job,) = await jobs(spool)
    assert (job.state, job.message) == (JobState.PENDING_HELD, "the sender was too slow")


async def test_pjl_names_the_job(spool, connect):
    """A PJL header gives title, owner and copies; copies in the stream are not applied again."""
    body = (
        b'\x1b%-12345X@PJL JOB NAME="Quarterly"\r\n@PJL SET USERNAME="CORP\\Mara"\r\n'
        b"@PJL SET COPIES=3\r\n@PJL ENTER LANGUAGE=PCL\r\n\x1bEpage\x0c\x1bE\x1b%-12345X"
    )
    client, _, _ = await connect()
    await send(client, body)
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == "fin"
    (job,) = await jobs(spool)
    assert (job.title, job.owner.name, job.owner.known) == ("Quarterly", "mara", "claimed")
    assert (job.copies, job.copies_embedded) == (3, True)
    assert job.state is JobState.PENDING


async def test_pjl_names_the_printer(spool, connect):
    """`SPOOLD-PRINTER` sends the job elsewhere; an unknown printer is refused by a reset."""
    other = await spool.add_printer("front.desk")
    for name, seen in (("front.desk", "fin"), ("nowhere", "reset")):
        client, _, result = await connect()
        await send(client, b'\x1b%%-12345X@PJL SET SPOOLD-PRINTER="%b"\r\n' % name.encode())
        await send(client, b"@PJL ENTER LANGUAGE=PCL\r\n\x1bEx\x1b%-12345X")
        client.shutdown(socket.SHUT_WR)
        assert await answer(client) == seen
    assert isinstance(result[0], OperationError)
    (job,) = await jobs(spool)
    assert job.printer_id == other.id


@pytest.mark.parametrize(
    "body",
    [b"%PDF-1.7\nobjects, and then the sender died", b"\x1b%-12345X@PJL JOB\r\n\x1bE half a page"],
)
async def test_a_stream_without_its_own_end_is_held(spool, connect, body):
    """A dying sender's kernel sends FIN too; where the format shows it, the job is held."""
    client, _, _ = await connect()
    await send(client, body)
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == "fin"
    (job,) = await jobs(spool)
    assert (job.state, job.reasons) == (JobState.PENDING_HELD, ("submission-interrupted",))


async def test_idle_ends_jobs_of_a_sender_that_keeps_the_socket(spool, connect):
    """Where a pause is an end, each pause is one job."""
    client, _, _ = await connect(ending=Ending("idle", 0.05))
    accepted = trio.Event()
    spool.journal.listen(lambda _: accepted.set())
    await send(client, b"label one")
    await accepted.wait()
    await send(client, b"label two")
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == "fin"
    bodies = [await spool.reader.document_body(job.id) for job in await jobs(spool)]
    assert bodies == [b"label one", b"label two"]


@pytest.mark.parametrize("kind", ["idle", "zpl"])
async def test_a_sender_that_keeps_the_socket_may_take_long_between_jobs(spool, connect, kind):
    """A label is neither cut off nor called slow for the time in which there was none."""
    strict = Limits(idle_deadline_s=0.05, minimum_rate_bytes_s=1000, minimum_rate_grace_s=0.05)
    client, _, _ = await connect(ending=Ending(kind, 0.02), limits=strict)
    for number in (1, 2):
        accepted = trio.Event()
        spool.journal.listen(lambda _, accepted=accepted: accepted.set())
        await send(client, b"^XA^FD%d^XZ" % number)
        await accepted.wait()
        await trio.sleep(0.3)  # nothing is waited for: this is the silence between two labels
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == "fin"
    states = [job.state for job in await jobs(spool)]
    assert states == [JobState.PENDING, JobState.PENDING]


@pytest.mark.parametrize(
    ("body", "state"),
    [(b"^XA^FDhalf", JobState.PENDING_HELD), (b"^XA^FDa^XZ\n~JA\n", JobState.PENDING)],
)
async def test_a_label_without_its_end_is_held(spool, connect, body, state):
    """The printer would take the next label for the rest of it."""
    client, _, _ = await connect(ending=Ending("zpl"))
    await send(client, body)
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == "fin"
    (job,) = await jobs(spool)
    assert job.state is state


async def test_too_much_is_reset_and_not_kept(spool, connect):
    """A document over the limit is refused, not cut."""
    client, _, result = await connect(limits=replace(Limits(), document_bytes_max=100_000))
    with pytest.raises(ConnectionError):
        await send(client, b"x" * 50_000_000)
    assert result[0].code == "too-large"
    assert await jobs(spool) == []
    assert list(spool.documents.incoming_dir.iterdir()) == []


async def test_a_full_spool_area_is_reset_before_the_body(spool, connect):
    """No room: nothing is taken, the sender knows."""
    client, done, result = await connect(limits=replace(Limits(), reserve_bytes=1 << 60))
    await send(client, b"%!")
    await done.wait()
    assert isinstance(result[0], SpoolFull)
    assert await answer(client) == "reset"
