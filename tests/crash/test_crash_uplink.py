"""A site and its application server, killed at any point of a record's way up.

What the site acknowledged is upstream in the end, once, in order, and charged once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from spoold.spool import charges
from support import forking
from support.chain import verified
from support.money import PAGE, Purses
from support.shipping import CHARGES
from support.sites import HQ, SITE, stored

POINTS = [
    (point, count)
    for point, counts in (
        ("received-before-position", (1, 3)),
        ("uplink-acknowledged", (1, 4)),
        ("commit-before", (9, 60)),
        ("commit-after", (9, 60)),
    )
    for count in counts
]


def ship(base: Path, crash_point: str = "") -> tuple[int, list[str]]:
    environ = {**os.environ, "SPOOLD_CRASH_POINT": crash_point}
    done = forking.run(base, module="support.shipping", environ=environ)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]  # the log is there, too
    return done.returncode, [words[0] for words in lines if len(words) == 1]


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), POINTS)
async def test_killed_anywhere_everything_goes_up_once(tmp_path, spool_at, point, count):
    """Killed, started again to the end: the same records, each charge posted once."""
    code, told = ship(tmp_path, f"{point}:{count}")
    assert code == -signal.SIGKILL, "the point was never reached"
    acknowledged = set(told)
    code, told = ship(tmp_path)
    assert (code, told[-1]) == (0, "done")
    assert acknowledged <= set(told)
    async with spool_at(tmp_path / "site", SITE) as site, spool_at(tmp_path / "hq", HQ) as hq:
        mine, theirs = await stored(site), await stored(hq)
        assert theirs == mine[: len(theirs)]
        purses = Purses(hq)
        await purses.check()
        assert await purses.own("revenue") == CHARGES * 2 * PAGE
        for number in range(CHARGES):
            kept = await hq.reader.look(charges.find, number.to_bytes(2, "big"))
            assert kept.charge.net == 2 * PAGE
        assert await verified(hq.reader) == hq.journal.head
