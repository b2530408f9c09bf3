"""Drivers around which documents are converted: what they get, and what their outcome says."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import pytest

from spoold.dispatch.convert import Converter
from spoold.dispatch.converting import converting
from spoold.driver.link import Delivery, DeviceStatus, Resuming
from spoold.model.conversion import Conversion
from spoold.model.job import Document, Job, JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt, Outcome, Refused
from spoold.model.person import NOBODY
from spoold.model.printer import Device, Printer
from spoold.spool.sources import MemorySource

PDF, PCL = "application/pdf", "application/vnd.hp-pcl"
GUID = UUID(int=1)


@dataclass
class Limits:
    memory_bytes_max: int = 1 << 30
    cpu_s_max: float = 20.0
    output_bytes_max: int = 1 << 26
    deadline_s: float = 20.0
    at_once: int = 2


@dataclass
class Machine:
    """A driver that notes what it gets."""

    outcome: Outcome = field(default_factory=lambda: Delivered({"method": "half-close"}))
    got: list[tuple[str, bytes, bool]] = field(default_factory=list)

    async def deliver(self, delivery: Delivery) -> Outcome:
        document = delivery.job.document
        body = delivery.source.read_at(0, delivery.source.size)
        assert len(body) == document.size
        self.got.append((document.format, body, delivery.job.copies_embedded))
        return self.outcome

    async def probe(self) -> DeviceStatus:
        return DeviceStatus(True, detail="well")


class Asked(Machine):
    """One that can say what became of a job."""

    async def resume(self, delivery: Delivery) -> Outcome | None:
        return await self.deliver(delivery)


async def may_send() -> None:
    pass


def delivery(format_: str = PDF, body: bytes = b"%PDF-") -> Delivery:
    document = Document(len(body), "blake3:00", format_)
    state = (JobState.PENDING, (), NOBODY, "", "Report", "", "raw", 50, 0)
    job = Job(7, GUID, 1, *state, document, 1, copies=2)
    device = Device(1, GUID, "test://x")
    return Delivery(job, MemorySource(body), device, may_send, lambda _: None)


@pytest.fixture
def converter(tmp_path):
    limits = Limits()
    made = Converter(tmp_path / "converting", lambda: limits)
    made.sweep()
    yield made
    made.close()


def printer(*command: str) -> Printer:
    conversions = (Conversion(PDF, PCL, command),) if command else ()
    return Printer(1, GUID, "laser", 1, formats=(PCL,), conversions=conversions)


COUNTED = ("sh", "-c", "echo {copies}; cat /proc/sys/kernel/random/uuid")


async def test_the_driver_gets_what_the_printer_takes(converter):
    """The job says what the document is now; the outcome says what it was, and keeps its own."""
    machine = Machine()
    driver = converting(converter, printer("sh", "-c", "echo PCL"), machine)
    outcome = await driver.deliver(delivery())
    assert machine.got == [(PCL, b"PCL\n", False)]
    assert isinstance(outcome, Delivered)
    assert outcome.evidence["method"] == "half-close"
    assert outcome.evidence["converted_from"] == PDF
    assert (await driver.probe()).detail == "well"


async def test_copies_are_made_once(converter):
    """Where the converter makes the copies the printer is not asked for them."""
    machine = Machine()
    await converting(converter, printer(*COUNTED), machine).deliver(delivery())
    ((_, body, copies_embedded),) = machine.got
    assert body.startswith(b"2\n")
    assert copies_embedded


async def test_what_the_printer_takes_is_not_touched(converter):
    """A document of the printer's own format, and a printer without converters, see none."""
    machine = Machine()
    driver = converting(converter, printer("false"), machine)
    await driver.deliver(delivery("application/vnd.hp-PCL", b"\x1bE"))
    assert machine.got == [("application/vnd.hp-PCL", b"\x1bE", False)]
    assert converting(converter, printer(), machine) is machine


async def test_a_failure_reaches_no_device(converter):
    """The driver is not asked when there is nothing to print."""
    machine = Machine()
    outcome = await converting(converter, printer("false"), machine).deliver(delivery())
    assert isinstance(outcome, Refused)
    assert outcome.reason == "document-format-error"
    assert machine.got == []


@pytest.mark.parametrize(
    ("outcome", "is_kept"),
    [
        (Deferred("connecting-to-device"), True),
        (Delivered(), False),
        (InDoubt("reset"), False),
    ],
)
async def test_results_are_kept_while_the_device_is_away(converter, outcome, is_kept):
    """The next attempt sends the same bytes again after a device did not answer, and only then."""
    machine = Machine(outcome)
    driver = converting(converter, printer(*COUNTED), machine)
    await driver.deliver(delivery())
    await driver.deliver(delivery())
    assert (machine.got[0] == machine.got[1]) is is_kept


async def test_a_device_is_asked_about_what_it_got(converter):
    """A driver that can go on after a restart has the converted document, too."""
    machine = Asked()
    driver = converting(converter, printer("sh", "-c", "echo PCL"), machine)
    assert isinstance(driver, Resuming)
    outcome = await driver.resume(delivery())
    assert machine.got == [(PCL, b"PCL\n", False)]
    assert isinstance(outcome, Delivered)
    assert not isinstance(converting(converter, printer("cat"), Machine()), Resuming)


async def test_a_conversion_that_fails_after_a_restart_decides_nothing(converter):
    """Bytes may have left before: nobody knows, and the printer's policy says what then."""
    machine = Asked()
    driver = converting(converter, printer("false"), machine)
    assert isinstance(driver, Resuming)
    assert await driver.resume(delivery()) is None
    assert machine.got == []
