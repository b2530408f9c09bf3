"""The real store, killed at any commit while somebody's work is reserved and settled.

What was acknowledged stands, and asking everything again charges each piece of work once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from spoold.model.charge import ChargeState
from spoold.spool import charges
from support import forking
from support.chain import verified
from support.money import Purses
from support.spending import PAGE, PAID_IN, STEPS, made

# Four commits set the ledger up; each charge takes two.
POINTS = [
    (point, count)
    for point in ("commit-before", "commit-after")
    for count in (3, 4, 5, 6, 7, 20, 21, 40)
]


def spend(data_dir: Path, crash_point: str = "") -> tuple[int, dict[str, int]]:
    """Run the work; answers the exit code and the charges that were acknowledged."""
    environ = {**os.environ, "SPOOLD_CRASH_POINT": crash_point}
    done = forking.run(data_dir, module="support.spending", environ=environ)
    told = [line.split() for line in done.stdout.splitlines()]
    return done.returncode, {words[0]: int(words[1]) for words in told if len(words) == 2}


async def check(spool, acknowledged: dict[str, int]) -> None:
    await Purses(spool).check()
    for key, net in acknowledged.items():
        kept = await spool.reader.look(charges.find, bytes.fromhex(key))
        assert kept.charge.net == net


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), POINTS)
async def test_killed_at_any_commit_everything_is_charged_once(tmp_path, spool_at, point, count):
    """Killed twice, then asked again to the end: the sum is that of the work."""
    acknowledged: dict[str, int] = {}
    for _ in range(2):
        code, told = spend(tmp_path, f"{point}:{count}")
        assert code == -signal.SIGKILL, "the point was never reached"
        acknowledged |= told
        async with spool_at(tmp_path) as spool:
            await check(spool, acknowledged)
    code, told = spend(tmp_path)
    assert (code, len(told)) == (0, STEPS)
    assert told.items() >= acknowledged.items()
    async with spool_at(tmp_path) as spool:
        await check(spool, told)
        purses = Purses(spool)
        used = sum(made(number) for number in range(STEPS)) * PAGE
        assert await purses.own("revenue") == used
        assert await purses.own("cash") == -PAID_IN
        assert await purses.own("given") == -20 * PAGE
        assert await purses.own("reserved") == 0
        for number in range(STEPS):
            kept = await spool.reader.look(charges.find, number.to_bytes(2, "big"))
            wanted = ChargeState.SETTLED if made(number) else ChargeState.CANCELED
            assert (kept.charge.state, kept.charge.total // PAGE) == (wanted, made(number) or 6)
        assert await verified(spool.reader) == spool.journal.head
