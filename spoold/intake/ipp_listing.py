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
from spoold.model.person import normalise_name
from spoold.spool.pages import PageQuery, Which

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

PAGE_JOBS: Final = 50
_WHICH: Final = {one.value: one for one in Which}
# Kinds of jobs that clients may ask for, and that are never made here.
_NONE: Final = frozenset({"proof-print", "saved"})


def _query(server: Server, ask: Ask) -> PageQuery | None:
    """Which jobs are asked for; None for kinds of which there are none.

    Raises:
        Refusal: the request does not say it as it should.
    """
    which = ask.keyword("which-jobs") or Which.NOT_COMPLETED.value
    if which not in _WHICH and which not in _NONE:
        raise Refusal(
            Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED,
            f"there are no jobs called {which[:60]}.",
            [ipp.keyword("which-jobs", which)],
        )
    owner = normalise_name(ask.known_as) if ask.boolean("my-jobs") else None
    printer_id = None if ask.target().printer is None else server.printer(ask).id
    skip = (ask.integer("first-index", 1) or 1) - 1
    if which in _NONE or owner == "":
        return None
    return PageQuery(_WHICH[which], printer_id, owner, PAGE_JOBS, skip)


class _Listing:
    """The job groups of an answer, a page at a time."""

    def __init__(
        self, server: Server, ask: Ask, query: PageQuery, names: frozenset[str], limit: int | None
    ) -> None:
        self._server = server
        self._query = query
        self._encoder = JobEncoder(names)
        self._place = server.place(ask)
        self._may_read = server.node.sight(ask.principal)
        self._left = limit
        self._first_id = ask.integer("first-job-id", 1) or 0
        self.is_over = False

    async def next(self) -> bytes:
        """The groups of the next page; `is_over` says whether it was the last one."""
        if self._left is not None and self._left < PAGE_JOBS and not self._first_id:
            self._query = replace(self._query, limit=self._left)
        page = await self._server.reader.page(self._query)
        self.is_over = page.next is None
        self._query = replace(self._query, after=page.next, skip=0)
        found = [
            (job, started_us)
            for job, started_us in zip(page.jobs, page.started_us, strict=True)
            if job.id >= self._first_id
        ][: self._left]
        if self._left is not None:
            self._left -= len(found)
            self.is_over = self.is_over or not self._left
        may_read, encode, place = self._may_read, self._encoder.group, self._place
        return b"".join(
            [
                encode(
                    job,
                    place if started_us is None else place._replace(started_us=started_us),
                    is_redacted=not may_read(job),
                )
                for job, started_us in found
            ]
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
