"""The attempts that are under way: made, found by device or by job, and forgotten when they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import structlog
import trio

from spoold.dispatch.attempt import Attempt, Journal, Settings, Stop
from spoold.dispatch.devices import Devices
from spoold.dispatch.loading import SOON_JOBS, Documents, Fresh, JobReader, Loading, Soon
from spoold.dispatch.queues import Choice
from spoold.dispatch.recovery import Resumption
from spoold.dispatch.schedule import Schedule
from spoold.model.job import Job
from spoold.model.printer import Printer, WhenInDoubt
from spoold.spool import store
from spoold.spool.store import Change

log = structlog.get_logger("spoold.dispatch")


class FreshJournal(Journal, Protocol):
    @property
    def fresh(self) -> Fresh: ...


class Running:
    """`on_change` hears of an attempt whose bytes may leave, or that stalls or goes on."""

    def __init__(
        self,
        journal: FreshJournal,
        reader: JobReader,
        documents: Documents,
        printers: Mapping[int, Printer],
        devices: Devices,
        schedule: Schedule,
        wall_clock: Callable[[], int],
        settings: Settings,
        on_change: Callable[[Attempt], None],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._documents = documents
        self._printers = printers
        self._devices = devices
        self._schedule = schedule
        self._wall_clock = wall_clock
        self._settings = settings
        self._on_change = on_change
        self.by_device: dict[int, Attempt] = {}
        self.by_job: dict[int, Attempt] = {}
        self._soon: dict[int, Soon] = {}  # by device
        self._idle = trio.Event()

    # -- one more --------------------------------------------------------------------------

    def make(
        self,
        choice: Choice,
        loading: Loading | None = None,
        before: tuple[Change, ...] = (),
        kind: Callable[..., Attempt] = Attempt,
    ) -> Attempt:
        """An attempt at what the schedule chose; to be run by whoever asked for it."""
        printer, device = self._printers[choice.printer_id], self._devices[choice.device_id]
        queue = self._printers.get(choice.queue_id)
        attempt = kind(
            choice,
            printer,
            device,
            queue.in_doubt if queue is not None else WhenInDoubt.HOLD,
            partial(self._devices.driver_of, printer, device),
            self.load(choice.job_id) if loading is None else loading,
            self._journal,
            self._wall_clock,
            self._settings,
            self._schedule.failures(choice.device_id) == 0,
            self._on_change,
            before,
        )
        self.by_device[choice.device_id] = attempt
        self.by_job[choice.job_id] = attempt
        return attempt

    def resume(self, found: store.Attempt, job: Job) -> Attempt:
        """An attempt that the end of a spoold cut off, to go on: its device is busy with it."""
        owner, priority = job.owner.name, job.priority
        choice = Choice(job.id, found.device_id, found.printer_id, job.printer_id, owner, priority)
        self._schedule.occupy(choice)
        printer = self._printers[choice.printer_id].name
        log.info("attempt_resumed", job_uuid=str(job.uuid), printer=printer)
        return self.make(choice, kind=partial(Resumption, found, job))

    def load(self, job_id: int, soon: Soon | None = None) -> Loading:
        found = self._journal.fresh.take(job_id)
        if found is None and soon is not None:
            found = soon.take(job_id)
        return Loading(job_id, found, self._reader, self._documents)

    def load_ahead(self, attempt: Attempt) -> Loading | None:
        """Begin to load the job that comes next, unless another device may take it.

        When the spool has to be asked for it, it is asked for those after it, too.
        """
        device_id = attempt.choice.device_id
        choice = self._schedule.peek(device_id, trio.current_time())
        if choice is None or choice.queue_id != choice.printer_id:
            return None
        soon = self._soon.get(device_id)
        if soon is None:
            soon = self._soon[device_id] = Soon(self._journal.fresh, self._reader)
        loading = self.load(choice.job_id, soon)
        if not loading.is_done:
            coming = self._schedule.soon(choice.queue_id, SOON_JOBS)
            soon.look_up(job_id for job_id in coming if job_id != choice.job_id)
        return loading

    # -- those that there are --------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another one may begin."""
        room = self._settings.deliveries_max - len(self.by_device)
        if room <= 0:
            # A printer that has stood still for hours is in nobody's way.
            room += sum(attempt.is_stalled for attempt in self.by_device.values())
        return room > 0

    def outdate(self, job_id: int) -> None:
        """What was loaded of a job ahead of its turn is not true any more."""
        for attempt in self.by_device.values():
            if attempt.ahead is not None and attempt.ahead.job_id == job_id:
                attempt.ahead.is_outdated = True
        for soon in self._soon.values():
            soon.forget(job_id)

    def leave(self, device_id: int) -> None:
        """The device has nothing more to do."""
        self._soon.pop(device_id, None)

    def forget(self, attempt: Attempt) -> None:
        """It has ended."""
        choice = attempt.choice
        if self.by_device.get(choice.device_id) is attempt:
            del self.by_device[choice.device_id]
        if self.by_job.get(choice.job_id) is attempt:
            del self.by_job[choice.job_id]
        if not self.by_device:
            self._idle.set()

    async def drain(self, deadline_s: float) -> None:
        """See `Dispatcher.drain`."""
        for attempt in self.by_device.values():
            if attempt.can_be_left:
                attempt.stop(Stop.NODE)
        with trio.move_on_after(deadline_s):
            await self._wait_idle()
        for attempt in self.by_device.values():
            attempt.stop(Stop.NODE)
        with trio.move_on_after(self._settings.end_s):
            await self._wait_idle()

    async def _wait_idle(self) -> None:
        while self.by_device:
            self._idle = trio.Event()
            await self._idle.wait()
