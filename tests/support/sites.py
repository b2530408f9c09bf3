"""Two nodes in one process, for tests: a site's spool and that of its application server."""

from __future__ import annotations

from uuid import UUID

from spoold.codec import batch
from spoold.spool import received, sending
from spoold.spool.store import Received, ReceiveRecords

SITE = UUID("00000000-0000-4000-8000-00000000005e")
HQ = UUID("00000000-0000-4000-8000-0000000000a0")


def arrived(hq, journal, chain, found, *, head=None, **fields) -> ReceiveRecords:
    """A batch after its way over the wire."""
    wire = batch.write(found.first, found.previous, found.records)
    return ReceiveRecords(
        journal,
        chain.incarnation,
        found.first,
        found.previous,
        list(batch.read(wire)),
        chain.position if head is None else head,
        hq.wall_clock(),
        chain.parent,
        **fields,
    )


async def receive(hq, journal, chain, found, **fields) -> Received:
    """What the application server makes of one batch."""
    return await hq.journal.commit(arrived(hq, journal, chain, found, **fields))


async def ship(site, hq, journal=SITE) -> list[Received]:
    """Send all that the application server does not have, of every incarnation."""
    answers = []
    for chain in await site.reader.look(sending.chains):
        after = 0
        for standing in await hq.reader.look(received.standings, journal):
            if standing.incarnation == chain.incarnation:
                after = standing.position
        while found := await site.reader.look(sending.batch, chain.id, after):
            answer = await receive(
                hq, journal, chain, found, is_oldest=found.first == chain.anchor + 1
            )
            answers.append(answer)
            if answer.state != "open":
                return answers
            after = answer.position
    return answers


async def stored(spool, journal=SITE) -> list[tuple[bytes, bytes, bytes | None, bytes]]:
    """The records of a journal as they stand in a spool, own or foreign, in order."""
    return await spool.reader._all(
        "SELECT header, payload, personal, record.hash FROM record "
        "JOIN chain ON chain.id = record.id >> 40 WHERE chain.journal = ? ORDER BY record.id",
        journal.bytes,
    )
