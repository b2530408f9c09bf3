"""Double entry: every posting is a record, its amounts add up to zero, and its key posts once.

The amounts of an entry move between purses of holders and those of the ledger itself: `cash` (what
was paid in, below zero), `given` (allowances and credit), `revenue`, `reserved`, `suspense`
(what other nodes charged to nobody who is known here, below zero) and `rights` (at a site: what its
application server granted). A purse has the same key on every node. A record of an entry says all
that another one needs to book it, the purses that it opens among them.

Allowances are granted when somebody looks at a wallet to spend from it, for the period in which
the work happened: no timer can miss one, and a late charge finds the period that it belongs to.
What that has handed on to later ones pays for it, too, and is not granted once more; so it is of
the present for as long as only a clock that was ahead has begun a later one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from spoold.model.errors import OperationError
from spoold.model.purse import (
    EVERYBODY,
    Allowance,
    Payer,
    PayerKind,
    Purse,
    PurseKind,
    Share,
    Terms,
    Wallet,
    carried,
    grant_purse,
    named,
    span_at,
)
from spoold.model.record import Kind
from spoold.spool import accounts, leases
from spoold.spool.rows import unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

LEDGER = UUID(int=0)  # the holder of the ledger's own purses


class Own(StrEnum):
    """The ledger's own purses."""

    CASH = "cash"
    GIVEN = "given"
    REVENUE = "revenue"
    RESERVED = "reserved"
    SUSPENSE = "suspense"
    RIGHTS = "rights"

    @property
    def guid(self) -> UUID:
        return named(LEDGER, self.value)


class Line(NamedTuple):
    """What an entry adds to the balance of a purse."""

    purse: UUID
    amount: int


@dataclass(slots=True)
class Grant:
    """An allowance of a period that is to be granted, with the entry that does it."""

    allowance: Allowance
    purse: Purse
    lines: list[Line]


@dataclass(slots=True)
class Opened:
    """A wallet as it will be when the `grants` that are due are booked."""

    wallet: Wallet
    grants: list[Grant] = field(default_factory=list)


# -- wallets -----------------------------------------------------------------------------------


def terms(db: sqlite3.Connection) -> Terms:
    row = db.execute("SELECT fields FROM terms").fetchone()
    return Terms() if row is None else Terms(**unpack(row[0]))


def open_wallet(db: sqlite3.Connection, kind: PayerKind, holder: UUID, at_us: int) -> Opened:
    """The wallet of a holder for what happens at a moment, with all allowances of that time.

    Raises:
        OperationError: `not-found`, `not-possible`: there is no such account, or it is closed.
    """
    house = terms(db)
    limit, recipients = _standing(db, kind, holder, house)
    lease = leases.own(db)
    every = purses_of(db, holder)
    purses = [one for one in every if one.counts_at(at_us)]
    if lease is not None:
        return Opened(leases.wallet_at_site(db, lease, holder, purses, limit, at_us))
    opened = Opened(Wallet(holder, tuple(purses), limit))
    known, zone = {one.guid for one in purses}, ZoneInfo(house.zone)
    later = sorted((one for one in every if one.from_us > at_us), key=lambda one: one.from_us)
    for allowance in allowances(db, recipients):
        span = span_at(allowance.period, at_us, zone)
        purse = grant_purse(allowance, span, holder)
        before, own = 0, 0
        if later and allowance.carry_over:
            before, own = _look_back(db, opened, allowance, purse, every, later, zone)
        if purse.guid not in known and span.until_us > allowance.from_us:
            _grant(db, opened, allowance, purse, zone, at_us, before, own)
    return opened


def spare_of(db: sqlite3.Connection, payer: Payer) -> Payer | None:
    """The open account that pays where this payer cannot, if there is one."""
    guid = terms(db).spare_account
    account = accounts.by_guid(db, UUID(guid)) if guid else None
    if account is None or not account.is_open or payer.kind is PayerKind.ACCOUNT:
        return None
    return Payer(PayerKind.ACCOUNT, account.guid, "limit", payer.guid)


def _grant(
    db: sqlite3.Connection,
    opened: Opened,
    allowance: Allowance,
    purse: Purse,
    zone: ZoneInfo,
    at_us: int,
    before: int,
    own: int,
) -> None:
    """Plan the grant of an allowance, and what comes along from the period before. A period behind
    this one may have had of those `before` it, and for its `own`, already.
    """
    span = span_at(allowance.period, at_us, zone)
    carry = carried(allowance, span, purse.holder, zone, lambda guid: _balance(db, guid))
    room = max(0, allowance.carry_over - before)
    moved = min(carry.moved, room)
    given = allowance.amount + min(carry.given, room - moved)
    shares = opened.wallet.receive(purse, moved + given - own)
    lines = [Line(one.purse, -one.amount) for one in shares]
    if carry.purse is not None and moved:
        lines.append(Line(carry.purse, -moved))
    # All that there is for this period, and of it what was given before: see `came_along`.
    lines += [Line(Own.GIVEN.guid, -given), Line(Own.GIVEN.guid, own)]
    opened.wallet = opened.wallet.after(shares, (purse,))
    opened.grants.append(Grant(allowance, purse, lines))


def _look_back(
    db: sqlite3.Connection,
    opened: Opened,
    allowance: Allowance,
    purse: Purse,
    every: list[Purse],
    later: list[Purse],
    zone: ZoneInfo,
) -> tuple[int, int]:
    """What periods that were granted already, behind that of a purse, have of it and of those
    before it pays for it, too. How much the first of them had of those before it, and how much for
    this period, as one in which nobody had asked: for the last of such it had it first.
    """
    of_it = [one for one in every if one.allowance == allowance.guid]
    later = [one for one in later if one.allowance == allowance.guid]
    if not later:
        return 0, 0
    after, until_us, between = later[0], purse.until_us, 0
    given = came_along(db, allowance, after, [])
    while between < given and until_us is not None and until_us < after.from_us:
        until_us = span_at(allowance.period, until_us, zone).until_us
        between += allowance.amount
    of_others = min(given, between)  # had for periods since then
    most = came_along(db, allowance, after, of_it) - of_others
    own = min(given - of_others, allowance.amount)
    before = most - own
    for one in later:
        part = min(most, one.balance, came_along(db, allowance, one, of_it))
        if part <= 0:
            break
        opened.wallet = opened.wallet.after((), (replace(one, balance=part),))
        most -= part
    return before, own


def came_along(
    db: sqlite3.Connection, allowance: Allowance, purse: Purse, of_it: Iterable[Purse]
) -> int:
    """How much of the periods before is in what a purse was given: out of the purses of these, and
    for those in which nobody had asked. By the allowance as it is now, if somebody has changed it.
    """
    others = [one.guid.bytes for one in of_it if one.guid != purse.guid]
    sources = [Own.GIVEN.guid.bytes, *others]
    late = carry_key(purse)
    (given,) = db.execute(
        "SELECT coalesce(sum(-posting.amount), 0) FROM entry JOIN posting ON entry_id = entry.id "
        "JOIN purse ON purse.id = purse_id WHERE (entry.key = ? OR (entry.key > ? AND "
        f"entry.key < ?)) AND purse.guid IN ({', '.join('?' * len(sources))}) "
        "AND posting.amount < 0",
        (b"grant/" + purse.guid.bytes, late, late[:-1] + b"0", *sources),
    ).fetchone()
    return min(max(0, int(given) - allowance.amount), allowance.carry_over)


def carry_key(purse: Purse) -> bytes:
    """With what keys of postings begin by which something late is carried over into a purse."""
    return b"carry/" + purse.guid.bytes + b"/"


def _standing(
    db: sqlite3.Connection, kind: PayerKind, holder: UUID, house: Terms
) -> tuple[int | None, list[str]]:
    """How far a holder may go below zero (None: without end), and as what allowances name it."""
    if kind is PayerKind.ACCOUNT:
        account = accounts.by_guid(db, holder)
        if account is None:
            raise OperationError(
                "not-found", "there is no such account any more.", "See `spoold account list`."
            )
        if not account.is_open:
            raise OperationError(
                "not-possible", f"the account {account.name} is closed.", "Choose another one."
            )
        return account.limit, [f"account:{holder}"]
    recipients = [EVERYBODY, f"person:{holder}"]
    # The fields of the directory as `users` packs them; that module stands above this one.
    row = db.execute(
        "SELECT directory.fields FROM directory JOIN person ON person.id = directory.person_id "
        "WHERE person.key = ?",
        (holder.bytes,),
    ).fetchone()
    found: dict[str, Any] = unpack(row[0]) if row else {}
    recipients += [f"group:{group}" for group in found.get("groups", ())]
    if not found.get("restricted", True):
        return None, recipients
    own = found.get("overdraft")
    return (house.overdraft if own is None else own), recipients


def purses_of(db: sqlite3.Connection, holder: UUID) -> list[Purse]:
    """All purses of a holder, those of past periods among them."""
    rows = db.execute(
        "SELECT kind, balance, allowance, period, from_us, until_us FROM purse WHERE holder = ?",
        (holder.bytes,),
    )
    return [
        Purse(
            holder,
            PurseKind(kind),
            balance,
            None if allowance is None else UUID(bytes=allowance),
            period,
            from_us,
            until_us,
        )
        for kind, balance, allowance, period, from_us, until_us in rows
    ]


def allowances(db: sqlite3.Connection, recipients: Sequence[str]) -> list[Allowance]:
    marks = ",".join("?" * len(recipients))
    rows = db.execute(
        f"SELECT fields FROM allowance WHERE recipient IN ({marks}) ORDER BY guid", recipients
    )
    return [Allowance.from_map(unpack(row[0])) for row in rows]


def allowance(db: sqlite3.Connection, guid: UUID) -> Allowance | None:
    row = db.execute("SELECT fields FROM allowance WHERE guid = ?", (guid.bytes,)).fetchone()
    return None if row is None else Allowance.from_map(unpack(row[0]))


def allowance_page(db: sqlite3.Connection, after: bytes, limit: int) -> list[Allowance]:
    """At most `limit` allowances of all recipients, behind a guid."""
    rows = db.execute(
        "SELECT fields FROM allowance WHERE guid > ? ORDER BY guid LIMIT ?", (after, limit)
    )
    return [Allowance.from_map(unpack(row[0])) for row in rows]


def _balance(db: sqlite3.Connection, purse: UUID) -> int | None:
    row = db.execute("SELECT balance FROM purse WHERE guid = ?", (purse.bytes,)).fetchone()
    return None if row is None else int(row[0])


# -- entries -----------------------------------------------------------------------------------


def lines_of(shares: Iterable[Share]) -> list[Line]:
    """What purses gave, as lines of an entry."""
    return [Line(one.purse, -one.amount) for one in shares]


def is_posted(db: sqlite3.Connection, key: bytes) -> bool:
    return db.execute("SELECT 1 FROM entry WHERE key = ?", (key,)).fetchone() is not None


def post_grants(writer: SqliteStore, opened: Opened, now_us: int) -> None:
    """Book the allowances that a wallet was opened with."""
    for grant in opened.grants:
        post(
            writer,
            b"grant/" + grant.purse.guid.bytes,
            "grant",
            opened.wallet,
            grant.lines,
            now_us,
            "node",
            opened=(grant.purse,),
            more={"allowance": grant.allowance.guid.bytes, "period": grant.purse.period},
        )


def post(
    writer: SqliteStore,
    key: bytes,
    cause: str,
    wallet: Wallet,
    lines: Iterable[Line],
    now_us: int,
    actor: str,
    *,
    happened_us: int | None = None,
    opened: Iterable[Purse] = (),
    charge: bytes | None = None,
    reason: str = "",
    more: dict[str, Any] | None = None,
) -> int:
    """Book an entry of the holder of `wallet`, and record it. Returns the record's position.

    The caller has seen that nothing was posted under this key.
    """
    booked = [line for line in lines if line.amount]
    assert sum(line.amount for line in booked) == 0, booked
    # A purse that was opened is there from now on, also when a debt took all that came into it.
    named = {one.guid: one for one in opened}
    for one in map(wallet.purse, (PurseKind.CREDIT, PurseKind.OVERDRAFT)):
        if any(line.purse == one.guid for line in booked):
            named[one.guid] = one
    happened_us = now_us if happened_us is None else happened_us
    position = writer.add_record(
        Kind.LEDGER_POSTED,
        actor,
        now_us,
        {
            "entry": key,
            "cause": cause,
            "payer": wallet.holder.bytes,
            "happened_us": happened_us,
            "lines": [[line.purse.bytes, line.amount] for line in booked],
            "purses": [one.as_map() for one in named.values()],
            **(more or {}),
        },
        {"reason": reason} if reason else None,
    )
    entry_id = writer.db.execute(
        "INSERT INTO entry (key, cause, holder, charge, happened_us, booked_us, actor, reason, "
        "position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key, cause, wallet.holder.bytes, charge, happened_us, now_us, actor, reason, position,
        ),
    ).lastrowid  # fmt: skip
    for guid, purse in named.items():
        _make(writer.db, guid, purse)
    for number, line in enumerate(booked):
        _book(writer.db, entry_id, number, line)
    return position


def _book(db: sqlite3.Connection, entry_id: int | None, number: int, line: Line) -> None:
    """Add a line to its purse; those of the ledger itself are made by their first one."""
    change = (
        "UPDATE purse SET balance = balance + ? WHERE guid = ? RETURNING id, balance",
        (line.amount, line.purse.bytes),
    )
    row = db.execute(*change).fetchone()
    if row is None:
        own = next(one for one in Own if one.guid == line.purse)
        _make(db, line.purse, None, own.value)
        row = db.execute(*change).fetchone()
    db.execute(
        "INSERT INTO posting VALUES (?, ?, ?, ?, ?)",
        (entry_id, number, row[0], line.amount, row[1]),
    )


def _make(db: sqlite3.Connection, guid: UUID, purse: Purse | None, own: str = "") -> None:
    """A purse is there from now on, empty if it was not."""
    if purse is None:
        fields: tuple[Any, ...] = (LEDGER.bytes, own, None, "", 0, None)
    else:
        allowance = None if purse.allowance is None else purse.allowance.bytes
        fields = (
            purse.holder.bytes, purse.kind.value, allowance, purse.period, purse.from_us,
            purse.until_us,
        )  # fmt: skip
    db.execute(
        "INSERT INTO purse (guid, holder, kind, allowance, period, from_us, until_us, balance) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (guid) DO NOTHING",
        (guid.bytes, *fields),
    )


def is_known(db: sqlite3.Connection, payer: Payer) -> bool:
    """Whether a payer is somebody or something that the spool has heard of."""
    table = "account WHERE guid" if payer.kind is PayerKind.ACCOUNT else "person WHERE key"
    found = db.execute(f"SELECT 1 FROM {table} = ?", (payer.guid.bytes,)).fetchone()
    return found is not None
