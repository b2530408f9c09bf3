"""A job that an IPP printer has: asked about until it came to its end, and what that means.

In: the printer's number of it, and what is known of its document. Out: `Delivered`; anything else
is raised as a `Verdict`. A printer that is away is waited for; one that forgot the job leaves it in
doubt, unless a counter proves that it came out. Long printing and printers that stand still are no
failures: they are reported.

Evidence: printer (its URI), printer-job-id, job-state, job-state-reasons, pages (impressions) and
sheets, of all rounds, or pages-so-far and sheets-so-far where the end of the job was not seen,
job-k-octets, left-out (wishes that the printer did without), and the counters where they decided.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import trio

from spoold.codec.ipp_names import JobState, Status
from spoold.driver import evidence, ipp_verdict
from spoold.driver.ipp_offer import Offer
from spoold.driver.ipp_peer import IppRefused, JobView, Peer, is_called
from spoold.driver.ipp_session import Broken, HttpRefused
from spoold.driver.ipp_settings import Settings
from spoold.driver.ipp_upload import Told, Upload
from spoold.driver.ipp_verdict import FORGOTTEN, Sent, described, evidence_of
from spoold.driver.link import Delivery, Progress
from spoold.model.job import JobReason
from spoold.model.outcome import Blame, Deferred, Delivered, InDoubt, Outcome, Refused

STOPPING_S: Final = 10.0  # for a canceled job to come to its end
AWAY_PAUSE_S_MAX: Final = 30.0
GONE: Final = FORGOTTEN | {Status.SERVER_ERROR_OPERATION_NOT_SUPPORTED}
COUNTS: Final = ("pages", "sheets")

T = TypeVar("T")


class Verdict(Exception):
    """What the job becomes is known."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Printer:
    """What else can be asked of the printer, and what is remembered of it.

    `offer` is what it offers and how it is, asked lately; `count` how many pages it has printed in
    its life; `state` how it is, over another connection. `count_abort` says how often it has
    aborted this job, this time included.
    """

    offer: Callable[[Peer], Awaitable[Offer]]
    count: Callable[[Peer], Awaitable[int | None]]
    state: Callable[[], Awaitable[Told]]
    count_abort: Callable[[], int]


class PrinterJob:
    """`name` is what we call it. `pages` has the page counter from before the job, `sent` what is
    known of its document; `before` are the `COUNTS` of the rounds before, None where one has none.
    """

    def __init__(
        self,
        delivery: Delivery,
        peer: Peer,
        settings: Settings,
        printer: Printer,
        pages: evidence.Pages,
        name: str,
    ) -> None:
        self.id: int | None = None
        self.sent = Sent.NOTHING
        self.upload = Upload(delivery.source, delivery.device, delivery.report, printer.state)
        self.pages = pages
        self.name = name
        self.left_out: list[str] = []
        self.is_dropped = False  # if it is canceled, it was by us
        self.before: dict[str, int | None] = dict.fromkeys(COUNTS, 0)
        self._delivery = delivery
        self._peer = peer
        self._settings = settings
        self._printer = printer
        self._last: JobView | None = None
        self._stalled_since_s: float | None = None

    def bytes_sent(self) -> int:
        """How many bytes of the document may have left."""
        sent = self.upload.bytes_sent()
        return sent if self.sent is Sent.NOTHING else sent or self._delivery.source.size

    async def note(self, job: JobView, **more: Any) -> None:
        """What the printer calls our job is durable.

        Raises:
            Verdict: it does not say what it calls it.
        """
        if job.id is None:
            detail = "The printer made a job and did not say which."
            if self.sent is Sent.NOTHING:
                raise Verdict(Deferred("device-error", detail, Blame.JOB))
            raise Verdict(self.doubt("no-job-id", detail))
        self.id = job.id
        noted: dict[str, Any] = {"printer-job-id": job.id, "printer": self._peer.uri, **more}
        if job.uri:
            noted["printer-job-uri"] = job.uri[:255]
        if self.left_out:
            noted["left-out"] = self.left_out[:32]
        if self.pages.before is not None:
            noted["page_count_before"] = self.pages.before
        await self._delivery.note(noted)

    # --- asking -----------------------------------------------------------------------------------

    async def patiently(
        self, ask: Callable[[], Awaitable[T]], passes: frozenset[Status] = frozenset()
    ) -> T:
        """The answer of a printer that may be away for a while: it has a job of ours.

        Raises:
            IppRefused: with a status of `passes`.
            Verdict: it was away for too long.
        """
        started_s, pause_s = trio.current_time(), 0.5
        while True:
            try:
                return await ask()
            except (IppRefused, Broken, HttpRefused) as error:
                if isinstance(error, IppRefused) and error.status in passes:
                    raise
                cause = str(error)
            waited_s = trio.current_time() - started_s
            if waited_s >= self._settings.answer_wait_s:
                detail = f"The printer was away for {waited_s:.0f} s: {cause}"
                raise Verdict(self.doubt("connection-lost", detail))
            reasons = ("connecting-to-device",)
            self._delivery.report(Progress(self.bytes_sent(), waited_s, reasons, cause))
            await trio.sleep(pause_s)
            pause_s = min(AWAY_PAUSE_S_MAX, pause_s * 2)

    # --- taking it back ---------------------------------------------------------------------------

    async def cancel(self) -> JobView | None:
        """The job after it was canceled and came to its end; None when there is no telling."""
        assert self.id is not None
        job: JobView | None = None
        with trio.move_on_after(STOPPING_S):
            try:
                try:
                    await self._peer.cancel(self.id)
                except IppRefused:
                    pass  # it may have ended by itself
                while True:
                    job = await self._peer.job(self.id)
                    if job.is_final:
                        break
                    await trio.sleep(self._settings.poll_first_s)
            except (IppRefused, Broken, HttpRefused):
                pass
        return job

    async def drop(self, outcome: Deferred | Refused) -> NoReturn:
        """The printer does not have the document: its job must go. Paper would be another story."""
        self.is_dropped = True
        await self._delivery.note({"dropped": True})
        job = await self.cancel()
        has_paper = job is not None and (job.impressions or job.state == JobState.COMPLETED)
        may_print = self.sent is Sent.NOBODY_KNOWS and (job is None or not job.is_final)
        if may_print or (has_paper and self.bytes_sent()):
            self._last = job or self._last
            said = "nothing" if job is None else described(job)
            detail = f"{outcome.detail} The printer says: {said}."
            raise Verdict(self.doubt("submission-interrupted", detail))
        raise Verdict(outcome)

    # --- seeing it through ------------------------------------------------------------------------

    async def wait(self) -> Delivered:
        """Ask until the printer's job has come to its end, for as long as that takes.

        Raises:
            Verdict: it was not completed, or nobody knows.
        """
        assert self.id is not None
        job_id, pause_s = self.id, 0.0
        incoming_since_s: float | None = None
        while True:
            try:
                job = await self.patiently(lambda: self._peer.job(job_id), GONE)
            except IppRefused as error:
                raise Verdict(await self._gone(error)) from error
            if not is_called(job.name, self.name):
                cause = f"The printer's job {job_id} is another one by now."
                raise Verdict(await self.forgotten(cause))
            if job.is_final:
                self._last = job
                return await self._judge(job)
            if job.state is None:
                raise Verdict(self._untold("It does not say how the job is."))
            now_s = trio.current_time()
            if self.sent is Sent.NOBODY_KNOWS and ipp_verdict.is_waiting_for_data(job):
                incoming_since_s = incoming_since_s or now_s
                if now_s - incoming_since_s >= self._settings.incoming_s:
                    detail = "The connection broke before the printer had the whole document."
                    await self.drop(Deferred("submission-interrupted", detail))
            is_moving = self._last is None or _moved(self._last, job)
            self._last = job
            first_s, max_s = self._settings.poll_first_s, self._settings.poll_max_s
            pause_s = first_s if is_moving else min(max_s, pause_s * 1.5)
            await self._tell(job, is_asking=pause_s >= min(1.0, max_s))
            await trio.sleep(pause_s)

    async def _tell(self, job: JobView, *, is_asking: bool) -> None:
        """Report how the job does, and, now and then, how the printer does."""
        told = Told()
        is_stopped = job.state in (JobState.PROCESSING_STOPPED, JobState.PENDING_HELD)
        if is_stopped or is_asking:
            try:
                offer = await self._printer.offer(self._peer)
            except (IppRefused, Broken, HttpRefused):
                pass  # asking for the job will show what it is
            else:
                told = Told(False, offer.reasons, offer.message)
                is_stopped = is_stopped or offer.is_stopped
        now_s = trio.current_time()
        self._stalled_since_s = (self._stalled_since_s or now_s) if is_stopped else None
        stalled_s = now_s - self._stalled_since_s if self._stalled_since_s is not None else 0.0
        reasons = told.reasons or (job.reasons if is_stopped else ())
        detail = "; ".join(part for part in (described(job), told.detail) if part)
        self._delivery.report(
            Progress(self.bytes_sent(), stalled_s, tuple(reasons), f"The printer says: {detail}")
        )

    # --- verdicts ---------------------------------------------------------------------------------

    def evidence(self, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"bytes": self._delivery.source.size}
        if self.left_out:
            found["left-out"] = self.left_out[:32]
        if self._last is not None:
            said = evidence_of(self._last)
            found |= {name: value for name, value in said.items() if name not in COUNTS}
            found |= self.counted(self._last)
        return found | self.pages.as_evidence() | more

    def counted(self, job: JobView) -> dict[str, int]:
        """What the printer has counted of a job that has ended, and of the rounds before."""
        said, before = evidence_of(job), self.before.items()
        return {name: said[name] + n for name, n in before if n is not None and name in said}

    async def _judge(self, job: JobView) -> Delivered:
        """A job that has come to its end.

        Raises:
            Verdict: it was not completed, or not all of the document was in it.
        """
        said = f"The printer says: {described(job)}."
        if job.state == JobState.COMPLETED:
            size = self._delivery.job.k_octets
            if self.sent is Sent.WHOLE or ipp_verdict.is_evidently_whole(job, size):
                return Delivered(self.evidence(method="ipp-job-state"))
            detail = f"The connection broke while the document was sent. {said}"
            raise Verdict(self.doubt("submission-interrupted", detail))
        if ipp_verdict.is_canceled_there(job, self.sent) and not self.is_dropped:
            raise Verdict(Refused(JobReason.JOB_CANCELED_AT_DEVICE, said, self.evidence()))
        if ipp_verdict.is_bad_document(job):
            detail = f"{said} {ipp_verdict.FORMAT_ADVICE}"
            raise Verdict(Refused(JobReason.DOCUMENT_FORMAT_ERROR, detail))
        is_whole = self.sent is Sent.WHOLE
        if is_whole and self._printer.count_abort() > self._settings.aborts_max:
            raise Verdict(Refused("job-aborted-at-device", f"{said} It was tried often enough."))
        if job.impressions == 0 and is_whole:
            raise Verdict(Deferred("job-aborted-at-device", said, Blame.JOB))
        if not is_whole and 0 in (job.impressions, job.documents):
            raise Verdict(Deferred("submission-interrupted", said))
        raise Verdict(self.doubt("job-aborted-at-device", said))

    def doubt(self, reason: str, detail: str) -> InDoubt:
        return InDoubt(reason, detail, self.bytes_sent(), self.evidence())

    async def _gone(self, error: IppRefused) -> Outcome:
        """The printer says nothing of the job any more, or never does of any."""
        if error.status in FORGOTTEN:
            return await self.forgotten(f"The printer does not know the job any more: {error}")
        return self._untold(str(error))

    def _untold(self, cause: str) -> Outcome:
        """A printer that says nothing of its jobs: that it took one has to do, as over LPD."""
        if self.sent is Sent.WHOLE:
            return Delivered(self.evidence(method="ipp-accepted"))
        return self.doubt("connection-lost", f"The printer cannot be asked: {cause}")

    async def forgotten(self, cause: str) -> Outcome:
        """Nothing is heard of the job; a counter may still prove that it came out."""
        last, expected = self._last, self.pages.expected
        counted = 0 if last is None or last.impressions is None else last.impressions
        if self.sent is Sent.WHOLE and expected and counted >= expected:
            return Delivered(self.evidence(method="ipp-impressions", pages=counted))
        self.pages = await evidence.watch_counter(
            self.pages, self._count_now, self._settings.counter_wait_s
        )
        if self.sent is Sent.WHOLE and self.pages.is_proof:
            return Delivered(self.evidence(method="page-counter", pages=self.pages.printed))
        return self.doubt("history-forgotten", cause)

    async def _count_now(self) -> int | None:
        try:
            return await self._printer.count(self._peer)
        except (IppRefused, Broken, HttpRefused):
            return None


def _moved(before: JobView, after: JobView) -> bool:
    """Whether something happened to the job since it was asked about last."""
    return (before.state, before.reasons, before.impressions) != (
        after.state,
        after.reasons,
        after.impressions,
    )
