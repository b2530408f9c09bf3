"""Jobs and their documents on their way from the spool to an attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio
from outcome import Error, Maybe

from spoold.driver.link import Source
from spoold.model.errors import SpoolError
from spoold.model.job import Job

Found = tuple[Job, bytes | None, str]

SOON_JOBS: Final = 8  # how many are looked up together
SOON_BYTES_MAX: Final = 16 * 1024  # of the document of each


class JobReader(Protocol):
    def post_job_with_document(
        self,
        job_id: int,
        then: Callable[[Maybe[Found | None]], None],
        bytes_max: int = ...,
    ) -> None: ...


class Fresh(Protocol):
    def __contains__(self, job_id: object) -> bool: ...
    def take(self, job_id: int) -> Found | None:
        """A job that the journal still has at hand."""
        ...


class OpenSource(Source, Protocol):
    def close(self) -> None: ...


class Documents(Protocol):
    def open_found(self, job: Job, body: bytes | None, file: str) -> OpenSource:
        """Raises `SpoolError` when the bytes are missing."""
        ...


class _Awaited:
    """One of the jobs that come soon; `found` once it is here, and small."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: Found | None = None

    def hear(self, result: Maybe[Found | None]) -> None:
        if not isinstance(result, Error):  # else whoever asks for it again hears why
            self.found = result.value


class Soon:
    """Small jobs that one device will take soon, looked up together: it costs little more than one.

    A guess: one that is not taken goes with this, when the device has nothing more to do.
    """

    def __init__(self, fresh: Fresh, reader: JobReader) -> None:
        self._fresh = fresh
        self._reader = reader
        self._jobs: dict[int, _Awaited] = {}

    def look_up(self, job_ids: Iterable[int]) -> None:
        for job_id in job_ids:
            if job_id not in self._jobs and job_id not in self._fresh:
                awaited = self._jobs[job_id] = _Awaited()
                self._reader.post_job_with_document(job_id, awaited.hear, SOON_BYTES_MAX)

    def take(self, job_id: int) -> Found | None:
        """A job that is here; it is here no more."""
        awaited = self._jobs.pop(job_id, None)
        return awaited.found if awaited is not None else None

    def forget(self, job_id: int) -> None:
        """The job has changed."""
        self._jobs.pop(job_id, None)


class Loading:
    """A job and its document, on their way from the spool; may be begun before its turn.

    `found` is what is known of it already; without that the spool is asked.
    """

    def __init__(
        self, job_id: int, found: Found | None, reader: JobReader, documents: Documents
    ) -> None:
        self.job_id = job_id
        self.job: Job | None = None
        self.source: OpenSource | None = None
        self.error: SpoolError | None = None  # the document is missing
        self._failure: BaseException | None = None
        self._documents = documents
        self._done = trio.Event()
        self._is_closed = False
        self.is_outdated = False  # the job was changed after it was loaded
        if found is not None:
            self._open(found)
        else:
            reader.post_job_with_document(job_id, self._loaded)

    def _loaded(self, result: Maybe[Found | None]) -> None:
        if isinstance(result, Error):
            self._failure = result.error
            self._done.set()
        else:
            self._open(result.value)

    def _open(self, found: Found | None) -> None:
        try:
            if found is not None and not self._is_closed:
                self.job = found[0]
                self.source = self._documents.open_found(*found)
        except SpoolError as error:
            self.error = error
        except Exception as failure:
            self._failure = failure
        self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    async def wait(self) -> None:
        """Until it has ended.

        Raises:
            Exception: the spool could not be read.
        """
        if not self._done.is_set():
            await self._done.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Let the document go, also when it has not come yet."""
        self._is_closed = True
        source, self.source = self.source, None
        if source is not None:
            source.close()
