"""The raw driver against simulated printers: each fault has one right outcome."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest
import trio

from spoold.driver import sending
from spoold.driver.evidence import Pages, after_a_break
from spoold.driver.link import driver_for
from spoold.model.errors import OperationError
from spoold.model.outcome import Deferred, Delivered, InDoubt, Refused
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork

BODY = b"first page\fsecond page\f"
LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB: more than the buffers on both sides
SOON = {"busy_wait_s": "0", "drain_timeout_s": "0.05", "stall_s": "0.02"}


def uri(printer) -> str:
    return f"socket://127.0.0.1:{printer.raw_port}"


async def test_a_small_job_arrives_and_the_printers_end_is_the_evidence(attempt, printer_on):
    """Connect, send, half-close, the device's FIN: delivered, byte for byte, marked once."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), BODY)
        outcome = await driver.deliver(job.delivery)
        assert outcome == Delivered({"method": "half-close", "bytes": len(BODY)})
        assert [paper.data for paper in printer.papers] == [BODY]
        assert job.marks == 1
        assert job.progress[-1].bytes_sent == len(BODY)


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_large_document_arrives_whole(attempt, printer_on, in_file):
    """From memory and by sendfile from a file."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), LARGE, in_file=in_file)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert printer.papers[0].data == LARGE


async def test_copies_are_sent_one_behind_the_other(attempt, printer_on):
    """Without PJL there is no other way to say copies."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), BODY, copies=3)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
        assert printer.papers[0].data == BODY * 3


async def test_copies_that_the_stream_carries_are_not_made_again(attempt, printer_on):
    """The stream asks for them itself."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), BODY, copies=3, copies_embedded=True)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
        assert printer.papers[0].data == BODY


async def test_nobody_listens_is_deferred_before_the_mark(attempt, printer_on):
    """A refused connection: nothing left, and no mark was written for it."""
    async with printer_on("refuse") as printer:
        driver, job = attempt(uri(printer), BODY)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Deferred)
        assert outcome.reason == "connecting-to-device"
        assert "refused" in outcome.detail.lower()
        assert job.marks == 0


async def test_no_answer_to_a_connection_is_deferred(attempt, autojump_clock):
    """A connection that never comes about ends at the device's own deadline."""

    class Nowhere:
        async def connect(self, host, port, *, timeout_s, source_ports=None):
            await trio.sleep(timeout_s)
            raise TimeoutError

    _, job = attempt("socket://printer.example.org", BODY)
    device = Device(1, uuid4(), "socket://printer.example.org", {"connect_timeout_s": "3"})
    outcome = await driver_for(device, Nowhere()).deliver(job.delivery)
    assert outcome == Deferred("connecting-to-device", "printer.example.org:9100: no answer.")
    assert trio.current_time() == pytest.approx(3)


@pytest.mark.parametrize("fault", ["busy", "reset-at-once"])
@pytest.mark.parametrize("body", [BODY, LARGE])
async def test_a_device_that_takes_no_byte_is_deferred(attempt, printer_on, fault, body):
    """Accept and close, or reset (even while connecting): nothing left, so send it again later."""
    async with printer_on(fault) as printer:
        driver, job = attempt(uri(printer), body)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Deferred), outcome
        assert outcome.reason in ("device-busy", "connecting-to-device")
        assert not printer.papers


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_reset_in_the_middle_is_in_doubt(attempt, printer_on, in_file):
    """Some bytes are with the device: no delivery, no blind repeat."""
    async with printer_on("reset-after=60000") as printer:
        driver, job = attempt(uri(printer), LARGE, in_file=in_file)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, InDoubt)
        assert outcome.reason == "connection-lost"
        assert 60000 <= outcome.bytes_sent < len(LARGE)
        assert outcome.evidence["acknowledged"] == outcome.bytes_sent


async def test_a_reset_behind_the_last_byte_is_in_doubt(attempt, printer_on):
    """All bytes were acknowledged, but a reset is no end: a counter would have to prove it."""
    async with printer_on(f"reset-after={len(BODY)}") as printer:
        driver, job = attempt(uri(printer), BODY)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, InDoubt)
        assert outcome.bytes_sent == len(BODY)


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_device_that_never_reads_stalls_and_is_never_delivered(
    attempt, printer_on, in_file
):
    """Zero window: the stall is reported again and again, and nothing ends the attempt."""
    async with printer_on("never-read") as printer:
        driver, job = attempt(uri(printer), LARGE, in_file=in_file, **SOON)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.deliver, job.delivery)
                while len([p for p in job.progress if p.stalled_s]) < 8:
                    job.reported = trio.Event()
                    await job.reported.wait()
                scope.cancel()
        stalls = [p for p in job.progress if p.stalled_s]
        assert all(p.reasons == ("stalled",) for p in stalls)
        assert stalls[-1].stalled_s > stalls[0].stalled_s
        assert job.progress[-1].bytes_sent > 0  # reported while the cancellation went through


async def test_a_tail_that_the_device_does_not_take_is_no_delivery(attempt, printer_on):
    """All bytes are in our kernel, the last ones never acknowledged: silence is not success."""
    async with printer_on("never-read") as printer:
        body = b"x" * 60000  # our socket takes them at once, the printer's 8 KiB do not
        driver, job = attempt(uri(printer), body, **SOON)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.deliver, job.delivery)
                await job.stalled.wait()
                scope.cancel()
        assert scope.cancelled_caught
        assert job.progress[-1].bytes_sent == len(body)


@pytest.mark.slow
async def test_silence_behind_acknowledged_bytes_is_named_for_what_it_is(attempt, printer_on):
    """A device that prints and never ends: where that is said, delivered on weak evidence."""
    async with printer_on("no-fin") as printer:
        driver, job = attempt(uri(printer), BODY, silence="acknowledged", **SOON)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert outcome.evidence["method"] == "tcp-acknowledged"
        assert printer.papers[0].data == BODY


@pytest.mark.parametrize(("silence", "kind"), [("acknowledged", Delivered), ("wait", InDoubt)])
async def test_a_device_that_ends_its_half_first_says_nothing_by_it(attempt, silence, kind):
    """A one-way sink shuts its half at once and reads on: the bytes arrive, weakly proven."""
    got, read = bytearray(), trio.Event()

    async def sink(stream) -> None:
        await stream.send_eof()
        async for data in stream:
            got.extend(data)
        read.set()

    async with trio.open_nursery() as nursery:
        (listener, *_) = await nursery.start(partial(trio.serve_tcp, sink, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        driver, job = attempt(f"socket://127.0.0.1:{port}", LARGE, silence=silence)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, kind), outcome
        await read.wait()
        nursery.cancel_scope.cancel()
    if kind is Delivered:
        assert outcome.evidence["method"] == "tcp-acknowledged"
    assert bytes(got) == LARGE


async def test_silence_is_not_enough_where_the_device_says_so(attempt, printer_on):
    """Only the device's own end counts, however long it takes: it may never have read a byte."""
    async with printer_on("no-fin") as printer:
        driver, job = attempt(uri(printer), BODY, **SOON)
        outcomes = []

        async def deliver():
            outcomes.append(await driver.deliver(job.delivery))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver)
            with trio.fail_after(30):
                await job.stalled.wait()
            await trio.sleep(0.15)  # longer than the silence that proves a job elsewhere
            assert outcomes == []
            assert job.progress[-1].detail.endswith("set silence=acknowledged")
            nursery.cancel_scope.cancel()


async def test_half_close_off_never_sends_an_end_before_the_verdict(attempt, printer_on):
    """The printer sees our end only after the silence that proves the job."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), BODY, half_close="off", **SOON)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert outcome.evidence["method"] == "tcp-acknowledged"
        assert [paper.data for paper in await printer.wait_papers(1)] == [BODY]


async def test_a_slow_device_is_no_stalled_one(attempt, printer_on):
    """Progress, however small, is no stall."""
    async with printer_on("slow=300000") as printer:
        driver, job = attempt(uri(printer), b"x" * 20000, stall_s="0.12")
        assert isinstance(await driver.deliver(job.delivery), Delivered)
        assert not job.stalled.is_set()


async def test_pjl_says_that_the_job_ended_and_how_many_pages(attempt, printer_on):
    """USTATUS JOB END is the evidence; copies go out as QTY, once."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), BODY, pjl="on", pagecount="on", copies=2)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert outcome.evidence["method"] == "pjl-ustatus"
        assert outcome.evidence["pages"] == 4
        assert outcome.evidence["page_count_before"] == 1000
        assert outcome.evidence["page_count_after"] == 1004
        (paper,) = printer.papers
        assert (paper.document, paper.copies, paper.title) == (BODY, 2, "report.txt")


async def test_pjl_tells_what_a_release_has_changed(attempt, printer_on):
    """Sides and color of the job's attributes stand before its document."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), BODY, pjl="on")
        told = {"sides": "two-sided-long-edge", "print-color-mode": "monochrome"}
        job.delivery.job = replace(job.delivery.job, attributes=told)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
        (paper,) = printer.papers
        assert paper.document == BODY
        for line in (b"SET DUPLEX=ON", b"SET BINDING=LONGEDGE", b"SET RENDERMODE=GRAYSCALE"):
            assert line in paper.data


async def test_a_canceled_job_is_refused_and_not_repeated(attempt, printer_on):
    """Somebody pressed cancel at the device: that ends the job."""
    async with printer_on("cancel") as printer:
        driver, job = attempt(uri(printer), BODY, pjl="on")
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Refused)
        assert outcome.reason == "job-canceled-at-device"
        assert "USER_CANCELED" in outcome.detail
        assert outcome.evidence["pages"] == 0  # what was out by then has to be paid


async def test_nothing_is_put_into_a_stream_with_a_job_of_its_own(attempt, printer_on):
    """The document's own JOB and EOJ stay alone; their report is the evidence."""
    own = (
        b'\x1b%-12345X@PJL JOB NAME="theirs"\r\n@PJL ENTER LANGUAGE=PCL\r\npage\f'
        b'\x1b%-12345X@PJL EOJ NAME="theirs"\r\n\x1b%-12345X'
    )
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), own, pjl="on")
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert outcome.evidence["method"] == "pjl-ustatus"
        (paper,) = printer.papers
        assert own[: own.index(b"@PJL EOJ")] in paper.data
        assert str(job.delivery.job.uuid).encode() not in paper.data.split(own[:20])[1]


async def test_a_device_without_pjl_ears_is_printed_like_any_other(attempt, printer_on):
    """No echo within the deadline: the half-close decides."""
    async with printer_on(speaks_pjl=False) as printer:
        driver, job = attempt(uri(printer), BODY, pjl="on", pjl_timeout_s="0.05")
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert outcome.evidence["method"] == "half-close"
        assert BODY in printer.papers[0].data


async def test_a_device_that_never_reports_ends_is_asked_until_it_is_idle(attempt, printer_on):
    """Three idle answers in a row end the wait."""
    async with printer_on("no-job-end") as printer:
        driver, job = attempt(uri(printer), BODY, pjl="on", status_poll_s="0.02", stall_s="0.02")
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert outcome.evidence["method"] == "pjl-idle"


async def test_a_counter_proves_a_job_whose_connection_broke(attempt, printer_on):
    """All bytes acknowledged, then a reset, and the counter rose by what was expected."""
    async with printer_on("reset-at-end") as printer:
        driver, job = attempt(uri(printer), BODY, pagecount="on", attributes={"job-impressions": 2})
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Delivered)
        assert outcome.evidence["method"] == "page-counter"
        assert outcome.evidence["page_count_before"] == 1000
        assert outcome.evidence["page_count_after"] == 1002
        assert len(printer.papers) == 1


async def test_a_counter_that_falls_short_proves_nothing(attempt, printer_on):
    """Three pages were expected and two counted: in doubt, with the numbers for the operator."""
    async with printer_on("reset-at-end") as printer:
        driver, job = attempt(
            uri(printer),
            BODY,
            pagecount="on",
            counter_wait_s="0.1",
            attributes={"job-impressions": 3},
        )
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, InDoubt)
        assert outcome.evidence["pages_expected"] == 3
        assert "counted 2 pages" in outcome.detail


@pytest.mark.parametrize(
    ("acknowledged", "pages", "kind"),
    [
        (0, Pages(), Deferred),
        (0, Pages(5, 5, 2), Deferred),
        (0, Pages(5, 6, 2), InDoubt),
        (40, Pages(), InDoubt),
        (40, Pages(5, 7, 2), InDoubt),
        (100, Pages(), InDoubt),
        (100, Pages(5, 6, 2), InDoubt),
        (100, Pages(5, 7, None), InDoubt),
        (100, Pages(5, 7, 2), Delivered),
    ],
)
def test_the_table_of_broken_connections(acknowledged, pages, kind):
    """100 bytes of which some were acknowledged, and what a counter says."""
    assert isinstance(after_a_break(acknowledged, 100, "reset", pages), kind)


async def test_a_probe_asks_without_printing(attempt, printer_on):
    """State and counter over PJL; no paper."""
    async with printer_on() as printer:
        driver, _ = attempt(uri(printer), b"", pjl="on")
        status = await driver.probe()
        assert status.reachable
        assert status.detail == "READY"
        assert status.counters == {"pjl": 1000}
        assert not printer.papers


async def test_a_probe_of_a_device_that_is_off_says_so(attempt, printer_on):
    """Not reachable, with the kernel's reason."""
    async with printer_on("refuse") as printer:
        driver, _ = attempt(uri(printer), b"")
        status = await driver.probe()
        assert not status.reachable
        assert status.reasons == ("connecting-to-device",)


async def test_a_document_shorter_than_stored_is_refused(attempt, printer_on, tmp_path):
    """The file lost its end: the job can never print, and the printer sees a reset."""
    async with printer_on() as printer:
        driver, job = attempt(uri(printer), LARGE, in_file=True)
        os.truncate(tmp_path / "document", 1000)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Refused)
        assert outcome.reason == "document-damaged"
        assert not printer.papers


@pytest.mark.parametrize(
    ("bad", "options"),
    [
        ("socket:///nohost", {}),
        ("socket://host:99999", {}),
        ("socket://host", {"silence": "golden"}),
        ("socket://host", {"snmp": "on", "snmp_version": "3"}),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_added(bad, options):
    """No host, no such port, an option that means nothing."""
    with pytest.raises(OperationError):
        driver_for(Device(1, uuid4(), bad, options), TcpNetwork())


def test_a_cold_file_is_warmed_and_a_cached_one_is_not():
    """`is_cached` sees that the kernel dropped the pages; `warm` brings them back."""
    with tempfile.TemporaryFile(dir="/var/tmp") as file:  # on a disk: memory has no cold pages
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        assert sending.is_cached(file.fileno(), 0, 1 << 20)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if sending.is_cached(file.fileno(), 0, 1 << 20):
            return  # it is in memory all the same
        sending.warm(file.fileno(), 0, 1 << 20)
        assert sending.is_cached(file.fileno(), 0, 1 << 20)
