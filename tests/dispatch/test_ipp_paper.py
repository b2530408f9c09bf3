"""Jobs on their way through dispatcher and driver to an IPP printer that misbehaves: one copy each.

What counts is paper: how many sheets lie in the tray when the job has come to its end.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from spoold.codec.ipp_names import JobState as PrinterState
from spoold.model.job import JobState
from spoold.model.transitions import JobEvent
from spoold.net.connect import TcpNetwork
from spoold.simulate.ipp_engine import Engine, SimulatedJob
from spoold.simulate.ipp_printer import SimulatedIppPrinter
from spoold.spool.store import ChangeJob, CountJob, PutDevice
from support import dispatching

OPTIONS = {
    "poll_first_s": "0.01", "poll_max_s": "0.02", "answer_timeout_s": "5", "stall_s": "0.05",
    "incoming_s": "0.05", "counter_wait_s": "0.05", "offer_s": "0", "expect_wait_s": "0.2",
}  # fmt: skip
PAGES = b"one\ftwo\f"
LARGE = b"line\n" * 100_000 + b"\f"


async def until(check: Callable[[], object]) -> None:
    """Returns when `check` is true, which it is within seconds."""
    with trio.fail_after(30):
        while not check():
            await trio.testing.wait_all_tasks_blocked(0.001)


async def printing(engine: Engine, job_id: int) -> SimulatedJob:
    """The printer's job, once it is being printed."""
    await until(
        lambda: job_id in engine.jobs and engine.jobs[job_id].state == PrinterState.PROCESSING
    )
    return engine.jobs[job_id]


class Floor(dispatching.Floor):
    """One simulated printer, the printer of the spool that points to it, and jobs."""

    def __init__(self, spool, nursery, printer: SimulatedIppPrinter) -> None:
        super().__init__(spool, network=TcpNetwork())
        self.device = printer
        self.printer = None
        self._nursery = nursery

    async def set_up(self, **options) -> None:
        await self._nursery.start(self.device.run)
        self.printer = await self.spool.add_printer("p", self.device.uri)
        (device,) = await self.spool.reader.devices()
        await self.spool.journal.commit(
            PutDevice(device.guid, device.uri, self.spool.wall_clock(), {**OPTIONS, **options})
        )

    async def submit(self, body: bytes = PAGES, **fields) -> int:
        return (await self.spool.add_job(self.printer, body, **fields)).job_id

    async def print(self, *states: JobState, **fields):
        """The job when it has come to its end."""
        async with self.dispatching():
            job_id = await self.submit(**fields)
            return await self.wait_state(job_id, *(states or (JobState.COMPLETED,)))


@pytest.fixture
async def floor_of(spool, nursery):
    """`await floor_of(*faults, **options)`: a floor whose printer has these faults."""

    async def make(*faults: str, printer: dict | None = None, **options) -> Floor:
        floor = Floor(spool, nursery, SimulatedIppPrinter(*faults, **(printer or {})))
        await floor.set_up(**options)
        return floor

    return make


@pytest.mark.parametrize(
    "faults",
    [
        (),
        ("busy=3",),
        pytest.param(("unavailable=1",), marks=pytest.mark.slow),
        ("slow=5",),
        ("lose-create=1",),
        ("lose-create=2",),
        ("lose-send=1",),
        ("lose-send=1", "slow=20"),
        ("abort=1",),
        ("abort=2",),
        ("reject-wishes",),
        ("ignore-wishes",),
        ("print-job-only",),
        ("print-job-only", "lose-print=1"),
        ("print-job-only", "busy=2"),
        ("print-job-only", "lose-print=1", "slow=20"),
        ("old", "no-continue"),
        ("no-chunks",),
    ],
    ids="+".join,
)
async def test_one_copy_lies_in_the_tray(floor_of, faults):
    """Whatever the printer does on the way: completed, and printed once."""
    floor = await floor_of(*faults)
    job = await floor.print(attributes={"sides": "two-sided-long-edge"})
    assert job.reasons == ("job-completed-successfully",)
    assert [paper.data for paper in floor.device.engine.papers] == [PAGES]
    assert floor.device.engine.sheets == 2
    attempts = await floor.spool.reader.attempts(job.id)
    assert attempts[-1].evidence["method"] == "ipp-job-state"


@pytest.mark.parametrize(
    ("faults", "printer"),
    [((), {}), ((), {"copies_max": 1}), (("ignore-wishes",), {}), (("reject-wishes",), {})],
)
async def test_as_many_copies_as_were_asked_for(floor_of, faults, printer):
    """By the printer, or by jobs of their own where it cannot, or does not after all."""
    floor = await floor_of(*faults, printer=printer)
    job = await floor.print(copies=3)
    assert floor.device.engine.sheets == 6
    (attempt,) = await floor.spool.reader.attempts(job.id)
    assert attempt.evidence["pages"] == 6  # all of them are paid


async def test_wishes_that_were_left_out_are_on_record(floor_of):
    """Also those of which the printer says so only when it has the job."""
    floor = await floor_of("ignore-wishes")
    wishes = {"sides": "two-sided-long-edge", "media": "na_legal_8.5x14in"}
    job = await floor.print(attributes=wishes)
    (attempt,) = await floor.spool.reader.attempts(job.id)
    assert attempt.evidence["left-out"] == ["media", "sides"]


async def test_what_the_printer_finds_unprintable_is_held_with_advice(floor_of):
    """Its word is document-format-error: an operator moves or converts the job."""
    floor = await floor_of("bad-document")
    job = await floor.print(JobState.PENDING_HELD)
    assert job.reasons == ("document-format-error",)
    assert "Move the job" in job.message
    assert not floor.device.engine.papers


async def test_a_document_that_is_refused_half_way_is_held_with_advice(floor_of):
    """The answer comes while the document is still being sent: it is heard, and nothing crashes."""
    floor = await floor_of("refuse-late=4096")
    async with floor.dispatching():
        job_id = await floor.submit(LARGE * 8)
        job = await floor.wait_state(job_id, JobState.PENDING_HELD)
    assert job.reasons == ("document-format-error",)
    assert not floor.device.engine.papers
    assert [made.state.keyword for made in floor.device.engine.jobs.values()] == ["canceled"]


async def test_a_printer_that_says_nothing_of_its_jobs_is_believed_that_it_took_one(floor_of):
    """Its acknowledgement of the document is all the evidence that there will be."""
    floor = await floor_of("dumb")
    job = await floor.print()
    (attempt,) = await floor.spool.reader.attempts(job.id)
    assert attempt.evidence["method"] == "ipp-accepted"
    assert floor.device.engine.sheets == 2


async def copy_by_copy(floor_of):
    """A printer that makes no copies by itself, and sleeps over its page once the first is out."""
    floor = await floor_of(printer={"copies_max": 1})
    floor.device.engine.on_paper = lambda paper: floor.device.set_faults("slow=600000")
    return floor


async def test_a_job_canceled_at_the_panel_is_not_printed_again(floor_of):
    """Somebody at the printer did not want it."""
    floor = await floor_of("cancel")
    job = await floor.print(JobState.CANCELED)
    assert job.reasons == ("job-canceled-at-device",)
    assert job.message == "The printer says: canceled (job-canceled-at-device), 0 impressions."
    assert floor.device.requests.count("Create-Job") == 1


async def test_what_was_out_before_a_cancel_at_the_panel_is_counted(floor_of):
    """The first copy, and a page of the second one; nobody misses the third."""
    floor = await copy_by_copy(floor_of)
    engine = floor.device.engine
    async with floor.dispatching():
        job_id = await floor.submit(copies=3)
        second = await printing(engine, 2)
        second.impressions = 1
        engine.cancel(second)
        job = await floor.wait_state(job_id, JobState.CANCELED)
    assert job.reasons == ("job-canceled-at-device",)
    (attempt,) = await floor.spool.reader.attempts(job_id)
    assert attempt.evidence["pages"] == 3
    assert floor.device.requests.count("Create-Job") == 2


async def test_a_printer_that_always_aborts_is_not_asked_for_ever(floor_of):
    """After aborts_max times more the job is aborted here, too, with the printer's words."""
    floor = await floor_of("abort=100", aborts_max="2")
    job = await floor.print(JobState.ABORTED)
    assert "It did not feel like it." in job.message
    assert floor.device.requests.count("Create-Job") == 3
    assert not floor.device.engine.papers


async def test_an_abort_with_paper_out_is_no_reason_to_print_again(floor_of):
    """One page lies there: the job is held, in doubt, with what the printer said."""
    floor = await floor_of("abort-late=1")
    job = await floor.print(JobState.PENDING_HELD)
    assert job.reasons == ("job-in-doubt",)
    assert "1 impressions" in job.message
    assert floor.device.engine.sheets == 1


async def test_a_printer_that_forgets_leaves_doubt(floor_of):
    """It has every byte and no history: one copy, and nobody prints another without being told."""
    floor = await floor_of("forget", printer={"page_count": None})
    job = await floor.print(JobState.PENDING_HELD)
    assert job.reasons == ("job-in-doubt",)
    assert "history-forgotten" in job.message
    assert floor.device.engine.sheets == 2


async def test_what_was_out_before_a_cancel_here_is_counted(floor_of):
    """By the printer, which was told of it: that much has to be paid."""
    floor = await floor_of("slow=600000")
    async with floor.dispatching():
        job_id = await floor.submit()
        (await printing(floor.device.engine, 1)).impressions = 1
        reasons = ("processing-to-stop-point", "job-canceled-by-user")
        await floor.change(job_id, JobEvent.STOP, reasons=reasons)
        await floor.wait_state(job_id, JobState.CANCELED)
    (attempt,) = await floor.spool.reader.attempts(job_id)
    assert attempt.evidence["pages"] == 1


@pytest.mark.parametrize("is_counted_here", [False, True])
async def test_a_counter_proves_what_a_printer_forgot(floor_of, is_counted_here):
    """It rose by as many impressions as the job has, by its sender's word or ours: delivered."""
    floor = await floor_of("forget")
    async with floor.dispatching():
        said = {} if is_counted_here else {"job-impressions": 2}
        job_id = await floor.submit(attributes=said, state=JobState.PENDING_HELD)
        if is_counted_here:
            counted = CountJob(job_id, 1, {"pages": 2}, floor.spool.wall_clock(), impressions=2)
            await floor.spool.journal.commit(counted)
        await floor.change(job_id, JobEvent.RELEASE)
        job = await floor.wait_state(job_id, JobState.COMPLETED, JobState.PENDING_HELD)
    assert job.state is JobState.COMPLETED
    (attempt,) = await floor.spool.reader.attempts(job.id)
    assert attempt.evidence["method"] == "page-counter"
    assert (attempt.evidence["page_count_before"], attempt.evidence["pages"]) == (1000, 2)
    assert floor.device.engine.sheets == 2


async def test_a_connection_that_breaks_inside_the_document_costs_no_paper(floor_of):
    """The printer aborted what came of it and says so: the job is sent again, once."""
    floor = await floor_of("stall=4096", stall_s="0.2")
    async with floor.dispatching():
        job_id = await floor.submit(LARGE)
        await until(lambda: floor.device.engine.jobs)
        await trio.sleep(0.05)
        floor.device.drop_connections()
        floor.device.set_faults()
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert [paper.data for paper in floor.device.engine.papers] == [LARGE]
    assert floor.device.engine.sheets == 1


async def test_a_printer_that_prints_half_a_document_leaves_doubt(floor_of):
    """It says completed, but not that it had the whole: nobody calls that printed."""
    floor = await floor_of("stall=4096", "eager", incoming_s="5")
    async with floor.dispatching():
        job_id = await floor.submit(LARGE)
        await until(lambda: floor.device.engine.jobs)
        await trio.sleep(0.05)
        floor.device.drop_connections()
        floor.device.set_faults("eager")
        job = await floor.wait_state(job_id, JobState.PENDING_HELD)
    assert job.reasons == ("job-in-doubt",)
    assert "submission-interrupted" in job.message
    assert len(floor.device.engine.papers) == 1


async def test_a_printer_that_reads_no_further_is_waited_for(floor_of):
    """A stall is a state of the job, not a failure; when it reads on, one copy comes out."""
    floor = await floor_of("stall=4096")
    async with floor.dispatching() as dispatcher:
        job_id = await floor.submit(LARGE)
        await until(lambda: dispatcher.status(floor.printer.id).reasons)
        assert dispatcher.status(floor.printer.id).reasons == ("stalled",)
        floor.device.set_faults()
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert [paper.data for paper in floor.device.engine.papers] == [LARGE]
    assert len(await floor.spool.reader.attempts(job_id)) == 1


@pytest.mark.parametrize(
    ("fault", "reason"), [("not-accepting", "not-accepting-jobs"), ("stopped", "media-empty")]
)
async def test_a_printer_that_takes_nothing_now_takes_it_later(floor_of, fault, reason):
    """Not accepting, or out of paper: the job waits with the reason, and is printed once."""
    floor = await floor_of(fault)
    async with floor.dispatching() as dispatcher:
        job_id = await floor.submit()
        await until(lambda: dispatcher.status(floor.printer.id).failures >= 2)
        assert dispatcher.status(floor.printer.id).reasons == (reason,)
        assert (await floor.spool.reader.job(job_id)).state is JobState.PENDING
        floor.device.set_faults()
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert floor.device.engine.sheets == 2


# -- operators -----------------------------------------------------------------------------


async def test_a_cancel_takes_the_job_back_from_the_printer(floor_of):
    """Canceled here is canceled there: no paper, and no job left behind."""
    floor = await floor_of("hold")
    async with floor.dispatching():
        job_id = await floor.submit()
        await until(lambda: any(job.documents for job in floor.device.engine.jobs.values()))
        reasons = ("processing-to-stop-point", "job-canceled-by-operator")
        await floor.spool.journal.commit(
            ChangeJob(job_id, JobEvent.STOP, floor.spool.wall_clock(), reasons=reasons)
        )
        await floor.wait_state(job_id, JobState.CANCELED)
    (made,) = floor.device.engine.jobs.values()
    assert made.state.keyword == "canceled"
    (attempt,) = await floor.spool.reader.attempts(job_id)
    assert attempt.evidence["canceled-at-device"].startswith("canceled")


# -- restarts ------------------------------------------------------------------------------


async def test_a_restart_while_the_printer_prints_prints_nothing_twice(floor_of):
    """The next start asks the printer, and waits for its end."""
    floor = await floor_of("slow=100")
    async with floor.dispatching():
        job_id = await floor.submit()
        await until(lambda: any(job.impressions for job in floor.device.engine.jobs.values()))
    assert (await floor.spool.reader.job(job_id)).state is JobState.PROCESSING
    async with floor.dispatching():
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert floor.device.engine.sheets == 2
    (attempt,) = await floor.spool.reader.attempts(job_id)
    assert (attempt.outcome, attempt.evidence["method"]) == ("delivered", "ipp-job-state")


async def test_a_restart_between_copies_prints_and_counts_each_once(floor_of):
    """Copies in jobs of their own: the second one is under way, and the first is not forgotten."""
    floor = await copy_by_copy(floor_of)
    engine = floor.device.engine
    async with floor.dispatching():
        job_id = await floor.submit(copies=3)
        second = await printing(engine, 2)
        await until_noted(floor.spool, job_id)
    engine.on_paper = None
    floor.device.set_faults()
    engine.cancel(second)  # the printer sleeps over its page
    async with floor.dispatching():
        await floor.wait_state(job_id, JobState.CANCELED)
    (attempt,) = await floor.spool.reader.attempts(job_id)
    assert attempt.evidence["pages"] == engine.sheets == 2


async def test_a_restart_after_the_printer_finished_prints_nothing_twice(floor_of):
    """What it printed while spoold was away is found in its history."""
    floor = await floor_of("hold")
    async with floor.dispatching():
        job_id = await floor.submit()
        await until(lambda: any(job.documents for job in floor.device.engine.jobs.values()))
        await trio.sleep(0.05)
    (made,) = floor.device.engine.jobs.values()
    floor.device.set_faults()
    floor.device.engine.take(made, made.data, made.format)
    await floor.device.wait_papers(1)
    async with floor.dispatching():
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert floor.device.engine.sheets == 2


async def test_a_restart_finds_a_printer_that_was_switched_off(floor_of):
    """It had the whole document and remembers nothing: in doubt, and no second copy."""
    floor = await floor_of("slow=100", printer={"page_count": None})
    async with floor.dispatching():
        job_id = await floor.submit()
        await until(lambda: any(job.impressions for job in floor.device.engine.jobs.values()))
    floor.device.engine.forget_all()
    async with floor.dispatching():
        job = await floor.wait_state(job_id, JobState.PENDING_HELD)
    assert job.reasons == ("job-in-doubt",)
    assert len(floor.device.engine.papers) == 0


async def test_a_restart_inside_the_document_costs_no_paper(floor_of):
    """The printer aborted what came of it: the job is sent again, and printed once."""
    floor = await floor_of("stall=4096")
    async with floor.dispatching():
        job_id = await floor.submit(LARGE)
        await until(lambda: floor.device.engine.jobs)
        await trio.sleep(0.05)
    assert (await floor.spool.reader.job(job_id)).state is JobState.PROCESSING
    floor.device.set_faults()
    async with floor.dispatching():
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert [paper.data for paper in floor.device.engine.papers] == [LARGE]
    attempts = await floor.spool.reader.attempts(job_id)
    assert [attempt.outcome for attempt in attempts] == ["deferred", "delivered"]


async def test_another_printer_is_not_asked_about_this_one_s_job(floor_of, spool, nursery):
    """The device got a new URI meanwhile: the job with that number there is somebody else's."""
    floor = await floor_of("hold")
    async with floor.dispatching():
        job_id = await floor.submit()
        await until(lambda: any(job.documents for job in floor.device.engine.jobs.values()))
        await until_noted(spool, job_id)
    other = SimulatedIppPrinter()
    await nursery.start(other.run)
    other.engine.take(other.engine.create("Theirs", "eve", {}), b"page\f", "text/plain")
    (device,) = await spool.reader.devices()
    await spool.journal.commit(
        PutDevice(device.guid, other.uri, spool.wall_clock(), device.options)
    )
    async with floor.dispatching():
        job = await floor.wait_state(job_id, JobState.PENDING_HELD)
    assert job.reasons == ("job-in-doubt",)
    assert other.requests == []


async def test_a_number_that_the_printer_gave_again_is_not_taken_for_ours(floor_of, spool):
    """It was reset while spoold was away, and counts its jobs from 1 again."""
    floor = await floor_of("hold", printer={"page_count": None})
    async with floor.dispatching():
        job_id = await floor.submit()
        await until(lambda: any(job.documents for job in floor.device.engine.jobs.values()))
        await until_noted(spool, job_id)
    engine = floor.device.engine
    engine.forget_all()
    engine.next_id = 1
    floor.device.set_faults()
    engine.take(engine.create("Somebody else's", "eve", {}), b"page\f", "text/plain")
    await floor.device.wait_papers(1)
    async with floor.dispatching():
        job = await floor.wait_state(job_id, JobState.PENDING_HELD)
    assert job.reasons == ("job-in-doubt",)
    assert "another one by now" in job.message


async def until_noted(spool, job_id: int) -> None:
    """Returns when the attempt's notes say that the document was sent."""
    with trio.fail_after(30):
        while True:
            (attempt,) = await spool.reader.attempts(job_id)
            if attempt.evidence.get("document-sent"):
                return
            await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.parametrize(
    "faults",
    [
        (),
        ("lose-create=1",),
        ("lose-send=2",),
        ("abort=2",),
        ("busy=3",),
        ("print-job-only", "lose-print=2"),
        ("lose-send=1", "slow=20"),
    ],
    ids="+".join,
)
async def test_each_document_of_a_job_lies_in_the_tray_once(floor_of, faults):
    """To the printer each is a job of its own, and none is taken for another."""
    floor = await floor_of(*faults)
    bodies = [b"one\f", b"two\ftwo\f", b"three\f"]
    async with floor.dispatching():
        job_id = (await floor.spool.open_job(floor.printer, title="Three", copies=2)).job_id
        for body in bodies:
            await floor.spool.attach(job_id, body, last=body is bodies[-1])
        await floor.wait_state(job_id, JobState.COMPLETED)
    assert [paper.data for paper in floor.device.engine.papers] == bodies
    assert floor.device.engine.sheets == 8
