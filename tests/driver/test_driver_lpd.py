"""The LPD driver against simulated printers: each fault, in both orders, has one right outcome."""

from __future__ import annotations

import os
import socket
from uuid import uuid4

import pytest
import trio

from spoold.driver.link import driver_for
from spoold.model.errors import OperationError
from spoold.model.outcome import Deferred, Delivered, InDoubt, Refused
from spoold.model.person import Owner
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork

BODY = b"first page\fsecond page\f"
LARGE = bytes(range(256)) * 4096 * 3
BOTH = pytest.mark.parametrize("order", ["control,data", "data,control"])


def uri(printer) -> str:
    return f"lpd://127.0.0.1:{printer.lpd_port}/raw"


@BOTH
@pytest.mark.parametrize(("body", "in_file"), [(BODY, False), (LARGE, False), (LARGE, True)])
async def test_a_job_arrives_and_its_acknowledgement_is_the_evidence(
    attempt, printer_on, order, body, in_file
):
    """Byte for byte, with the owner and title of the job, to the queue of the URI."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), body, in_file=in_file, order=order)
        outcome = await driver.deliver(job.delivery)
        assert outcome == Delivered({"method": "lpd-acknowledgement", "bytes": len(body)})
        (paper,) = printer.papers
        assert paper.data == body
        assert (paper.queue, paper.user, paper.title) == ("raw", "ada", "report.txt")
        assert (paper.format, paper.copies) == ("l", 1)
        assert job.marks == 1
        assert job.progress[-1].bytes_sent == len(body)


async def test_copies_are_in_the_data_or_in_the_print_lines(attempt, printer_on):
    """`manual_copies` on: n times the bytes; off: n print lines; never both, never twice."""
    async with printer_on() as printer:
        for options in (
            {"copies": 3},
            {"copies": 3, "manual_copies": "off"},
            {"copies": 3, "copies_embedded": True},
            {"copies": 3, "copies_embedded": True, "manual_copies": "off"},
        ):
            driver, job = attempt(uri(printer), BODY, **options)
            assert isinstance(await driver.deliver(job.delivery), Delivered)
        assert [(paper.data, paper.copies) for paper in printer.papers] == [
            (BODY * 3, 1),
            (BODY, 3),
            (BODY, 1),
            (BODY, 1),
        ]


async def test_a_hostile_title_and_owner_stay_one_line_each(attempt, printer_on):
    """Line ends in a title are no lines of the control file."""
    async with printer_on() as printer:
        driver, job = attempt(
            uri(printer),
            BODY,
            title="x\nfdfA999evil\nUdfA999evil",
            owner=Owner("ada\nroot"),
            banner="on",
            format="f",
            longnumber="on",
        )
        assert isinstance(await driver.deliver(job.delivery), Delivered)
        (paper,) = printer.papers
        assert paper.user == "ada root"
        assert paper.title.startswith("x fdfA999evil")


async def test_nobody_listens_is_deferred_before_the_mark(attempt, printer_on):
    """A refused connection."""
    async with printer_on("refuse") as printer:
        driver, job = attempt(uri(printer), BODY)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Deferred)
        assert outcome.reason == "connecting-to-device"
        assert job.marks == 0


@BOTH
@pytest.mark.parametrize("fault", ["busy", "reset-at-once", "nack-queue"])
async def test_a_queue_that_takes_no_job_is_deferred(attempt, printer_on, order, fault):
    """It closes, resets or says no before any file."""
    async with printer_on(fault) as printer:
        driver, job = attempt(uri(printer), BODY, order=order)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Deferred), outcome
        assert job.marks == 0
        assert not printer.papers


@pytest.mark.parametrize(
    ("fault", "order", "kind"),
    [
        ("nack-control", "control,data", Deferred),
        ("nack-data", "control,data", Deferred),
        ("nack-file", "control,data", Deferred),
        ("nack-data", "data,control", Deferred),
        ("nack-file", "data,control", Deferred),
        ("nack-control", "data,control", InDoubt),
    ],
)
async def test_a_negative_acknowledgement_defers_until_the_data_was_acknowledged(
    attempt, printer_on, fault, order, kind
):
    """No is no, but a device that said yes to the data may have printed it already."""
    async with printer_on(fault) as printer:
        driver, job = attempt(uri(printer), BODY, order=order)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, kind), outcome
        assert not printer.papers


async def test_a_device_that_refuses_the_job_for_good_is_believed(attempt):
    """LPRng's code 3 to a file: this job never prints there."""

    async def serve(stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\0")
        await stream.receive_some()
        await stream.send_all(b"\3")

    async with one_server(serve) as port:
        driver, job = attempt(f"lpd://127.0.0.1:{port}/raw", BODY)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Refused)
        assert outcome.reason == "device-refused"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("in-doubt", InDoubt), ("delivered", Delivered), ("deferred", Deferred)],
)
@BOTH
async def test_a_lost_last_acknowledgement_is_in_doubt_unless_the_device_says_else(
    attempt, printer_on, order, answer, kind
):
    """All bytes are there and the last octet is not: nothing is sent again by the driver."""
    async with printer_on("lose-acknowledgement") as printer:
        driver, job = attempt(uri(printer), BODY, order=order, lost_acknowledgement=answer)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, kind), outcome
        assert [paper.data for paper in printer.papers] == [BODY]
        if kind is InDoubt:
            assert outcome.reason == "acknowledgement-lost"
            assert outcome.bytes_sent == len(BODY)
            assert "raw is ready" in outcome.evidence["queue_says"]


@BOTH
async def test_a_reset_in_the_data_is_in_doubt(attempt, printer_on, order):
    """Many devices print while the bytes come."""
    async with printer_on("reset-after=60000") as printer:
        driver, job = attempt(
            uri(printer), LARGE, order=order, lost_acknowledgement="deferred", stall_s="0.05"
        )
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, InDoubt)
        assert outcome.reason == "connection-lost"
        assert 0 < outcome.bytes_sent < len(LARGE)


async def test_a_reset_before_the_data_is_deferred(attempt, printer_on):
    """The control file alone prints nothing."""
    async with printer_on("reset-after=60") as printer:
        driver, job = attempt(uri(printer), BODY)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Deferred)


async def test_a_device_that_never_answers_is_deferred_at_its_deadline(attempt, printer_on):
    """Nothing that prints has left; `timeout_s` ends the wait."""
    async with printer_on("silent") as printer:
        driver, job = attempt(uri(printer), BODY, timeout_s="0.05")
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Deferred)
        assert "0.05 s" in outcome.detail
        assert job.marks == 0


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_device_that_stops_reading_stalls_and_is_never_failed(attempt, in_file):
    """Out of paper in the middle of the data: reported for as long as it lasts."""

    async def serve(stream) -> None:
        for _ in range(4):
            await stream.receive_some()
            await stream.send_all(b"\0")
        await trio.sleep_forever()

    async with one_server(serve) as port:
        driver, job = attempt(
            f"lpd://127.0.0.1:{port}/raw",
            LARGE * 4,
            in_file=in_file,
            stall_s="0.02",
            timeout_s="0.05",
        )
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.deliver, job.delivery)
                while len([p for p in job.progress if p.stalled_s]) < 8:
                    job.reported = trio.Event()
                    await job.reported.wait()
                scope.cancel()
        assert scope.cancelled_caught
        assert job.progress[-1].bytes_sent > 0


async def test_what_a_silent_device_has_not_acknowledged_is_told(attempt, printer_on):
    """It took the connection and the command: that alone says nothing to an operator."""
    async with printer_on("silent") as printer:
        driver, job = attempt(uri(printer), BODY, stall_s="0.02")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.deliver, job.delivery)
            with trio.fail_after(30):
                await job.stalled.wait()
            nursery.cancel_scope.cancel()
        stalls = [one for one in job.progress if one.stalled_s]
        assert stalls[0].detail == "the device has not acknowledged the queue"


async def test_the_last_acknowledgement_may_take_as_long_as_it_likes(attempt, printer_on):
    """`timeout_s` ends no wait behind the data: the device holds it until it has paper."""
    has_paper = trio.Event()

    async def serve(stream) -> None:
        for _ in range(4):
            await stream.receive_some()
            await stream.send_all(b"\0")
        got = b""
        while not got.endswith(b"\0"):
            got += await stream.receive_some()
        await has_paper.wait()
        await stream.send_all(b"\0")

    async with one_server(serve) as port:
        driver, job = attempt(f"lpd://127.0.0.1:{port}/raw", BODY, timeout_s="0.03", stall_s="0.02")
        async with trio.open_nursery() as nursery:

            async def load_paper() -> None:
                await job.stalled.wait()
                has_paper.set()

            nursery.start_soon(load_paper)
            assert isinstance(await driver.deliver(job.delivery), Delivered)


async def test_a_document_shorter_than_stored_is_refused(attempt, printer_on, tmp_path):
    """The announced length cannot be kept: the connection is reset, the job refused."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), LARGE, in_file=True)
        os.truncate(tmp_path / "document", 1000)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Refused)
        assert not printer.papers


@pytest.mark.parametrize(
    ("reserve", "ports"), [("any", range(512, 1024)), ("rfc1179", range(721, 732))]
)
async def test_the_source_port_is_one_of_those_asked_for(attempt, reserve, ports):
    """What old servers check; only root may take one, anybody else is told so."""
    seen = []

    async def serve(stream) -> None:
        seen.append(stream.socket.getpeername()[1])

    async with one_server(serve) as port:
        driver, job = attempt(f"lpd://127.0.0.1:{port}/raw", BODY, reserve=reserve)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    if can_bind_low_ports():
        assert seen[0] in ports
    else:
        assert outcome.reason == "connecting-to-device"


def can_bind_low_ports() -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", 1022))
        except PermissionError:
            return False
        except OSError:
            return True
    return True


async def test_a_probe_asks_for_the_queues_state(attempt, printer_on):
    """Command 3, its first line for people; and a device that is off is not reachable."""
    async with printer_on() as printer:
        driver, _ = attempt(uri(printer), b"")
        status = await driver.probe()
        assert (status.reachable, status.detail) == (True, "raw is ready")
    async with printer_on("refuse") as printer:
        driver, _ = attempt(uri(printer), b"")
        assert not (await driver.probe()).reachable


@pytest.mark.parametrize(
    ("bad", "options"),
    [
        ("lpd:///queue", {}),
        ("lpd://host", {}),
        ("lpd://host/", {}),
        ("lpd://host/two%20words", {}),
        ("lpd://host/a%0Ab", {}),
        ("lpd://host/q", {"order": "data"}),
        ("lpd://host/q", {"reserve": "all"}),
        ("lpd://host/q", {"format": "x"}),
        ("lpd://host/q", {"lost_acknowledgement": "reprint"}),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_added(bad, options):
    """No host, no queue, an option that means nothing."""
    with pytest.raises(OperationError):
        driver_for(Device(1, uuid4(), bad, options), TcpNetwork())


class one_server:
    """`async with one_server(serve) as port`: a TCP server that does what the test says."""

    def __init__(self, serve) -> None:
        self._serve = serve

    async def __aenter__(self) -> int:
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, self._serve, [listener])
        self._nursery = nursery
        return listener.socket.getsockname()[1]

    async def __aexit__(self, *failure) -> bool:
        self._nursery.cancel_scope.cancel()
        return await self._manager.__aexit__(*failure)
