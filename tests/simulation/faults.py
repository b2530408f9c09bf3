"""What goes wrong in a simulated deployment: nodes, links and machines, for a while each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import trio

from simulation import images, rehoming
from simulation.network import TO_HQ, TO_SITE
from simulation.node import SITE_NAMES
from simulation.world import NAMES, World

FAULTS_MOST = 7
# Places in the code at which a node is killed, "" for any; a few are worth more than many commits.
POINTS = (
    "", "", "commit-before", "commit-before", "commit-after", "received-before-position",
    "received-before-position", "offered", "fetched-before-took", "uplink-acknowledged",
    "job-counted", "job-released", "let-go", "let-go", "given-before-word", "given-before-word",
    "given-before-answer", "attempt-after-mark", "attempt-before-end", "attempt-before-end",
)  # fmt: skip
REHOMED = 0.1  # of all seeds: a site is given up for dead, and no other node crashes
AS_BEFORE = 0.25  # of all seeds: nodes go on from earlier states, beside what else goes wrong

Fault = Callable[[World, Random], Awaitable[None]]


async def strike(world: World, seconds: float) -> None:
    """So many faults over so many seconds, one beside the other."""
    chance = world.chance("faults")
    which = chance.random()
    lines = (reset, cut, cut, cut_half, cut_half, slow)
    nodes = (crash_site, crash_site, crash_hq, crash_inside, crash_inside, crash_inside)
    async with trio.open_nursery() as nursery:
        if which < REHOMED:
            nursery.start_soon(rehome, world, chance)
            more = world.chance("lines")
            await _strike(world, more, _moments(more, seconds, 0), seconds, lines)
            return
        moments = _moments(chance, seconds, 1)
        if which < REHOMED + AS_BEFORE:
            for _ in range(chance.choice((1, 1, 2))):
                nursery.start_soon(put_back, world, Random(chance.random()), seconds)
        await _strike(world, chance, moments, seconds, lines + nodes)


def _moments(chance: Random, seconds: float, least: int) -> list[float]:
    count = chance.randint(least, FAULTS_MOST)
    return sorted(chance.uniform(0, seconds) for _ in range(count))


async def _strike(
    world: World, chance: Random, moments: list[float], seconds: float, kinds: tuple[Fault, ...]
) -> None:
    begun_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for moment in moments:
            await trio.sleep_until(begun_s + moment)
            nursery.start_soon(chance.choice(kinds), world, Random(chance.random()))
        await trio.sleep_until(begun_s + seconds)


def _while_s(chance: Random) -> float:
    return min(8.0, chance.expovariate(0.4))


async def reset(world: World, chance: Random) -> None:
    """Something between a site and its application server resets what goes over it, now and now."""
    link = world.net.links[chance.choice(SITE_NAMES)]
    for _ in range(chance.randint(1, 5)):
        world.tell(link.name, "is reset")
        link.reset()
        await trio.sleep(chance.uniform(0.05, 1))


async def cut(world: World, chance: Random) -> None:
    """The line of a site swallows everything."""
    await _cut(world, chance, TO_HQ, TO_SITE)


async def cut_half(world: World, chance: Random) -> None:
    """One direction goes on, and the other swallows everything."""
    await _cut(world, chance, chance.choice((TO_HQ, TO_SITE)))


async def _cut(world: World, chance: Random, *directions: int) -> None:
    link = world.net.links[chance.choice(SITE_NAMES)]
    world.tell(link.name, f"is cut {'both ways' if len(directions) == 2 else directions}")
    link.cut(*directions)
    await trio.sleep(_while_s(chance))
    if chance.random() < 0.5:
        link.reset()  # a firewall has forgotten it
    link.heal()
    world.tell(link.name, "is whole again")


async def slow(world: World, chance: Random) -> None:
    """Everything takes its time."""
    link = world.net.links[chance.choice(SITE_NAMES)]
    link.latency_s = chance.uniform(0.1, 1.0)
    world.tell(link.name, f"takes {link.latency_s:.2f} s")
    await trio.sleep(_while_s(chance))
    link.latency_s = 0.01


async def crash_site(world: World, chance: Random) -> None:
    await _crash(world, chance, chance.choice(SITE_NAMES))


async def crash_hq(world: World, chance: Random) -> None:
    await _crash(world, chance, "hq")


async def crash_inside(world: World, chance: Random) -> None:
    """A node is killed in the middle of something: at one of the named places in the code."""
    name = chance.choice(NAMES)
    life = world.lives.get(name)
    if life is not None:
        life.point = chance.choice(POINTS)
        life.points_left = chance.randint(1, 4 if life.point else 60)
        await trio.sleep(2 * _while_s(chance))
        life.points_left = None
        await _come_back(world, chance, name)


async def _crash(world: World, chance: Random, name: str) -> None:
    world.kill(name, is_silent=chance.random() < 0.5)
    await _come_back(world, chance, name)


async def _come_back(world: World, chance: Random, name: str) -> None:
    await trio.sleep(_while_s(chance))
    if name not in world.lives:
        await world.start(name)


async def rehome(world: World, chance: Random) -> None:
    """A site is dead, its printers go to another node for good; and then it returns after all, and
    they do, perhaps.
    """
    name = chance.choice(SITE_NAMES)
    heir = chance.choice(["hq", *(site for site in SITE_NAMES if site != name)])
    await trio.sleep(chance.uniform(1, 8))
    world.kill(name, is_silent=chance.random() < 0.5)
    await trio.sleep(_while_s(chance))
    await rehoming.give_away(world, name, heir)
    turn = world.chance("turn")
    is_returned, is_first = turn.random() < rehoming.RETURNED, turn.random() < 0.5
    if is_returned and is_first:
        await rehoming.give_back(world, name)
    await _come_back(world, chance, name)
    if is_returned and not is_first:
        await trio.sleep(_while_s(turn))
        await rehoming.give_back(world, name)


async def put_back(world: World, chance: Random, seconds: float) -> None:
    """A node goes on from what its disk was some time ago: put back as it was, which nobody tells
    it, or restored from a backup, as alone is promised of an application server.
    """
    name = chance.choice(("hq", "hq", *SITE_NAMES))
    await trio.sleep(chance.uniform(0, seconds / 2))
    life = world.lives.get(name)
    if life is None or not life.settled.is_set():
        return
    image = images.take(life, world.new_folder(f"{name}-image"))
    world.tell(name, f"has its image taken at {image.position}")
    await trio.sleep(chance.uniform(0, seconds / 2))
    world.kill(name, is_silent=chance.random() < 0.5)
    if name not in world.lives:
        is_restored = name == "hq" or chance.random() < 0.3
        world.tell(name, "is restored" if is_restored else "has its disk put back")
        images.put_back(world, image, is_restored=is_restored)
        await _come_back(world, chance, name)
