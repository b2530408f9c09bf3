"""The line in memory, on a virtual clock: up, gone, back, and what those who use it see."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.site.line import Line, Lost, Settings
from support.upstream import GUID, Papers, Upstream
from support.waiting import wait_until

FIRST, SECOND = "hq-1:9195", "hq-2:9195"
OFFSET_US = 5_000_000


def clock_us() -> int:
    return int(trio.current_time() * 1e6)


async def about():
    return {"journal": "j", "incarnation": "i", "position": 7}


@asynccontextmanager
async def lines(*servers, answering=None):
    """A line to `servers`, of which those in `answering` are there."""
    async with trio.open_nursery() as nursery:
        upstream = Upstream(nursery, *(servers if answering is None else answering))
        upstream.clock_us = lambda: clock_us() + OFFSET_US
        line = Line(
            Papers(*servers), upstream, clock_us, about, Settings(), random.Random(1), "library"
        )
        states = []
        line.listen(lambda state: states.append((round(trio.current_time(), 3), state)))
        nursery.start_soon(line.run)
        yield SimpleNamespace(line=line, upstream=upstream, states=states)
        nursery.cancel_scope.cancel()


async def test_hello_makes_the_line_and_tells_the_clock(autojump_clock):
    """After hello calls get through, and the site knows how far its clock is off."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        assert here.line.upstream.guid == GUID
        assert here.line.offset_us == pytest.approx(OFFSET_US, abs=1000)
        op, args = here.upstream.asked[1]
        assert (op, args["position"], args["versions"]) == ("site.hello", 7, [1])
        assert await here.line.call("echo", {}, 1) == {}


async def test_silence_is_noticed_within_a_second(autojump_clock):
    """A black hole on the way: gone after three missed beats."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        await trio.sleep(10)
        here.upstream.is_silent = True
        began = trio.current_time()
        await wait_until(lambda: here.line.state is not LineState.UP)
        assert 0.4 < trio.current_time() - began <= 1.0
        assert "silent" in here.line.reason


async def test_a_site_that_stood_still_itself_blames_nobody(autojump_clock):
    """A machine that slept for a while, or had no time for us, has heard nothing meanwhile."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        for _ in range(5):
            autojump_clock.jump(5)
            await trio.sleep(0.3)
        assert [state for _, state in here.states] == [LineState.UP]
        here.upstream.is_silent = True
        await trio.sleep(1)
        assert here.line.state is LineState.GONE


async def test_a_reset_is_noticed_at_once(autojump_clock):
    """What waits for an answer hears of the loss, and the state has changed by then."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        await trio.sleep(5)
        began = trio.current_time()

        async def cut():
            await trio.sleep(0.5)
            here.upstream.cut()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises(Lost):
                await here.line.call("hang", {}, 60)
        await trio.testing.wait_all_tasks_blocked()
        assert here.line.state is LineState.GONE
        assert trio.current_time() - began < 0.6


async def test_it_is_back_after_it_has_held_for_two_seconds(autojump_clock):
    """Calls get through before that; the state waits."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        await trio.sleep(5)
        here.upstream.cut()
        await trio.testing.wait_all_tasks_blocked()
        await wait_until(lambda: here.line.is_connected)
        began = trio.current_time()
        assert here.line.state is LineState.GONE
        assert await here.line.call("echo", {}, 1) == {}
        await here.line.wait_up()
        assert 1.9 <= trio.current_time() - began <= 2.6


async def test_servers_are_tried_in_order(autojump_clock):
    """The second one is used while the first is away, and the first again when it is back."""
    async with lines(FIRST, SECOND, answering=[SECOND]) as here:
        await here.line.wait_up()
        assert here.line.upstream.server == SECOND
        assert [state for _, state in here.states] == [LineState.UP]
        here.upstream.servers = {FIRST}
        here.upstream.cut()
        await trio.sleep(1)
        assert here.line.upstream.server == FIRST


async def test_nobody_there_is_gone_and_tried_with_longer_pauses(autojump_clock):
    """A site that starts during an outage knows that it is alone, and does not hammer."""
    async with lines(FIRST, answering=[]) as here:
        await trio.sleep(300)
        assert here.line.state is LineState.GONE
        assert "refused" in here.line.reason
        assert 30 <= len(here.upstream.dialled) <= 100
        with pytest.raises(Lost):
            await here.line.call("echo", {}, 1)
        here.upstream.servers = {FIRST}
        await here.line.wait_up()


async def test_a_late_answer_costs_the_line_nothing(autojump_clock):
    """A deadline ends a call, and nothing else."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        began = trio.current_time()
        with pytest.raises(Lost, match=r"no answer within 0\.3 s"):
            await here.line.call("hang", {}, 0.3)
        assert trio.current_time() - began == pytest.approx(0.3, abs=0.01)
        assert here.line.state is LineState.UP
        assert await here.line.call("echo", {}, 0.3) == {}


async def test_events_reach_those_who_hear_them(autojump_clock):
    """What the application server tells comes to whoever asked for that event."""
    async with lines(FIRST) as here:
        heard = []
        here.line.hear("objects-changed", heard.append)
        await here.line.wait_up()
        await trio.sleep(1)
        await here.upstream.tell("objects-changed", {"position": 9})
        await here.upstream.tell("something-new", {})
        await trio.sleep(1)
        assert heard == [{"position": 9}]


async def test_a_version_that_is_too_far_off_is_told(autojump_clock):
    """The refusal of hello stands in the reason, with what to do, and it is tried again."""
    async with lines(FIRST) as here:
        here.upstream.refusal = ("version-not-supported", "the site is too old.", "Update it.")
        await trio.sleep(20)
        assert here.line.state is LineState.GONE
        assert "Update it" in here.line.reason
        here.upstream.refusal = None
        await here.line.wait_up()


async def test_rooms_greet_each_other(autojump_clock):
    """What rooms have to say goes with hello, and the answer comes back to them."""
    async with lines(FIRST) as here:

        async def greeting():
            return {"uplink": {"position": 3}}

        here.line.greetings.append(greeting)
        here.upstream.more = {"uplink": {"acknowledged": 2}}
        await here.line.wait_up()
        assert here.upstream.asked[1][1]["more"] == {"uplink": {"position": 3}}
        assert here.line.upstream.more == {"uplink": {"acknowledged": 2}}


async def test_a_flapping_line_is_not_up_each_time(autojump_clock):
    """Twenty cuts within a minute change the state a few times only."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        for _ in range(20):
            await trio.sleep(3)
            here.upstream.cut()
        ups = [at for at, state in here.states if state is LineState.UP]
        assert len(ups) <= 5


async def test_a_refusal_is_the_callers(autojump_clock):
    """An operation that is refused ends no line."""
    async with lines(FIRST) as here:
        await here.line.wait_up()
        here.upstream.refusal = ("not-possible", "no.", "")
        with pytest.raises(OperationError):
            await here.line.call("site.hello", {}, 1)
        assert here.line.state is LineState.UP
