"""Gives jobs to devices: a task for each device, only while it has work.

In: what the journal tells of jobs and printers. Out: attempts, one at a time on a device, and
their ends, committed. The end of one job and the mark of the next go into one commit; a job for a
printer that has just printed has its mark with the commit that accepts it (see `offers`). What a
crash left open is settled at the start, as each printer says. Stopping lets attempts end, until a
deadline. Idle printers cost a few entries in tables, no task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol

import structlog
import trio

from spoold.dispatch.attempt import Attempt, Ended, Settings, Stop, note_refusals
from spoold.dispatch.devices import SAID_S, Devices
from spoold.dispatch.judge import Judge
from spoold.dispatch.loading import Documents, JobReader, Loading
from spoold.dispatch.offers import Claims, Offers
from spoold.dispatch.queues import Choice, as_seen_here
from spoold.dispatch.recovery import OpenAttempts, settle_open_attempts
from spoold.dispatch.refresh import Refresh
from spoold.dispatch.running import FreshJournal, Running
from spoold.dispatch.schedule import Backoff, Schedule
from spoold.dispatch.status import PrinterStatus, Statuses
from spoold.dispatch.verdict import settle
from spoold.driver import link
from spoold.model.job import ACTIVE, JobReason, JobState
from spoold.model.outcome import Blame, Deferred, Delivered
from spoold.model.printer import Device, Printer, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool import store
from spoold.spool.store import (
    Change,
    ChangeJob,
    JobClaimed,
    JobMoved,
    JobPlaced,
    PrinterChanged,
)

log = structlog.get_logger("spoold.dispatch")


class ListenedJournal(FreshJournal, Protocol):
    @property
    def claims(self) -> Claims: ...
    def listen(self, callback: Callable[[list[store.Event]], None]) -> None: ...
    def unlisten(self, callback: Callable[[list[store.Event]], None]) -> None: ...


class Reader(OpenAttempts, JobReader, Protocol):
    async def printers(self) -> list[Printer]: ...
    async def devices(self) -> list[Device]: ...
    async def waiting(self) -> list[JobMoved]: ...
    async def following(self) -> list[tuple[int, int, JobState]]: ...


class Dispatcher:
    def __init__(
        self,
        journal: ListenedJournal,
        reader: Reader,
        documents: Documents,
        network: link.Network,
        wall_clock: Callable[[], int],
        random: Random,
        settings: Settings | None = None,
        driver_for: link.DriverFactory = link.driver_for,
        converting: Callable[[Printer, link.Driver], link.Driver] = lambda _, driver: driver,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock
        self._settings = settings = settings or Settings()
        self._schedule = Schedule(
            Backoff(
                settings.backoff_first_s,
                settings.backoff_max_s,
                settings.backoff_jitter,
                settings.asked_delay_max_s,
            ),
            random,
        )
        self._printers: dict[int, Printer] = {}
        self._devices = Devices(
            network, driver_for, converting, max(SAID_S, 1.25 * settings.refresh_s)
        )
        self._running = Running(
            journal,
            reader,
            documents,
            self._printers,
            self._devices,
            self._schedule,
            wall_clock,
            settings,
            self._attempt_changed,
        )
        self._statuses = Statuses(
            self._printers, self._devices, self._running.by_device, self._schedule, wall_clock
        )
        self._judge = Judge(self._printers, self._devices, self._schedule, self._statuses)
        self._ready: dict[int, None] = {}  # devices that wait for one of `deliveries_max`
        self._offers = Offers(journal.claims)
        self._claimed: list[Attempt] = []  # that came of offers, and are to be begun
        self._early: list[store.Event] | None = []  # events that came while the spool was read
        self._is_draining = False
        self.is_held_back = False  # nothing is started as long as this is so; see `let_go`
        self._changed = trio.Event()
        self._turned = trio.Event()

    # -- life ------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dispatch until `drain`. Started once the spool is read and its open ends are settled.

        Raises:
            StoreFailed: the journal failed; the daemon must stop.
        """
        self._journal.listen(self._hear)
        try:
            cut_off = await self._load()
            task_status.started()
            async with trio.open_nursery() as nursery:
                for attempt in cut_off:
                    nursery.start_soon(self._serve, attempt)
                while not self._is_draining:
                    self._start(nursery)
                    self._turned.set()
                    self._turned = trio.Event()
                    wake_s = None if self.is_held_back else self._schedule.wake_s()
                    with trio.CancelScope(deadline=float("inf") if wake_s is None else wake_s):
                        await self._changed.wait()
                    self._changed = trio.Event()
                self._start_claimed(nursery)
        finally:
            self._journal.unlisten(self._hear)

    async def beat(self) -> None:
        """Return when the loop has gone round once more: it makes progress."""
        if not self._is_draining:
            self._changed.set()
            await self._turned.wait()

    async def refresh(self) -> None:
        """Ask idle devices now and then how they are, until cancelled."""
        if self._settings.refresh_s:
            await Refresh(
                self._devices,
                self._printers,
                self._running.by_device,
                self._settings.refresh_s,
            ).run()

    async def drain(self, deadline_s: float) -> None:
        """Start nothing more; return when all attempts have ended, and `run` is about to.

        Those that have not ended after `deadline_s` are stopped, and noted as what they are. One
        whose device has the whole job and can be asked later is left to the next start at once.
        """
        while not self._offers.close():
            await self._journal.hand_over(()).wait()  # the commit that is taking one up
        self._is_draining = True
        self._changed.set()
        self._turned.set()
        await self._running.drain(deadline_s)

    async def _load(self) -> list[Attempt]:
        """Read the spool; the attempts that go on are returned."""
        for device in await self._reader.devices():
            self._devices.put(device)
        for printer in await self._reader.printers():
            self._printers[printer.id] = printer
            self._schedule.set_printer(as_seen_here(printer))
        cut_off = await settle_open_attempts(
            self._reader, self._journal, self._printers, self._devices, self._wall_clock
        )
        resumed = [self._running.resume(found, job) for found, job in cut_off]
        waiting = await self._reader.waiting()
        for count, moved in enumerate(waiting):
            self._schedule.add(moved.job_id, moved.printer_id, moved.owner, moved.priority)
            if count % 1000 == 999:
                await trio.lowlevel.checkpoint()
        for job_id, after_id, state in await self._reader.following():
            self._place(job_id, after_id, state)
        # What was committed while we read stands in order, and says the last word on each job.
        early, self._early = self._early or [], None
        self._hear(early)
        return resumed

    # -- what the journal tells ------------------------------------------------------------

    def _hear(self, events: Sequence[store.Event]) -> None:
        """Called after each commit; must not wait or raise."""
        if self._early is not None:
            self._early.extend(events)
            return
        for event in events:
            if isinstance(event, JobMoved):
                self._job_moved(event)
            elif isinstance(event, JobPlaced):
                self._place(event.job_id, event.after_id, JobState.PENDING)
            elif isinstance(event, PrinterChanged):
                self._printer_changed(event)
            elif isinstance(event, JobClaimed):
                self._job_claimed(event)
        if self._schedule.has_news or self._ready:
            self._changed.set()

    def _job_moved(self, moved: JobMoved) -> None:
        attempt = self._running.by_job.get(moved.job_id)
        if moved.new is JobState.PENDING:
            is_set = moved.old is JobState.PENDING
            if moved.old is not None:  # what was loaded of it is not true any more
                self._running.outdate(moved.job_id)
            if attempt is not None and attempt.goes_on:
                if attempt.choice.queue_id == moved.printer_id:
                    attempt.is_back = True  # its device goes on with the job
                    return
                attempt.is_back = False
            elif attempt is not None:
                is_same = attempt.choice.queue_id == moved.printer_id and not is_set
                if is_same and not attempt.is_ended and attempt.stopped is None:
                    return  # it is being attempted, and nothing that matters here has changed
                attempt.stop(Stop.GONE)
            self._offers.forget(moved.printer_id)
            self._schedule.add(moved.job_id, moved.printer_id, moved.owner, moved.priority)
        elif moved.new in ACTIVE:
            self._schedule.withdraw(moved.job_id)
            if attempt is not None and JobReason.PROCESSING_TO_STOP_POINT in moved.reasons:
                attempt.stop(Stop.CANCELED, moved.reasons)
        else:
            self._schedule.remove(moved.job_id)
            if attempt is not None:
                attempt.is_back = False
                attempt.stop(Stop.GONE)
            if moved.new is JobState.COMPLETED and moved.old in ACTIVE:
                log.debug(
                    "job_completed",
                    job_uuid=moved.uuid,
                    printer=self._judge.name(moved.printer_id),
                    position=moved.position,
                )

    def _job_claimed(self, claimed: JobClaimed) -> None:
        """A job came for a device that stood ready: its attempt has its mark already."""
        job_id, printer_id, device_id, number, owner, priority = claimed
        choice = Choice(job_id, device_id, printer_id, printer_id, owner, priority)
        self._schedule.occupy(choice)
        attempt = self._running.make(choice)
        attempt.has_mark(number)
        self._claimed.append(attempt)

    def _place(self, job_id: int, after_id: int | None, state: JobState) -> None:
        """A job is to come after another one, which was in `state`, or has its own place."""
        if after_id is None:
            self._schedule.unfollow(job_id)
        elif state is JobState.COMPLETED:
            self._schedule.promote(job_id)
        elif state is JobState.PENDING or state in ACTIVE:
            self._schedule.follow(job_id, after_id)

    def _printer_changed(self, changed: PrinterChanged) -> None:
        printer, device = changed.printer, changed.device
        self._offers.forget(changed.printer_id)
        if printer is None:
            self._printers.pop(changed.printer_id, None)
            self._schedule.remove_printer(changed.printer_id)
            return
        before = self._printers.get(printer.id)
        self._printers[printer.id] = printer
        if before is not None and before.paused is not printer.paused:
            self._statuses.printer_paused(printer.id)
        is_resumed = before is not None and before.paused and not printer.paused
        is_new = device is not None and self._devices.put(device)
        self._schedule.set_printer(as_seen_here(printer))
        if is_new or is_resumed:
            # At its new address it may well answer; and an operator who resumes it has seen to it.
            self._schedule.wake(printer.id)

    def _attempt_changed(self, attempt: Attempt) -> None:
        if attempt.may_have_sent:
            self._schedule.begin(attempt.choice)
        if attempt.is_stalled or attempt.choice.queue_id != attempt.choice.printer_id:
            self._changed.set()

    def let_go(self) -> None:
        """Start what was held back."""
        self.is_held_back = False
        self._changed.set()

    # -- who asks --------------------------------------------------------------------------

    def wake(self, printer_id: int) -> None:
        """Try the printer's device now, or all of a pool's, whatever their throttles say."""
        self._schedule.wake(printer_id)
        self._changed.set()

    def status(self, printer_id: int) -> PrinterStatus:
        """How the printer is doing; never waits."""
        return self._statuses.of(printer_id)

    @property
    def delivering(self) -> int:
        """How many devices have an attempt now."""
        return len(self._running.by_device)

    @property
    def deferrals(self) -> Mapping[int, int]:
        """How many attempts of each printer left nothing on paper, since the start."""
        return self._judge.deferrals

    def trying(self, printer_id: int) -> int | None:
        """The job that the printer, or a member of the pool, is tried with: no byte has left."""
        return self._statuses.trying(printer_id)

    async def ask(self, device_id: int) -> link.DeviceStatus | None:
        """How the device is, asked now; None for one that cannot be asked at any time.

        What it says is in the `status` of its printers for a while.
        """
        return await self._devices.ask(device_id)

    def driver_of(self, device: Device) -> link.Driver:
        """What delivers to the device.

        Raises:
            OperationError: the driver cannot work with the URI or an option; or whatever else.
        """
        return self._devices.driver(device)

    # -- devices ---------------------------------------------------------------------------

    def _start(self, nursery: trio.Nursery) -> None:
        """Give each idle device that may have one its next job."""
        if self.is_held_back:
            return
        self._start_claimed(nursery)
        now_s = trio.current_time()
        taken: dict[int, None] = {}  # by a commit that is under way
        while True:
            self._ready |= dict.fromkeys(self._schedule.startable(now_s))
            if not self._ready or not self._running.has_room:
                break
            device_id = next(iter(self._ready))
            del self._ready[device_id]
            if device_id in self._running.by_device:
                continue
            if not self._offers.withdraw(device_id):
                taken[device_id] = None
                continue
            choice = self._schedule.take(device_id, now_s)
            if choice is not None:
                nursery.start_soon(self._serve, self._running.make(choice))
        self._ready |= taken

    def _start_claimed(self, nursery: trio.Nursery) -> None:
        for attempt in self._claimed:
            nursery.start_soon(self._serve, attempt)
        self._claimed.clear()

    async def _serve(self, attempt: Attempt) -> None:
        """Attempt jobs on one device, one after the other, until it has none to take."""
        self._statuses.device_moved(attempt.choice.device_id)
        ended: Ended | None = None
        try:
            async with trio.open_nursery() as nursery:
                following: Attempt | None = attempt
                while following is not None:
                    attempt, following = following, None
                    if not self._is_draining:
                        attempt.ahead = self._running.load_ahead(attempt)
                    ahead = attempt.ahead
                    try:
                        ended = await attempt.run(nursery)
                        following = await self._follow(attempt, ended, ahead)
                    finally:
                        if ahead is not None and (
                            following is None or following.loading is not ahead
                        ):
                            ahead.close()
        finally:
            self._running.forget(attempt)
            self._running.leave(attempt.choice.device_id)
            self._statuses.device_moved(attempt.choice.device_id)
            self._schedule.finish(attempt.choice.device_id)
            if ended is not None and isinstance(ended.outcome, Delivered):
                self._offer(attempt)
            self._changed.set()

    def _offer(self, attempt: Attempt) -> None:
        """Let the device stand ready for the next job, when nothing is to be weighed for that."""
        choice = attempt.choice
        printer = self._printers.get(choice.printer_id)
        if (
            attempt.is_eager
            and printer is not None
            and printer.is_ours
            and not printer.paused
            and printer.device_id == choice.device_id
            and choice.queue_id == printer.id
            and not self._schedule.waiting(printer.id)
        ):
            self._offers.make(choice)

    async def _follow(
        self, attempt: Attempt, ended: Ended, ahead: Loading | None
    ) -> Attempt | None:
        """Note how an attempt ended; the device's next one, if any.

        After a delivery the note goes along with the next one's mark, when that is made at once.
        Anything else is committed first: what the job becomes may decide who is next. A job of
        several documents goes on with the next one.
        """
        outcome = ended.outcome
        if isinstance(outcome, Deferred) and outcome.blame is Blame.JOB:
            self._schedule.defer(attempt.choice.job_id, trio.current_time(), outcome.not_before_s)
        carried: tuple[Change, ...] = (ended.change,) if ended.change is not None else ()
        if attempt.goes_on or not isinstance(outcome, Delivered):
            await self._commit(attempt, carried)
            carried = ()
        if ended.change is None and outcome is not None and attempt.stopped is None:
            await self._return(attempt, ended)
        # Only now, with the job back in its place: another member of its pool takes it, not one
        # that came later.
        self._judge.hear(attempt, ended)
        device_id, now_s = attempt.choice.device_id, trio.current_time()
        if attempt.is_back:
            self._running.forget(attempt)
            if self._schedule.go_on(attempt.choice) and not self._is_draining:
                return self._running.make(attempt.choice)
            self._schedule.put_back(attempt.choice)
        choice = None if self._is_draining else self._schedule.take_next(device_id, now_s)
        if choice is None:
            await self._commit(attempt, carried)
            return None
        self._running.forget(attempt)
        if ahead is not None and (ahead.job_id != choice.job_id or ahead.is_outdated):
            ahead = None
        following = self._running.make(choice, ahead, carried)
        if carried and not following.is_eager:
            following.before = ()
            await self._commit(attempt, carried)
        return following

    # -- outcomes --------------------------------------------------------------------------

    async def _return(self, attempt: Attempt, ended: Ended) -> None:
        """The job goes back to where it waited; one that fits no printer is held."""
        choice = attempt.choice
        if ended.is_misfit and not self._schedule.misfit(choice):
            outcome = ended.outcome
            assert outcome is not None
            event, reasons, message = settle(outcome, WhenInDoubt.HOLD)
            change = ChangeJob(
                choice.job_id,
                event,
                self._wall_clock(),
                reasons=reasons,
                message=message,
                only_from=(JobState.PENDING,),
            )
            await self._commit(attempt, (change,))
        else:
            self._schedule.put_back(choice)

    async def _commit(self, attempt: Attempt, changes: tuple[Change, ...]) -> None:
        if not changes:
            return
        answers = await self._journal.hand_over(changes).wait()
        note_refusals(changes, answers)
        if answers[-1] is JobState.PENDING and attempt.stopped is Stop.CANCELED:
            # The cancel came when the attempt had just ended without paper.
            cancel = ChangeJob(
                attempt.choice.job_id,
                JobEvent.CANCEL,
                self._wall_clock(),
                reasons=(JobReason.JOB_CANCELED_BY_OPERATOR,),
                only_from=(JobState.PENDING,),
            )
            note_refusals((cancel,), await self._journal.commit_all((cancel,)))
