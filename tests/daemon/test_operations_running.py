"""Printers steered while they run: what they take and hold, what they print now, and purging."""

from __future__ import annotations

from spoold.model.job import JobReason, JobState
from spoold.model.outcome import Delivered
from spoold.model.principal import Port, Principal, Role
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, EndAttempt, JobFilter, StartAttempt
from support.asking import refused

OPERATOR = Principal("user:op", Port.TLS, frozenset({Role.OPERATOR, Role.USER}), "op")
ADMIN = Principal("user:root", Port.TLS, frozenset({Role.ADMIN, Role.USER}), "root")
HELD, ON_CREATE = JobReason.JOB_HOLD_UNTIL_SPECIFIED, JobReason.JOB_HELD_ON_CREATE


async def hold(desk, printer, *reasons, **fields):
    accepted = await desk.spool.add_job(
        printer,
        state=JobState.PENDING_HELD,
        reasons=tuple(reason.value for reason in reasons),
        **fields,
    )
    return accepted.job_id


async def state(desk, job_id):
    return (await desk.spool.reader.job(job_id)).state


async def test_a_printer_stops_taking_jobs_and_takes_them_again(desk):
    """Accepting is apart from printing."""
    await desk.spool.add_printer()
    shown = await desk.ask("printer.reject", OPERATOR, name="default")
    assert (shown["accepting"], shown["paused"]) == (False, False)
    assert (await desk.ask("printer.accept", OPERATOR, name="default"))["accepting"]
    assert (await refused(desk, "printer.accept", name="other")).code == "not-found"


async def test_new_jobs_are_held_and_released_together(desk):
    """What was held for that alone prints; what somebody held for a time stays held for it."""
    printer = await desk.spool.add_printer()
    shown = await desk.ask("printer.hold-new-jobs", OPERATOR, name="default")
    assert shown["hold_new_jobs"]
    both = await hold(desk, printer, HELD, ON_CREATE, hold_until="indefinite")
    alone = await hold(desk, printer, ON_CREATE)
    asked = await hold(desk, printer, HELD, hold_until="indefinite")
    shown = await desk.ask("printer.release-held-new-jobs", OPERATOR, name="default")
    assert (shown["hold_new_jobs"], shown["released"]) == (False, 1)
    assert await state(desk, alone) is JobState.PENDING
    for id_ in (both, asked):
        assert (await desk.spool.reader.job(id_)).reasons == (HELD,)


async def test_a_printer_is_described_by_an_administrator_anywhere(desk):
    """What people read may be changed after a login; what it does, or points to, may not."""
    await desk.spool.add_printer()
    shown = await desk.ask("printer.describe", ADMIN, name="default", info="Till", location="Hall")
    assert (shown["info"], shown["location"]) == ("Till", "Hall")
    shown = await desk.ask("printer.describe", ADMIN, name="default", info="")
    assert (shown["info"], shown["location"]) == ("", "Hall")
    error = await refused(desk, "printer.describe", ADMIN, name="default", uri="socket://h")
    assert error.code == "bad-request"
    error = await refused(desk, "printer.describe", ADMIN, name="default", geo_location="here")
    assert error.code == "bad-request"


async def test_purging_forgets_all_that_has_ended(desk):
    """What waits is canceled; what prints is asked to stop; files and rows of the rest go."""
    printer, other = await desk.spool.add_printer(), await desk.spool.add_printer("other")
    waiting = (await desk.spool.add_job(printer)).job_id
    done = (await desk.spool.add_job(printer)).job_id
    printing = (await desk.spool.add_job(printer)).job_id
    kept = (await desk.spool.add_job(other)).job_id
    for job_id in (done, printing):
        start = StartAttempt(job_id, printer.device_id, printer.id, 1)
        number = await desk.spool.journal.commit(start)
    end = EndAttempt(done, number, Delivered({}), JobEvent.DELIVER, (), 2)
    await desk.spool.journal.commit(end)
    await desk.spool.journal.commit(ChangeJob(kept, JobEvent.CANCEL, 3))
    answer = await desk.ask("printer.purge", OPERATOR, name="default")
    assert answer == {"name": "default", "canceled": 2, "removed": 2}
    left = {job.id: job.state for job in await desk.spool.reader.jobs(JobFilter())}
    assert left == {printing: JobState.PROCESSING, kept: JobState.CANCELED}
    assert waiting not in left


async def test_what_is_not_printed_now_is_not_canceled_as_if(desk):
    """Cancel-Current-Job is for the job that its sender believes to be the current one."""
    await desk.spool.add_printer()
    for op in ("printer.cancel-current", "printer.suspend-current"):
        error = await refused(desk, op, name="default")
        assert (error.code, "prints nothing" in error.message) == ("not-possible", True)
