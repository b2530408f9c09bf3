"""Rights at the site that holds them: they come in as money of its purses, and are spent from them.

What was granted is counted altogether for each epoch: an answer that comes twice, late or in
another order adds nothing. In another epoch what is left of the one before is gone; what is
reserved out of it is owed until its work is settled or given up. So it is with what was in the
books of this node before it became a site: that is in those of its application server now.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.offline import Right, Want
from spoold.model.purse import PayerKind, Purse, PurseKind, Share, Wallet
from spoold.spool import charges, leases, postings, store
from spoold.spool.leases import Lease
from spoold.spool.postings import Line, Own, lines_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

NOTE_US = 60_000_000  # how often the lease notes that time goes on
KEY_BYTES = 16
NEVER_US = 2**63


def keep_rights(writer: SqliteStore, change: store.KeepRights) -> None:
    """See `KeepRights`."""
    granted = change.granted
    before = leases.own(writer.db)
    lease = before or Lease(change.site, is_own=True)
    if change.incarnation != writer.incarnation or granted.epoch < lease.epoch:
        raise OperationError("conflict", "this was asked for before the journal began anew.")
    is_another = granted.epoch > lease.epoch
    lease.epoch = granted.epoch
    lease.from_us = change.asked_us
    lease.until_us = change.asked_us + granted.valid_us
    lease.incarnation = lease.own = writer.incarnation
    lease.upstream = granted.upstream
    lease.policy = granted.policy
    leases.keep(writer.db, lease)
    if before is None:
        leases.close_books(writer.db, change.site)
    elif is_another:
        for holder in _in_debt(writer.db, lease):
            _drop(writer, lease, holder, change.now_us, change.actor)
    by_holder: dict[UUID, list[Right]] = {}
    for right in granted.rights:
        by_holder.setdefault(right.purse.holder, []).append(right)
    for holder, rights in by_holder.items():
        if _is_stale(writer.db, lease, holder):
            _drop(writer, lease, holder, change.now_us, change.actor)
        _receive(writer, lease, holder, rights, change.now_us, change.actor)


def _receive(
    writer: SqliteStore, lease: Lease, holder: UUID, rights: list[Right], now_us: int, actor: str
) -> None:
    """Add to the holder's purses what was granted since the last time."""
    held = leases.granted(writer.db, lease.site, holder, lease.epoch)
    before = {one.purse.guid: one.amount for one in held}
    total = sum(before.values())
    purses = {one.guid: one for one in postings.purses_of(writer.db, holder)}
    wallet = Wallet(holder, tuple(purses.values()))
    lines: list[Line] = []
    opened: list[Purse] = []
    # What ends first fills an overdraft first: that may be what it was granted for.
    for right in sorted(rights, key=lambda one: one.purse.until_us or NEVER_US):
        more = right.amount - before.get(right.purse.guid, 0)
        if more <= 0:
            continue
        local = wallet.purse(right.local.kind) if not right.local.period else right.local
        local = purses.get(local.guid, local)
        shares = wallet.receive(local, more)
        wallet = wallet.after(shares, () if local.guid in purses else (local,))
        purses = {one.guid: one for one in wallet.purses}
        opened.append(local)
        lines += [*lines_of(shares), Line(Own.RIGHTS.guid, -more)]
        leases.note_granted(writer.db, lease.site, lease.epoch, right)
        total += more
    if not lines:
        return
    postings.post(
        writer,
        b"held/" + _address(lease, holder) + total.to_bytes(8, "big"),
        "right",
        wallet,
        lines,
        now_us,
        actor,
        opened=opened,
        more={"epoch": lease.epoch},
    )
    writer.events.append(store.BalanceChanged(holder))


def _drop(writer: SqliteStore, lease: Lease, holder: UUID, now_us: int, actor: str) -> None:
    """What is left of epochs before is gone."""
    purses = postings.purses_of(writer.db, holder)
    wallet = Wallet(holder, tuple(purses))
    owed = wallet.purse(PurseKind.OVERDRAFT).guid
    reserved = charges.reserved_of(writer.db, holder)
    for charge in reserved:
        charges.keep(writer, charge, [Share(owed, charge.reserved)])
    lines = [Line(one.guid, -one.balance) for one in purses]
    lines.append(Line(owed, -sum(one.reserved for one in reserved)))
    lines.append(Line(Own.RIGHTS.guid, -sum(line.amount for line in lines)))
    postings.post(
        writer,
        b"dropped/" + _address(lease, holder),
        "right",
        wallet,
        lines,
        now_us,
        actor,
        more={"epoch": lease.epoch},
    )
    writer.db.execute(
        "DELETE FROM right_granted WHERE site = ? AND holder = ? AND epoch < ?",
        (lease.site.bytes, holder.bytes, lease.epoch),
    )
    writer.events.append(store.BalanceChanged(holder))


def _in_debt(db: sqlite3.Connection, lease: Lease) -> list[UUID]:
    """Who is below zero here and was never granted anything: the policy has let them go so far."""
    rows = db.execute(
        "SELECT holder FROM purse WHERE kind = 'overdraft' AND balance < 0 "
        "AND holder NOT IN (SELECT holder FROM right_granted WHERE site = ?)",
        (lease.site.bytes,),
    )
    return [UUID(bytes=holder) for (holder,) in rows.fetchall()]


def _is_stale(db: sqlite3.Connection, lease: Lease, holder: UUID) -> bool:
    row = db.execute(
        "SELECT 1 FROM right_granted WHERE site = ? AND holder = ? AND epoch < ?",
        (lease.site.bytes, holder.bytes, lease.epoch),
    ).fetchone()
    return row is not None


def _address(lease: Lease, holder: UUID) -> bytes:
    return lease.site.bytes + lease.epoch.to_bytes(4, "big") + holder.bytes


def return_rights(writer: SqliteStore, change: store.ReturnRights) -> int:
    """See `ReturnRights`."""
    lease = _returns(writer.db, change)
    if lease is None:
        return 0
    purses = postings.purses_of(writer.db, change.holder)
    wallet = Wallet(change.holder, tuple(one for one in purses if one.counts_at(change.now_us)))
    amount = wallet.balance - change.keep
    if amount > 0:
        _return(writer, lease, wallet, wallet.spend(amount), change, {})
    return max(0, amount)


def return_over(writer: SqliteStore, change: store.ReturnOver) -> int:
    """See `ReturnOver`."""
    lease = _returns(writer.db, change)
    if lease is None:
        return 0
    purses = postings.purses_of(writer.db, change.holder)
    over = tuple(one for one in purses if one.balance > 0 and _is_over(one, change.before_us))
    shares = [Share(one.guid, one.balance) for one in over]
    if shares:
        _return(writer, lease, Wallet(change.holder, over), shares, change, {"over": True})
    return sum(one.amount for one in shares)


def _is_over(purse: Purse, before_us: int) -> bool:
    return purse.until_us is not None and purse.until_us <= before_us


def _returns(db: sqlite3.Connection, change: store.ReturnRights | store.ReturnOver) -> Lease | None:
    """The lease by which a site holds what it gives back; None: it holds nothing."""
    lease = leases.own(db)
    if lease is None or not lease.holds_at(change.now_us) or _is_stale(db, lease, change.holder):
        return None
    return lease


def _return(
    writer: SqliteStore,
    lease: Lease,
    wallet: Wallet,
    shares: list[Share],
    change: store.ReturnRights | store.ReturnOver,
    more: dict[str, Any],
) -> None:
    amount = sum(one.amount for one in shares)
    purses = {one.purse for one in shares}
    postings.post(
        writer,
        b"right-return/" + writer.random(KEY_BYTES),
        "right-return",
        wallet,
        [*lines_of(shares), Line(Own.RIGHTS.guid, amount)],
        change.now_us,
        change.actor,
        opened=[one for one in wallet.purses if one.guid in purses],
        more={"epoch": lease.epoch, "returned": amount, **more},
    )
    writer.events.append(store.BalanceChanged(change.holder))


def epoch_of(writer: SqliteStore, holder: UUID, now_us: int) -> int | None:
    """In which epoch a site charges a holder now; None: this node is no site that holds rights.

    The lease learns that time goes on, so that a clock which is set back is noticed.
    """
    lease = leases.own(writer.db)
    if lease is None:
        return None
    if now_us > lease.from_us + NOTE_US and lease.holds_at(now_us):
        lease.from_us = now_us
        leases.keep(writer.db, lease)
    row = writer.db.execute(
        "SELECT max(epoch) FROM right_granted WHERE site = ? AND holder = ? AND epoch < ?",
        (lease.site.bytes, holder.bytes, lease.epoch),
    ).fetchone()
    return lease.epoch if row[0] is None else int(row[0])


# -- look-ups ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """What a site says when it asks for rights."""

    epoch: int
    upstream: UUID | None
    wants: tuple[Want, ...]


def wants(
    db: sqlite3.Connection,
    site: UUID,
    holders: list[tuple[PayerKind, UUID]],
    least: int,
    now_us: int,
) -> Standing:
    """How a site stands, and what it has of each of these holders."""
    lease = leases.own(db) or Lease(site)
    found = []
    for kind, holder in holders:
        purses = postings.purses_of(db, holder)
        has = sum(one.balance for one in purses if one.counts_at(now_us))
        rights = leases.granted(db, site, holder, lease.epoch)
        if _is_stale(db, lease, holder) or not lease.epoch:
            has = 0  # it is of another epoch, or of another time
        found.append(Want(kind, holder, least, has, sum(one.amount for one in rights)))
    return Standing(lease.epoch, lease.upstream, tuple(found))


def over(db: sqlite3.Connection, before_us: int, after: bytes, limit: int) -> list[UUID]:
    """At most `limit` holders behind the key `after`, by key, of whom something is here whose
    period was over before a time.
    """
    rows = db.execute(
        "SELECT DISTINCT holder FROM purse WHERE until_us <= ? AND balance > 0 AND holder > ? "
        "ORDER BY holder LIMIT ?",
        (before_us, after, limit),
    )
    return [UUID(bytes=holder) for (holder,) in rows]


def page(db: sqlite3.Connection, site: UUID, after: bytes, limit: int) -> list[Right]:
    """At most `limit` of all that a site was granted in its epoch, behind holder and purse."""
    lease = leases.own(db)
    rows = db.execute(
        "SELECT is_account, source, amount FROM right_granted "
        "WHERE site = ? AND epoch = ? AND (holder, purse) > (?, ?) ORDER BY holder, purse LIMIT ?",
        (
            site.bytes,
            0 if lease is None else lease.epoch,
            after[:KEY_BYTES],
            after[KEY_BYTES:],
            limit,
        ),
    )
    return [leases.right_of(*row) for row in rows]


def holders(db: sqlite3.Connection, after: bytes, limit: int) -> list[tuple[PayerKind, UUID]]:
    """At most `limit` people whom the directory has, and shared accounts, by key."""
    rows = db.execute(
        "SELECT key, kind FROM (SELECT person.key AS key, 'person' AS kind FROM person "
        "JOIN directory ON directory.person_id = person.id WHERE person.key > :after "
        "UNION ALL SELECT guid, 'account' FROM account WHERE name IS NOT NULL AND guid > :after) "
        "ORDER BY key LIMIT :limit",
        {"after": after, "limit": limit},
    )
    return [(PayerKind(kind), UUID(bytes=key)) for key, kind in rows]
