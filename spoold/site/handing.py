"""Jobs for printers that stand beside a site, as its application server gives them away.

In: what the journal tells of waiting jobs, and what the site asks over the line that it opened
(FRAMES.md 12). Out: offers, documents in pieces, and the jobs' states as the site tells them. From
the commit of its offer on a job is the site's to print: when the line breaks before the site has
said whether it has the job, it is offered again, under its uuid, to that site and to nobody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.driver.handed_on import (
    by_owner,
    job_uuid_of,
    left_behind,
    origin_of,
    uuid_there,
    where_it_is,
)
from spoold.model.errors import OperationError, SpoolError
from spoold.model.job import ACTIVE, Job, JobReason, JobState
from spoold.model.node import NodeState
from spoold.model.outcome import Blame, Deferred, HandedOn, InDoubt, Outcome, Refused
from spoold.model.printer import Printer
from spoold.model.transitions import JobEvent
from spoold.site.lateness import Lateness
from spoold.site.presence import Presence
from spoold.spool import handed, nodes
from spoold.spool.crashpoint import crash_point
from spoold.spool.documents import Documents
from spoold.spool.handed import HandedJob
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import (
    Change,
    ChangeJob,
    EndAttempt,
    Event,
    JobMoved,
    NodeChanged,
    PrinterChanged,
    PutPrinter,
    StartAttempt,
)

log = structlog.get_logger("spoold.site")

OFFERED = "jobs-offered"  # told to a site: ask for jobs
CANCELED = "jobs-canceled"  # likewise: ask which of those that it has are to be canceled
LINE_DEVICE = 0  # of attempts over a line: the site's device is none of ours
OFFERS_MAX = 16  # in one answer; one is at most some KiB
PIECE_BYTES = 60_000  # of a document, so that a piece fits a message
LEFT_BEHIND = "Its printer was given to another node then: look whether it came out."
AGAIN_FIRST_S = 1.0  # until a job is offered again that the site could not take; then longer
AGAIN_MAX_S = 60.0
_NEVER = frozenset({"bad-request", "too-large", "conflict"})


class Handing:
    """`start` before anything is asked, and have `late` run. Sites go by their nodes' GUIDs."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        documents: Documents,
        sites: Presence,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._documents = documents
        self._sites = sites
        self._wall_clock = wall_clock
        self._printers: dict[int, Printer] = {}
        self._known: set[UUID] = set()
        self._again: dict[int, tuple[float, float]] = {}  # by job: when, and after what pause
        self._lock = trio.Lock()
        self.late = Lateness(journal, reader, self._is_of_site, wall_clock)

    async def start(self) -> None:
        """Learn the printers, and follow them and their jobs from now on."""
        self._journal.listen(self._hear)
        for printer in await self._reader.printers():
            self._printers.setdefault(printer.id, printer)
        for node in await self._reader.look(nodes.find_all):
            if node.state is NodeState.APPROVED:
                self._known.add(node.guid)

    def _is_of_site(self, printer_id: int) -> bool:
        printer = self._printers.get(printer_id)
        return printer is not None and not printer.is_ours

    def is_site(self, node: UUID) -> bool:
        """Whether jobs for printers of this node get there from here."""
        return node in self._known

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is JobMoved:
                self._moved(event)
            elif type(event) is PrinterChanged:
                if event.printer is None:
                    self._printers.pop(event.printer_id, None)
                else:
                    self._printers[event.printer_id] = event.printer
                    self._tell(event.printer_id, OFFERED)
            elif type(event) is NodeChanged and event.node.state is NodeState.APPROVED:
                self._known.add(event.node.guid)
            elif type(event) is NodeChanged:
                self._known.discard(event.node.guid)

    def _moved(self, moved: JobMoved) -> None:
        printer = self._printers.get(moved.printer_id)
        if printer is None or printer.is_ours:
            return
        if moved.new is JobState.PENDING:
            self._tell(moved.printer_id, OFFERED)
        elif moved.new.is_final:
            self._again.pop(moved.job_id, None)
        elif JobReason.PROCESSING_TO_STOP_POINT in moved.reasons:
            self._tell(moved.printer_id, CANCELED)

    def _tell(self, printer_id: int, event: str) -> None:
        printer = self._printers[printer_id]
        if printer.owner is not None:
            self._sites.tell(printer.owner, event)

    # -- what a site asks ------------------------------------------------------------------------

    async def offers(self, site: UUID) -> list[dict[str, Any]]:
        """The next jobs for the site: those first about which it has not said anything yet."""
        async with self._lock:
            open_ = await self._open(site)
            found = await self._described(open_[:OFFERS_MAX])
            wanted = OFFERS_MAX - len(found)
            if wanted <= 0 or len(open_) > OFFERS_MAX:
                return found
            return found + await self._described(await self._claim(site, wanted))

    def again_s(self) -> float | None:
        """In how many seconds a job is offered again that could not be taken; None: there is none.

        It may be another site's: an offer that is asked for in vain costs nothing.
        """
        now_s = trio.current_time()
        coming = [at_s for at_s, _ in self._again.values() if at_s > now_s]
        return min(coming) - now_s if coming else None

    async def _open(self, site: UUID) -> list[int]:
        owned = {id_ for id_, one in self._printers.items() if one.owner == site}
        return [
            one.job_id
            for one in await self._reader.open_attempts()
            if one.device_id == LINE_DEVICE and one.printer_id in owned
        ]

    async def _claim(self, site: UUID, most: int) -> list[int]:
        """Give waiting jobs to the site, durably; they are nobody else's from here on."""
        now_s = trio.current_time()
        chosen: list[tuple[int, int]] = []
        for printer in list(self._printers.values()):
            if printer.owner != site or printer.paused:
                continue
            for job_id in await self._next_of(printer.id, most - len(chosen), now_s):
                chosen.append((job_id, printer.id))
        late = await self.late.hold([job_id for job_id, _ in chosen])
        starts = [
            StartAttempt(job_id, LINE_DEVICE, printer_id, self._wall_clock())
            for job_id, printer_id in chosen
            if job_id not in late
        ]
        if not starts:
            return []
        answers = await self._journal.commit_all(starts)
        crash_point("offered")
        return [
            start.job_id
            for start, answer in zip(starts, answers, strict=True)
            if not isinstance(answer, Exception)
        ]

    async def _next_of(self, printer_id: int, most: int, now_s: float) -> list[int]:
        if most <= 0:
            return []
        limit = most + len(self._again)
        waiting = await self._reader.look(handed.waiting_of, printer_id, limit)
        due = [one for one in waiting if one not in self._again or self._again[one][0] <= now_s]
        return due[:most]

    async def _described(self, job_ids: list[int]) -> list[dict[str, Any]]:
        found = []
        late = await self.late.find(job_ids)
        for job_id in job_ids:
            job = await self._reader.job(job_id)
            if job is not None:
                is_released = await self._reader.look(handed.was_released, job_id)
                more = {"released": is_released, "late": job_id in late}
                found.append(self._offer(job) | more)
        return found

    def _offer(self, job: Job) -> dict[str, Any]:
        printer = self._printers[job.printer_id]
        return {
            "job": job.id,
            "job_uuid": str(uuid_there(job)),
            "printer": printer.name,
            "printer_guid": str(printer.guid),
            "user": job.owner.name,
            "title": job.title,
            "copies": max(1, job.copies),
            "priority": job.job_priority,
            "format": job.document.format,
            "attributes": job.attributes,
            "size": job.document.size,
            "digest": job.document.digest,
            "canceled": JobReason.PROCESSING_TO_STOP_POINT in job.reasons,
            "handed_on": origin_of(job),
        }

    async def piece(self, site: UUID, job_id: int, offset: int) -> bytes:
        """Bytes of the document from `offset` on; none at its end.

        Raises:
            OperationError: `not-found`: this job is not the site's.
        """
        await self._check(site, job_id)
        found = await self._reader.job_with_document(job_id)
        if found is None:
            raise OperationError("not-found", "the job is not there any more.")
        try:
            source = self._documents.open_found(*found)
        except SpoolError as error:
            raise OperationError("not-found", str(error), error.advice) from error
        try:
            return await trio.to_thread.run_sync(source.read_at, offset, PIECE_BYTES)
        finally:
            source.close()

    async def _check(self, site: UUID, job_id: int) -> Job:
        """The job, when it was offered to this site."""
        job = await self._reader.job(job_id)
        printer = None if job is None else self._printers.get(job.printer_id)
        is_active = job is not None and job.state in ACTIVE
        if job is None or printer is None or printer.owner != site or not is_active:
            raise OperationError("not-found", "this job was not offered to this site.")
        return job

    async def took(self, site: UUID, name: str, told: Mapping[str, Any]) -> None:
        """The site has a job that it was offered, durably, as its own `job_id`; or has it not.

        Raises:
            OperationError: it was not offered, or was ended meanwhile.
        """
        job = await self._check(site, told["job"])
        attempts = await self._reader.attempts(job.id)
        last = attempts[-1] if attempts else None
        if last is None or last.device_id != LINE_DEVICE:
            raise OperationError("not-found", "this job was not offered to this site.")
        if last.outcome:
            return  # it said so before
        is_canceled = JobReason.PROCESSING_TO_STOP_POINT in job.reasons
        outcome, event, reasons, message = _settled(site, name, job, told, is_canceled)
        if event is JobEvent.DEFER:
            _, pause_s = self._again.get(job.id, (0.0, AGAIN_FIRST_S / 2))
            pause_s = min(AGAIN_MAX_S, 2 * pause_s)
            self._again[job.id] = trio.current_time() + pause_s, pause_s
        else:
            self._again.pop(job.id, None)
        end = EndAttempt(job.id, last.number, outcome, event, reasons, self._wall_clock(), message)
        await self._journal.commit(end)

    async def handed(self, site: UUID, after_id: int, limit: int) -> list[HandedJob]:
        """A page of the jobs that the site has, and of which it has not told the end."""
        found = self._of_site(site, await self._reader.look(handed.find_handed))
        return [one for one in found.values() if one.job_id > after_id][:limit]

    def _of_site(self, site: UUID, jobs: Iterable[HandedJob]) -> dict[UUID, HandedJob]:
        """Those that the site has, by the uuids that it knows them by."""
        owned = {id_ for id_, one in self._printers.items() if one.owner == site}
        return {
            job_uuid_of(one.evidence, one.uuid): one
            for one in jobs
            if one.device_id == LINE_DEVICE and one.printer_id in owned
        }

    async def told(self, site: UUID, states: list[dict[str, Any]]) -> None:
        """How jobs are there that the site has."""
        uuids = [UUID(state["job_uuid"]) for state in states]
        found = await self._reader.look(handed.find_handed_as, uuids)
        by_uuid = self._of_site(site, found)
        if len(by_uuid) < len(set(uuids)):  # a further document has a uuid of its own
            by_uuid |= self._of_site(site, await self._reader.look(handed.find_handed))
        changes: list[ChangeJob] = []
        for uuid, state in zip(uuids, states, strict=True):
            job = by_uuid.get(uuid)
            change = None if job is None else by_owner(job, state, self._wall_clock())
            if change is not None:
                changes.append(change)
        for answer in await self._journal.commit_all(changes) if changes else ():
            if isinstance(answer, OperationError):
                log.info("handed_on_state_refused", reason=str(answer))
            elif isinstance(answer, Exception):
                raise answer

    # -- what becomes of it when the site is dead for good ---------------------------------------

    async def doubtful(self, site: UUID) -> int:
        """How many jobs the site was given that nobody knows the end of."""
        return len(await self._open(site)) + len(await self.handed(site, 0, 1 << 31))

    @asynccontextmanager
    async def leaving(self, printer: Printer, owner: UUID | None) -> AsyncIterator[None]:
        """While this is open the printer may be given to `owner`: no other node has jobs of it.

        Raises:
            OperationError: `not-possible`: its owner has.
        """
        if printer.owner is None or printer.owner == owner:
            yield
            return
        async with self._lock:
            there = await self._reader.look(handed.count_over_lines, printer.id)
            if there:
                raise OperationError(
                    "not-possible",
                    f"{there} jobs of {printer.name} are at its owner.",
                    "Let them print or cancel them there; `spoold printer rehome` is for owners "
                    "that are dead for good.",
                )
            yield

    async def rehome(
        self, printers: Sequence[Printer], old: UUID, new: UUID | None, actor: str
    ) -> int:
        """Give these printers of `old` to another node, in one commit with what becomes of the
        jobs that `old` had: they are held, in doubt. Returns how many.

        Raises:
            OperationError: a printer was changed meanwhile; nothing of the rest is certain.
        """
        now_us = self._wall_clock()
        async with self._lock:
            changes: list[Change] = [
                PutPrinter(replace(one, owner=new), now_us, actor) for one in printers
            ]
            for job_id in await self._open(old):
                attempts = await self._reader.attempts(job_id)
                outcome = InDoubt("rehomed", LEFT_BEHIND, evidence={"node": str(old)})
                reasons = (JobReason.JOB_IN_DOUBT,)
                changes.append(
                    EndAttempt(
                        job_id,
                        attempts[-1].number,
                        outcome,
                        JobEvent.DOUBT,
                        reasons,
                        now_us,
                        LEFT_BEHIND,
                    )
                )
            changes += [
                left_behind(one, now_us, LEFT_BEHIND, actor)
                for one in await self.handed(old, 0, 1 << 31)
            ]
            answers = await self._journal.commit_all(changes)
        for answer in answers[: len(printers)]:
            if isinstance(answer, Exception):
                raise answer
        in_doubt = sum(not isinstance(one, Exception) for one in answers[len(printers) :])
        log.warning("printers_rehomed", count=len(printers), jobs_in_doubt=in_doubt)
        return in_doubt


def _settled(
    site: UUID, name: str, job: Job, told: Mapping[str, Any], is_canceled: bool
) -> tuple[Outcome, JobEvent, tuple[str, ...], str]:
    """What the end of an offer is, and what the job becomes by it."""
    if told["error"] is None:
        evidence = {
            "method": "fetched",
            "node": str(site),
            "node-name": name,
            "job": told["job_id"],
            "uuid": str(uuid_there(job)),
            "bytes": job.document.size,
        }
        reasons: tuple[str, ...] = (JobReason.QUEUED_IN_DEVICE,)
        return HandedOn(evidence), JobEvent.HAND_ON, reasons, where_it_is(evidence)
    code, message = told["error"], f"{name} says: {told['message']}"
    if is_canceled:
        reasons = tuple(one for one in job.reasons if one != JobReason.PROCESSING_TO_STOP_POINT)
        return Deferred(code, message, Blame.NODE), JobEvent.CANCELED, reasons, message
    if code == "paid-here":
        return Deferred(code, message), JobEvent.CANCELED, (JobReason.JOB_DONE_ELSEWHERE,), message
    if code in _NEVER:
        reasons = (JobReason.ABORTED_BY_SYSTEM,)
        return Refused(code, message), JobEvent.REFUSE, reasons, message
    return Deferred(code, message), JobEvent.DEFER, (JobReason.SERVICE_OFF_LINE,), message
