"""Leases of rights as rows: at an application server one for each site, at a site its own.

A lease says in which epoch a site is, and until when it may spend what it was granted. At a site
rights are purses of their holders, filled by what was granted and emptied by what is spent: a
wallet of a site is made of them alone, and grants no allowances.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from spoold.model.offline import CLOCK_BACK_US, OfflinePolicy, Right
from spoold.model.purse import PayerKind, Purse, PurseKind, Wallet, named
from spoold.spool.rows import pack, unpack

EVERY_SITE = UUID(int=0)
EPOCH_MAX = 2**31


@dataclass(slots=True)
class Lease:
    """One row; see the schema. `own` is the incarnation of this node's journal as of now."""

    site: UUID
    epoch: int = 0
    from_us: int = 0
    until_us: int = 0
    is_own: bool = False
    is_frozen: bool = False
    incarnation: UUID | None = None
    upstream: UUID | None = None
    policy: OfflinePolicy = field(default_factory=OfflinePolicy)
    own: UUID | None = None

    def holds_at(self, at_us: int) -> bool:
        """Whether a site may spend by it: not with a clock that went back, nor when its spool was
        put back to what it was.
        """
        return (
            not self.is_frozen
            and self.from_us - CLOCK_BACK_US <= at_us < self.until_us
            and self.incarnation == self.own
        )


_SELECT = (
    "SELECT site, epoch, from_us, until_us, is_own, is_frozen, incarnation, upstream, fields, "
    "(SELECT incarnation FROM chain WHERE is_own = 1 ORDER BY id DESC LIMIT 1) FROM right_lease "
)


def own(db: sqlite3.Connection) -> Lease | None:
    """The lease of this node, where it is a site that was granted anything."""
    row = db.execute(_SELECT + "WHERE is_own = 1").fetchone()
    return None if row is None else _lease_of(*row)


def find(db: sqlite3.Connection, site: UUID) -> Lease | None:
    row = db.execute(_SELECT + "WHERE site = ?", (site.bytes,)).fetchone()
    return None if row is None else _lease_of(*row)


def find_all(db: sqlite3.Connection) -> list[Lease]:
    return [_lease_of(*row) for row in db.execute(_SELECT + "ORDER BY site")]


def _lease_of(
    site: bytes,
    epoch: int,
    from_us: int,
    until_us: int,
    is_own: int,
    is_frozen: int,
    incarnation: bytes | None,
    upstream: bytes | None,
    packed: bytes,
    own: bytes | None,
) -> Lease:
    return Lease(
        UUID(bytes=site),
        epoch,
        from_us,
        until_us,
        bool(is_own),
        bool(is_frozen),
        None if incarnation is None else UUID(bytes=incarnation),
        None if upstream is None else UUID(bytes=upstream),
        OfflinePolicy.from_map(unpack(packed)),
        None if own is None else UUID(bytes=own),
    )


def keep(db: sqlite3.Connection, lease: Lease) -> None:
    db.execute(
        "INSERT INTO right_lease (site, is_own, epoch, from_us, until_us, is_frozen, incarnation, "
        "upstream, fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (site) DO UPDATE SET "
        "epoch = excluded.epoch, from_us = excluded.from_us, until_us = excluded.until_us, "
        "is_frozen = excluded.is_frozen, incarnation = excluded.incarnation, "
        "upstream = excluded.upstream, fields = excluded.fields",
        (
            lease.site.bytes,
            lease.is_own,
            lease.epoch,
            lease.from_us,
            lease.until_us,
            lease.is_frozen,
            None if lease.incarnation is None else lease.incarnation.bytes,
            None if lease.upstream is None else lease.upstream.bytes,
            pack(lease.policy.as_map()),
        ),
    )


# -- what was granted --------------------------------------------------------------------------


def granted(db: sqlite3.Connection, site: UUID, holder: UUID, epoch: int) -> list[Right]:
    """What a site was granted of a holder's purses in an epoch, in no order that matters."""
    rows = db.execute(
        "SELECT is_account, source, amount FROM right_granted "
        "WHERE site = ? AND holder = ? AND epoch = ? ORDER BY purse",
        (site.bytes, holder.bytes, epoch),
    )
    return [right_of(*row) for row in rows]


def right_of(is_account: int, packed: bytes, amount: int) -> Right:
    kind = PayerKind.ACCOUNT if is_account else PayerKind.PERSON
    return Right(kind, purse_of(unpack(packed)), amount)


def purse_of(found: dict[str, object]) -> Purse:
    """The purse that `Purse.as_map` has told."""
    allowance, until_us, from_us = (found.get(k) for k in ("allowance", "until_us", "from_us"))
    assert isinstance(found["holder"], bytes)
    return Purse(
        UUID(bytes=found["holder"]),
        PurseKind(str(found["kind"])),
        0,
        UUID(bytes=allowance) if isinstance(allowance, bytes) else None,
        str(found.get("period", "")),
        from_us if isinstance(from_us, int) else 0,
        until_us if isinstance(until_us, int) else None,
    )


def note_granted(db: sqlite3.Connection, site: UUID, epoch: int, right: Right) -> None:
    """A purse has given so much altogether."""
    purse = right.purse
    db.execute(
        "INSERT INTO right_granted VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "amount = excluded.amount",
        (
            site.bytes,
            purse.holder.bytes,
            epoch,
            purse.guid.bytes,
            right.kind is PayerKind.ACCOUNT,
            right.amount,
            pack(purse.as_map()),
        ),
    )


def close_books(db: sqlite3.Connection, site: UUID) -> None:
    """What holders have in the books of a node that becomes a site counts as of an epoch before."""
    db.execute(
        "INSERT INTO right_granted SELECT ?, holder, 0, guid, 0, balance, x'' FROM purse "
        "WHERE balance != 0 AND holder != ? ON CONFLICT DO NOTHING",
        (site.bytes, EVERY_SITE.bytes),
    )


def rights_holder(site: UUID, epoch: int, holder: UUID) -> UUID:
    """Whose purses hold, in the ledger of an application server, what a site may spend."""
    return named(site, f"rights:{epoch}/{holder}")


class Extent(NamedTuple):
    """How much a site may spend by its lease: whose money (`holders`) and what it was granted of
    it in this epoch, in 1/10,000.
    """

    site: UUID
    until_us: int
    holders: int
    granted: int


def extents(db: sqlite3.Connection) -> list[Extent]:
    """Of each site that may spend anything; at a site its own."""
    rows = db.execute(
        "SELECT site, until_us, count(DISTINCT holder), coalesce(sum(amount), 0) "
        "FROM right_lease LEFT JOIN right_granted USING (site, epoch) "
        "WHERE is_frozen = 0 GROUP BY site ORDER BY site"
    )
    return [Extent(UUID(bytes=site), *rest) for site, *rest in rows]


# -- the wallets of a site ---------------------------------------------------------------------


def wallet_at_site(
    db: sqlite3.Connection,
    lease: Lease,
    holder: UUID,
    purses: list[Purse],
    limit: int | None,
    at_us: int,
) -> Wallet:
    """What a holder can spend at a site: the rights that it has of their money.

    Without a lease that holds nothing is there but what an overdraft owes.
    """
    if limit is not None:
        limit = 0  # how far somebody may go below zero is in the rights already
    is_stale = db.execute(
        "SELECT 1 FROM right_granted WHERE site = ? AND holder = ? AND epoch < ?",
        (lease.site.bytes, holder.bytes, lease.epoch),
    ).fetchone()
    if is_stale or not lease.holds_at(at_us):
        purses = [one for one in purses if one.kind is PurseKind.OVERDRAFT]
    return Wallet(holder, tuple(purses), limit)


# -- policies ----------------------------------------------------------------------------------


def policy_of(db: sqlite3.Connection, site: UUID) -> OfflinePolicy:
    """What holds at a site: its own policy, else that of all, else the usual one."""
    rows = dict(
        db.execute(
            "SELECT site, fields FROM offline_policy WHERE site IN (?, ?)",
            (site.bytes, EVERY_SITE.bytes),
        )
    )
    packed = rows.get(site.bytes, rows.get(EVERY_SITE.bytes))
    return OfflinePolicy() if packed is None else OfflinePolicy.from_map(unpack(packed))


def own_policy(db: sqlite3.Connection) -> OfflinePolicy:
    """What holds here when this site is alone, as it was told last."""
    lease = own(db)
    return OfflinePolicy() if lease is None else lease.policy


def was_put_back(db: sqlite3.Connection) -> bool:
    """Whether this node can have lost anything: no site is believed what it never granted."""
    (own,) = db.execute("SELECT count(*) FROM chain WHERE is_own = 1").fetchone()
    return bool(own > 1)
