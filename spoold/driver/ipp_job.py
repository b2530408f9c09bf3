"""One job handed to an IPP printer: created, sent, and seen through; or found again.

In: a delivery and the printer's `Peer`. Out: an `Outcome`. Promised: before a byte of the document
leaves, what the printer calls the job is durable, so that it can be asked whatever happens then;
and nothing is sent a second time before it has been asked. Copies that the printer cannot make are
jobs of their own, one after the other, each in a round of its own.

Notes beside those of `ipp_follow`: operation (Print-Job, where the printer creates no jobs),
document-sent, round, copies (of this round); copies-done, pages-done and sheets-done (in the rounds
before).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

import trio

from spoold.codec import ipp
from spoold.codec.ipp_values import Attribute
from spoold.driver import evidence, ipp_verdict
from spoold.driver.ipp_follow import COUNTS, Printer, PrinterJob, Verdict
from spoold.driver.ipp_offer import ANY_FORMAT, Offer, wishes_of
from spoold.driver.ipp_peer import IppRefused, JobView, Peer, job_name
from spoold.driver.ipp_session import Broken, HttpRefused
from spoold.driver.ipp_settings import Settings
from spoold.driver.ipp_verdict import Sent, described, refusal
from spoold.driver.link import DOCUMENT_SENT, Delivery
from spoold.driver.sending import SourceFailed
from spoold.model.job import JobReason
from spoold.model.outcome import Blame, Deferred, Delivered, InDoubt, Outcome, Refused

TRIES: Final = 4  # each without the wishes that the printer rejected before
TAKE_BACK_S: Final = 5.0
LOOK_UP_PAUSES_S: Final = (0.0, 0.5, 2.0)
DAMAGED: Final = Refused("document-damaged", "The stored document cannot be read.")

T = TypeVar("T")


class Errand:
    """One attempt. `deliver` or `resume` is called once."""

    def __init__(
        self, delivery: Delivery, peer: Peer, settings: Settings, printer: Printer
    ) -> None:
        self._delivery = delivery
        self._job = delivery.job
        self._peer = peer
        self._settings = settings
        self._printer = printer
        self._pages = evidence.Pages(expected=evidence.expected_pages(delivery.job))
        self._copies = 1 if self._job.copies_embedded else max(1, self._job.copies)
        self._round = 1
        self._done = 0  # copies that the rounds before made
        self._making = 1  # copies of this round
        self._has_asked = False  # the printer may have a job of this attempt
        self._at = self._new_job()

    def _new_job(self) -> PrinterJob:
        name = job_name(self._job.title, self.token)
        return PrinterJob(
            self._delivery, self._peer, self._settings, self._printer, self._pages, name
        )

    @property
    def token(self) -> str:
        """What the printer's job is found by: another one for each attempt and round."""
        ending = f".{self._round}" if self._round > 1 else ""
        return f"{self._job.uuid}/{self._delivery.number}{ending}"

    async def deliver(self) -> Outcome:
        """Print the job; what became of it."""
        return await self._to_its_end(self._deliver)

    async def resume(self) -> Outcome | None:
        """Find out what became of the job that an attempt before a restart left, and finish it.

        None when that attempt was at another printer: the device has a new URI.
        """
        if self._delivery.notes.get("printer", self._peer.uri) != self._peer.uri:
            return None
        return await self._to_its_end(self._resume)

    async def _to_its_end(self, run: Callable[[], Awaitable[Outcome]]) -> Outcome:
        try:
            return await run()
        except Verdict as verdict:
            return self._after_copies(verdict.outcome)
        except trio.Cancelled:
            if self._delivery.is_canceled:
                with trio.move_on_after(TAKE_BACK_S, shield=True):
                    await self._take_back()
            elif self._delivery.notes.get("operation") and not self._at.bytes_sent():
                with trio.move_on_after(TAKE_BACK_S, shield=True):
                    await self._delivery.note({"operation": ""})  # nothing left after all
            raise

    async def _deliver(self) -> Outcome:
        offer = await self._look_at_printer()
        await self._delivery.may_send()
        return await self._make_copies(offer)

    async def _resume(self) -> Outcome:
        self._recall()
        if self._delivery.is_canceled:
            await self._take_back()
            return Refused("job-canceled", "It was to be canceled before a restart.")
        offer = await self._at.patiently(lambda: self._printer.offer(self._peer))
        if await self._found_again():
            found = await self._at.wait()
            self._done += self._making
            if self._done >= self._copies:
                return found
            await self._next_round(found)
        elif not self._done:
            detail = "Cut off by a restart before the document left."
            return Deferred(JobReason.SERVICE_OFF_LINE, detail, Blame.NODE)
        return await self._make_copies(offer)

    def _recall(self) -> None:
        """What was noted before the restart."""
        notes = self._delivery.notes
        self._has_asked = True
        self._round, self._done = int(notes.get("round", 1)), int(notes.get("copies-done", 0))
        self._making = int(notes.get("copies", 1))
        self._pages = replace(self._pages, before=notes.get("page_count_before"))
        at = self._at = self._new_job()
        at.id = notes.get("printer-job-id")
        at.left_out = list(notes.get("left-out", ()))
        if self._round > 1:
            at.before = {name: notes.get(f"{name}-done") for name in COUNTS}
        at.is_dropped = bool(notes.get("dropped"))
        if notes.get(DOCUMENT_SENT):
            at.sent = Sent.WHOLE
        elif at.id is not None or notes.get("operation"):
            at.sent = Sent.NOBODY_KNOWS

    # --- before anything leaves -------------------------------------------------------------------

    async def _look_at_printer(self) -> Offer:
        """What it offers, when it can take this job now.

        Raises:
            Verdict: it cannot.
        """
        try:
            offer = await self._printer.offer(self._peer)
            before = await self._printer.count(self._peer)
        except (IppRefused, HttpRefused, Broken) as error:
            raise Verdict(refusal(error)) from error
        self._pages = replace(self._pages, before=before)
        self._at = self._new_job()
        reasons = ", ".join(offer.reasons)
        said = ": ".join(part for part in (reasons, offer.message) if part)
        if not offer.is_accepting:
            detail = f"The printer takes no jobs now. {said}".strip()
            raise Verdict(Deferred("not-accepting-jobs", detail))
        if offer.is_stopped:
            reason = next(iter(offer.reasons), "stopped")
            raise Verdict(Deferred(reason, f"The printer has stopped. {said}".strip()))
        self._format(offer)
        return offer

    def _format(self, offer: Offer) -> str:
        """The document-format to say; "" where the printer shall find out for itself.

        Raises:
            Verdict: it does not take the job's.
        """
        name = self._settings.format or self._job.document.format
        base = name.partition(";")[0].strip()
        if not offer.formats:
            return base
        found = offer.format_like(base)
        if not found and base.lower() != ANY_FORMAT:
            raise Verdict(ipp_verdict.bad_format(base, offer.formats))
        return found

    # --- copies and rounds ------------------------------------------------------------------------

    async def _make_copies(self, offer: Offer) -> Delivered:
        """All copies that are not made yet, in as many jobs as it takes."""
        while True:
            found = await self._print(offer)
            self._done += self._making
            if self._done >= self._copies:
                return found
            await self._next_round(found)

    async def _next_round(self, found: Delivered) -> None:
        """Begin another one, behind what `found` says of those before."""
        self._round += 1
        before = {name: found.evidence.get(name) for name in COUNTS}
        self._at = self._new_job()
        self._at.before = before
        await self._delivery.note(
            {
                "round": self._round,
                "copies-done": self._done,
                **{f"{name}-done": count for name, count in before.items()},
                "printer-job-id": None,
                DOCUMENT_SENT: False,
            }
        )

    def _after_copies(self, outcome: Outcome) -> Outcome:
        """An outcome that knows nothing of the copies that are printed already."""
        if not self._done or isinstance(outcome, InDoubt | Delivered):
            return outcome
        if outcome.reason == JobReason.JOB_CANCELED_AT_DEVICE:
            return outcome  # nobody misses the others
        detail = f"{self._done} of {self._copies} copies are printed. {outcome.detail}"
        return self._at.doubt("copies-missing", detail)

    # --- one job at the printer -------------------------------------------------------------------

    async def _print(self, offer: Offer) -> Delivered:
        """Hand the job over and see it through.

        Raises:
            Verdict: anything but delivered.
        """
        wishes, self._at.left_out = wishes_of(self._job, offer)
        self._making = min(offer.copies_max, self._copies - self._done)
        if self._making > 1:
            wishes.append(ipp.integer("copies", self._making))
        self._has_asked = True
        self._at.name = job_name(self._job.title, self.token)  # its number is known by now
        if offer.creates_jobs:
            await self._create(wishes)
            await self._send(offer)
        else:
            await self._print_at_once(wishes, offer)
        return await self._at.wait()

    async def _create(self, wishes: list[Attribute]) -> None:
        """The printer has a job of ours, without a document, and its number is durable."""
        name = self._at.name
        try:
            job, ignored = await self._without_rejected(
                wishes, lambda: self._peer.create_job(name, wishes)
            )
        except IppRefused as error:
            raise Verdict(refusal(error)) from error
        except (Broken, HttpRefused) as error:
            found = await self._found_after(error)
            if found is None:
                raise Verdict(refusal(error)) from error
            job, ignored = found, []
        self._leave_out(ignored)
        await self._note(job)

    async def _note(self, job: JobView, **more: bool) -> None:
        copies = {"copies": self._making} if self._copies > 1 else {}
        await self._at.note(job, **copies, **more)

    async def _without_rejected(
        self, wishes: list[Attribute], ask: Callable[[], Awaitable[T]]
    ) -> T:
        """The answer of `ask`; asked again without the wishes for which the printer refused it."""
        for _ in range(TRIES):
            try:
                return await ask()
            except IppRefused as error:
                names = {wish.name for wish in wishes}
                rejected = names.intersection(error.unsupported) or names - {"copies"} or names
                if error.status not in ipp_verdict.REJECTED_WISHES or not rejected:
                    raise
                self._leave_out(sorted(rejected))
                wishes[:] = [wish for wish in wishes if wish.name not in rejected]
        raise Verdict(Deferred("device-busy", "The printer rejects every request.", Blame.JOB))

    def _leave_out(self, names: list[str]) -> None:
        """The printer does without these wishes; the copies that it does not make come later."""
        self._at.left_out += [name for name in names if name != "copies"]
        if "copies" in names:
            self._making = 1

    async def _send(self, offer: Offer) -> None:
        """The printer has the document; or nobody knows, and its job has to be watched.

        Raises:
            Verdict: nothing was printed, and the printer's job is gone.
        """
        at = self._at
        assert at.id is not None
        name, format_ = self._job.title or "document", self._format(offer)
        try:
            await self._peer.send_document(at.id, name, format_, at.upload)
        except IppRefused as error:
            await at.drop(refusal(error))
        except SourceFailed:
            await at.drop(DAMAGED)
        except (Broken, HttpRefused) as error:
            if not at.upload.has_begun:
                await at.drop(refusal(error))
            at.sent = Sent.NOBODY_KNOWS
        else:
            at.sent = Sent.WHOLE
            await self._delivery.note({DOCUMENT_SENT: True})

    async def _print_at_once(self, wishes: list[Attribute], offer: Offer) -> None:
        """Print-Job, for printers that know no better.

        Raises:
            Verdict: nothing was printed, or nobody will ever know.
        """
        at = self._at
        await self._delivery.note({"operation": "Print-Job", "printer": self._peer.uri})
        name, format_ = at.name, self._format(offer)
        try:
            job, ignored = await self._without_rejected(
                wishes, lambda: self._peer.print_job(name, format_, wishes, at.upload)
            )
        except SourceFailed:
            raise Verdict(DAMAGED) from None
        except (IppRefused, Broken, HttpRefused) as error:
            is_no = isinstance(error, IppRefused) and error.status not in ipp_verdict.AMBIGUOUS
            if is_no or not at.upload.has_begun:
                raise Verdict(refusal(error)) from error
            at.sent = Sent.NOBODY_KNOWS
            found = await at.patiently(lambda: self._peer.find(self.token))
            if found is None:
                if isinstance(error, IppRefused):
                    raise Verdict(refusal(error)) from error
                raise Verdict(await at.forgotten(f"{error} It lists no such job.")) from error
            await self._note(found)
        else:
            self._leave_out(ignored)
            at.sent = Sent.WHOLE
            await self._note(job, **{DOCUMENT_SENT: True})

    # --- finding it again -------------------------------------------------------------------------

    async def _found_after(self, error: Broken | HttpRefused) -> JobView | None:
        """The job that a request made whose answer was lost; None when there is none, or no
        telling: it has no document, so nothing can come of it.
        """
        if not error.may_have_arrived if isinstance(error, Broken) else error.status < 500:
            return None
        for pause_s in LOOK_UP_PAUSES_S:
            await trio.sleep(pause_s)
            try:
                found = await self._peer.find(self.token)
            except (IppRefused, Broken, HttpRefused):
                continue
            if found is not None:
                return found
        return None

    async def _found_again(self) -> bool:
        """Whether the printer has a job of ours that may print; one that cannot is taken back."""
        at = self._at
        if at.id is not None:
            return True
        found = await at.patiently(lambda: self._peer.find(self.token))
        if found is None:
            if at.sent is Sent.NOTHING:
                return False
            raise Verdict(await at.forgotten("The printer lists no such job."))
        if at.sent is Sent.NOTHING:
            at.id = found.id
            await at.cancel()
            at.id = None
            return False
        await self._note(found)
        return True

    async def _take_back(self) -> None:
        """An operator canceled the job: the printer should not print it, either."""
        at = self._at
        self._peer.session.abort()  # whatever was under way
        if not self._has_asked:
            return
        try:
            if at.id is None:
                found = await self._peer.find(self.token)
                at.id = found.id if found is not None else None
        except (IppRefused, Broken, HttpRefused):
            return
        if at.id is not None and (job := await at.cancel()) is not None:
            told = {"canceled-at-device": described(job)[:255]}
            await self._delivery.note(told | at.counted(job))
