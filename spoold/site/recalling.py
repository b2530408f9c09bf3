"""Money that sites hold rights to, called back when it is wanted here or at another site.

In: the lines of sites. A site that is here gives back what it does not need this moment; that comes
with its records, and so in order with its charges. One that is not here keeps what it has. No site
gets of that money ahead of need meanwhile; one that asked for some is told when that is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

import trio

from spoold.model.offline import Beyond, Want
from spoold.model.purse import Payer, PayerKind
from spoold.site.authority import EVENT, WANTED
from spoold.site.presence import Presence
from spoold.spool import escrow, ledger_views
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import BalanceChanged, Event

SPENT_S = 1.0  # in which what came back is spent by whoever wanted it


class Recalling:
    """Takes the place of a site's `Authority` at an application server, which is never alone.

    Have `run` run.
    """

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        sites: Presence,
        wall_clock: Callable[[], int],
        deadline_s: float,
    ) -> None:
        self._reader = reader
        self._sites = sites
        self._wall_clock = wall_clock
        self._deadline_s = deadline_s
        self._waiting: dict[UUID, trio.Event] = {}
        self._wanted: dict[UUID, float] = {}  # holders, and until when their money is called back
        self._withheld: dict[UUID, list[tuple[UUID, bool]]] = {}  # from which sites; of an account?
        self._bell = trio.Event()
        journal.listen(self._hear)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is BalanceChanged and event.holder in self._waiting:
                self._waiting.pop(event.holder).set()

    async def cover(self, payer: Payer, total: int) -> Beyond | None:
        """See that `total` can be spent here, if money at sites makes it so."""
        if not await self._holds(payer, total):
            await self.recall(payer, total)
        return None

    async def recall(self, payer: Payer, total: int, but: UUID | None = None) -> None:
        """Wait until `total` is here, or nothing more comes in time.

        The site `but` asks for it: it waits itself, so that it is answered in half of the time.
        """
        found = await self._reader.look(escrow.at_sites, payer.guid, self._wall_clock())
        asked = [[payer.kind is PayerKind.ACCOUNT, payer.guid.bytes]]
        here = [
            site
            for site in found
            if site != but and self._sites.tell(site, WANTED, {"holders": asked})
        ]
        if not here:
            return
        limit_s = self._deadline_s if but is None else self._deadline_s / 2
        now = trio.current_time()
        self._wanted = {one: until for one, until in self._wanted.items() if until > now}
        self._wanted[payer.guid] = now + limit_s + SPENT_S
        with trio.move_on_after(limit_s):
            while True:
                changed = self._waiting.setdefault(payer.guid, trio.Event())
                if await self._holds(payer, total):
                    self._wanted[payer.guid] = trio.current_time() + SPENT_S
                    return
                await changed.wait()
        last = self._waiting.pop(payer.guid, None)
        if last is not None:
            last.set()  # whoever else waits for this holder looks again

    def withheld(self, site: UUID, wants: Iterable[Want]) -> frozenset[UUID]:
        """The holders whose money is just called back, among those that a site asks for ahead of
        need: one that has given it back would have it again before it is spent.
        """
        found = {
            one.holder: (site, one.kind is PayerKind.ACCOUNT)
            for one in wants
            if not one.least and self._is_wanted(one.holder)
        }
        for holder, asked in found.items():
            asking = self._withheld.setdefault(holder, [])
            if asked not in asking:
                asking.append(asked)
        if found:
            self._bell.set()
        return frozenset(found)

    def _is_wanted(self, holder: UUID) -> bool:
        return self._wanted.get(holder, 0.0) > trio.current_time()

    async def run(self) -> None:
        """Tell sites what is withheld from them no longer, for ever."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            while self._withheld:
                await trio.sleep_until(min(self._wanted.get(one, 0.0) for one in self._withheld))
                self._tell([one for one in self._withheld if not self._is_wanted(one)])

    def _tell(self, holders: Iterable[UUID]) -> None:
        told: dict[UUID, list[list[bool | bytes]]] = {}
        for holder in holders:
            for site, is_account in self._withheld.pop(holder):
                told.setdefault(site, []).append([is_account, holder.bytes])
        for site, its in told.items():
            self._sites.tell(site, EVENT, {"holders": its})

    async def _holds(self, payer: Payer, total: int) -> bool:
        return await self._reader.look(ledger_views.holds, payer, total, self._wall_clock())

    async def stranger(self) -> str | None:
        return None

    async def account(self, named: str) -> str:
        return named
