"""The `ipp` driver and a simulated printer: what is said, what is recorded, and how it is told."""

from __future__ import annotations

import re

import pytest
import trio

from spoold.driver import link
from spoold.model.errors import OperationError
from spoold.model.outcome import Deferred, Delivered, Refused
from spoold.model.person import Owner
from spoold.net.connect import TcpNetwork

from .conftest import JOB_UUID, new_device

PAGES = b"one\ftwo\fthree\f"
QUICK = {"poll_first_s": "0.01", "poll_max_s": "0.05", "counter_wait_s": "0.1", "stall_s": "0.2"}


async def test_a_job_is_created_sent_and_seen_through(ipp_printer_on, attempt):
    """Create-Job, the number durable, Send-Document, and the printer's word for the evidence."""
    async with ipp_printer_on() as printer:
        driver, job = attempt(printer.uri, PAGES, title="Weekly report", owner=Owner("ada"))
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Delivered)
    assert job.notes[0]["printer"] == printer.uri
    assert outcome.evidence == {
        "method": "ipp-job-state",
        "bytes": len(PAGES),
        "printer-job-id": 1,
        "job-state": "completed",
        "job-state-reasons": ["job-completed-successfully"],
        "pages": 3,
        "sheets": 3,
        "job-k-octets": 1,
        "page_count_before": 1000,
    }
    assert printer.requests[-3:] == ["Create-Job", "Send-Document", "Get-Job-Attributes"]
    (paper,) = printer.engine.papers
    assert (paper.data, paper.user, paper.format) == (PAGES, "ada", "text/plain")
    assert paper.title == f"Weekly report [{JOB_UUID}/1]"
    assert job.marks == 1
    assert job.notes[0]["printer-job-id"] == 1
    assert job.notes[-1] == {"document-sent": True}
    assert job.progress[-1].bytes_sent == len(PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("chunked", ["off", "on"])
async def test_a_large_file_arrives_byte_for_byte(ipp_printer_on, attempt, chunked):
    """Straight from its file, with a length or in chunks, after 100 Continue."""
    body = bytes(range(256)) * 40_000
    async with ipp_printer_on() as printer:
        driver, job = attempt(printer.uri, body, in_file=True, chunked=chunked)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Delivered)
    assert printer.engine.papers[0].data == body


async def test_wishes_are_passed_on_as_far_as_the_printer_knows_them(ipp_printer_on, attempt):
    """What it does not know is left out with a note; copies and priorities are not said twice."""
    wishes = {
        "sides": "two-sided-long-edge",
        "print-color-mode": "monochrome",
        "media": "iso_a0_841x1189mm",
        "output-bin": "face-down",
        "page-ranges": ["1-2"],
        "print-quality": 5,
        "job-priority": 80,
        "copies": 3,
        "sheep": "dolly",
    }
    async with ipp_printer_on() as printer:
        driver, job = attempt(printer.uri, PAGES, attributes=wishes, copies=2)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Delivered)
    assert outcome.evidence["left-out"] == ["media", "output-bin"]
    (made,) = printer.engine.jobs.values()
    assert made.wishes == {
        "sides": "two-sided-long-edge",
        "page-ranges": (1, 2),
        "print-color-mode": "monochrome",
        "print-quality": 5,
        "copies": 2,
    }
    assert printer.engine.sheets == 6


@pytest.mark.parametrize(
    ("copies", "options", "papers"),
    [(3, {}, [3]), (3, {"copies_max": 1}, [1, 1, 1]), (5, {"copies_max": 2}, [2, 2, 1])],
)
async def test_copies_are_made_by_the_printer_or_by_as_many_jobs(
    ipp_printer_on, attempt, copies, options, papers
):
    """As many sheets as were asked for, whatever the printer can do."""
    async with ipp_printer_on(**options) as printer:
        driver, job = attempt(printer.uri, PAGES, copies=copies, **QUICK)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert [paper.copies for paper in printer.engine.papers] == papers
    assert printer.engine.sheets == copies * 3


async def test_copies_in_the_stream_are_not_asked_for_again(ipp_printer_on, attempt):
    """A document that brings its own copies is printed once."""
    async with ipp_printer_on() as printer:
        driver, job = attempt(printer.uri, PAGES, copies=4, copies_embedded=True)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert [paper.copies for paper in printer.engine.papers] == [1]


async def test_a_format_that_the_printer_does_not_take_is_refused_unsent(ipp_printer_on, attempt):
    """Its formats are named, with what to do; nothing was created."""
    async with ipp_printer_on() as printer:
        driver, job = attempt(printer.uri, PAGES, format="application/vnd.hp-pcl")
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "document-format-error"
    assert "application/pdf, image/pwg-raster" in outcome.detail
    assert "Move the job" in outcome.detail
    assert "Create-Job" not in printer.requests
    assert job.marks == 0


@pytest.mark.parametrize(
    ("format_", "options", "said"),
    [
        ("text/plain; charset=utf-8", {}, "text/plain"),
        ("application/octet-stream", {}, ""),
        ("application/vnd.hp-pcl", {"format": "application/pdf"}, "application/pdf"),
    ],
)
async def test_the_format_that_is_said(ipp_printer_on, attempt, format_, options, said):
    """Without parameters; nothing where nobody knows; another where the device is set so."""
    async with ipp_printer_on() as printer:
        device = new_device(printer.uri, **options)
        driver = link.driver_for(device, TcpNetwork())
        _, job = attempt(printer.uri, PAGES, format=format_)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert printer.engine.papers[0].format == said


async def test_a_printer_that_takes_octets_gets_what_nobody_knows(ipp_printer_on, attempt):
    """application/octet-stream is a format like another where the printer names it."""
    async with ipp_printer_on(formats=("application/octet-stream",)) as printer:
        driver, job = attempt(printer.uri, PAGES, format="application/octet-stream")
        assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert printer.engine.papers[0].format == "application/octet-stream"


async def test_long_printing_is_progress_and_no_failure(ipp_printer_on, attempt):
    """While pages come out the driver tells how many; it is not stalled."""
    async with ipp_printer_on("slow=40") as printer:
        driver, job = attempt(printer.uri, b"page\f" * 8, **QUICK)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Delivered)
    told = " ".join(one.detail for one in job.progress)
    assert re.search(r"processing \(job-printing\), [1-7] impressions", told)  # some of them
    assert not any(one.stalled_s for one in job.progress)


async def test_a_printer_that_stands_still_is_reported_until_it_goes_on(ipp_printer_on, attempt):
    """Its own reasons and words while a job of ours waits in it; then it prints."""
    async with ipp_printer_on("slow=40") as printer:
        driver, job = attempt(printer.uri, PAGES, offer_s="0", **QUICK)
        async with trio.open_nursery() as nursery:

            async def mend() -> None:
                while not printer.engine.jobs:
                    await printer.engine.changed.wait()
                printer.set_faults("stopped", "slow=40")
                with trio.fail_after(30):
                    await job.stalled.wait()
                printer.set_faults()

            nursery.start_soon(mend)
            outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Delivered)
    stalled = [one for one in job.progress if one.stalled_s]
    assert stalled[0].reasons == ("media-empty",)
    assert "Tray 1 is empty." in stalled[0].detail


@pytest.mark.slow
async def test_a_printer_that_is_busy_with_others_is_not_stalled(ipp_printer_on, attempt):
    """It reads no further because it prints: that is told, and no stall."""
    body = bytes(400_000)
    async with ipp_printer_on("stall=4096", "slow=50") as printer:
        theirs = printer.engine.create("Theirs", "eve", {})
        printer.engine.take(theirs, b"page\f" * 20, "text/plain")
        driver, job = attempt(printer.uri, body, in_file=True, **QUICK)
        async with trio.open_nursery() as nursery:

            async def mend() -> None:
                with trio.fail_after(30):
                    while not any("bytes are sent" in one.detail for one in job.progress):
                        await job.reported.wait()
                        job.reported = trio.Event()
                await trio.sleep(0.3)
                printer.set_faults()

            nursery.start_soon(mend)
            assert isinstance(await driver.deliver(job.delivery), Delivered)
    # Until the printer has been asked, a stall is all that is known.
    told = [one for one in job.progress if "bytes are sent" in one.detail]
    assert told[0].stalled_s
    assert not told[-1].stalled_s


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ("stopped", "media-empty", "Tray 1 is empty."),
        ("not-accepting", "not-accepting-jobs", "takes no jobs"),
        ("login", "device-wants-login", "password_file"),
        ("hang", "connecting-to-device", "no answer within"),
        ("garbage", "connecting-to-device", "what it answered is no IPP"),
        ("upgrade", "connecting-to-device", "it asks for TLS and gives none: try ipps://"),
    ],
)
async def test_a_printer_in_trouble_gets_nothing(ipp_printer_on, attempt, fault, reason, words):
    """The job waits, with the printer's own reason; nothing was created or marked."""
    async with ipp_printer_on(fault) as printer:
        driver, job = attempt(printer.uri, PAGES, answer_timeout_s="0.1")
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == reason
    assert words in outcome.detail
    assert job.marks == 0
    assert not printer.engine.jobs


async def test_nobody_there_is_deferred(attempt):
    """A closed port, and a path at which there is no printer."""
    driver, job = attempt("ipp://127.0.0.1:9", PAGES)
    outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "connecting-to-device"


async def test_a_wrong_path_is_named(ipp_printer_on, attempt):
    """The device's URI is what the operator has to look at."""
    async with ipp_printer_on() as printer:
        driver, job = attempt(f"ipp://127.0.0.1:{printer.port}/printers/x", PAGES)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "device-not-found"
    assert "/printers/x" in outcome.detail


async def test_a_delay_that_the_printer_asks_for_is_passed_on(ipp_printer_on, attempt):
    """HTTP 503 with Retry-After: the dispatcher hears of it."""
    async with ipp_printer_on("unavailable=1") as printer:
        driver, job = attempt(printer.uri, PAGES)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.not_before_s) == ("device-busy", 1.0)


async def test_an_older_printer_is_asked_in_its_version(ipp_printer_on, attempt):
    """IPP/1.1 where 2.0 is refused, and from then on at once."""
    async with ipp_printer_on("old") as printer:
        driver, job = attempt(printer.uri, PAGES)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
        before = len(printer.requests)
        await driver.probe()
        assert len(printer.requests) == before + 1
    assert printer.engine.sheets == 3


async def test_what_the_printer_offers_is_asked_once_for_a_burst_of_jobs(ipp_printer_on, attempt):
    """The second job of a burst needs no Get-Printer-Attributes but for the counter."""
    async with ipp_printer_on(page_count=None) as printer:
        driver, job = attempt(printer.uri, PAGES)
        for _ in range(3):
            assert isinstance(await driver.deliver(job.delivery), Delivered)
        assert printer.requests.count("Get-Printer-Attributes") == 1


async def test_probe_tells_of_state_supplies_and_counters(ipp_printer_on, attempt):
    """Reasons and words, toner in per cent, impressions."""
    async with ipp_printer_on("stopped") as printer:
        driver, _ = attempt(printer.uri, PAGES)
        status = await driver.probe()
    assert status.reachable
    assert (status.reasons, status.detail) == (("media-empty",), "Tray 1 is empty.")
    assert status.counters == {"impressions": 1000}
    assert status.supplies == (
        {"name": "Black", "type": "toner", "color": "#000000", "level": 70, "is_low": False},
        {"name": "Yellow", "type": "toner", "color": "#FFFF00", "level": 4, "is_low": True},
    )
    assert not (await driver.probe()).reachable


async def test_learning_gives_what_a_printer_offers_its_clients(ipp_printer_on, attempt):
    """Plain values by IPP's names, with what people call it and its serial number."""
    async with ipp_printer_on() as printer:
        driver, _ = attempt(printer.uri, PAGES)
        learned = await driver.learn()
    assert learned.options["document-format-supported"] == list(printer.formats)
    assert learned.options["sides-supported"] == ["one-sided", "two-sided-long-edge"]
    assert learned.options["copies-supported"] == "1-99"
    assert learned.options["printer-resolution-supported"] == ["600x600dpi"]
    assert (learned.info, learned.location) == ("Simulated printer", "In a test")
    assert learned.serial == "S1"
    with pytest.raises(OperationError, match="cannot be asked"):
        await driver.learn()


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("ipp:///ipp/print", {}),
        ("ipp://host:0/", {}),
        ("ipps://host", {"tls": "maybe"}),
        ("ipps://host", {"tls": "pin"}),
        ("ipps://host", {"tls": "pin", "fingerprint": "sha256:12"}),
        ("ipps://host", {"user": "ada"}),
        ("ipps://host", {"password_file": "/etc/p"}),
        ("ipps://host", {"user": "ada", "password_file": "p"}),
        ("ipps://host", {"password": "secret"}),
        ("ipps://ada:secret@host", {}),
        ("ipp://host", {"aborts_max": "many"}),
    ],
)
def test_what_cannot_work_is_refused_when_the_printer_is_added(uri, options):
    """An URI without a host, an option that cannot be, a password where all can read it."""
    with pytest.raises(OperationError) as refused:
        link.driver_for(new_device(uri, **options), TcpNetwork())
    assert refused.value.code == "bad-request"
    assert refused.value.advice
    assert "secret" not in str(refused.value)
