"""Logins by name and password over the network: who comes in, and what is remembered of it.

In: a name and a password as a client sent them, and its address. Out: a `Principal` with the roles
of the user as they are at this moment, or an `OperationError`. IPP clients send both with every
request, so a right pair is remembered for a while, and a wrong one too, each as an HMAC under a key
that this process alone has; whatever changes the user forgets both. What is not remembered is
looked at by `accounts/authentication.py`, which also says who has to wait: by address, by name, and
by both together. Where a user has logged in from before, only failures of that user from there
count: nobody locks others out by guessing.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog
import trio

from spoold.accounts.authentication import (
    TEXT_CHARACTERS_MAX,
    Authentication,
    Credential,
    unauthorized,
)
from spoold.intake.listener import counted
from spoold.model.errors import OperationError
from spoold.model.person import normalise_name
from spoold.model.principal import Port, Principal, Role
from spoold.model.user import PASSWORD_CHARACTERS_MAX, User, normalise_password
from spoold.spool.journal import Journal
from spoold.spool.store import Event, UserChanged

log = structlog.get_logger("spoold.daemon")

REMEMBERED_S = 300.0
REMEMBERED_MAX = 16_384
WRONG_MAX = 4_096
EVERY_USER = frozenset({Role.USER, Role.ANYBODY})

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Right:
    """The password of a user that was right until `until` (Trio's clock)."""

    digest: bytes = field(repr=False)
    user: User
    until: float


class Visitors(Protocol):
    """The part of `site.visitors.Visitors` that is used here."""

    async def fetch(self, credential: Credential, where: str) -> bool: ...
    async def is_known(self, credential: Credential) -> bool: ...


class Logins:
    """Follows changes of users by the journal's events; `visitors` copies people to a site."""

    def __init__(
        self, authentication: Authentication, journal: Journal, visitors: Visitors | None = None
    ) -> None:
        self._authentication = authentication
        self._journal = journal
        self._visitors = visitors
        self._key = os.urandom(32)
        self._changes = 0
        self._right: OrderedDict[str, _Right] = OrderedDict()
        self._wrong: OrderedDict[bytes, str] = OrderedDict()  # -> the name
        self._checking: dict[bytes, trio.Event] = {}
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
            raise unauthorized()
        name = normalise_name(name)
        password = normalise_password(password)
        if not name or not password or len(password) > PASSWORD_CHARACTERS_MAX:
            raise unauthorized()
        digest = self._digest(name, password)
        while True:
            user = self._remembered(name, digest)
            if user is not None:
                return _principal(user, address)
            if digest in self._wrong:
                # A device that keeps an old password tells nothing new, and blocks nobody.
                log.debug("login_refused", client=address, reason="wrong as before")
                raise unauthorized()
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
        changes = self._changes
        try:
            user = await self._authentication.password(name, password, address, counted(address))
        except OperationError as error:
            if error.code != "unauthorized":
                raise
            shown = Credential(name=name, password=password)
            if self._visitors is None or await self._visitors.is_known(shown):
                if changes == self._changes:
                    _keep(self._wrong, digest, name, WRONG_MAX)
                raise
            user = await self._visit(shown, address, self._visitors)
        until = trio.current_time() + REMEMBERED_S  # no checkpoint lies between the two
        _keep(self._right, name, _Right(digest, user, until), REMEMBERED_MAX)
        log.debug("login_succeeded", client=address, user=name)
        return user

    async def _visit(self, shown: Credential, address: str, visitors: Visitors) -> User:
        """Somebody whom this site does not know, and its application server may.

        Raises:
            OperationError: `unauthorized`, now: that nobody could be asked is not remembered.
        """
        if not await visitors.fetch(shown, address):
            raise unauthorized()
        place = counted(address)
        self._authentication.take_back(shown, place)
        return await self._authentication.password(shown.name, shown.password, address, place)


def _principal(user: User, address: str) -> Principal:
    roles = user.free_roles | EVERY_USER
    return Principal(user.identity, Port.TLS, roles, user.name, (), address, "basic", user.scopes)


def _keep(where: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Put it last; the first goes when there are too many."""
    where[key] = value
    where.move_to_end(key)
    if len(where) > most:
        where.popitem(last=False)
