"""What must hold when all is quiet again, whatever happened before.

Each check raises AssertionError with what is wrong. They look at the nodes' spools, at what clients
were told (`work`) and at the paper that came out (`machines`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

from simulation import times
from simulation.clocks import RIGHTS_S
from simulation.node import GUIDS, SITE_NAMES, Life
from simulation.work import NOVELTY, Deal, Work
from simulation.world import NAMES, World
from spoold.codec import record as codec
from spoold.model.charge import Flag
from spoold.model.job import JobReason, JobState
from spoold.model.node import EVERYTHING
from spoold.model.record import Kind
from spoold.spool import charges, leases, replication
from spoold.spool.leases import Lease
from spoold.spool.received import quarantined
from spoold.spool.replication import Target
from spoold.spool.rows import CHAIN_SHIFT, STATE
from support.chain import verified
from support.money import Purses
from support.sites import stored

BEYOND = {Flag.BEYOND_LIMIT, Flag.BEYOND_RIGHTS, Flag.LATE, Flag.NO_PAYER, Flag.BEYOND_RESERVATION}
POSITION = (1 << CHAIN_SHIFT) - 1


async def check(world: World, work: Work) -> None:
    hq = world.lives["hq"]
    await check_jobs(world, work)
    for name in NAMES:
        life = world.lives[name]
        assert await verified(life.reader) == life.journal.head, f"the chain of {name}"
        check_chains(life)
        await Ledger(life).check(name)
    for site in SITE_NAMES:
        life = world.lives[site]
        check_records(world, hq, life)
        assert not (wrong := await wrongly_listed(hq, life)), wrong
        assert not (wrong := wrong_rights(hq, life)), wrong
        await check_copy(hq, life)
        await times.check(world, hq, life)
    for one in await hq.reader.look(quarantined, (0, 0), 100):
        assert one.kind == NOVELTY, f"a record {one.kind} is in quarantine: {one.reason}"
    check_forks(world, hq)
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
    """Every job that was acknowledged has one end, and came out once, if it was not dropped.

    Lost may be what one node alone had said to have, since the state that it was put back to. A job
    that was not at its end in that state may come out once more: nobody there knows of the paper.
    """
    papers = Counter(uuid for one in world.machines.values() for uuid in one.papers)
    for uuid, deal in work.deals.items():
        assert deal.acked, f"{deal.label} was never acknowledged"
        states = {name: await state_of(world.lives[name], uuid) for name in NAMES}
        for name in holders(world, deal):
            assert states[name] is not None, f"{deal.label} is lost at {name}"
        known = {name: state for name, state in states.items() if state is not None}
        assert all(state.is_final for state in known.values()), f"{deal.label} is {known}"
        most = (times_released(world, deal) if deal.is_twin else 1) + again(world, deal)
        assert papers[uuid] <= most, f"{deal.label} came out {papers[uuid]} times: {known}"
        if not deal.is_dropped and known:
            assert papers[uuid] >= 1, f"{deal.label} never came out: {known}"
            ends = {*known.values(), *told_of(world.lives["hq"], uuid)}
            is_known = JobState.COMPLETED in ends or await is_heard_of(world, uuid)
            assert is_known, f"{deal.label} came out, and is {known}"
    assert papers.keys() <= work.deals.keys(), "something came out that nobody sent"


def times_released(world: World, deal: Deal) -> int:
    """How often a job that waits at more than one node may come out: at each where somebody
    released it before that could hear of the others.
    """
    return max(1, len(world.released_at.get(deal.uuid, ())))


def told_of(hq: Life, uuid: UUID) -> set[JobState]:
    """How a job is at other nodes, as their records have told."""
    rows = hq.store.db.execute("SELECT state FROM remote_job WHERE uuid = ?", (uuid.bytes,))
    return {STATE[state] for (state,) in rows}


async def is_heard_of(world: World, uuid: UUID) -> bool:
    """Whether a node has heard that a job is done, and those who did it and who told may have
    forgotten: two were put back.
    """
    if len({one.image.name for one in world.put_backs}) < 2:
        return False
    for name in NAMES:
        query = "SELECT reasons FROM job WHERE uuid = ?"
        for (reasons,) in await world.lives[name].reader._all(query, uuid.bytes):
            if JobReason.JOB_DONE_ELSEWHERE in reasons.split():
                return True
    return False


def holders(world: World, deal: Deal) -> list[str]:
    """The nodes that said to have a job, and did not forget it with their disks."""
    return [
        name
        for name, count in deal.acked.items()
        if all(deal.uuid in image.jobs for image in world.since(name, count))
    ]


def again(world: World, deal: Deal) -> int:
    """How often a node that may print a job was put back to a state in which it was not printed, or
    given up with what it had not told of one that its provider had taken to hq, too.
    """
    nodes = [deal.site] if deal.site else NAMES
    put_back = sum(not one.jobs.get(deal.uuid) for name in nodes for one in world.since(name, 0))
    return put_back + is_given_up(world, deal)


def is_given_up(world: World, deal: Deal) -> bool:
    """Whether hq has a job that a site which was given up may have, too: its provider had taken it
    to both, or it was handed on to that site, where people go on until it hears.
    """
    return deal.site in world.rehomed and "hq" in deal.acked


async def state_of(life: Life, uuid: UUID) -> JobState | None:
    rows = await life.reader._all("SELECT state FROM job WHERE uuid = ?", uuid.bytes)
    return STATE[rows[0][0]] if rows else None


# -- records -------------------------------------------------------------------------------------


def check_records(world: World, hq: Life, site: Life) -> None:
    """What the site has recorded is upstream as it is, once and in order; and nothing else, but for
    what it had recorded since a state that it was put back to.
    """
    theirs, own = chains_of(hq, site.guid), chains_of(site, site.guid)
    for incarnation, records in own.items():
        found = theirs.get(incarnation, [])[: len(records)]
        assert found == records, f"the records of {site.name} upstream are not its own"
    if not world.is_put_back(site.name):
        assert theirs == own, f"upstream is more of {site.name} than it has"


async def wrongly_listed(hq: Life, site: Life) -> str:
    """What is listed of a site upstream as not at its end is there, and is not at its end; "" if
    so. The site says what it has lost, and tries that again after a while.
    """
    rows = await hq.reader._all(
        "SELECT uuid FROM remote_job WHERE node = ? AND finished_us IS NULL", site.guid.bytes
    )
    for (packed,) in rows:
        uuid = UUID(bytes=packed)
        state = await state_of(site, uuid)
        if state is None or state.is_final:
            return f"{uuid} is listed at {site.name}, and is {state} there"
    return ""


def chains_of(life: Life, journal: UUID) -> dict[bytes, list[tuple[Any, ...]]]:
    """The records of each incarnation of a journal, own or foreign, as they stand there."""
    rows = life.store.db.execute(
        "SELECT incarnation, record.id & ?, header, payload, personal, record.hash FROM record "
        "JOIN chain ON chain.id = record.id >> ? WHERE chain.journal = ? ORDER BY record.id",
        (POSITION, CHAIN_SHIFT, journal.bytes),
    )
    found: dict[bytes, list[tuple[Any, ...]]] = {}
    for incarnation, *record in rows:
        found.setdefault(incarnation, []).append(tuple(record))
    return found


def check_chains(life: Life) -> None:
    """The hashes of every chain, own or foreign, from the first record on; and where it goes on
    from another one, that has this record there.
    """
    rows = life.store.db.execute(
        "SELECT journal, incarnation, anchor_position, anchor_hash, position, hash, "
        "parent_incarnation, parent_position, parent_hash FROM chain"
    ).fetchall()
    hashes: dict[tuple[bytes, int], bytes] = {}
    for journal in {row[0] for row in rows}:
        records_of = chains_of(life, UUID(bytes=journal))
        for _, incarnation, position, hash_, last, last_hash, *_ in (
            row for row in rows if row[0] == journal
        ):
            hashes[incarnation, position] = hash_
            for at, header, payload, personal, found in records_of.get(incarnation, []):
                position += 1
                hash_ = codec.link(hash_, header, payload)
                codec.decode(header, payload, personal, found)
                assert (at, found) == (position, hash_), f"a chain at {life.name} breaks at {at}"
                hashes[incarnation, position] = hash_
            assert (position, hash_) == (last, last_hash), f"a chain at {life.name} ends elsewhere"
    for *_, parent, position, hash_ in rows:
        kept = hashes.get((parent, position), hash_)
        assert kept == hash_, f"a chain at {life.name} goes on from what is not there"


def check_forks(world: World, hq: Life) -> None:
    """Both sides have noticed whose disk was put back behind what it had sent, and no other."""
    rows = hq.store.db.execute("SELECT header, payload, personal, hash FROM record ORDER BY id")
    records = [codec.decode(*row) for row in rows]
    told = {one.payload["journal"] for one in records if one.kind == Kind.JOURNAL_FORKED}
    for number, one in enumerate(world.put_backs):
        name = one.image.name
        is_last = not world.since(name, number + 1) and not world.since("hq", number)
        if one.is_ahead and not one.is_restored and is_last:
            assert name in world.begun_anew, f"{name} did not notice that its disk is another one"
            assert GUIDS[name].bytes in told, f"hq did not notice that {name} has another disk"
    for name in world.begun_anew:
        assert world.is_put_back(name), f"{name} has a fork, and its disk was never put back"


# -- money ---------------------------------------------------------------------------------------


async def check_money(world: World, work: Work) -> None:
    """What was charged anywhere is charged upstream once; nobody spent what was not there."""
    hq = world.lives["hq"]
    own = Purses(hq)
    cash = -sum(one.amount for one in work.payments.values())
    assert await own.own("cash") == cash, "money came in, and was not booked"
    assert await own.own("suspense") == 0, "somebody pays who is not known"
    for site in SITE_NAMES:
        await check_charges(hq, world.lives[site])
    for key, made in work.copies.items():
        kept = await hq.reader.look(charges.find, key)
        is_kept = all(key in image.charges for image in world.since(made.server, made.count))
        assert kept is not None or not is_kept, "copies were charged, and are not upstream"
        net = made.net if kept is None else kept.charge.net
        nets = {made.net} if is_kept else {made.net, 0}  # who forgot them gave up what was reserved
        assert net in nets, f"copies cost {made.net}, and upstream {net}"
    check_flags(world, hq)
    assert not (owed := who_owes(world)), owed
    await check_paid(world, work)


def check_flags(world: World, hq: Life) -> None:
    """Nobody spent more than there was, but for a site that spent the same rights twice: its disk
    was put back, and nobody knew; or it had promised them before it was restored, and began anew.
    Where the application server was put back, too, nobody knows any more what such a site was
    granted. Rights are taken back early by one whose clock is set ahead by so much. A site that
    began anew and lets people owe charges that to the epoch before, until it has asked.
    """
    beyond = BEYOND - ({Flag.LATE} if world.clocks["hq"].leapt_s >= RIGHTS_S else set())
    is_forgotten = world.is_put_back("hq")
    twice = {
        f"node:{GUIDS[one.image.name]}"
        for one in world.put_backs
        if is_forgotten or not one.is_restored
    }
    promised = {key for one in world.put_backs if one.is_restored for key in one.image.promised}
    rows = hq.store.db.execute(
        "SELECT flags, actor, charge.key FROM charge JOIN entry ON entry.charge = charge.key "
        "WHERE flags != '' AND cause = 'settle'"
    )
    lenient = {f"node:{GUIDS[site]}" for site, cap in world.caps.items() if cap}
    anew = {f"node:{GUIDS[one.image.name]}" for one in world.put_backs}
    for flags, actor, key in rows:
        wrong = beyond & set(flags.split())
        if actor in lenient:  # by how much is looked at in `policies.py`
            wrong -= {Flag.BEYOND_RIGHTS, Flag.BEYOND_LIMIT}
            wrong -= {Flag.LATE} if actor in anew else set()
        is_well = actor in twice or key in promised or not wrong
        assert is_well, f"a charge by {actor} is {flags}"


async def check_charges(hq: Life, site: Life) -> None:
    """Each charge of a site stands upstream once: as it was charged first, if it was again since
    the disk was put back.
    """
    totals: dict[bytes, int] = {}
    for life in (hq, site):
        for header, payload, personal, hash_ in await stored(life, site.guid):
            record = codec.decode(header, payload, personal, hash_)
            if record.kind == Kind.LEDGER_POSTED and record.payload["cause"] == "settle":
                totals.setdefault(record.payload["charge"], record.payload["quote"]["total"])
    for key, total in totals.items():
        kept = await hq.reader.look(charges.find, key)
        assert kept is not None, f"a charge of {site.name} is not upstream"
        net = kept.charge.net
        assert net == total, f"a charge of {site.name} is {net} upstream, not {total}"


async def check_paid(world: World, work: Work) -> None:
    """Each job that came out of a machine that takes money was paid once, and no other."""
    hq = world.lives["hq"]
    rows = await hq.reader._all(
        charges.SELECT_CHARGE + "WHERE state = 'settled' AND amount - refunded > 0"
    )
    paid = Counter(charges.charge_of(row).charge.job_uuid for row in rows)
    paid.pop(None, None)
    kept = {uuid for uuid, deal in work.deals.items() if holders(world, deal)}
    for uuid, deal in work.deals.items():
        at = {name for name, one in world.machines.items() if uuid in one.papers}
        is_free = {name.startswith("plain") for name in at or {deal.printer}}
        is_kept = deal.uuid in kept and not deal.is_dropped
        if deal.site != "hq" and world.is_put_back(deal.site or "hq"):
            is_kept = False  # that was paid there, perhaps, and forgotten
        least = 1 if is_kept and True not in is_free else 0  # who drops it may have paid as well
        is_at_two = not deal.site and (deal.is_twin or again(world, deal) > 0)
        most = times_released(world, deal) if is_at_two else 1 + is_given_up(world, deal)
        if False not in is_free:
            # Put back to when it was on its way to where it costs something, it may be settled so.
            most = int(not deal.site and world.is_put_back("hq"))
        if world.recharged & {deal.printer, *at}:
            least, most = 0, max(1, most)
        assert least <= paid[uuid] <= most, f"{deal.label} was paid {paid[uuid]} times"


def who_owes(world: World) -> str:
    """Who is below zero anywhere, though everybody has paid; "" if nobody is."""
    for name in NAMES:
        rows = world.lives[name].store.db.execute(
            "SELECT hex(holder), balance FROM purse WHERE kind = 'overdraft' AND balance < 0"
        )
        for holder, balance in rows.fetchall():
            return f"{name} has {holder} owe {-balance}"
    return ""


def wrong_rights(hq: Life, site: Life) -> str:
    """What a site may spend is what its application server keeps aside for it; "" if so.

    Sites ask again for what they did not hear of, so that it may take a while.
    """
    db, now_us = site.store.db, site.wall_clock()
    lease = leases.own(db) or Lease(site.guid)
    found = db.execute(
        "SELECT holder, sum(balance), holder IN (SELECT holder FROM right_granted WHERE site = ? "
        "AND epoch < ?) FROM purse WHERE holder != zeroblob(16) GROUP BY holder",
        (site.guid.bytes, lease.epoch),
    ).fetchall()
    for holder, balance, is_stale in found:
        may = balance if lease.holds_at(now_us) and not is_stale else 0
        kept = aside(hq, site.guid, UUID(bytes=holder))
        if kept != may:
            return f"{site.name} may spend {may}, and {kept} is kept for it"
    return ""


def aside(hq: Life, site: UUID, holder: UUID) -> int:
    """What is kept of somebody's money for a site."""
    lease = leases.find(hq.store.db, site)
    escrow = leases.rights_holder(site, lease.epoch if lease else 0, holder)
    (balance,) = hq.store.db.execute(
        "SELECT coalesce(sum(balance), 0) FROM purse WHERE holder = ?", (escrow.bytes,)
    ).fetchone()
    return int(balance)


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
