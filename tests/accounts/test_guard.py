"""What is kept of failed logins between two runs, and what it is worth then."""

from __future__ import annotations

import pytest

from spoold.accounts import guard
from spoold.accounts.guard import FREE_AT_HOME, FREE_OF_ACCOUNT, Guard, Kind
from spoold.model.errors import OperationError
from support.directory import DIGESTS

START_US = 1_700_000_000_000_000


class Clock:
    """A wall clock that a test sets."""

    now_us = START_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def started(spool, clock) -> Guard:
    found = Guard(spool.reader, spool.journal, DIGESTS, clock)
    await found.start()
    return found


def waits(found: Guard, *keys) -> bool:
    try:
        found.check(*keys)
    except OperationError as error:
        return error.code == "busy"
    return False


async def fail(found: Guard, key, times) -> None:
    for _ in range(times):
        found.note(key)
        await found.keep([key])


async def test_failures_count_on_in_the_next_run(spool, clock, mock_clock):
    """As many as there were, and for as long."""
    first = await started(spool, clock)
    key = first.key(Kind.ACCOUNT, "ada")
    await fail(first, key, FREE_OF_ACCOUNT + 3)
    clock.now_us += 2_000_000
    second = await started(spool, clock)
    assert waits(second, key)
    assert not waits(second, second.key(Kind.ACCOUNT, "bob"))
    mock_clock.jump(2.1)  # four seconds in all
    assert not waits(second, key)
    clock.now_us += 901_000_000
    assert not waits(await started(spool, clock), key)


@pytest.mark.parametrize("years", [-20, -1])
async def test_a_clock_that_went_back_makes_nobody_wait_less(spool, clock, years):
    """The failures count as of now."""
    first = await started(spool, clock)
    key = first.key(Kind.ACCOUNT, "ada")
    await fail(first, key, FREE_OF_ACCOUNT + 3)
    clock.now_us += years * 365 * 86_400_000_000
    assert waits(await started(spool, clock), key)


async def test_a_home_is_one_after_a_restart_and_forgotten_after_months(spool, clock):
    """So that nobody is locked out by guesses and a restart together."""
    first = await started(spool, clock)
    first.make_home("ada", "192.0.2.7")
    assert first.is_home("ada", "192.0.2.7")
    await first.keep([])  # behind it: it is durable
    second = await started(spool, clock)
    assert second.is_home("ada", "192.0.2.7")
    assert not second.is_home("ada", "192.0.2.8")
    clock.now_us += 61 * 86_400_000_000
    assert not (await started(spool, clock)).is_home("ada", "192.0.2.7")


async def test_a_home_is_written_once(spool, clock):
    """However often somebody comes in."""
    found = await started(spool, clock)
    for _ in range(100):
        found.make_home("ada", "192.0.2.7")
    await found.keep([])
    rows = await spool.reader.look(lambda db: db.execute("SELECT * FROM throttle").fetchall())
    assert len(rows) == 1
    assert b"ada" not in rows[0][1]
    assert spool.journal.commits <= 2


async def test_who_logs_in_rightly_pays_back_once_an_hour(spool, clock, mock_clock):
    """Nobody earns tries for others by logging in again and again."""
    found = await started(spool, clock)
    key = found.key(Kind.HOME, "ada")
    await fail(found, key, FREE_AT_HOME + 3)
    for _ in range(50):
        found.pay_back(guard.UUID(int=1), key)
    for person in range(2, 5):
        found.pay_back(guard.UUID(int=person), key)
    mock_clock.jump(1.9)  # four quarters are forgiven: the wait is 2 s instead of 4
    assert waits(found, key)
    mock_clock.jump(0.2)
    assert not waits(found, key)
    for person in range(5, 13):
        found.pay_back(guard.UUID(int=person), key)
    found.note(key)
    mock_clock.jump(1.1)
    assert not waits(found, key)


async def test_a_table_from_elsewhere_does_no_harm(spool, clock):
    """Kinds that a later spoold knows are left alone."""
    change = guard.KeepThrottles((("later", b"k", 9, START_US), ("account", b"", -5, START_US)))
    await spool.journal.commit(change)
    found = await started(spool, clock)
    assert not waits(found, found.key(Kind.ACCOUNT, "ada"))
