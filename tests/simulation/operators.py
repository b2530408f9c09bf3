"""What operators and administrators do, and what people come back for, once nothing goes wrong.

They settle what is in doubt and fetch what waits; after disks were put back the cash desk books
again what it has on paper, and sites are told to go on behind their forks.
"""

from __future__ import annotations

from simulation.node import SITE_NAMES, Life
from simulation.repairs import Repairs
from simulation.visits import Visits
from simulation.work import PATIENCE_S, Work, held, may_fail
from simulation.world import NAMES, World
from spoold.model.job import JobReason, JobState
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, EndHold


async def settle(world: World, life: Life) -> None:
    """An operator looks whether what is in doubt came out."""
    with may_fail(life, PATIENCE_S):
        for job in await held(life, JobReason.JOB_IN_DOUBT):
            is_out = world.is_out(job.uuid)
            event = JobEvent.ASSUME if is_out else JobEvent.REPRINT
            reasons = (JobReason.JOB_ASSUMED_PRINTED.value,) if is_out else ()
            world.tell(life.name, f"is told: {event} {job.uuid}")
            with may_fail(life, PATIENCE_S):
                change = ChangeJob(
                    job.id, event, life.wall_clock(), reasons=reasons, only_from=(job.state,)
                )
                await life.journal.commit(change)


class Operators:
    """Of one world; `tidy` is called until all is quiet."""

    def __init__(self, work: Work, repairs: Repairs | None = None) -> None:
        self._work = work
        self._repairs = repairs
        self._visits = Visits(work)
        self._world = work.world
        self._booked_again = 0  # after so many disks had been put back

    async def tidy(self) -> None:
        world, work = self._world, self._work
        for site in SITE_NAMES:
            await self._begin_anew(site)
        await self._book_again()
        for life in list(world.lives.values()):
            await settle(world, life)
            await self._let_go(life)
            if world.is_put_back(life.name):
                await self._give_up_copies(life)
        for name in NAMES:
            await work.release_at(name)
        await self._visits.fetch_rest()
        for site in world.rehomed:
            await self._give_up(site)
        if self._repairs is not None:
            await self._repairs.tidy()

    async def _begin_anew(self, site: str) -> None:
        """Somebody has seen to it that a disk which was put back runs once, and says so."""
        life = self._work.life(site)
        is_forked = life is not None and life.uplink.standing.state == "forked"
        if life is not None and is_forked and self._world.is_put_back(site):
            with may_fail(life, PATIENCE_S):
                position = await life.uplink.begin_anew()
                self._world.tell(site, f"begins anew behind {position}")
                self._world.begun_anew.append(site)

    async def _book_again(self) -> None:
        """A restored application server may have lost what had come in; the keys are the same."""
        count = len(self._world.put_backs)
        if count > self._booked_again and self._world.is_put_back("hq"):
            booked = [await self._work.book(key) for key in list(self._work.payments)]
            self._booked_again = count if all(booked) else 0

    async def _let_go(self, life: Life) -> None:
        """What staff have had held goes on."""
        why = JobReason.JOB_HOLD_UNTIL_SPECIFIED
        with may_fail(life, PATIENCE_S):
            for job in await held(life, why):
                await life.journal.commit(EndHold(job.id, why, life.wall_clock()))

    async def _give_up_copies(self, life: Life) -> None:
        """What is reserved for copies of which nobody will tell any more: they were made, and that
        was told, before the disk was put back. (`release/work.py` does so after a time.)
        """
        rows = await life.reader._all(
            "SELECT key FROM charge WHERE state = 'reserved' AND job_id IS NULL ORDER BY id"
        )
        for (key,) in rows:
            with may_fail(life, PATIENCE_S):
                await life.charging.cancel(key)

    async def _give_up(self, site: str) -> None:
        """What a site has of printers that were given away: it is canceled there, and is done by
        the new owner, if that knows of it. What nobody else knows goes on where printers are the
        site's own again.
        """
        life, hq = self._work.life(site), self._work.life("hq")
        if life is None or hq is None:
            return
        with may_fail(life, PATIENCE_S):
            known = (await life.catalogue.look()).printers
            above = (await hq.catalogue.look()).printers.values()
            its_own = {one.guid for one in above if one.owner == life.guid}
            rehomed = await held(life, why := JobReason.JOB_REHOMED)
            waiting = await held(life, JobReason.JOB_RELEASE_WAIT)
            for job in {one.id: one for one in (*rehomed, *waiting)}.values():
                printer, there = known[job.printer_id], await hq.reader.job_by_uuid(job.uuid)
                if printer.guid in its_own and not printer.is_ours:
                    continue  # it comes back, which the site has not heard of
                is_gone = not (printer.is_ours or printer.is_find_me)
                if is_gone or (why in job.reasons and there and there.state.is_final):
                    is_here_alone = there is None or there.state is JobState.CANCELED
                    self._work.deals[job.uuid].is_dropped |= is_here_alone
                    await self._work.cancel_job(life, job)
                elif why in job.reasons and there is None:  # else it goes on when it is offered
                    await life.journal.commit(EndHold(job.id, why, life.wall_clock()))
