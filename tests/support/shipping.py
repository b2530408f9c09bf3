"""A site at work and its application server, in a process that can be killed at any point.

    python -m support.shipping DIRECTORY

People are charged at the site while its journal goes up over a line that loses answers. It prints
the key of each charge that the site acknowledged, and `done` when everything is upstream.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.lowlevel
from conftest import open_spool

from spoold.model.pricing import quote
from spoold.model.purse import Payer, PayerKind
from spoold.site import uplink as uplinks
from spoold.spool import price_lists
from spoold.spool.store import PutPrices, PutUser, Reserve, Settle
from support.money import PRICES, pages
from support.sites import HQ, SITE, stored
from support.waiting import wait_until
from support.wire import Sending, Wire

CHARGES = 24


async def work(base: Path, tell) -> None:
    uplinks.RETRY_FIRST_S = 0.01
    uplinks.GATHER_S = 0.0
    for name in ("site", "hq"):
        (base / name).mkdir(exist_ok=True)
    async with open_spool(base / "site", SITE) as site, open_spool(base / "hq", HQ) as hq:
        wire = Wire(hq)
        count = 0

        def lose(op, args):
            nonlocal count
            count += 1
            return "answer" if count % 5 == 0 else ""

        wire.loses = lose
        async with Sending(site, wire) as uplink:
            await spend(site, tell)
            await wait_until(lambda: uplink.lag == 0)
            assert await stored(hq) == await stored(site)
            tell("done")


async def spend(site, tell) -> None:
    """Charges and jobs; everything may be asked again."""
    prices = await site.reader.look(price_lists.prices_at, 1)
    if not prices.version:
        prices = await site.journal.commit(PutPrices(PRICES, 1))
    user = await site.reader.user("ada")
    if user is None:
        user = await site.journal.commit(PutUser("ada", 1, is_new=True))
    printers = await site.reader.printers()
    printer = printers[0] if printers else await site.add_printer()
    payer, usage = Payer(PayerKind.PERSON, user.guid), pages(2)
    for number in range(CHARGES):
        key = number.to_bytes(2, "big")
        await site.add_job(printer, owner="ada")
        cost = quote(prices, usage, None)
        asked = Reserve(key, payer, cost, usage, None, 1)
        await site.journal.commit(Settle(key, usage, 2, unreserved=asked))
        tell(key.hex())
        await trio.lowlevel.checkpoint()


def main() -> None:
    def tell(*words: object) -> None:
        print(*words, flush=True)

    trio.run(work, Path(sys.argv[1]), tell)


if __name__ == "__main__":
    main()
