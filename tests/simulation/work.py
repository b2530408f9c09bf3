"""What people and programs do in a simulated deployment, and what they were told of it.

Each asks until it has an answer, at one node or another, as clients do; a `Deal` keeps what was
acknowledged, and what of it may be expected in the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple
from uuid import UUID

import trio

from simulation.disk import Crashed
from simulation.node import ALIVE, SITE_NAMES, Life
from simulation.world import LOBBY, PRINTERS, ROAM, World
from spoold.daemon.operations.plans import plan_cancel
from spoold.intake.submission import Submission
from spoold.model.card import Digests
from spoold.model.errors import OperationError, SpooldError
from spoold.model.job import Job, JobReason, JobState
from spoold.model.person import Known, Owner
from spoold.model.pricing import PriceList, Quote, Rate
from spoold.model.printer import Printer
from spoold.model.purse import Payer, PayerKind, PurseKind
from spoold.provider.course import Lost
from spoold.release.releasing import Releaser
from spoold.spool import accounts
from spoold.spool.store import (
    AddRecord,
    Adjust,
    Change,
    ChangeJob,
    JobFilter,
    PutAccount,
    PutCard,
    PutPrices,
    PutPrinter,
    PutUser,
    RemoveAccount,
    RemoveCard,
    Reserve,
    Settle,
)
from support.money import PAGE, pages

PEOPLE = ("ada", "bob", "cyd")
PATIENCE_S = 3.0
PAUSE_S = 1.0
LARGE = 4000 * PAGE
ROAMING = 0.3  # of all jobs
NOVELTY = "novelty-seen"  # a kind of record that no version knows so far
CARDS = Digests([bytes(range(32))])


@dataclass
class Deal:
    """A job, as those know it who have to do with it. `acked` are the nodes that said they have
    it, and how many disks had been put back by then; `sent_to` those that were asked to take it,
    of which one may have it and have died before it said so; `is_dropped`: somebody wanted it
    canceled, or settled it so.
    """

    uuid: UUID
    label: str
    printer: str
    site: str  # whose printer that is, "" of one whose jobs come out anywhere
    owner: str
    count: int
    acked: dict[str, int] = field(default_factory=dict)
    sent_to: set[str] = field(default_factory=set)
    is_dropped: bool = False

    @property
    def is_twin(self) -> bool:
        """Whether two nodes may have people wait for it: their provider did not hear the first."""
        return not self.site and len(self.sent_to) > 1

    @property
    def body(self) -> bytes:
        return b"page\f" * self.count


Step = Callable[[Random], Awaitable[None]]


class Paid(NamedTuple):
    """Money that came in, as the cash desk has it on paper."""

    name: str
    amount: int


class Made(NamedTuple):
    """Copies that were said to cost so much at a node, after so many disks had been put back."""

    server: str
    net: int
    count: int


class Work:
    """Everybody who does something. `deals` are the jobs, `payments` what came in, and `copies`
    what was made at machines, by their keys.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng: Random = world.chance("work")
        self.deals: dict[UUID, Deal] = {}
        self.payments: dict[bytes, Paid] = {}
        self.copies: dict[bytes, Made] = {}
        self.cards: list[tuple[str, str]] = []  # whose, and their numbers
        self.waiting: dict[str, None] = {}  # what was begun and is not answered

    def uuid(self) -> UUID:
        return UUID(bytes=self.rng.randbytes(16), version=4)

    async def begin(self, seconds: float, steps: int, *more: Step) -> None:
        """Do things for so long, `more` among them; what was begun goes on until it is answered."""
        async with trio.open_nursery() as nursery:
            moments = sorted(self.rng.uniform(0, seconds) for _ in range(steps))
            kinds = (
                *(self.submit,) * 8, *(self.copy,) * 3, *(self.pay,) * 2, *(self.release,) * 3,
                *(self.cancel,) * 2, self.change_prices, *(self.change_user,) * 2, self.give_card,
                *(self.take_card,) * 2, self.change_printer, self.change_account, self.invent,
                *more,
            )  # fmt: skip
            begun_s = trio.current_time()
            for moment in moments:
                await trio.sleep_until(begun_s + moment)
                step = self.rng.choice(kinds)
                nursery.start_soon(self._do, step, Random(self.rng.random()))

    async def _do(self, step: Step, rng: Random) -> None:
        name = f"{step.__name__} {self.rng.random():.6f}"
        self.waiting[name] = None
        await step(rng)
        del self.waiting[name]

    def life(self, name: str) -> Life | None:
        """The node, when it answers at all."""
        found = self.world.lives.get(name)
        return found if found is not None and found.settled.is_set() else None

    # -- jobs ------------------------------------------------------------------------------------

    async def submit(self, rng: Random) -> None:
        """A provider hands a job over, to whichever node answers."""
        site = rng.choice((*SITE_NAMES, "hq"))
        printer = LOBBY if site == "hq" else f"{rng.choice(PRINTERS)}-{site}"
        servers = ["hq"] if site == "hq" else rng.sample(("hq", site), 2)
        if rng.random() < ROAMING:
            printer, site = ROAM, ""
        uuid = self.uuid()
        deal = Deal(
            uuid, self.world.name_job(uuid), printer, site, rng.choice(PEOPLE), rng.randint(1, 9)
        )
        self.deals[uuid] = deal
        while True:
            for server in list(servers):
                if await self._hand_over(rng, deal, server):
                    if rng.random() < 0.8:
                        return
                    servers.sort(key=lambda one, last=server: one == last)
                    break  # the answer is lost: it asks another one, if there is one
                await trio.sleep(rng.uniform(0, PAUSE_S))

    async def _hand_over(self, rng: Random, deal: Deal, server: str) -> bool:
        life = self.life(server)
        if life is None:
            return False
        told = Submission(
            deal.printer,
            Owner(deal.owner, Known.ASSERTED, "provider"),
            "provider:desk",
            "frames",
            "192.0.2.7",
            uuid=deal.uuid,
            title=deal.label,
            size=len(deal.body),
            format="text/plain",
        )
        with may_fail(life, PATIENCE_S):
            upload = await life.acceptance.begin(told)
            try:
                if upload.accepted is None:
                    await upload.write(deal.body)
                deal.sent_to.add(server)
                accepted = await upload.commit(len(deal.body))
            finally:
                await upload.suspend()
            if life.is_dead:
                return False
            deal.acked[server] = len(self.world.put_backs)
            self.world.tell(server, f"acknowledges {deal.uuid} as {accepted.job_id}")
            return True
        return False

    async def release(self, rng: Random) -> None:
        """Somebody stands at a machine, and has a job come out."""
        await self.release_at(rng.choice(SITE_NAMES), rng)

    async def release_at(self, site: str, rng: Random | None = None) -> None:
        """One job of a site's machine, or without `rng` all that wait for somebody."""
        life = self.life(site)
        if life is None:
            return
        with may_fail(life, PATIENCE_S):
            known = (await life.catalogue.look()).printers
            waiting = [
                job
                for job in await held(life, JobReason.JOB_RELEASE_WAIT)
                if not known[job.printer_id].is_find_me
            ]
            if self.world.is_put_back(site):
                waiting = [job for job in waiting if not await self.throw_away(life, job)]
            for job in waiting if rng is None else waiting and [rng.choice(waiting)]:
                await self.release_job(life, job)

    async def throw_away(self, life: Life, job: Job) -> bool:
        """A job that waits again since a disk was put back: whoever has its paper deletes it."""
        is_out = self.world.is_out(job.uuid)
        if is_out:
            self.world.tell(life.name, f"is told that {job.uuid} was fetched before")
            self.deals[job.uuid].is_dropped = True
            await self.cancel_job(life, job)
        return is_out

    async def release_job(self, life: Life, job: Job) -> None:
        printer = (await life.catalogue.look()).printers[job.printer_id]
        user = await life.reader.user(job.owner.name)
        if user is not None:
            by = Releaser(f"user:{user.guid}", user, printer.name)
            with may_fail(life, PATIENCE_S):
                await life.releases.release(job, printer, by)

    async def cancel(self, rng: Random) -> None:
        """Somebody does not want a job any more, and says so where it was acknowledged."""
        deals = [one for one in self.deals.values() if one.acked and not one.is_dropped]
        if not deals:
            return
        deal = rng.choice(deals)
        life = self.life(rng.choice(list(deal.acked)))
        if life is None:
            return
        with may_fail(life, PATIENCE_S):
            job = await life.reader.job_by_uuid(deal.uuid)
            if job is not None and not job.state.is_final:
                deal.is_dropped = True
                self.world.tell(life.name, f"is to cancel {deal.uuid}")
                await self.cancel_job(life, job)

    async def cancel_job(self, life: Life, job: Job) -> None:
        plan = plan_cancel(JobReason.JOB_CANCELED_BY_USER)(job)
        if plan.event is not None:
            await life.journal.commit(
                ChangeJob(
                    job.id,
                    plan.event,
                    life.wall_clock(),
                    reasons=plan.reasons,
                    only_from=plan.only_from,
                )
            )

    # -- money -----------------------------------------------------------------------------------

    async def pay(self, rng: Random) -> None:
        await self.pay_in(rng.choice(PEOPLE), rng.randint(1, 40) * PAGE)

    async def pay_in(self, name: str, amount: int) -> None:
        """Money comes in at the cash desk, which books until it is booked."""
        key = self.rng.randbytes(16)
        self.payments[key] = Paid(name, amount)
        while True:
            if await self.book(key):
                return
            await trio.sleep(PAUSE_S)

    async def book(self, key: bytes) -> bool:
        life, (name, amount) = self.life("hq"), self.payments[key]
        if life is None:
            return False
        with may_fail(life, PATIENCE_S):
            user = await life.reader.user(name)
            assert user is not None
            change = Adjust(
                key,
                PayerKind.PERSON,
                user.guid,
                amount,
                "cash desk",
                life.wall_clock(),
                "uid:0",
                PurseKind.PAID_IN,
            )
            await life.journal.commit(change)
            self.world.tell("hq", f"has {amount} of {name}")
            return True
        return False

    async def copy(self, rng: Random) -> None:
        """Somebody makes copies at a machine of one node, which asks until it is answered."""
        server = rng.choice((*SITE_NAMES, "hq"))
        key, name, count = rng.randbytes(16), rng.choice(PEOPLE), rng.randint(1, 12)
        begun = len(self.world.put_backs)
        if not await self._reserve(server, key, name, count):
            return
        await trio.sleep(rng.uniform(0, 2))
        made = rng.randint(1, count) if rng.random() < 0.8 else 0
        while True:
            life = self.life(server)
            if life is not None:
                is_unsure = bool(self.world.since(server, begun))
                try:
                    with may_fail(life, PATIENCE_S, is_refused=is_unsure):
                        await self._settle_copies(life, key, made)
                        if rng.random() < 0.8:
                            return  # else the answer is lost, and it asks again
                except OperationError as error:
                    self.world.tell(server, f"knows of no copies any more: {error.code}")
                    return
            await trio.sleep(PAUSE_S)

    async def _settle_copies(self, life: Life, key: bytes, made: int) -> None:
        if made:
            charge = await life.charging.settle(key, pages(made))
            self._note(life, key, charge.net)
        else:
            await life.charging.cancel(key)
        self.world.tell(life.name, f"charges {made} copies")

    def _note(self, life: Life, key: bytes, net: int) -> None:
        if not life.is_dead:
            self.copies[key] = Made(life.name, net, len(self.world.put_backs))

    async def _reserve(self, server: str, key: bytes, name: str, count: int) -> bool:
        while True:
            life = self.life(server)
            if life is not None:
                try:
                    with may_fail(life, PATIENCE_S, is_refused=True):
                        user = await life.reader.user(name)
                        assert user is not None
                        payer = Payer(PayerKind.PERSON, user.guid, "owner")
                        await life.charging.reserve(key, payer, pages(count), None)
                        return True
                except OperationError as error:
                    self.world.tell(server, f"refuses copies of {name}: {error.code}")
                    return False
            await trio.sleep(PAUSE_S)

    # -- the application server's own changes ----------------------------------------------------

    async def change(self, make) -> None:
        """Commit what `make` makes of the application server, if it answers now."""
        life = self.life("hq")
        if life is not None:
            with may_fail(life, PATIENCE_S):
                change = await make(life)
                if change is not None:
                    await life.journal.commit(change)

    async def change_prices(self, rng: Random) -> None:
        async def make(life: Life):
            rate = Rate(PAGE + 10 * rng.randint(-9, 9))
            return PutPrices(PriceList(0, life.wall_clock(), (rate,)), life.wall_clock())

        await self.change(make)

    async def change_user(self, rng: Random) -> None:
        async def make(life: Life):
            fields = {"full_name": f"number {rng.randint(0, 99)}"}
            return PutUser(rng.choice(PEOPLE), life.wall_clock(), fields=fields)

        await self.change(make)

    async def give_card(self, rng: Random) -> None:
        async def make(life: Life):
            name, number = rng.choice(PEOPLE), str(rng.randint(0, 99))
            self.cards.append((name, number))
            return PutCard(name, (CARDS.card(number),), "", "", life.wall_clock())

        await self.change(make)

    async def take_card(self, rng: Random) -> None:
        """A card is taken from somebody, after many other changes at the same moment."""
        life = self.life("hq")
        if life is None or not self.cards:
            return
        name, number = self.cards.pop(rng.randrange(len(self.cards)))
        with may_fail(life, PATIENCE_S):
            printers = await self.printers(life)
            changes: list[Change] = [
                PutPrinter(replace(one, location="moved"), life.wall_clock())
                for one in rng.sample(printers, 4)
            ]
            digests = (CARDS.card(number),)
            taken = RemoveCard(name, None, life.wall_clock(), digests)
            await life.journal.commit_all([*changes, taken])

    async def change_printer(self, rng: Random) -> None:
        async def make(life: Life):
            printer = rng.choice(await self.printers(life))
            changed = replace(printer, location=f"floor {rng.randint(0, 9)}")
            return PutPrinter(changed, life.wall_clock())

        await self.change(make)

    async def change_account(self, rng: Random) -> None:
        """One of two shared accounts is opened, or closed for good."""

        async def make(life: Life):
            name = rng.choice(("physics", "poetry"))
            if await life.reader.look(accounts.by_name, name) is None:
                return PutAccount(name, life.wall_clock(), is_new=True)
            return RemoveAccount(name, life.wall_clock())

        await self.change(make)

    async def printers(self, life: Life) -> list[Printer]:
        printers = (await life.catalogue.look()).printers.values()
        return sorted(printers, key=lambda one: one.name)

    async def invent(self, rng: Random) -> None:
        """A site of a newer version records what its application server does not know, and charges
        something that is free.
        """
        life = self.life(rng.choice(SITE_NAMES))
        if life is not None:
            with may_fail(life, PATIENCE_S):
                user = await life.reader.user(rng.choice(PEOPLE))
                assert user is not None
                key, now_us = rng.randbytes(16), life.wall_clock()
                payer, made = Payer(PayerKind.PERSON, user.guid, "owner"), pages(1)
                free = Reserve(key, payer, Quote(0, 0), made, None, now_us)
                charge = Settle(key, None, now_us, unreserved=free)
                await life.journal.commit_all([AddRecord(NOVELTY, {}, now_us), charge])
                self._note(life, key, 0)


async def held(life: Life, reason: JobReason) -> list[Job]:
    """The jobs of a node that wait for something."""
    which = JobFilter(states=(JobState.PENDING_HELD,), reason=reason.value)
    return await life.reader.jobs(which)


@contextmanager
def may_fail(life: Life, patience_s: float, *, is_refused: bool = False) -> Iterator[None]:
    """What is asked here of a node may be refused, get no answer, or the node may end meanwhile.

    `is_refused`: whoever asks wants to know of a refusal.
    """
    token = ALIVE.set(life)
    with trio.move_on_after(patience_s):
        try:
            yield
        except OperationError as error:
            if is_refused and not life.is_dead:
                raise
            life.world.tell(life.name, f"refuses: {error}")
        except (SpooldError, Crashed, Lost):
            pass
        except ExceptionGroup as group:  # it did several things at once
            if group.split((SpooldError, Crashed, Lost))[1] is not None:
                raise
        finally:
            ALIVE.reset(token)
