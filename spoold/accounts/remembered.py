"""Passwords at a site of people whom a directory knows: asked upstream, or remembered.

The application server is asked, and it asks the directory. What was right is remembered, where the
site's policy allows that: its Argon2id hash, sealed with the key of this site, so that it counts
for some days when nobody can be asked. A password that is refused is remembered no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from spoold.accounts.passwords import Passwords
from spoold.accounts.vault import Vault, VaultError
from spoold.model.errors import OperationError
from spoold.model.offline import OfflinePolicy
from spoold.model.user import User
from spoold.spool import verifiers
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import KeepVerifier

log = structlog.get_logger("spoold.accounts")

DAY_US = 86_400_000_000
WHERE = "directory"  # by which those who wait for a hash are told apart


class Asks(Protocol):
    async def password(self, name: str, password: str) -> bool | None:
        """Whether it is right, as the application server says; None: nobody can be asked."""
        ...

    async def policy(self) -> OfflinePolicy: ...


class Remembered:
    """Takes the place of `Elsewhere` at a site."""

    def __init__(
        self,
        asks: Asks,
        passwords: Passwords,
        vault: Vault,
        journal: Journal,
        reader: SqliteReader,
        wall_clock: Callable[[], int],
    ) -> None:
        self._asks = asks
        self._passwords = passwords
        self._vault = vault
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock

    async def is_right(self, user: User, password: str) -> bool:
        """Whether this is the password of a user who has none here.

        Raises:
            OperationError: `busy`: nobody can be asked, and nothing is remembered.
        """
        policy = await self._asks.policy()
        is_right = await self._asks.password(user.name, password)
        if is_right is None:
            return await self._as_before(user, password, policy)
        await self._remember(user, password, is_right and policy.passwords, is_right)
        return is_right

    async def _as_before(self, user: User, password: str, policy: OfflinePolicy) -> bool:
        found = await self._find(user) if policy.passwords else None
        age_us = -1 if found is None else self._wall_clock() - found[1]
        if found is None or not 0 <= age_us <= policy.password_days * DAY_US:
            raise OperationError(
                "busy",
                "this site is cut off, and cannot ask whether the password is right.",
                "Try again later, or log in by card or PIN.",
            )
        is_right = await self._passwords.verify(found[0], password, WHERE)
        if is_right:
            log.info("login_remembered", user=user.name)
        return is_right

    async def _remember(self, user: User, password: str, keeps: bool, is_right: bool) -> None:
        found = await self._find(user)
        if not keeps:
            # Somebody who tries a wrong one must not make the site forget the right one.
            if found is None or (
                not is_right and not await self._passwords.verify(found[0], password, WHERE)
            ):
                return
            await self._journal.commit(KeepVerifier(user.guid, None, self._wall_clock()))
            return
        now_us = self._wall_clock()
        is_fresh = found is not None and 0 <= now_us - found[1] < DAY_US
        if found and is_fresh and await self._passwords.verify(found[0], password, WHERE):
            return
        sealed = self._vault.seal(
            (await self._passwords.hash(password)).encode("ascii"), user.guid.bytes
        )
        await self._journal.commit(KeepVerifier(user.guid, sealed, now_us))

    async def _find(self, user: User) -> tuple[str, int] | None:
        """The hash that is remembered, and since when."""
        found = await self._reader.look(verifiers.find, user.guid)
        if found is None:
            return None
        try:
            return self._vault.open(found.sealed, user.guid.bytes).decode(
                "ascii"
            ), found.verified_us
        except VaultError:
            return None
