"""What must hold when all is quiet again, whatever happened before.

Each check raises AssertionError with what is wrong. They look at the nodes' spools, at what clients
were told (`work`) and at the paper that came out (`machines`).
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from simulation.node import GUIDS, SITE_NAMES, Life
from simulation.work import NOVELTY, Work
from simulation.world import NAMES, World
from spoold.codec import record as codec
from spoold.model.charge import Flag
from spoold.model.job import JobState
from spoold.model.node import EVERYTHING
from spoold.model.record import Kind
from spoold.spool import charges, replication
from spoold.spool.leases import rights_holder
from spoold.spool.received import quarantined
from spoold.spool.replication import Target
from spoold.spool.rows import STATE
from support.money import Purses
from support.sites import stored

BEYOND = {Flag.BEYOND_LIMIT, Flag.BEYOND_RIGHTS, Flag.LATE, Flag.NO_PAYER, Flag.BEYOND_RESERVATION}


async def check(world: World, work: Work) -> None:
    hq = world.lives["hq"]
    await check_jobs(world, work)
    for name in NAMES:
        life = world.lives[name]
        assert await life.reader.verify_chain() == life.journal.head, f"the chain of {name}"
        await Ledger(life).check(name)
    for site in SITE_NAMES:
        life = world.lives[site]
        await check_records(hq, life)
        await check_rights(hq, life)
        await check_copy(hq, life)
    for one in await hq.reader.look(quarantined, (0, 0), 100):
        assert one.kind == NOVELTY, f"a record {one.kind} is in quarantine: {one.reason}"
    await check_money(world, work)


class Ledger(Purses):
    """The ledger of a life, which has all that `Purses` looks at."""

    async def check(self, name: str = "") -> None:
        try:
            await super().check()
        except AssertionError as error:
            raise AssertionError(f"the ledger of {name} does not add up: {error}") from error


# -- jobs ----------------------------------------------------------------------------------------


async def check_jobs(world: World, work: Work) -> None:
    """Every job that was acknowledged has one end, and came out once, if it was not dropped."""
    papers = Counter(uuid for one in world.machines.values() for uuid in one.papers)
    for uuid, deal in work.deals.items():
        assert deal.acked, f"{deal.label} was never acknowledged"
        states = {name: await state_of(world.lives[name], uuid) for name in NAMES}
        for name in deal.acked:
            assert states[name] is not None, f"{deal.label} is lost at {name}"
        known = {name: state for name, state in states.items() if state is not None}
        assert all(state.is_final for state in known.values()), f"{deal.label} is {known}"
        assert papers[uuid] <= 1, f"{deal.label} came out {papers[uuid]} times: {known}"
        if not deal.is_dropped:
            assert papers[uuid] == 1, f"{deal.label} never came out: {known}"
            assert JobState.COMPLETED in known.values(), f"{deal.label} came out, and is {known}"
    assert papers.keys() <= work.deals.keys(), "something came out that nobody sent"


async def state_of(life: Life, uuid: UUID) -> JobState | None:
    rows = await life.reader._all("SELECT state FROM job WHERE uuid = ?", uuid.bytes)
    return STATE[rows[0][0]] if rows else None


# -- records -------------------------------------------------------------------------------------


async def check_records(hq: Life, site: Life) -> None:
    """What the site has recorded is upstream as it is, once and in order."""
    assert await stored(hq, site.guid) == await stored(site, site.guid), (
        f"the records of {site.name} upstream are not its own"
    )


# -- money ---------------------------------------------------------------------------------------


async def check_money(world: World, work: Work) -> None:
    """What was charged anywhere is charged upstream once; nobody spent what was not there."""
    hq = world.lives["hq"]
    own = Purses(hq)
    assert await own.own("cash") == -sum(work.paid.values()), "money came in, and was not booked"
    assert await own.own("suspense") == 0, "somebody pays who is not known"
    for site in SITE_NAMES:
        await check_charges(hq, world.lives[site])
    for key, net in work.copies.items():
        kept = await hq.reader.look(charges.find, key)
        assert kept is not None, "copies were charged, and are not upstream"
        assert kept.charge.net == net, f"copies cost {net}, and upstream {kept.charge.net}"
    for (flags,) in await hq.reader._all("SELECT flags FROM charge WHERE flags != ''"):
        assert BEYOND.isdisjoint(flags.split()), f"a charge is {flags}"
    for name in NAMES:
        rows = await world.lives[name].reader._all(
            "SELECT holder, balance FROM purse WHERE kind = 'overdraft' AND balance < 0"
        )
        assert not rows, f"{name} lets people owe: {rows}"
    await check_paid(world, work)


async def check_charges(hq: Life, site: Life) -> None:
    """Each charge of a site stands upstream, for as much."""
    for header, payload, personal, hash_ in await stored(site, site.guid):
        record = codec.decode(header, payload, personal, hash_)
        if record.kind == Kind.LEDGER_POSTED and record.payload["cause"] == "settle":
            kept = await hq.reader.look(charges.find, record.payload["charge"])
            assert kept is not None, f"a charge of {site.name} is not upstream"
            total = record.payload["quote"]["total"]
            assert kept.charge.net == total, (
                f"a charge of {site.name} is {kept.charge.net} upstream"
            )


async def check_paid(world: World, work: Work) -> None:
    """Each job that came out of a machine that takes money was paid once, and no other."""
    hq = world.lives["hq"]
    rows = await hq.reader._all(
        charges.SELECT_CHARGE + "WHERE state = 'settled' AND amount - refunded > 0"
    )
    paid = Counter(charges.charge_of(row).charge.job_uuid for row in rows)
    paid.pop(None, None)
    for uuid, deal in work.deals.items():
        is_free = deal.printer.startswith("plain")
        least = 0 if deal.is_dropped or is_free else 1  # who drops it may have paid all the same
        most = 0 if is_free else 1
        assert least <= paid[uuid] <= most, f"{deal.label} was paid {paid[uuid]} times"


async def check_rights(hq: Life, site: Life) -> None:
    """What a site may spend is what its application server keeps aside for it."""
    held = dict(
        await site.reader._all(
            "SELECT holder, sum(balance) FROM purse WHERE holder != zeroblob(16) GROUP BY holder"
        )
    )
    epochs = await hq.reader._all("SELECT epoch FROM right_lease WHERE site = ?", site.guid.bytes)
    for holder, balance in held.items():
        aside = 0
        for (epoch,) in epochs:
            escrow = rights_holder(site.guid, epoch, UUID(bytes=holder))
            ((part,),) = await hq.reader._all(
                "SELECT coalesce(sum(balance), 0) FROM purse WHERE holder = ?", escrow.bytes
            )
            aside += part
        assert aside == balance, f"{site.name} holds {balance}, and {aside} is kept for it"


# -- the copy ------------------------------------------------------------------------------------


async def check_copy(hq: Life, site: Life) -> None:
    """The objects of the application server are at the site as they are there."""
    rows = await site.reader._all("SELECT kind, key FROM replica")
    there = await objects_of(site, Target(site.guid, site.guid, EVERYTHING))
    wanted = await objects_of(hq, Target(site.guid, GUIDS["hq"], EVERYTHING))
    copied = {key: there.get(key) for key in rows}
    for key in wanted.keys() | copied.keys():
        assert copied.get(key) == wanted.get(key), (
            f"{site.name} has {key[0]} as {copied.get(key)}, not {wanted.get(key)}"
        )


async def objects_of(life: Life, target: Target) -> dict[tuple[str, bytes], object]:
    copy, end, _ = await life.reader.look(replication.begin, b"", target)
    found: dict[tuple[str, bytes], object] = {}
    has_more = True
    while has_more:
        changed, copy, has_more = await life.reader.look(replication.step, copy, end, target)
        found |= {(kind, key): state for kind, key, state in changed if state is not None}
    return found
