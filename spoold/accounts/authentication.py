"""Who somebody is: by card, by PIN, by card and PIN, or by name and password.

In: a `Credential` and where it was shown (an address, or a machine's identity). Out: the `User` as
of now, or an `OperationError`. What is wrong costs the next tries time (see `guard`), and is told
to the operator and the journal, by key. Names that nobody has are answered like wrong passwords: as
late, in the same words, and with the same waits. Who is disabled is refused, however well proven.

A card number comes converted (`model/card.py`): what it reads like is the reader's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import structlog
import trio

from spoold.accounts.elsewhere import Elsewhere
from spoold.accounts.guard import Guard, Key, Kind
from spoold.accounts.passwords import Passwords
from spoold.accounts.remembered import Remembered
from spoold.accounts.vault import Vault, VaultError
from spoold.model import card as cards
from spoold.model.card import Digests
from spoold.model.errors import OperationError
from spoold.model.person import normalise_name
from spoold.model.record import Kind as RecordKind
from spoold.model.user import PASSWORD_CHARACTERS_MAX, User, is_pin, normalise_password
from spoold.spool import people
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import AddRecord, Change, Event, PutCard, UserChanged

log = structlog.get_logger("spoold.accounts")

# Refused logins are records; a flood of them is one record a second that counts them.
RECORD_INTERVAL_S = 1.0
TRIES = 3
TEXT_CHARACTERS_MAX = 1024  # of a name or password as it comes; nobody has one so long
MACHINE = "device:"  # how the identity of a machine begins


class Method(StrEnum):
    """How somebody has proven who they are."""

    CARD = "card"
    PIN = "pin"
    CARD_AND_PIN = "card+pin"
    PASSWORD = "password"


ALL = frozenset(Method)


@dataclass(frozen=True, slots=True)
class Credential:
    """What somebody shows; what is not shown is empty. `card` is the converted number."""

    card: str = field(default="", repr=False)
    pin: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def method(self) -> Method:
        """Raises:
        OperationError: `bad-request`: this proves nobody.
        """
        shown = (bool(self.card), bool(self.pin), bool(self.name), bool(self.password))
        found = _METHODS.get(shown)
        if found is None:
            raise OperationError(
                "bad-request",
                "this is no way to log in.",
                "Give a card, a PIN, a card and its PIN, or a name and a password.",
            )
        return found


_METHODS = {
    (True, False, False, False): Method.CARD,
    (False, True, False, False): Method.PIN,
    (True, True, False, False): Method.CARD_AND_PIN,
    (False, False, True, True): Method.PASSWORD,
}


@dataclass(frozen=True, slots=True)
class Login:
    user: User
    method: Method


class Authentication:
    """Follows changes of users by the journal's events. `elsewhere` are directories that know the
    passwords of users who have none here, `vault` opens hashes that stand sealed.
    """

    def __init__(
        self,
        reader: SqliteReader,
        journal: Journal,
        passwords: Passwords,
        digests: Digests,
        guard: Guard,
        wall_clock: Callable[[], int],
        elsewhere: Elsewhere | Remembered | None = None,
        vault: Vault | None = None,
    ) -> None:
        self._reader = reader
        self._journal = journal
        self._passwords = passwords
        self._digests = digests
        self._guard = guard
        self._wall_clock = wall_clock
        self._elsewhere = elsewhere
        self._vault = vault
        self._changes = 0
        # One look-up of each kind at a time: what tries at once is counted one after the other.
        self._turns = {kind: trio.Lock() for kind in (Kind.CARDS, Kind.PINS)}
        self._refused = 0
        self._recorded_at = float("-inf")
        journal.listen(self._hear)

    async def start(self) -> None:
        await self._guard.start()

    def close(self) -> None:
        self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        self._changes += any(type(event) is UserChanged for event in events)

    async def authenticate(
        self,
        credential: Credential,
        where: str,
        methods: frozenset[Method] = ALL,
        node: str = "",
    ) -> Login:
        """Who this is. `where` is the machine or address at which it was shown; `node` whose that
        is, when it is another node's: what fails there counts for that node, and not for this one.

        Raises:
            OperationError: `unauthorized`: wrong, unknown or disabled; `busy`: nothing was looked
                at, it has to wait; `forbidden`: not in this way here; `bad-request`.
        """
        method = credential.method
        if method not in methods:
            ways = ", ".join(sorted(methods))
            raise OperationError("forbidden", f"nobody logs in by {method} here.", f"Use {ways}.")
        if method is Method.PASSWORD:
            user = await self.password(credential.name, credential.password, where)
        else:
            user = await self._identify(credential, where, node)
        log.debug("login_succeeded", client=where, user=user.name, method=method.value)
        return Login(user, method)

    async def associate(self, credential: Credential, where: str, now_us: int) -> Login:
        """Give a new card (`credential.card`) to who proves by the rest to be a user.

        Raises:
            OperationError: as `authenticate`; `conflict`: the card is somebody else's.
        """
        number = _bounded(credential.card, cards.NUMBER_CHARACTERS_MAX)
        if not number:
            raise OperationError("bad-request", "there is no card.", "Put it on the reader.")
        proof = Credential("", credential.pin, credential.name, credential.password)
        login = await self.authenticate(proof, where, ALL - {Method.CARD})
        change = PutCard(
            login.user.name,
            tuple(self._digests.cards(number)),
            "",
            cards.ending(number),
            now_us,
            login.user.identity,
        )
        try:
            user: User = await self._journal.commit(change)
        except OperationError as error:
            if error.code != "conflict":
                raise
            keys = self._places(Kind.CARDS, where)  # who asks so whose cards there are, waits
            self._guard.note(*keys)
            await self._refuse("card-of-another", login.user, where, keys)
            advice = "Ask whoever runs this server."
            raise OperationError("conflict", "this card is somebody else's.", advice) from None
        log.info("card_associated", user=user.name, client=where)
        return Login(user, login.method)

    # -- cards and PINs ------------------------------------------------------------------------

    def _places(self, kind: Kind, where: str, node: str = "") -> tuple[Key, Key]:
        machine = Kind.MACHINE_PINS if kind is Kind.PINS else Kind.MACHINE
        every = self._guard.key(kind, node) if node else self._guard.key(kind)
        return self._guard.key(machine, where), every

    def take_back(self, credential: Credential, where: str) -> None:
        """What was refused at `where` was right, as somebody says who knows: it was no failure."""
        if credential.method is Method.PASSWORD:
            account = self._guard.key(Kind.ACCOUNT, normalise_name(credential.name))
            self._guard.forgive(account, self._guard.key(Kind.ADDRESS, where))
        else:
            kind = Kind.CARDS if credential.card else Kind.PINS
            self._guard.forgive(*self._places(kind, where))

    async def _identify(self, credential: Credential, where: str, node: str) -> User:
        """Whoever has this card or PIN."""
        kind = Kind.CARDS if credential.card else Kind.PINS
        keys = self._places(kind, where, node)
        async with self._turns[kind]:
            self._check(where, *keys)
            found, reason, owner = await self._look(credential)
            if reason:
                self._guard.note(*keys, *owner)
        if found is None or reason:
            await self._refuse(reason, found, where, (*keys, *owner))
            raise _UNKNOWN[reason]()
        if found.disabled:
            await self._refuse("disabled", found, where, ())
            raise _disabled()
        self._guard.pay_back(found.guid, *keys)
        self._guard.forget(*owner)
        return found

    async def _look(self, credential: Credential) -> tuple[User | None, str, tuple[Key, ...]]:
        """The user as of now, why that does not count ("" if it does), and whose failure it is."""
        while True:
            changes = self._changes
            found, reason = await self._find(credential)
            if changes == self._changes:
                break
        if found is None or not (credential.card and credential.pin):
            return found, reason, ()
        owner = self._guard.key(Kind.CARD, str(found.guid))
        self._guard.check(owner)  # also the right PIN has to wait
        return found, reason, (owner,)

    async def _find(self, credential: Credential) -> tuple[User | None, str]:
        if not credential.card:
            if not is_pin(credential.pin):
                return None, "unknown-pin"
            digests = tuple(self._digests.pins(credential.pin))
            found = await self._reader.look(people.by_pin, digests) if digests else None
            return found, "" if found else "unknown-pin"
        number = _bounded(credential.card, cards.NUMBER_CHARACTERS_MAX)
        found = await self._reader.look(people.by_card, tuple(self._digests.cards(number)))
        if found is None:
            return None, "unknown-card"
        if credential.pin:
            pin = credential.pin
            is_right = is_pin(pin) and await self._reader.look(
                people.has_pin,
                found.guid,
                (*self._digests.pins(pin), *self._digests.pins(pin, found.guid)),
            )
            return found, "" if is_right else "wrong-pin"
        return found, ""

    # -- passwords -----------------------------------------------------------------------------

    async def password(self, name: str, password: str, where: str, place: str = "") -> User:
        """The user with this name and password; `place` is what failures count by.

        Raises:
            OperationError: `unauthorized`; or `busy`, and the password was not looked at.
        """
        if len(name) > TEXT_CHARACTERS_MAX or len(password) > TEXT_CHARACTERS_MAX:
            raise unauthorized()
        name, password = normalise_name(name), normalise_password(password)
        if not name or not password or len(password) > PASSWORD_CHARACTERS_MAX:
            raise unauthorized()
        guard, place = self._guard, place or where
        address = guard.key(Kind.ADDRESS, place)
        # A try counts as a failure until it is none: many at once are not many free ones.
        if guard.is_home(name, place):
            key = guard.key(Kind.HOME, name, place)
            self._check(where, key)
        else:
            key = guard.key(Kind.ACCOUNT, name)
            self._check(where, key, address)
        guard.note(key)
        try:
            user, is_right = await self._verify(name, password, where)
        except BaseException:
            guard.forgive(key)
            raise
        if user is None or not is_right:
            guard.note(address)
            reason = "wrong-password" if user and user.has_password else "no-password"
            reason = "unknown-user" if user is None else reason
            await self._refuse(reason, user, where, (key, address))
            raise unauthorized()
        guard.forgive(key)
        if user.disabled:
            await self._refuse("disabled", user, where, ())
            raise _disabled()
        guard.forget(guard.key(Kind.HOME, name, place))
        guard.make_home(name, place)
        return user

    async def _verify(self, name: str, password: str, where: str) -> tuple[User | None, bool]:
        """The user as of now, and whether this is the password as of now."""
        user, stored = await self._look_up(name)
        for _ in range(TRIES):
            is_right = await self._passwords.verify(self._opened(user, stored), password, where)
            if user is not None and not stored and self._elsewhere is not None:
                is_right = await self._elsewhere.is_right(user, password)
            verified = stored
            user, stored = await self._look_up(name)
            if stored == verified:
                return user, is_right
        raise OperationError("busy", "this user is being changed.", "Try again in a moment.")

    def _opened(self, user: User | None, stored: str) -> str:
        """The hash of a password; "" when this node's key does not open it."""
        if user is None or self._vault is None:
            return stored
        try:
            return self._vault.open_text(stored, user.guid.bytes)
        except VaultError as error:
            log.error("password_not_opened", user=user.name, reason=str(error))
            return ""

    async def _look_up(self, name: str) -> tuple[User | None, str]:
        """The user and the hash of the password, with no change behind them that was heard of."""
        while True:
            changes = self._changes
            found = await self._reader.user_and_password(name)
            if changes == self._changes:
                return found or (None, "")

    # -- refusals ------------------------------------------------------------------------------

    def _check(self, where: str, *keys: Key) -> None:
        try:
            self._guard.check(*keys)
        except OperationError:
            self._refused += 1
            log.debug("login_refused", client=where, reason="too many before")
            raise

    async def _refuse(
        self, reason: str, user: User | None, where: str, keys: tuple[Key, ...]
    ) -> None:
        """Tell the operator, and the journal now and then; return when the failure is kept.

        What was typed as a name is told only when it is one: else it may be a password.
        """
        known = {"user": user.name} if user else {}
        log.warning("login_refused", client=where, reason=reason, **known)
        self._refused += 1
        more: list[Change] = []
        now = trio.current_time()
        if now - self._recorded_at >= RECORD_INTERVAL_S:
            count, self._refused, self._recorded_at = self._refused, 0, now
            person = user.guid.bytes if user else None
            payload = {"reason": reason, "person": person, "count": count}
            personal = dict(known)
            if where.startswith(MACHINE):
                payload["device"] = where
            else:
                personal["address"] = where
            now_us = self._wall_clock()
            more.append(AddRecord(RecordKind.LOGIN_REFUSED, payload, now_us, "client", personal))
        if keys or more:
            await self._guard.keep(keys, more)


def _bounded(text: str, most: int) -> str:
    """Raises:
    OperationError: `unauthorized`: nobody has one so long.
    """
    if len(text) > most:
        raise _unknown_card()
    return text


def unauthorized() -> OperationError:
    return OperationError(
        "unauthorized", "name and password are wrong.", "Ask whoever runs this server for yours."
    )


def _disabled() -> OperationError:
    return OperationError("unauthorized", "this user is disabled.", "Ask whoever runs this server.")


def _unknown_card() -> OperationError:
    return OperationError(
        "unauthorized",
        "this card is not known.",
        "Log in without it; make it yours, or ask whoever runs this server to.",
    )


def _wrong_pin() -> OperationError:
    return OperationError("unauthorized", "the PIN is wrong.", "Ask whoever runs this server.")


_UNKNOWN = {
    "unknown-card": _unknown_card,
    "unknown-pin": _wrong_pin,
    "wrong-pin": _wrong_pin,
}
