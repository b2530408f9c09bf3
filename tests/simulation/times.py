"""When things were, as sites tell it by clocks that are wrong, and as it is upstream.

In: nodes that run, whose records are noted with the moment at which they were made. Out: whether
what their application server believes can be, and is right where the site had measured how far the
clocks are apart, and nobody has set one since.
"""

from __future__ import annotations

import trio

from simulation.node import Life
from simulation.world import World
from spoold.codec import record as codec
from spoold.model.policy import JUMP_S
from spoold.model.record import Kind, Record
from spoold.spool import charges
from spoold.spool.store import Event
from support.sites import stored

TOLD_S = 3.0  # from when somebody looked at the clock until the record was committed
BELIEVED_S = JUMP_S + TOLD_S  # clocks that are no further apart are taken as they are


def note(world: World, life: Life) -> None:
    """From now on it is known when each record of this node was made."""
    noted = life.store.position

    def heard(_: list[Event]) -> None:
        nonlocal noted
        for position in range(noted + 1, life.store.position + 1):
            world.made_s[life.store.incarnation, position] = trio.current_time()
        noted = life.store.position

    life.journal.listen(heard)


async def check(world: World, hq: Life, site: Life) -> None:
    """Of jobs that came to a site and of what it charged, unless its disk was put back."""
    if world.is_put_back(site.name) or world.is_put_back("hq"):
        return
    for row in await stored(hq, site.guid):
        told = codec.decode(*row)
        at_us = await believed_us(hq, site, told)
        if at_us is not None:
            told_us = told.payload.get("happened_us", told.event_us)  # before it was recorded
            check_time(world, site, told, told_us, at_us)


async def believed_us(hq: Life, site: Life, told: Record) -> int | None:
    """When that was, as the application server has it; None: it keeps no time of such records."""
    if told.kind == Kind.JOB_ACCEPTED:
        of_job = "SELECT created_us FROM remote_job WHERE uuid = ? AND node = ?"
        rows = await hq.reader._all(of_job, told.payload["uuid"], site.guid.bytes)
        return int(rows[0][0])
    if told.kind == Kind.LEDGER_POSTED and told.payload["cause"] == "settle":
        kept = await hq.reader.look(charges.find, told.payload["charge"])
        return None if kept is None else kept.charge.happened_us
    return None


def check_time(world: World, site: Life, told: Record, told_us: int, at_us: int) -> None:
    upstream, own = world.clocks["hq"], world.clocks[site.name]
    what = f"{told.kind} {told.position} of {site.name}"
    assert at_us <= upstream.latest_us, f"{what} is believed to be to come"
    made_s = world.made_s.get((site.store.incarnation, told.position))
    if upstream.was_set or own.was_set or made_s is None:  # its node died as it made it
        return
    made_us = upstream.shown_us(made_s)
    if told.clock_offset_us is not None:
        late_s = (at_us - made_us + told.event_us - told_us) / 1e6
        assert abs(late_s) <= BELIEVED_S, f"{what} was {late_s:.3f} s later than it was"
    elif at_us != told_us:
        assert at_us >= made_us, f"{what} is neither as its site says, nor of its arrival"
