"""Raw jobs: a stream of bytes is a job, and how it ends is everything.

The job ends when the sender half-closes, or pauses where the listener says that a pause is an end.
The one positive answer is our orderly end of the stream (TCP FIN, TLS close_notify), sent after the
commit. Silence, a reset, a sender that is too slow, and a stream whose own format says that its end
is missing are never printed: what came is kept, held, as `submission-interrupted`.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import trio

from spoold.codec import raw as codec
from spoold.intake.acceptance import Acceptance
from spoold.intake.deadlines import Pace, Watch
from spoold.intake.submission import Submission
from spoold.intake.upload import Upload
from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.model.person import NOBODY, Known, Owner, normalise_name
from spoold.model.principal import Principal
from spoold.model.release import PJL_ACCOUNT
from spoold.net.stream import Stream

log = structlog.get_logger("spoold.intake")

# How long a sender of labels pauses before a finished label is a job of its own.
ZPL_PAUSE_S = 1.0
# Deadlines move at most this often: precise enough, and cheap for a fast sender.
DEADLINE_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a raw job ends: `half-close`, `idle` (after `idle_s` seconds of silence) or `zpl`."""

    kind: str = "half-close"
    idle_s: float = 0.0


async def serve_raw(
    stream: Stream,
    first_bytes: bytes,
    is_ended: bool,
    printer: str,
    ending: Ending,
    principal: Principal,
    acceptance: Acceptance,
    limits: Pace,
    watch: Watch,
) -> None:
    """Take the jobs of one connection. Whatever is no success leaves the stream to be reset.

    `is_ended` says that `first_bytes` are all that the sender had. A sender whose jobs end by a
    pause keeps its connection for as long as it likes.
    """
    data = first_bytes
    while True:
        if not data and not is_ended:
            # Between two jobs hours may pass; of a sender that is gone TCP's keep-alive tells.
            watch.is_quiet = True
            data = await stream.receive_some()
        if not data:
            await stream.finish()
            return
        watch.is_quiet = False
        upload = await acceptance.begin(
            Submission(printer, NOBODY, principal.identity, "raw", principal.address)
        )
        try:
            await upload.write(data)
            taken = _Taken(stream, upload, ending, limits, watch)
            problem = "" if is_ended else await taken.take(data)
            is_ended = is_ended or taken.is_ended
            if not problem:
                tail = await upload.tail()
                head = upload.head
                problem = codec.missing_end(head, tail, upload.offset)
                _describe(upload, head)
        except trio.Cancelled:
            with trio.move_on_after(10, shield=True):
                await _interrupted(upload, "spoold stopped during the upload")
            raise
        except BaseException:
            await upload.abandon()
            raise
        if taken.is_broken or (problem and not is_ended):
            await _interrupted(upload, problem)
            stream.abort()
            return
        if problem:
            await _interrupted(upload, problem)
        else:
            await upload.commit()
        data = b""


class _Taken:
    """Takes the bytes of one job from a connection."""

    __slots__ = ("_ending", "_limits", "_stream", "_upload", "_watch", "is_broken", "is_ended")

    def __init__(
        self, stream: Stream, upload: Upload, ending: Ending, limits: Pace, watch: Watch
    ) -> None:
        self._watch = watch
        self._stream = stream
        self._upload = upload
        self._ending = ending
        self._limits = limits
        self.is_ended = False  # the sender ended its half
        self.is_broken = False  # the connection is of no more use

    async def take(self, first: bytes) -> str:
        """Receive until the job ends. Returns what is wrong with it, "" when nothing is."""
        started = trio.current_time()
        try:
            if self._ending.kind == "half-close":
                return await self._until_eof(started)
            return await self._until_pause(first, started)
        except trio.BrokenResourceError:
            self.is_broken = True
            return "the connection broke before the end of the job"
        except trio.ClosedResourceError:
            if not self._watch.is_expired:
                raise
            self.is_broken = True
            idle_s = self._limits.idle_deadline_s
            return f"the sender was silent for {idle_s:g} s and had not ended the job"

    async def _until_eof(self, started: float) -> str:
        stream, upload, idle_s = self._stream, self._upload, self._limits.idle_deadline_s
        watch = self._watch
        watch.deadline = started + idle_s
        moved = started
        while await upload.receive(stream):
            now = trio.current_time()
            if now - moved >= DEADLINE_STEP_S:
                if self._is_too_slow(now - started):
                    self.is_broken = True
                    return "the sender was too slow"
                moved = now
                watch.deadline = now + idle_s
        self.is_ended = True
        return ""

    async def _until_pause(self, first: bytes, started: float) -> str:
        """Until the sender pauses where a pause ends the job, or ends its half."""
        stream, upload, limits = self._stream, self._upload, self._limits
        labels = codec.ZplEnd() if self._ending.kind == "zpl" else None
        may_end = labels.feed(first) if labels else True
        pause_s = self._ending.idle_s or ZPL_PAUSE_S
        self._watch.deadline = float("inf")  # the pauses below are precise ones
        while True:
            wait_s = pause_s if may_end else limits.idle_deadline_s
            data = b""
            with trio.move_on_after(wait_s) as scope:
                data = await stream.receive_some()
            if scope.cancelled_caught:
                if may_end:
                    return ""
                self.is_broken = True
                return f"the sender was silent for {wait_s:g} s in the middle of a label"
            if not data:
                self.is_ended = True
                return "the label has no ^XZ at its end" if labels and labels.is_in_label else ""
            await upload.write(data)
            may_end = labels.feed(data) if labels else True
            if self._is_too_slow(trio.current_time() - started):
                self.is_broken = True
                return "the sender was too slow"

    def _is_too_slow(self, elapsed_s: float) -> bool:
        if elapsed_s < self._limits.minimum_rate_grace_s:
            return False
        return self._upload.offset < elapsed_s * self._limits.minimum_rate_bytes_s


def _describe(upload: Upload, head: bytes) -> None:
    """What the stream says of itself: its format, and by PJL its name, owner, copies, printer."""
    submission = upload.submission
    pjl = codec.read_pjl(head)
    submission.format = codec.guess_format(head, pjl)
    if pjl is None:
        return
    submission.title = pjl.job_name
    submission.copies = pjl.copies
    submission.copies_embedded = pjl.copies_embedded
    if pjl.is_duplex is not None:
        submission.attributes["sides"] = "two-sided-long-edge" if pjl.is_duplex else "one-sided"
    if pjl.account:
        submission.attributes[PJL_ACCOUNT] = pjl.account
    user = normalise_name(pjl.user_name)
    if user:
        submission.owner = Owner(user, Known.CLAIMED, "pjl")
    if pjl.printer and pjl.printer != submission.printer:
        upload.redirect(pjl.printer)


async def _interrupted(upload: Upload, detail: str) -> None:
    """Keep what came, held, as the job of whom it says and for the printer that it names."""
    try:
        if upload.offset:
            await upload.tail()  # its head is there then
            _describe(upload, upload.head)
        accepted = await upload.interrupt(detail)
    except StoreFailed:
        raise
    except (OperationError, SpoolError) as error:
        await upload.abandon()
        log.warning("submission_lost", printer=upload.submission.printer, error=str(error))
        return
    if accepted is not None:
        log.warning(
            "submission_interrupted",
            job_uuid=str(accepted.uuid),
            job_id=accepted.job_id,
            printer=upload.submission.printer,
            client=upload.submission.client_host,
            detail=detail,
        )
