"""Rights of sites: granted, spent, given back, frozen, booked again."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from spoold.model.charge import Flag
from spoold.model.errors import OperationError
from spoold.model.offline import HOUR_US, MARGIN_US, Beyond, OfflinePolicy
from spoold.model.purse import Period
from spoold.model.record import Kind
from spoold.site.leftovers import Leftovers
from spoold.spool import charges, escrow, leases, received
from spoold.spool.store import AddRecord, GrantRights, PutPolicy, ReclaimRights, Settle
from support.money import PAGE
from support.rights import GUIDS, deployment

DAY_US = 24 * HOUR_US
pytestmark = pytest.mark.slow


@pytest.fixture
async def hall(tmp_path, spool_at):
    async with deployment(tmp_path, spool_at) as made:
        yield made


async def charge_at_hq(hall, key):
    return (await hall.hq.spool.reader.look(charges.find, key)).charge


async def test_a_site_spends_what_it_was_granted_and_no_more(hall):
    """The grant leaves the person's purses; what the site charges comes out of it."""
    await hall.pay(40)
    await hall.sync("a")
    assert await hall.left("hq") == 30 * PAGE  # a quarter is at the site
    assert await hall.left("a") == 10 * PAGE
    with pytest.raises(OperationError, match="is left"):
        await hall.reserve("a", b"much", 11)
    await hall.reserve("a", b"some", 4)
    await hall.settle("a", b"some", 3)
    await hall.ship("a")
    assert await hall.left("hq") == 30 * PAGE
    assert await hall.rights("a") == 7 * PAGE == await hall.left("a")
    assert (await charge_at_hq(hall, b"some")).flags == ()
    await hall.check()


async def test_a_site_gets_more_when_it_asks_for_more(hall):
    """What is needed at once is granted, as far as the money goes."""
    await hall.pay(40)
    await hall.sync("a", least=25)
    assert await hall.left("a") == 25 * PAGE
    await hall.sync("b", least=25)
    assert await hall.left("b") == 15 * PAGE
    assert await hall.left("hq") == 0
    await hall.check()


async def test_nothing_is_granted_twice(hall):
    """Answers that are lost, late or come twice add nothing."""
    await hall.pay(40)
    lost = await hall.ask("a")
    second = await hall.ask("a")
    assert await hall.rights("a") == 10 * PAGE
    await hall.keep("a", second)
    await hall.keep("a", lost)
    await hall.keep("a", second)
    assert await hall.left("a") == 10 * PAGE
    await hall.check()


async def test_two_sites_never_hold_the_same_money(hall):
    """However often they ask, both together have what there is."""
    await hall.pay(40)
    for _ in range(3):
        await hall.sync("a", least=30)
        await hall.sync("b", least=30)
    assert await hall.left("a") + await hall.left("b") == 40 * PAGE
    await hall.check()


async def test_paper_beyond_the_rights_is_charged_and_flagged(hall):
    """A settlement above them posts, and the site's books agree again afterwards."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.reserve("a", b"k", 10)
    await hall.settle("a", b"k", 14)
    await hall.ship("a")
    charge = await charge_at_hq(hall, b"k")
    assert charge.net == 14 * PAGE
    assert Flag.BEYOND_RIGHTS in charge.flags
    assert await hall.left("hq") == 26 * PAGE
    await hall.sync("a")
    assert await hall.rights("a") == await hall.left("a") > 0
    await hall.check()


async def test_a_site_that_is_alone_may_let_people_owe(hall):
    """By its policy, as far as the cap goes, and no further."""
    await hall.pay(4)
    await hall.sync("a")
    capped = Beyond(overdraft=3 * PAGE)
    await hall.reserve("a", b"1", 4, beyond=capped)  # one was granted
    with pytest.raises(OperationError, match="is left"):
        await hall.reserve("a", b"2", 1, beyond=capped)
    await hall.check()


async def test_rights_end_with_the_lease_and_go_back_after_the_margin(hall):
    """The site stops first; the application server takes them back a day later."""
    await hall.pay(40)
    await hall.sync("a")
    valid_us = OfflinePolicy().valid_hours * HOUR_US
    hall.now_us += valid_us
    with pytest.raises(OperationError, match="is left"):
        await hall.reserve("a", b"k", 1)
    await hall.reclaim()
    assert await hall.left("hq") == 30 * PAGE
    hall.now_us += MARGIN_US
    await hall.reclaim()
    assert await hall.left("hq") == 40 * PAGE
    assert await hall.left("a") == 0
    await hall.sync("a")
    assert await hall.left("a") == 10 * PAGE == await hall.rights("a")
    await hall.check()


@pytest.mark.parametrize("here", [frozenset({GUIDS["a"]}), None])
async def test_a_clock_that_is_set_ahead_takes_nothing_from_a_site_that_is_here(hall, here):
    """Nor from one that may be, as this node has just begun: it goes on with what it has."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.reserve("a", b"k", 6)
    hall.now_us += 10 * 24 * HOUR_US
    assert await hall.hq.journal.commit(ReclaimRights(hall.now_us, here)) == 0
    await hall.sync("a")
    assert await hall.left("a") >= 4 * PAGE
    await hall.settle("a", b"k", 6)
    await hall.ship("a")
    assert await hall.left("hq") + await hall.rights("a") == 34 * PAGE
    await hall.check()


async def test_work_of_rights_that_were_taken_back_is_charged_late(hall):
    """It was printed: the person pays, and the new rights are not touched."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.reserve("a", b"k", 6)
    await hall.settle("a", b"k", 6)
    hall.now_us += OfflinePolicy().valid_hours * HOUR_US + MARGIN_US
    await hall.reclaim()
    await hall.sync("a")
    await hall.ship("a")
    assert (await charge_at_hq(hall, b"k")).flags == (Flag.LATE,)
    assert await hall.rights("a") == await hall.left("a") == 10 * PAGE
    assert await hall.left("hq") == 24 * PAGE
    await hall.check()


async def test_what_is_reserved_when_the_rights_end_comes_out_of_the_next_ones(hall):
    """Given back or settled, the site never has more than it was granted."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.reserve("a", b"k", 6)
    await hall.reserve("a", b"l", 2)
    hall.now_us += OfflinePolicy().valid_hours * HOUR_US + MARGIN_US
    await hall.reclaim()
    await hall.sync("a")
    await hall.cancel("a", b"k")
    await hall.settle("a", b"l", 2)
    await hall.ship("a")
    assert await hall.rights("a") == await hall.left("a")
    await hall.check()


async def test_what_is_given_up_after_its_period_and_its_rights_is_of_the_next_ones(hall):
    """It was owed, and filled by them: it does not go back to a period of which they hold none."""
    await hall.hq.allow(40 * PAGE, period=Period.DAY, from_us=hall.now_us)
    await hall.sync("a")
    await hall.reserve("a", b"k", 6)
    hall.now_us += OfflinePolicy().valid_hours * HOUR_US + MARGIN_US
    await hall.reclaim()
    await hall.sync("a")
    await hall.cancel("a", b"k")
    assert await leftovers(hall).look() == 0
    await hall.ship("a")
    assert await hall.rights("a") == await hall.left("a") == 10 * PAGE
    await hall.check()


async def test_what_was_owed_when_the_rights_end_is_not_taken_out_of_the_next_ones(hall):
    """Also of somebody who had none: it is charged above, as of the time before."""
    await hall.sync("a")
    await hall.reserve("a", b"k", 3, beyond=Beyond(overdraft=5 * PAGE))
    await hall.settle("a", b"k", 3)
    hall.now_us += OfflinePolicy().valid_hours * HOUR_US + MARGIN_US
    await hall.reclaim()
    await hall.pay(43)
    await hall.sync("a")
    await hall.ship("a")
    await hall.sync("a")
    assert (await charge_at_hq(hall, b"k")).flags == (Flag.LATE,)
    assert await hall.rights("a") == await hall.left("a") > 0
    await hall.check()


async def test_a_clock_that_went_back_freezes_rights(hall):
    """Nobody spends by a lease that might be over."""
    await hall.pay(40)
    await hall.sync("a")
    hall.now_us -= DAY_US
    with pytest.raises(OperationError, match="0 is left"):
        await hall.reserve("a", b"k", 1)
    await hall.sync("a")
    await hall.reserve("a", b"k", 1)


async def test_a_clock_that_goes_back_between_charges_freezes_rights(hall):
    """Also when it shows a time after the lease began."""
    await hall.pay(40)
    await hall.sync("a")
    hall.now_us += DAY_US
    await hall.reserve("a", b"k", 1)
    hall.now_us -= HOUR_US
    with pytest.raises(OperationError, match="is left"):
        await hall.reserve("a", b"l", 1)


async def test_a_site_that_was_put_back_spends_nothing_until_it_asked(hall):
    """Its spool is older than its witness: what it had left is not known any more."""
    await hall.pay(40)
    await hall.sync("a")
    image = await hall.image("a")
    await hall.reserve("a", b"k", 10)
    await hall.settle("a", b"k", 10)
    await hall.ship("a")
    await hall.restore("a", image)
    with pytest.raises(OperationError, match="is left"):
        await hall.reserve("a", b"l", 1)
    await hall.sync("a")
    await hall.reclaim()
    assert await hall.left("a") == await hall.rights("a") == 7 * PAGE + PAGE // 2
    await hall.check()


async def test_a_restored_application_server_books_again_what_sites_hold(hall):
    """Whether the rights come first, or the charges and what was given back."""
    for first in ("rights", "records"):
        await hall.pay(40)
        image = await hall.image("hq")
        await hall.sync("a", least=20)
        await hall.reserve("a", first.encode(), 5)
        await hall.settle("a", first.encode(), 5)
        await hall.give_back("a", 4)
        await hall.restore("hq", image)
        steps = [hall.sync, hall.ship]
        for step in steps if first == "rights" else reversed(steps):
            await step("a")
        await hall.sync("a")
        assert await hall.rights("a") == await hall.left("a")
        await hall.check()


async def test_what_comes_back_as_credit_of_a_site_is_not_granted_twice(hall):
    """At the site it was owed, and filled by rights, before less was printed than reserved."""
    await hall.pay(4)
    await hall.restore("hq", await hall.image("hq"))
    await hall.sync("a")
    await hall.reserve("a", b"k", 3, beyond=Beyond(overdraft=3 * PAGE))  # one was granted
    await hall.pay(36)
    await hall.sync("a", least=3)
    await hall.settle("a", b"k", 1)
    assert await hall.give_back("a", 0) > 0
    for _ in range(2):
        await hall.ship("a")
        await hall.sync("a")
    assert await hall.rights("a") == await hall.left("a") > 0
    await hall.check()


async def test_what_a_site_holds_of_lost_purses_is_booked_again_and_comes_back(hall):
    """The money had come in after the backup: it is owed until it is booked once more."""
    image = await hall.image("hq")
    await hall.pay(40)
    await hall.sync("a")
    await hall.restore("hq", image)
    await hall.sync("a")
    assert await hall.rights("a") == 10 * PAGE
    assert await hall.left("hq") == -10 * PAGE
    await hall.give_back("a", 0)
    await hall.ship("a")
    assert await hall.rights("a") == 0
    await hall.pay(40)
    assert await hall.left("hq") == 40 * PAGE
    await hall.check()


async def test_an_allowance_that_a_restored_node_had_granted_is_granted_again(hall):
    """What sites hold of it came out of it: of the day that is over, and of the one that is not."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=hall.now_us)
    image = await hall.image("hq")
    await hall.sync("a")
    hall.now_us += DAY_US
    await hall.sync("a")
    before = (await hall.left("hq"), await hall.left("a"))
    assert sum(before) == (8 + 6) * PAGE
    await hall.restore("hq", image)
    await hall.sync("a")
    assert (await hall.left("hq"), await hall.left("a")) == before
    hall.now_us += HOUR_US
    assert await leftovers(hall).look() == 2 * PAGE
    await hall.ship("a")
    assert await hall.left("hq") + await hall.left("a") == 16 * PAGE
    await hall.check()


async def test_a_node_that_has_lost_a_lease_charges_what_was_spent_by_it_once(hall):
    """It was put back to before the site held anything at all, and hears of charges first."""
    await hall.pay(40)
    image = await hall.image("hq")
    await hall.sync("a")
    await hall.reserve("a", b"k", 5)
    await hall.settle("a", b"k", 5)
    await hall.restore("hq", image)
    await hall.ship("a")
    await hall.sync("a")
    assert await hall.rights("a") == await hall.left("a")
    assert await hall.left("hq") + await hall.left("a") == 35 * PAGE
    await hall.check()


@pytest.mark.parametrize("first", ["rights", "records"])
async def test_what_a_site_gave_back_of_a_lost_period_is_not_kept_for_it(hall, first):
    """The node was put back to before it granted that period, and hears of all at once."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=hall.now_us)
    image = await hall.image("hq")
    await hall.sync("a")
    hall.now_us += DAY_US + HOUR_US
    assert await leftovers(hall).look() == 2 * PAGE
    await hall.restore("hq", image)
    steps = [hall.sync, hall.ship]
    for step in steps if first == "rights" else reversed(steps):
        await step("a")
    for _ in range(2):
        await hall.sync("a")
    site = GUIDS["a"]
    everything = (await hall.hq.spool.reader.look(escrow.rights_of, site, 1, hall.ada)).wallet
    assert everything.balance == await hall.rights("a") == await hall.left("a")
    assert await hall.left("hq") + await hall.left("a") == 16 * PAGE
    await hall.check()


async def test_what_a_restored_site_charges_once_more_is_paid_once(hall):
    """What it has spent for that of its new rights is not kept for it any more."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.reserve("a", b"k", 4)
    image = await hall.image("a")
    await hall.settle("a", b"k", 4)
    await hall.ship("a")
    await hall.restore("a", image)
    await hall.sync("a")
    await hall.settle("a", b"k", 4)
    await hall.ship("a")
    await hall.reclaim()
    assert await hall.rights("a") == await hall.left("a") < 10 * PAGE
    assert await hall.left("hq") + await hall.left("a") == 36 * PAGE
    await hall.check()


async def test_a_node_that_lost_nothing_books_nothing_again(hall):
    """A site cannot have what it was never granted, whatever it says that it holds."""
    await hall.pay(40)
    await hall.sync("a")
    site, spool = GUIDS["a"], hall.at["a"].spool
    incarnation = UUID(spool.journal.identity[1])
    (right,) = await spool.reader.look(leases.granted, site, hall.ada, 1)
    held = (replace(right, amount=40 * PAGE),)
    claim = GrantRights(site, incarnation, 1, UUID(int=1), (), held, hall.now_us)
    await hall.hq.journal.commit(claim)
    assert await hall.left("hq") == 30 * PAGE
    assert await hall.rights("a") == 10 * PAGE


async def test_an_epoch_that_never_was_is_quarantined(hall):
    """One record of a site must not end what its application server does for the others."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.reserve("a", b"some", 1)
    await hall.settle("a", b"some", 1)
    spool = hall.at["a"].spool
    told = [one.payload for one in await spool.reader.records(1, 100)]
    (settled,) = [one for one in told if one.get("cause") == "settle"]
    settled |= {"entry": b"more/settle", "charge": b"more", "epoch": 2**40}
    await spool.journal.commit(AddRecord(Kind.LEDGER_POSTED, settled, hall.now_us))
    await hall.ship("a")
    (found,) = await hall.hq.spool.reader.look(received.quarantined, (0, 0), 10)
    assert "epoch" in found.reason
    hall.now_us += 30 * DAY_US
    await hall.reclaim()
    assert await hall.left("hq") == 39 * PAGE


async def test_a_site_takes_no_key_of_an_entry_to_come(hall):
    """It would end its application server when that posts the entry, each time it tries."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.sync("b")
    address = GUIDS["b"].bytes + (1).to_bytes(4, "big") + hall.ada.bytes
    given_back = {"cause": "right-return", "payer": hall.ada.bytes, "epoch": 1, "returned": 1}
    for key in (b"right-end/" + address, b"grant/" + bytes(16)):
        told = given_back | {"entry": key}
        record = AddRecord(Kind.LEDGER_POSTED, told, hall.now_us)
        await hall.at["a"].spool.journal.commit(record)
    await hall.ship("a")
    found = await hall.hq.spool.reader.look(received.quarantined, (0, 0), 10)
    assert [one.reason for one in found] == ["the key is of an entry of another kind."] * 2
    hall.now_us += 30 * DAY_US
    await hall.reclaim()
    assert await hall.left("hq") == 40 * PAGE
    await hall.check()


async def test_a_site_gives_back_what_it_does_not_need(hall):
    """It comes with its records, once."""
    await hall.pay(40)
    await hall.sync("a", least=40)
    assert await hall.give_back("a", 10) == 30 * PAGE
    await hall.ship("a")
    await hall.ship("a")
    assert await hall.left("hq") == 30 * PAGE
    assert await hall.rights("a") == await hall.left("a") == 10 * PAGE
    await hall.check()


async def test_a_site_grants_no_allowances_of_its_own(hall):
    """The application server grants them, and the site gets its share of them."""
    await hall.hq.allow(8 * PAGE)
    await hall.at["a"].allow(8 * PAGE)
    await hall.sync("a")
    assert await hall.left("a") == 2 * PAGE
    assert await hall.left("hq") == 6 * PAGE
    await hall.check()


async def test_who_is_not_restricted_needs_no_rights(hall):
    """Their work is charged to their own purses."""
    await hall.set_user(restricted=False)
    await hall.sync("a")
    await hall.reserve("a", b"k", 9)
    await hall.settle("a", b"k", 9)
    await hall.ship("a")
    assert (await charge_at_hq(hall, b"k")).flags == ()
    assert (await hall.hq.purses(hall.ada)) == {"overdraft": -9 * PAGE}
    await hall.check()


async def test_policies_come_with_the_rights(hall):
    """Each site keeps the one that was set for it last."""
    policy = OfflinePolicy(overdraft=5, share=50)
    await hall.hq.journal.commit(PutPolicy(None, policy, hall.now_us))
    await hall.pay(40)
    await hall.sync("a")
    assert await hall.at["a"].spool.reader.look(leases.own_policy) == policy
    assert await hall.left("a") == 20 * PAGE


async def test_a_site_that_is_frozen_gets_nothing(hall):
    """Until its journal is sound again, it keeps what it has."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.freeze("a")
    with pytest.raises(OperationError, match="gets no rights"):
        await hall.sync("a", least=20)
    assert await hall.left("a") == 10 * PAGE


async def test_reclaiming_goes_on_in_pages(hall):
    """Each is one commit; there is an end."""
    await hall.pay(40)
    await hall.sync("a")
    hall.now_us += OfflinePolicy().valid_hours * HOUR_US + MARGIN_US
    change = ReclaimRights(hall.now_us, limit=1)
    assert await hall.hq.journal.commit(change) == 1
    assert await hall.hq.journal.commit(change) == 0


async def test_settling_without_usage_takes_what_was_reserved(hall):
    """As at every other node."""
    await hall.pay(40)
    await hall.sync("a")
    await hall.reserve("a", b"k", 4)
    await hall.at["a"].journal.commit(Settle(b"k", None, hall.now_us))
    await hall.ship("a")
    assert await hall.rights("a") == 6 * PAGE
    assert await hall.left("hq") == 30 * PAGE


@pytest.mark.parametrize("need", [100, 50])
async def test_what_sites_hold_of_a_period_that_is_over_counts_no_more(hall, need):
    """Neither as what they may spend of somebody's money, nor as what they have enough of."""
    policy = OfflinePolicy(need_share=need)
    await hall.hq.journal.commit(PutPolicy(None, policy, hall.now_us))
    await hall.hq.allow(8 * PAGE, period=Period.DAY)
    for _ in range(9):
        await hall.sync("a")
        assert (await hall.left("hq"), await hall.left("a")) == (6 * PAGE, 2 * PAGE)
        look, site = hall.hq.spool.reader.look, GUIDS["a"]
        assert await look(escrow.at_sites, hall.ada, hall.now_us) == {site: 2 * PAGE}
        assert await hall.rights("a") == 2 * PAGE
        hall.now_us += DAY_US
        assert await look(escrow.at_sites, hall.ada, hall.now_us) == {}
    kept = await hall.ask("a")
    assert len(kept.granted.rights) <= 3  # the others are of no use any more
    await hall.check()


async def test_what_a_site_gives_back_is_of_the_period_in_which_it_did(hall):
    """It can be spent elsewhere at once; and what came late is not taken from the next period."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY)
    await hall.sync("a")
    hall.now_us += DAY_US
    await hall.sync("a")
    assert await hall.give_back("a", 0) == 2 * PAGE
    await hall.ship("a")
    assert await hall.left("hq") == 8 * PAGE
    await hall.sync("a")
    assert await hall.give_back("a", 0) == 2 * PAGE
    hall.now_us += DAY_US
    await hall.ship("a")  # it is tomorrow when that is heard
    await hall.sync("a")
    assert (await hall.left("hq"), await hall.left("a")) == (6 * PAGE, 2 * PAGE)
    await hall.check()


def leftovers(hall):
    spool = hall.at["a"].spool
    return Leftovers(spool.journal, spool.reader, lambda: hall.now_us)


@pytest.mark.parametrize("is_granted", [False, True])
@pytest.mark.parametrize(("most", "carried"), [(20, 8), (7, 7), (0, 0)])
async def test_what_a_site_had_left_of_a_period_is_carried_over(hall, is_granted, most, carried):
    """Whether the next period had begun without it or not; and no more than may be."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, carry_over=most * PAGE, from_us=hall.now_us)
    await hall.sync("a")
    assert await hall.left("a") == 2 * PAGE
    hall.now_us += DAY_US + HOUR_US
    if is_granted:
        await hall.sync("b", least=1)
        assert await hall.left("hq") + await hall.left("b") == (8 + min(most, 6)) * PAGE
    await hall.ship("b")
    assert await leftovers(hall).look() == 2 * PAGE
    await hall.ship("a")
    assert await hall.left("hq") + await hall.left("b") == (8 + carried) * PAGE
    assert await leftovers(hall).look() == 0
    await hall.ship("a")
    await hall.sync("a")
    every = [await hall.left(name) for name in ("hq", "a", "b")]
    assert sum(every) == (8 + carried) * PAGE
    await hall.check()


async def test_what_is_carried_late_goes_on_through_the_periods_since(hall):
    """The site was cut off for days; a report of what was made in time is charged meanwhile."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, carry_over=100 * PAGE, from_us=hall.now_us)
    await hall.sync("a")
    await hall.reserve("a", b"k", 1)
    for _ in range(3):
        hall.now_us += DAY_US
        await hall.sync("b", least=1)
        await hall.give_back("b", 0)
        await hall.ship("b")
    assert await hall.left("hq") == (4 * 8 - 2) * PAGE
    await hall.settle("a", b"k", 1)
    hall.now_us += HOUR_US
    assert await leftovers(hall).look() == 1 * PAGE
    await hall.ship("a")
    assert await hall.left("hq") == (4 * 8 - 1) * PAGE
    await hall.check()


async def test_a_site_keeps_what_is_over_for_a_while(hall):
    """What was made in time may be reported a little later."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=hall.now_us)
    await hall.sync("a")
    hall.now_us += DAY_US + HOUR_US // 2
    assert await leftovers(hall).look() == 0
    hall.now_us += HOUR_US // 2
    assert await leftovers(hall).look() == 2 * PAGE


async def test_what_a_site_that_is_gone_had_left_of_a_period_is_carried_over(hall):
    """Once its rights are taken back."""
    allowance = {"period": Period.WEEK, "carry_over": 8 * PAGE, "from_us": hall.now_us}
    await hall.hq.allow(8 * PAGE, **allowance)
    await hall.sync("a")
    hall.now_us += 7 * DAY_US
    await hall.sync("b", least=1)
    await hall.give_back("b", 0)
    await hall.ship("b")
    assert await hall.left("hq") == 14 * PAGE
    hall.now_us += MARGIN_US + HOUR_US
    await hall.reclaim()
    assert await hall.left("hq") == 16 * PAGE
    await hall.check()


@pytest.mark.parametrize("is_spent", [True, False])
async def test_what_came_back_as_credit_at_a_site_is_of_what_it_held(hall, is_spent):
    """The period is over of which that was: it is spent, or goes back, all the same."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, from_us=hall.now_us)
    await hall.sync("a")
    await hall.reserve("a", b"k", 6, beyond=Beyond(overdraft=6 * PAGE))
    await hall.sync("a", least=4)
    await hall.settle("a", b"k", 1)
    hall.now_us += DAY_US + HOUR_US
    await leftovers(hall).look()
    if is_spent:
        await hall.reserve("a", b"l", 1)
        await hall.settle("a", b"l", 1)
    assert await hall.give_back("a", 0) > 0
    await hall.ship("a")
    site = GUIDS["a"]
    kept = (await hall.hq.spool.reader.look(escrow.rights_of, site, 1, hall.ada)).wallet
    assert kept.balance == 0
    await hall.check()


async def test_what_filled_a_debt_at_a_site_is_not_kept_for_it(hall):
    """Money of one purse pays there what was owed beyond another; the server hears of it later."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, from_us=hall.now_us)
    await hall.sync("a")
    await hall.reserve("a", b"k", 6, beyond=Beyond(overdraft=6 * PAGE))
    await hall.reserve("a", b"l", 1, beyond=Beyond(overdraft=6 * PAGE))
    await hall.settle("a", b"k", 1)
    await hall.sync("b", least=6)
    await hall.pay(20)
    await hall.sync("a", least=1)
    await hall.settle("a", b"l", 1)
    hall.now_us += DAY_US + HOUR_US
    assert await leftovers(hall).look() > 0
    assert await hall.give_back("a", 0) > 0
    await hall.ship("a")
    kept = (await hall.hq.spool.reader.look(escrow.rights_of, GUIDS["a"], 1, hall.ada)).wallet
    assert kept.balance == 0
    await hall.check()


async def test_what_a_site_gave_back_and_had_let_somebody_owe_is_not_owed_twice(hall):
    """Its rights have paid at the server for what was owed there, before it heard of the rest."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY, from_us=hall.now_us)
    await hall.sync("a")
    hall.now_us += DAY_US + HOUR_US
    await hall.reserve("a", b"k", 3, beyond=Beyond(overdraft=6 * PAGE))
    await hall.settle("a", b"k", 3)
    assert await leftovers(hall).look() == 2 * PAGE
    await hall.ship("a")
    await hall.pay(40)
    for _ in range(2):
        await hall.sync("a")
    assert await hall.rights("a") == await hall.left("a") > 0
    await hall.check()


async def test_what_a_site_has_spent_is_taken_from_the_purses_that_it_took(hall):
    """Not from those that had come on their way meanwhile, which would have gone first."""
    await hall.pay(20)
    await hall.sync("a")
    await hall.reserve("a", b"k", 3)
    await hall.hq.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=hall.now_us)
    await hall.sync("a")
    await hall.settle("a", b"k", 3)
    await hall.ship("a")
    assert await hall.rights("a") == await hall.left("a")
    hall.now_us += DAY_US + HOUR_US
    assert await hall.rights("a") == await hall.left("a")
    await leftovers(hall).look()
    await hall.ship("a")
    assert await hall.rights("a") == await hall.left("a")
    await hall.sync("a")
    assert await hall.left("hq") + await hall.left("a") == (20 - 3 + 8 + 8) * PAGE
    await hall.check()


async def test_what_a_site_gives_back_is_taken_from_the_purses_that_it_took(hall):
    await hall.pay(20)
    await hall.sync("a")
    await hall.hq.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=hall.now_us)
    assert await hall.give_back("a", 1) == 4 * PAGE
    await hall.hq.journal.commit(PutPolicy(None, OfflinePolicy(share=50), hall.now_us))
    await hall.ask("a")  # the answer is lost
    await hall.ship("a")
    await hall.sync("a")
    hall.now_us += DAY_US + HOUR_US
    await leftovers(hall).look()
    await hall.ship("a")
    assert await hall.rights("a") == await hall.left("a")
    await hall.sync("a")
    assert await hall.left("hq") + await hall.left("a") == (20 + 8 + 8) * PAGE
    await hall.check()


async def test_an_overdraft_is_filled_by_what_ends_first(hall):
    """A site that went beyond its rights gets them later; the next period brings its own."""
    await hall.hq.allow(8 * PAGE, period=Period.DAY)
    for day in range(6):
        await hall.sync("a")
        await hall.give_back("a", 0)
        await hall.ship("a")
        beyond, key = Beyond(overdraft=9 * PAGE), b"k%d" % day
        await hall.reserve("a", key, 4, beyond=beyond)
        await hall.settle("a", key, 4)
        hall.now_us += DAY_US
        await hall.ship("a")
        await hall.sync("a")
        assert await hall.rights("a") == await hall.left("a") == 2 * PAGE
    await hall.check()
