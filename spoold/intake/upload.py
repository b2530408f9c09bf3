"""One document on its way into the spool, and the job that it becomes.

In: the bytes of one admitted submission, read by whoever speaks with the sender. Out: an `Accepted`
after the commit, or a refusal after which nothing is left. A connection that breaks leaves what
came to a later one, when the job has a uuid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog
import trio

from spoold.intake.submission import Submission
from spoold.model import policy
from spoold.model.errors import OperationError, SpoolError
from spoold.model.job import JobReason, JobState
from spoold.model.printer import Printer
from spoold.model.release import owner_by_rule
from spoold.net.stream import Stream
from spoold.spool.incoming import Incoming
from spoold.spool.store import Accepted, AcceptJob, AttachDocument

log = structlog.get_logger("spoold.intake")

PIECE_BYTES = 64 * 1024
# A job that has come whole is synced and committed, also when its connection ends meanwhile.
COMMIT_S = 60.0


class Limits(Protocol):
    """The part of the configured limits that admission needs."""

    @property
    def document_bytes_max(self) -> int: ...
    @property
    def job_bytes_max(self) -> int: ...
    @property
    def spool_share(self) -> float: ...
    @property
    def reserve_bytes(self) -> int: ...


class Door(Protocol):
    """What an upload needs of the one that admitted it."""

    @property
    def limits(self) -> Limits: ...
    @property
    def wall_clock(self) -> Callable[[], int]: ...
    def printer(self, name: str) -> Printer: ...
    def keeps(self, printer: Printer) -> bool: ...
    def check_room(self, size: int) -> None: ...
    def promise(self, size: int) -> None: ...
    def begin_document(self, name: str, algorithm: str) -> Incoming: ...
    async def commit(self, change: AcceptJob | AttachDocument) -> Accepted: ...
    def forget(self, name: str, upload: Upload) -> None: ...


class Upload:
    """One document on its way in; one task at a time uses it.

    `accepted` is set when this job-uuid was answered before: there is nothing to send then, and
    `commit` checks the digest against the first one. `reasons` and `message` are those with which
    the job was committed.
    """

    __slots__ = (
        "_acceptance",
        "_document",
        "_ended",
        "_hold",
        "_idle",
        "_is_working",
        "_name",
        "_printer",
        "_promised",
        "_taken_over",
        "accepted",
        "accepted_digest",
        "message",
        "reasons",
        "submission",
    )

    def __init__(
        self, acceptance: Door, submission: Submission, printer: Printer, name: str
    ) -> None:
        self._acceptance = acceptance
        self._printer = printer
        self._name = name
        self._document = acceptance.begin_document(name, submission.digest_algorithm)
        self._ended = False
        self._hold: policy.Hold | None = None
        self._taken_over = False
        # One step at a time: another connection that takes over waits for the end of this one's.
        self._is_working = False
        self._idle: trio.lowlevel.ParkingLot | None = None  # where those wait
        self.submission = submission
        self.accepted: Accepted | None = None
        self.accepted_digest = ""
        self.reasons: tuple[str, ...] = ()
        self.message = ""
        self._promised = submission.size or 0
        if self._promised:
            acceptance.promise(self._promised)

    @property
    def offset(self) -> int:
        """How many bytes are here: where the sender goes on."""
        return self._document.size

    @property
    def head(self) -> bytes:
        """The first bytes of the document, at most 64 KiB; of a large one, after `tail`."""
        return self._document.head

    async def tail(self) -> bytes:
        """The last bytes of the document, at most 4 KiB.

        Raises:
            OperationError: `busy`, another connection took over.
            SpoolFull, SpoolError: the disk has no room, or failed.
        """
        self._check_owned()
        self._is_working = True
        try:
            return await self._document.tail()
        finally:
            self._rest()

    @property
    def printer(self) -> Printer:
        return self._printer

    def redirect(self, name: str) -> None:
        """Send the job to another printer than the one it came for (PJL may name it).

        Raises:
            OperationError: `not-found` or `not-accepting`.
        """
        self._printer = self._acceptance.printer(name)
        self.submission.printer = name

    def settle(self, accepted: Accepted, digest: str) -> None:
        """This job-uuid was answered before: nothing is to come, and no room is kept for it."""
        self.accepted, self.accepted_digest = accepted, digest
        self._end()

    def check_promise(self) -> None:
        """There is room for what is still to come of a document of announced size.

        Raises:
            SpoolFull: there is not.
        """
        self._keep_promise(self._document.size)
        self._acceptance.check_room(0)

    def _keep_promise(self, size: int) -> None:
        """What has come takes no room for a second time."""
        if self._promised and not self._ended:
            left = max(0, (self.submission.size or 0) - size)
            self._acceptance.promise(left - self._promised)
            self._promised = left

    async def take_over(self, earlier: Upload | None) -> None:
        """Go on with what `earlier`, a half-dead connection, or one before it has left.

        Raises:
            OperationError: `busy`, another connection took over from this one meanwhile.
        """
        self._is_working = True
        try:
            if earlier is not None:
                await earlier.yield_to_another()
            self._check_owned()
            await self._document.resume()
        finally:
            self._rest()

    def _check_owned(self) -> None:
        if self._taken_over:
            raise OperationError(
                "busy", "the upload goes on over another connection.", "Submit it again there."
            )

    def _rest(self) -> None:
        self._is_working = False
        if self._idle is not None:
            self._idle.unpark_all()

    async def _until_rest(self) -> None:
        """Another connection makes this one yield: return when its step has ended."""
        if self._idle is None:
            self._idle = trio.lowlevel.ParkingLot()
        while self._is_working:
            await self._idle.park()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes.

        Raises:
            OperationError: `too-large`, or `busy` when another connection took over.
            SpoolFull: no room.
        """
        self._check(len(data))
        self._is_working = True
        try:
            await self._document.write(data)
        finally:
            self._rest()

    async def receive(self, stream: Stream) -> int:
        """One read from `stream`; returns how many bytes came, 0 at the end of the stream."""
        document = self._document
        if document.is_file:
            count = await stream.receive_into(document.buffer())
            if count:
                self._check(count)
                self._is_working = True
                try:
                    await document.filled(count)
                finally:
                    self._rest()
            return count
        data = await stream.receive_some(PIECE_BYTES)
        if data:
            await self.write(data)
        return len(data)

    @property
    def is_large(self) -> bool:
        """The document goes into a file: bytes can be received straight into its buffer."""
        return self._document.is_file

    async def receive_framed(self, stream: Stream, strip: Callable[[memoryview], int]) -> int:
        """One read from `stream` of a large document that comes in a framing; returns its size.

        `strip` moves the document's bytes to the front of what came, and says how many they are.
        """
        document = self._document
        buffer = document.buffer()
        count = await stream.receive_into(buffer)
        size = strip(buffer[:count])
        if size:
            self._check(size)
            self._is_working = True
            try:
                await document.filled(size)
            finally:
                self._rest()
        return count

    def _check(self, more: int) -> None:
        self._check_owned()
        size = self._document.size + more
        if size > self._acceptance.limits.document_bytes_max:
            raise too_large(self._acceptance.limits.document_bytes_max)
        if size > PIECE_BYTES:  # small ones were checked at the door
            self._keep_promise(size)
            self._acceptance.check_room(0)

    async def commit(self, size: int | None = None, digest: str | None = None) -> Accepted:
        """Make the job durable; the sender may be answered when this returns.

        Raises:
            OperationError: `digest-mismatch` (what came is forgotten), `conflict`, ...
            SpoolFull: no room; nothing was kept.
        """
        if self.accepted is not None:
            self._end()
            if digest is not None and digest != self.accepted_digest:
                raise OperationError(
                    "conflict",
                    "this job-uuid was used before for another document.",
                    "Give every job its own uuid.",
                )
            return self.accepted
        self._check_owned()
        self._is_working = True
        try:
            return await self._commit(size, digest)
        finally:
            self._rest()

    async def _commit(self, size: int | None, digest: str | None) -> Accepted:
        if size is not None and size != self._document.size:
            await self._abandon()
            raise OperationError(
                "digest-mismatch", "the sizes differ.", "Send the document again from offset 0."
            )
        if digest is not None and digest != await self._document.digest():
            await self._abandon()
            raise OperationError(
                "digest-mismatch", "the digests differ.", "Send the document again from offset 0."
            )
        reasons = self._hold_reasons()
        state = JobState.PENDING_HELD if reasons else JobState.PENDING
        return await self._accept(state, reasons, "")

    def _hold_reasons(self) -> tuple[str, ...]:
        """Why the job is to be held at first, if it is."""
        one = self.submission
        reasons: tuple[str, ...] = ()
        if one.hold or one.hold_until or one.hold_until_us is not None:
            self._hold = one.hold_at(self._acceptance.wall_clock())
            if self._hold is not None:
                reasons = (JobReason.JOB_HOLD_UNTIL_SPECIFIED.value,)
        if self._printer.hold_new_jobs and self._acceptance.keeps(self._printer):
            reasons = (*reasons, JobReason.JOB_HELD_ON_CREATE.value)
        if one.awaits_release:
            reasons = (*reasons, JobReason.JOB_RELEASE_WAIT.value)
        return reasons

    async def interrupt(self, detail: str) -> Accepted | None:
        """Keep what came as a held job that broke off; None when nothing came."""
        if not self._document.size:
            await self.abandon()
            return None
        reasons = (JobReason.SUBMISSION_INTERRUPTED.value,)
        return await self._accept(JobState.PENDING_HELD, reasons, detail)

    async def _accept(self, state: JobState, reasons: tuple[str, ...], message: str) -> Accepted:
        one = self.submission
        is_kept = self._acceptance.keeps(self._printer)  # else its owner judges who may print there
        if self._printer.senders and is_kept:
            one.owner = owner_by_rule(self._printer.senders, one.owner, one.client_host)
        least = self._printer.least_owner
        # Also of a job that is held for a time: that hold may end by itself.
        if is_kept and not message and not one.owner.known.is_at_least(least):
            state = JobState.PENDING_HELD
            reasons = (*reasons, JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH.value)
            message = f"the printer asks for an owner who is at least {least}"
        self.reasons, self.message = reasons, message
        try:
            if self._document.is_file:
                accepted = await self._accept_file(state, reasons, message)
            else:
                accepted = await self._keep(state, reasons, message)
        except BaseException:
            await self._document.abandon()
            raise
        finally:
            self._end()
        if not accepted.is_duplicate:
            self.reasons = accepted.reasons  # its printer may keep it
        log.debug(
            "job_accepted",
            job_id=accepted.job_id,
            job_uuid=accepted.uuid,
            printer=one.printer,
            position=accepted.position,
        )
        return accepted

    async def _accept_file(
        self, state: JobState, reasons: tuple[str, ...], message: str
    ) -> Accepted:
        """Between the file's last name and the commit that names it nothing may cut in."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + COMMIT_S):
            return await self._keep(state, reasons, message)
        cause = f"it took more than {COMMIT_S:g} s"
        raise SpoolError("accept", "a job", cause, "Look at the load of the disk.")

    async def _keep(self, state: JobState, reasons: tuple[str, ...], message: str) -> Accepted:
        one, hold = self.submission, self._hold
        document = await self._document.keep(one.format)
        return await self._acceptance.commit(
            AcceptJob(
                self._printer.id,
                one.owner,
                one.submitter,
                document,
                self._acceptance.wall_clock(),
                one.uuid,
                one.title,
                one.client_host,
                one.intake,
                one.priority,
                one.copies,
                one.copies_embedded,
                one.attributes,
                state,
                reasons,
                message,
                "" if hold is None else hold.until,
                None if hold is None else hold.release_us,
                one.created_us,
                one.is_released,
                one.handed_by,
            )
        )

    async def suspend(self) -> None:
        """The connection broke: keep what came for a later resume of the same job."""
        with trio.move_on_after(60, shield=True):
            await self._until_rest()
            if self._ended:
                return
            self._is_working = True
            try:
                await self._document.suspend()
            except SpoolError as error:
                log.warning("upload_not_kept", printer=self._printer.name, detail=str(error))
            finally:
                self._rest()
        self._end()

    async def abandon(self) -> None:
        """Drop what came, but for what another connection has made this one leave to it."""
        with trio.move_on_after(60, shield=True):
            await self._until_rest()
        await self._abandon()

    async def _abandon(self) -> None:
        if not self._ended:
            is_nested, self._is_working = self._is_working, True
            try:
                await self._document.abandon()
            finally:
                self._end()
                if not is_nested:
                    self._rest()

    async def yield_to_another(self) -> None:
        """A newer connection brings the same job: this one ends at its next step."""
        self._taken_over = True
        await self.suspend()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._acceptance.promise(-self._promised)
            self._acceptance.forget(self._name, self)


def too_large(limit: int) -> OperationError:
    return OperationError(
        "too-large",
        f"the document is larger than {limit} bytes.",
        "Split it, or raise limits.document_bytes_max.",
    )
