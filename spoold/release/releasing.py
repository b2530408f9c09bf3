"""Releasing one job: planned against the job as it is read, committed if it is still that one.

In: a job, the printer where it is to come out, who wants it there. Out: a `Done` after the commit.
Who releases at a machine is bound by the rules of its printers; an operator is not, and the record
names the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog
import trio

from spoold.codec.pages.contents import Contents
from spoold.model.errors import OperationError
from spoold.model.job import LACKS_PAYMENT, Document, Job, JobReason, JobState
from spoold.model.printer import Device, Printer
from spoold.model.release import NO_CHANGES, Changes, Charging, Terms
from spoold.model.transitions import JobEvent
from spoold.model.user import User
from spoold.release.clearing import Money, charging_of, cost_of
from spoold.release.counting import count_of, read_contents
from spoold.release.places import (
    Person,
    check_changes,
    check_formats,
    check_place,
    check_waiting,
    terms_for,
)
from spoold.spool import release as held
from spoold.spool.crashpoint import crash_point
from spoold.spool.store import Change, ChangeJob, Released, ReleaseJob

log = structlog.get_logger("spoold.release")

T = TypeVar("T")
TRIES = 3
COUNT_S = 20.0  # for which somebody at a machine waits until a job is counted


class Journal(Protocol):
    async def commit(self, change: Change) -> Any: ...


class Reader(Protocol):
    async def job(self, job_id: int) -> Job | None: ...
    async def documents(self, job_id: int) -> list[Document]: ...
    async def user(self, name: str) -> User | None: ...
    async def delegators(self, guid: UUID) -> list[User]: ...
    async def look(self, look_up: Callable[..., T], *values: Any) -> T: ...


class Known(Protocol):
    """The printers and devices at one moment."""

    @property
    def printers(self) -> Mapping[int, Printer]: ...
    @property
    def by_name(self) -> Mapping[str, Printer]: ...
    def device_of(self, printer: Printer) -> Device | None: ...


class CountsJobs(Protocol):
    async def count(self, job: Job) -> dict[int, Contents]:
        """What is in each document of a job."""
        ...


class Catalogue(Protocol):
    async def look(self) -> Known: ...


@dataclass(frozen=True, slots=True)
class Releaser:
    """Who wants a job: `user` at the machine `where`; the node, that clears it; or else somebody of
    the staff, by `actor`.
    """

    actor: str
    user: User | None = None
    where: str = ""
    is_node: bool = False

    @property
    def is_staff(self) -> bool:
        return self.user is None and not self.is_node


@dataclass(frozen=True, slots=True)
class Done:
    """A job that was released, and as what it was read before."""

    released: Released
    job: Job


def person_of(job: Job, owner: User | None) -> Person:
    return Person(job.owner.name, frozenset(owner.groups) if owner is not None else frozenset())


class Releases:
    """Releases jobs. `printers` are followed by their events, so that looking is cheap.

    `hands_on` says whether a node gets jobs for its printers from this one.
    """

    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        printers: Catalogue,
        counts: CountsJobs,
        money: Money,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._printers = printers
        self._counts = counts
        self._money = money
        self._wall_clock = wall_clock
        self.hands_on: Callable[[UUID], bool] = lambda node: False

    def check_reach(self, printer: Printer) -> None:
        """Let a job come out at `printer`, if it is this node's, or of one that this hands jobs to.

        Raises:
            OperationError: `not-possible`.
        """
        if printer.owner is not None and not self.hands_on(printer.owner):
            raise OperationError(
                "not-possible",
                f"{printer.name} belongs to another node, and this one hands it no jobs.",
                "Ask an operator: `spoold job move` takes it to another printer.",
            )

    async def release(
        self,
        job: Job,
        printer: Printer,
        by: Releaser,
        changes: Changes = NO_CHANGES,
        account: str | None = None,
    ) -> Done:
        """Let the job print at `printer`; durable when this returns.

        Raises:
            OperationError: it was not released: `not-possible`, `forbidden`,
                `account-limit-reached`, `account-info-needed`, ...
        """
        for _ in range(TRIES):
            try:
                change = await self._plan(job, printer, by, changes, account)
                released: Released = await self._journal.commit(change)
            except OperationError as error:
                is_new = error.code in LACKS_PAYMENT and error.code not in job.reasons
                if is_new and not by.is_node:  # whom a clearing has held says so by itself
                    await self._hold(job, (*job.reasons, error.code), error.message, by.actor)
                if error.code != "conflict":
                    raise
                found = await self._reader.job(job.id)
                if found is None:
                    raise
                job = found
            else:
                crash_point("job-released")
                return Done(released, job)
        raise OperationError("busy", "the job changes all the time.", "Try again.")

    async def clear(self, job: Job) -> None:
        """Let a job that was counted print where it is, or say on it why it does not."""
        known = await self._printers.look()
        printer = known.printers.get(job.printer_id)
        if printer is None:
            return
        by = Releaser("node", is_node=True)
        try:
            done = await self.release(job, printer, by)
        except OperationError as error:
            is_unpaid = error.code in LACKS_PAYMENT
            reason = error.code if is_unpaid else JobReason.JOB_NOT_ALLOWED.value
            if error.code in ("busy", "not-possible") and await self._has_moved_on(job):
                return
            await self._hold(job, (reason,), error.message, "node")
            log.info("job_not_cleared", job_uuid=str(job.uuid), reason=error.code)
        else:
            price = done.released.price
            log.debug("job_cleared", job_uuid=str(job.uuid), price=price)

    async def can_be_paid(self, job: Job) -> bool:
        """Whether there is enough money for a job that waits for that.

        Raises:
            OperationError: nobody is known who would pay, or it is not printed without a price.
        """
        known = await self._printers.look()
        printer = known.printers.get(job.printer_id)
        if printer is None:
            return False
        owner = await self._reader.user(job.owner.name) if job.owner.name else None
        count = count_of(job, await self._contents(job, printer, printer))
        cost = await cost_of(self._money, job, printer, printer, owner, count, None)
        return cost is None or await self._money.can_pay(cost.payer, cost.quote.total)

    async def site_time(self, *places: Printer) -> datetime:
        """The time on the wall at the site, by which the rules of these printers hold."""
        zone = await self._money.zone() if any(one.policies for one in places) else UTC
        return datetime.fromtimestamp(self._wall_clock() / 1e6, zone)

    async def formats_of(self, job: Job) -> tuple[str, ...]:
        """The formats of all documents of a job."""
        if job.documents <= 1:
            return (job.document.format,)
        return tuple(one.format for one in await self._reader.documents(job.id))

    async def _has_moved_on(self, job: Job) -> bool:
        found = await self._reader.job(job.id)
        return found is None or found.reasons != job.reasons

    async def _plan(
        self, job: Job, printer: Printer, by: Releaser, changes: Changes, account: str | None
    ) -> ReleaseJob:
        known = await self._printers.look()
        home = known.printers.get(job.printer_id, printer)
        if not by.is_node:
            self.check_reach(printer)
        if by.is_staff:
            _check_for_staff(job, printer, await self.formats_of(job))
        elif not by.is_node:
            check_waiting(job)
            check_place(job, home, printer, await self.formats_of(job))
        device = known.device_of(printer)
        changes = check_changes(job, printer, device, changes)
        now_us = self._wall_clock()
        owner = await self._reader.user(job.owner.name) if job.owner.name else None
        found = await self._contents(job, home, printer)
        terms = Terms()
        if not by.is_staff:
            changes, terms = terms_for(
                job,
                person_of(job, owner),
                (printer,) if home.id == printer.id else (home, printer),
                device,
                await self.site_time(home, printer),
                count_of(job, found, changes),
                changes,
            )
        count = count_of(job, found, changes)
        return ReleaseJob(
            job.id,
            printer.id,
            now_us,
            job.changed_us,
            by.actor,
            None if by.user is None else by.user.guid,
            by.is_staff,
            by.where,
            changes.copies,
            {**job.attributes, **changes.attributes} if changes.attributes else None,
            terms.by,
            count.media_sheets,
            await cost_of(self._money, job, home, printer, owner, count, account),
        )

    async def _contents(self, job: Job, home: Printer, printer: Printer) -> dict[int, Contents]:
        """What is in the job's documents: counted by now, where something depends on it.

        Raises:
            OperationError: `busy`: it takes too long to wait for.
        """
        matters = charging_of(home, printer) is not Charging.OFF
        if not (matters or home.policies or printer.policies):
            return read_contents(await self._reader.look(held.contents, job.id))
        with trio.move_on_after(COUNT_S):
            return await self._counts.count(job)
        raise OperationError("busy", "the job is still being counted.", "Try again in a moment.")

    async def _hold(self, job: Job, reasons: tuple[str, ...], message: str, actor: str) -> None:
        """The job says why it was not released; it waits as before."""
        change = ChangeJob(
            job.id,
            JobEvent.HOLD,
            self._wall_clock(),
            actor,
            tuple(dict.fromkeys(reasons)),
            message,
            only_from=(JobState.PENDING_HELD,),
            hold_until=job.hold_until,
            release_us=job.release_us,
            only_for=job.reasons,
        )
        with suppress(OperationError):  # somebody else has it by now, or has held it
            await self._journal.commit(change)


def _check_for_staff(job: Job, printer: Printer, formats: Sequence[str]) -> None:
    """Let an operator release a job to a printer.

    Raises:
        OperationError: `not-possible`.
    """
    if printer.is_find_me:
        raise OperationError(
            "not-possible",
            f"nothing comes out at {printer.name}.",
            f"Say where: `spoold job release {job.id} --to PRINTER`.",
        )
    check_formats(printer, formats)
