"""What runs in the background of a block ends with it, and does not wrap what the block raises."""

from __future__ import annotations

import pytest
import trio

from spoold.net.nursery import background_nursery


async def test_its_tasks_end_with_the_block():
    """Nobody who closes a client waits for what it had begun."""
    ended = trio.Event()

    async def work(task_status: trio.TaskStatus[None]) -> None:
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            ended.set()

    async with background_nursery() as nursery:
        await nursery.start(work)
    assert ended.is_set()


async def test_what_the_block_raises_comes_out_alone():
    """Whoever catches an error of the block finds it as it was raised, not in a group."""

    async def block() -> None:
        async with background_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise LookupError("asked")

    with pytest.raises(LookupError, match="asked"):
        await block()
