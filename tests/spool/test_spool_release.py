"""Held jobs in the store: nothing but a release lets them print, and only one of two."""

from __future__ import annotations

from uuid import uuid4

import pytest

from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.release import Charging, ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.spool import release as held
from spoold.spool.store import (
    ChangeJob,
    EndHold,
    PutPrinter,
    PutUser,
    ReleaseJob,
    RemoveJobs,
    StartAttempt,
)

WAIT = "job-release-wait"


async def refused(spool, change) -> str:
    with pytest.raises(OperationError) as caught:
        await spool.journal.commit(change)
    return caught.value.code


async def release_of(spool, job_id, printer, user=None, **fields):
    job = await spool.reader.job(job_id)
    actor = "uid:0" if user is None else user.identity
    guid = None if user is None else user.guid
    fields.setdefault("is_staff", user is None)
    now_us = spool.wall_clock()
    return ReleaseJob(job_id, printer.id, now_us, job.changed_us, actor, guid, **fields)


async def add_user(spool, name, **fields):
    return await spool.journal.commit(PutUser(name, spool.wall_clock(), is_new=True, fields=fields))


@pytest.fixture
async def safe(spool):
    return await spool.add_printer("safe", release=ReleaseMode.HOLD)


@pytest.mark.parametrize("mode", [ReleaseMode.HOLD, ReleaseMode.FIND_ME])
async def test_jobs_of_such_a_printer_wait_for_their_owner(spool, mode):
    """However they come: whole, or opened before their document."""
    printer = await spool.add_printer("safe", release=mode)
    whole = await spool.add_job(printer, owner="ada")
    assert (whole.state, whole.reasons) == (JobState.PENDING_HELD, (WAIT,))
    opened = await spool.open_job(printer, owner="ada")
    attached = await spool.attach(opened.job_id)
    assert (attached.state, attached.reasons) == (JobState.PENDING_HELD, (WAIT,))
    job = await spool.reader.job(whole.job_id)
    assert job.reasons == (WAIT,)
    assert job.held_us == job.created_us
    assert await spool.reader.waiting() == []


async def test_no_plain_change_lets_it_print(spool, safe):
    """A release by anybody on any port is refused, and the job waits as before."""
    job_id = (await spool.add_job(safe, owner="ada")).job_id
    now_us = spool.wall_clock()
    plain = ChangeJob(job_id, JobEvent.RELEASE, now_us, "uid:0")
    assert await refused(spool, plain) == "not-possible"
    assert (await spool.reader.job(job_id)).reasons == (WAIT,)
    assert await refused(spool, EndHold(job_id, WAIT, now_us)) == "not-possible"
    device = safe.device_id
    assert await refused(spool, StartAttempt(job_id, device, safe.id, now_us)) == "not-possible"


async def test_the_end_of_another_hold_leaves_it_waiting(spool, safe):
    """A job held until tonight waits for its owner tonight."""
    hold = "job-hold-until-specified"
    accepted = await spool.add_job(
        safe, state=JobState.PENDING_HELD, reasons=(hold,), hold_until="night", release_us=5
    )
    assert accepted.reasons == (hold, WAIT)
    now_us = spool.wall_clock()
    state = await spool.journal.commit(EndHold(accepted.job_id, hold, now_us, is_due=True))
    job = await spool.reader.job(accepted.job_id)
    assert (state, job.reasons) == (JobState.PENDING_HELD, (WAIT,))


async def test_a_job_that_is_held_again_or_retried_waits_again(spool, safe):
    """What was released once is not released for ever."""
    ada = await add_user(spool, "ada")
    job_id = (await spool.add_job(safe, owner="ada")).job_id
    released = await spool.journal.commit(await release_of(spool, job_id, safe, ada))
    assert (released.state, released.number) == (JobState.PENDING, 1)
    now_us = spool.wall_clock()
    hold = "job-hold-until-specified"
    await spool.journal.commit(ChangeJob(job_id, JobEvent.HOLD, now_us, reasons=(hold,)))
    assert (await spool.reader.job(job_id)).reasons == (hold, WAIT)
    await spool.journal.commit(ChangeJob(job_id, JobEvent.RELEASE, now_us))
    assert (await spool.reader.job(job_id)).reasons == (WAIT,)
    await spool.journal.commit(ChangeJob(job_id, JobEvent.CANCEL, now_us))
    assert (await spool.reader.job(job_id)).held_us is None
    await spool.journal.commit(ChangeJob(job_id, JobEvent.RETRY, now_us))
    assert (await spool.reader.job(job_id)).reasons == (WAIT,)
    again = await spool.journal.commit(await release_of(spool, job_id, safe, ada))
    assert again.number == 2


async def test_a_job_that_is_moved_there_waits(spool, safe):
    """Somebody who sends it to a secure printer wants it fetched."""
    open_printer = await spool.add_printer("open", "file:///elsewhere")
    job_id = (await spool.add_job(open_printer, owner="ada")).job_id
    moved = ChangeJob(job_id, JobEvent.MOVE, spool.wall_clock(), printer_id=safe.id)
    assert await spool.journal.commit(moved) is JobState.PENDING_HELD
    assert (await spool.reader.job(job_id)).reasons == (WAIT,)


async def test_of_two_people_at_two_machines_one_gets_the_job(spool):
    """The owner and a delegate release in the same moment: one release, one printer."""
    roam = await spool.add_printer("roam", release=ReleaseMode.FIND_ME)
    near, far = [
        await spool.add_printer(name, f"file:///{name}", release=ReleaseMode.HOLD)
        for name in ("near", "far")
    ]
    bob = await add_user(spool, "bob")
    ada = await add_user(spool, "ada", delegates=(bob.guid,))
    job_id = (await spool.add_job(roam, owner="ada")).job_id
    changes = [
        await release_of(spool, job_id, near, ada, where="device:near"),
        await release_of(spool, job_id, far, bob, where="device:far"),
    ]
    first, second = await spool.journal.commit_all(changes)
    assert (first.state, second.code) == (JobState.PENDING, "not-possible")
    job = await spool.reader.job(job_id)
    assert (job.state, job.printer_id) == (JobState.PENDING, near.id)
    (entry,) = await spool.reader.look(held.releases, job_id)
    assert entry.fields["person"] == ada.guid.bytes
    assert entry.fields["where"] == "device:near"


async def test_only_the_owner_and_delegates_release(spool, safe):
    """Not somebody else, not who is disabled, and not before it is complete."""
    ada, eve = await add_user(spool, "ada"), await add_user(spool, "eve")
    job_id = (await spool.add_job(safe, owner="ada")).job_id
    assert await refused(spool, await release_of(spool, job_id, safe, eve)) == "forbidden"
    await spool.journal.commit(PutUser("ada", spool.wall_clock(), fields={"disabled": True}))
    assert await refused(spool, await release_of(spool, job_id, safe, ada)) == "forbidden"
    opened = await spool.open_job(safe, owner="ada")
    staff = await release_of(spool, opened.job_id, safe)
    assert await refused(spool, staff) == "not-possible"


async def test_a_job_that_changed_meanwhile_is_looked_at_again(spool, safe):
    """The release was planned for another job than the one that is there."""
    job_id = (await spool.add_job(safe, owner="ada")).job_id
    planned = await release_of(spool, job_id, safe)
    message = ChangeJob(
        job_id, JobEvent.HOLD, planned.now_us + 1, reasons=(WAIT,), message="changed"
    )
    await spool.journal.commit(message)
    assert await refused(spool, planned) == "conflict"


async def test_what_waits_for_an_operator_the_owner_does_not_release(spool):
    """An owner who is not known well enough gets the job by an operator alone."""
    safe = await spool.add_printer("safe", release=ReleaseMode.HOLD)
    ada = await add_user(spool, "ada")
    reasons = ("owner-not-known-well-enough",)
    accepted = await spool.add_job(safe, owner="ada", state=JobState.PENDING_HELD, reasons=reasons)
    owner = await release_of(spool, accepted.job_id, safe, ada)
    assert await refused(spool, owner) == "not-possible"
    released = await spool.journal.commit(await release_of(spool, accepted.job_id, safe))
    assert released.state is JobState.PENDING


async def test_a_printer_that_charges_counts_its_jobs_first(spool):
    """Jobs that print at once wait to be counted and cleared; a plain release does not do it."""
    printer = await spool.add_printer("paid", charging=Charging.ON)
    accepted = await spool.add_job(printer, owner="ada")
    assert accepted.reasons == ("job-being-counted",)
    now_us = spool.wall_clock()
    code = await refused(spool, ChangeJob(accepted.job_id, JobEvent.RELEASE, now_us))
    assert code == "not-possible"
    cleared = await release_of(spool, accepted.job_id, printer, is_staff=False)
    assert (await spool.journal.commit(cleared)).state is JobState.PENDING


async def test_gates_open_and_close_with_the_printer(spool_at, tmp_path):
    """They are the same after a restart, and gone with the printer's setting."""
    async with spool_at(tmp_path) as other:
        printer = await other.add_printer("safe", release=ReleaseMode.HOLD)
    async with spool_at(tmp_path) as other:
        assert (await other.add_job(printer)).state is JobState.PENDING_HELD
        (printer,) = await other.reader.printers()
        assert printer.release is ReleaseMode.HOLD
        open_again = PutPrinter(
            type(printer)(printer.id, uuid4(), "safe", printer.device_id), other.wall_clock()
        )
        await other.journal.commit(open_again)
        assert (await other.add_job(printer)).state is JobState.PENDING


async def test_held_jobs_are_found_by_their_owners(spool, safe):
    """In the order of their ids, a page at a time, and not those that are released or gone."""
    ada, bob = await add_user(spool, "ada"), await add_user(spool, "bob")
    ids = [(await spool.add_job(safe, owner=name)).job_id for name in ("ada", "bob", "ada")]
    look = spool.reader.look
    found = await look(held.held, [ada.guid, bob.guid], 0, 10)
    assert [job.id for job in found] == ids
    assert [job.id for job in await look(held.held, [ada.guid], ids[0], 10)] == [ids[2]]
    await spool.journal.commit(await release_of(spool, ids[0], safe, ada))
    assert [job.id for job in await look(held.held, [ada.guid], 0, 10)] == [ids[2]]
    later = spool.wall_clock() + 1
    assert await look(held.unfetched, safe.id, later, 10) == ids[1:]


async def test_with_a_job_its_releases_go(spool, safe):
    """Nothing is left of it in the tables of releases."""
    job_id = (await spool.add_job(safe, owner="ada")).job_id
    await spool.journal.commit(await release_of(spool, job_id, safe))
    now_us = spool.wall_clock()
    await spool.journal.commit(ChangeJob(job_id, JobEvent.CANCEL, now_us))
    await spool.journal.commit(RemoveJobs((job_id,), now_us))
    assert await spool.reader.look(held.releases, job_id) == []
