"""The store's contract: what a commit promises, and what refusals leave behind."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from uuid import uuid4

import pytest
import trio

from spoold.model.errors import OperationError, SpoolError
from spoold.model.job import JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.store import (
    AddRecord,
    ChangeJob,
    EndAttempt,
    JobFilter,
    JobMoved,
    PruneRecords,
    PutCursor,
    PutPrinter,
    PutProvider,
    RemoveCursor,
    RemoveJobs,
    RemovePrinter,
    RevokeProvider,
    StartAttempt,
)
from support.chain import verified


async def test_an_accepted_job_is_there_after_reopening(tmp_path, spool_at):
    """What was answered survives: bytes, attributes, number."""
    async with spool_at(tmp_path) as spool:
        printer = await spool.add_printer()
        accepted = await spool.add_job(
            printer,
            b"a letter",
            "mara",
            title="Letter",
            copies=2,
            attributes={"sides": "one-sided"},
        )
    async with spool_at(tmp_path) as spool:
        job = await spool.reader.job(accepted.job_id)
        assert (job.uuid, job.title, job.owner.name) == (accepted.uuid, "Letter", "mara")
        assert (job.copies, job.attributes) == (2, {"sides": "one-sided"})
        assert job.state is JobState.PENDING
        assert await spool.reader.document_body(job.id) == b"a letter"
        assert [one.job_id for one in await spool.reader.waiting()] == [accepted.job_id]


async def test_ids_grow_and_are_not_used_again_after_removal(tmp_path, spool_at):
    """A number names one job for ever, also when the job is forgotten and spoold restarts."""
    async with spool_at(tmp_path) as spool:
        printer = await spool.add_printer()
        first = await spool.add_job(printer)
        await spool.journal.commit(ChangeJob(first.job_id, JobEvent.CANCEL, 1))
        await spool.journal.commit(RemoveJobs((first.job_id,), 2))
        assert await spool.reader.job(first.job_id) is None
    async with spool_at(tmp_path) as spool:
        second = await spool.add_job((await spool.reader.printers())[0])
        assert second.job_id == first.job_id + 1


async def test_the_same_uuid_is_one_job(spool):
    """A repeated submission gets the first answer, at once, later, and after the job is gone."""
    printer = await spool.add_printer()
    uuid = uuid4()
    answers = []

    async def submit():
        answers.append(await spool.add_job(printer, uuid=uuid))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(submit)
    assert len({answer.job_id for answer in answers}) == 1
    assert [answer.is_duplicate for answer in answers].count(False) == 1
    job_id = answers[0].job_id
    await spool.journal.commit(ChangeJob(job_id, JobEvent.CANCEL, 1))
    await spool.journal.commit(RemoveJobs((job_id,), 2))
    again = await spool.add_job(printer, uuid=uuid)
    assert (again.job_id, again.is_duplicate) == (job_id, True)
    assert await spool.reader.jobs(JobFilter()) == []


async def test_a_moved_job_still_answers_its_uuid(spool):
    """Moving a job does not turn a repeated submission into a conflict or a second job."""
    printer, other = await spool.add_printer(), await spool.add_printer("other")
    uuid = uuid4()
    first = await spool.add_job(printer, uuid=uuid)
    await spool.journal.commit(ChangeJob(first.job_id, JobEvent.MOVE, 1, printer_id=other.id))
    assert (await spool.add_job(printer, uuid=uuid)).job_id == first.job_id
    with pytest.raises(OperationError, match="used before"):
        await spool.add_job(other, uuid=uuid)


async def test_the_same_uuid_for_another_job_is_refused(spool):
    """Another printer under a known uuid is a conflict, and shows nothing of the first job."""
    printer, other = await spool.add_printer(), await spool.add_printer("other")
    uuid = uuid4()
    await spool.add_job(printer, title="secret plans", uuid=uuid)
    with pytest.raises(OperationError) as refusal:
        await spool.add_job(other, uuid=uuid)
    assert refusal.value.code == "conflict"
    assert "secret" not in str(refusal.value)


async def test_a_refused_change_leaves_the_others_of_its_group_alone(spool):
    """One client's impossible wish costs nobody else a commit."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    answers = await spool.journal.commit_all(
        [
            ChangeJob(job.job_id, JobEvent.HOLD, 1),
            ChangeJob(9999, JobEvent.HOLD, 1),
            ChangeJob(job.job_id, JobEvent.DELIVER, 1),
            ChangeJob(job.job_id, JobEvent.RELEASE, 1),
        ]
    )
    assert answers[0] is JobState.PENDING_HELD
    assert answers[1].code == "not-found"
    assert answers[2].code == "not-possible"
    assert answers[3] is JobState.PENDING


async def test_attempts_tell_what_may_have_left(tmp_path, spool_at):
    """An attempt that a crash cut short is open; one that ended says how."""
    async with spool_at(tmp_path) as spool:
        printer = await spool.add_printer()
        done, cut = await spool.add_job(printer), await spool.add_job(printer)
        number = await spool.journal.commit(
            StartAttempt(done.job_id, printer.device_id, printer.id, 1)
        )
        state = await spool.journal.commit(
            EndAttempt(
                done.job_id,
                number,
                Delivered({"method": "half-close", "bytes": 5}),
                JobEvent.DELIVER,
                ("job-completed-successfully",),
                2,
            )
        )
        assert state is JobState.COMPLETED
        await spool.journal.commit(StartAttempt(cut.job_id, printer.device_id, printer.id, 3))
    async with spool_at(tmp_path) as spool:
        assert [one.job_id for one in await spool.reader.open_attempts()] == [cut.job_id]
        (attempt,) = await spool.reader.attempts(done.job_id)
        assert (attempt.outcome, attempt.bytes_sent) == ("delivered", 5)
        assert attempt.evidence["method"] == "half-close"
        assert (await spool.reader.job(done.job_id)).attempts == 1


async def test_a_job_that_is_not_pending_cannot_be_attempted(spool):
    """A cancel that won the race keeps its job from printing."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    await spool.journal.commit(ChangeJob(job.job_id, JobEvent.CANCEL, 1))
    with pytest.raises(OperationError, match="canceled"):
        await spool.journal.commit(StartAttempt(job.job_id, printer.device_id, printer.id, 2))


async def test_a_job_that_was_moved_is_not_attempted_where_it_was(spool):
    """A move that won the race keeps its job from printing on the printer it left."""
    printer, other = await spool.add_printer(), await spool.add_printer("other")
    job = await spool.add_job(printer)
    await spool.journal.commit(ChangeJob(job.job_id, JobEvent.MOVE, 1, printer_id=other.id))
    with pytest.raises(OperationError, match="moved"):
        await spool.journal.commit(StartAttempt(job.job_id, printer.device_id, printer.id, 2))
    member = await spool.add_printer("member")
    start = StartAttempt(job.job_id, member.device_id, member.id, 3, queue_id=other.id)
    assert await spool.journal.commit(start) == 1


async def test_doubt_and_deferral_are_kept(spool):
    """An outcome's reason and detail are there for the operator."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    for outcome, event, state in [
        (Deferred("device-busy", "refused"), JobEvent.DEFER, JobState.PENDING),
        (InDoubt("reset", "cut", 700), JobEvent.DOUBT, JobState.PENDING_HELD),
    ]:
        number = await spool.journal.commit(
            StartAttempt(job.job_id, printer.device_id, printer.id, 1)
        )
        assert state is await spool.journal.commit(
            EndAttempt(job.job_id, number, outcome, event, (), 2)
        )
    first, second = await spool.reader.attempts(job.job_id)
    assert (first.reason, first.detail) == ("device-busy", "refused")
    assert (second.outcome, second.bytes_sent) == ("in-doubt", 700)


async def test_the_chain_holds_and_a_changed_record_breaks_it(tmp_path, spool_at):
    """Positions have no gaps, every hash follows from the one before, tampering shows."""
    async with spool_at(tmp_path) as spool:
        printer = await spool.add_printer()
        for _ in range(20):
            await spool.add_job(printer, owner="mara")
        records = await spool.reader.records(1, 1000)
        assert [one.position for one in records] == list(range(1, spool.journal.head + 1))
        assert await verified(spool.reader, 7) == spool.journal.head
        target = records[9].position
    with sqlite3.connect(tmp_path / "spool.db") as db:
        where = "WHERE id = (1 << 40) + ?"
        (payload,) = db.execute(f"SELECT payload FROM record {where}", (target,)).fetchone()
        changed = payload.replace(b"raw", b"lpd")
        assert changed != payload
        db.execute(f"UPDATE record SET payload = ? {where}", (changed, target))
    db.close()
    async with spool_at(tmp_path) as spool:
        assert await verified(spool.reader) == target - 1


async def test_erasing_the_personal_part_leaves_the_chain_whole(tmp_path, spool_at):
    """A person can be forgotten, and the journal still verifies."""
    async with spool_at(tmp_path) as spool:
        await spool.add_job(await spool.add_printer(), owner="mara", title="Letter to mara")
        head = spool.journal.head
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("UPDATE record SET personal = NULL")
        stored = db.execute("SELECT header, payload FROM record").fetchall()
    db.close()
    assert not any(b"mara" in part for row in stored for part in row)
    async with spool_at(tmp_path) as spool:
        assert await verified(spool.reader) == head


async def test_pruning_leaves_an_anchor_that_the_rest_hangs_on(spool):
    """Old records go; what is left still verifies from the anchor's hash."""
    printer = await spool.add_printer()
    for _ in range(10):
        await spool.add_job(printer)
    assert await spool.journal.commit(PruneRecords(6, 1)) == 5
    assert await spool.reader.anchor() == 5
    assert (await spool.reader.records(1, 100))[0].position == 6
    assert await verified(spool.reader) == spool.journal.head


async def test_a_rolled_back_spool_begins_a_new_incarnation(tmp_path, spool_at):
    """A restored copy never repeats a position or a job id that may be known elsewhere."""
    live, old = tmp_path / "live", tmp_path / "old"
    live.mkdir()
    async with spool_at(live) as spool:
        printer = await spool.add_printer()
        await spool.add_job(printer)
    shutil.copytree(live, old)
    async with spool_at(live) as spool:
        lost = await spool.add_job(printer)
        first = spool.journal.identity
    (live / "spool.db").write_bytes((old / "spool.db").read_bytes())
    for name in ("spool.db-wal", "spool.db-shm"):
        (live / name).unlink(missing_ok=True)
    async with spool_at(live) as spool:
        journal, incarnation = spool.journal.identity
        assert (journal, incarnation != first[1]) == (first[0], True)
        again = await spool.add_job(printer)
        assert again.job_id > lost.job_id + 999_999
        assert (await spool.reader.records(1, 1))[0].position == 1


async def test_a_spool_of_a_newer_spoold_is_refused_with_advice(tmp_path, spool_at):
    """A downgrade says so instead of guessing."""
    async with spool_at(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SpoolError, match="newer spoold"):
        async with spool_at(tmp_path):
            pass


async def test_a_file_that_is_no_spool_is_left_alone(tmp_path, spool_at):
    """Somebody else's database, and plain rubbish, are refused and not touched."""
    path = tmp_path / "spool.db"
    path.write_bytes(b"not a database" * 500)
    before = path.read_bytes()
    with pytest.raises(SpoolError):
        async with spool_at(tmp_path):
            pass
    assert path.read_bytes() == before


async def test_printers_with_jobs_stay_and_empty_ones_go(spool):
    """Removing a printer never removes jobs, and frees its name."""
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    with pytest.raises(OperationError, match="not finished on default: 1"):
        await spool.journal.commit(RemovePrinter(printer.id, 1))
    await spool.journal.commit(ChangeJob(job.job_id, JobEvent.CANCEL, 2))
    await spool.journal.commit(RemovePrinter(printer.id, 3))
    assert await spool.reader.printers() == []
    with pytest.raises(OperationError) as refusal:
        await spool.add_job(printer)
    assert refusal.value.code == "not-found"
    again = await spool.add_printer()
    assert again.id != printer.id
    assert (await spool.reader.job(job.job_id)).printer_id == printer.id


async def test_two_printers_cannot_have_one_name(spool):
    """A second printer of the same name is refused."""
    printer = await spool.add_printer()
    with pytest.raises(OperationError, match="already"):
        await spool.add_printer()
    assert await spool.reader.printers() == [printer]


async def test_a_changed_printer_keeps_its_identity(spool):
    """Renaming keeps id, guid and jobs."""
    from dataclasses import replace

    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    await spool.journal.commit(PutPrinter(replace(printer, name="front"), 1))
    (found,) = await spool.reader.printers()
    assert (found.name, found.guid, found.id) == ("front", printer.guid, printer.id)
    assert (await spool.reader.job(job.job_id)).printer_id == found.id


async def test_revoking_a_provider_names_all_its_serials(spool):
    """Every certificate that a provider ever had is refused from then on."""
    guid = uuid4()
    for serial in ("aa", "bb"):
        await spool.journal.commit(PutProvider(guid, "print-1", serial, ("*",), 10, 1))
    assert sorted(await spool.journal.commit(RevokeProvider("print-1", 2))) == ["aa", "bb"]
    assert sorted(await spool.reader.revoked_serials()) == ["aa", "bb"]
    (provider,) = await spool.reader.providers()
    assert provider.revoked
    with pytest.raises(OperationError, match="revoked"):
        await spool.journal.commit(PutProvider(guid, "print-1", "cc", ("*",), 10, 3))


async def test_cursors_move_and_never_pass_the_end(spool):
    """A cursor is durable, moves both ways, and cannot acknowledge what is not there."""
    position = await spool.journal.commit(AddRecord("node-started", {}, 1))
    await spool.journal.commit(PutCursor("reporting", position, 2))
    assert await spool.reader.cursors() == {"reporting": position}
    with pytest.raises(OperationError):
        await spool.journal.commit(PutCursor("reporting", position + 1, 3))
    await spool.journal.commit(RemoveCursor("reporting", 4))
    assert await spool.reader.cursors() == {}


async def test_listings_come_in_pages(spool):
    """Each page goes on after the key of the one before, in both directions."""
    printer = await spool.add_printer()
    ids = [(await spool.add_job(printer, title=f"Report {n}")).job_id for n in range(7)]
    seen = []
    after = 0
    while page := await spool.reader.jobs(JobFilter(limit=3, after_id=after)):
        seen += [job.id for job in page]
        after = page[-1].id
    assert seen == ids
    newest = await spool.reader.jobs(JobFilter(limit=2, newest_first=True))
    assert [job.id for job in newest] == ids[:-3:-1]
    (one,) = await spool.reader.jobs(JobFilter(title="REPORT 4"))
    assert one.id == ids[4]
    overview = await spool.add_job(printer, title="Quarterly Übersicht")
    (one,) = await spool.reader.jobs(JobFilter(title="u\u0308BERS"))  # its accent by itself
    assert one.id == overview.job_id
    assert await spool.reader.jobs(JobFilter(owner="nobody-here")) == []


async def test_events_come_in_commit_order_before_the_answer(spool):
    """Whoever schedules hears of a job before its submitter does."""
    heard = []
    spool.journal.listen(lambda events: heard.extend(events))
    printer = await spool.add_printer()
    job = await spool.add_job(printer)
    assert heard[-1] == JobMoved(
        job.job_id, job.uuid, printer.id, None, JobState.PENDING, (), 50, "", 5, job.position
    )


async def test_a_cancelled_commit_is_found_again(spool):
    """Whoever hangs up does not undo a change that was taken."""
    printer = await spool.add_printer()
    uuid = uuid4()
    with trio.move_on_after(0.0) as scope:
        scope.deadline = trio.current_time() + 0.0002
        await spool.add_job(printer, uuid=uuid)
    again = await spool.add_job(printer, uuid=uuid)
    assert await spool.reader.job_by_uuid(uuid) is not None
    assert len(await spool.reader.jobs(JobFilter())) == 1
    assert again.job_id == 1


async def test_a_look_of_several_statements_sees_one_state(spool):
    """What is committed between two of them is for the next look."""
    printer = await spool.add_printer()
    is_begun, may_end = threading.Event(), threading.Event()
    seen = []

    def count(db):
        (jobs,) = db.execute("SELECT count(*) FROM job").fetchone()
        return jobs

    def look(db):
        before = count(db)
        is_begun.set()
        assert may_end.wait(30)
        return before, count(db)

    async def look_on():
        seen.append(await spool.reader.look(look))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_on)
        await trio.to_thread.run_sync(is_begun.wait, 30)
        await spool.add_job(printer)
        may_end.set()
    assert seen == [(0, 0)]
    assert await spool.reader.look(count) == 1


async def test_nobody_waits_behind_a_report(spool):
    """While one goes through everything there is, others look, also at what is committed then."""
    is_begun, may_end = threading.Event(), threading.Event()

    def go_through_all(db):
        is_begun.set()
        assert may_end.wait(30)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(spool.reader.report, go_through_all)
        await trio.to_thread.run_sync(is_begun.wait, 30)
        await spool.add_printer("frontdesk")
        names = []
        with trio.move_on_after(20):
            names = [one.name for one in await spool.reader.printers()]
        may_end.set()
    assert names == ["frontdesk"]
