"""A machine over the ledger: any order of changes, with crashes, against the rules of purses.

The model below says again, in its own way, what `model/purse.py` says of spending orders. A crash
is a copy of the files as they lie on the disk while the store is open: what kill -9 leaves.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spoold.model.charge import ChargeState
from spoold.model.errors import OperationError
from spoold.model.purse import Payer, PayerKind, PurseKind
from spoold.spool import charges, ledger_views
from spoold.spool.store import Adjust, Cancel, Refund, Reserve, Settle
from support.chain import verified
from support.money import PAGE, Purses, pages

MONTHS = [int(datetime(2026, month, 15, tzinfo=UTC).timestamp()) * 10**6 for month in (3, 4)]
ALLOWANCE = 4
LIMITS = {"ada": 3, "bob": None}
PEOPLE = st.sampled_from(sorted(LIMITS))
LATE = st.integers(0, 3)  # how many charges ago
COUNTS = st.integers(0, 9)
MONTH = st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(st.just("pay"), PEOPLE, st.integers(1, 6), st.sampled_from(["credit", "paid-in"])),
    st.tuples(st.just("take"), PEOPLE, st.integers(1, 6), MONTH),
    st.tuples(st.just("reserve"), PEOPLE, COUNTS, MONTH, st.integers(0, 4)),
    st.tuples(st.just("again"), LATE, PEOPLE, COUNTS, MONTH),
    st.tuples(st.just("settle"), LATE, st.none() | COUNTS, MONTH),
    st.tuples(st.just("cancel"), LATE, MONTH),
    st.tuples(st.just("refund"), LATE, st.integers(1, 9), MONTH),
    st.tuples(st.just("crash")),
)


class Person:
    """Purses in pages. A month that nobody has looked at has no purse yet."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.purses = {"credit": 0, "paid-in": 0, "overdraft": 0}

    def touch(self, month: int) -> None:
        if f"allowance {month}" not in self.purses:
            self.purses[f"allowance {month}"] = 0
            self.receive(f"allowance {month}", ALLOWANCE)

    def receive(self, purse: str, amount: int) -> None:
        filled = min(amount, max(0, -self.purses["overdraft"]))
        self.purses["overdraft"] += filled
        self.purses[purse] += amount - filled

    def order(self, month: int) -> list[str]:
        return [f"allowance {month}", "credit", "paid-in"]

    def available(self, month: int) -> float:
        if self.limit is None:
            return float("inf")
        # A month that was never looked at is granted with the first look.
        unseen = ALLOWANCE if f"allowance {month}" not in self.purses else 0
        names = [*self.order(month), "overdraft"]
        return sum(self.purses.get(name, 0) for name in names) + unseen + self.limit

    def spend(self, amount: int, month: int) -> list[tuple[str, int]]:
        given = []
        for name in self.order(month):
            part = min(amount, max(0, self.purses[name]))
            if part:
                given.append((name, part))
            self.purses[name] -= part
            amount -= part
        if amount:
            given.append(("overdraft", amount))
            self.purses["overdraft"] -= amount
        return given

    def give_back(self, given: list[tuple[str, int]]) -> None:
        for name, amount in given:
            self.purses[name] += amount
        over = max(0, self.purses["overdraft"])
        self.purses["overdraft"] -= over
        self.purses["credit"] += over


class Work:
    def __init__(self, person: str, count: int, given, is_shadow: bool) -> None:
        self.person, self.state, self.count, self.given = person, "reserved", count, given
        self.is_shadow, self.refunded = is_shadow, 0


class Model:
    def __init__(self) -> None:
        self.people = {name: Person(limit) for name, limit in LIMITS.items()}
        self.works: dict[int, Work] = {}
        self.booked = 0

    def key(self, late: int) -> int:
        """The charge that was made so long ago, or the one that is made next."""
        return max(0, len(self.works) - 1 - late)

    def part(self, given, keep: int):
        """The first `keep` of what was given, and the rest."""
        kept, rest = [], []
        for name, amount in given:
            part = min(amount, keep)
            keep -= part
            kept += [(name, part)] if part else []
            rest += [(name, amount - part)] if amount > part else []
        return kept, rest


async def step(purses: Purses, people: dict[str, UUID], model: Model, what) -> None:
    model.booked += 1
    number = model.booked.to_bytes(4, "big")
    commit = purses.journal.commit
    match what:
        case ("pay", name, amount, kind):
            model.people[name].touch(0)
            model.people[name].receive(kind, amount)
            change = Adjust(
                number, PayerKind.PERSON, people[name], amount * PAGE, "", MONTHS[0], "uid:0",
                PurseKind(kind),
            )  # fmt: skip
            for _ in range(2):
                await commit(change)
        case ("take", name, amount, month):
            model.people[name].touch(month)
            model.people[name].spend(amount, month)
            await commit(
                Adjust(
                    number, PayerKind.PERSON, people[name], -amount * PAGE, "", MONTHS[month],
                    "uid:0",
                )
            )  # fmt: skip
        case ("reserve", name, count, month, mode):
            key = len(model.works)
            await reserve(purses, people, model, name, key, count, month, mode != 0)
        case ("again", late, name, count, month):
            key = model.key(late)
            await reserve(purses, people, model, name, key, count, month, True)
        case ("settle", late, count, month):
            await settle(purses, model, model.key(late), count, month)
        case ("cancel", late, month):
            key = model.key(late)
            work = model.works.get(key)
            if work is None:
                await refused(commit(Cancel(bytes([key]), MONTHS[month])))
                return
            charge = await commit(Cancel(bytes([key]), MONTHS[month]))
            if work.state == "reserved":
                work.state = "canceled"
                if not work.is_shadow:
                    model.people[work.person].touch(month)
                    model.people[work.person].give_back(work.given)
                work.given = []
            assert charge.state == work.state
        case ("refund", late, count, month):
            key = model.key(late)
            work = model.works.get(key)
            change = Refund(number, bytes([key]), count * PAGE, "", MONTHS[month], "uid:0")
            net = 0 if work is None else work.count - work.refunded
            if work is None or work.state != "settled" or work.is_shadow or count > net:
                await refused(commit(change))
                return
            assert await commit(change) == await commit(change)
            model.people[work.person].touch(month)
            work.given, back = model.part(work.given, net - count)
            over = {f"allowance {one}" for one in range(len(MONTHS)) if one != month}
            back = [("credit" if name in over else name, amount) for name, amount in back]
            model.people[work.person].give_back(back)
            work.refunded += count


async def reserve(purses, people, model, name, key, count, month, is_enforced) -> None:
    work, person = model.works.get(key), model.people[name]
    asked = purses.reserve(
        bytes([key]), people[name], count, MONTHS[month], is_enforced=is_enforced
    )
    if work is not None:
        charge = await asked
        assert (charge.state, charge.total) == (work.state, work.count * PAGE)
        return
    if is_enforced and count and count > person.available(month):
        await refused(asked)
        return
    await asked
    given = []
    if is_enforced:
        person.touch(month)
        given = person.spend(count, month)
    model.works[key] = Work(name, count, given, not is_enforced)


async def settle(purses, model, key, count, month) -> None:
    usage = None if count is None else pages(count)
    change, work = Settle(bytes([key]), usage, MONTHS[month]), model.works.get(key)
    if work is None:
        await refused(purses.journal.commit(change))
        return
    charge = await purses.journal.commit(change)
    if work.state != "settled":
        work.state = "settled"
        made = work.count if count is None else count
        if not work.is_shadow:
            person = model.people[work.person]
            person.touch(month)
            kept, rest = model.part(work.given, made)
            person.give_back(rest)
            more = made - sum(amount for _, amount in kept)
            work.given = [*kept, *person.spend(more, month)]
        work.count = made
    assert (charge.state, charge.total) == (ChargeState.SETTLED, work.count * PAGE)
    assert await purses.journal.commit(Settle(bytes([key]), pages(1), MONTHS[month])) == charge


async def refused(commit) -> None:
    try:
        await commit
    except OperationError:
        return
    raise AssertionError("it was not refused")


async def check(purses: Purses, people: dict[str, UUID], model: Model) -> None:
    await purses.check()
    await purses.check_records()
    reader = purses.spool.reader
    for name, guid in people.items():
        rows = await reader._all(
            "SELECT kind, period, balance FROM purse WHERE holder = ?", guid.bytes
        )
        found = {
            kind if not period else f"{kind} {int(period[-1]) - 3}": balance // PAGE
            for kind, period, balance in rows
        }
        assert {key: value for key, value in found.items() if value} == {
            key: value for key, value in model.people[name].purses.items() if value
        }
        for month, at_us in enumerate(MONTHS):
            payer = Payer(PayerKind.PERSON, guid)
            available = (await reader.look(ledger_views.wallet_of, payer, at_us)).available
            left = float("inf") if available is None else available / PAGE
            assert left == model.people[name].available(month)
    for key, work in model.works.items():
        charge = (await reader.look(charges.find, bytes([key]))).charge
        assert (charge.state, charge.total) == (work.state, work.count * PAGE)
        assert charge.refunded == work.refunded * PAGE
    assert await verified(reader) == purses.journal.head


# An overdraft that was filled before what it paid for comes back; and a debt that takes a whole
# allowance.
FILLED = [
    ("reserve", "ada", 6, 0, 1),
    ("pay", "ada", 5, "paid-in"),
    ("crash",),
    ("cancel", 0, 1),
]
TAKEN = [
    ("reserve", "ada", 2, 0, 1),
    ("settle", 0, 9, 0),
    ("take", "ada", 5, 0),
    ("take", "ada", 1, 1),
    ("refund", 0, 9, 1),
    ("reserve", "ada", 1, 1, 1),
]


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(FILLED)
@example(TAKEN)
@given(st.lists(STEPS, min_size=12, max_size=40))
@pytest.mark.slow
async def test_any_order_of_changes_and_crashes(spool_at, steps):
    """The sum is zero in every state, and every purse holds what the rules say."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "0"
        data_dir.mkdir()
        rest = list(steps)
        people: dict[str, UUID] = {}
        lives = 0
        while True:
            async with spool_at(data_dir) as spool:
                purses = Purses(spool)
                if not people:
                    await purses.start()
                    await purses.allow(ALLOWANCE * PAGE)
                    people["ada"] = await purses.person("ada", overdraft=LIMITS["ada"] * PAGE)
                    people["bob"] = await purses.person("bob", restricted=False)
                else:
                    await purses.again()
                await check(purses, people, model)
                while rest and rest[0][0] != "crash":
                    await step(purses, people, model, rest.pop(0))
                    await purses.check()
                await check(purses, people, model)
                lives += 1
                crashed = Path(folder) / str(lives)
                shutil.copytree(data_dir, crashed)
            if not rest:
                return
            rest.pop(0)
            data_dir = crashed


async def test_what_is_asked_twice_in_one_commit_is_done_once(spool):
    """Also before the first one is on the disk."""
    purses = await Purses(spool).start()
    ada = await purses.person()
    await purses.pay_in(ada, 9 * PAGE)
    usage, payer = pages(5), Payer(PayerKind.PERSON, ada)
    reserve = Reserve(b"k", payer, purses.quote(usage), usage, None, 1)
    settle = Settle(b"k", pages(3), 2)
    answers = await purses.journal.commit_all(
        [reserve, reserve, settle, reserve, settle, Cancel(b"k", 3)]
    )
    assert [one.state for one in answers[:2]] == [ChargeState.RESERVED] * 2
    assert len({(one.state, one.total) for one in answers[2:]}) == 1
    assert await purses.purses(ada) == {"paid-in": 6 * PAGE}
    await purses.check()
