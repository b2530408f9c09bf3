"""Money in a spool, for tests: holders, prices, and the one sum that never changes."""

from __future__ import annotations

from uuid import UUID, uuid4

from spoold.model.pricing import PriceList, Quote, Rate, quote
from spoold.model.purse import EVERYBODY, Allowance, Payer, PayerKind, Purse, PurseKind
from spoold.model.record import Kind
from spoold.model.usage import Line, Usage, Work
from spoold.spool import price_lists
from spoold.spool.postings import Own
from spoold.spool.store import Adjust, PutAllowance, PutPrices, PutUser, Reserve

PAGE = 500  # 0.05 an impression
PRICES = PriceList(0, 0, (Rate(PAGE),))


def pages(count: int, work: Work = Work.PRINT) -> Usage:
    return Usage(work, (Line(count, count, "monochrome", "one-sided", "iso_a4_210x297mm"),))


class Purses:
    """Short ways to the ledger of an open spool."""

    def __init__(self, spool):
        self.spool = spool
        self.journal = spool.journal
        self.prices = PRICES

    async def start(self) -> Purses:
        self.prices = await self.journal.commit(PutPrices(PRICES, 1))
        return self

    async def again(self) -> Purses:
        """The prices that are there, in a spool that was opened once more."""
        self.prices = await self.spool.reader.look(price_lists.prices_at, 1)
        return self

    async def person(self, name="ada", **fields) -> UUID:
        user = await self.journal.commit(PutUser(name, 1, is_new=True, fields=fields))
        return user.guid

    async def allow(self, amount: int, to=EVERYBODY, **fields) -> Allowance:
        allowance = Allowance(uuid4(), to, amount, **fields)
        await self.journal.commit(PutAllowance(allowance, 1))
        return allowance

    async def pay_in(self, person: UUID, amount: int, purse=PurseKind.PAID_IN, now_us=1, **fields):
        change = Adjust(
            uuid4().bytes, PayerKind.PERSON, person, amount, "cash desk", now_us, "uid:0", purse,
            **fields,
        )  # fmt: skip
        return await self.journal.commit(change)

    def quote(self, usage: Usage) -> Quote:
        return quote(self.prices, usage, None)

    def asked(self, key: bytes, person: UUID, count: int, now_us=1, **fields) -> Reserve:
        usage = pages(count)
        payer = fields.pop("payer", Payer(PayerKind.PERSON, person))
        return Reserve(key, payer, self.quote(usage), usage, None, now_us, **fields)

    async def reserve(self, key: bytes, person: UUID, count: int, now_us=1, **fields):
        return await self.journal.commit(self.asked(key, person, count, now_us, **fields))

    async def purses(self, holder: UUID) -> dict[str, int]:
        """The balances of a holder by kind, those that are 0 left out."""
        rows = await self.spool.reader._all(
            "SELECT kind, sum(balance) FROM purse WHERE holder = ? GROUP BY kind", holder.bytes
        )
        return {kind: balance for kind, balance in rows if balance}

    async def own(self, kind: str) -> int:
        rows = await self.spool.reader._all(
            "SELECT coalesce(sum(balance), 0) FROM purse WHERE holder = zeroblob(16) AND kind = ?",
            kind,
        )
        return rows[0][0]

    async def check(self) -> None:
        """All balances add up to zero, as every entry does; purses are what was posted to them."""
        look = self.spool.reader._all
        assert await look("SELECT coalesce(sum(balance), 0) FROM purse") == [(0,)]
        assert not await look(
            "SELECT entry_id FROM posting GROUP BY entry_id HAVING sum(amount) != 0"
        )
        assert not await look(
            "SELECT guid FROM purse WHERE balance != coalesce((SELECT sum(amount) FROM posting "
            "WHERE purse_id = purse.id), 0)"
        )
        assert not await look("SELECT guid FROM purse WHERE kind NOT IN ('overdraft', 'cash', "
                              "'given', 'suspense', 'rights') AND balance < 0")  # fmt: skip
        held = await look(
            "SELECT coalesce(sum(amount), 0) FROM charge WHERE state = 'reserved' AND NOT is_shadow"
        )
        assert held == [(await self.own("reserved"),)]
        paid = await look(
            "SELECT (SELECT coalesce(sum(amount - refunded), 0) FROM charge "
            "WHERE state = 'settled' AND NOT is_shadow) + "
            "(SELECT coalesce(sum(amount), 0) FROM charge_sum)"
        )
        assert paid == [(await self.own("revenue"),)]

    async def check_records(self) -> None:
        """Whoever has the records alone can make the same purses, entries and charges of them."""
        balances: dict[bytes, int] = {}
        purses: dict[bytes, tuple] = {one.guid.bytes: (bytes(16), one.value) for one in Own}
        charges: dict[bytes, tuple] = {}
        keys = []
        for record in await self.spool.reader.records(1, 100_000):
            if record.kind != Kind.LEDGER_POSTED:
                continue
            found = record.payload
            keys.append(found["entry"])
            for one in found["purses"]:
                allowance = one.get("allowance")
                guid = Purse(
                    UUID(bytes=one["holder"]),
                    PurseKind(one["kind"]),
                    allowance=None if allowance is None else UUID(bytes=allowance),
                    period=one.get("period", ""),
                ).guid.bytes
                purses[guid] = (one["holder"], one["kind"])
                balances.setdefault(guid, 0)
            for guid, amount in found["lines"]:
                balances[guid] = balances.get(guid, 0) + amount
            if "state" in found:
                total = found["quote"]["total"]
                charges[found["charge"]] = (found["state"], found["payer"], total, 0)
            elif "refunded" in found:
                charges[found["charge"]] = (*charges[found["charge"]][:3], found["refunded"])
        look = self.spool.reader._all
        assert len(keys) == len(set(keys))
        assert keys == [key for (key,) in await look("SELECT key FROM entry ORDER BY id")]
        rows = await look("SELECT guid, holder, kind, balance FROM purse")
        assert {row[0]: row[1:] for row in rows} == {
            guid: (*purses[guid], balance) for guid, balance in balances.items()
        }
        rows = await look("SELECT key, state, holder, amount, refunded FROM charge")
        assert {row[0]: row[1:] for row in rows} == charges
