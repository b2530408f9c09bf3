"""What this site holds of an allowance whose period is over goes back, so that it is carried over.

In: the journal, which holds the rights. Out: records by which the application server has it again,
behind all that was spent of it. A while after the period's end, for what is reported late.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from spoold.spool import held
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import ReturnOver

LOOK_S = 600.0
OVER_US = 3_600_000_000
TOGETHER = 200


class Leftovers:
    """What was refused, as on a full disk, is looked at again the next time."""

    def __init__(
        self, journal: Journal, reader: SqliteReader, wall_clock: Callable[[], int]
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock

    async def run(self) -> None:
        """Look now and then, for ever."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> int:
        """Give back what is over by now; how much."""
        given, after = 0, b""
        now_us = self._wall_clock()
        before_us = now_us - OVER_US
        while holders := await self._reader.look(held.over, before_us, after, TOGETHER):
            answers = await self._journal.commit_all(
                [ReturnOver(one, before_us, now_us) for one in holders]
            )
            given += sum(one for one in answers if isinstance(one, int))
            after = holders[-1].bytes
        return given
