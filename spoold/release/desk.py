"""What people do with their held jobs, wherever they stand: list, release, delete, change.

In: a user whom somebody else has made sure of. Out: values for panels; a refusal of one job leaves
the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from spoold.codec.pages.contents import Contents
from spoold.model.errors import OperationError
from spoold.model.job import Job, JobReason, JobState
from spoold.model.printer import Printer
from spoold.model.release import NO_CHANGES, Changes, Charging
from spoold.model.transitions import JobEvent
from spoold.model.user import User
from spoold.release.clearing import Money, charging_of
from spoold.release.counting import Count, count_of, read_contents
from spoold.release.places import (
    check_allowed,
    check_changes,
    check_place,
    check_waiting,
    terms_for,
)
from spoold.release.releasing import (
    Catalogue,
    Journal,
    Known,
    Reader,
    Releaser,
    Releases,
    person_of,
)
from spoold.spool import release as held
from spoold.spool.store import ChangeJob, SetJob

PAGE_JOBS_MAX = 200
RELEASED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A held job as a panel shows it.

    `pages` are the impressions of one copy, None while nobody knows; `price` is in 1/10,000, None
    without charging. `fits`: it can be released at the printer that was asked about; else `why`
    says what is in the way. `expires_us` is when it is deleted, None: never.
    """

    id: int
    uuid: UUID
    title: str
    owner: str
    printer: str
    pages: int | None
    copies: int
    color: bool | None
    sides: str
    price: int | None
    created_us: int
    expires_us: int | None
    fits: bool
    why: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one job: its state, or why nothing did. `price` is in 1/10,000."""

    job_id: int
    title: str
    state: JobState | None
    error: OperationError | None = None
    price: int | None = None


class Desk:
    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        printers: Catalogue,
        releases: Releases,
        money: Money,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._printers = printers
        self._releases = releases
        self._money = money
        self._wall_clock = wall_clock

    async def held(
        self,
        user: User,
        printer: Printer | None = None,
        *,
        after_id: int = 0,
        limit: int = PAGE_JOBS_MAX,
    ) -> list[HeldJob]:
        """The held jobs of `user`, and of those who let `user` release theirs, by their ids."""
        limit = min(limit, PAGE_JOBS_MAX)
        jobs, others, found = await self._reader.look(held.waits_for, user.guid, after_id, limit)
        people = {one.name: one for one in (user, *others)}
        known = await self._printers.look()
        when = await self._releases.site_time(*known.printers.values())
        return [
            await self._shown(job, _contents(found, job), known, printer, people, when)
            for job in jobs
        ]

    async def _people(self, user: User) -> dict[str, User]:
        others = await self._reader.delegators(user.guid)
        return {one.name: one for one in (user, *others)}

    async def _shown(
        self,
        job: Job,
        contents: dict[int, Contents],
        known: Known,
        printer: Printer | None,
        people: dict[str, User],
        when: datetime,
    ) -> HeldJob:
        home = known.printers.get(job.printer_id)
        count = count_of(job, contents)
        price = None
        why = ""
        try:
            if home is None:
                raise OperationError("not-possible", "its printer was removed.")
            is_counted = len(contents) >= job.documents
            price = await self._price(home, printer or home, count) if is_counted else None
            owner = people.get(job.owner.name)
            counted = count if is_counted else None
            await self._check(job, home, printer or home, known, counted, owner, when)
        except OperationError as error:
            why = str(error)
        keep_s = home.keep_held_s if home is not None else 0
        since_us = job.held_us or job.created_us
        color = count.has_color if count.usage.is_known else None
        if any(line.color == "unknown" for line in count.usage.lines):
            color = None
        return HeldJob(
            job.id,
            job.uuid,
            job.title,
            job.owner.name,
            home.name if home is not None else "",
            count.impressions,
            job.copies,
            color,
            _sides(job, count),
            price,
            job.created_us,
            since_us + keep_s * 1_000_000 if keep_s else None,
            not why,
            why,
            job.reasons,
        )

    async def _price(self, home: Printer, printer: Printer, count: Count) -> int | None:
        """What a counted job would cost there; None where nothing does.

        Raises:
            OperationError: such a job is not printed there.
        """
        charging = charging_of(home, printer)
        if charging is Charging.OFF:
            return None
        try:
            return (await self._money.quote(count.usage, printer.guid)).total
        except OperationError:
            if charging is Charging.ON:
                raise
            return None

    async def _check(
        self,
        job: Job,
        home: Printer,
        printer: Printer,
        known: Known,
        count: Count | None,
        owner: User | None,
        when: datetime,
    ) -> None:
        """What rules say of the pages of a job that is still being counted, its release finds out.

        Raises:
            OperationError: the job cannot be released there now.
        """
        check_waiting(job)
        if printer is home and home.is_find_me:
            return  # where it will come out nobody has said
        check_place(job, home, printer, await self._releases.formats_of(job))
        self._releases.check_reach(printer)
        person = person_of(job, owner)
        places = (printer,) if home.id == printer.id else (home, printer)
        if count is None:
            check_allowed(person, places, when)
        else:
            terms_for(job, person, places, known.device_of(printer), when, count, NO_CHANGES)

    async def release(
        self,
        user: User,
        job_ids: Sequence[int] | None,
        printer: Printer,
        where: str,
        changes: Changes = NO_CHANGES,
        account: str | None = None,
    ) -> list[Result]:
        """Let jobs print at `printer`, the machine `where`; None: all that fit there.

        Of all, those whose submission was interrupted stay: their ends may be missing.
        """
        by = Releaser(user.identity, user, where)
        results = []
        for job in await self._chosen(user, job_ids, printer):
            if isinstance(job, Result):
                results.append(job)
                continue
            try:
                done = await self._releases.release(job, printer, by, changes, account)
            except OperationError as error:
                results.append(Result(job.id, job.title, None, error))
            else:
                released = done.released
                results.append(Result(job.id, job.title, released.state, None, released.price))
        return results

    async def _chosen(
        self, user: User, job_ids: Sequence[int] | None, printer: Printer | None
    ) -> list[Job | Result]:
        """The jobs that are named, or all that can be released at a printer."""
        if job_ids is None:
            shown = await self.held(user, printer)
            cut = JobReason.SUBMISSION_INTERRUPTED
            job_ids = [one.id for one in shown if one.fits and cut not in one.reasons]
        people = await self._people(user)
        chosen: list[Job | Result] = []
        for job_id in dict.fromkeys(job_ids[:RELEASED_AT_ONCE]):
            job = await self._reader.job(job_id)
            if job is None or job.owner.name not in people:
                chosen.append(_not_found(job_id))
            else:
                chosen.append(job)
        return chosen

    async def delete(self, user: User, job_ids: Sequence[int]) -> list[Result]:
        """Cancel held jobs of the user's own."""
        results = []
        for job in await self._chosen(user, job_ids, None):
            if isinstance(job, Result):
                results.append(job)
            elif job.owner.name != user.name:
                results.append(_not_found(job.id))
            else:
                change = ChangeJob(
                    job.id,
                    JobEvent.CANCEL,
                    self._wall_clock(),
                    user.identity,
                    (JobReason.JOB_CANCELED_BY_USER.value,),
                    only_from=(JobState.PENDING_HELD,),
                )
                results.append(await self._commit(job, change))
        return results

    async def change(
        self, user: User, job_id: int, changes: Changes, printer: Printer | None = None
    ) -> Result:
        """Change a held job before it is released; `printer` is where it is to come out, if known.

        What was found out about its price is found out again.
        """
        (job,) = await self._chosen(user, [job_id], printer)
        if isinstance(job, Result):
            return job
        known = await self._printers.look()
        place = printer or known.printers.get(job.printer_id)
        try:
            check_waiting(job)
            if place is not None:
                changes = check_changes(job, place, known.device_of(place), changes)
        except OperationError as error:
            return Result(job.id, job.title, None, error)
        if changes == NO_CHANGES:
            return Result(job.id, job.title, job.state)
        attributes: dict[str, Any] | None = changes.attributes or None
        change = SetJob(
            job.id,
            self._wall_clock(),
            user.identity,
            copies=changes.copies,
            attributes=attributes,
        )
        return await self._commit(job, change)

    async def _commit(self, job: Job, change: ChangeJob | SetJob) -> Result:
        try:
            state: JobState = await self._journal.commit(change)
        except OperationError as error:
            return Result(job.id, job.title, None, error)
        return Result(job.id, job.title, state)


def _contents(found: dict[int, dict[int, bytes]], job: Job) -> dict[int, Contents]:
    return read_contents(found.get(job.id, {}))


def _not_found(job_id: int) -> Result:
    error = OperationError("not-found", f"you have no held job {job_id}.", "List them again.")
    return Result(job_id, "", None, error)


def _sides(job: Job, count: Count) -> str:
    """One-sided or two-sided, as far as it is known; "" when it varies or nobody knows."""
    asked = job.attributes.get("sides")
    if isinstance(asked, str):
        return asked
    found = {line.sides for line in count.usage.lines}
    return found.pop() if len(found) == 1 else ""
