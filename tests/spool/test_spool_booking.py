"""What sites charge is posted upstream: once, to whoever it was, whatever that does to a purse."""

from __future__ import annotations

from uuid import uuid4

import pytest

from spoold.model.charge import Flag, job_key
from spoold.model.purse import Payer, PayerKind, PurseKind
from spoold.model.record import Kind
from spoold.spool import charges, received
from spoold.spool.store import AddRecord, Cancel, PutAccount, Refund, Reserve, Settle
from support.money import PAGE, Purses, pages
from support.sites import HQ, SITE, ship


@pytest.fixture
async def both(site, hq):
    """The ledgers of a site and of its application server."""
    return await Purses(site).start(), await Purses(hq).start()


async def found(purses, key):
    return (await purses.spool.reader.look(charges.find, key)).charge


async def test_a_charge_is_posted_once_to_the_same_person(both):
    """By name, from the purses that the person has upstream; the site's reservation is its own."""
    site, hq = both
    await site.pay_in(await site.person("ada"), 20 * PAGE)
    ada = await hq.person("ada")
    await hq.pay_in(ada, 50 * PAGE)
    there = (await site.spool.reader.user("ada")).guid
    await site.reserve(b"k", there, 10)
    await ship(site.spool, hq.spool)
    assert await hq.spool.reader.look(charges.find, b"k") is None
    await site.journal.commit(Settle(b"k", pages(8), 2))
    await ship(site.spool, hq.spool)
    await ship(site.spool, hq.spool)
    charge = await found(hq, b"k")
    assert (charge.payer.guid, charge.net) == (ada, 8 * PAGE)
    assert charge.flags == (Flag.CLOCK,)  # that of the site stands at 1970 here
    assert await hq.own("revenue") == 8 * PAGE
    # What was paid in at the site's desk is here, too.
    assert await hq.purses(ada) == {"paid-in": 62 * PAGE}
    for purses in both:
        await purses.check()
    await hq.check_records()


async def test_what_nobody_has_is_posted_and_flagged(both):
    """The paper is out: the purse goes below its limit, and an accountant sees it."""
    site, hq = both
    ada = await site.person("ada")
    await site.allow(100 * PAGE)
    await site.reserve(b"k", ada, 9)
    await site.journal.commit(Settle(b"k", None, 2))
    await ship(site.spool, hq.spool)
    charge = await found(hq, b"k")
    assert Flag.BEYOND_LIMIT in charge.flags
    assert await hq.purses(charge.payer.guid) == {"overdraft": -9 * PAGE}
    await hq.check()
    await hq.check_records()


async def test_a_payer_that_nobody_knows_is_kept_in_suspense(both):
    """An account of the site that is not known here: the ledger holds the sum until it is."""
    site, hq = both
    account = await site.journal.commit(PutAccount("physics", 1, is_new=True, overdraft=100 * PAGE))
    ada = await site.person("ada")
    payer = Payer(PayerKind.ACCOUNT, account.guid, "choice", ada)
    await site.reserve(b"k", ada, 4, payer=payer)
    await site.journal.commit(Settle(b"k", None, 2))
    await ship(site.spool, hq.spool)
    charge = await found(hq, b"k")
    assert Flag.NO_PAYER in charge.flags
    assert await hq.own("suspense") == -4 * PAGE
    await hq.check()
    await hq.journal.commit(Refund(b"r", b"k", 4 * PAGE, "it was the dean's", 3, "uid:0"))
    assert await hq.own("suspense") == 0
    await hq.check()


async def test_what_was_canceled_costs_nothing_and_what_was_refunded_goes_back(both):
    """Reserved and canceled leaves nothing; a refund at the site is one here, once."""
    site, hq = both
    ada = await site.person("ada")
    await site.pay_in(ada, 20 * PAGE)
    for key in (b"a", b"b"):
        await site.reserve(key, ada, 2)
    await site.journal.commit(Cancel(b"a", 2))
    await site.journal.commit(Settle(b"b", None, 2))
    await site.journal.commit(Refund(b"r", b"b", PAGE, "smeared", 3, "uid:0"))
    await ship(site.spool, hq.spool)
    assert await hq.spool.reader.look(charges.find, b"a") is None
    assert (await found(hq, b"b")).net == PAGE
    assert await hq.purses((await found(hq, b"b")).payer.guid) == {"paid-in": 19 * PAGE}
    await hq.check()
    await hq.check_records()


async def test_what_a_desk_at_the_site_gave_or_took_is_booked(both):
    """Credit given and money taken, under the keys of the site."""
    site, hq = both
    ada = await site.person("ada")
    await site.pay_in(ada, 20 * PAGE, PurseKind.CREDIT)
    await site.pay_in(ada, -5 * PAGE, None)
    await site.pay_in(ada, 3 * PAGE)
    await ship(site.spool, hq.spool)
    (row,) = await hq.spool.reader._all("SELECT key FROM person WHERE name = 'ada'")
    assert row == (ada.bytes,)
    assert await hq.purses(ada) == {"credit": 15 * PAGE, "paid-in": 3 * PAGE}
    await hq.check()


async def test_an_entry_that_cannot_be_booked_is_quarantined(both):
    """Money that is taken and not there upstream: told, and nothing behind it waits."""
    site, hq = both
    ada = await site.person("ada")
    await site.allow(10 * PAGE)
    await site.pay_in(ada, PAGE)
    await site.pay_in(ada, -PAGE, PurseKind.PAID_IN)
    await site.reserve(uuid4().bytes, ada, 1)
    await ship(site.spool, hq.spool)
    assert await hq.spool.reader.look(received.quarantined, (0, 0), 9) == []
    await site.pay_in(ada, 7 * PAGE)
    await hq.journal.commit(Settle(b"own", pages(8), 2, unreserved=_asked(hq, b"own", ada)))
    await ship(site.spool, hq.spool)
    await site.pay_in(ada, -7 * PAGE, PurseKind.PAID_IN)
    await site.journal.commit(Settle(b"later", pages(1), 2, unreserved=_asked(site, b"later", ada)))
    await ship(site.spool, hq.spool)
    (held,) = await hq.spool.reader.look(received.quarantined, (0, 0), 9)
    assert held.kind == "ledger-posted"
    assert (await found(hq, b"later")).net == PAGE
    await hq.check()


@pytest.mark.parametrize("told_us", [0, 16_725_225_600_000_000])
async def test_a_charge_of_a_site_with_a_wild_clock_is_one_of_now(both, told_us):
    """It would belong to no month in which anybody looks, and an accountant is told."""
    site, hq = both
    await site.allow(100 * PAGE)
    told = await settled(site, await site.person("ada"), b"k")
    before_us = hq.spool.wall_clock()
    for key, at_us in ((b"wild", told_us), (b"tame", before_us)):
        wrong = told | {"entry": uuid4().bytes, "charge": key, "happened_us": at_us}
        await site.journal.commit(AddRecord(Kind.LEDGER_POSTED, wrong, at_us))
    await ship(site.spool, hq.spool)
    wild, tame = await found(hq, b"wild"), await found(hq, b"tame")
    assert before_us <= wild.happened_us <= hq.spool.wall_clock()
    assert Flag.CLOCK in wild.flags
    assert Flag.CLOCK not in tame.flags
    assert tame.happened_us == before_us
    await hq.check()


async def settled(site, ada, key):
    """A record of a charge, as a site writes it."""
    await site.reserve(key, ada, 1)
    await site.journal.commit(Settle(key, None, 2))
    return (await site.spool.reader.records(1, 1000))[-1].payload


async def forge(site, hq, told, **fields):
    """A site says something else; why its application server does not book that."""
    told = told | {"entry": uuid4().bytes} | fields
    await site.journal.commit(AddRecord(Kind.LEDGER_POSTED, told, 3))
    await ship(site.spool, hq.spool)
    return (await hq.spool.reader.look(received.quarantined, (0, 0), 99))[-1].reason


async def test_a_site_charges_what_can_be_and_its_own_jobs_alone(both):
    """Nobody gets money by a charge, and none takes the place of another node's charge."""
    site, hq = both
    ada = await site.person("ada")
    await site.allow(100 * PAGE)
    await hq.allow(100 * PAGE)
    told = await settled(site, ada, b"k")
    for fields, why in (
        ({"quote": told["quote"] | {"total": -PAGE}}, "less than nothing"),
        ({"quote": told["quote"] | {"total": 0.5}}, "whole number"),
        ({"happened_us": 1e23}, "whole number"),
    ):
        assert why in await forge(site, hq, told, charge=b"l", **fields)
    job = uuid4()
    for other in (uuid4(), HQ):
        key = job_key(job, 1, other)
        assert "another node" in await forge(site, hq, told, charge=key)
        assert await hq.spool.reader.look(charges.find, key) is None
    await settled(site, ada, job_key(job, 1, SITE))
    await settled(site, ada, b"mfd/" + bytes(32))
    await ship(site.spool, hq.spool)
    assert await hq.own("revenue") == 3 * PAGE
    await hq.check()


async def test_a_site_gives_back_its_own_charges_alone(both):
    """What another node charged is given back there, or here by hand."""
    site, hq = both
    ada = await site.person("ada")
    await site.allow(100 * PAGE)
    await settled(site, ada, b"theirs")
    await site.journal.commit(Refund(b"r", b"theirs", PAGE, "smeared", 3, "uid:0"))
    told = (await site.spool.reader.records(1, 1000))[-1].payload
    await ship(site.spool, hq.spool)
    await hq.allow(100 * PAGE)
    await settled(hq, ada, b"ours")
    assert "no charge of that node" in await forge(site, hq, told, charge=b"ours")
    assert (await found(hq, b"ours")).net == PAGE
    assert (await found(hq, b"theirs")).net == 0
    await hq.check()


def _asked(purses, key, person):
    usage = pages(1)
    payer = Payer(PayerKind.PERSON, person)
    return Reserve(key, payer, purses.quote(usage), usage, None, 1)
