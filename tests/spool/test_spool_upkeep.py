"""Upkeep: what a crash left is settled, what is old goes, nothing goes too early."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from spoold.model.job import JobState
from spoold.model.outcome import Delivered
from spoold.model.release import ReleaseMode
from spoold.model.transitions import JobEvent
from spoold.spool import depth, ledger_views
from spoold.spool import upkeep as upkeep_module
from spoold.spool.ledger_views import By
from spoold.spool.store import (
    AttachDocument,
    ChangeJob,
    EndAttempt,
    JobFilter,
    NewDocument,
    PutCursor,
    Settle,
    StartAttempt,
)
from spoold.spool.upkeep import Upkeep
from support.money import PAGE, Purses

DAY_US = 86_400 * 1_000_000


@dataclass
class Keep:
    finished_jobs_s: float = 10 * 86_400
    finished_jobs_max: int = 1000
    documents_s: float = 86_400
    documents_bytes_max: int = 1 << 40
    records_s: float = 30 * 86_400
    charges_s: float = 400 * 86_400
    quarantine_s: float = 90 * 86_400
    sweep_interval_s: float = 60


@pytest.fixture
def upkeep(spool):
    keep = Keep()
    clock = [spool.wall_clock()]
    steady = [0.0]  # monotonic seconds beside those of the clock
    made = Upkeep(
        spool.journal,
        spool.reader,
        spool.documents,
        spool.store,
        lambda: clock[0],
        lambda: keep,
        lambda: clock[0] / 1e6 + steady[0],
    )
    made.keep, made.clock, made.steady = keep, clock, steady
    return made


async def file_job(spool, printer, name):
    path = spool.documents.path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 300)
    document = NewDocument(300, "blake3:00", "text/plain", None, name)
    from spoold.model.person import NOBODY
    from spoold.spool.store import AcceptJob

    return await spool.journal.commit(
        AcceptJob(printer.id, NOBODY, "address:127.0.0.1", document, spool.wall_clock())
    )


async def test_a_missing_document_makes_a_damaged_job(spool, upkeep):
    """A job whose bytes are gone says so and does not print."""
    printer = await spool.add_printer()
    whole, gone = await file_job(spool, printer, "aa01"), await file_job(spool, printer, "aa02")
    spool.documents.path("aa02").unlink()
    await upkeep.recover(spool.wall_clock() + DAY_US)
    assert (await spool.reader.job(whole.job_id)).state is JobState.PENDING
    damaged = await spool.reader.job(gone.job_id)
    assert damaged.state is JobState.ABORTED
    assert "document-damaged" in damaged.reasons
    for since_us, count in ((damaged.finished_us, 1), (damaged.finished_us + 1, 0)):
        assert await spool.reader.look(depth.damaged, since_us) == count


@pytest.mark.parametrize("folder", ["bb", "cc"])
async def test_an_orphan_is_moved_aside_and_listed(spool, upkeep, folder):
    """A document that no job names is kept for a human, not deleted and not printed: one that was
    put into the wrong folder, too.
    """
    (spool.documents.dir / folder).mkdir()
    orphan = spool.documents.dir / folder / "bb01"
    orphan.write_bytes(b"whose?")
    await upkeep.recover(spool.wall_clock() + DAY_US)
    assert not orphan.exists()
    assert (spool.documents.quarantine_dir / "bb01").read_bytes() == b"whose?"
    last = (await spool.reader.records(spool.journal.head, 1))[0]
    assert (last.kind, last.payload) == ("document-quarantined", {"file": "bb01"})


async def test_a_young_file_is_on_its_way_and_left_alone(spool, upkeep):
    """Recovery does not race uploads that began after the start."""
    (spool.documents.dir / "bb").mkdir()
    young = spool.documents.dir / "bb" / "bb02"
    young.write_bytes(b"soon a job")
    await upkeep.recover(0)
    assert young.exists()


async def test_uploads_that_nobody_resumes_are_dropped(spool, upkeep):
    """An interrupted upload waits a day for its sender."""
    old, new = (spool.documents.incoming_dir / name for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    await upkeep.sweep()
    assert [old.exists(), new.exists()] == [False, True]


async def test_documents_go_first_then_jobs_and_waiting_jobs_never(spool, upkeep):
    """Retention takes the bytes after a day, the job after ten, and nothing that waits."""
    printer = await spool.add_printer()
    waiting = await spool.add_job(printer)
    done = await file_job(spool, printer, "cc01")
    await spool.journal.commit(ChangeJob(done.job_id, JobEvent.CANCEL, upkeep.clock[0]))
    await upkeep.sweep()
    assert spool.documents.path("cc01").exists()
    upkeep.clock[0] += 2 * DAY_US
    await upkeep.sweep()
    assert not spool.documents.path("cc01").exists()
    assert (await spool.reader.job(done.job_id)).document.stored == "gone"
    upkeep.clock[0] += 10 * DAY_US
    await upkeep.sweep()
    assert [job.id for job in await spool.reader.jobs(JobFilter())] == [waiting.job_id]


async def test_what_is_left_of_removed_jobs_goes_with_their_records(spool, upkeep, monkeypatch):
    """A stretch at each sweep; the uuid of a job that is there, and of one gone lately, stays."""
    monkeypatch.setattr(upkeep_module, "TOMBSTONES_AT_ONCE", 3)
    printer = await spool.add_printer()
    other = await spool.add_printer("other")
    old = [(await spool.add_job(printer)).job_id for _ in range(8)]
    moved = await spool.add_job(printer)
    to = ChangeJob(moved.job_id, JobEvent.MOVE, upkeep.clock[0], printer_id=other.id)
    await spool.journal.commit(to)

    async def left() -> set[int]:
        return {row[0] for row in await spool.reader._all("SELECT job_id FROM tombstone")}

    await spool.journal.commit_all(
        [ChangeJob(one, JobEvent.CANCEL, upkeep.clock[0]) for one in old]
    )
    upkeep.clock[0] += 11 * DAY_US
    await upkeep.sweep()
    upkeep.clock[0] += 29 * DAY_US
    await upkeep.sweep()
    assert await left() == {*old, moved.job_id}
    young = (await spool.add_job(printer)).job_id
    await spool.journal.commit(ChangeJob(young, JobEvent.CANCEL, upkeep.clock[0] - 12 * DAY_US))
    upkeep.clock[0] += 2 * DAY_US
    for _ in range(5):
        await upkeep.sweep()
    assert await left() == {moved.job_id, young}


async def test_charges_are_kept_for_a_year_and_more(spool, upkeep):
    """Then they are sums."""
    purses = await Purses(spool).start()
    ada = await purses.person(restricted=False)
    for number in range(3):
        now_us = upkeep.clock[0] + number * 100 * DAY_US
        await purses.reserve(b"%d" % number, ada, 1, now_us)
        await spool.journal.commit(Settle(b"%d" % number, None, now_us))
    for days, left in ((399, 3), (2, 2), (198, 1), (2, 0)):
        upkeep.clock[0] += days * DAY_US
        await upkeep.sweep()
        assert await spool.reader._all("SELECT count(*) FROM charge") == [(left,)]
        await purses.check()
    (used,) = await spool.reader.look(ledger_views.usage, By.USER, 0, 2**53, None, 9)
    assert (used.charges, used.amount) == (3, 3 * PAGE)


async def test_a_clock_that_jumps_ahead_takes_nothing_away(spool, upkeep):
    """What a jump would make too old stays, also over a restart, until the time is confirmed."""
    printer = await spool.add_printer()
    done = await spool.add_job(printer)
    await spool.journal.commit(ChangeJob(done.job_id, JobEvent.CANCEL, upkeep.clock[0]))
    await upkeep.sweep()
    upkeep.clock[0] += 100 * DAY_US
    upkeep.steady[0] -= 100 * 86_400
    await upkeep.sweep()
    assert await spool.reader.job(done.job_id)
    again = Upkeep(
        spool.journal,
        spool.reader,
        spool.documents,
        spool.store,
        lambda: upkeep.clock[0],
        lambda: upkeep.keep,
        lambda: upkeep.clock[0] / 1e6,
    )
    for hour in range(8):
        assert (await spool.reader.job(done.job_id) is not None) is (hour <= 6), hour
        await again.sweep()
        upkeep.clock[0] += 3600 * 1_000_000


async def test_the_quarantine_is_emptied_by_age_and_listed_before(spool, upkeep):
    """What was moved aside goes after its time, with a record each; what people put there stays."""
    folder = spool.documents.quarantine_dir
    for name in ("aa01", "bb02-01234567", "notes.txt"):
        (folder / name).write_bytes(b"whose?")
    await upkeep.sweep()
    head = spool.journal.head
    upkeep.clock[0] += 80 * DAY_US
    await upkeep.sweep()
    assert len(list(folder.iterdir())) == 3
    upkeep.clock[0] += 20 * DAY_US
    await upkeep.sweep()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    records = await spool.reader.records(head + 1, 10)
    assert [(one.kind, one.payload) for one in records] == [
        ("quarantine-removed", {"file": "aa01", "size": 6}),
        ("quarantine-removed", {"file": "bb02-01234567", "size": 6}),
    ]


async def test_a_surplus_of_finished_jobs_goes_oldest_first(spool, upkeep):
    """The number of finished jobs is bounded too."""
    printer = await spool.add_printer()
    ids = [(await spool.add_job(printer)).job_id for _ in range(5)]
    for number, job_id in enumerate(ids):
        await spool.journal.commit(
            ChangeJob(job_id, JobEvent.CANCEL, upkeep.clock[0] - 100 + number)
        )
    upkeep.keep.finished_jobs_max = 2
    await upkeep.sweep()
    assert [job.id for job in await spool.reader.jobs(JobFilter())] == ids[3:]


async def test_records_stay_for_a_cursor_that_has_not_read_them(spool, upkeep):
    """A slow reader of the journal holds records back; without it they go by age."""
    printer = await spool.add_printer()
    for _ in range(10):
        await spool.add_job(printer)
    await spool.journal.commit(PutCursor("reporting", 3, 1))
    upkeep.clock[0] += 40 * DAY_US
    await upkeep.sweep()
    assert await spool.reader.anchor() == 3
    assert (await spool.reader.records(1, 1))[0].position == 4


async def test_acknowledged_records_of_a_site_stay_for_thirty_days(spool, upkeep):
    """However short records are kept else: the application server may come back from a backup."""
    printer = await spool.add_printer()
    for _ in range(10):
        await spool.add_job(printer)
    head = spool.journal.head
    await spool.journal.commit(PutCursor("upstream", head, 1))
    upkeep.keep.records_s = 86_400
    upkeep.clock[0] += 29 * DAY_US
    await upkeep.sweep()
    assert await spool.reader.anchor() == 0
    await spool.journal.commit(PutCursor("upstream", 4, 1))
    upkeep.clock[0] += 2 * DAY_US
    await upkeep.sweep()
    assert await spool.reader.anchor() == 4


async def test_the_reserve_is_there(spool, upkeep, tmp_path):
    """Space is set aside for control, release and journal on a full disk."""
    await upkeep.sweep()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 16 * 1024 * 1024


async def job_of_files(spool, printer, names):
    job_id = (await spool.open_job(printer)).job_id
    for name in names:
        path = spool.documents.path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 300)
        document = NewDocument(300, "blake3:00", "text/plain", None, name)
        last = name == names[-1]
        await spool.journal.commit(
            AttachDocument(job_id, "address:127.0.0.1", document, 1, last=last)
        )
    return job_id


async def test_a_document_that_is_printed_already_is_not_missed(spool, upkeep):
    """The job goes on with the next one: what is gone is not needed any more."""
    printer = await spool.add_printer()
    job_id = await job_of_files(spool, printer, ["ac01", "ac02"])
    await spool.journal.commit(StartAttempt(job_id, printer.device_id, printer.id, 1))
    await spool.journal.commit(EndAttempt(job_id, 1, Delivered({}), JobEvent.DELIVER, (), 1))
    spool.documents.path("ac01").unlink()
    await upkeep.recover(spool.wall_clock() + DAY_US)
    assert (await spool.reader.job(job_id)).state is JobState.PENDING
    spool.documents.path("ac02").unlink()
    await upkeep.recover(spool.wall_clock() + DAY_US)
    assert (await spool.reader.job(job_id)).state is JobState.ABORTED


async def test_every_document_of_a_job_is_looked_after(spool, upkeep):
    """A missing one is damage, the others are no orphans, and all go when their time has come."""
    printer = await spool.add_printer()
    whole = await job_of_files(spool, printer, ["ab01", "ab02", "ab03"])
    broken = await job_of_files(spool, printer, ["ab04", "ab05"])
    spool.documents.path("ab05").unlink()
    await upkeep.recover(spool.wall_clock() + DAY_US)
    assert (await spool.reader.job(whole)).state is JobState.PENDING
    assert (await spool.reader.job(broken)).state is JobState.ABORTED
    assert spool.documents.quarantined() == {}
    await spool.journal.commit(ChangeJob(whole, JobEvent.CANCEL, upkeep.clock[0]))
    upkeep.keep.documents_bytes_max = 0
    upkeep.clock[0] += 1_000_000
    await upkeep.sweep()
    assert [path for path in spool.documents.dir.rglob("*") if path.is_file()] == []
    assert [one.stored for one in await spool.reader.documents(whole)] == ["gone"] * 3


async def test_no_more_documents_go_than_must(spool, upkeep):
    """Of those beyond the bytes that may stay the oldest go, and no other one."""
    printer = await spool.add_printer()
    jobs = [(await file_job(spool, printer, f"aa0{number}")).job_id for number in range(5)]
    for job_id in jobs:
        upkeep.clock[0] += 1_000_000
        await spool.journal.commit(ChangeJob(job_id, JobEvent.CANCEL, upkeep.clock[0]))
    upkeep.clock[0] += 1_000_000
    upkeep.keep.documents_bytes_max = 700
    await upkeep.sweep()
    stored = [(await spool.reader.job(job_id)).document.stored for job_id in jobs]
    assert stored == ["gone"] * 3 + ["file"] * 2


async def test_what_nobody_fetches_is_canceled(spool, upkeep):
    """After the time of its printer, by a clock that is believed; other jobs stay held."""
    safe = await spool.add_printer("safe", release=ReleaseMode.HOLD, keep_held_s=3600)
    for_ever = await spool.add_printer("slow", "file:///s", release=ReleaseMode.HOLD, keep_held_s=0)
    plain = await spool.add_printer("plain", "file:///plain")
    fetched = (await spool.add_job(safe)).job_id
    kept = (await spool.add_job(for_ever)).job_id
    held = (await spool.add_job(plain, state=JobState.PENDING_HELD, reasons=("x",))).job_id
    await upkeep.sweep()
    upkeep.clock[0] += 3601 * 1_000_000
    await upkeep.sweep()
    job = await spool.reader.job(fetched)
    assert (job.state, job.reasons) == (JobState.CANCELED, ("job-canceled-after-timeout",))
    for job_id in (kept, held):
        assert (await spool.reader.job(job_id)).state is JobState.PENDING_HELD


async def test_a_clock_that_jumps_deletes_nothing_that_waits(spool, upkeep):
    """A year ahead all of a sudden is no reason to delete."""
    safe = await spool.add_printer("safe", release=ReleaseMode.HOLD, keep_held_s=3600)
    job_id = (await spool.add_job(safe)).job_id
    await upkeep.sweep()
    upkeep.clock[0] += 365 * DAY_US
    upkeep.steady[0] -= 365 * 86_400
    await upkeep.sweep()
    assert (await spool.reader.job(job_id)).state is JobState.PENDING_HELD
