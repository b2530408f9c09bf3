"""Releasing one job: planned against the job as it is read, committed if it is still that one.

In: a job, the printer where it is to come out, who wants it there. Out: a `Done` after the commit.
Who releases at a machine is bound by the rules of its printers; an operator is not, and the record
names the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from spoold.codec.pages.contents import Contents, contents_from_map
from spoold.model.errors import OperationError
from spoold.model.job import Job, JobReason, JobState
from spoold.model.printer import Device, Printer
from spoold.model.release import NO_CHANGES, Changes, Terms
from spoold.model.transitions import JobEvent
from spoold.model.user import User
from spoold.release.counting import Count, count_of
from spoold.release.places import Person, check_changes, check_place, check_waiting, terms_for
from spoold.spool import release as held
from spoold.spool.store import Change, ChangeJob, Released, ReleaseJob

T = TypeVar("T")
TRIES = 3
_MONEY = frozenset({JobReason.ACCOUNT_INFO_NEEDED.value, JobReason.ACCOUNT_LIMIT_REACHED.value})


class Journal(Protocol):
    async def commit(self, change: Change) -> Any: ...


class Reader(Protocol):
    async def job(self, job_id: int) -> Job | None: ...
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


class Catalogue(Protocol):
    async def look(self) -> Known: ...


@dataclass(frozen=True, slots=True)
class Releaser:
    """Who wants a job: `user` at the machine `where`; or somebody of the staff, by `actor`."""

    actor: str
    user: User | None = None
    where: str = ""

    @property
    def is_staff(self) -> bool:
        return self.user is None


@dataclass(frozen=True, slots=True)
class Done:
    """A job that was released: what it became, and what that costs in 1/10,000, if anything."""

    released: Released
    job: Job
    price: int | None = None


def person_of(job: Job, owner: User | None) -> Person:
    return Person(job.owner.name, frozenset(owner.groups) if owner is not None else frozenset())


def site_time(now_us: int) -> datetime:
    """The time on the wall where this machine is."""
    return datetime.fromtimestamp(now_us / 1e6)


class Releases:
    """Releases jobs. `printers` are followed by their events, so that looking is cheap."""

    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        printers: Catalogue,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._printers = printers
        self._wall_clock = wall_clock

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
            change = await self._plan(job, printer, by, changes)
            try:
                released: Released = await self._journal.commit(change)
            except OperationError as error:
                if error.code in _MONEY:
                    await self._note(job, error, by)
                if error.code != "conflict":
                    raise
                found = await self._reader.job(job.id)
                if found is None:
                    raise
                job = found
            else:
                return Done(released, job)
        raise OperationError("busy", "the job changes all the time.", "Try again.")

    async def _plan(self, job: Job, printer: Printer, by: Releaser, changes: Changes) -> ReleaseJob:
        known = await self._printers.look()
        home = known.printers.get(job.printer_id, printer)
        if by.is_staff:
            _check_for_staff(job, printer)
        else:
            check_waiting(job)
            check_place(job, home, printer)
        device = known.device_of(printer)
        changes = check_changes(job, printer, device, changes)
        found = await self.contents(job)
        terms = Terms()
        now_us = self._wall_clock()
        if not by.is_staff:
            owner = await self._reader.user(job.owner.name)
            places = (printer,) if home.id == printer.id else (home, printer)
            changes, terms = terms_for(
                job,
                person_of(job, owner),
                places,
                device,
                site_time(now_us),
                count_of(job, found, changes),
                changes,
            )
        return self._change(job, printer, by, changes, terms, count_of(job, found, changes), now_us)

    def _change(
        self,
        job: Job,
        printer: Printer,
        by: Releaser,
        changes: Changes,
        terms: Terms,
        count: Count,
        now_us: int,
    ) -> ReleaseJob:
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
        )

    async def contents(self, job: Job) -> dict[int, Contents]:
        """What is in the documents of a job, as far as they were counted."""
        found = await self._reader.look(held.contents, job.id)
        return read_contents(found)

    async def _note(self, job: Job, why: OperationError, by: Releaser) -> None:
        """The job says why it was not released; it waits as before."""
        reasons = tuple(dict.fromkeys((*job.reasons, why.code)))
        change = ChangeJob(
            job.id,
            JobEvent.HOLD,
            self._wall_clock(),
            by.actor,
            reasons,
            why.message,
            only_from=(JobState.PENDING_HELD,),
            hold_until=job.hold_until,
            release_us=job.release_us,
        )
        try:
            await self._journal.commit(change)
        except OperationError:
            pass  # somebody else has it by now


def read_contents(found: Mapping[int, dict[str, Any]]) -> dict[int, Contents]:
    """Contents as they are kept; what another version has kept otherwise is not known."""
    read = {}
    for number, values in found.items():
        try:
            read[number] = contents_from_map(values)
        except ValueError:
            continue
    return read


def _check_for_staff(job: Job, printer: Printer) -> None:
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
    if not printer.can_print(job.document.format):
        raise OperationError("not-possible", f"{printer.name} does not take {job.document.format}.")


def as_changed(job: Job, changes: Changes) -> Job:
    """The job as it is with the changes."""
    return replace(
        job,
        copies=job.copies if changes.copies is None else changes.copies,
        attributes={**job.attributes, **changes.attributes},
    )
