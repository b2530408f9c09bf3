"""Jobs that wait here and are wanted elsewhere: this site gives them to its application server.

In: what is wanted, as the application server says when it is asked (FRAMES.md 12). Out: a job that
waits here for nobody any more (`job-waits-elsewhere`), and there for its owner. It is let go of by
a commit before anything leaves; from then on nobody else than the application server releases it,
and what it has not said to have is sent again until it has it, over as many lines as that takes.
The document stays here until the job has ended there. Only what is refused waits here again, and
what a line that breaks has cut off before its last byte. A job whose document is missing or
damaged ends here, as it would at a printer. What an operator cancels here is canceled there, too,
by the record of it; a document that is on its way stops.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.driver.next_hop import arguments_of, document_of
from spoold.model.errors import OperationError, SpooldError, SpoolError, StoreFailed
from spoold.model.job import AWAITS_RELEASE, Job, JobReason, JobState
from spoold.model.node import LineState
from spoold.model.transitions import JobEvent
from spoold.provider.document import Document
from spoold.site.line import Line, Lost, not_done
from spoold.site.wanting import EVENT, of_several
from spoold.spool.crashpoint import crash_point
from spoold.spool.documents import Documents
from spoold.spool.handed import HANDED_ON
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import ChangeJob, Event, JobFilter, JobMoved

log = structlog.get_logger("spoold.site")

ANSWER_S = 30.0
RETRY_S = 2.0
AT_ONCE = 4  # documents on their way
PAGE = 100

ELSEWHERE = JobReason.JOB_WAITS_ELSEWHERE.value
RELEASE_WAIT = JobReason.JOB_RELEASE_WAIT.value
# For which a job that waits for its owner may be held besides: the next release asks anew.
_ASKED_ANEW = AWAITS_RELEASE - {JobReason.JOB_BEING_COUNTED.value}


class Giving:
    """`printer_name` says what the printer with this number is called, if it is still there."""

    def __init__(
        self,
        line: Line,
        documents: Documents,
        journal: Journal,
        reader: SqliteReader,
        printer_name: Callable[[int], Awaitable[str | None]],
        wall_clock: Callable[[], int],
    ) -> None:
        self._line = line
        self._documents = documents
        self._journal = journal
        self._reader = reader
        self._printer_name = printer_name
        self._wall_clock = wall_clock
        self._is_asked = False
        self._is_to_settle = True
        self._bell = trio.Event()
        self._slots = trio.Semaphore(AT_ONCE)
        self._busy: set[UUID] = set()
        self._sending: dict[UUID, trio.CancelScope] = {}
        journal.listen(self._hear)
        line.hear(EVENT, self._asked)
        line.listen(self._line_changed)

    def _asked(self, args: dict[str, Any]) -> None:
        self._is_asked = True
        self._bell.set()

    def _line_changed(self, state: LineState) -> None:
        self._is_to_settle = True
        self._bell.set()

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is JobMoved and event.new is JobState.CANCELED:
                sending = self._sending.get(event.uuid)
                if sending is not None:
                    sending.cancel()

    async def run(self) -> None:
        """Give, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                if self._is_asked:
                    self._is_asked = False
                    await self._look(nursery)
                if self._is_to_settle and self._line.state is LineState.UP:
                    self._is_to_settle = False
                    nursery.start_soon(self._settle, nursery)

    async def _look(self, nursery: trio.Nursery) -> None:
        """Begin to give what is wanted now."""
        try:
            answer = await self._line.call("site.wanted", {}, ANSWER_S)
        except (Lost, OperationError) as error:
            log.info("wanted_jobs_unheard", reason=str(error))
            return  # who wanted them asks again
        for text in answer["jobs"]:
            uuid = UUID(text)
            if uuid not in self._busy:
                self._busy.add(uuid)
                nursery.start_soon(self._attend, self._give, uuid)

    async def _settle(self, nursery: trio.Nursery) -> None:
        """Have the application server have whatever was let go of before this line."""
        after_id = 0
        while True:
            which = JobFilter(
                states=(JobState.PENDING_HELD,), reason=ELSEWHERE, after_id=after_id, limit=PAGE
            )
            found = await self._reader.jobs(which)
            for job in found:
                after_id = job.id
                if job.uuid not in self._busy:
                    self._busy.add(job.uuid)
                    nursery.start_soon(self._attend, self._hand_over, job.uuid)
            if len(found) < PAGE:
                return

    async def _attend(self, do: Callable[[UUID], Awaitable[None]], uuid: UUID) -> None:
        """One job at a time; what cannot be done now is done again, or by the next line."""
        try:
            async with self._slots:
                await do(uuid)
        except Lost as error:
            log.info("job_not_given", job_uuid=str(uuid), reason=str(error))
        except StoreFailed:
            raise
        except (OperationError, SpooldError, OSError) as error:
            log.warning("job_not_given", job_uuid=str(uuid), reason=str(error))
            await trio.sleep(RETRY_S)
            self._is_to_settle = True
            self._bell.set()
        finally:
            self._busy.discard(uuid)

    # -- one job ---------------------------------------------------------------------------------

    async def _give(self, uuid: UUID) -> None:
        """Let go of a job that is wanted, or say why it stays.

        Raises:
            Lost, OperationError, SpooldError, OSError: nobody knows how far it came.
        """
        try:
            is_fresh = await self._let_go(await self._reader.job_by_uuid(uuid))
        except OperationError as error:
            await self._keep(uuid, error)
            return
        crash_point("let-go")
        await self._hand_over(uuid, is_fresh=is_fresh)

    async def _let_go(self, job: Job | None) -> bool:
        """It waits here for nobody any more, durably; whether it did until now.

        Raises:
            OperationError: it cannot be given, or somebody was faster.
        """
        if job is None:
            raise OperationError("not-possible", "the job is not there any more.", "List again.")
        if job.state is JobState.PENDING_HELD and ELSEWHERE in job.reasons:
            return False
        if job.state is not JobState.PENDING_HELD or not job.awaits_release:
            raise OperationError("not-possible", f"the job is {job.state} by now.", "List again.")
        if job.documents > 1:
            raise of_several()
        if not _ASKED_ANEW.issuperset(job.reasons):
            raise OperationError(
                "not-possible", "the job is held for something else, too.", "Fetch it there."
            )
        await self._journal.commit(self._held_for(job, ELSEWHERE, only_with=RELEASE_WAIT))
        return True

    def _held_for(self, job: Job, reason: str, message: str = "", *, only_with: str) -> ChangeJob:
        return ChangeJob(
            job.id,
            JobEvent.HOLD,
            self._wall_clock(),
            reasons=(reason,),
            message=message,
            only_from=(JobState.PENDING_HELD,),
            only_with=only_with,
        )

    async def _hand_over(self, uuid: UUID, *, is_fresh: bool = False) -> None:
        """Have the application server have a job that was let go of.

        `is_fresh`: nothing of it has ever left, so that it may wait here again.
        """
        job = await self._reader.job_by_uuid(uuid)
        if job is None or ELSEWHERE not in job.reasons:
            await self._keep(uuid, _over())
            return
        can_be_there = not is_fresh or job.intake == HANDED_ON
        try:
            told = await self._tell(uuid, can_be_there=can_be_there)
            if told["state"] is None:
                await self._send(job, is_fresh=is_fresh)
                crash_point("given-before-word")
                told = await self._tell(uuid)
        except _NotGiven as error:
            await self._have_it_wait(job, error.refusal)
            return
        except _Damaged as error:
            await self._end_damaged(job, error)
            return
        await self._note(job, told)

    async def _have_it_wait(self, job: Job, why: OperationError | None) -> None:
        """It waits here again; whoever wanted it is told why, if there is anything to say."""
        try:
            await self._journal.commit(self._held_for(job, RELEASE_WAIT, only_with=ELSEWHERE))
        except OperationError:
            why = _over()
        if why is not None:
            await self._keep(job.uuid, why)

    async def _tell(self, uuid: UUID, *, can_be_there: bool = True) -> dict[str, Any]:
        """What the application server has of a job that is its own.

        `can_be_there`: it may have the document, and goes on with the job by this question.

        Raises:
            _NotGiven: it can never have it, or has nothing of it yet.
        """
        try:
            return await self._line.call("site.gave", {"job_uuid": str(uuid)}, ANSWER_S)
        except Lost:
            if can_be_there:
                raise
            raise _NotGiven(None) from None
        except OperationError as error:
            if error.code == "not-possible":
                raise _NotGiven(error) from error
            raise

    async def _send(self, job: Job, *, is_fresh: bool) -> None:
        """Hand it on, to be held there.

        Raises:
            _NotGiven: the application server has it not, and will not.
            _Damaged: there is nothing that could be sent.
        """
        is_whole = not is_fresh

        def note_end() -> None:
            nonlocal is_whole
            is_whole = True

        document = await self._open(job)
        try:
            args = await self._arguments(job, document.size)
            with trio.CancelScope() as self._sending[job.uuid]:
                await self._line.upload(args, document, note_end)
                return
        except OperationError as error:
            if error.code in ("busy", "digest-mismatch"):
                raise  # another line is just bringing it, or what had come was damaged
            raise _NotGiven(error) from error
        except Lost:
            if is_whole:
                raise
            raise _NotGiven(None) from None
        finally:
            self._sending.pop(job.uuid, None)
            document.close()
        raise _NotGiven(_over())

    async def _arguments(self, job: Job, size: int) -> dict[str, Any]:
        name = await self._printer_name(job.printer_id)
        if name is None:
            raise OperationError("not-found", "its printer was removed.")
        args = arguments_of(job, name, size)
        return args | {"handed_on": args["handed_on"] | {"held": True}}

    async def _open(self, job: Job) -> Document:
        found = await self._reader.job_with_document(job.id)
        if found is None:
            raise OperationError("not-found", "the job is not there any more.")
        try:
            source = self._documents.open_found(*found)
        except SpoolError as error:
            raise _Damaged(str(error)) from error
        try:
            return await trio.to_thread.run_sync(document_of, source)
        finally:
            source.close()

    async def _note(self, job: Job, told: dict[str, Any]) -> None:
        """The application server has it: here it waits for its end there, or has come to it."""
        upstream = self._line.upstream
        name = "the application server" if upstream is None else upstream.name
        message = f"It is job {told['job_id']} at {name}."
        if told["job_id"] is None:
            message = f"It was printed, as {name} knows."
        if JobState(told["state"]).is_final:
            change = ChangeJob(
                job.id,
                JobEvent.CANCEL,
                self._wall_clock(),
                reasons=(JobReason.JOB_DONE_ELSEWHERE.value,),
                message=message,
                only_from=(JobState.PENDING_HELD,),
                only_with=ELSEWHERE,
            )
        elif job.message == message:
            return
        else:
            change = self._held_for(job, ELSEWHERE, message, only_with=ELSEWHERE)
        await self._journal.commit(change)
        log.info("job_given", job_uuid=str(job.uuid), there=told["job_id"])

    async def _end_damaged(self, job: Job, error: _Damaged) -> None:
        """Nothing can come of the job any more: it ends here, and who wanted it is told so."""
        log.error("document_damaged", job_id=job.id, job_uuid=str(job.uuid), detail=str(error))
        change = ChangeJob(
            job.id,
            JobEvent.DAMAGE,
            self._wall_clock(),
            reasons=(JobReason.ABORTED_BY_SYSTEM.value, JobReason.DOCUMENT_DAMAGED.value),
            message=str(error),
            only_from=(JobState.PENDING_HELD,),
            only_with=ELSEWHERE,
        )
        await self._journal.commit(change)
        why = "its document is missing or damaged: nothing can be printed of it."
        await self._keep(job.uuid, OperationError("not-possible", why, "Submit it again."))

    async def _keep(self, uuid: UUID, error: OperationError) -> None:
        await self._line.call("site.gave", {"job_uuid": str(uuid), **not_done(error)}, ANSWER_S)


def _over() -> OperationError:
    return OperationError("not-possible", "the job is canceled by now.", "List again.")


class _NotGiven(Exception):
    """A job that was let go of waits here again. `refusal`: what the application server said."""

    def __init__(self, refusal: OperationError | None) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _Damaged(Exception):
    """The document of a job that was let go of is missing, or not what was accepted."""
