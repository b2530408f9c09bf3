"""Whatever happens to a site, its application server and the line between them, in any order.

Real stores: batches lost, doubled, late and cut short, both ends killed, put back and restored.
In the end everything that the site has is upstream once, in order, and charged once.
"""

from __future__ import annotations

import shutil
from uuid import uuid4

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spoold.codec import record as codec
from spoold.model.purse import Payer, PayerKind
from spoold.model.record import Kind
from spoold.site import uplink as uplinks
from spoold.spool import charges, received, sending
from spoold.spool.store import AddRecord, Reserve, Settle
from support.chain import verified
from support.money import PAGE, Purses, pages
from support.sites import HQ, SITE, receive, stored
from support.waiting import wait_until
from support.wire import Sending, Wire

STEPS = (
    *("write",) * 3, *("charge",) * 2, *("deliver",) * 4, *("drive",) * 2, "crash-site", "crash-hq",
    "image-site", *("put-back-site",) * 2, "restore-site", "backup-hq", *("restore-hq",) * 2,
)  # fmt: skip
PLANS = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 30)), min_size=3, max_size=14)
# What has happened before: there is something to put back at either end.
BEFORE = (("charge", 1), ("write", 20), ("drive", 0), ("image-site", 0), ("backup-hq", 0),
          ("charge", 2), ("write", 5), ("deliver", 20))  # fmt: skip
# A fork that nobody sees before the site is restored to it: of an incarnation that is not in use.
UNSEEN = [("put-back-site", 0), ("write", 3), ("charge", 1), ("image-site", 0), ("write", 2),
          ("restore-site", 0)]  # fmt: skip


@pytest.fixture
def hasty(monkeypatch):
    """No example waits for its pauses."""
    monkeypatch.setattr(uplinks, "RETRY_FIRST_S", 0.005)
    monkeypatch.setattr(uplinks, "RETRY_MAX_S", 0.01)
    monkeypatch.setattr(uplinks, "GATHER_S", 0.0)


class World:
    """Two nodes on one disk; `dirs` may be copied while a node is down."""

    def __init__(self, base, spool_at, nursery):
        self.base = base
        self.spool_at = spool_at
        self.nursery = nursery
        self.nodes = {}
        self.over = {}

    async def start(self, name):
        (self.base / name).mkdir(exist_ok=True)
        await self.nursery.start(self.live, name)

    async def live(self, name, task_status):
        guid = SITE if name == "site" else HQ
        ended, down = self.over[name] = trio.Event(), trio.Event()
        async with self.spool_at(self.base / name, guid) as self.nodes[name]:
            task_status.started()
            await ended.wait()
        down.set()

    async def stop(self, name):
        ended, down = self.over.pop(name)
        ended.set()
        await down.wait()

    @property
    def site(self):
        return self.nodes["site"]

    @property
    def hq(self):
        return self.nodes["hq"]

    async def step(self, what, number):
        verb, _, name = what.partition("-")
        if what == "put-back-site":
            verb, name = "put back", "site"
        if verb == "write":
            changes = [AddRecord(Kind.NODE_STARTED, {"n": n}, 1) for n in range(number)]
            await self.site.journal.commit_all(changes)
        elif verb == "charge":
            await self.charge(number)
        elif verb == "deliver":
            await self.deliver(number)
        elif verb == "drive":
            await self.drive(number)
        else:
            await self.stop(name)
            here, kept = self.base / name, self.base / f"{name}.kept"
            if verb in ("image", "backup"):
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(here, kept)
            elif verb in ("put back", "restore") and kept.exists():
                witness = (here / "witness").read_bytes()
                shutil.rmtree(here)
                shutil.copytree(kept, here)
                if verb == "restore":  # the witness lies outside of what is restored
                    (here / "witness").write_bytes(witness)
            await self.start(name)

    async def charge(self, number):
        """A job, and what it cost somebody."""
        purses = await Purses(self.site).again()
        if not purses.prices.version:
            await purses.start()
        user = await self.site.reader.user("ada")
        guid = await purses.person() if user is None else user.guid
        usage = pages(1 + number)
        payer = Payer(PayerKind.PERSON, guid)
        key = uuid4().bytes
        asked = Reserve(key, payer, purses.quote(usage), usage, None, 1)
        await self.site.journal.commit(Settle(key, usage, 2, unreserved=asked))

    async def deliver(self, number):
        """A batch from anywhere, of any length: doubled, late, overlapping, or cut short."""
        chain = (await self.site.reader.look(sending.chains))[-1]
        found = await self.site.reader.look(sending.batch, chain.id, number)
        if found is not None:
            cut = found._replace(records=found.records[: 1 + number % 7])
            await receive(self.hq, SITE, chain, cut, is_oldest=cut.first == chain.anchor + 1)

    async def drive(self, number):
        """The real uplink over a line that loses something, until everything is up."""
        wire = Wire(self.hq)
        count = number

        def lose(op, args):
            nonlocal count
            count += 1
            return {3: "request", 5: "answer"}.get(count % 8, "") if count < 200 else ""

        wire.loses = lose
        async with Sending(self.site, wire) as uplink:

            async def is_settled():
                if uplink.standing.state == "forked":
                    try:
                        await uplink.begin_anew()
                    except uplinks.Lost:
                        return False
                return uplink.lag == 0 and uplink.standing.state == "idle"

            await wait_until(is_settled, 20)

    async def check(self):
        standings = {
            one.incarnation: one for one in await self.hq.reader.look(received.standings, SITE)
        }
        for chain in await self.site.reader.look(sending.chains):
            if chain.position > chain.anchor:
                await self.check_chain(chain, standings[chain.incarnation])
        assert sum(one.quarantined for one in standings.values()) == 0
        assert await verified(self.hq.reader) == self.hq.journal.head
        assert await verified(self.site.reader) == self.site.journal.head
        await Purses(self.hq).check()
        await self.check_charges()

    async def check_chain(self, chain, standing):
        """Every record of the site is there, as it is; and the hashes hold."""
        look = "SELECT header, payload, personal, hash FROM record WHERE id > ? AND id <= ?"
        mine = await self.site.reader._all(
            look, chain.id << 40 | chain.anchor, chain.id << 40 | chain.position
        )
        base = standing.chain_id << 40
        theirs = await self.hq.reader._all(look, base | chain.anchor, base | chain.position)
        assert theirs == mine
        previous = chain.anchor_hash
        for header, payload, _, hash_ in mine:
            assert codec.link(previous, header, payload) == hash_
            previous = hash_

    async def check_charges(self):
        total, seen = 0, set()
        for header, payload, personal, hash_ in await stored(self.hq):
            record = codec.decode(header, payload, personal, hash_)
            if record.kind != Kind.LEDGER_POSTED or record.payload["cause"] != "settle":
                continue
            # Put back again after its fork was settled, a site sends that fork once more.
            if record.payload["charge"] not in seen:
                seen.add(record.payload["charge"])
                kept = await self.hq.reader.look(charges.find, record.payload["charge"])
                assert kept.charge.net == record.payload["quote"]["total"]
                total += kept.charge.net
        purses = Purses(self.hq)
        assert await purses.own("revenue") == total
        assert total % PAGE == 0


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=PLANS)
@example(plan=UNSEEN)
async def test_everything_is_upstream_once_in_the_end(hasty, tmp_path_factory, spool_at, plan):
    """After any plan, one round on a line that holds makes both ends agree."""
    base = tmp_path_factory.mktemp("world")
    async with trio.open_nursery() as nursery:
        world = World(base, spool_at, nursery)
        await world.start("site")
        await world.start("hq")
        for what, number in (*BEFORE, *plan):
            await world.step(what, number)
        await world.drive(1000)
        await world.check()
        await world.stop("site")
        await world.stop("hq")
    shutil.rmtree(base)
