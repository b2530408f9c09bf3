"""Rights at the application server: what sites may spend of people's money, held in escrow.

A grant moves money from a holder's purses to purses of the site, `rights_holder`, in the ledger: so
two sites that are cut off can never spend the same money. What was granted is counted altogether
(`right_granted`): an answer that is lost, or comes twice, grants nothing twice. What a site reports
as spent comes out of its rights (`rights_spent`). A site that begins anew, is revoked, or was not
heard of until its lease and a margin are over gets another epoch: what it held before goes back,
and what it says later of that time is charged to its payer.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.money import check_amount
from spoold.model.offline import HOUR_US, MARGIN_US, OfflinePolicy, Right, Want
from spoold.model.purse import PayerKind, Share, Wallet
from spoold.spool import books, escrow, leases, postings, store
from spoold.spool.leases import Lease
from spoold.spool.postings import Line, lines_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


TOLD_LONGER_US = MARGIN_US  # after the end of a purse a site is told of it, by whatever clock

# -- granting ----------------------------------------------------------------------------------


def grant_rights(writer: SqliteStore, change: store.GrantRights) -> store.Granted:
    """See `GrantRights`.

    Raises:
        OperationError: `forbidden`: this site gets no more rights.
    """
    lease = _renew(writer, change)
    books.note(writer.db, change.site, change.books)
    known = change.epoch == lease.epoch
    if known and change.upstream != writer.incarnation and leases.was_put_back(writer.db):
        for right in sorted(change.held, key=lambda one: one.purse.from_us):
            _book_again(writer, lease, right, change.now_us, change.actor)
    rights: list[Right] = []
    for want in change.wants:
        if not known:  # what it has is of another epoch
            want = replace(want, has=0, known=0)
        granted = leases.granted(writer.db, lease.site, want.holder, lease.epoch)
        total = sum(one.amount for one in granted)
        since_us = change.now_us - TOLD_LONGER_US
        if want.known != total:
            since_us = 0  # it has not heard of all
        is_withheld = want.holder in change.withheld
        if not is_withheld and _grant(writer, lease, want, total, change.now_us, change.actor):
            granted = leases.granted(writer.db, lease.site, want.holder, lease.epoch)
        rights += (
            one for one in granted if one.purse.until_us is None or one.purse.until_us > since_us
        )
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
    if not lease.epoch or not is_same:
        lease.epoch += 1
    lease.incarnation = change.incarnation
    lease.from_us = change.now_us
    lease.until_us = change.now_us + policy.valid_hours * HOUR_US + MARGIN_US
    lease.upstream = writer.incarnation
    lease.policy = policy
    leases.keep(writer.db, lease)
    return lease


def _grant(
    writer: SqliteStore, lease: Lease, want: Want, total: int, now_us: int, actor: str
) -> bool:
    """Give a site what it lacks of somebody's money, as far as there is any, of which it was
    granted `total` so far. Whether it gave something.
    """
    try:
        opened = postings.open_wallet(writer.db, want.kind, want.holder, now_us)
    except OperationError:
        return False  # nobody of this key can pay
    purses = tuple(one for one in opened.wallet.purses if one.counts_at(now_us))
    wallet = replace(opened.wallet, purses=purses)
    if wallet.available is None:
        return False  # who is not restricted needs no rights
    has = want.has + total - want.known
    lacking = _lacking(lease.policy, want.least, has, wallet.available)
    if lacking <= 0:
        return False
    there = leases.rights_holder(lease.site, lease.epoch, want.holder)
    at_site = postings.purses_of(writer.db, there)
    held = sum(one.balance for one in at_site if one.counts_at(now_us))
    altogether = max(wallet.available, 0) + held
    lacking = min(lacking, wallet.available, lease.policy.at_need(altogether) - held)
    if lacking <= 0:
        return False
    check_amount(lacking)
    postings.post_grants(writer, opened, now_us)
    shares = wallet.spend(lacking)
    _move(writer, lease, want.kind, wallet, shares, total + lacking, now_us, actor)
    at_need = held + lacking - max(held, lease.policy.ahead_of_need(altogether))
    if at_need > 0:
        writer.events.append(store.RightsDrawn(lease.site, at_need, lease.policy.alarm))
    return True


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
    opened = [escrow.purse_of(lease.site, lease.epoch, one.purse) for one in given]
    lines = [Line(there.guid, one.amount) for there, one in zip(opened, given, strict=True)]
    postings.post(
        writer,
        b"right/" + escrow.address(lease.site, lease.epoch, holder) + total.to_bytes(8, "big"),
        "right",
        wallet,
        [*lines_of(shares), *lines],
        now_us,
        actor,
        opened=opened,
        more={"site": lease.site.bytes, "epoch": lease.epoch},
    )
    escrow.count(writer.db, lease.site, lease.epoch, holder, given)
    writer.events.append(store.BalanceChanged(holder))


def _book_again(writer: SqliteStore, lease: Lease, held: Right, now_us: int, actor: str) -> None:
    """A site holds what this node has granted, and lost: it is put back to what it was before."""
    holder = held.purse.holder
    rights = leases.granted(writer.db, lease.site, holder, lease.epoch)
    before = {one.purse.guid: one.amount for one in rights}
    lost = check_amount(held.amount) - before.get(held.purse.guid, 0)
    if lost <= 0:
        return
    purses = {one.guid: one for one in postings.purses_of(writer.db, holder)}
    if held.purse.guid not in purses:  # this node may have lost its grant, too
        _grant_again(writer, held, now_us)
        purses = {one.guid: one for one in postings.purses_of(writer.db, holder)}
    purse = purses.get(held.purse.guid, held.purse)
    wallet = Wallet(holder, tuple(one for one in purses.values() if one.counts_at(now_us)))
    # What the purse has not any more was spent here meanwhile: it is owed.
    own = max(0, min(purse.balance, lost))
    shares = [Share(purse.guid, own)] if own else []
    owed = lost - own
    if owed:
        shares += wallet.after(shares).spend(owed)
    there = escrow.purse_of(lease.site, lease.epoch, held.purse)
    total = sum(before.values()) + lost
    postings.post(
        writer,
        b"right/" + escrow.address(lease.site, lease.epoch, holder) + total.to_bytes(8, "big"),
        "right",
        wallet,
        [*lines_of(shares), Line(there.guid, lost)],
        now_us,
        actor,
        opened=[there, replace(purse, balance=0)],
        more={"site": lease.site.bytes, "epoch": lease.epoch, "again": True},
    )
    escrow.count(writer.db, lease.site, lease.epoch, holder, [replace(held, amount=lost)])
    writer.events.append(store.BalanceChanged(holder))


def _grant_again(writer: SqliteStore, held: Right, now_us: int) -> None:
    """The allowances of the time of a purse that a site holds a part of are granted once more."""
    purse = held.purse
    if purse.allowance is None:
        return
    with suppress(OperationError):  # nobody of this key can pay any more
        opened = postings.open_wallet(writer.db, held.kind, purse.holder, purse.from_us)
        postings.post_grants(writer, opened, now_us)


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
    _end_leases(writer, change)
    rows = writer.db.execute(
        "SELECT DISTINCT g.site, g.epoch, g.holder FROM right_lease AS l "
        "CROSS JOIN right_granted AS g "  # in this order: nearly always there is nothing
        "ON g.site = l.site AND g.epoch < l.epoch WHERE l.is_own = 0 LIMIT ?",
        (change.limit,),
    ).fetchall()
    for packed, epoch, holder in rows:
        _end_epoch(writer, UUID(bytes=packed), epoch, UUID(bytes=holder), change)
    return len(rows)


def _end_leases(writer: SqliteStore, change: store.ReclaimRights) -> None:
    """Those end that are over, but for those of sites that are here."""
    for lease in leases.find_all(writer.db):
        if lease.is_own or not lease.until_us:
            continue
        if lease.upstream != writer.incarnation:
            # It may have been told of a later end than this node knows, since that was put back.
            lease.upstream = writer.incarnation
            lease.until_us = change.now_us + lease.policy.valid_hours * HOUR_US + MARGIN_US
        elif change.here is None or lease.site in change.here or lease.until_us > change.now_us:
            continue
        else:
            lease.epoch, lease.until_us = lease.epoch + 1, 0
        leases.keep(writer.db, lease)


def _end_epoch(
    writer: SqliteStore, site: UUID, epoch: int, holder: UUID, change: store.ReclaimRights
) -> None:
    rights = escrow.rights_of(writer.db, site, epoch, holder)
    spent = [Share(one.guid, one.balance) for one in rights.wallet.purses if one.balance > 0]
    if spent:
        key = b"right-end/" + escrow.address(site, epoch, holder)
        actor, now_us = change.actor, change.now_us
        escrow.book_back(writer, site, epoch, holder, rights.sources, spent, key, now_us, actor)
    writer.db.execute(
        "DELETE FROM right_granted WHERE site = ? AND epoch = ? AND holder = ?",
        (site.bytes, epoch, holder.bytes),
    )
