"""Jobs and their charges: a job that ends settles what was reserved for it, in one commit."""

from __future__ import annotations

import pytest

from spoold.model.charge import ChargeState, Flag
from spoold.model.job import JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt, Refused
from spoold.model.transitions import JobEvent
from spoold.spool import ledger_views
from spoold.spool.store import ChangeJob, EndAttempt, RemoveJobs, StartAttempt
from support.money import PAGE, Purses


@pytest.fixture
async def purses(spool):
    return await Purses(spool).start()


class Work:
    """A job with ten pages reserved, of somebody with twenty."""

    def __init__(self, purses, printer, job_id, person):
        self.purses, self.printer, self.job_id, self.person = purses, printer, job_id, person
        self.journal = purses.journal

    async def attempt(self, event: JobEvent, outcome, document=1) -> JobState:
        start = StartAttempt(self.job_id, self.printer.device_id, self.printer.id, 5)
        number = await self.journal.commit(start)
        return await self.journal.commit(EndAttempt(self.job_id, number, outcome, event, (), 6))

    async def change(self, event: JobEvent) -> JobState:
        return await self.journal.commit(ChangeJob(self.job_id, event, 7))

    async def story(self):
        (story,) = await self.purses.spool.reader.look(ledger_views.charges_of_job, self.job_id)
        return story

    async def left(self) -> int:
        await self.purses.check()
        return (await self.purses.purses(self.person)).get("paid-in", 0) // PAGE


@pytest.fixture
async def work(purses):
    ada = await purses.person()
    await purses.pay_in(ada, 20 * PAGE)
    printer = await purses.spool.add_printer()
    job = await purses.spool.add_job(printer, owner="ada")
    await purses.reserve(b"k", ada, 10, job_id=job.job_id)
    return Work(purses, printer, job.job_id, ada)


async def test_a_job_that_is_completed_pays_what_was_counted_before(work):
    """Where the device counts nothing; and the whole story can be told afterwards."""
    await work.attempt(JobEvent.DELIVER, Delivered({"bytes": 5}))
    charge, entries = await work.story()
    assert (charge.state, charge.total, charge.flags) == (ChargeState.SETTLED, 10 * PAGE, ())
    assert charge.job_uuid is not None
    assert await work.left() == 10
    assert [one.cause for one in entries] == ["reserve", "settle"]
    (line,) = entries[0].lines
    assert (line.kind, line.before, line.amount) == ("paid-in", 20 * PAGE, -10 * PAGE)
    assert charge.quote.told() == [
        {
            "text": "print, monochrome, one-sided, iso_a4_210x297mm",
            "count": "10",
            "unit": "impression",
            "price": "0.05",
            "amount": "0.50",
        }
    ]


@pytest.mark.parametrize(
    ("pages", "left", "flags"),
    [(7, 13, ()), (10, 10, ()), (0, 20, ()), (12, 10, (Flag.MORE_PRINTED,))],
)
async def test_a_job_pays_what_its_device_has_counted(work, pages, left, flags):
    """Less than was reserved comes back; more is flagged, and is nobody's debt."""
    await work.attempt(JobEvent.DELIVER, Delivered({"pages": pages}))
    assert await work.left() == left
    assert (await work.story()).charge.flags == flags


@pytest.mark.parametrize(
    ("event", "outcome", "left", "flags"),
    [
        (JobEvent.REFUSE, Refused("unsupported-document-format"), 20, (Flag.NOT_COUNTED,)),
        (JobEvent.CANCELED, InDoubt("reset", "", 9), 20, (Flag.NOT_COUNTED,)),
        (JobEvent.CANCELED, InDoubt("reset", "", 9, {"pages": 4}), 16, ()),
        (JobEvent.CANCELED, Refused("job-canceled-at-device", "", {"pages": 4}), 16, ()),
        (JobEvent.CANCELED, Refused("job-canceled-at-device", "", {"pages": 0}), 20, ()),
        (JobEvent.ASSUME, InDoubt("reset", "", 9), 10, ()),
    ],
)
async def test_a_job_that_breaks_off_pays_what_is_known_to_be_printed(
    work, event, outcome, left, flags
):
    """Nothing where nobody knows, unless it is taken as printed."""
    await work.attempt(event, outcome)
    assert await work.left() == left
    assert (await work.story()).charge.flags == flags


async def test_a_job_that_never_printed_pays_nothing(work):
    """Put off, then canceled: all of it is back, and the reservation is over."""
    await work.attempt(JobEvent.DEFER, Deferred("printer-busy"))
    assert await work.left() == 10
    assert await work.change(JobEvent.CANCEL) is JobState.CANCELED
    charge = (await work.story()).charge
    assert (charge.state, charge.flags) == (ChargeState.CANCELED, ())
    assert await work.left() == 20
    assert work.purses.spool.store.reserved == {}


async def test_a_job_that_is_printed_once_more_is_charged_once(work):
    """An operator who prints it again has decided that it was no good."""
    await work.attempt(JobEvent.DELIVER, Delivered({"pages": 10}))
    await work.change(JobEvent.RETRY)
    await work.attempt(JobEvent.DELIVER, Delivered({"pages": 10}))
    assert await work.left() == 10


async def test_a_charge_outlives_its_job(work):
    """What was paid for is known after the job is forgotten."""
    await work.attempt(JobEvent.DELIVER, Delivered({"pages": 10}))
    await work.journal.commit(RemoveJobs((work.job_id,), 9))
    assert (await work.story()).charge.net == 10 * PAGE


async def test_a_job_has_one_open_reservation(work):
    """A second one under another key is refused; the first one asked again is the same."""
    with pytest.raises(Exception, match="reserved for this job"):
        await work.purses.reserve(b"other", work.person, 1, job_id=work.job_id)
    assert (await work.purses.reserve(b"k", work.person, 1)).total == 10 * PAGE
    assert await work.left() == 10


async def test_reservations_of_jobs_are_known_after_a_restart(tmp_path, spool_at):
    """The job that ends then settles what was reserved before."""
    async with spool_at(tmp_path) as spool:
        purses = await Purses(spool).start()
        ada = await purses.person()
        await purses.pay_in(ada, 20 * PAGE)
        printer = await spool.add_printer()
        job = await spool.add_job(printer, owner="ada")
        await purses.reserve(b"k", ada, 10, job_id=job.job_id)
    async with spool_at(tmp_path) as spool:
        work = Work(Purses(spool), printer, job.job_id, ada)
        await work.attempt(JobEvent.DELIVER, Delivered({"pages": 3}))
        assert await work.left() == 17
