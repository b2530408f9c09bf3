"""Repairs of this site (`spool/repairs.py`) end when its application server has settled them.

In: which of them are over, as that says on each new line, and whenever it has something to say.
Out: printers as they are there, also where that was changed once more after a repair was accepted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError, SpooldError, StoreFailed
from spoold.model.node import LineState
from spoold.site.line import Line, Lost
from spoold.spool import repairs
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import EndRepair

log = structlog.get_logger("spoold.site")

SETTLED = "repair-settled"  # what the application server tells
TOGETHER = 200  # repairs in one message
ANSWER_S = 30.0
PAUSE_S = 5.0  # after a failure


class Repairing:
    """`catch_up` makes this node's copy what its application server has now."""

    def __init__(
        self,
        line: Line,
        journal: Journal,
        reader: SqliteReader,
        catch_up: Callable[[], Awaitable[object]],
        site: UUID,
        wall_clock: Callable[[], int],
    ) -> None:
        self._line = line
        self._journal = journal
        self._reader = reader
        self._catch_up = catch_up
        self._site = site
        self._wall_clock = wall_clock
        self._bell = trio.Event()
        line.listen(self._line_changed)
        line.hear(SETTLED, self._wake)

    def _line_changed(self, state: LineState) -> None:
        self._bell.set()

    def _wake(self, _: dict[str, Any]) -> None:
        self._bell.set()

    async def run(self) -> None:
        """End what is over, for ever."""
        while True:
            await self._line.wait_up()
            self._bell = trio.Event()
            try:
                await self._settle()
            except StoreFailed:
                raise
            except (Lost, OperationError, SpooldError) as error:
                log.warning("repairs_not_settled", reason=str(error))
                await trio.sleep(PAUSE_S)
                continue
            await self._bell.wait()

    async def _settle(self) -> None:
        told = await self._reader.look(repairs.told, self._site)
        over: set[tuple[UUID, str, int]] = set()
        for start in range(0, len(told), TOGETHER) or (0,):
            page = [
                [one.printer.bytes, one.field, one.incarnation.bytes, one.position, one.hash]
                for one in told[start : start + TOGETHER]
            ]
            answer = await self._line.call("site.settled", {"repairs": page}, ANSWER_S)
            over |= {(UUID(bytes=printer), *rest) for printer, *rest in answer["settled"]}
        if over:
            await self._end(over, {(one.printer, one.field) for one in told})

    async def _end(self, over: set[tuple[UUID, str, int]], own: set[tuple[UUID, str]]) -> None:
        """First comes what was accepted: nothing goes back to how it was before that.

        The application server hears of the end of one that is not known here, as well: the disk of
        this site was put back.
        """
        await self._catch_up()
        found = await self._reader.look(repairs.find_all, self._site)
        left = {(one.printer, one.field): one.position for one in found}
        for printer, field, position in sorted(over):
            is_unknown = (printer, field) not in own | left.keys()
            if is_unknown or left.get((printer, field)) == position:
                await self._journal.commit(EndRepair(printer, field, self._wall_clock()))
                log.warning("repair_ended", printer=str(printer), what=field)
