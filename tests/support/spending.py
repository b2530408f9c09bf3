"""Somebody's work, reserved and settled over and over: a process that can be killed at any commit.

    python -m support.spending DATA_DIR

It prints a line when the ledger is set up, and one for each charge that was acknowledged as
settled: its key and its total. Every step is a question that may be asked again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from uuid import UUID

import trio

from spoold.model.pricing import PriceList, Rate, quote
from spoold.model.purse import EVERYBODY, Allowance, Payer, PayerKind, PurseKind
from spoold.model.usage import Line, Usage, Work
from spoold.spool import price_lists
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import open_store
from spoold.spool.store import Adjust, Cancel, PutAllowance, PutPrices, PutUser, Reserve, Settle

PAGE = 500
STEPS = 30
PAID_IN = 1000 * PAGE


def pages(count: int) -> Usage:
    return Usage(Work.PRINT, (Line(count, count, "monochrome"),))


def made(number: int) -> int:
    """How many of the six reserved pages the charge of a number is settled with; 0 cancels it."""
    return number % 9


async def work(data_dir: Path, tell) -> None:
    writer, store = await open_store(data_dir, 1, os.urandom, UUID(int=1))
    reader = await SqliteReader.open(data_dir)
    journal = Journal(writer, store)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        await spend(journal, reader, tell)
        journal.close_nowait()
    await reader.close()
    await writer.close()
    store.close()


async def spend(journal, reader, tell) -> None:
    prices = await reader.look(price_lists.prices_at, 1)
    if not prices.version:
        prices = await journal.commit(PutPrices(PriceList(0, 0, (Rate(PAGE),)), 1))
    user = await reader.user("ada")
    if user is None:
        user = await journal.commit(PutUser("ada", 1, is_new=True))
    await journal.commit(PutAllowance(Allowance(UUID(int=2), EVERYBODY, 20 * PAGE), 1))
    money = (b"pay-in", PayerKind.PERSON, user.guid, PAID_IN, "", 1, "node", PurseKind.PAID_IN)
    await journal.commit(Adjust(*money))
    tell("ready", "")
    payer, usage = Payer(PayerKind.PERSON, user.guid), pages(6)
    for number in range(STEPS):
        key = number.to_bytes(2, "big")
        await journal.commit(Reserve(key, payer, quote(prices, usage, None), usage, None, 1))
        count = made(number)
        settle = Settle(key, pages(count), 2) if count else Cancel(key, 2)
        charge = await journal.commit(settle)
        tell(key.hex(), charge.net)


def main() -> None:
    def tell(*words: object) -> None:
        print(*words, flush=True)

    trio.run(work, Path(sys.argv[1]), tell)


if __name__ == "__main__":
    main()
