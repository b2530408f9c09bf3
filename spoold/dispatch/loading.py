"""Jobs and their documents on their way from the spool to an attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio
from outcome import Error, Maybe

from spoold.driver.link import Source
from spoold.model.errors import SpoolError
from spoold.model.job import Job

Found = tuple[Job, bytes | None, str]


class JobReader(Protocol):
    def post_job_with_document(
        self, job_id: int, then: Callable[[Maybe[Found | None]], None]
    ) -> None: ...


class Fresh(Protocol):
    def take(self, job_id: int) -> Found | None:
        """A job that the journal still has at hand."""
        ...


class OpenSource(Source, Protocol):
    def close(self) -> None: ...


class Documents(Protocol):
    def open_found(self, job: Job, body: bytes | None, file: str) -> OpenSource:
        """Raises `SpoolError` when the bytes are missing."""
        ...


class Loading:
    """A job and its document, on their way from the spool; may be begun before its turn."""

    def __init__(self, job_id: int, fresh: Fresh, reader: JobReader, documents: Documents) -> None:
        self.job_id = job_id
        self.job: Job | None = None
        self.source: OpenSource | None = None
        self.error: SpoolError | None = None  # the document is missing
        self._failure: BaseException | None = None
        self._documents = documents
        self._done = trio.Event()
        self._is_closed = False
        self.is_outdated = False  # the job was changed after it was loaded
        found = fresh.take(job_id)
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
