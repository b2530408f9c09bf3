"""Jobs that are made before their documents come: Create-Job, Send-Document, Close-Job.

In: a `Submission`, later documents from the same submitter. Out: an open job, durable at once, and
then a job like any other. The checks are those of `acceptance`, at each of the two steps.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from spoold.intake.acceptance import Acceptance
from spoold.intake.submission import Submission
from spoold.intake.upload import Upload, too_large
from spoold.model import policy
from spoold.model.errors import OperationError
from spoold.model.job import DOCUMENTS_MAX, Job, JobReason, JobState
from spoold.model.printer import Printer
from spoold.model.release import owner_by_rule
from spoold.spool.journal import Journal
from spoold.spool.open_jobs import too_many_documents
from spoold.spool.reader import SqliteReader
from spoold.spool.store import NO_DOCUMENT, Accepted, AttachDocument, CloseJob, OpenJob

log = structlog.get_logger("spoold.intake")

NO_DOCUMENT_CAME = "It was closed without a document."


class OpenJobs:
    """The open jobs of a node. `time_out_s` is how long one waits for its next document."""

    def __init__(
        self,
        acceptance: Acceptance,
        journal: Journal,
        reader: SqliteReader,
        time_out_s: Callable[[], float],
    ) -> None:
        self._acceptance = acceptance
        self._journal = journal
        self._reader = reader
        self._time_out_s = time_out_s
        self._uploads: dict[int, DocumentUpload] = {}

    @property
    def time_out_s(self) -> float:
        """multiple-operation-time-out, in seconds."""
        return self._time_out_s()

    def is_receiving(self, job_id: int) -> bool:
        """Whether a document of this job is on its way."""
        return job_id in self._uploads

    async def open(self, submission: Submission) -> Accepted:
        """A job without a document; the sender may be answered when this returns.

        Raises:
            OperationError, SpoolFull: it is refused; nothing was kept.
        """
        one = submission
        printer = self._acceptance.printer(one.printer)
        self._acceptance.check_room(0)
        now_us = self._acceptance.wall_clock()
        hold = one.hold_at(now_us)
        reasons: tuple[str, ...] = (JobReason.JOB_INCOMING.value,)
        if hold is not None:
            reasons = (*reasons, JobReason.JOB_HOLD_UNTIL_SPECIFIED.value)
        accepted: Accepted = await self._journal.commit(
            OpenJob(
                printer.id,
                owner_by_rule(printer.senders, one.owner, one.client_host),
                one.submitter,
                NO_DOCUMENT,
                now_us,
                one.uuid,
                one.title,
                one.client_host,
                one.intake,
                one.priority,
                one.copies,
                one.copies_embedded,
                one.attributes,
                JobState.PENDING_HELD,
                reasons,
                "",
                "" if hold is None else hold.until,
                None if hold is None else hold.release_us,
                deadline_us=self.deadline_us(now_us),
            )
        )
        log.debug(
            "job_opened",
            job_id=accepted.job_id,
            job_uuid=accepted.uuid,
            printer=one.printer,
            position=accepted.position,
        )
        return accepted

    async def begin_document(
        self,
        job_id: int,
        submitter: str,
        *,
        size: int | None = None,
        format: str = "application/octet-stream",
        digest_algorithm: str = "blake3",
        name: str = "",
    ) -> DocumentUpload:
        """Admit the next document of an open job; `size` in bytes, if announced.

        Of two connections that bring it, the later one goes on.

        Raises:
            OperationError: `not-found`; `forbidden`, another submitter made the job;
                `not-possible`, it is not open; `too-large`, it is, or there are too many.
            SpoolFull: no room.
        """
        job, printer = await self._find(job_id, submitter)
        if job.documents_here >= DOCUMENTS_MAX:
            raise too_many_documents()
        copies, copies_embedded = job.copies, job.copies_embedded
        if job.documents_here:  # those are of the first one
            copies, copies_embedded = await self._reader.copies_asked(job_id)
        limit = self._acceptance.limits.document_bytes_max
        if size is not None and size > limit:
            raise too_large(limit)
        self.check_sum(job, size or 0)
        self._acceptance.check_room(size or 0)
        submission = Submission(
            printer.name,
            job.owner,
            job.submitter,
            job.intake,
            job.client_host,
            copies=copies,
            copies_embedded=copies_embedded,
            format=format,
            size=size,
            digest_algorithm=digest_algorithm,
        )
        upload = DocumentUpload(self, self._acceptance, submission, printer, job, name)
        earlier = self._uploads.get(job_id)
        self._uploads[job_id] = upload
        if earlier is not None:
            earlier.give_way()
        return upload

    def check_sum(self, job: Job, size: int) -> None:
        """The documents of a job that has some may grow by `size` bytes.

        Raises:
            OperationError: `too-large`: they may not.
        """
        limit = self._acceptance.limits.job_bytes_max
        if job.documents_here and job.bytes_total + size > limit:
            raise OperationError(
                "too-large",
                f"the documents of job {job.id} are together larger than {limit} bytes.",
                "Make another job, or raise limits.job_bytes_max.",
            )

    async def close(self, job_id: int, submitter: str) -> Accepted:
        """No more documents come: an empty job is aborted, another one goes on as it may.

        Raises:
            OperationError: as `begin_document`.
        """
        job, printer = await self._find(job_id, submitter)
        reasons, message = self.hold_reasons(job, printer)
        now_us = self._acceptance.wall_clock()
        if job.document.stored == "none":
            message = NO_DOCUMENT_CAME
        closed: Accepted = await self._journal.commit(
            CloseJob(job_id, now_us, submitter, reasons, message)
        )
        return closed

    async def _find(self, job_id: int, submitter: str) -> tuple[Job, Printer]:
        """The open job of this submitter, and where it is.

        Raises:
            OperationError: there is none.
        """
        job = await self._reader.job(job_id)
        if job is None:
            raise OperationError("not-found", f"there is no job {job_id}.")
        if job.submitter != submitter:
            raise OperationError(
                "forbidden", f"job {job_id} was made by somebody else.", "Make one of your own."
            )
        printer = self._acceptance.printer_of(job.printer_id)
        if not job.is_incoming or printer is None:
            raise OperationError(
                "not-possible",
                f"job {job_id} takes no documents any more; it is {job.state}.",
                "Make another job.",
            )
        return job, printer

    def hold_reasons(self, job: Job, printer: Printer) -> tuple[tuple[str, ...], str]:
        """Why a job whose document is here is held by its printer, if it is; and a message."""
        reasons = self.held_on_create(printer)
        message = ""
        if not job.owner.known.is_at_least(printer.least_owner):
            reasons = (*reasons, JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH.value)
            message = f"the printer asks for an owner who is at least {printer.least_owner}"
        return reasons, message

    def held_on_create(self, printer: Printer) -> tuple[str, ...]:
        return (JobReason.JOB_HELD_ON_CREATE.value,) if printer.hold_new_jobs else ()

    async def expire(self, job_id: int) -> Accepted:
        """Close a job whose time is over: nobody says any more that there is nothing to come.

        Raises:
            OperationError: it is not open any more, or has more time.
        """
        job = await self._reader.job(job_id)
        printer = None if job is None else self._acceptance.printer_of(job.printer_id)
        if job is None or printer is None:
            raise OperationError("not-found", f"there is no job {job_id}.")
        reasons, message = self.hold_reasons(job, printer)
        if job.document.stored == "none":
            message = f"No document came within {self.time_out_s:g} s."
        now_us = self._acceptance.wall_clock()
        closed: Accepted = await self._journal.commit(
            CloseJob(job_id, now_us, None, reasons, message, is_overdue=True)
        )
        return closed

    def deadline_us(self, now_us: int) -> int:
        return now_us + int(self.time_out_s * policy.SECOND_US)

    def forget(self, job_id: int, upload: DocumentUpload) -> None:
        if self._uploads.get(job_id) is upload:
            del self._uploads[job_id]


class DocumentUpload(Upload):
    """A document of an open job on its way in. `last`: no other one follows.

    What broke off is abandoned: the job stays open, and its sender may send it again.
    """

    __slots__ = ("_job", "_jobs", "_name_given", "last")

    def __init__(
        self,
        jobs: OpenJobs,
        acceptance: Acceptance,
        submission: Submission,
        printer: Printer,
        job: Job,
        name: str,
    ) -> None:
        super().__init__(acceptance, submission, printer, "")
        self._jobs = jobs
        self._job = job
        self._name_given = name
        self.last = True

    def give_way(self) -> None:
        """Another connection brings the document: this one ends at its next step."""
        self._taken_over = True

    def _check(self, more: int) -> None:
        super()._check(more)
        self._jobs.check_sum(self._job, self.offset + more)

    def _hold_reasons(self) -> tuple[str, ...]:
        return self._jobs.held_on_create(self._printer)  # for how long it is held, the spool knows

    async def interrupt(self, detail: str) -> Accepted | None:
        await self.abandon()
        return None

    async def _keep(self, state: JobState, reasons: tuple[str, ...], message: str) -> Accepted:
        one = self.submission
        document = await self._document.keep(one.format)
        document.name = self._name_given
        now_us = self._acceptance.wall_clock()
        return await self._acceptance.commit(
            AttachDocument(
                self._job.id,
                one.submitter,
                document,
                now_us,
                self.last,
                self._jobs.deadline_us(now_us),
                reasons,
                message,
                one.copies,
                one.copies_embedded,
                self._job.documents_here + 1,
            )
        )

    def _end(self) -> None:
        super()._end()
        self._jobs.forget(self._job.id, self)
