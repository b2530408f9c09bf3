"""The books of long ago: what is left of them, and what stays as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from spoold.model.errors import OperationError
from spoold.model.purse import Payer, PayerKind, Terms
from spoold.model.record import Kind
from spoold.spool import carrying, ledger_views
from spoold.spool.ledger_views import By
from spoold.spool.store import Cancel, CarryLedger, PutAccount, PutTerms, Refund, Settle
from support.money import PAGE, Purses, pages

FOREVER_US = 2**53


def us(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000_000


MAY, JUNE, JULY = us(2026, 5, 31, 12), us(2026, 6, 10), us(2026, 7, 1)
FIRST_OF_JUNE = us(2026, 5, 31, 22)  # in Vienna
LIMITS = (1, 3, 200)


class Books(Purses):
    """Charges of two months, one of them open, and money that was given before."""

    async def fill(self) -> None:
        self.ada, self.bob = await self.person("ada"), await self.person("bob")
        self.works = await self.journal.commit(
            PutAccount("works", 1, is_new=True, is_restricted=False)
        )
        await self.journal.commit(PutTerms(Terms(zone="Europe/Vienna"), 1))
        await self.pay_in(self.ada, 100 * PAGE, now_us=MAY)
        await self.pay_in(self.bob, 100 * PAGE, now_us=MAY)
        await self.spend(b"may-1", self.ada, 10, MAY)
        await self.spend(b"may-2", self.ada, 5, MAY)
        await self.spend(b"may-3", self.bob, 4, FIRST_OF_JUNE)
        payer = Payer(PayerKind.ACCOUNT, self.works.guid, "rule", self.bob)
        await self.spend(b"may-4", self.bob, 7, MAY, payer=payer)
        await self.spend(b"may-5", self.bob, 50, MAY, is_enforced=False)
        await self.reserve(b"may-6", self.ada, 9, MAY)
        await self.journal.commit(Cancel(b"may-6", MAY))
        await self.reserve(b"may-7", self.ada, 3, MAY)  # goes on
        await self.journal.commit(Refund(b"back", b"may-2", 2 * PAGE, "jam", MAY, "uid:0"))
        await self.spend(b"june", self.ada, 20, JUNE)
        await self.reserve(b"late", self.ada, 2, MAY)
        await self.journal.commit(Settle(b"late", pages(2), JUNE))

    async def spend(self, key, person, count, now_us, **fields) -> None:
        await self.reserve(key, person, count, now_us, **fields)
        await self.journal.commit(Settle(key, pages(count), now_us))

    async def carry(self, before_us: int, limit: int) -> int:
        after_id = count = 0
        while True:
            look = self.spool.reader.look
            found = await look(carrying.due, before_us, after_id, limit, JULY)
            change = CarryLedger(before_us, after_id, limit, JULY)
            count += await self.journal.commit(change)
            if not found.last_id:
                return count
            after_id = found.last_id

    async def usage(self, by, since_us=0, until_us=FOREVER_US, after=None, limit=500):
        return await self.spool.reader.report(
            ledger_views.usage, by, since_us, until_us, after, limit
        )

    async def balances(self):
        return await self.spool.reader._all("SELECT guid, balance FROM purse ORDER BY guid")

    async def keys(self):
        return [
            key for (key,) in await self.spool.reader._all("SELECT key FROM charge ORDER BY id")
        ]


@pytest.fixture
async def books(spool):
    found = Books(spool)
    await found.start()
    await found.fill()
    return found


@pytest.mark.parametrize("limit", LIMITS)
async def test_what_is_carried_changes_no_sum(books, limit):
    """Neither balances nor usage, by whatever; what goes on or is young stays as it is."""
    before = [await books.usage(by) for by in By], await books.balances()
    assert await books.carry(JUNE, limit) > 0
    assert ([await books.usage(by) for by in By], await books.balances()) == before
    assert await books.keys() == [b"may-7", b"june", b"late"]
    await books.check()
    assert await books.carry(JUNE, limit) == 0
    records = await books.spool.reader.records(1, 1000)
    told = [one.payload for one in records if one.kind == Kind.LEDGER_CARRIED]
    assert sum(one["charges"] for one in told) == 6
    await books.journal.commit(Cancel(b"may-7", JULY))
    await books.carry(JULY + 1, limit)
    assert ([await books.usage(by) for by in By]) == before[0]
    assert await books.keys() == []
    await books.check()
    rows = await books.spool.reader._all("SELECT count(*) FROM entry")
    assert rows == [(1,)]


async def test_what_was_booked_in_the_future_does_not_keep_what_came_behind_it(spool):
    """Nor is it carried before its time."""
    books = Books(spool)
    await books.start()
    ada = await books.person("ada")
    await books.pay_in(ada, 100 * PAGE, now_us=us(2036, 1, 1))
    await books.spend(b"may", ada, 10, MAY)
    await books.spend(b"july", ada, 1, JULY)
    assert await books.carry(JUNE, 200) > 0
    assert await books.keys() == [b"july"]
    assert await books.carry(JUNE, 200) == 0
    await books.check()


async def test_usage_of_long_ago_is_known_by_month(books):
    """By the months of the site: what happened on the first of June there counts in June."""
    may, june = us(2026, 4, 30, 22), FIRST_OF_JUNE
    before = await books.usage(By.USER, may, june), await books.usage(By.USER, june, JULY)
    await books.carry(JULY, 200)
    after = await books.usage(By.USER, may, june), await books.usage(By.USER, june, JULY)
    assert [len(one) for one in after] == [2, 2]
    moved = {one.key: one.impressions for one in after[0]}
    assert moved == {one.key: one.impressions for one in before[0]}
    assert after[1] == before[1]


@pytest.mark.parametrize("limit", LIMITS)
async def test_usage_comes_in_pages_before_and_after_it_was_carried(books, limit):
    """A page goes on behind the key of the one before, of those that nobody is known for, too."""
    nobody = Payer(PayerKind.ACCOUNT, books.works.guid, "rule")
    await books.spend(b"may-8", None, 1, MAY, payer=nobody)
    await books.spend(b"july", None, 2, JULY, payer=nobody)
    expected = {by: await books.usage(by) for by in By}
    known = [(one.key, one.charges, one.impressions) for one in expected[By.USER]]
    people = [(books.ada.bytes, 4, 37), (books.bob.bytes, 3, 61)]
    assert known == [(b"", 2, 3), *sorted(people)]
    assert [(one.charges, one.amount) for one in expected[By.ACCOUNT]] == [(3, 10 * PAGE)]
    assert [(one.key, one.charges) for one in expected[By.PRINTER]] == [(b"", 9)]
    for _ in range(2):
        for by in By:
            found = [*await books.usage(by, limit=limit)]
            while page := await books.usage(by, after=found[-1].key, limit=limit):
                found += page
            assert found == expected[by]
        await books.carry(JUNE, 200)


async def test_a_statement_begins_with_what_was_carried(books):
    """One line for all of it: with those behind it, it adds up to the balance."""
    look, ada = books.spool.reader.look, books.ada

    async def statement(since_us=None, until_us=None, before_id=0, limit=100):
        return await look(ledger_views.statement, ada, since_us, until_us, before_id, limit)

    before = await statement()
    await books.carry(JUNE, 200)
    after = await statement()
    assert [one.cause for one in after[-2:]] == ["reserve", "carried"]
    assert sum(one.amount for one in after) == sum(one.amount for one in before)
    assert [one.cause for one in await statement(limit=1)] == ["settle"]
    assert "carried" not in [one.cause for one in await statement(since_us=JUNE + 1)]
    assert "carried" not in [one.cause for one in await statement(until_us=MAY)]
    assert await look(ledger_views.statement, UUID(int=9), None, None, 0, 9) == []


async def test_a_charge_that_is_carried_is_refunded_no_more(books):
    """It is said that there is none, and nothing is booked."""
    await books.carry(JUNE, 200)
    with pytest.raises(OperationError) as caught:
        await books.journal.commit(Refund(b"again", b"may-1", PAGE, "jam", JULY, "uid:0"))
    assert caught.value.code == "not-found"
    await books.check()
