"""What stands in escrow: the purses of sites, what was granted into them, and the way back.

Money that a site may spend stands in purses of `rights_holder`, a mirror of each purse that it came
from; `right_granted` counts what was ever granted, by the purse it came from.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from spoold.model.offline import Right
from spoold.model.purse import Purse, Share, Wallet
from spoold.spool import late_carry, leases, postings, store
from spoold.spool.postings import lines_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def purse_of(site: UUID, epoch: int, source: Purse) -> Purse:
    """The purse that holds what a site was granted out of another one; nothing is in it yet."""
    return replace(source, holder=leases.rights_holder(site, epoch, source.holder), balance=0)


def address(site: UUID, epoch: int, holder: UUID) -> bytes:
    """What keys of postings say whose rights they are about."""
    return site.bytes + epoch.to_bytes(4, "big") + holder.bytes


def count(db: sqlite3.Connection, site: UUID, epoch: int, holder: UUID, given: list[Right]) -> None:
    """More was granted: `given`, by the purse that it came from."""
    before = {one.purse.guid: one.amount for one in leases.granted(db, site, holder, epoch)}
    for one in given:
        amount = before.get(one.purse.guid, 0) + one.amount
        leases.note_granted(db, site, epoch, replace(one, amount=amount))


class Held(NamedTuple):
    """What a site has not reported as spent: `sources` says from which purse each of the wallet
    came, and `at_site` as which one it stands there.
    """

    wallet: Wallet
    sources: dict[UUID, UUID]
    at_site: dict[UUID, UUID]


def rights_of(
    db: sqlite3.Connection, site: UUID, epoch: int, holder: UUID, at_us: int | None = None
) -> Held:
    """What a site holds; `at_us`: without what cannot be spent at that moment, as its period is
    over.
    """
    escrow = leases.rights_holder(site, epoch, holder)
    balances = {one.guid: one.balance for one in postings.purses_of(db, escrow)}
    purses: list[Purse] = []
    found = Held(Wallet(escrow), {}, {})
    for right in leases.granted(db, site, holder, epoch):
        if at_us is not None and not right.purse.counts_at(at_us):
            continue
        there = purse_of(site, epoch, right.purse)
        purses.append(replace(there, balance=balances.get(there.guid, 0)))
        found.sources[there.guid] = right.purse.guid
        found.at_site[there.guid] = right.local.guid
    return found._replace(wallet=Wallet(escrow, tuple(purses)))


class Told(NamedTuple):
    """What a site says of an amount: which of its purses gave how much of it (older sites do not),
    and when that was by its own clock, however wrong; None: of periods that were over by then.
    """

    at_us: int | None = None
    given: Mapping[UUID, int] = {}


def taken_from(rights: Held, amount: int, told: Told) -> list[Share]:
    """What of the rights of a site gives an amount, as far as there is so much: the purses that
    have given it at the site, then those that count at that time, then the others. For the site
    had no other money; but it may have filled with one purse what another owed.
    """
    left, parts = dict(told.given), dict[UUID, int]()
    for one in rights.wallet.purses:
        at_site = rights.at_site[one.guid]
        part = max(0, min(one.balance, left.get(at_site, 0), amount))
        if part:
            left[at_site] -= part
            amount -= part
            parts[one.guid] = part
    if amount > 0:
        rest = rights.wallet.after([Share(*one) for one in parts.items()]).purses
        counting = [one for one in rest if told.at_us is not None and one.counts_at(told.at_us)]
        for purses in (counting, [one for one in rest if one not in counting]):
            amount -= _take(Wallet(rights.wallet.holder, tuple(purses)), amount, parts)
    return [Share(*one) for one in parts.items()]


def _take(wallet: Wallet, amount: int, parts: dict[UUID, int]) -> int:
    """Add to `parts` what a wallet gives of an amount, as far as it has so much; how much."""
    amount = max(0, min(amount, wallet.balance))
    for share in wallet.spend(amount):
        parts[share.purse] = parts.get(share.purse, 0) + share.amount
    return amount


def book_back(
    writer: SqliteStore,
    site: UUID,
    epoch: int,
    holder: UUID,
    sources: dict[UUID, UUID],
    spent: list[Share],
    key: bytes,
    now_us: int,
    actor: str,
) -> None:
    """Parts of a site's purses go back to those that they came from, by `sources`; what is of a
    period behind which another one was granted is carried over.
    """
    own = Wallet(holder, tuple(postings.purses_of(writer.db, holder)))
    back = own.give_back([Share(sources[one.purse], one.amount) for one in spent])
    postings.post(
        writer,
        key,
        "right-back",
        own,
        [*lines_of(spent), *lines_of(back)],
        now_us,
        actor,
        more={"site": site.bytes, "epoch": epoch},
    )
    writer.events.append(store.BalanceChanged(holder))
    allowed = {one.guid for one in own.purses if one.allowance is not None}
    for purse in allowed.intersection(sources[one.purse] for one in spent):
        late_carry.carry_on(writer, holder, purse, now_us, actor)


@dataclass(frozen=True, slots=True)
class Holding:
    """What a site may spend of one holder's money, as far as it has reported."""

    holder: UUID
    is_account: bool
    granted: int
    left: int


def holdings(
    db: sqlite3.Connection, site: UUID, after: bytes, limit: int, now_us: int
) -> list[Holding]:
    """At most `limit` holders behind the key `after`, by key, of whom a site holds rights."""
    lease = leases.find(db, site)
    if lease is None:
        return []
    rows = db.execute(
        "SELECT holder, max(is_account), sum(amount) FROM right_granted "
        "WHERE site = ? AND epoch = ? AND holder > ? GROUP BY holder ORDER BY holder LIMIT ?",
        (site.bytes, lease.epoch, after, limit),
    ).fetchall()
    found = []
    for holder, is_account, granted in rows:
        guid = UUID(bytes=holder)
        if lease.is_own:
            purses = postings.purses_of(db, guid)
            left = sum(one.balance for one in purses if one.counts_at(now_us))
        else:
            left = rights_of(db, site, lease.epoch, guid, now_us).wallet.balance
        found.append(Holding(guid, bool(is_account), granted, left))
    return found


def at_sites(db: sqlite3.Connection, holder: UUID, now_us: int) -> dict[UUID, int]:
    """What sites may spend of a holder's money, by site; it stands in no purse of the holder."""
    if leases.own(db) is not None:
        return {}
    rows = db.execute(
        "SELECT DISTINCT g.site, g.epoch FROM right_lease AS l CROSS JOIN right_granted AS g "
        "ON g.site = l.site AND g.holder = ? AND g.epoch <= l.epoch",
        (holder.bytes,),
    ).fetchall()
    found: dict[UUID, int] = {}
    for packed, epoch in rows:
        site = UUID(bytes=packed)
        left = rights_of(db, site, epoch, holder, now_us).wallet.balance
        if left:
            found[site] = found.get(site, 0) + left
    return found
