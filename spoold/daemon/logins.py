"""Logins by name and password: who comes in, who is refused, and who has to wait.

In: a name and a password as a client sent them, and its address. Out: a `Principal` with the roles
of the user as they are at this moment, or an `OperationError`. IPP clients send both with every
request, so a right pair is remembered for a while, and a wrong one too, each as an HMAC under a key
that this process alone has; whatever changes the user forgets both. Names that nobody has are
answered like wrong passwords: as late, in the same words, and with the same waits.

Failures make the next try wait: by address, by name, and by both together. Where a user has logged
in from before, only failures of that user from there count: nobody locks others out by guessing.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

import structlog
import trio

from spoold.daemon.passwords import Passwords
from spoold.daemon.throttle import Throttle
from spoold.intake.listener import counted
from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.model.person import normalise_name
from spoold.model.principal import Port, Principal, Role
from spoold.model.record import Kind
from spoold.model.user import PASSWORD_CHARACTERS_MAX, User, normalise_password
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import AddRecord, Event, UserChanged

log = structlog.get_logger("spoold.daemon")

REMEMBERED_S = 300.0
REMEMBERED_MAX = 16_384
WRONG_MAX = 4_096
HOMES_MAX = 16_384
# How often failures cost nothing: a typing error or two, an office behind one address.
FREE_AT_HOME = 5
FREE_OF_NAME = 10
FREE_OF_ADDRESS = 20
# Refused logins are records; a flood of them is one record a second that counts them.
RECORD_INTERVAL_S = 1.0
TRIES = 3
TEXT_CHARACTERS_MAX = 1024  # of a name or password as it comes; nobody has one so long
EVERY_USER = frozenset({Role.USER, Role.ANYBODY})

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Right:
    """The password of a user that was right until `until` (Trio's clock)."""

    digest: bytes = field(repr=False)
    user: User
    until: float


class Logins:
    """Follows changes of users by the journal's events."""

    def __init__(
        self,
        reader: SqliteReader,
        journal: Journal,
        passwords: Passwords,
        wall_clock: Callable[[], int],
    ) -> None:
        self._reader = reader
        self._journal = journal
        self._passwords = passwords
        self._wall_clock = wall_clock
        self._key = os.urandom(32)
        self._changes = 0
        self._right: OrderedDict[str, _Right] = OrderedDict()
        self._wrong: OrderedDict[bytes, str] = OrderedDict()  # -> the name
        self._checking: dict[bytes, trio.Event] = {}
        self._homes: OrderedDict[tuple[str, str], None] = OrderedDict()  # name, address
        self._by_both = Throttle(FREE_AT_HOME)
        self._by_name = Throttle(FREE_OF_NAME)
        self._by_address = Throttle(FREE_OF_ADDRESS)
        self._refused = 0
        self._recorded_at = float("-inf")
        journal.listen(self._hear)

    def close(self) -> None:
        self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is UserChanged:
                self._changes += 1
                self._right.pop(event.name, None)
                for digest in [d for d, name in self._wrong.items() if name == event.name]:
                    del self._wrong[digest]

    async def login(self, name: str, password: str, address: str) -> Principal:
        """The user with this name and password. Cheap for one who has just logged in.

        Raises:
            OperationError: `unauthorized`; or `busy`, and the password was not looked at.
        """
        if len(name) > TEXT_CHARACTERS_MAX or len(password) > TEXT_CHARACTERS_MAX:
            raise _unauthorized()
        name = normalise_name(name)
        password = normalise_password(password)
        if not name or not password or len(password) > PASSWORD_CHARACTERS_MAX:
            raise _unauthorized()
        digest = self._digest(name, password)
        while True:
            user = self._remembered(name, digest)
            if user is not None:
                return _principal(user, address)
            if digest in self._wrong:
                # A device that keeps an old password tells nothing new, and blocks nobody.
                log.debug("login_refused", client=address, reason="wrong as before")
                raise _unauthorized()
            checking = self._checking.get(digest)
            if checking is None:
                break
            await checking.wait()
        checking = self._checking[digest] = trio.Event()
        try:
            user = await self._check(name, password, digest, address)
        finally:
            del self._checking[digest]
            checking.set()
        return _principal(user, address)

    def _digest(self, name: str, password: str) -> bytes:
        """The two behind a keyed hash; a normalised name has no control characters."""
        both = f"{name}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, both, "sha256")

    def _remembered(self, name: str, digest: bytes) -> User | None:
        right = self._right.get(name)
        if right is None or not hmac.compare_digest(right.digest, digest):
            return None
        if trio.current_time() >= right.until:
            del self._right[name]
            return None
        return right.user

    async def _check(self, name: str, password: str, digest: bytes, address: str) -> User:
        """Look at the password, and remember what came out."""
        here = (name, counted(address))
        is_home = here in self._homes
        # A try counts as a failure until it is none: many at once are not many free ones.
        throttle, key = (self._by_both, here) if is_home else (self._by_name, name)
        now = trio.current_time()
        wait_s = throttle.wait_s(key, now)
        if not is_home:
            wait_s = max(wait_s, self._by_address.wait_s(here[1], now))
        if wait_s > 0:
            self._refused += 1
            log.debug("login_refused", client=address, reason="too many before")
            raise OperationError(
                "busy", "too many logins were refused.", f"Try again in {ceil(wait_s)} s."
            )
        throttle.note(key, now)
        try:
            user, is_right = await self._verify(name, password, address)
        except BaseException:
            throttle.forgive(key)
            raise
        if user is None or not is_right:
            self._by_address.note(here[1], trio.current_time())
            _keep(self._wrong, digest, name, WRONG_MAX)
            await self._refuse(user, address)
            raise _unauthorized()
        throttle.forgive(key)
        self._by_both.forget(here)
        _keep(self._homes, here, None, HOMES_MAX)
        until = trio.current_time() + REMEMBERED_S
        _keep(self._right, name, _Right(digest, user, until), REMEMBERED_MAX)
        log.debug("login_succeeded", client=address, user=name)
        return user

    async def _verify(self, name: str, password: str, address: str) -> tuple[User | None, bool]:
        """The user as of now, and whether this is the password as of now."""
        user, stored = await self._look_up(name)
        for _ in range(TRIES):
            is_right = await self._passwords.verify(stored, password, address)
            verified = stored
            user, stored = await self._look_up(name)
            if stored == verified:
                return user, is_right
        raise OperationError("busy", "this user is being changed.", "Try again in a moment.")

    async def _look_up(self, name: str) -> tuple[User | None, str]:
        """The user and the hash of the password, with no change behind them that was heard of."""
        while True:
            changes = self._changes
            found = await self._reader.user_and_password(name)
            if changes == self._changes:
                return found or (None, "")

    async def _refuse(self, user: User | None, address: str) -> None:
        """Tell the operator, and the journal now and then.

        What was typed as a name is told only when it is one: else it may be a password.
        """
        reason = "wrong-password"
        if user is None:
            reason = "unknown-user"
        elif not user.has_password:
            reason = "no-password"
        known = {"user": user.name} if user else {}
        log.warning("login_refused", client=address, reason=reason, **known)
        self._refused += 1
        now = trio.current_time()
        if now - self._recorded_at < RECORD_INTERVAL_S:
            return
        count, self._refused, self._recorded_at = self._refused, 0, now
        payload = {"reason": reason, "person": user.guid.bytes if user else None, "count": count}
        try:
            await self._journal.commit(
                AddRecord(
                    Kind.LOGIN_REFUSED,
                    payload,
                    self._wall_clock(),
                    "client",
                    {"address": address, **known},
                )
            )
        except StoreFailed:
            raise
        except SpoolError:
            pass  # spoold stops


def _principal(user: User, address: str) -> Principal:
    return Principal(
        user.identity, Port.TLS, user.roles | EVERY_USER, user.name, (), address, "basic"
    )


def _unauthorized() -> OperationError:
    return OperationError(
        "unauthorized", "name and password are wrong.", "Ask whoever runs this server for yours."
    )


def _keep(where: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Put it last; the first goes when there are too many."""
    where[key] = value
    where.move_to_end(key)
    if len(where) > most:
        where.popitem(last=False)
