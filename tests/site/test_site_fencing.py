"""A site that starts prints nothing before it has heard whose its printers are."""

from __future__ import annotations

from types import SimpleNamespace

import trio

from spoold.model.node import LineState
from spoold.site.fencing import wait_word
from support.furnishing import furnish
from support.replicas import Wire, replica_of, serve, two

LINE = SimpleNamespace(state=LineState.UP)


async def test_word_of_before_the_start_does_not_count_whatever_the_clock_shows(tmp_path):
    """The copy is as of a time that has not come yet: the clock was ahead, and was set right."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        await (await replica_of(site, Wire(serve(hq)))).pull()
        copy = await replica_of(site, Wire(serve(hq)))
        copy.current_us += 10**12
        with trio.move_on_after(0.1) as waited:
            await wait_word(LINE, copy)
        assert waited.cancelled_caught
        await copy.pull()
        await wait_word(LINE, copy)
