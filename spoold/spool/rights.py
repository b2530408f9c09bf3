"""Rights at the application server: what sites may spend of people's money, held in escrow.

A grant moves money from a holder's purses to purses of the site, `rights_holder`, in the ledger: so
two sites that are cut off can never spend the same money. What was granted is counted altogether
(`right_granted`): an answer that is lost, or comes twice, grants nothing twice. What a site reports
as spent comes out of its rights, and beyond them out of the holder's purses, flagged: the paper is
out. A site that begins anew, is revoked, or was not heard of until its lease and a margin are over
gets another epoch: what it held before goes back, and what it says later of that time is charged
to its payer.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.charge import Flag
from spoold.model.errors import OperationError
from spoold.model.money import check_amount
from spoold.model.offline import HOUR_US, MARGIN_US, OfflinePolicy, Right, Want
from spoold.model.purse import Payer, PayerKind, Purse, PurseKind, Share, Wallet
from spoold.spool import books, leases, postings, store
from spoold.spool.leases import Lease
from spoold.spool.postings import Line, lines_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


# -- granting ----------------------------------------------------------------------------------


def grant_rights(writer: SqliteStore, change: store.GrantRights) -> store.Granted:
    """See `GrantRights`.

    Raises:
        OperationError: `forbidden`: this site gets no more rights.
    """
    lease = _renew(writer, change)
    books.note(writer.db, change.site, change.books)
    known = change.epoch == lease.epoch
    if known and change.upstream != writer.incarnation and _was_put_back(writer.db):
        for right in change.held:
            _book_again(writer, lease, right, change.now_us, change.actor)
    rights: list[Right] = []
    for want in change.wants:
        if not known:  # what it has is of another epoch
            want = replace(want, has=0, known=0)
        if want.holder not in change.withheld:
            _grant(writer, lease, want, change.now_us, change.actor)
        rights += leases.granted(writer.db, lease.site, want.holder, lease.epoch)
    valid_us = lease.policy.valid_hours * HOUR_US
    return store.Granted(lease.epoch, valid_us, writer.incarnation, lease.policy, tuple(rights))


def _renew(writer: SqliteStore, change: store.GrantRights) -> Lease:
    """The site's lease, from now on; of another epoch when the site has begun anew."""
    policy = leases.policy_of(writer.db, change.site)
    lease = leases.find(writer.db, change.site) or Lease(change.site)
    if lease.is_frozen or lease.is_own:
        raise OperationError("forbidden", "this site gets no rights.", "See `spoold site rights`.")
    if change.epoch > lease.epoch:  # we were put back to what we were before
        lease.epoch, lease.incarnation = change.epoch, change.incarnation
    is_same = lease.incarnation in (None, change.incarnation)
    if not lease.epoch or not is_same or change.now_us >= lease.until_us > 0:
        lease.epoch += 1
    lease.incarnation = change.incarnation
    lease.from_us = change.now_us
    lease.until_us = change.now_us + policy.valid_hours * HOUR_US + MARGIN_US
    lease.upstream = writer.incarnation
    lease.policy = policy
    leases.keep(writer.db, lease)
    return lease


def _grant(writer: SqliteStore, lease: Lease, want: Want, now_us: int, actor: str) -> None:
    """Give a site what it lacks of somebody's money, as far as there is any."""
    try:
        opened = postings.open_wallet(writer.db, want.kind, want.holder, now_us)
    except OperationError:
        return  # nobody of this key can pay
    wallet = opened.wallet
    if wallet.available is None:
        return  # who is not restricted needs no rights
    before = leases.granted(writer.db, lease.site, want.holder, lease.epoch)
    total = sum(one.amount for one in before)
    has = want.has + total - want.known
    lacking = _lacking(lease.policy, want.least, has, wallet.available)
    if lacking <= 0:
        return
    escrow = leases.rights_holder(lease.site, lease.epoch, want.holder)
    held = sum(one.balance for one in postings.purses_of(writer.db, escrow))
    there = max(wallet.available, 0) + held
    lacking = min(lacking, wallet.available, lease.policy.at_need(there) - held)
    if lacking <= 0:
        return
    check_amount(lacking)
    postings.post_grants(writer, opened, now_us)
    shares = wallet.spend(lacking)
    _move(writer, lease, want.kind, wallet, shares, total + lacking, now_us, actor)
    at_need = held + lacking - max(held, lease.policy.ahead_of_need(there))
    if at_need > 0:
        writer.events.append(store.RightsDrawn(lease.site, at_need, lease.policy.alarm))


def _lacking(policy: OfflinePolicy, least: int, has: int, available: int) -> int:
    """How much more a site should have: all of its share once it has less than half of that."""
    wanted = policy.ahead_of_need(max(available, 0) + max(has, 0))
    return max(least - has, wanted - has if 2 * has < wanted else 0)


def _move(
    writer: SqliteStore,
    lease: Lease,
    kind: PayerKind,
    wallet: Wallet,
    shares: list[Share],
    total: int,
    now_us: int,
    actor: str,
) -> None:
    """Book a grant: `shares` of a wallet go to the rights of the site, which are `total` then."""
    holder = wallet.holder
    purses = {one.guid: one for one in wallet.in_order()}
    given = [Right(kind, purses[one.purse], one.amount) for one in shares]
    opened = [_escrow(lease.site, lease.epoch, one.purse) for one in given]
    lines = [Line(there.guid, one.amount) for there, one in zip(opened, given, strict=True)]
    postings.post(
        writer,
        b"right/" + _address(lease.site, lease.epoch, holder) + total.to_bytes(8, "big"),
        "right",
        wallet,
        [*lines_of(shares), *lines],
        now_us,
        actor,
        opened=opened,
        more={"site": lease.site.bytes, "epoch": lease.epoch},
    )
    _count(writer.db, lease.site, lease.epoch, holder, given)
    writer.events.append(store.BalanceChanged(holder))


def _count(
    db: sqlite3.Connection, site: UUID, epoch: int, holder: UUID, given: list[Right]
) -> None:
    before = {one.purse.guid: one.amount for one in leases.granted(db, site, holder, epoch)}
    for one in given:
        amount = before.get(one.purse.guid, 0) + one.amount
        leases.note_granted(db, site, epoch, replace(one, amount=amount))


def _escrow(site: UUID, epoch: int, source: Purse) -> Purse:
    """The purse that holds what a site was granted out of another one."""
    return replace(source, holder=leases.rights_holder(site, epoch, source.holder), balance=0)


def _address(site: UUID, epoch: int, holder: UUID) -> bytes:
    return site.bytes + epoch.to_bytes(4, "big") + holder.bytes


def _was_put_back(db: sqlite3.Connection) -> bool:
    """Whether this node can have lost anything: no site is believed what it never granted."""
    (own,) = db.execute("SELECT count(*) FROM chain WHERE is_own = 1").fetchone()
    return bool(own > 1)


def _book_again(writer: SqliteStore, lease: Lease, held: Right, now_us: int, actor: str) -> None:
    """A site holds what this node has granted, and lost: it is put back to what it was before."""
    holder = held.purse.holder
    rights = leases.granted(writer.db, lease.site, holder, lease.epoch)
    before = {one.purse.guid: one.amount for one in rights}
    lost = check_amount(held.amount) - before.get(held.purse.guid, 0)
    if lost <= 0:
        return
    purses = postings.purses_of(writer.db, holder)
    purse = next((one for one in purses if one.guid == held.purse.guid), held.purse)
    wallet = Wallet(holder, tuple(one for one in purses if one.counts_at(now_us)))
    # What the purse has not any more was spent here meanwhile: it is owed.
    own = max(0, min(purse.balance, lost))
    shares = [Share(purse.guid, own)] if own else []
    owed = lost - own
    if owed:
        shares += wallet.after(shares).spend(owed)
    escrow = _escrow(lease.site, lease.epoch, held.purse)
    total = sum(before.values()) + lost
    postings.post(
        writer,
        b"right/" + _address(lease.site, lease.epoch, holder) + total.to_bytes(8, "big"),
        "right",
        wallet,
        [*lines_of(shares), Line(escrow.guid, lost)],
        now_us,
        actor,
        opened=[escrow, replace(purse, balance=0)],  # this node may have lost the purse, too
        more={"site": lease.site.bytes, "epoch": lease.epoch, "again": True},
    )
    _count(writer.db, lease.site, lease.epoch, holder, [replace(held, amount=lost)])
    writer.events.append(store.BalanceChanged(holder))


# -- what sites report -------------------------------------------------------------------------


@dataclass(slots=True)
class Taken:
    """What pays for something that a site made: `shares` of the holder's purses, in which the
    rights stand as the purses that they came from; `lines` is what is booked.
    """

    shares: list[Share] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)


def consume(
    writer: SqliteStore,
    site: UUID,
    epoch: int,
    kind: PayerKind,
    wallet: Wallet,
    total: int,
    happened_us: int,
) -> Taken:
    """Who pays for what a site has charged: its rights, and beyond them the payer's `wallet`.

    `epoch` is the one in which the site charged it, 0 for one that knew of no rights.
    """
    taken = _spend_rights(writer.db, site, epoch, wallet.holder, total, happened_us)
    rest = total - sum(one.amount for one in taken.shares)
    if rest <= 0:
        return taken
    more = wallet.spend(rest)
    taken.shares += more
    taken.lines += lines_of(more)
    if not wallet.holds(rest):
        taken.flags.append(Flag.BEYOND_LIMIT.value)
    lease = leases.find(writer.db, site) if epoch else None
    if lease is None:
        return taken
    if epoch < lease.epoch:
        taken.flags.append(Flag.LATE.value)
        return taken
    _catch_up(writer, lease, epoch)
    if wallet.limit is not None:
        taken.flags.append(Flag.BEYOND_RIGHTS.value)
    purses = {one.guid: one for one in wallet.in_order()}
    given = [Right(kind, purses[one.purse], one.amount) for one in more]
    _count(writer.db, site, epoch, wallet.holder, given)  # given, and spent at once
    return taken


def _catch_up(writer: SqliteStore, lease: Lease, epoch: int) -> None:
    """A site is in a later epoch than we know: we were put back to what we were before."""
    if epoch > lease.epoch:
        lease.epoch, lease.incarnation, lease.upstream = epoch, None, None
        leases.keep(writer.db, lease)


def _spend_rights(
    db: sqlite3.Connection, site: UUID, epoch: int, holder: UUID, total: int, happened_us: int
) -> Taken:
    """What the rights of a site give of `total`."""
    wallet, sources = _rights_of(db, site, epoch, holder)
    counting = tuple(one for one in wallet.purses if one.counts_at(happened_us))
    wallet = replace(wallet, purses=counting)
    spent = wallet.spend(max(0, min(total, wallet.balance)))
    return Taken([Share(sources[one.purse], one.amount) for one in spent], lines_of(spent))


def _rights_of(
    db: sqlite3.Connection, site: UUID, epoch: int, holder: UUID
) -> tuple[Wallet, dict[UUID, UUID]]:
    """What a site has not reported as spent, and from which purse each part came."""
    escrow = leases.rights_holder(site, epoch, holder)
    balances = {one.guid: one.balance for one in postings.purses_of(db, escrow)}
    purses: list[Purse] = []
    sources: dict[UUID, UUID] = {}
    for right in leases.granted(db, site, holder, epoch):
        there = _escrow(site, epoch, right.purse)
        purses.append(replace(there, balance=balances.get(there.guid, 0)))
        sources[there.guid] = right.purse.guid
    return Wallet(escrow, tuple(purses)), sources


def take_back(
    writer: SqliteStore, site: UUID, payload: dict[str, Any], holder: UUID, now_us: int, actor: str
) -> None:
    """A site gives back rights that it does not need; `payload` is its record's.

    Raises:
        OperationError: `bad-request`: it makes no sense.
    """
    key, epoch, amount = bytes(payload["entry"]), int(payload["epoch"]), int(payload["returned"])
    if postings.is_posted(writer.db, key):
        return
    given = give_back(writer, site, epoch, holder, amount, key, now_us, actor)
    if _was_put_back(writer.db):
        told = {bytes(guid): -int(amount) for guid, amount in payload["lines"]}
        for one in given:
            told[one.purse.bytes] = told.get(one.purse.bytes, 0) - one.amount
        _count_returned(writer, site, epoch, holder, told)


def give_back(
    writer: SqliteStore,
    site: UUID,
    epoch: int,
    holder: UUID,
    amount: int,
    key: bytes,
    now_us: int,
    actor: str,
) -> list[Share]:
    """Rights of a site go back to their holder, as far as there are so many: to which purses.

    The caller has seen that nothing was posted under this key.
    """
    wallet, sources = _rights_of(writer.db, site, epoch, holder)
    spent = wallet.spend(max(0, min(check_amount(amount), wallet.balance)))
    if spent:
        _give_back(writer, site, epoch, holder, sources, spent, key, now_us, actor)
    return [Share(sources[one.purse], one.amount) for one in spent]


def _count_returned(
    writer: SqliteStore, site: UUID, epoch: int, holder: UUID, told: dict[bytes, int]
) -> None:
    """What a site gave back, by purse, was granted in a time that this node has lost, and is here
    again already: of what the site will report as granted it is not to be booked again.
    """
    lease = leases.find(writer.db, site)
    if lease is None or epoch < lease.epoch:
        return
    _catch_up(writer, lease, epoch)
    is_account = postings.is_known(writer.db, Payer(PayerKind.ACCOUNT, holder))
    kind = PayerKind.ACCOUNT if is_account else PayerKind.PERSON
    wallet = Wallet(holder, tuple(postings.purses_of(writer.db, holder)))
    usual = (wallet.purse(one) for one in (PurseKind.CREDIT, PurseKind.PAID_IN))
    purses = {one.guid.bytes: one for one in (*wallet.purses, *usual)}
    given = [
        Right(kind, purses[guid], check_amount(amount))
        for guid, amount in told.items()
        if guid in purses and amount > 0
    ]
    _count(writer.db, site, epoch, holder, given)


def _give_back(
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


# -- ending ------------------------------------------------------------------------------------


def freeze(writer: SqliteStore, site: UUID) -> None:
    """A site gets no more rights, until it begins anew: its journal has a fork."""
    writer.db.execute("UPDATE right_lease SET is_frozen = 1 WHERE site = ?", (site.bytes,))


def thaw(writer: SqliteStore, site: UUID, incarnation: UUID) -> None:
    """A site goes on as another incarnation; if it was frozen, in another epoch. It is to ask."""
    thawed = writer.db.execute(
        "UPDATE right_lease SET is_frozen = 0, epoch = epoch + 1 WHERE site = ? AND is_frozen = 1",
        (site.bytes,),
    )
    lease = leases.find(writer.db, site)
    # Whoever was put back may know of no fork: all that counts then is whether the site has asked.
    if thawed.rowcount or (lease is not None and lease.incarnation != incarnation):
        writer.events.append(store.RightsThawed(site))


def end(writer: SqliteStore, site: UUID) -> None:
    """A site was revoked: what it holds goes back."""
    writer.db.execute(
        "UPDATE right_lease SET is_frozen = 1, epoch = epoch + 1 WHERE site = ? AND is_own = 0",
        (site.bytes,),
    )


def reclaim_rights(writer: SqliteStore, change: store.ReclaimRights) -> int:
    """See `ReclaimRights`: what was granted in epochs that are over goes back."""
    _extend(writer, change.now_us)
    writer.db.execute(
        "UPDATE right_lease SET epoch = epoch + 1, until_us = 0 "
        "WHERE is_own = 0 AND until_us > 0 AND until_us <= ?",
        (change.now_us,),
    )
    rows = writer.db.execute(
        "SELECT DISTINCT g.site, g.epoch, g.holder FROM right_lease AS l JOIN right_granted AS g "
        "ON g.site = l.site AND g.epoch < l.epoch WHERE l.is_own = 0 LIMIT ?",
        (change.limit,),
    ).fetchall()
    for packed, epoch, holder in rows:
        _end_epoch(writer, UUID(bytes=packed), epoch, UUID(bytes=holder), change)
    return len(rows)


def _extend(writer: SqliteStore, now_us: int) -> None:
    """Sites may have been told of later ends than this node knows, since it was put back."""
    for lease in leases.find_all(writer.db):
        if lease.is_own or not lease.until_us or lease.upstream == writer.incarnation:
            continue
        until_us = now_us + lease.policy.valid_hours * HOUR_US + MARGIN_US
        lease.upstream, lease.until_us = writer.incarnation, until_us
        leases.keep(writer.db, lease)


def _end_epoch(
    writer: SqliteStore, site: UUID, epoch: int, holder: UUID, change: store.ReclaimRights
) -> None:
    wallet, sources = _rights_of(writer.db, site, epoch, holder)
    spent = [Share(one.guid, one.balance) for one in wallet.purses if one.balance > 0]
    if spent:
        key = b"right-end/" + _address(site, epoch, holder)
        actor, now_us = change.actor, change.now_us
        _give_back(writer, site, epoch, holder, sources, spent, key, now_us, actor)
    writer.db.execute(
        "DELETE FROM right_granted WHERE site = ? AND epoch = ? AND holder = ?",
        (site.bytes, epoch, holder.bytes),
    )


# -- look-ups ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holding:
    """What a site may spend of one holder's money, as far as it has reported."""

    holder: UUID
    is_account: bool
    granted: int
    left: int


def holdings(db: sqlite3.Connection, site: UUID, after: bytes, limit: int) -> list[Holding]:
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
            left = sum(one.balance for one in postings.purses_of(db, guid))
        else:
            left = _rights_of(db, site, lease.epoch, guid)[0].balance
        found.append(Holding(guid, bool(is_account), granted, left))
    return found


def at_sites(db: sqlite3.Connection, holder: UUID) -> dict[UUID, int]:
    """What sites may spend of a holder's money, by site; it stands in no purse of the holder."""
    if leases.own(db) is not None:
        return {}
    rows = db.execute("SELECT site, epoch FROM right_lease").fetchall()
    found: dict[UUID, int] = {}
    for packed, newest in rows:
        site = UUID(bytes=packed)
        left = sum(
            _rights_of(db, site, epoch, holder)[0].balance
            for (epoch,) in db.execute(
                "SELECT DISTINCT epoch FROM right_granted "
                "WHERE site = ? AND holder = ? AND epoch <= ?",
                (packed, holder.bytes, newest),
            ).fetchall()
        )
        if left:
            found[site] = left
    return found
