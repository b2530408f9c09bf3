"""Rights of sites in any order: nobody promises money twice."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from spoold.model.errors import OperationError
from spoold.model.offline import HOUR_US
from support.money import PAGE
from support.rights import deployment

DAY_US = 24 * HOUR_US
pytestmark = pytest.mark.slow


@pytest.fixture
async def hall(tmp_path, spool_at):
    async with deployment(tmp_path, spool_at) as made:
        yield made


SITES = st.sampled_from(["a", "b"])
COUNTS = st.integers(1, 12)
LATE = st.integers(0, 3)  # how many charges ago
STEPS = st.one_of(
    st.tuples(st.just("pay"), COUNTS),
    st.tuples(st.just("spend"), COUNTS),
    st.tuples(st.just("reserve"), SITES, COUNTS),
    st.tuples(st.just("settle"), SITES, LATE, COUNTS),
    st.tuples(st.just("cancel"), SITES, LATE),
    st.tuples(st.just("sync"), SITES, st.integers(0, 12)),
    st.tuples(st.just("lose"), SITES, st.integers(0, 12)),
    st.tuples(st.just("late"), SITES),
    st.tuples(st.just("ship"), SITES),
    st.tuples(st.just("return"), SITES, COUNTS),
    st.tuples(st.just("crash"), st.sampled_from(["hq", "a", "b"])),
    st.tuples(st.just("days"), st.integers(1, 9)),
)


class Story:
    """What was promised, in pages, and the charges of each site that go on."""

    def __init__(self) -> None:
        self.paid = self.spent = self.number = 0
        self.open = {"a": {}, "b": {}}
        self.lost = {"a": [], "b": []}

    @property
    def promised(self) -> int:
        return self.spent + sum(sum(one.values()) for one in self.open.values())


async def step(hall, story, what) -> None:
    match what:
        case ("pay", count):
            story.paid += count
            await hall.pay(count)
        case ("spend", count):
            story.number += 1
            key = story.number.to_bytes(4, "big")
            with suppress(OperationError):
                await hall.reserve("hq", key, count)
                story.spent += count
                await hall.settle("hq", key, count)
        case ("reserve", site, count):
            story.number += 1
            key = story.number.to_bytes(4, "big")
            with suppress(OperationError):
                await hall.reserve(site, key, count)
                story.open[site][key] = count
        case ("settle", site, late, count):
            if key := nth(story.open[site], late):
                made = min(count, story.open[site].pop(key))
                story.spent += made
                await hall.settle(site, key, made)
        case ("cancel", site, late):
            if key := nth(story.open[site], late):
                del story.open[site][key]
                await hall.cancel(site, key)
        case ("sync", site, least):
            await hall.sync(site, least)
        case ("lose", site, least):
            story.lost[site].append(await hall.ask(site, least))
        case ("late", site):
            if story.lost[site]:
                with suppress(OperationError):  # of an epoch that is over
                    await hall.keep(site, story.lost[site].pop(0))
        case ("return", site, keep):
            await hall.give_back(site, keep)
        case ("ship", site):
            await hall.ship(site)
        case ("crash", name):
            await hall.crash(name)
        case ("days", count):  # work that is reported later than the margin may overspend
            await finish(hall, story)
            hall.now_us += count * DAY_US
            await hall.reclaim()


async def finish(hall, story) -> None:
    """All work is done, and reported."""
    for site, found in story.open.items():
        for key, count in found.items():
            story.spent += count
            await hall.settle(site, key, count)
        found.clear()
        await hall.ship(site)


def nth(found, late):
    keys = list(found)
    return keys[-1 - late] if late < len(keys) else None


@settings(
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example([("pay", 9), ("sync", "a", 9), ("reserve", "a", 9), ("days", 9), ("sync", "a", 5),
          ("cancel", "a", 0), ("reserve", "a", 9)])  # fmt: skip
@given(st.lists(STEPS, min_size=10, max_size=40))
async def test_nobody_promises_money_twice(spool_at, steps):
    """Whatever is lost, late, killed or over: three nodes never promise more than was paid in."""
    with tempfile.TemporaryDirectory() as folder:
        async with deployment(Path(folder), spool_at) as hall:
            story = Story()
            for one in steps:
                await step(hall, story, one)
                assert story.promised <= story.paid
            await hall.check()
            await finish(hall, story)
            for site in ("a", "b"):
                await hall.sync(site)
            await hall.check()
            held = 0
            for site in ("a", "b"):
                assert await hall.rights(site) >= await hall.left(site) >= 0
                held += await hall.rights(site)
            await hall.reclaim()
            total = await hall.left("hq") + held
            assert total == (story.paid - story.spent) * PAGE
