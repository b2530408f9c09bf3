"""What keeps a spool healthy: recovery after a start, retention, the reserve.

Damaged things are moved to `quarantine/` and listed, never deleted; records are never pruned past
a cursor that has not acknowledged them. Everything works in small steps beside the daily work.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog
import trio

from spoold.model import policy
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import JobReason, JobState
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent
from spoold.spool import carrying, jobs, received, release, sending
from spoold.spool.documents import Documents
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import SqliteStore
from spoold.spool.store import (
    AddRecord,
    CarryLedger,
    Change,
    ChangeJob,
    ForgetTombstones,
    PruneReceived,
    PruneRecords,
    RemoveJobs,
)

log = structlog.get_logger("spoold.spool")

STEP = 200  # rows of one small transaction
RESUMABLE_S = 24 * 3600.0  # how long an interrupted upload waits for its sender
PRUNED_AT_ONCE = 2000  # records of another node
CARRIED_AT_ONCE = 200  # entries of the ledger
TOMBSTONES_AT_ONCE = 5000  # that are looked at
ACKNOWLEDGED_S = 30 * 86_400.0
WITNESS_INTERVAL_S = 5.0
DOCUMENT_NAME = re.compile(r"[0-9a-f]{4,}(-[0-9a-f]{8})?")


class Retention(Protocol):
    """How long finished jobs, their documents and records are kept; see the configuration."""

    @property
    def finished_jobs_s(self) -> float: ...
    @property
    def finished_jobs_max(self) -> int: ...
    @property
    def documents_s(self) -> float: ...
    @property
    def documents_bytes_max(self) -> int: ...
    @property
    def records_s(self) -> float: ...
    @property
    def charges_s(self) -> float: ...
    @property
    def quarantine_s(self) -> float: ...
    @property
    def sweep_interval_s(self) -> float: ...


class Upkeep:
    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        documents: Documents,
        store: SqliteStore,
        wall_clock: Callable[[], int],
        retention: Callable[[], Retention],
        monotonic_s: Callable[[], float] = trio.current_time,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._documents = documents
        self._store = store
        self._clock = wall_clock
        self._retention = retention
        self._monotonic_s = monotonic_s
        self._tombstone = b""  # behind which uuid the next sweep looks
        self._clock_file = documents.dir.parent / "clock"
        self.expiry = policy.ExpiryClock(_read_clock(self._clock_file))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover what a crash left, then sweep at every interval."""
        started_us = self._clock()
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_witness)
            is_recovered = False
            while True:
                try:
                    if not is_recovered:
                        await self.recover(started_us)
                        is_recovered = True
                    await self.sweep()
                except SpoolFull as error:  # removing takes room, too; the next time there may be
                    log.error("upkeep_hindered", detail=str(error))
                await trio.sleep(self._retention().sweep_interval_s)

    async def _keep_witness(self) -> None:
        seen = 0
        while True:
            await trio.sleep(WITNESS_INTERVAL_S)
            if self._journal.head != seen:
                seen = self._journal.head
                await trio.to_thread.run_sync(self._store.sync_witness)

    # -- recovery ----------------------------------------------------------------------------

    async def recover(self, started_us: int) -> None:
        """Settle the differences between files and rows that a crash left.

        Only files from before `started_us` are looked at: younger ones may be on their way.
        """
        known: set[str] = set()
        after = ""
        while True:
            rows = await self._reader.document_files(after, 1000)
            for file, job_id, number, size in rows:
                known.add(file)
                problem = await trio.to_thread.run_sync(self._missing, file, size)
                if problem:
                    await self._damaged(job_id, number, file, problem)
            if len(rows) < 1000:
                break
            after = rows[-1][0]
        for orphan in await trio.to_thread.run_sync(self._orphans, started_us, known):
            if await self._is_named(orphan.name):
                continue  # committed since the listing began
            await trio.to_thread.run_sync(self._quarantine, orphan)
            log.error("document_quarantined", file=orphan.name, detail="no job names it")
            await self._journal.commit(
                AddRecord(Kind.DOCUMENT_QUARANTINED, {"file": orphan.name}, self._clock())
            )

    def _drop_stale_uploads(self, now_us: int) -> int:
        """In a thread: drop uploads that nobody has resumed for a day. Returns how many."""
        dropped = 0
        for entry in os.scandir(self._documents.incoming_dir):
            with contextlib.suppress(FileNotFoundError):  # it has become a document meanwhile
                since_us = entry.stat(follow_symlinks=False).st_mtime_ns // 1000
                is_old = policy.is_expired(now_us, since_us, RESUMABLE_S)
                if is_old and not self._documents.is_busy(entry.name):
                    os.unlink(entry.path)
                    dropped += 1
        return dropped

    def _missing(self, file: str, size: int) -> str:
        try:
            found = self._documents.path(file).stat().st_size
        except FileNotFoundError:
            return "the document is missing"
        return "" if found == size else f"the document has {found} bytes instead of {size}"

    async def _damaged(self, job_id: int, number: int, file: str, problem: str) -> None:
        """Nothing is printed of a job that lacks a document which is still to be printed."""
        log.error("document_damaged", job_id=job_id, document=number, file=file, detail=problem)
        job = await self._reader.job(job_id)
        if job is None or number < job.document_number:
            return
        try:
            await self._journal.commit(
                ChangeJob(
                    job_id,
                    JobEvent.DAMAGE,
                    self._clock(),
                    reasons=(JobReason.ABORTED_BY_SYSTEM, JobReason.DOCUMENT_DAMAGED),
                    message=problem,
                )
            )
        except OperationError:
            pass  # finished: there is nothing left to print

    def _orphans(self, started_us: int, known: set[str]) -> list[Path]:
        """In a thread: what no job names; also what somebody has put into a wrong folder."""
        found: list[Path] = []
        for folder in os.scandir(self._documents.dir):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for entry in os.scandir(folder.path):
                made_us = entry.stat(follow_symlinks=False).st_ctime_ns // 1000
                if entry.name not in known and made_us < started_us:
                    found.append(Path(entry.path))
        return found

    async def _is_named(self, file: str) -> bool:
        rows = await self._reader.document_files(file[:-1], 10)
        return any(row[0] == file for row in rows)

    def _quarantine(self, orphan: Path) -> None:
        orphan.rename(self._documents.quarantine_dir / orphan.name)

    # -- retention ---------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Remove what its time has come for, keep the reserve, and copy the log back."""
        now_us = await self._expiry_us()
        keep = self._retention()
        stale = await trio.to_thread.run_sync(self._drop_stale_uploads, now_us)
        if stale:
            log.info("uploads_dropped", count=stale)
        await self._drop_unfetched(now_us)
        await self._remove(policy.older_than_us(now_us, keep.finished_jobs_s), False)
        await self._remove(policy.older_than_us(now_us, keep.documents_s), True)
        await self._remove_surplus(self._clock(), keep)
        await self._prune(now_us, keep.records_s)
        await self._prune_received(now_us, keep.records_s)
        await self._forget_tombstones(policy.older_than_us(now_us, keep.records_s))
        await self._carry(policy.older_than_us(now_us, keep.charges_s))
        await self._empty_quarantine(now_us, keep.quarantine_s)
        try:
            await self._journal.call(self._store.keep_reserve)
        except OSError as error:
            log.warning("reserve_missing", detail=str(error))
        await self._journal.call(self._store.tidy)

    async def _drop_unfetched(self, now_us: int) -> None:
        """Cancel jobs that nobody has released for as long as their printer keeps them."""
        for printer in await self._reader.printers():
            if not printer.keep_held_s:
                continue
            before_us = policy.older_than_us(now_us, printer.keep_held_s)
            while ids := await self._reader.look(release.unfetched, printer.id, before_us, STEP):
                changes: list[Change] = [
                    ChangeJob(
                        job_id,
                        JobEvent.CANCEL,
                        self._clock(),
                        reasons=(JobReason.JOB_CANCELED_AFTER_TIMEOUT,),
                        message="Nobody fetched it in time.",
                        only_from=(JobState.PENDING_HELD,),
                    )
                    for job_id in ids
                ]
                answers = await self._journal.commit_all(changes)
                gone = sum(isinstance(one, JobState) for one in answers)
                log.info("held_jobs_expired", printer=printer.name, count=gone)
                if not gone:
                    break  # they were released in this moment

    async def _expiry_us(self) -> int:
        """The time by which things expire; a clock that jumped is told of, once."""
        clock = self.expiry
        was_doubtful, was_set_back = clock.is_doubtful, clock.set_back_s > 0
        now_us = clock.look(self._clock(), self._monotonic_s())
        if clock.is_doubtful and not was_doubtful:
            log.error(
                "clock_jumped",
                ahead_s=round(clock.ahead_s),
                detail=f"Nothing expires by it for {policy.CONFIRMED_AFTER_S / 3600:.0f} h. "
                "Set the clock right, or leave it so if it is.",
            )
        elif was_doubtful and not clock.is_doubtful:
            log.info("clock_believed")
        if clock.set_back_s and not was_set_back:
            log.warning("clock_set_back", by_s=round(clock.set_back_s))
        await trio.to_thread.run_sync(_write_clock, self._clock_file, now_us)
        return now_us

    async def _empty_quarantine(self, now_us: int, keep_s: float) -> None:
        """Remove what lies there for too long; the journal lists each file before it goes."""
        for name, size in await trio.to_thread.run_sync(self._quarantined, now_us, keep_s):
            payload = {"file": name, "size": size}
            await self._journal.commit(AddRecord(Kind.QUARANTINE_REMOVED, payload, self._clock()))
            log.warning("quarantine_removed", file=name, bytes=size)
            await trio.to_thread.run_sync((self._documents.quarantine_dir / name).unlink, True)

    def _quarantined(self, now_us: int, keep_s: float) -> list[tuple[str, int]]:
        """In a thread: the files that were moved aside longer ago than `keep_s`, with their size.

        A file that a person put there is none of ours, unless it has the name of a document.
        """
        found = []
        for entry in os.scandir(self._documents.quarantine_dir):
            status = entry.stat(follow_symlinks=False)
            moved_us = status.st_ctime_ns // 1000
            is_ours = stat.S_ISREG(status.st_mode) and DOCUMENT_NAME.fullmatch(entry.name)
            if is_ours and policy.is_expired(now_us, moved_us, keep_s):
                found.append((entry.name, status.st_size))
        return sorted(found)

    async def _remove(self, before_us: int, documents_only: bool) -> None:
        while True:
            if documents_only:
                ids = [job_id for job_id, _ in await self._reader.kept_before(before_us, STEP)]
            else:
                ids = await self._reader.finished_before(before_us, STEP)
            if not ids:
                return
            await self._forget(ids, documents_only)

    async def _forget(self, ids: list[int], documents_only: bool) -> None:
        files: list[str] = await self._journal.commit(
            RemoveJobs(tuple(ids), self._clock(), documents_only)
        )
        for file in files:
            await trio.to_thread.run_sync(self._documents.remove, file)

    async def _remove_surplus(self, now_us: int, keep: Retention) -> None:
        """Beyond the number of jobs and the bytes of documents that may stay: oldest first."""
        jobs, size = await self._reader.finished_totals()
        while jobs > keep.finished_jobs_max:
            ids = await self._reader.finished_before(
                now_us, min(STEP, jobs - keep.finished_jobs_max)
            )
            if not ids:
                break
            await self._forget(ids, False)
            jobs -= len(ids)
        while size > keep.documents_bytes_max:
            ids = []
            found = await self._reader.kept_before(now_us, STEP)
            for job_id, of_job in found:
                if size > keep.documents_bytes_max:
                    ids.append(job_id)
                    size -= of_job
            if not ids:
                break
            await self._forget(ids, True)

    async def _forget_tombstones(self, before_us: int) -> None:
        """A stretch of them at each sweep: they have no order in time."""
        look = (self._tombstone, TOMBSTONES_AT_ONCE, before_us)
        found = await self._reader.look(jobs.old_tombstones, *look)
        self._tombstone = found.last or b""
        for start in range(0, len(found.due), STEP):
            await self._journal.commit(ForgetTombstones(found.due[start : start + STEP]))

    async def _prune(self, now_us: int, keep_s: float) -> None:
        """Forget old records, but none that a cursor has still to read.

        What an application server has acknowledged stays for a while, too: it may be restored.
        """
        cursors = await self._reader.cursors()
        if sending.CURSOR in cursors:
            keep_s = max(keep_s, ACKNOWLEDGED_S)
        last = await self._reader.record_before(policy.older_than_us(now_us, keep_s), now_us)
        last = min([last, *cursors.values()])
        if last > await self._reader.anchor():
            await self._journal.commit(PruneRecords(last + 1, self._clock()))

    async def _prune_received(self, now_us: int, keep_s: float) -> None:
        """Forget old records of other nodes; what they changed here stays, and their positions."""
        before_us = policy.older_than_us(now_us, keep_s)
        for standing in await self._reader.look(received.standings):
            while last := await self._reader.look(
                received.last_before, standing.chain_id, before_us, PRUNED_AT_ONCE, now_us
            ):
                await self._journal.commit(PruneReceived(standing.chain_id, last, self._clock()))

    async def _carry(self, before_us: int) -> None:
        """Add up what was booked long ago; balances and usage by month stay."""
        after_id = 0
        while True:
            most, now_us = CARRIED_AT_ONCE, self._clock()
            found = await self._reader.look(carrying.due, before_us, after_id, most, now_us)
            if found.entries:
                await self._journal.commit(CarryLedger(before_us, after_id, most, now_us))
            if not found.last_id:
                return
            after_id = found.last_id


def _read_clock(path: Path) -> int | None:
    """What was believed of the time when spoold last ran here."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _write_clock(path: Path, now_us: int) -> None:
    """Not synced, and not missed: without it the clock is believed."""
    with contextlib.suppress(OSError):
        new = path.with_name(path.name + ".new")
        new.write_text(f"{now_us}\n", "ascii")
        new.rename(path)
