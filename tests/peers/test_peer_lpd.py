"""Our LPD driver against a real server of the trade: Debian's cups-lpd in front of a CUPS.

The tests start both for themselves, in a directory and on ports of their own. A missing program
fails them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio

from spoold.driver.link import Delivery, driver_for
from spoold.model.job import Document, Job, JobState
from spoold.model.outcome import Deferred, Delivered
from spoold.model.person import Owner
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork
from spoold.spool.sources import MemorySource
from support.cups import Cups, cups

CUPS_LPD = "/usr/lib/cups/daemon/cups-lpd"
DONE_S = 20


class RealServer:
    """cups-lpd for each connection, as inetd would start it, in front of a CUPS."""

    def __init__(self, running: Cups) -> None:
        self._cups = running
        self.lpd_port = 0
        self._done = 0
        self._changed = trio.Event()
        # A raw queue that keeps what it gets: it accepts, and is not enabled.
        running.run("lpadmin", "-p", "labels", "-v", "socket://127.0.0.1:9", "-m", "raw")
        running.run("cupsaccept", "labels")

    async def serve_lpd(self, stream: trio.SocketStream) -> None:
        end = socket.socket(fileno=os.dup(stream.socket.fileno()))
        end.setblocking(True)
        with end:
            process = await trio.lowlevel.open_process(
                [CUPS_LPD, "-h", f"127.0.0.1:{self._cups.port}"],
                stdin=end,
                stdout=end,
                stderr=subprocess.DEVNULL,
            )
        try:
            await stream.aclose()
            await process.wait()
        finally:
            process.kill()
            with trio.CancelScope(shield=True), trio.move_on_after(10):
                await process.wait()
        self._done += 1
        self._changed.set()
        self._changed = trio.Event()

    async def all_done(self, connections: int) -> None:
        """So many connections were served to their end."""
        with trio.fail_after(DONE_S):
            while self._done < connections:
                await self._changed.wait()

    def documents(self) -> list[bytes]:
        """What arrived, in the order of the jobs."""
        return [path.read_bytes() for path in sorted((self._cups.root / "spool").glob("d*-*"))]


@pytest.fixture
async def server(nursery):
    assert shutil.which(CUPS_LPD), "install cups (tests/run does it)"
    with cups() as running:
        server = RealServer(running)
        serve = partial(trio.serve_tcp, server.serve_lpd, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        server.lpd_port = listeners[0].socket.getsockname()[1]
        yield server


def attempt_on(server: RealServer, queue: str, body: bytes, copies: int = 1, **options):
    device = Device(1, uuid4(), f"lpd://127.0.0.1:{server.lpd_port}/{queue}", options)
    job = Job(
        id=41,
        uuid=UUID(int=41),
        printer_id=1,
        state=JobState.PROCESSING,
        reasons=(),
        owner=Owner("ada"),
        submitter="",
        title="Übersicht 1",
        client_host="client.example.org",
        intake="raw",
        priority=50,
        created_us=0,
        document=Document(len(body), "blake3:00"),
        position=1,
        copies=copies,
    )

    async def may_send() -> None:
        await trio.lowlevel.checkpoint()

    delivery = Delivery(job, MemorySource(body), device, may_send, lambda progress: None)
    return driver_for(device, TcpNetwork()), delivery


@pytest.mark.slow
async def test_documents_arrive_at_cups_lpd_byte_for_byte(server):
    """Every octet, an empty line of NULs and 5 MB; both orders; copies in the data."""
    every = bytes(range(256)) * 16
    large = os.urandom(5_000_000)
    for body, options in (
        (every, {}),
        (every, {"order": "data,control"}),
        (b"\0\0\n\0", {"longnumber": "on"}),
        (large, {"banner": "on"}),
    ):
        driver, delivery = attempt_on(server, "labels", body, **options)
        outcome = await driver.deliver(delivery)
        assert outcome == Delivered({"method": "lpd-acknowledgement", "bytes": len(body)})
    driver, delivery = attempt_on(server, "labels", b"page\f", copies=3)
    assert isinstance(await driver.deliver(delivery), Delivered)
    await server.all_done(5)  # it makes the jobs only when we are gone
    arrived = server.documents()
    assert b"-BANNER" in arrived.pop(3)[:16]  # it makes the page that `banner=on` asks for
    assert arrived == [every, every, b"\0\0\n\0", large, b"page\f" * 3]
    listing = await lpq(server)
    assert "ada: 5th" in listing
    assert "Übersicht 1" in listing


async def lpq(server: RealServer) -> str:
    stream = await trio.open_tcp_stream("127.0.0.1", server.lpd_port)
    async with stream:
        await stream.send_all(b"\x04labels\n")
        return b"".join([part async for part in stream]).decode()


@pytest.mark.slow
async def test_a_queue_that_cups_lpd_does_not_have_is_deferred(server):
    """It refuses the command, before any file; the queue that it has answers a probe."""
    driver, delivery = attempt_on(server, "nowhere", b"page\f")
    outcome = await driver.deliver(delivery)
    assert isinstance(outcome, Deferred)
    assert server.documents() == []
    driver, _ = attempt_on(server, "labels", b"")
    status = await driver.probe()
    assert status.reachable
    assert "labels" in status.detail
