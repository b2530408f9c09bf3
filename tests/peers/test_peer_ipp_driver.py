"""The `ipp` driver and real IPP printers, CUPS's own: what they print is what was submitted."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from spoold.driver.link import driver_for
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork
from spoold.provider.blocking import BlockingProvider
from spoold.simulate.printer import SimulatedPrinter
from support.avahi import avahi
from support.cups import cups
from support.documents import KINDS, document, large_pdf
from support.peers import finished, wait_until
from support.ports import own_port
from support.process import running

pytestmark = pytest.mark.slow

FORMATS = "application/pdf,image/jpeg,image/pwg-raster"
QUICK = {"poll_first_s": 0.05, "poll_max_s": 0.2}
LARGE_BYTES = 30_000_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with running(tmp_path_factory.mktemp("spoold")) as daemon:
        yield daemon
        assert daemon.end() == 0


@pytest.fixture
def printed_at(daemon):
    """`printed_at(uri, body, format, **job)`: the job after a printer at `uri` has printed it."""
    names = []

    def print_it(uri: str, body: bytes, format_: str, options: dict | None = None, **job) -> dict:
        name = f"peer{len(names)}"
        names.append(name)
        daemon.call("printer.add", name=name, uri=uri, options={**QUICK, **(options or {})})
        with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
            receipt = provider.submit(body, printer=name, format=format_, **job)
        return finished(daemon, receipt.job_id)

    yield print_it
    for name in names:
        daemon.call("printer.remove", name=name)


def wait_state(daemon, job_id: int, state: str) -> dict:
    """The job when it is in this state."""

    def look() -> dict | None:
        job = daemon.call("job.show", job=str(job_id))
        return job if job["state"] == state else None

    return wait_until(look)


def printers_number(daemon, job_id: int) -> int | None:
    """What the printer calls the job, once it is on record."""
    attempts = daemon.call("job.show", job=str(job_id))["attempts_list"]
    return attempts[-1]["evidence"].get("printer-job-id") if attempts else None


class EvePrinter:
    """An `ippeveprinter` that keeps what it printed."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.folder = folder / "printed"
        self.folder.mkdir()
        self.port = port
        self.log = folder / "log"
        command = ["ippeveprinter", "-n", "localhost", "-p", str(self.port), "-f", FORMATS]
        command += ["-d", str(self.folder), "-K", str(folder), "-k", "-vv", *arguments, "Peer"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ)
            )
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("localhost", self.port), 1).close()
        except OSError:
            return False
        return True

    def uri(self, scheme: str = "ipp") -> str:
        return f"{scheme}://localhost:{self.port}/ipp/print"

    def printed(self) -> list[bytes]:
        """The documents; what its command said, which is nothing, lies beside them."""
        found = [path.read_bytes() for path in sorted(self.folder.iterdir())]
        return [body for body in found if body]


@pytest.fixture
def eve(tmp_path, monkeypatch):
    """`with eve(*arguments) as printer`: an ippeveprinter, with the bus that it asks for."""

    @contextmanager
    def start(*arguments: str):
        with avahi(tmp_path) as bus, own_port() as port:
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
            printer = EvePrinter(tmp_path, port, *arguments)
            try:
                yield printer
            finally:
                printer.process.kill()
                printer.process.wait(30)

    return start


# --- ippeveprinter --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pdfwrite", "jpeg", "pwgraster"])
def test_an_ipp_everywhere_printer_prints_what_was_submitted(eve, printed_at, kind):
    """Byte for byte, with the printer's own word for the evidence."""
    with eve("-c", "/bin/true") as printer:
        job = printed_at(printer.uri(), document(kind), KINDS[kind], title="Größe 10 %")
        assert job["state"] == "completed", job
        assert printer.printed() == [document(kind)]
        evidence = job["attempts_list"][-1]["evidence"]
        assert evidence["method"] == "ipp-job-state"
        assert evidence["job-state-reasons"] == ["job-completed-successfully"]


def test_a_large_document_for_an_ipp_everywhere_printer(eve, printed_at):
    """30 MB, straight from their file."""
    body = large_pdf(LARGE_BYTES)
    with eve("-c", "/bin/true") as printer:
        job = printed_at(printer.uri(), body, "application/pdf")
        assert job["state"] == "completed", job
        assert printer.printed() == [body]


def test_an_ipp_everywhere_printer_over_tls(eve, printed_at):
    """Its certificate is its own: it is believed by the fingerprint that it shows."""
    with eve("-c", "/bin/true") as printer:
        device = Device(1, None, printer.uri("ipps"), {})
        fingerprint = trio.run(driver_for(device, TcpNetwork()).fingerprint)
        pin = {"tls": "pin", "fingerprint": fingerprint}
        job = printed_at(printer.uri("ipps"), document("pdfwrite"), "application/pdf", pin)
        assert job["state"] == "completed", job
        assert printer.printed() == [document("pdfwrite")]


def test_a_format_that_it_does_not_take_is_held_with_advice(eve, printed_at, daemon):
    """PCL for a printer without PCL: nothing is sent."""
    with eve("-c", "/bin/true") as printer:
        daemon.call("printer.add", name="nopcl", uri=printer.uri(), options=QUICK)
        with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
            receipt = provider.submit(document("ljet4"), printer="nopcl", format=KINDS["ljet4"])
        job = wait_state(daemon, receipt.job_id, "pending-held")
        assert job["reasons"] == ["document-format-error"]
        assert "application/pdf" in job["message"]
        assert printer.printed() == []
        daemon.call("job.cancel", job=str(receipt.job_id))
        daemon.call("printer.remove", name="nopcl")


def test_a_job_that_the_printer_cannot_print_is_not_called_printed(eve, printed_at, daemon):
    """Its command fails: the printer says aborted, and so do we, after some tries."""
    with eve("-c", "/bin/false") as printer:
        daemon.call("printer.add", name="fails", uri=printer.uri(), options=QUICK)
        with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
            receipt = provider.submit(
                document("pdfwrite"), printer="fails", format="application/pdf"
            )
        job = wait_state(daemon, receipt.job_id, "aborted")
        assert "job-aborted-at-device" in job["message"]
        assert "tried often enough" in job["message"]
        daemon.call("printer.remove", name="fails")


# --- cupsd ----------------------------------------------------------------------------------------


@contextmanager
def raw_sink():
    """A printer at raw 9100, in a thread of its own, and the papers in its tray."""
    token = scope = None
    printer = SimulatedPrinter(lpd_port=None)

    async def run() -> None:
        nonlocal token, scope
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:
            await printer.run()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    wait_until(lambda: printer.raw_port)
    try:
        yield printer
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join(30)


@pytest.mark.parametrize("kind", ["pdfwrite", "ljet4", "text-utf-8"])
def test_a_raw_queue_of_cups_prints_what_was_submitted(printed_at, kind):
    """Through cupsd to a raw port, byte for byte; PCL as what its raw queues call anything."""
    with raw_sink() as sink, cups() as peer:
        peer.add("q", f"socket://127.0.0.1:{sink.raw_port}", "-m", "raw")
        uri = f"ipp://127.0.0.1:{peer.port}/printers/q"
        options = {"format": "application/octet-stream"} if kind == "ljet4" else {}
        job = printed_at(uri, document(kind), KINDS[kind], options, title="Weekly report")
        assert job["state"] == "completed", (job, peer.log()[-2000:])
        assert [paper.data for paper in sink.papers] == [document(kind)]
        evidence = job["attempts_list"][-1]["evidence"]
        seen = peer.job(evidence["printer-job-id"])
        assert seen["job-state"] == "completed"
        assert seen["job-name"].replace("\\", "") == f"Weekly report [{job['uuid']}/1]"


def test_copies_of_cups_are_as_many_as_were_asked_for(printed_at):
    """CUPS makes them: one job there, three on paper."""
    body = document("pdfwrite")
    with raw_sink() as sink, cups() as peer:
        peer.add("q", f"socket://127.0.0.1:{sink.raw_port}", "-m", "raw")
        uri = f"ipp://127.0.0.1:{peer.port}/printers/q"
        job = printed_at(uri, body, "application/pdf", copies=3)
        assert job["state"] == "completed", (job, peer.log()[-2000:])
        assert b"".join(paper.data for paper in sink.papers) == 3 * body


def test_a_large_document_through_cups(printed_at):
    """30 MB, after 100 Continue."""
    body = large_pdf(LARGE_BYTES)
    with raw_sink() as sink, cups() as peer:
        peer.add("q", f"socket://127.0.0.1:{sink.raw_port}", "-m", "raw")
        uri = f"ipp://127.0.0.1:{peer.port}/printers/q"
        job = printed_at(uri, body, "application/pdf", {"chunked": "on"})
        assert job["state"] == "completed", (job, peer.log()[-2000:])
        assert [paper.data for paper in sink.papers] == [body]


def test_a_queue_that_rejects_jobs_is_waited_for(printed_at, daemon):
    """`cupsreject`: the job waits here with that reason, and is printed once it accepts again."""
    with raw_sink() as sink, cups() as peer:
        peer.add("q", f"socket://127.0.0.1:{sink.raw_port}", "-m", "raw")
        peer.run("cupsreject", "q")
        uri = f"ipp://127.0.0.1:{peer.port}/printers/q"
        daemon.call("printer.add", name="rejects", uri=uri, options=QUICK)
        with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
            receipt = provider.submit(document("pdfwrite"), printer="rejects")
        wait_until(
            lambda: daemon.call("printer.show", name="rejects")["reasons"] == ["not-accepting-jobs"]
        )
        peer.run("cupsaccept", "q")
        assert finished(daemon, receipt.job_id)["state"] == "completed"
        assert [paper.data for paper in sink.papers] == [document("pdfwrite")]
        daemon.call("printer.remove", name="rejects")


def test_a_job_canceled_here_is_canceled_there(printed_at, daemon):
    """A queue that is stopped has our job; a cancel takes it out of it."""
    with raw_sink() as sink, cups() as peer:
        peer.add("q", f"socket://127.0.0.1:{sink.raw_port}", "-m", "raw")
        uri = f"ipp://127.0.0.1:{peer.port}/printers/q"
        daemon.call("printer.add", name="stops", uri=uri, options={**QUICK, "offer_s": 60})
        printed_at(uri.replace("127.0.0.1", "localhost"), b"page\f", "text/plain")
        with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
            first = provider.submit(b"page\f", printer="stops", format="text/plain")
            assert finished(daemon, first.job_id)["state"] == "completed"
            peer.run("cupsdisable", "q")
            receipt = provider.submit(b"page\f", printer="stops", format="text/plain")
        number = wait_until(lambda: printers_number(daemon, receipt.job_id))
        wait_until(lambda: peer.job(number).get("job-state") == "pending")
        daemon.call("job.cancel", job=str(receipt.job_id))
        assert finished(daemon, receipt.job_id)["state"] == "canceled"
        assert peer.job(number)["job-state"] == "canceled"
        assert len(sink.papers) == 2
        daemon.call("printer.remove", name="stops")
