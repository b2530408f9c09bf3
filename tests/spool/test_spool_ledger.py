"""The ledger in the spool: reserved, settled, given back, and never anything made or lost."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from spoold.model.charge import ChargeState, Flag
from spoold.model.errors import OperationError
from spoold.model.purse import Payer, PayerKind, Period, PurseKind, Terms
from spoold.model.record import Kind
from spoold.spool.store import Adjust, Cancel, PutAccount, PutTerms, Refund, Settle
from support.chain import verified
from support.money import PAGE, Purses, pages

REFUSED = "account-limit-reached"
DAY_US = 86_400_000_000


@pytest.fixture
async def purses(spool):
    return await Purses(spool).start()


async def refused(purses, change) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await purses.journal.commit(change)
    return caught.value


def us(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000_000


async def test_what_is_reserved_is_settled_and_the_rest_comes_back(purses):
    """Of ten pages eight are made: two are given back to the purse, and revenue has the eight."""
    ada = await purses.person()
    await purses.pay_in(ada, 20 * PAGE)
    charge = await purses.reserve(b"k", ada, 10)
    assert (charge.state, charge.total) == (ChargeState.RESERVED, 10 * PAGE)
    assert await purses.purses(ada) == {"paid-in": 10 * PAGE}
    await purses.check()
    charge = await purses.journal.commit(Settle(b"k", pages(8), 2))
    assert (charge.state, charge.total, charge.flags) == (ChargeState.SETTLED, 8 * PAGE, ())
    assert await purses.purses(ada) == {"paid-in": 12 * PAGE}
    assert await purses.own("revenue") == 8 * PAGE
    assert await purses.own("cash") == -20 * PAGE
    await purses.check()


async def test_a_key_posts_once(purses):
    """Whatever is asked again gets the charge as it is by then."""
    ada = await purses.person()
    await purses.pay_in(ada, 20 * PAGE)
    first = await purses.reserve(b"k", ada, 10)
    assert await purses.reserve(b"k", ada, 3) == first
    settled = await purses.journal.commit(Settle(b"k", pages(4), 2))
    assert await purses.journal.commit(Settle(b"k", pages(9), 3)) == settled
    assert await purses.journal.commit(Cancel(b"k", 4)) == settled
    assert await purses.reserve(b"k", ada, 10) == settled
    assert await purses.purses(ada) == {"paid-in": 16 * PAGE}
    await purses.check()
    assert (await refused(purses, Settle(b"other", None, 1))).code == "not-found"
    assert (await refused(purses, Cancel(b"other", 1))).code == "not-found"


async def test_nobody_reserves_more_than_there_is(purses):
    """The limit counts over all purses; what costs nothing is never refused."""
    ada = await purses.person()
    with pytest.raises(OperationError) as caught:
        await purses.reserve(b"k", ada, 1)
    assert caught.value.code == REFUSED
    assert "0.05" in caught.value.message
    await purses.reserve(b"free", ada, 0)
    await purses.pay_in(ada, 2 * PAGE)
    await purses.reserve(b"k", ada, 1)
    await purses.reserve(b"l", ada, 1)
    with pytest.raises(OperationError):
        await purses.reserve(b"m", ada, 1)
    await purses.check()


async def test_purses_are_spent_in_order_and_given_back_where_it_came_from(purses):
    """Allowance, credit, money, overdraft; the last to be asked is the first to get it back."""
    ada = await purses.person(overdraft=5 * PAGE)
    await purses.allow(2 * PAGE)
    await purses.pay_in(ada, 3 * PAGE, PurseKind.CREDIT)
    await purses.pay_in(ada, 4 * PAGE)
    await purses.reserve(b"k", ada, 12)
    assert await purses.purses(ada) == {"overdraft": -3 * PAGE}
    await purses.journal.commit(Settle(b"k", pages(6), 2))
    assert await purses.purses(ada) == {"paid-in": 3 * PAGE}
    charge = await purses.journal.commit(Refund(b"r", b"k", 4 * PAGE, "bad toner", 3, "uid:0"))
    assert (charge.net, charge.refunded) == (2 * PAGE, 4 * PAGE)
    assert await purses.purses(ada) == {"credit": 3 * PAGE, "paid-in": 4 * PAGE}
    again = await purses.journal.commit(Refund(b"r", b"k", 4 * PAGE, "bad toner", 3, "uid:0"))
    assert again == charge
    error = await refused(purses, Refund(b"s", b"k", 3 * PAGE, "more", 3, "uid:0"))
    assert (error.code, "0.10" in error.message) == ("not-possible", True)
    await purses.check()


async def test_nothing_is_carried_into_a_period_that_a_wrong_clock_has_begun(purses):
    """What comes back waits for the next one by the right clock."""
    ada = await purses.person()
    await purses.allow(8 * PAGE, period=Period.DAY, carry_over=100 * PAGE, from_us=1)
    await purses.reserve(b"k", ada, 8)
    await purses.reserve(b"ahead", ada, 1, 9 * DAY_US)
    await purses.journal.commit(Cancel(b"k", DAY_US))
    await refused(purses, purses.asked(b"m", ada, 8 + 9, DAY_US))
    await purses.reserve(b"m", ada, 8 + 8, DAY_US)
    await purses.check()


@pytest.mark.parametrize(("days", "left"), [(0, 8), (1, 16), (2, 16)])
async def test_what_comes_back_once_a_clock_was_ahead_by_a_day_is_carried_over(purses, days, left):
    """Tomorrow had been granted without it, and is not granted again; today it pays from there."""
    ada = await purses.person()
    await purses.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=1)
    await purses.reserve(b"k", ada, 3)
    await purses.reserve(b"ahead", ada, 1, DAY_US)
    await purses.journal.commit(Cancel(b"ahead", DAY_US))
    await purses.journal.commit(Cancel(b"k", 2))
    now_us = days * DAY_US + 2
    await refused(purses, purses.asked(b"m", ada, left + 1, now_us))
    await purses.reserve(b"m", ada, left, now_us)
    await purses.check()


@pytest.mark.parametrize(("ahead", "days", "left"), [(1, 0, 5), (9, 0, 5), (9, 1, 13), (9, 4, 16)])
async def test_a_clock_that_was_ahead_leaves_everybody_what_they_have(purses, ahead, days, left):
    """The period that it has begun took along what was left: that is spent there till then."""
    ada = await purses.person()
    await purses.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=1)
    await purses.reserve(b"k", ada, 3)
    await purses.reserve(b"ahead", ada, 1, ahead * DAY_US)
    await purses.journal.commit(Cancel(b"ahead", ahead * DAY_US))
    now_us = days * DAY_US + 2
    await refused(purses, purses.asked(b"m", ada, left + 1, now_us))
    await purses.reserve(b"m", ada, left, now_us)
    await purses.check()


@pytest.mark.parametrize(("most", "left"), [(8, 16 - 6), (6, 14 - 4), (0, 8)])
async def test_a_period_is_not_granted_again_for_what_is_charged_late(purses, most, left):
    """The next one had begun with it, as nobody had asked in that; it pays from there."""
    ada = await purses.person()
    await purses.allow(8 * PAGE, period=Period.DAY, carry_over=most * PAGE, from_us=1)
    await purses.reserve(b"k", ada, 1, DAY_US)
    await purses.journal.commit(Cancel(b"k", DAY_US))
    for key in (b"l", b"m"):
        await purses.reserve(key, ada, 3, 1)
        await purses.journal.commit(Settle(key, pages(3), DAY_US, happened_us=1))
    await refused(purses, purses.asked(b"n", ada, left + 1, DAY_US))
    await purses.reserve(b"n", ada, left, DAY_US)
    await purses.check()


@pytest.mark.parametrize("is_granted", [False, True])
async def test_what_comes_back_of_a_period_that_is_over_is_carried_over(purses, is_granted):
    """Of work that ended behind midnight, whether the next period had begun by then or not."""
    ada = await purses.person()
    tomorrow_us = DAY_US + 2
    await purses.allow(8 * PAGE, period=Period.DAY, carry_over=7 * PAGE, from_us=1)
    await purses.reserve(b"k", ada, 4)
    await purses.reserve(b"m", ada, 4)
    if is_granted:
        await purses.reserve(b"n", ada, 1, tomorrow_us)
    await purses.journal.commit(Settle(b"k", pages(3), tomorrow_us))
    await purses.journal.commit(Cancel(b"m", tomorrow_us))
    if is_granted:
        await purses.journal.commit(Cancel(b"n", tomorrow_us))
    await purses.reserve(b"o", ada, 13, tomorrow_us)
    assert await purses.purses(ada) == {}
    await purses.check()


async def test_what_is_refunded_of_a_period_that_is_over_can_be_spent(purses):
    """It is credit; what the allowance of today had paid is that allowance's again."""
    ada = await purses.person()
    await purses.allow(2 * PAGE, period=Period.DAY)
    await purses.reserve(b"k", ada, 2)
    await purses.journal.commit(Settle(b"k", pages(2), 2))
    tomorrow_us = DAY_US + 2
    await purses.reserve(b"m", ada, 2, tomorrow_us)
    await purses.journal.commit(Settle(b"m", pages(2), tomorrow_us))
    for key in (b"k", b"m"):
        refund = Refund(b"r" + key, key, PAGE, "bad toner", tomorrow_us, "uid:0")
        await purses.journal.commit(refund)
    assert await purses.purses(ada) == {"credit": PAGE, "allowance": PAGE}
    await purses.reserve(b"n", ada, 2, tomorrow_us)
    await purses.check()


async def test_what_comes_back_behind_a_period_that_was_granted_late_is_not_carried_twice(purses):
    """That one had all that may come along already, though less was given for it."""
    ada = await purses.person()
    await purses.allow(8 * PAGE, period=Period.DAY, carry_over=8 * PAGE, from_us=1)
    await purses.reserve(b"k", ada, 8)
    await purses.reserve(b"l", ada, 16, 9 * DAY_US)  # with what the eighth day had
    await purses.reserve(b"m", ada, 8, 8 * DAY_US)  # with what the seventh had
    await purses.journal.commit(Cancel(b"k", 9 * DAY_US))
    await refused(purses, purses.asked(b"n", ada, 1, 8 * DAY_US))
    await refused(purses, purses.asked(b"n", ada, 1, 9 * DAY_US))
    await purses.check()


async def test_what_is_made_beyond_the_reservation_is_charged_and_flagged(purses):
    """The paper is out: the overdraft goes below its limit, and pays for it with what comes in."""
    ada = await purses.person()
    await purses.pay_in(ada, 5 * PAGE)
    await purses.reserve(b"k", ada, 5)
    charge = await purses.journal.commit(Settle(b"k", pages(8), 2))
    assert charge.flags == (Flag.BEYOND_RESERVATION, Flag.BEYOND_LIMIT)
    assert await purses.purses(ada) == {"overdraft": -3 * PAGE}
    with pytest.raises(OperationError):
        await purses.reserve(b"l", ada, 1)
    await purses.pay_in(ada, 4 * PAGE)
    assert await purses.purses(ada) == {"paid-in": PAGE}
    await purses.check()
    # What comes back of the job now: the overdraft that it came from is filled already.
    await purses.journal.commit(Refund(b"r", b"k", 2 * PAGE, "jam", 3, "uid:0"))
    assert await purses.purses(ada) == {"paid-in": PAGE, "credit": 2 * PAGE}
    await purses.check()


async def test_a_charge_that_was_canceled_and_then_reported_is_posted(purses):
    """Reports come in any order; what was made counts, once."""
    ada = await purses.person()
    await purses.pay_in(ada, 10 * PAGE)
    await purses.reserve(b"k", ada, 5)
    canceled = await purses.journal.commit(Cancel(b"k", 2))
    assert canceled.state is ChargeState.CANCELED
    assert await purses.purses(ada) == {"paid-in": 10 * PAGE}
    charge = await purses.journal.commit(Settle(b"k", pages(3), 3))
    assert (charge.flags, charge.total) == ((Flag.AFTER_CANCEL,), 3 * PAGE)
    assert await purses.purses(ada) == {"paid-in": 7 * PAGE}
    await purses.check()


async def test_whoever_is_not_restricted_spends_without_end(purses):
    """A person who may, and a shared account that only counts."""
    ada = await purses.person(restricted=False)
    await purses.reserve(b"k", ada, 100)
    assert await purses.purses(ada) == {"overdraft": -100 * PAGE}
    account = await purses.journal.commit(PutAccount("physics", 1, is_new=True))
    payer = Payer(PayerKind.ACCOUNT, account.guid, "choice", ada)
    charge = await purses.reserve(b"l", ada, 7, payer=payer)
    assert charge.payer.spender == ada
    assert await purses.purses(account.guid) == {"overdraft": -7 * PAGE}
    await purses.journal.commit(PutAccount("physics", 2, is_open=False))
    with pytest.raises(OperationError) as caught:
        await purses.reserve(b"m", ada, 1, payer=payer)
    assert caught.value.code == "not-possible"
    await purses.journal.commit(Settle(b"l", pages(9), 2))  # what goes on is charged all the same
    await purses.check()


async def test_shadow_mode_counts_and_prices(purses):
    """The charge says what it would have cost; no purse knows of it."""
    ada = await purses.person()
    charge = await purses.reserve(b"k", ada, 50, is_enforced=False)
    charge = await purses.journal.commit(Settle(b"k", pages(40), 2))
    assert (charge.total, charge.net, charge.is_shadow) == (40 * PAGE, 0, True)
    assert await purses.purses(ada) == {}
    error = await refused(purses, Refund(b"r", b"k", PAGE, "why", 3, "uid:0"))
    assert error.code == "not-possible"
    await purses.check()


async def test_an_allowance_is_of_its_period_in_the_zone_of_the_site(purses):
    """At 23:30 UTC on 30 November it is December in Berlin: another allowance."""
    ada = await purses.person()
    await purses.allow(3 * PAGE, period=Period.MONTH)
    await purses.journal.commit(PutTerms(Terms("EUR", "Europe/Berlin"), 1))
    november, december = us(2026, 11, 30, 22, 30), us(2026, 11, 30, 23, 30)
    await purses.reserve(b"k", ada, 2, november)
    with pytest.raises(OperationError):
        await purses.reserve(b"l", ada, 2, november)
    await purses.reserve(b"m", ada, 3, december)
    await purses.check()
    # Booked in December, made in November: it is November's purse that pays.
    charge = await purses.reserve(b"n", ada, 1, december, happened_us=november)
    assert charge.happened_us == november
    with pytest.raises(OperationError):
        await purses.reserve(b"o", ada, 1, december)
    # What is given back of a period that is over does not come along.
    await purses.journal.commit(Cancel(b"k", december))
    with pytest.raises(OperationError):
        await purses.reserve(b"o", ada, 1, december)
    await purses.check()


async def test_an_allowance_is_granted_once_and_carried_over_up_to_its_limit(purses):
    """Also over periods in which nobody asked."""
    ada = await purses.person()
    await purses.allow(4 * PAGE, period=Period.MONTH, carry_over=6 * PAGE, from_us=us(2026, 1, 10))
    with pytest.raises(OperationError):
        await purses.reserve(b"a", ada, 5, us(2026, 1, 20))
    await purses.reserve(b"b", ada, 3, us(2026, 1, 20))
    await purses.reserve(b"c", ada, 5, us(2026, 2, 20))  # one is left of January
    # March was not asked: its four wait, with the nothing of February.
    await purses.reserve(b"d", ada, 8, us(2026, 4, 1))
    # Then ten and more would have come together; six may.
    with pytest.raises(OperationError):
        await purses.reserve(b"e", ada, 11, us(2026, 12, 1))
    await purses.reserve(b"e", ada, 10, us(2026, 12, 1))
    await purses.check()
    granted = [
        one.payload["period"]
        for one in await purses.spool.reader.records(1, 1000)
        if one.kind == Kind.LEDGER_POSTED and one.payload["cause"] == "grant"
    ]
    assert granted == ["2026-01", "2026-02", "2026-04", "2026-12"]


async def test_an_allowance_that_a_debt_takes_is_granted_once(purses):
    """All of it pays what is below zero; there is no second one for the same month."""
    ada = await purses.person()
    await purses.allow(3 * PAGE)
    await purses.reserve(b"k", ada, 3, us(2026, 1, 5))
    await purses.journal.commit(Settle(b"k", pages(8), us(2026, 1, 5)))
    for number in range(3):
        with pytest.raises(OperationError):
            await purses.reserve(bytes([number]), ada, 1, us(2026, 2, 5))
        await purses.reserve(b"free" + bytes([number]), ada, 0, us(2026, 2, 5))
    assert await purses.purses(ada) == {"overdraft": -2 * PAGE}
    await purses.check()


async def test_groups_and_single_holders_have_allowances(purses):
    """Each is a purse of its own."""
    ada = await purses.person(groups=("students", "tutors"))
    bob = await purses.person("bob")
    await purses.allow(PAGE, "group:students")
    await purses.allow(2 * PAGE, "group:tutors")
    await purses.allow(4 * PAGE, f"person:{ada}", period=Period.YEAR)
    await purses.reserve(b"k", ada, 7)
    with pytest.raises(OperationError):
        await purses.reserve(b"l", bob, 1)
    await purses.check()


async def test_money_is_given_and_taken_by_hand_with_a_reason(purses):
    """Only money that was paid in is paid out; credit may end; the journal names the author."""
    ada = await purses.person()
    assert await purses.pay_in(ada, 4 * PAGE) == 4 * PAGE
    assert await purses.pay_in(ada, 2 * PAGE, None, until_us=100) == 6 * PAGE
    out = Adjust(b"o", PayerKind.PERSON, ada, -5 * PAGE, "", 2, "uid:0", PurseKind.PAID_IN)
    assert (await refused(purses, out)).code == REFUSED
    out = Adjust(b"o", PayerKind.PERSON, ada, -3 * PAGE, "left", 2, "uid:7", PurseKind.PAID_IN)
    assert await purses.journal.commit(out) == 3 * PAGE
    assert await purses.journal.commit(out) == 3 * PAGE
    with pytest.raises(OperationError):
        await purses.reserve(b"late", ada, 2, 100)
    await purses.reserve(b"k", ada, 2, 99)
    assert await purses.purses(ada) == {"paid-in": PAGE}
    fine = Adjust(b"f", PayerKind.PERSON, ada, -3 * PAGE, "lost card", 3, "uid:7")
    assert await purses.journal.commit(fine) == -2 * PAGE
    await purses.check()
    await purses.check_records()
    told = [one for one in await purses.spool.reader.records(1, 1000) if one.personal]
    assert (told[-1].actor, told[-1].personal) == ("uid:7", {"reason": "lost card"})
    for purse in (PurseKind.ALLOWANCE, PurseKind.OVERDRAFT):
        change = Adjust(b"x", PayerKind.PERSON, ada, 1, "", 3, "uid:0", purse)
        assert (await refused(purses, change)).code == "bad-request"
    nobody = Adjust(b"x", PayerKind.PERSON, uuid4(), 1, "", 3, "uid:0")
    assert (await refused(purses, nobody)).code == "not-found"


async def test_an_open_reservation_lives_through_a_restart(tmp_path, spool_at):
    """It is settled with the price of its own version of the list, whatever is in force by then."""
    async with spool_at(tmp_path) as spool:
        purses = await Purses(spool).start()
        ada = await purses.person()
        await purses.pay_in(ada, 20 * PAGE)
        await purses.reserve(b"k", ada, 10)
    async with spool_at(tmp_path) as spool:
        purses = Purses(spool)
        await purses.start()
        charge = await purses.journal.commit(Settle(b"k", pages(8), 2))
        assert (charge.quote.price_version, charge.total) == (1, 8 * PAGE)
        assert await purses.purses(ada) == {"paid-in": 12 * PAGE}
        await purses.check()
        assert await verified(spool.reader) == spool.journal.head
