"""Counts what is in held jobs, beside the loop, and has those cleared that print at once.

In: what the journal tells of jobs that wait for a release, or to be counted; at the start those
that are found uncounted in the spool. Out: `CountJob` for each document, and then, for a job that
waits for nothing else, its clearing. Only jobs of printers that hold or charge are looked at. What
waits is bounded: beyond that the spool itself is the list, and is looked through again.

A job that only lacked money, or somebody who pays, is cleared again when there may be: after its
owner was changed or has other money, after a shared account was changed or has, with an allowance,
after its printer was changed, and now and then, as periods begin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog
import trio

from spoold.codec.pages.contents import Contents, Reason, unknown
from spoold.counting.counter import CountsPages
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.job import AWAITS_RELEASE, LACKS_PAYMENT, Document, Job, JobReason, JobState
from spoold.model.printer import ANY_FORMAT, Printer
from spoold.model.release import Charging
from spoold.model.transitions import JobEvent
from spoold.release.counting import count_of, read_contents
from spoold.spool import accounts
from spoold.spool import release as held
from spoold.spool.crashpoint import crash_point
from spoold.spool.store import (
    AccountChanged,
    BalanceChanged,
    Change,
    ChangeJob,
    CountJob,
    Event,
    JobMoved,
    MoneyCame,
    PrinterChanged,
    UserChanged,
)

log = structlog.get_logger("spoold.release")

T = TypeVar("T")
DUE_MAX = 10_000
AT_ONCE = 4  # jobs that are counted or cleared at once; the counter has workers of its own
SCAN_JOBS = 500
FULL_S = 5.0  # after a full disk
LOOK_AGAIN_S = 300.0  # for jobs that somebody can pay for by now
_COUNTED = JobReason.JOB_BEING_COUNTED.value
_WAITS = JobReason.JOB_RELEASE_WAIT.value


class Journal(Protocol):
    async def commit(self, change: Change) -> Any: ...
    def listen(self, callback: Callable[[list[Event]], None]) -> None: ...
    def unlisten(self, callback: Callable[[list[Event]], None]) -> None: ...


class Reader(Protocol):
    async def job(self, job_id: int) -> Job | None: ...
    async def documents(self, job_id: int) -> list[Document]: ...
    async def document_body(self, job_id: int, number: int = 1) -> bytes | None: ...
    async def files_of(self, job_id: int) -> list[str]: ...
    async def look(self, look_up: Callable[..., T], *values: Any) -> T: ...


class Files(Protocol):
    def path(self, file: str) -> Path: ...


class Known(Protocol):
    @property
    def printers(self) -> Mapping[int, Printer]: ...


class Catalogue(Protocol):
    async def look(self) -> Known: ...


class Clears(Protocol):
    async def clear(self, job: Job) -> None:
        """Let a job that was counted print, or say on it why not."""
        ...

    async def can_be_paid(self, job: Job) -> bool:
        """Whether there is enough money for a job by now."""
        ...


class Counts:
    """One for a node. `run` is its life; `count` counts one job at once for who waits for it."""

    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        files: Files,
        counter: CountsPages,
        printers: Catalogue,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._files = files
        self._counter = counter
        self._printers = printers
        self._wall_clock = wall_clock
        self._due: dict[int, None] = {}
        # Whose money, or who, has changed, None: many; and which printers have.
        self._changed: dict[UUID | None, None] = {}
        self._changed_printers: dict[int, None] = {}
        self._clearing: dict[int, trio.Event] = {}  # jobs of which it is being found out who pays
        self._mine: int | None = None  # of them the one that is looked at again
        self._busy: dict[int, trio.Event] = {}
        self._is_behind = True  # jobs in the spool may wait that are not in `_due`
        self._bell = trio.Event()

    # -- what waits ------------------------------------------------------------------------------

    async def run(
        self, clears: Clears, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Count and have cleared until cancelled.

        Raises:
            StoreFailed: the journal failed; the daemon must stop.
        """
        self._journal.listen(self._hear)
        try:
            task_status.started()
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(self._work, clears)
                nursery.start_soon(self._scan)
                nursery.start_soon(self._look_again, clears)
        finally:
            self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is BalanceChanged:
                self._note(event.holder)
            elif type(event) is UserChanged:
                self._note(event.guid)
            elif type(event) is AccountChanged or (
                type(event) is MoneyCame and event.holder is None
            ):
                self._note(None)
            elif type(event) is PrinterChanged:
                self._changed_printers[event.printer_id] = None
                self._ring()
            elif (
                type(event) is JobMoved
                and event.new is JobState.PENDING_HELD
                and event.reasons
                and not AWAITS_RELEASE.isdisjoint(event.reasons)
                and JobReason.JOB_INCOMING not in event.reasons
            ):
                self._add(event.job_id)

    def look_again(self, _: object = None) -> None:
        """Somebody may be able to pay for what waits: a site, say, can ask for money again."""
        self._note(None)

    def _note(self, holder: UUID | None) -> None:
        self._changed[holder if len(self._changed) < DUE_MAX else None] = None
        self._ring()

    def _add(self, job_id: int) -> None:
        if job_id == self._mine:
            return
        if len(self._due) >= DUE_MAX:
            self._is_behind = True
            return
        self._due[job_id] = None
        self._ring()

    def _ring(self) -> None:
        self._bell.set()
        self._bell = trio.Event()

    async def _scan(self) -> None:
        """Find what waits in the spool: at the start, and when more came than was remembered."""
        while True:
            while not self._is_behind:
                await self._bell.wait()
            self._is_behind = False
            await self._go_through(self._add_if_due)

    async def _add_if_due(self, one: held.Waiting) -> None:
        if one.is_due:
            while len(self._due) >= DUE_MAX // 2:
                await self._bell.wait()
            self._add(one.job_id)

    async def _go_through(
        self, do: Callable[[held.Waiting], Awaitable[None]], printer_id: int | None = None
    ) -> None:
        """Do something with each job at a gate, or at that of a printer; they are read by pages."""
        after = (printer_id or 0, 0, 0)
        while True:
            found: Sequence[held.Waiting] = await self._reader.look(held.waiting, after, SCAN_JOBS)
            for one in found:
                if printer_id not in (None, one.printer_id):
                    return
                await do(one)
            if len(found) < SCAN_JOBS:
                return
            last = found[-1]
            after = (last.printer_id, last.held_us, last.job_id)

    async def _look_again(self, clears: Clears) -> None:
        """Have jobs that only lacked a payment looked at again when there may be one."""

        async def try_again(one: held.Waiting) -> None:
            if one.lacks_payment:
                await self._try_again(await self._reader.job(one.job_id), clears)

        looked_s = trio.current_time()
        while True:
            with trio.move_on_at(looked_s + LOOK_AGAIN_S):
                while not (self._changed or self._changed_printers):
                    await self._bell.wait()
            if trio.current_time() >= looked_s + LOOK_AGAIN_S:  # however much changes all the time
                self._changed[None] = None
            holders, printers = list(self._changed), list(self._changed_printers)
            self._changed.clear()
            self._changed_printers.clear()
            for done in tuple(self._clearing.values()):  # they may not have seen the change
                await done.wait()
            people = [holder for holder in holders if holder is not None]
            is_for_all = len(people) < len(holders)
            for holder in people:
                # A shared account pays for many; for whom, only a clearing finds out.
                is_for_all |= await self._reader.look(accounts.by_guid, holder) is not None
            if is_for_all:
                looked_s = trio.current_time()
                await self._go_through(try_again)
                continue
            for printer_id in printers:
                await self._go_through(try_again, printer_id)
            await self._try_those_of(people, clears)

    async def _try_those_of(self, people: list[UUID], clears: Clears) -> None:
        after_id = 0
        while people:
            found = await self._reader.look(held.held, people, after_id, SCAN_JOBS)
            for job in found:
                await self._try_again(job, clears)
            if len(found) < SCAN_JOBS:
                return
            after_id = found[-1].id

    async def _try_again(self, job: Job | None, clears: Clears) -> None:
        """Let a job go on, or say no longer on one that waits for its owner what it lacked."""
        if job is None or LACKS_PAYMENT.isdisjoint(job.reasons):
            return
        others = tuple(one for one in job.reasons if one not in LACKS_PAYMENT)
        if others not in ((), (_WAITS,)):
            return
        with suppress(OperationError, SpoolFull):  # it went on meanwhile
            try:
                if not await clears.can_be_paid(job):
                    return
            except OperationError as error:
                if error.code in job.reasons and error.message != job.message:
                    await self._journal.commit(self._hold(job, job.reasons, error.message))
                return
            if others or await self._waits_for_owner(job):
                await self._journal.commit(self._hold(job, (_WAITS,)))
            else:
                await self._clear_again(job, clears)

    async def _waits_for_owner(self, job: Job) -> bool:
        """Whether its printer keeps jobs by now, which it did not when this one came."""
        printer = (await self._printers.look()).printers.get(job.printer_id)
        return printer is not None and printer.is_ours and printer.release.is_secure

    async def _clear_again(self, job: Job, clears: Clears) -> None:
        """Before another one is looked at: what has waited longest is paid for first."""
        self._mine = job.id
        try:
            now_us = self._wall_clock()
            change = ChangeJob(job.id, JobEvent.RELEASE, now_us, only_for=job.reasons)
            await self._journal.commit(change)
            await self._do(job.id, clears)
        finally:
            self._mine = None
            self._add(job.id)  # if something came between

    def _hold(self, job: Job, reasons: tuple[str, ...], message: str = "") -> ChangeJob:
        """The job waits as before, for these reasons."""
        return ChangeJob(
            job.id,
            JobEvent.HOLD,
            self._wall_clock(),
            reasons=reasons,
            message=message,
            only_from=(JobState.PENDING_HELD,),
            hold_until=job.hold_until,
            release_us=job.release_us,
            only_for=job.reasons,
        )

    async def _work(self, clears: Clears) -> None:
        while True:
            while not self._due:
                await self._bell.wait()
            job_id = next(iter(self._due))
            del self._due[job_id]
            try:
                await self._do(job_id, clears)
            except OperationError as error:
                log.warning("job_not_counted", job_id=job_id, reason=str(error))
            except SpoolFull:
                await trio.sleep(FULL_S)
                self._add(job_id)
            if len(self._due) < DUE_MAX // 2:
                self._ring()

    async def _do(self, job_id: int, clears: Clears) -> None:
        job = await self._reader.job(job_id)
        if job is None or job.is_incoming or AWAITS_RELEASE.isdisjoint(job.reasons):
            return
        await self.count(job)
        crash_point("job-counted")
        if job.reasons == (_COUNTED,):
            await self._clear(job_id, clears)

    async def _clear(self, job_id: int, clears: Clears) -> None:
        """Once at a time: a job may be due again while it is being cleared."""
        while (busy := self._clearing.get(job_id)) is not None:
            await busy.wait()
        done = self._clearing[job_id] = trio.Event()
        try:
            found = await self._reader.job(job_id)
            if found is not None and found.reasons == (_COUNTED,):
                await clears.clear(found)
        finally:
            del self._clearing[job_id]
            done.set()

    # -- one job ---------------------------------------------------------------------------------

    async def count(self, job: Job) -> dict[int, Contents]:
        """What is in each document of a job that has come whole; kept when this returns."""
        while (busy := self._busy.get(job.id)) is not None:
            await busy.wait()
        done = self._busy[job.id] = trio.Event()
        try:
            found = read_contents(await self._reader.look(held.contents, job.id))
            missing = [number for number in range(1, job.documents + 1) if number not in found]
            return await self._count(job, found, missing) if missing else found
        finally:
            del self._busy[job.id]
            done.set()

    async def _count(
        self, job: Job, found: dict[int, Contents], missing: list[int]
    ) -> dict[int, Contents]:
        known = await self._printers.look()
        home = known.printers.get(job.printer_id)
        colour = home is not None and _needs_colour(home, known)
        documents = await self._reader.documents(job.id)
        files = await self._reader.files_of(job.id)
        for number in missing:
            document = documents[number - 1]
            found[number] = await self._contents(
                job.id, number, document, files[number - 1], colour
            )
            total = count_of(job, found)
            change = CountJob(
                job.id,
                number,
                found[number].as_map(),
                self._wall_clock(),
                total.impressions,
                total.media_sheets,
            )
            await self._journal.commit(change)
        return found

    async def _contents(
        self, job_id: int, number: int, document: Document, file: str, colour: bool
    ) -> Contents:
        media_type = "" if document.format == ANY_FORMAT else document.format
        source: bytes | Path | None = None
        if document.stored == "inline":
            source = await self._reader.document_body(job_id, number)
        elif document.stored == "file":
            source = self._files.path(file)
        if source is None:
            return unknown(media_type, Reason.DAMAGED, "the document is not kept any more")
        try:
            return await self._counter.count(source, media_type=media_type, colour=colour)
        except OSError as error:
            return unknown(media_type, Reason.DAMAGED, f"it cannot be read: {error.strerror}")


def _needs_colour(home: Printer, known: Known) -> bool:
    """Whether it matters which pages have color: it takes a second look at the document."""
    if home.charging is not Charging.OFF or home.policies:
        return True
    if not home.is_find_me:
        return False
    return any(one.charging is not Charging.OFF or one.policies for one in known.printers.values())
