"""A site that writes records, and how the application server stands to them."""

from __future__ import annotations

from spoold.spool import received, sending
from spoold.spool.store import AddRecord
from support.sites import SITE


async def add(spool, count=1, kind="unheard-of", **payload):
    for number in range(count):
        await spool.journal.commit(AddRecord(kind, {"n": number, **payload}, 1))


async def chain_of(spool):
    return (await spool.reader.look(sending.chains))[-1]


async def standing(hq, journal=SITE):
    return (await hq.reader.look(received.standings, journal))[-1]
