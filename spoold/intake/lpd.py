"""LPD in: each data file that a control file prints is a job (RFC 1179).

The acknowledgement of the last file of a job is sent after the commit of all its files: it is the
one that a client takes for "the job is yours". Earlier files are acknowledged when they are stored;
they are not durable yet, and RFC 1179 lets a client rely on nothing before the last octet. When a
later file fails they are kept, held, as `submission-interrupted`, except where the client aborted
or was refused. A file that was never acknowledged is dropped: its sender still has it. Files
without a known length end like raw jobs, so theirs are kept, held, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import structlog
import trio

from spoold.codec import lpd as codec
from spoold.codec import raw
from spoold.intake.acceptance import Acceptance
from spoold.intake.deadlines import Pace
from spoold.intake.submission import Submission
from spoold.intake.upload import Upload
from spoold.model.errors import (
    OperationError,
    RemoteProtocolError,
    SpoolError,
    SpoolFull,
    StoreFailed,
)
from spoold.model.person import NOBODY, Known, Owner, normalise_name
from spoold.model.principal import Principal
from spoold.model.release import PJL_ACCOUNT
from spoold.net.stream import Stream

log = structlog.get_logger("spoold.intake")

YES = codec.acknowledgement(0)
# RFC 1179 knows no more than "not zero"; LPRng stops its queue at 1, tries again at 2, and drops
# the job at 3.
NO_QUEUE, TRY_LATER, NEVER = (codec.acknowledgement(code) for code in (1, 2, 3))
_CODES = {"not-found": NO_QUEUE, "too-large": NEVER, "forbidden": NEVER, "bad-request": NEVER}

REMOVAL_REFUSED = b"Jobs are not removed over LPD here. Use `spoold job cancel`.\n"
CLEANING_DEADLINE_S = 10.0

Queues = Callable[[str, bool], Awaitable[bytes]]


async def serve_lpd(
    stream: Stream, principal: Principal, acceptance: Acceptance, limits: Pace, queues: Queues
) -> None:
    """Take the jobs of one connection, or answer its one question about a queue.

    `queues(name, is_long)` gives the listing of a queue. Whatever was no success leaves the stream
    to be reset, but a refusal has its octet and an orderly end.

    Raises:
        RemoteProtocolError, OperationError, SpoolError: as events for the operator; the client
            has had its answer.
        trio.TooSlowError: the client was too slow or silent in the middle of something.
    """
    jobs = _Jobs(principal, acceptance)
    connection = _Connection(stream, limits, queues, jobs)
    try:
        if await connection.converse():
            await stream.finish()
    except StoreFailed:
        raise
    except (OperationError, SpoolError) as error:
        await jobs.abandon()
        code = TRY_LATER if isinstance(error, SpoolFull) else NEVER
        if isinstance(error, OperationError):
            code = _CODES.get(error.code, TRY_LATER)
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(code)
            await stream.finish()
        raise
    except RemoteProtocolError:
        await jobs.keep("the sender broke off, or broke the protocol")
        raise
    except trio.TooSlowError:
        await jobs.keep("the sender was silent or too slow")
        raise
    except trio.BrokenResourceError:
        await jobs.keep("the connection broke before the end of the job")
        raise
    except trio.Cancelled:
        with trio.move_on_after(CLEANING_DEADLINE_S, shield=True):
            await jobs.keep("spoold stopped during the upload")
        raise


class _Connection:
    """The conversation: events of the codec in, acknowledgements out."""

    def __init__(self, stream: Stream, limits: Pace, queues: Queues, jobs: _Jobs) -> None:
        self._stream = stream
        self._limits = limits
        self._queues = queues
        self._jobs = jobs
        self._server = codec.LpdServer()
        self._begun_at: float | None = None  # when what is coming now began
        self._bytes = 0

    async def converse(self) -> bool:
        """Until the client is done. True when the stream may end in order."""
        jobs = self._jobs
        while True:
            event = self._server.next_event()
            match event:
                case None:
                    if not await self._receive():
                        return True
                    continue
                case codec.Data(data):
                    await jobs.write(data)
                    continue
                case codec.ReceiveJob(queue):
                    await jobs.open(queue)
                    await self._send(YES)
                case codec.ControlFileBegins():
                    await self._send(YES)
                case codec.ControlFileEnds():
                    jobs.add_control(event.control)
                    if event.is_job_complete:
                        await jobs.commit()
                    await self._send(YES)
                case codec.DataFileBegins():
                    await jobs.begin(event.name, event.size)
                    await self._send(YES)
                case codec.DataFileEnds():
                    await jobs.end()
                    if event.is_job_complete:
                        await jobs.commit()
                    await self._send(YES)
                case codec.Abort():
                    await jobs.abandon()
                case codec.Closed():
                    return await jobs.keep("no control file came for this data file")
                case codec.PrintWaiting():
                    await self._send(YES)  # whatever waits is being printed anyway
                    return True
                case codec.QueueState(queue, is_long):
                    await self._send(await self._listing(queue, is_long))
                    return True
                case codec.RemoveJobs():
                    await self._send(REMOVAL_REFUSED)
                    return True
            is_file = isinstance(event, codec.ControlFileBegins | codec.DataFileBegins)
            self._begun_at, self._bytes = (trio.current_time() if is_file else None), 0

    async def _listing(self, queue: str, is_long: bool) -> bytes:
        try:
            return await self._queues(queue, is_long)
        except OperationError as error:
            return f"{error}\n".encode()

    async def _send(self, data: bytes) -> None:
        with trio.fail_after(self._limits.idle_deadline_s):
            await self._stream.send_all(data)

    async def _receive(self) -> bool:
        """Give the codec what comes next. False after a silence in which nothing was going on.

        Raises:
            trio.TooSlowError: the client is silent, or slower than the minimum rate.
        """
        limits, now = self._limits, trio.current_time()
        deadline = now + limits.idle_deadline_s
        if self._begun_at is not None and limits.minimum_rate_bytes_s:
            earned_s = limits.minimum_rate_grace_s + self._bytes / limits.minimum_rate_bytes_s
            deadline = min(deadline, self._begun_at + earned_s)
        with trio.CancelScope(deadline=deadline) as scope:
            data = await self._stream.receive_some()
        if scope.cancelled_caught:
            if self._begun_at is None and self._jobs.is_idle:
                return False
            raise trio.TooSlowError
        if self._begun_at is None:
            self._begun_at, self._bytes = trio.current_time(), 0
        self._bytes += len(data)
        self._server.receive_data(data)
        return True


class _Jobs:
    """The files of the job that is coming, and what the control files say of them."""

    def __init__(self, principal: Principal, acceptance: Acceptance) -> None:
        self._principal = principal
        self._acceptance = acceptance
        self._queue = ""
        self._controls: list[codec.ControlFile] = []
        self._stored: dict[bytes, Upload] = {}  # whole, in the order in which they came
        self._coming: Upload | None = None
        self._name = b""
        self._has_length = True

    @property
    def is_idle(self) -> bool:
        return self._coming is None and not self._stored

    async def open(self, queue: str) -> None:
        """The next job is for `queue`.

        Raises:
            OperationError, SpoolFull: it would be refused.
        """
        await self.keep("another job began before this one was whole")
        self._acceptance.printer(queue)
        self._acceptance.check_room(0)
        self._queue = queue

    def add_control(self, control: codec.ControlFile) -> None:
        self._controls.append(control)

    async def begin(self, name: bytes, size: int | None) -> None:
        """Make room for a data file.

        Raises:
            OperationError, SpoolFull: it is refused.
        """
        principal = self._principal
        submission = Submission(
            self._queue, NOBODY, principal.identity, "lpd", principal.address, size=size
        )
        self._coming = await self._acceptance.begin(submission)
        self._name, self._has_length = name, size is not None

    async def write(self, data: bytes | memoryview) -> None:
        assert self._coming is not None
        await self._coming.write(data)

    async def end(self) -> None:
        """The file is whole. An empty one is no job."""
        upload = self._coming
        assert upload is not None
        self._coming = None
        if upload.offset:
            self._stored[self._name] = upload
        else:
            await upload.abandon()

    async def commit(self) -> None:
        """Every file of the job is durable; a stream that looks cut is held.

        Raises:
            OperationError, SpoolError: one was refused; those before it are jobs already.
        """
        printed = {file.name: (c, file) for c in self._controls for file in c.files}
        for name, upload in list(self._stored.items()):
            control, file = printed.get(name, (self._controls[-1], None))
            tail = await upload.tail()
            _describe(upload, control, file)
            problem = ""
            if name == self._name and not self._has_length:
                problem = raw.missing_end(upload.head, tail, upload.offset)
            if problem:
                await self._interrupt(upload, problem)
            else:
                await upload.commit()
            del self._stored[name]
        self._controls.clear()

    async def abandon(self) -> None:
        """Nothing is left of a job that is not committed."""
        uploads = [*self._stored.values(), *([self._coming] if self._coming else [])]
        self._forget()
        for upload in uploads:
            await upload.abandon()

    async def keep(self, detail: str) -> bool:
        """The job will not become whole: hold what was acknowledged, drop what was not.

        True when nothing was left of it.
        """
        stored, coming = list(self._stored.values()), self._coming
        is_clean = not stored and coming is None
        if coming is not None and not self._has_length:
            # Its sender may have ended, and may wait for no answer.
            stored.append(coming)
        elif coming is not None:
            await coming.abandon()
        control = self._controls[-1] if self._controls else codec.ControlFile()
        for upload in stored:
            await self._interrupt(upload, detail, control)
        self._forget()
        return is_clean

    def _forget(self) -> None:
        self._controls.clear()
        self._stored.clear()
        self._coming = None

    async def _interrupt(
        self, upload: Upload, detail: str, control: codec.ControlFile | None = None
    ) -> None:
        """Keep what came, held, and say so. With `control` when it was not described before."""
        try:
            if control is not None:
                await upload.tail()
                _describe(upload, control, None)
            accepted = await upload.interrupt(detail)
        except StoreFailed:
            raise
        except (OperationError, SpoolError) as error:
            log.warning("submission_lost", printer=self._queue, error=str(error))
            return
        if accepted is not None:
            log.warning(
                "submission_interrupted",
                job_uuid=str(accepted.uuid),
                job_id=accepted.job_id,
                printer=self._queue,
                client=self._principal.address,
                detail=detail,
            )


def _describe(upload: Upload, control: codec.ControlFile, file: codec.PrintFile | None) -> None:
    """What the control file says of the job; where it is silent, what PJL in the stream says."""
    submission = upload.submission
    head = upload.head
    pjl = raw.read_pjl(head)
    submission.format = raw.guess_format(head, pjl)
    title, user = control.title, control.user
    if file is not None:
        title = control.job_name or file.source or file.title or title
        submission.copies = file.copies
        submission.attributes["lpd-format"] = file.format
        if file.format == "o":
            submission.format = raw.POSTSCRIPT
    by = "lpd"
    if pjl is not None:
        title = title or pjl.job_name
        if not user and pjl.user_name:
            user, by = pjl.user_name, "pjl"
        if submission.copies == 1 and pjl.copies_embedded:
            submission.copies, submission.copies_embedded = pjl.copies, True
        if pjl.account:
            submission.attributes[PJL_ACCOUNT] = pjl.account
        if pjl.is_duplex is not None:
            submission.attributes["sides"] = "two-sided-long-edge" if pjl.is_duplex else "one-sided"
    submission.title = title
    name = normalise_name(user)
    if name:
        submission.owner = Owner(name, Known.CLAIMED, by)
