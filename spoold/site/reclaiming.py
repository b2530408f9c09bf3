"""Rights that sites hold no more go back to those whose money it is; and sites hear of changes.
A site that draws unusually much of what people have is told of.

Runs at every node; where no site was granted anything, there is nothing to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from uuid import UUID

import structlog
import trio

from spoold.model.errors import SpoolError, StoreFailed
from spoold.model.money import format_amount
from spoold.model.node import LineState
from spoold.site.authority import EVENT
from spoold.site.presence import Presence
from spoold.site.repairing import SETTLED
from spoold.spool.journal import Journal
from spoold.spool.store import (
    Event,
    JournalForked,
    MoneyCame,
    NodeChanged,
    PolicyChanged,
    ReclaimRights,
    RepairSettled,
    RightsDrawn,
    RightsThawed,
)

log = structlog.get_logger("spoold.site")

INTERVAL_S = 60.0
GATHER_S = 0.2  # in which money that came is told together
DAY_S = 86_400.0
TOLD_MAX = 50  # holders by name; of more sites ask for everybody
LATELY_MAX = 500  # that somebody got money is told of so many to a site that comes back
UNHEARD_S = 5.0  # before its line was known to be gone, a site may have heard nothing


class Reclaiming:
    def __init__(self, journal: Journal, sites: Presence, wall_clock: Callable[[], int]) -> None:
        self._journal = journal
        self._sites = sites
        self._wall_clock = wall_clock
        self._bell = trio.Event()
        self._came = trio.Event()
        self._richer: set[MoneyCame] = set()
        self._lately: deque[tuple[float, MoneyCame]] = deque(maxlen=LATELY_MAX)
        self._away: dict[UUID, float] = {}  # since when which site has heard nothing
        self._drawn: dict[UUID, tuple[float, int]] = {}  # by site: since when, and how much
        journal.listen(self._hear)
        sites.listen(self._line_changed)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is PolicyChanged:
                self._tell(event.site)
            elif type(event) is RightsThawed:  # what it has is of before it began anew
                self._tell(event.site)
                self._bell.set()
            elif type(event) is MoneyCame:
                self._richer.add(event)
                self._lately.append((trio.current_time(), event))
                self._came.set()
            elif type(event) is RightsDrawn:
                self._note_drawn(event)
            elif type(event) is RepairSettled:
                self._sites.tell(event.site, SETTLED)
            elif type(event) is NodeChanged or type(event) is JournalForked:
                self._bell.set()

    def _line_changed(self, site: UUID, state: LineState) -> None:
        """A site that is back hears who got money meanwhile, before it may be away again."""
        if state is not LineState.UP:
            self._away[site] = trio.current_time() - UNHEARD_S
            return
        since = self._away.pop(site, float("-inf"))
        found = {event for at, event in self._lately if at >= since}
        holders = _holders(found)
        if len(holders) < len(found):
            self._tell(site)
            return
        for start in range(0, len(holders), TOLD_MAX):
            self._sites.tell(site, EVENT, {"holders": holders[start : start + TOLD_MAX]})

    def _note_drawn(self, event: RightsDrawn) -> None:
        """An alarm when a site gets more at need in a day than is usual."""
        since, before = self._drawn.get(event.site, (float("-inf"), 0))
        if trio.current_time() >= since + DAY_S:
            since, before = trio.current_time(), 0
        drawn = before + event.amount
        self._drawn[event.site] = since, drawn
        if before <= event.alarm < drawn:
            log.error(
                "rights_unusual",
                site=str(event.site),
                drawn=format_amount(drawn),
                detail="In a day it was granted so much beyond what it holds ahead of need. See "
                "`spoold site rights`; `spoold site revoke` ends it, if the site is not yours.",
            )

    def _tell(self, site: UUID | None) -> None:
        if site is None:
            self._sites.tell_all(EVENT)
        else:
            self._sites.tell(site, EVENT)

    async def run(self) -> None:
        """Take back what is over, and tell sites who has more, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_money)
            await self._reclaim()

    async def _tell_money(self) -> None:
        while True:
            await self._came.wait()
            await trio.sleep(GATHER_S)
            found, self._richer, self._came = self._richer, set(), trio.Event()
            holders = _holders(found)
            is_few = len(holders) == len(found) <= TOLD_MAX
            self._sites.tell_all(EVENT, {"holders": holders} if is_few else {})

    async def _reclaim(self) -> None:
        settled_s = trio.current_time() + INTERVAL_S  # until then sites have come back
        while True:
            self._bell = trio.Event()
            here = None
            if trio.current_time() >= settled_s:
                here = frozenset(site.node.guid for site in self._sites.here())
            change = ReclaimRights(self._wall_clock(), here)
            try:
                while count := await self._journal.commit(change):
                    log.info("rights_reclaimed", holders=count)
            except StoreFailed:
                raise
            except SpoolError as error:
                log.warning("rights_not_reclaimed", reason=str(error))
            with trio.move_on_after(INTERVAL_S):
                await self._bell.wait()


def _holders(found: Iterable[MoneyCame]) -> list[list[bool | bytes]]:
    """As sites are told of them; who is nobody by name is left out."""
    return sorted([one.is_account, one.holder.bytes] for one in found if one.holder)
