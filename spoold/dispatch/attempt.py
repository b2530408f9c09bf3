"""One attempt: a job, a device, and what became of it.

In: a choice of the schedule. Out: an `Ended`, whose change the dispatcher commits. Promised: the
mark that bytes may leave is durable before the first one does; on a device that failed last it is
made only once the device has answered, so that a dead printer writes no records. Whatever stops an
attempt (an operator, the daemon's end, a crash of a driver), its end says what may have left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog
import trio

from spoold.dispatch.loading import Loading
from spoold.dispatch.queues import Choice
from spoold.dispatch.verdict import (
    canceled,
    canceled_reasons,
    fits,
    interrupted,
    said,
    settle,
    with_notes,
)
from spoold.driver.link import DOCUMENT_SENT, Delivery, Driver, Progress
from spoold.model.errors import OperationError, StoreFailed
from spoold.model.job import Job, JobReason, JobState
from spoold.model.outcome import Deferred, Delivered, InDoubt, Outcome, Refused
from spoold.model.printer import Device, Printer, WhenInDoubt
from spoold.model.transitions import JobEvent
from spoold.spool.crashpoint import crash_point
from spoold.spool.store import Change, ChangeJob, EndAttempt, NoteAttempt, StartAttempt

log = structlog.get_logger("spoold.dispatch")


class Handed(Protocol):
    async def wait(self) -> list[Any]: ...


class Journal(Protocol):
    async def commit_all(self, changes: Sequence[Change]) -> list[Any]: ...
    def hand_over(self, changes: Sequence[Change]) -> Handed: ...


class Stop(Enum):
    """Why an attempt was stopped before its driver had an answer."""

    CANCELED = "canceled"  # an operator's cancel of a job whose bytes may be leaving
    GONE = "gone"  # the job is held, moved or finished: not ours to attempt any more
    NODE = "node"  # the daemon stops


@dataclass(frozen=True, slots=True)
class Settings:
    """How printers that fail are tried again, and when one that takes no bytes is stopped."""

    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    backoff_jitter: float = 0.25
    asked_delay_max_s: float = 300.0
    stalled_after_s: float = 30.0
    stall_change_interval_s: float = 5.0
    deliveries_max: int = 256  # stalled ones are not counted
    refresh_s: float = 240.0  # how often idle devices are asked how they are; 0: never
    end_s: float = 10.0  # how long a stopped attempt has to close its connection and be noted


@dataclass(slots=True)
class Ended:
    """How an attempt ended. `outcome` is None when there was none: the job was not ours, or did
    not fit the printer. `change` is to be committed; without one nothing of it is on record.
    """

    outcome: Outcome | None
    change: EndAttempt | ChangeJob | None = None
    stop: Stop | None = None
    is_misfit: bool = False


class Attempt:
    """One attempt at `choice`. The dispatcher calls `run` once, and `stop` at any time.

    `before` is what has to be committed no later than the mark: the end of the attempt before, on
    the same device, so that a stream of jobs costs one wait each. `make_driver` says, too, whether
    the driver can go on with the attempt after a restart. `on_change` hears when bytes may leave,
    and when the device stalls or goes on.
    """

    def __init__(
        self,
        choice: Choice,
        printer: Printer,
        device: Device,
        in_doubt: WhenInDoubt,
        make_driver: Callable[[], tuple[Driver, bool]],
        loading: Loading,
        journal: Journal,
        wall_clock: Callable[[], int],
        settings: Settings,
        is_healthy: bool,
        on_change: Callable[[Attempt], None],
        before: Sequence[Change] = (),
    ) -> None:
        self.choice = choice
        self.loading = loading
        self.before = before
        self.progress = Progress()
        self.is_ended = False
        self.is_stalled = False
        self.may_have_sent = False
        self.stopped: Stop | None = None
        self.stop_reasons: tuple[str, ...] = ()
        self.number: int | None = None
        self.ahead: Loading | None = None  # of the job that may come next on the device
        self.goes_on = False  # the job has another document, which comes next
        self.is_back = False  # and may be printed by now
        self._printer = printer
        self._device = device
        self._in_doubt = in_doubt
        self._make_driver = make_driver
        self._journal = journal
        self._wall_clock = wall_clock
        self._settings = settings
        # A job that may not fit is looked at before anything of it is written.
        self._is_eager = is_healthy and not printer.formats
        self._on_change = on_change
        self._scope = trio.CancelScope()
        self._mark: Handed | None = None
        self._is_marked = False
        self._has_reported = False
        self._is_misfit = False
        self._watch_scope: trio.CancelScope | None = None
        self._is_watched = False
        self._was_stalled = False
        self._delivery: Delivery | None = None
        self._can_resume = False  # what the end of this spoold cuts off, the next one goes on with

    @property
    def is_eager(self) -> bool:
        """Whether the mark is made at once; then `before` is committed at once, too."""
        return self._is_eager

    @property
    def uuid(self) -> UUID | str:
        """The job's, as far as it is loaded; for the log, which writes it out."""
        job = self.loading.job
        return job.uuid if job is not None else ""

    @property
    def is_sending(self) -> bool:
        """Whether bytes may be leaving now."""
        return self.number is not None and not self.is_ended

    @property
    def can_be_left(self) -> bool:
        """Whether the device has the whole document, and the next start can ask it for the rest."""
        delivery = self._delivery
        return self._can_resume and bool(delivery and delivery.notes.get(DOCUMENT_SENT))

    def has_mark(self, number: int) -> None:
        """It was marked by the commit that accepted the job: its device stood ready."""
        self._is_marked = True
        self.number = number

    def stop(self, why: Stop, reasons: tuple[str, ...] = ()) -> None:
        """Stop it, unless it has an outcome already or is stopping."""
        if self.stopped is None:
            self.stopped = why
            self.stop_reasons = reasons
            if self._delivery is not None:
                self._delivery.is_canceled = why is Stop.CANCELED
            self._scope.cancel()

    async def run(self, nursery: trio.Nursery) -> Ended:
        """Attempt to deliver. Cancelling it commits what may have left before it returns."""
        outcome: Outcome | None = None
        try:
            if self._is_eager:
                self._make_mark()
            outcome = await self._deliver(nursery)
            if outcome is not None and not isinstance(outcome, Deferred | Refused):
                self._make_mark()  # for a driver that forgot to ask
            await self._marked()
        except BaseException:
            self.stopped = self.stopped or Stop.NODE
            with trio.move_on_after(self._settings.end_s, shield=True):
                await self._marked()
                change = self._conclude(outcome).change
                if change is not None:
                    note_refusals((change,), await self._journal.commit_all((change,)))
            raise
        finally:
            if self._watch_scope is not None:
                self._watch_scope.cancel()
            self.loading.close()
        crash_point("attempt-before-end")
        ended = self._conclude(outcome)
        self._delivery = None  # the two know each other, and would both stay until a collection
        return ended

    # -- the driver ------------------------------------------------------------------------

    async def _deliver(self, nursery: trio.Nursery) -> Outcome | None:
        """What the driver answered, or what stands for it; None when it was stopped."""
        outcome: Outcome | None = None
        with self._scope:
            await self.loading.wait()
            try:
                outcome = self._unfit() or await self._hand_over(nursery)
            except StoreFailed:
                raise
            except Exception as error:  # a driver may come from anywhere: see the house's rules
                outcome = self._crashed(error)
        return outcome

    def _unfit(self) -> Outcome | None:
        """Why the job cannot be handed to a driver at all."""
        loading, job = self.loading, self.loading.job
        if loading.error is not None:
            return Refused(JobReason.DOCUMENT_DAMAGED, str(loading.error))
        if job is None or loading.source is None:
            self.stop(Stop.GONE)
        elif not fits(job, self._printer):
            self._is_misfit = True
            detail = of_document(job, f"{self._printer.name} does not take {job.document.format}.")
            return Refused(JobReason.UNSUPPORTED_DOCUMENT_FORMAT, detail)
        return None

    async def _hand_over(self, nursery: trio.Nursery) -> Outcome:
        job, source = self.loading.job, self.loading.source
        if job is None or source is None:
            await trio.sleep_forever()  # the job is not ours: the scope is cancelled
        driver, self._can_resume = self._make_driver()
        report = partial(self._report, nursery)
        self._delivery = delivery = Delivery(
            job, source, self._device, self._may_send, report, self._note
        )
        return await self._ask(driver, delivery)

    async def _ask(self, driver: Driver, delivery: Delivery) -> Outcome:
        return await driver.deliver(delivery)

    async def _may_send(self) -> None:
        """See `Delivery.may_send`."""
        self._make_mark()
        await self._marked()
        delivery = self._delivery
        if delivery is None or self.number is None or self.stopped is not None:
            await trio.sleep_forever()  # likewise
        crash_point("attempt-after-mark")
        delivery.number = self.number
        self.may_have_sent = True
        self._on_change(self)

    async def _note(self, evidence: dict[str, Any]) -> None:
        """What the driver knows of this attempt is durable."""
        if not self._is_marked:
            await self._may_send()
        delivery = self._delivery
        if delivery is None or self.number is None:
            return
        delivery.notes |= evidence
        change = NoteAttempt(
            self.choice.job_id, self.number, dict(delivery.notes), self._wall_clock()
        )
        note_refusals((change,), await self._journal.hand_over((change,)).wait())
        crash_point("attempt-after-note")

    def _crashed(self, error: Exception) -> Outcome:
        if isinstance(error, OperationError):
            # It cannot work with its URI or an option; it says so itself, without a traceback.
            return Deferred("device-not-usable", str(error))
        log.error("driver_crashed", job_uuid=self.uuid, printer=self._printer.name, exc_info=error)
        detail = f"The driver of {self._device.scheme} crashed: {type(error).__name__}: {error}"
        if self.may_have_sent:
            return InDoubt("driver-crashed", detail, self.progress.bytes_sent)
        return Deferred("driver-crashed", detail)

    def _report(self, nursery: trio.Nursery, progress: Progress) -> None:
        self.progress = progress
        self._has_reported = True
        is_stalled = progress.stalled_s >= self._settings.stalled_after_s
        if is_stalled is not self.is_stalled and self.number is not None:
            self.is_stalled = is_stalled
            self._on_change(self)
            if not self._is_watched:
                self._is_watched = True
                self._watch_scope = trio.CancelScope()
                nursery.start_soon(self._watch, self._watch_scope)

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Note on the job that the device takes no bytes, or takes them again: not too often."""
        with scope:
            while self._was_stalled is not self.is_stalled and self.stopped is None:
                self._was_stalled = self.is_stalled
                progress = self.progress
                if self.is_stalled:
                    detail = progress.detail or f"No bytes taken for {progress.stalled_s:.0f} s."
                    change = ChangeJob(
                        self.choice.job_id,
                        JobEvent.STALL,
                        self._wall_clock(),
                        reasons=(JobReason.PRINTER_STOPPED,),
                        message=said(", ".join(progress.reasons), detail),
                        only_from=(JobState.PROCESSING,),
                    )
                else:
                    change = ChangeJob(
                        self.choice.job_id,
                        JobEvent.RESUME,
                        self._wall_clock(),
                        only_from=(JobState.PROCESSING_STOPPED,),
                    )
                await self._journal.commit_all((change,))
                await trio.sleep(self._settings.stall_change_interval_s)
        self._is_watched = False

    # -- the durable mark ------------------------------------------------------------------

    def _make_mark(self) -> None:
        """Have the mark made, once; it is made also when this attempt is cancelled meanwhile."""
        if self._mark is None and not self._is_marked:
            choice = self.choice
            start = StartAttempt(
                choice.job_id,
                choice.device_id,
                choice.printer_id,
                self._wall_clock(),
                choice.queue_id,
            )
            crash_point("attempt-before-mark")
            self._mark = self._journal.hand_over((*self.before, start))

    async def _marked(self) -> None:
        """Until the mark is durable, when one is being made, or the store has refused it."""
        if self._mark is None or self._is_marked:
            return
        answers = await self._mark.wait()
        self._is_marked = True
        if self.before:
            note_refusals(self.before, answers)
        answer = answers[-1]
        if isinstance(answer, Exception):
            self.stop(Stop.GONE)
        else:
            self.number = answer
            log.debug(
                "attempt_started",
                job=self.choice.job_id,
                attempt=answer,
                job_uuid=self.uuid,
                printer=self._printer.name,
            )

    # -- the end ---------------------------------------------------------------------------

    def _conclude(self, outcome: Outcome | None) -> Ended:
        self.is_ended = True
        if outcome is None or (
            self.stopped is Stop.CANCELED and not isinstance(outcome, Delivered)
        ):
            return self._concluded_by_stop()
        if self._is_misfit:
            return Ended(outcome, None, self.stopped, is_misfit=True)
        event, reasons, message = settle(outcome, self._in_doubt)
        if isinstance(outcome, Refused) and outcome.reason == JobReason.DOCUMENT_DAMAGED:
            event = JobEvent.DAMAGE
            reasons = (JobReason.ABORTED_BY_SYSTEM, JobReason.DOCUMENT_DAMAGED)
            message = outcome.detail
        job = self.loading.job
        if job is not None:
            self.goes_on = job.has_more and isinstance(outcome, Delivered)
            message = of_document(job, message)
        return Ended(outcome, self._end(outcome, event, reasons, message), self.stopped)

    def _concluded_by_stop(self) -> Ended:
        """The end of an attempt whose driver had no answer any more."""
        if self.number is None:
            return Ended(None, None, self.stopped)
        sent, is_clean = self.progress.bytes_sent, self._is_clean()
        is_on_device = not is_clean or (self._delivery is not None and bool(self._delivery.notes))
        if self.stopped is Stop.NODE and self._can_resume and is_on_device:
            return Ended(None, None, self.stopped)  # the next spoold asks the device
        why = "spoold stopped" if self.stopped is Stop.NODE else "the job was taken away"
        outcome: Outcome
        if self.stopped is Stop.CANCELED:
            outcome = canceled(sent, is_clean)
            reasons = canceled_reasons(self.stop_reasons)
            event, message = JobEvent.CANCELED, outcome.detail
        else:
            outcome = interrupted(why, f"{sent} bytes had left", is_clean, self._device)
            if isinstance(outcome, InDoubt):
                outcome = replace(outcome, bytes_sent=sent)
            event, reasons, message = settle(outcome, self._in_doubt)
        return Ended(outcome, self._end(outcome, event, reasons, message), self.stopped)

    def _is_clean(self) -> bool:
        """Whether it is certain that no byte of the document has left."""
        # A driver that may send and has said nothing yet may have sent something.
        return not self.progress.bytes_sent and (self._has_reported or not self.may_have_sent)

    def _end(
        self, outcome: Outcome, event: JobEvent, reasons: tuple[str, ...], message: str
    ) -> EndAttempt | ChangeJob | None:
        choice = self.choice
        if self._delivery is not None and self._delivery.notes:
            outcome = with_notes(outcome, self._delivery.notes)
        if self.number is not None:
            return EndAttempt(
                choice.job_id, self.number, outcome, event, reasons, self._wall_clock(), message
            )
        if event is JobEvent.DEFER:
            return None
        return ChangeJob(
            choice.job_id,
            event,
            self._wall_clock(),
            reasons=reasons,
            message=message,
            only_from=(JobState.PENDING,),
        )


def of_document(job: Job, message: str) -> str:
    """What is said of the document that a job is at, where there are others."""
    if not message or job.documents == 1:
        return message
    return f"Document {job.document_number} of {job.documents}: {message}"


def note_refusals(changes: Sequence[Change], answers: Sequence[Any]) -> None:
    """Log changes that the store refused: somebody else had settled the job before."""
    for change, answer in zip(changes, answers, strict=False):
        if isinstance(answer, Exception):
            named = change if isinstance(change, EndAttempt | ChangeJob | NoteAttempt) else None
            job_id = named.job_id if named is not None else None
            log.warning("attempt_end_refused", job=job_id, detail=str(answer))
