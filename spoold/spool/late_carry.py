"""What is left of an allowance and comes back when the next period was granted is carried over.

That one began without it: what stood in escrow, or was reserved, was nobody's to carry. It
follows, up to what the allowance lets come along in all, and on into each period that has begun
since; also into the next one where it has not begun, and a clock that was ahead had granted it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from spoold.model.purse import Wallet
from spoold.spool import postings, store
from spoold.spool.postings import Line

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

KEY_BYTES = 16


def carry_on(writer: SqliteStore, holder: UUID, purse: UUID, now_us: int, actor: str) -> None:
    """Something has come back into a purse: as much of it as may goes on into the next ones."""
    while True:
        every = sorted(postings.purses_of(writer.db, holder), key=lambda one: one.from_us)
        before = next((one for one in every if one.guid == purse), None)
        if before is None or before.allowance is None or before.until_us is None:
            return
        allowance = postings.allowance(writer.db, before.allowance)
        of_it = [one for one in every if one.allowance == before.allowance]
        after = next((one for one in of_it if one.from_us >= before.until_us), None)
        if allowance is None or after is None or after.from_us > max(now_us, before.until_us):
            return  # the grant of the next one takes it along
        room = allowance.carry_over - postings.came_along(writer.db, allowance, after, of_it)
        part = min(before.balance, room)
        if part <= 0:
            return
        wallet = Wallet(holder, tuple(every))
        postings.post(
            writer,
            postings.carry_key(after) + writer.random(KEY_BYTES),
            "grant",
            wallet,
            [
                Line(before.guid, -part),
                *(Line(one.purse, -one.amount) for one in wallet.receive(after, part)),
            ],
            now_us,
            actor,
            more={"allowance": allowance.guid.bytes, "period": after.period},
        )
        writer.events.append(store.BalanceChanged(holder))
        purse = after.guid
