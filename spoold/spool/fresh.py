"""Jobs that were accepted a moment ago, so that an idle printer need not read them back.

Bounded and optional: whatever is not here is in the store. A job is given out once; any change of
it makes it stale, and the store is asked then.
"""

from __future__ import annotations

from spoold.model.job import Document, Job, JobState
from spoold.spool.store import Accepted, AcceptJob

BYTES_MAX = 2 * 1024 * 1024
JOBS_MAX = 512


class FreshJobs:
    def __init__(self) -> None:
        self._found: dict[int, tuple[AcceptJob, Accepted]] = {}
        self._bytes = 0

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._found

    def put(self, change: AcceptJob, accepted: Accepted) -> None:
        """Remember a job that was just committed, if it is small and can print at once."""
        document = change.document
        if document.body is None or change.state is not JobState.PENDING or accepted.is_duplicate:
            return
        self._found[accepted.job_id] = (change, accepted)
        self._bytes += document.size
        while self._bytes > BYTES_MAX or len(self._found) > JOBS_MAX:
            self.forget(next(iter(self._found)))

    def forget(self, job_id: int) -> None:
        """The job changed."""
        found = self._found.pop(job_id, None)
        if found is not None:
            self._bytes -= found[0].document.size

    def take(self, job_id: int) -> tuple[Job, bytes | None, str] | None:
        """The job with its body, as `SqliteReader.job_with_document` finds it; then it is gone."""
        found = self._found.get(job_id)
        if found is None:
            return None
        self.forget(job_id)
        change, accepted = found
        document = change.document
        job = Job(
            id=job_id,
            uuid=accepted.uuid,
            printer_id=change.printer_id,
            state=change.state,
            reasons=change.reasons,
            owner=change.owner,
            submitter=change.submitter,
            title=change.title,
            client_host=change.client_host,
            intake=change.intake,
            priority=change.priority,
            created_us=change.now_us,
            document=Document(document.size, document.digest, document.format),
            position=accepted.position,
            attributes=change.attributes,
            copies=change.copies,
            copies_embedded=change.copies_embedded,
            changed_us=change.now_us,
            message=change.message,
        )
        return job, document.body, ""
