"""What the driver tests share: jobs, sources, deliveries and a printer that is on."""

from __future__ import annotations

from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import trio

from spoold.driver import link
from spoold.model.job import Document, Job, JobState
from spoold.model.person import Owner
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork
from spoold.simulate.ipp_printer import SimulatedIppPrinter
from spoold.simulate.printer import SimulatedPrinter
from spoold.spool.sources import FileSource, MemorySource

JOB_UUID = UUID("00000000-0000-4000-8000-0000000000aa")


def new_job(body: bytes, **fields) -> Job:
    given = {"title": "report.txt", "format": "text/plain", **fields}
    document = Document(len(body), "blake3:00", given.pop("format"))
    fixed = {
        "id": 7,
        "uuid": JOB_UUID,
        "printer_id": 1,
        "state": JobState.PROCESSING,
        "reasons": (),
        "owner": Owner("ada"),
        "submitter": "address:127.0.0.1",
        "client_host": "client.example.org",
        "intake": "raw",
        "priority": 50,
        "created_us": 0,
        "document": document,
        "position": 1,
    }
    return Job(**(fixed | given))


class Attempt:
    """One delivery: what was reported and when the mark was asked for."""

    def __init__(self, device: Device, body: bytes, source=None, **fields) -> None:
        self.progress: list[link.Progress] = []
        self.marks = 0
        self.notes: list[dict] = []
        self.reported = trio.Event()
        self.stalled = trio.Event()
        self.delivery = link.Delivery(
            job=new_job(body, **fields),
            source=source or MemorySource(body),
            device=device,
            may_send=self._may_send,
            report=self._report,
            note=self._note,
        )

    async def _may_send(self) -> None:
        self.marks += 1
        await trio.lowlevel.checkpoint()

    async def _note(self, evidence: dict) -> None:
        self.notes.append(evidence)
        self.delivery.notes |= evidence
        await trio.lowlevel.checkpoint()

    def _report(self, progress: link.Progress) -> None:
        self.progress.append(progress)
        self.reported.set()
        if progress.stalled_s:
            self.stalled.set()


def new_device(uri: str, **options: str) -> Device:
    return Device(1, uuid4(), uri, options)


@pytest.fixture
def attempt(tmp_path):
    """`attempt(uri, body, in_file=False, **options)`: a driver and an `Attempt` for it.

    Keywords that are fields of a job go to the job, the rest are device options.
    """
    sources = []

    def make(uri: str, body: bytes, *, in_file: bool = False, **fields):
        of_job = ("title", "format", "copies", "copies_embedded", "attributes", "owner", "uuid")
        job_fields = {k: v for k, v in fields.items() if k in of_job}
        options = {k: v for k, v in fields.items() if k not in of_job}
        device = new_device(uri, **options)
        source = None
        if in_file:
            path = tmp_path / "document"
            path.write_bytes(body)
            file = path.open("rb")
            sources.append(file)
            source = FileSource(file.fileno(), len(body))
        driver = link.driver_for(device, TcpNetwork())
        return driver, Attempt(device, body, source, **job_fields)

    yield make
    for file in sources:
        file.close()


def switching_on(kind):
    """`async with switch_on(*faults, **options) as printer`: a simulated printer that runs."""

    @asynccontextmanager
    async def switch_on(*faults: str, **options):
        printer = kind(*faults, **options)
        async with trio.open_nursery() as nursery:
            await nursery.start(printer.run)
            yield printer
            nursery.cancel_scope.cancel()

    return switch_on


@pytest.fixture
def printer_on():
    """One that speaks raw and LPD; see `switching_on`."""
    return switching_on(SimulatedPrinter)


@pytest.fixture
def ipp_printer_on():
    """One that speaks IPP; see `switching_on`."""
    return switching_on(SimulatedIppPrinter)
