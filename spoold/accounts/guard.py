"""Who has to wait before the next login: one mechanism for passwords, cards and PINs.

Failures count by account, by account at a place where it has come in before ("at home"), by place
(an address or a machine), by card when its PIN is wrong, and, for cards and PINs alone, which name
no account, over the whole node. What counts is written before a failure is answered, together with
the others of that moment: whoever stops or kills the daemon in between gains nothing by it, and
tries that are made to wait, or that succeed, write nothing. Keys are keyed hashes: what is kept
names neither people nor addresses.

Beside a short burst, what all machines of a node together may try of PINs is one in five minutes,
some 330 a day; of the PINs beside one card it is one an hour, some 40 a day. Who logs in rightly
pays a quarter of a failure back, once an hour each, so that the typing errors of a large house,
which come with many logins, never add up to a wait; whoever guesses among them has a quarter of
their number, no more. `release/README.md` says what chance that leaves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import StrEnum
from math import ceil
from typing import NamedTuple
from uuid import UUID

import trio

from spoold.accounts.throttle import Throttle
from spoold.model.card import Digests
from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.spool import people
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import Change, KeepThrottles

# How often failures cost nothing: a typing error or two, an office behind one address.
FREE_AT_HOME = 5
FREE_OF_ACCOUNT = 10
FREE_OF_ADDRESS = 20
FREE_OF_MACHINE = 10
FREE_OF_MACHINE_PINS = 5
FREE_OF_CARD = 5
FREE_OF_CARDS = 100
FREE_OF_PINS = 30
CARDS_LONGEST_S = 60.0
PINS_LONGEST_S = 300.0
CARD_LONGEST_S = 3600.0
MACHINES = 5  # so many together are as fast as the whole node may be
HOUR_S = 3600.0
NODE_FORGETS_S = 6 * HOUR_S
CARD_FORGETS_S = 24 * HOUR_S
PAYS_BACK_S = HOUR_S
PAID_BACK = 0.25  # of a failure
PEOPLE_MAX = 16_384
HOMES_MAX = 16_384
HOME_S = 60 * 86400.0  # a place where somebody has not come in for so long is no home
KEPT_S = 90 * 86400.0
ROWS_MAX = 65_536
TIDY_AFTER_ROWS = 1000


class Kind(StrEnum):
    """What failures are counted of; the value stands in the table."""

    ACCOUNT = "account"
    HOME = "home"  # an account at a place where it has come in before
    ADDRESS = "address"  # a place, for passwords
    MACHINE = "machine"  # a place, for cards
    MACHINE_PINS = "machine-pins"  # a place, for PINs alone: cards there do not wait for them
    CARD = "card"  # the PINs of one person, beside a card
    CARDS = "cards"  # all cards that nobody has, over the whole node
    PINS = "pins"


KNOWN = "known"  # rows of the table that say where an account is at home


class Key(NamedTuple):
    kind: Kind
    key: bytes


def _throttles() -> dict[Kind, Throttle]:
    return {
        Kind.ACCOUNT: Throttle(FREE_OF_ACCOUNT),
        Kind.HOME: Throttle(FREE_AT_HOME),
        Kind.ADDRESS: Throttle(FREE_OF_ADDRESS),
        Kind.MACHINE: Throttle(
            FREE_OF_MACHINE, longest_s=MACHINES * CARDS_LONGEST_S, forget_s=HOUR_S
        ),
        Kind.MACHINE_PINS: Throttle(
            FREE_OF_MACHINE_PINS, longest_s=MACHINES * PINS_LONGEST_S, forget_s=HOUR_S
        ),
        Kind.CARD: Throttle(FREE_OF_CARD, longest_s=CARD_LONGEST_S, forget_s=CARD_FORGETS_S),
        Kind.CARDS: Throttle(FREE_OF_CARDS, longest_s=CARDS_LONGEST_S, forget_s=NODE_FORGETS_S),
        Kind.PINS: Throttle(FREE_OF_PINS, longest_s=PINS_LONGEST_S, forget_s=NODE_FORGETS_S),
    }


class Guard:
    """The throttles of a node.

    Waits are measured by Trio's clock, and between two runs by `wall_clock`; one that went back
    makes nobody wait less.
    """

    def __init__(
        self,
        reader: SqliteReader,
        journal: Journal,
        digests: Digests,
        wall_clock: Callable[[], int],
    ) -> None:
        self._reader = reader
        self._journal = journal
        self._digests = digests
        self._wall_clock = wall_clock
        self._throttles = _throttles()
        self._homes: OrderedDict[bytes, None] = OrderedDict()
        self._paid: OrderedDict[UUID, float] = OrderedDict()
        self._rows = 0

    async def start(self) -> None:
        """Go on where the last run ended."""
        now_us, now_s = self._wall_clock(), trio.current_time()
        since_us = now_us - int(KEPT_S * 1e6)
        kept = await self._reader.look(people.throttles, since_us, ROWS_MAX)
        for kind, key, count, last_us in kept:
            age_s = max(0.0, (now_us - last_us) / 1e6)
            if kind == KNOWN:
                if age_s < HOME_S:
                    _keep(self._homes, key)
            elif kind in self._throttles:
                self._throttles[Kind(kind)].restore(key, count, now_s - age_s)

    def key(self, kind: Kind, *parts: str) -> Key:
        return Key(kind, self._digests.key_of("\0".join((kind, *parts))))

    def check(self, *keys: Key) -> None:
        """Let a try pass.

        Raises:
            OperationError: `busy`: one of these has to wait.
        """
        now_s = trio.current_time()
        wait_s = max(self._throttles[kind].wait_s(key, now_s) for kind, key in keys)
        if wait_s > 0:
            raise OperationError(
                "busy", "too many logins were refused.", f"Try again in {ceil(wait_s)} s."
            )

    def note(self, *keys: Key) -> None:
        """These have failed, or try: a try is a failure until it is `forgive`n."""
        now_s = trio.current_time()
        for kind, key in keys:
            self._throttles[kind].note(key, now_s)

    def forgive(self, *keys: Key) -> None:
        for kind, key in keys:
            self._throttles[kind].forgive(key)

    def forget(self, *keys: Key) -> None:
        """These have never failed, also after a restart; nobody waits for that to be written."""
        failed = [one for one in keys if self._throttles[one.kind].count(one.key)]
        for kind, key in failed:
            self._throttles[kind].forget(key)
        self._hand_over([(kind.value, key, 0, self._wall_clock()) for kind, key in failed])

    def pay_back(self, person: UUID, *keys: Key) -> None:
        """Somebody came in rightly: a part of a failure of each of these counts no more."""
        now_s = trio.current_time()
        if now_s - self._paid.get(person, float("-inf")) < PAYS_BACK_S:
            return
        self._paid[person] = now_s
        self._paid.move_to_end(person)
        if len(self._paid) > PEOPLE_MAX:
            self._paid.popitem(last=False)
        for kind, key in keys:
            self._throttles[kind].forgive(key, PAID_BACK)

    def is_home(self, name: str, place: str) -> bool:
        return self._home(name, place) in self._homes

    def make_home(self, name: str, place: str) -> None:
        """This account has come in from there. It is kept when it is, and nobody waits for it."""
        key = self._home(name, place)
        if _keep(self._homes, key):
            self._hand_over([(KNOWN, key, 0, self._wall_clock())])

    def _home(self, name: str, place: str) -> bytes:
        return self._digests.key_of("\0".join((KNOWN, name, place)))

    async def keep(self, keys: Sequence[Key], more: Sequence[Change] = ()) -> None:
        """Return when it is durable that these have failed, and what `more` says of it."""
        now_us = self._wall_clock()
        rows = [(kind.value, key, self._throttles[kind].count(key), now_us) for kind, key in keys]
        try:
            await self._journal.commit_all([self._change(rows), *more])
        except StoreFailed:
            raise
        except SpoolError:
            pass  # spoold stops

    def _hand_over(self, rows: list[tuple[str, bytes, int, int]]) -> None:
        if not rows:
            return
        try:
            self._journal.hand_over([self._change(rows)])
        except StoreFailed:
            raise
        except SpoolError:
            pass  # spoold stops

    def _change(self, rows: list[tuple[str, bytes, int, int]]) -> KeepThrottles:
        self._rows += len(rows)
        before_us = None
        if self._rows >= TIDY_AFTER_ROWS:
            self._rows, before_us = 0, self._wall_clock() - int(KEPT_S * 1e6)
        return KeepThrottles(tuple(rows), before_us)


def _keep(homes: OrderedDict[bytes, None], key: bytes) -> bool:
    """Put it last; the first goes when there are too many. Answers whether it is new."""
    is_new = key not in homes
    homes[key] = None
    homes.move_to_end(key)
    if len(homes) > HOMES_MAX:
        homes.popitem(last=False)
    return is_new
