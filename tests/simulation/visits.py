"""People who stand at a machine and have come out there what waits for them, wherever it waits.

What waits at other nodes travels to the machine or is released over lines that break; people go
off before they are answered, and to other machines meanwhile.
"""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from simulation.node import Life
from simulation.work import PEOPLE, Work, held, may_fail
from simulation.world import NAMES
from spoold.daemon.operations import everywhere
from spoold.model.errors import OperationError
from spoold.model.job import Job, JobReason
from spoold.model.printer import Printer
from spoold.release.desk import PAGE_JOBS_MAX

PATIENCES_S = (0.5, 3.0, 12.0)  # for which somebody waits for an answer
LAST_PATIENCE_S = 30.0


class Visits:
    """Of one world. What people do with their jobs at panels is the product's own code."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._world = work.world

    async def visit(self, rng: Random) -> None:
        """Somebody wants one job, or all, at one machine, and perhaps then at another one."""
        name = rng.choice(PEOPLE)
        for _ in range(rng.choice((1, 1, 2))):
            await self._stand(rng.choice(NAMES), name, rng, rng.choice(PATIENCES_S))

    async def fetch_rest(self) -> None:
        """Who still has something waiting goes for it, to whichever machine."""
        waiting: dict[str, None] = {}
        for life in list(self._world.lives.values()):
            with may_fail(life, LAST_PATIENCE_S):
                for job in await self._roaming(life):
                    deal = self._work.deals[job.uuid]
                    if self._world.put_backs and await self._work.throw_away(life, job):
                        continue
                    if deal.is_twin and deal.is_dropped:
                        await self._work.cancel_job(life, job)  # as the other one was
                    elif not deal.is_twin or not self._world.is_out(job.uuid):  # else it goes
                        waiting[job.owner.name] = None
        rng = self._work.rng
        for name in waiting:
            await self._stand(rng.choice(NAMES), name, rng, LAST_PATIENCE_S)

    async def _roaming(self, life: Life) -> list[Job]:
        waiting = await held(life, JobReason.JOB_RELEASE_WAIT)
        known = (await life.catalogue.look()).printers if waiting else {}
        return [job for job in waiting if known[job.printer_id].is_find_me]

    async def _stand(self, node: str, name: str, rng: Random, patience_s: float) -> None:
        life = self._work.life(node)
        if life is None:
            return
        with may_fail(life, patience_s):
            found = await machines(life)
            if not found:
                return  # they went to another node
            printer = rng.choice(found)
            panel = Panel(life, name, printer)
            listed = await panel.held()
            wanted = [one for one in listed if one["fits"] and not self._is_done(one)]
            if wanted and rng.random() < 0.5:
                wanted = [rng.choice(wanted)]
            if wanted:
                told = [f"{one['uuid']} of {one['node'] or node}" for one in wanted]
                self._world.tell(node, f"is to print at {printer.name}: {', '.join(told)}")
                for error in await panel.release([one["id"] for one in wanted]):
                    self._world.tell(node, f"does not: {error}")

    def _is_done(self, job: dict[str, Any]) -> bool:
        """Whether it waits only as a disk was put back, or as another node has it, too: whoever has
        the paper leaves it there.
        """
        uuid = UUID(job["uuid"])
        may_wait = self._world.put_backs or self._work.deals[uuid].is_twin
        return bool(may_wait) and self._world.is_out(uuid)


async def machines(life: Life) -> list[Printer]:
    """Those at which people stand at a node; at the application server they choose any one."""
    printers = (await life.catalogue.look()).printers.values()
    found = [one for one in printers if not one.is_find_me and (one.is_ours or not life.is_site)]
    return sorted(found, key=lambda one: one.name)


class Panel:
    """The panel of a machine of a node at which somebody has logged in."""

    def __init__(self, life: Life, name: str, printer: Printer) -> None:
        self.life = life
        self._name = name
        self._printer = printer

    async def held(self) -> list[dict[str, Any]]:
        user = await self._user()
        call = self._call(after_id=0, limit=PAGE_JOBS_MAX)
        jobs: list[dict[str, Any]] = (await everywhere.held(call, user, self._printer))["jobs"]
        return jobs

    async def release(self, jobs: list[int]) -> list[str]:
        """Why which did not."""
        call = self._call(jobs=jobs, account=None, copies=None, sides=None, color=None)
        where = f"device:{self._printer.guid}"
        answer = await everywhere.release(call, await self._user(), self._printer, where)
        errors = (one["error"] for one in answer["results"])
        return [f"{error['code']}: {error['message']}" for error in errors if error]

    async def delete(self, job: int) -> None:
        """Raises OperationError: it was not deleted, or nobody knows."""
        answer = await everywhere.delete(self._call(jobs=[job]), await self._user())
        error = answer["results"][0].get("error")
        if error:
            raise OperationError(error["code"], error["message"])

    async def change(self, job: int, copies: int) -> None:
        """Raises OperationError: it was not changed, or nobody knows."""
        call = self._call(job=job, copies=copies, sides=None, color=None)
        await everywhere.change(call, await self._user(), self._printer)

    async def _user(self) -> Any:
        user = await self.life.reader.user(self._name)
        assert user is not None
        return user

    def _call(self, **args: Any) -> Any:
        return SimpleNamespace(services=self.life, args=args)
