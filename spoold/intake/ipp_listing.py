"""Get-Jobs: any number of jobs in constant memory (RFC 8011 4.2.6; PWG 5100.7, 5100.11, 5100.13).

In: which jobs, and which of their attributes. Out: a streamed answer. Each page of jobs is a read
of its own, one chunk of the answer, and a chance for everybody else to run; the client's reading
sets the pace. What changes meanwhile is seen as it is when its page is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import trio

from spoold.codec import ipp
from spoold.codec.ipp_model import selected
from spoold.codec.ipp_model_job import GROUPS, JOB_ATTRIBUTES, LISTED, JobEncoder
from spoold.codec.ipp_names import Operation, Status
from spoold.intake.ipp_request import HEADERS, Ask, Refusal, Reply
from spoold.intake.ipp_server import Server
from spoold.model.job import JobState
from spoold.model.person import normalise_name
from spoold.spool.store import JobFilter

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

PAGE_JOBS: Final = 50
_OPEN = (
    JobState.PENDING,
    JobState.PENDING_HELD,
    JobState.PROCESSING,
    JobState.PROCESSING_STOPPED,
)
_DONE = (JobState.CANCELED, JobState.ABORTED, JobState.COMPLETED)
_WHICH: Final[dict[str, tuple[JobState, ...]]] = {
    "all": (),
    "completed": _DONE,
    "not-completed": _OPEN,
    **{state.value: (state,) for state in JobState if state is not JobState.COMPLETED},
}
# Kinds of jobs that clients may ask for, and that are never made here.
_NONE: Final = frozenset({"proof-print", "saved"})


def _query(server: Server, ask: Ask) -> JobFilter | None:
    """Which jobs are asked for; None for kinds of which there are none.

    Raises:
        Refusal: the request does not say it as it should.
    """
    which = ask.keyword("which-jobs") or "not-completed"
    if which not in _WHICH and which not in _NONE:
        raise Refusal(
            Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED,
            f"there are no jobs called {which[:60]}.",
            [ipp.keyword("which-jobs", which)],
        )
    owner = normalise_name(ask.principal.name or ask.user) if ask.boolean("my-jobs") else None
    printer_id = None if ask.target().printer is None else server.printer(ask).id
    if which in _NONE or owner == "":
        return None
    newest_first = which in ("completed", "canceled", "aborted")
    return JobFilter(
        states=_WHICH[which], printer_id=printer_id, owner=owner, newest_first=newest_first
    )


class _Listing:
    """The job groups of an answer, a page at a time."""

    def __init__(
        self, server: Server, ask: Ask, query: JobFilter, names: frozenset[str], limit: int | None
    ) -> None:
        self._server = server
        self._ask = ask
        self._query = query
        self._encoder = JobEncoder(names)
        self._place = server.place(ask)
        self._left = limit
        self._skip = (ask.integer("first-index", 1) or 1) - 1
        self._first_id = ask.integer("first-job-id", 1) or 0
        self.is_over = False

    async def next(self) -> bytes:
        """The groups of the next page; `is_over` says whether it was the last one."""
        found = await self._server.reader.jobs(self._query)
        self.is_over = len(found) < PAGE_JOBS
        if found:
            self._query = replace(self._query, after_id=found[-1].id)
        jobs = [job for job in found if job.id >= self._first_id]
        skipped = min(self._skip, len(jobs))
        self._skip -= skipped
        jobs = jobs[skipped:]
        if self._left is not None:
            jobs = jobs[: self._left]
            self._left -= len(jobs)
            self.is_over = self.is_over or not self._left
        may_read, principal = self._server.node.may_read, self._ask.principal
        encode, place = self._encoder.group, self._place
        return b"".join(
            [encode(job, place, is_redacted=not may_read(principal, job)) for job in jobs]
        )


async def get_jobs(server: Server, ask: Ask) -> Reply | None:
    query = _query(server, ask)
    limit = ask.integer("limit", 1)
    asked = ask.keywords("requested-attributes")
    names = selected(asked, GROUPS, JOB_ATTRIBUTES, LISTED)
    if query is None:
        return Reply()
    listing = _Listing(server, ask, query, names, limit)
    groups = await listing.next()
    if listing.is_over:
        return Reply(groups=groups)
    exchange = ask.exchange
    await exchange.begin(200, HEADERS)
    await exchange.send(ask.head(Status.SUCCESSFUL_OK) + groups)
    while not listing.is_over:
        await trio.lowlevel.checkpoint()
        await exchange.send(await listing.next())
    await exchange.end(ipp.END)
    return None


OPERATIONS: Final[dict[Operation, Handler]] = {Operation.GET_JOBS: get_jobs}
