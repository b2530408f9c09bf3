"""One seed after another: a world is made, disturbed, healed, and looked at."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

import structlog
import trio
import trio.testing
from trio._core import _run

from simulation import clocks, edits, emergencies, faults, modes, periods, policies, repairs
from simulation.check import check, who_owes, wrong_rights, wrongly_listed
from simulation.node import GUIDS, SITE_NAMES, Life, reach
from simulation.operators import Operators
from simulation.planted import BUGS, Bug
from simulation.staff import STEPS as ERRANDS
from simulation.staff import Staff
from simulation.visits import Visits
from simulation.watch import watch
from simulation.work import LARGE, PEOPLE, Work
from simulation.world import BEGIN_US, LOBBY, MIDNIGHT_US, NAMES, PRINTERS, ROAM, SEEDED_US, World
from spoold.codec import batch
from spoold.model.node import EVERYTHING
from spoold.model.pricing import PriceList, Rate
from spoold.model.principal import Role
from spoold.model.printer import Printer
from spoold.model.release import Charging, ReleaseMode
from spoold.site import leftovers, replica
from spoold.spool import crashpoint
from spoold.spool.store import InviteNode, JoinNode, PutDevice, PutPrices, PutPrinter, PutUser
from support.money import PAGE

TROUBLE_S = 10.0  # for which things go wrong
STEPS = 32
VISITS = 4  # of so many kinds of steps, beside those of `Work`
QUIET_S = 240.0  # in which all must be quiet once nothing goes wrong any more
LOOK_S = 0.5
# Smaller than life, so that much falls apart in little time.
BATCH_RECORDS = 4
OBJECTS_TOGETHER = 2


class Failed(Exception):
    """A seed has shown that a promise is not kept; `trace` is what happened."""

    def __init__(self, seed: int, why: str, trace: list[str]) -> None:
        super().__init__(f"seed {seed}: {why}")
        self.seed, self.why, self.trace = seed, why, trace


# -- the world without threads, and with seeded chance --------------------------------------------


async def _inline(function: Any, *args: Any, **options: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return function(*args)


@contextmanager
def determined(seed: int | str) -> Iterator[None]:
    """Trio schedules by the seed, and has no threads."""
    was_allowed = _run._ALLOW_DETERMINISTIC_SCHEDULING
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True
    state = _run._r.getstate()
    _run._r.seed(str(seed))
    try:
        with (
            patch.object(trio.to_thread, "run_sync", _inline),
            patch.object(crashpoint, "hearer", reach),
            patch.object(batch, "BATCH_RECORDS_MAX", BATCH_RECORDS),
            patch.object(replica, "TOGETHER", OBJECTS_TOGETHER),
            patch.object(leftovers, "LOOK_S", periods.LOOK_S),
            patch.object(leftovers, "OVER_US", periods.OVER_US),
        ):
            yield
    finally:
        _run._r.setstate(state)
        _run._ALLOW_DETERMINISTIC_SCHEDULING = was_allowed


def simulate(main: Any, *args: Any) -> Any:
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


# -- the template ---------------------------------------------------------------------------------


class Template:
    """A deployment at peace: sites that have joined, people, prices, printers; made once."""

    def __init__(self, base: Path) -> None:
        self.base = base
        with determined("template"):
            simulate(self._make)

    async def _make(self) -> None:
        async with trio.open_nursery() as nursery:
            world = World(0, self.base, nursery, BEGIN_US)
            for name in NAMES:
                world.folders[name].mkdir(parents=True)
            await world.start("hq")
            await furnish(world.lives["hq"])
            for name in SITE_NAMES:
                await world.start(name)
            await wait_quiet(world)
            await world.stop_all()
            self.folders = world.folders
        for folder in self.folders.values():
            (folder / "spool.db-shm").unlink(missing_ok=True)

    def copy_to(self, base: Path) -> None:
        for name, folder in self.folders.items():
            shutil.copytree(folder, base / name)


async def furnish(hq: Life) -> None:
    """What an administrator sets up at the application server."""
    chance = Random("furniture")

    async def put(change: Any) -> Any:
        return await hq.journal.commit(change)

    now_us = hq.wall_clock()
    await put(PutPrices(PriceList(0, 0, (Rate(PAGE),)), now_us))
    for name in PEOPLE:
        user = PutUser(name, now_us, frozenset({Role.USER}), is_new=True)
        user.fields = {"restricted": True}
        await put(user)
    for site in SITE_NAMES:
        secret = chance.randbytes(32)
        await put(InviteNode(site, secret, True, now_us + 10**9, now_us, EVERYTHING))
        await put(JoinNode(GUIDS[site], chance.randbytes(32), now_us, secret))
        for kind in PRINTERS:
            await put_printer(hq, chance, f"{kind}-{site}", kind, GUIDS[site])
    await put_printer(hq, chance, LOBBY, "front", None)
    guid = UUID(bytes=chance.randbytes(16), version=4)
    roam = Printer(0, guid, ROAM, release=ReleaseMode.FIND_ME)
    await put(PutPrinter(roam, hq.wall_clock()))


async def put_printer(hq: Life, chance: Random, name: str, kind: str, owner: UUID | None) -> None:
    now_us = hq.wall_clock()
    guid = UUID(bytes=chance.randbytes(16), version=4)
    device = await hq.journal.commit(PutDevice(guid, f"machine://{name}", now_us))
    printer = Printer(
        0,
        UUID(bytes=chance.randbytes(16), version=4),
        name,
        device.id,
        release=ReleaseMode.HOLD if kind == "vault" else ReleaseMode.IMMEDIATE,
        charging=Charging.OFF if kind == "plain" else Charging.ON,
        owner=owner,
    )
    await hq.journal.commit(PutPrinter(printer, now_us))


# -- one seed -------------------------------------------------------------------------------------


class Seed:
    """One world, from its begin to its check. `digest` is that of its whole trace."""

    def __init__(self, number: int, template: Template, base: Path) -> None:
        self.number = number
        self.template = template
        self.base = base
        self.world: World | None = None
        self.virtual_s = self.took_s = 0.0

    def run(self) -> None:
        """Raises Failed: a promise is not kept."""
        self.template.copy_to(self.base)
        begun_s = time.process_time()
        try:
            with determined(self.number):
                simulate(self._live)
        except BaseException as error:
            found = _cause(error)
            if isinstance(found, KeyboardInterrupt | SystemExit):
                raise
            why = str(found) if isinstance(found, AssertionError) else repr(found)
            trace = []
            if self.world is not None:
                why, trace = self.world.named(why), self.world.told()
            raise Failed(self.number, why, trace) from error
        finally:
            self.took_s = time.process_time() - begun_s
            shutil.rmtree(self.base, ignore_errors=True)

    async def _live(self) -> None:
        async with trio.open_nursery() as nursery:
            late_us = periods.begin_us(self.number, MIDNIGHT_US)
            begin_us = late_us or BEGIN_US + SEEDED_US
            world = self.world = World(self.number, self.base, nursery, begin_us)
            world.is_daily = late_us is not None
            world.watches.append(watch)
            work = Work(world)
            visit, staff = Visits(work).visit, Staff(work)
            more = (*(visit,) * VISITS, *(staff.send,) * ERRANDS)
            choosy = edits.begin(work)
            if choosy is not None:
                more += (choosy.edit,) * edits.STEPS
            urgent = emergencies.begin(work)
            if urgent is not None:
                more += (urgent.declare,) * emergencies.STEPS
            handy = repairs.begin(work)
            if handy is not None:
                more += (handy.repair,) * repairs.STEPS
            moody = modes.begin(work)
            if moody is not None:
                more += (moody.change,) * modes.STEPS
            setting, generous = clocks.begin(world), policies.begin(world)
            for name in NAMES:
                await world.start(name)
            if world.is_daily:
                await periods.allow(world, world.lives["hq"])
            if generous is not None:
                await generous.decide(world.lives["hq"])
                more += (work.copy,) * policies.COPIES
            async with trio.open_nursery() as doing:
                if setting is not None:
                    doing.start_soon(clocks.be_set, world, setting, TROUBLE_S)
                doing.start_soon(work.begin, TROUBLE_S, STEPS, *more)
                await faults.strike(world, TROUBLE_S)
                await world.heal()
                doing.cancel_scope.deadline = trio.current_time() + QUIET_S
            assert not work.waiting, f"nobody answers: {', '.join(work.waiting)}"
            for name in PEOPLE:
                await work.pay_in(name, LARGE)
            checks = [one.check for one in (staff, choosy, urgent, handy) if one is not None]
            await check_in_peace(world, work, Operators(work, handy), checks)
            self.virtual_s = trio.current_time()
            await world.end()

    @property
    def digest(self) -> str:
        assert self.world is not None
        return sha256("\n".join(self.world.trace).encode()).hexdigest()


async def wait_quiet(world: World, operators: Operators | None = None) -> None:
    """Until nothing goes on anywhere, and did not a moment ago; people do what they have to."""
    unrest, quiet = "nothing", 0
    with trio.move_on_after(QUIET_S):
        while quiet < 2:
            await trio.sleep(LOOK_S)
            if operators is not None:
                await operators.tidy()
            unrest = await world.unrest() or rights_unrest(world) or await listed_unrest(world)
            if world.is_daily and not unrest:
                unrest = periods.unrest(world.lives["hq"])
            quiet = 0 if unrest else quiet + 1
        return
    raise AssertionError(f"it does not come to rest: {unrest}")


async def check_in_peace(
    world: World, work: Work, operators: Operators, checks: Sequence[Callable[[], Awaitable[None]]]
) -> None:
    """What does not hold while something has begun to go on again is looked at once more."""
    while True:
        await wait_quiet(world, operators)
        before = heads(world)
        try:
            await check(world, work)
            for one in checks:
                await one()
        except AssertionError:
            if heads(world) == before and -1 not in before:
                raise
        else:
            return


def heads(world: World) -> list[int]:
    """Where each journal ends; one that is just being written to ends nowhere."""
    lives = [world.lives[name] for name in NAMES]
    return [one.journal.head if one.journal.head == one.store.position else -1 for one in lives]


def rights_unrest(world: World) -> str:
    hq = world.lives["hq"]
    wrong = (wrong_rights(hq, world.lives[site]) for site in SITE_NAMES)
    return next((one for one in wrong if one), "") or who_owes(world)


async def listed_unrest(world: World) -> str:
    hq = world.lives["hq"]
    for site in SITE_NAMES:
        if wrong := await wrongly_listed(hq, world.lives[site]):
            return wrong
    return ""


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# -- many -----------------------------------------------------------------------------------------


def scratch() -> Path:
    """A folder for the files of worlds: in memory, where there is such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="spoold-", dir=memory if memory.is_dir() else None))


class Campaign:
    """Runs seeds; use as a context manager."""

    def __init__(self) -> None:
        self.base = scratch()
        self.passed: set[int] = set()  # without any bug

    def __enter__(self) -> Campaign:
        self._quiet = structlog.testing.capture_logs()
        self._quiet.__enter__()
        self.template = Template(self.base / "template")
        gc.freeze()  # what is here stays: only what worlds leave is looked through
        return self

    def __exit__(self, *error: object) -> None:
        gc.unfreeze()
        self._quiet.__exit__(None, None, None)
        shutil.rmtree(self.base, ignore_errors=True)

    def run(self, number: int, bug: Bug | None = None) -> Seed:
        """Raises Failed."""
        seed = Seed(number, self.template, self.base / str(number))
        with nullcontext() if bug is None else bug.planted():
            seed.run()
        if bug is None:
            self.passed.add(number)
        return seed


def search(campaign: Campaign, name: str, numbers: range) -> int | None:
    """The first seed that finds a planted bug, and passes without it."""
    for number in numbers:
        try:
            campaign.run(number, BUGS[name])
        except Failed as found:
            if passes(campaign, number):
                print(f"{name}: {found}"[:200], flush=True)
                return number
    print(f"{name}: not found", flush=True)
    return None


def passes(campaign: Campaign, number: int) -> bool:
    if number in campaign.passed:
        return True
    try:
        campaign.run(number)
    except Failed as failed:
        print(f"without any bug: {failed}", flush=True)
        return False
    return True
