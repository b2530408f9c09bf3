"""The application server's side of copies: pages of objects for sites, and word that there is more.

In: what a site was told last. Out: the objects that follow, as a stream of packed ones in pieces
that fit a message each, and what to come back with. How far each site has come is remembered for
operators, and told by the site when it asks again; when its line ends, up to where it was told what
was taken away is kept, also over a restart of this node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import trio

from spoold.model.card import Digests
from spoold.model.errors import SpoolError
from spoold.model.node import LineState, Node
from spoold.site.presence import Presence
from spoold.spool import exposure, replication
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.replication import Changed, Target
from spoold.spool.rows import CHAIN_SHIFT, pack
from spoold.spool.store import Event, NodeChanged, NoteTold

EVENT = "objects-changed"
PIECE_BYTES_MAX = 48 * 1024
PAGE_BYTES_MAX = 4 * 1024 * 1024  # of one answer, and an object more
OBJECTS_MAX = 2000  # of one answer
QUIET_S = 0.02  # sites are told of changes this often at most
SURE_US = 2_000_000  # what was sent so shortly before a line was lost may not have come
_POSITION = (1 << CHAIN_SHIFT) - 1

Send = Callable[[str, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the copy of a site has come: all that had changed by `position` of our chain.

    `is_whole`: it is as this node was at `asked_us`. What was taken away was sent up to `revoked`,
    and is there, as the site has said, up to `confirmed`.
    """

    position: int
    asked_us: int
    is_whole: bool
    revoked: int
    confirmed: int


class Objects:
    """`run` before sites are told of anything."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        presence: Presence,
        digests: Digests,
        node: UUID,
        wall_clock: Callable[[], int],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._presence = presence
        self._digests = digests
        self._node = node
        self._wall_clock = wall_clock
        self._bell = trio.Event()
        self._standings: dict[UUID, Standing] = {}
        presence.listen(self._hear_line)

    def standing(self, site: UUID) -> Standing | None:
        """None: it has not asked since this node started."""
        return self._standings.get(site)

    async def untold_from(self, site: UUID) -> int | None:
        """From where on a site that is cut off does not know what was taken away; None: it is here,
        or was never.
        """
        if self._presence.is_up(site):
            return None
        known = self._known_from(site)
        return await self._reader.look(exposure.told_up_to, site) if known is None else known

    async def untold(self, sites: Iterable[UUID]) -> dict[UUID, int]:
        """How many people and machines may do more at those of these sites that are cut off than
        here, as the sites do not know better; only where there are any.
        """
        gone = {site: self._known_from(site) for site in sites if not self._presence.is_up(site)}
        return await self._reader.look(exposure.counts_untold, gone) if gone else {}

    def _known_from(self, site: UUID) -> int | None:
        """See `untold_from`; None: it has not been here since this node started."""
        standing = self._standings.get(site)
        if standing is None:
            return None
        gone = self._presence.find(site)
        is_sure = gone is not None and gone.since_us - standing.asked_us > SURE_US
        return standing.revoked if is_sure else standing.confirmed

    def _hear_line(self, site: UUID, state: LineState) -> None:
        standing = self._standings.get(site)
        if state is LineState.UP or standing is None:
            return
        is_sure = self._wall_clock() - standing.asked_us > SURE_US
        revoked = standing.revoked if is_sure else standing.confirmed
        with suppress(SpoolError):  # spoold stops, and knows it no more
            self._journal.hand_over([NoteTold(site, revoked)])

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell sites that something has changed, soon after it has."""
        self._journal.listen(self._hear)
        try:
            told = await self._reader.look(replication.newest)
            task_status.started()
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                newest = await self._reader.look(replication.newest)
                if newest != told:
                    told = newest
                    self._presence.tell_all(EVENT)
                await trio.sleep(QUIET_S)
        finally:
            self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        if self._presence.here():
            self._bell.set()
        for event in events:
            if type(event) is NodeChanged:  # perhaps it gets to know other things from now on
                self._presence.tell(event.node.guid, EVENT)

    async def answer(
        self, site: Node, told: bytes, key_ids: list[bytes], limit: int, send: Send
    ) -> dict[str, Any]:
        """What follows on what a site was told, sent in pieces; and what it is to ask with next."""
        target = Target(site.guid, self._node, site.scope)
        copy, end, is_anew = await self._reader.look(replication.begin, told, target)
        asked_us, confirmed = self._wall_clock(), copy.revoked.position
        count, size, has_more = 0, 0, True
        while has_more and count < limit and size < PAGE_BYTES_MAX:
            most = min(replication.TOGETHER, limit - count)
            changed, copy, has_more = await self._reader.look(
                replication.step, copy, end, target, most
            )
            count += len(changed)
            size += await self._send(changed, send)
        position = (end.position if not has_more else copy.after.position) & _POSITION
        self._standings[site.guid] = Standing(
            position, asked_us, not has_more, copy.revoked.position, confirmed
        )
        answer = {
            "is_anew": is_anew,
            "is_last": not has_more,
            "objects": count,
            "told": copy.packed(),
            "position": position,
        }
        if list(self._digests.key_ids) != key_ids[-len(self._digests.key_ids) :]:
            answer["keys"] = self._digests.secrets()
        return answer

    async def _send(self, changed: list[Changed], send: Send) -> int:
        """The pieces of some objects; how many bytes they are."""
        stream = b"".join(pack(one) for one in changed)
        for start in range(0, len(stream), PIECE_BYTES_MAX):
            await send("objects", {"piece": stream[start : start + PIECE_BYTES_MAX]})
        return len(stream)
