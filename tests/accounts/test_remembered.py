"""Passwords of a directory at a site: asked upstream, and remembered for an outage."""

from __future__ import annotations

import pytest

from spoold.accounts.passwords import Passwords
from spoold.accounts.remembered import DAY_US, Remembered
from spoold.accounts.vault import Vault
from spoold.model.errors import OperationError
from spoold.model.offline import OfflinePolicy
from spoold.spool.store import PutUser

ALLOWED = OfflinePolicy(passwords=True, password_days=30)


class Upstream:
    """An application server that says what its directory would, or nothing."""

    def __init__(self) -> None:
        self.right: str | None = "correct horse"
        self.rules = ALLOWED

    async def password(self, name, password):
        return None if self.right is None else password == self.right

    async def policy(self):
        return self.rules


class Site:
    def __init__(self, spool, user, key=bytes(32)) -> None:
        self.upstream, self.user, self.now_us = Upstream(), user, 10**15
        self.remembered = Remembered(
            self.upstream,
            Passwords(memory_kib=64),
            Vault(key),
            spool.journal,
            spool.reader,
            lambda: self.now_us,
        )

    async def is_right(self, password="correct horse"):
        return await self.remembered.is_right(self.user, password)


@pytest.fixture
async def site(spool):
    return Site(spool, await spool.journal.commit(PutUser("ada", 1, is_new=True)))


async def test_what_was_right_counts_when_nobody_can_be_asked(site):
    """Nothing else does, and only for the days that the policy says."""
    assert await site.is_right()
    assert not await site.is_right("wrong")
    site.upstream.right = None
    assert await site.is_right()
    assert not await site.is_right("wrong")
    site.now_us += 31 * DAY_US
    with pytest.raises(OperationError, match="cut off"):
        await site.is_right()


async def test_nothing_is_remembered_unless_the_policy_allows_it(site):
    """And what was remembered before is forgotten with the next login."""
    site.upstream.rules = OfflinePolicy()
    assert await site.is_right()
    site.upstream.right = None
    with pytest.raises(OperationError, match="cut off"):
        await site.is_right()
    site.upstream.right, site.upstream.rules = "correct horse", ALLOWED
    assert await site.is_right()
    site.upstream.rules = OfflinePolicy()
    assert await site.is_right()
    site.upstream.right, site.upstream.rules = None, ALLOWED
    with pytest.raises(OperationError, match="cut off"):
        await site.is_right()


async def test_a_password_that_was_changed_is_forgotten(site):
    """Once it is refused; a new one is remembered at once."""
    assert await site.is_right()
    site.upstream.right = "battery staple"
    assert not await site.is_right()
    assert await site.is_right("battery staple")
    site.upstream.right = None
    assert not await site.is_right()
    assert await site.is_right("battery staple")


async def test_a_clock_that_went_back_remembers_nothing(site):
    """Nobody knows how long ago it was."""
    assert await site.is_right()
    site.upstream.right = None
    site.now_us -= 1
    with pytest.raises(OperationError, match="cut off"):
        await site.is_right()


async def test_what_is_remembered_needs_the_key_of_the_site(spool, site):
    """A stolen spool gives nobody a hash to guess at."""
    assert await site.is_right()
    [(sealed,)] = await spool.reader._all("SELECT sealed FROM verifier")
    assert b"argon2" not in sealed
    other = Site(spool, site.user, key=bytes(31) + b"1")
    other.upstream.right = None
    with pytest.raises(OperationError, match="cut off"):
        await other.is_right()
