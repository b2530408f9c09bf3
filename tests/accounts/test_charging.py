"""The door to prices and purses: what it costs, who pays, how much can be made."""

from __future__ import annotations

from uuid import UUID

import pytest

from spoold.accounts.charging import IMPRESSIONS_MAX, Charging
from spoold.model.charge import ChargeState, Flag
from spoold.model.errors import OperationError
from spoold.model.pricing import Per, PriceList, Rate, Unknown
from spoold.model.purse import Payer, PayerKind, Terms
from spoold.model.usage import Usage, Work
from spoold.spool.store import PutAccount, PutPrices, PutTerms
from support.money import PAGE, Purses, pages


@pytest.fixture
async def purses(spool):
    return await Purses(spool).start()


class Clock:
    now_us = 1000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def charging(purses, clock):
    return Charging(purses.journal, purses.spool.reader, clock)


def person(guid: UUID) -> Payer:
    return Payer(PayerKind.PERSON, guid)


async def test_prices_come_into_force_at_their_time(purses, charging, clock):
    """A quote is by the version in force when it is made, also right after a change."""
    assert (await charging.quote(pages(2), None)).total == 2 * PAGE
    await purses.journal.commit(PutPrices(PriceList(0, 2000, (Rate(3 * PAGE),)), 1))
    assert (await charging.quote(pages(2), None)).total == 2 * PAGE
    clock.now_us = 2000
    quote = await charging.quote(pages(2), None)
    assert (quote.total, quote.price_version) == (6 * PAGE, 2)
    clock.now_us = 1999
    assert (await charging.quote(pages(2), None)).price_version == 1
    assert (await charging.quote(pages(2), None, 2001)).price_version == 2


async def test_a_clock_that_was_set_back_makes_nothing_free(purses, charging, clock):
    """It is no earlier than when the newest prices were made."""
    await purses.journal.commit(PutPrices(PriceList(0, 2000, (Rate(3 * PAGE),)), 2000))
    await purses.journal.commit(PutPrices(PriceList(0, 4000, (Rate(5 * PAGE),)), 3000))
    clock.now_us = 5
    assert (await charging.quote(pages(1), None)).total == 3 * PAGE
    clock.now_us = 4000
    assert (await charging.quote(pages(1), None)).total == 5 * PAGE


async def test_a_machine_is_told_how_many_pages_may_be_made(purses, charging):
    """As many as can be paid for to the last one; free work without end."""
    ada = await purses.person()
    assert await charging.affordable(person(ada), Work.COPY, None) == 0
    await purses.pay_in(ada, 7 * PAGE + PAGE // 2)
    assert await charging.affordable(person(ada), Work.COPY, None) == 7
    assert await charging.affordable(person(ada), Work.COPY, None, most=3) == 3
    rates = (Rate(PAGE), Rate(2 * PAGE, Per.SHEET), Rate(0, work=Work.SCAN))
    await purses.journal.commit(PutPrices(PriceList(0, 1, rates), 1))
    assert await charging.affordable(person(ada), Work.COPY, None) == 2
    # Two-sided: a sheet of two pages costs 4, and a third page is on a sheet of its own.
    assert await charging.affordable(person(ada), Work.COPY, None, sides="two-sided") == 3
    free = PriceList(0, 1, (Rate(PAGE, work=Work.COPY),))
    await purses.journal.commit(PutPrices(free, 1))
    assert await charging.affordable(person(ada), Work.SCAN, None) == IMPRESSIONS_MAX
    bob = await purses.person("bob", restricted=False)
    assert await charging.affordable(person(bob), Work.COPY, None) == IMPRESSIONS_MAX


async def test_a_copy_is_reserved_and_settled(purses, charging):
    """The three steps, each asked twice."""
    ada = await purses.person()
    await purses.pay_in(ada, 7 * PAGE)
    usage = pages(5, Work.COPY)
    first = await charging.reserve(b"k", person(ada), usage, None)
    assert await charging.reserve(b"k", person(ada), usage, None) == first
    assert (await charging.wallet(person(ada))).available == 2 * PAGE
    charge = await charging.settle(b"k", pages(3, Work.COPY))
    assert await charging.settle(b"k", pages(4, Work.COPY)) == charge
    assert (charge.state, charge.net) == (ChargeState.SETTLED, 3 * PAGE)
    await charging.reserve(b"l", person(ada), usage.limited_to(1), None)
    assert (await charging.cancel(b"l")).state is ChargeState.CANCELED
    assert (await charging.wallet(person(ada))).available == 4 * PAGE
    await purses.check()


async def test_what_was_made_without_asking_is_charged_and_flagged(purses, charging):
    """A report of a machine that was cut off: once, however often it comes."""
    ada = await purses.person()
    await purses.pay_in(ada, 2 * PAGE)
    charge = await charging.charge(b"k", person(ada), pages(5), None)
    assert (charge.total, charge.flags) == (5 * PAGE, (Flag.NOT_RESERVED, Flag.BEYOND_LIMIT))
    assert await charging.charge(b"k", person(ada), pages(5), None) == charge
    await charging.reserve(b"free", person(ada), pages(0), None)
    assert await purses.purses(ada) == {"overdraft": -3 * PAGE}
    await purses.pay_in(ada, 13 * PAGE)
    await charging.reserve(b"l", person(ada), pages(4), None)
    charge = await charging.charge(b"l", person(ada), pages(2), None)
    assert (charge.total, charge.flags) == (2 * PAGE, ())
    await purses.check()


async def test_unknown_pages_are_priced_by_policy(purses, charging):
    """Refused, free, or at a fixed price; what was made already is never refused."""
    ada = await purses.person()
    unknown = Usage(Work.PRINT, (), is_known=False)
    with pytest.raises(OperationError) as caught:
        await charging.quote(unknown, None)
    assert caught.value.code == "pages-unknown"
    await purses.spool.add_printer("desk")
    [desk] = await purses.spool.reader.printers()
    charge = await charging.charge(b"k", person(ada), unknown, desk, enforce=False)
    assert (charge.state, charge.total) == (ChargeState.SETTLED, 0)
    assert (charge.printer, charge.is_shadow) == (desk.guid, True)
    assert charge.flags == (Flag.NOT_RESERVED, Flag.NOT_COUNTED)
    fixed = PriceList(0, 0, (Rate(PAGE),), unknown=Unknown.FIXED, unknown_price=9 * PAGE)
    await purses.journal.commit(PutPrices(fixed, 1))
    assert (await charging.quote(unknown, None)).total == 9 * PAGE
    assert (await charging.charge(b"l", person(ada), unknown, None)).total == 9 * PAGE
    await purses.check()


async def test_who_pays_is_found_by_name_or_code(purses, charging):
    """An account takes those that may charge to it, and everybody where an administrator says."""
    reader = purses.spool.reader
    await purses.person(groups=("physicists",))
    await purses.person("bob")
    ada, bob = await reader.user("ada"), await reader.user("bob")
    await purses.journal.commit(PutAccount("faculty", 1, True, groups=("physicists",)))
    account = await purses.journal.commit(PutAccount("faculty/physics", 1, True, code="4711"))
    assert await charging.payer("", ada, "owner") == person(ada.guid)
    for text in ("faculty/physics", "4711"):
        payer = await charging.payer(text, ada, "choice")
        assert payer == Payer(PayerKind.ACCOUNT, account.guid, "choice", ada.guid)
    assert (await charging.payer("4711", None, "rule")).guid == account.guid
    assert [one.name for one in await charging.choices(ada)] == ["faculty", "faculty/physics"]
    assert await charging.choices(bob) == []
    for text, user in (("4711", bob), ("nowhere", ada), ("", None), ("4711", None)):
        with pytest.raises(OperationError) as caught:
            await charging.payer(text, user, "choice")
        assert caught.value.code == "account-info-needed"


async def test_a_spare_account_pays_where_purses_are_empty(purses, charging):
    """A person's own money first; an account that is closed, or empty itself, pays nothing."""
    ada = await purses.person()
    await purses.pay_in(ada, 3 * PAGE)
    spare = await purses.journal.commit(
        PutAccount("spare", 1, True, is_restricted=True, overdraft=8 * PAGE)
    )
    await purses.journal.commit(PutTerms(Terms(spare_account=str(spare.guid)), 1))
    assert await charging.affordable(person(ada), Work.COPY, None) == 8
    charge = await charging.reserve(b"k", person(ada), pages(2), None)
    assert charge.payer == person(ada)
    charge = await charging.reserve(b"l", person(ada), pages(5), None)
    assert (charge.payer.guid, charge.payer.by) == (spare.guid, "limit")
    assert charge.payer.spender == ada
    with pytest.raises(OperationError) as caught:
        await charging.reserve(b"m", person(ada), pages(4), None)
    assert (caught.value.code, "0.05" in caught.value.message) == ("account-limit-reached", True)
    await charging.settle(b"l", pages(4))
    await purses.journal.commit(PutAccount("spare", 2, is_open=False))
    with pytest.raises(OperationError):
        await charging.reserve(b"n", person(ada), pages(2), None)
    await purses.check()
