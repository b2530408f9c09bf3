"""An application server and two sites, as spools that talk by hand: for tests of rights."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import trio

from spoold.model.offline import Want
from spoold.model.purse import Payer, PayerKind
from spoold.spool import escrow, leases, ledger_views, rights, sending
from spoold.spool.postings import purses_of
from spoold.spool.store import (
    Cancel,
    GrantRights,
    KeepRights,
    PutPrices,
    PutUser,
    ReclaimRights,
    ReturnRights,
    Settle,
)
from support.money import PRICES, Purses, pages
from support.sites import ship

NAMES = ("hq", "a", "b")
GUIDS = {name: UUID(int=(number + 7) << 100) for number, name in enumerate(NAMES)}
BEGIN_US = int(datetime(2026, 3, 10, tzinfo=UTC).timestamp()) * 10**6


class Deployment:
    """`now_us` is what all clocks show; a site's clock is never asked twice."""

    def __init__(self, folder: Path, spool_at, nursery: trio.Nursery) -> None:
        self.folder, self.spool_at, self.nursery = folder, spool_at, nursery
        self.ends: dict[str, tuple[trio.Event, trio.Event]] = {}
        self.dirs: dict[str, Path] = {}
        self.at: dict[str, Purses] = {}
        self.now_us = BEGIN_US
        self.paid = 0
        self.ada = UUID(int=0)

    @property
    def hq(self) -> Purses:
        return self.at["hq"]

    async def open(self, name: str, data_dir: Path) -> None:
        spool = await self.nursery.start(self._run, name, data_dir)
        self.dirs[name], self.at[name] = data_dir, Purses(spool)

    async def _run(self, name: str, data_dir: Path, task_status=trio.TASK_STATUS_IGNORED) -> None:
        stop, stopped = self.ends[name] = (trio.Event(), trio.Event())
        async with self.spool_at(data_dir, GUIDS[name]) as spool:
            task_status.started(spool)
            await stop.wait()
        stopped.set()

    async def close(self, name: str) -> None:
        stop, stopped = self.ends[name]
        stop.set()
        await stopped.wait()

    async def start(self) -> None:
        for name in NAMES:
            (self.folder / name).mkdir()
            await self.open(name, self.folder / name)
        user = await self.hq.journal.commit(PutUser("ada", 1, is_new=True))
        self.ada = user.guid
        for name in ("a", "b"):  # the same person, by key
            await ship(self.hq.spool, self.at[name].spool, GUIDS["hq"])
            await self.at[name].journal.commit(PutUser("ada", 1, is_new=True))
        for purses in self.at.values():
            purses.prices = await purses.journal.commit(PutPrices(PRICES, 1))

    async def set_user(self, **fields) -> None:
        for purses in self.at.values():
            await purses.journal.commit(PutUser("ada", 2, fields=fields))

    # -- files -------------------------------------------------------------------------------

    async def image(self, name: str) -> Path:
        """The files as they lie on the disk now, without the witness."""
        copy = self.folder / uuid4().hex
        shutil.copytree(self.dirs[name], copy)
        (copy / "witness").unlink()
        return copy

    async def restore(self, name: str, image: Path) -> None:
        """The node goes on from an image: as another incarnation."""
        await self.close(name)
        await self.open(name, image)
        await self.at[name].again()

    async def crash(self, name: str) -> None:
        """Killed and started again."""
        copy = self.folder / uuid4().hex
        shutil.copytree(self.dirs[name], copy)
        await self.close(name)
        await self.open(name, copy)
        await self.at[name].again()

    # -- between nodes -----------------------------------------------------------------------

    async def ship(self, name: str) -> None:
        """All records of a site go up."""
        await ship(self.at[name].spool, self.hq.spool, GUIDS[name])

    async def ask(self, name: str, least: int = 0) -> KeepRights:
        """What a site asks for; the answer is to be kept, or lost."""
        spool = self.at[name].spool
        lease = await spool.reader.look(leases.own)
        site, epoch = GUIDS[name], 0 if lease is None else lease.epoch
        held = tuple(await spool.reader.look(leases.granted, site, self.ada, epoch))
        purses = await spool.reader.look(purses_of, self.ada)
        has = sum(one.balance for one in purses if one.counts_at(self.now_us))
        known = sum(one.amount for one in held)
        want = Want(PayerKind.PERSON, self.ada, least * 500, has, known)
        incarnation = UUID(spool.journal.identity[1])
        upstream = None if lease is None else lease.upstream
        chains = await spool.reader.look(sending.chains)
        books = tuple((one.incarnation, one.position) for one in chains)
        change = GrantRights(
            site, incarnation, epoch, upstream, (want,), held, self.now_us, books=books
        )
        granted = await self.hq.journal.commit(change)
        return KeepRights(site, incarnation, granted, self.now_us, self.now_us)

    async def keep(self, name: str, change: KeepRights) -> None:
        await self.at[name].journal.commit(change)

    async def sync(self, name: str, least: int = 0) -> None:
        await self.keep(name, await self.ask(name, least))

    async def reclaim(self) -> None:
        while await self.hq.journal.commit(ReclaimRights(self.now_us)):
            pass

    async def freeze(self, name: str) -> None:
        rights.freeze(self.hq.spool.store, GUIDS[name])

    # -- money -------------------------------------------------------------------------------

    async def pay(self, count: int) -> None:
        self.paid += count
        await self.hq.pay_in(self.ada, count * 500, now_us=self.now_us)

    async def reserve(self, name: str, key: bytes, count: int, **fields):
        purses = self.at[name]
        return await purses.reserve(key, self.ada, count, self.now_us, **fields)

    async def settle(self, name: str, key: bytes, count: int):
        return await self.at[name].journal.commit(Settle(key, pages(count), self.now_us))

    async def cancel(self, name: str, key: bytes):
        return await self.at[name].journal.commit(Cancel(key, self.now_us))

    async def give_back(self, name: str, keep: int) -> int:
        """A site returns its rights but for so many pages."""
        change = ReturnRights(self.ada, keep * 500, self.now_us)
        return await self.at[name].journal.commit(change)

    async def left(self, name: str) -> int:
        """What may be spent at a node."""
        payer = Payer(PayerKind.PERSON, self.ada)
        look = self.at[name].spool.reader.look
        wallet = await look(ledger_views.wallet_of, payer, self.now_us)
        return wallet.available

    async def rights(self, name: str) -> int:
        """What a site may spend, as the application server sees it."""
        found = await self.hq.spool.reader.look(escrow.holdings, GUIDS[name], b"", 10, self.now_us)
        return sum(one.left for one in found)

    async def check(self) -> None:
        """Every ledger adds up to zero, and stands in its records."""
        for purses in self.at.values():
            await purses.check()


@asynccontextmanager
async def deployment(folder: Path, spool_at):
    async with trio.open_nursery() as nursery:
        made = Deployment(folder, spool_at, nursery)
        await made.start()
        yield made
        for name in NAMES:
            await made.close(name)
