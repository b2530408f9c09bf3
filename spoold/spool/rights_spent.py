"""What sites report of their rights, at the application server: what they spent, and give back.

Printed facts are never refused, for the paper is out: what the rights do not cover comes out of the
holder's purses, flagged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.charge import Flag
from spoold.model.money import check_amount
from spoold.model.offline import Right
from spoold.model.purse import Payer, PayerKind, Purse, PurseKind, Share, Wallet
from spoold.spool import escrow, leases, postings
from spoold.spool.escrow import Told
from spoold.spool.leases import Lease
from spoold.spool.postings import Line, lines_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


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
    told: Told,
) -> Taken:
    """Who pays for what a site has charged: its rights, and beyond them the payer's `wallet`.

    `epoch` is the one in which the site charged it, 0 for one that knew of no rights.
    """
    taken = _spend_rights(writer.db, site, epoch, wallet.holder, total, told)
    rest = total - sum(one.amount for one in taken.shares)
    if rest <= 0:
        return taken
    more = wallet.spend(rest)
    taken.shares += more
    taken.lines += lines_of(more)
    if not wallet.holds(rest):
        taken.flags.append(Flag.BEYOND_LIMIT.value)
    lease = _lease_of(writer, site, epoch)
    if lease is None:
        return taken
    if epoch < lease.epoch:
        taken.flags.append(Flag.LATE.value)
        return taken
    if wallet.limit is not None:
        taken.flags.append(Flag.BEYOND_RIGHTS.value)
    purses = {one.guid: one for one in wallet.in_order()}
    given = [Right(kind, purses[one.purse], one.amount) for one in more]
    escrow.count(writer.db, site, epoch, wallet.holder, given)  # given, and spent at once
    return taken


def _lease_of(writer: SqliteStore, site: UUID, epoch: int) -> Lease | None:
    """The lease of a site that did something in an epoch; None: it had none.

    A site may be in a later epoch than we know: then we were put back to what we were before.
    """
    lease = leases.find(writer.db, site) if epoch else None
    if lease is None and epoch and leases.was_put_back(writer.db):
        lease = Lease(site)
    if lease is not None and epoch > lease.epoch:
        lease.epoch, lease.incarnation, lease.upstream = epoch, None, None
        leases.keep(writer.db, lease)
    return lease


def _spend_rights(
    db: sqlite3.Connection, site: UUID, epoch: int, holder: UUID, total: int, told: Told
) -> Taken:
    """What the rights of a site give of `total`."""
    rights = escrow.rights_of(db, site, epoch, holder)
    spent = escrow.taken_from(rights, total, told)
    shares = [Share(rights.sources[one.purse], one.amount) for one in spent]
    return Taken(shares, lines_of(spent))


def take_back(
    writer: SqliteStore,
    site: UUID,
    epoch: int,
    payload: dict[str, Any],
    holder: UUID,
    at_us: int | None,
    now_us: int,
    actor: str,
) -> None:
    """A site gave back rights that it did not need, `at_us`, or of which the period was over;
    `payload` is its record's.

    Raises:
        OperationError: `bad-request`: it makes no sense.
    """
    key, amount = bytes(payload["entry"]), int(payload["returned"])
    if postings.is_posted(writer.db, key):
        return
    returned = shares_told([guid, -amount] for guid, amount in payload["lines"])
    told = Told(None if payload.get("over") else at_us, returned)
    named = [leases.purse_of(one) for one in payload.get("purses", ())]
    give_back(writer, site, epoch, holder, amount, told, key, now_us, actor, named)


def shares_told(found: Iterable[Sequence[Any]]) -> dict[UUID, int]:
    """How much which purses of a site have given, as its record says."""
    return {UUID(bytes=bytes(guid)): int(amount) for guid, amount in found}


def give_back(
    writer: SqliteStore,
    site: UUID,
    epoch: int,
    holder: UUID,
    amount: int,
    told: Told,
    key: bytes,
    now_us: int,
    actor: str,
    named: Sequence[Purse] = (),
) -> None:
    """Rights of a site are their holder's again; what of them is not here counts as granted, and
    given back. It has `named` the purses; those of a period may not be here.

    The caller has seen that nothing was posted under this key.
    """
    rights = escrow.rights_of(writer.db, site, epoch, holder)
    spent = escrow.taken_from(rights, check_amount(amount), told)
    if spent:
        escrow.book_back(writer, site, epoch, holder, rights.sources, spent, key, now_us, actor)
    lost = amount - sum(one.amount for one in spent)
    if lost > 0:
        returned = dict(told.given)
        for one in spent:
            source = rights.sources[one.purse]
            returned[source] = returned.get(source, 0) - one.amount
        _count_returned(writer, site, epoch, holder, named, returned, lost)


def _count_returned(
    writer: SqliteStore,
    site: UUID,
    epoch: int,
    holder: UUID,
    named: Sequence[Purse],
    returned: dict[UUID, int],
    lost: int,
) -> None:
    """Of what a site has `returned`, by purse, so much is not here. Either it was granted in a time
    that this node has lost, and is not to be booked again when the site says that it was; or it has
    paid here for something that the site had let its owner owe.

    Credit comes last: at the site it may be what another purse had given (`Wallet.give_back`).
    """
    lease = _lease_of(writer, site, epoch)
    if lease is None or epoch < lease.epoch:
        return
    is_account = postings.is_known(writer.db, Payer(PayerKind.ACCOUNT, holder))
    kind = PayerKind.ACCOUNT if is_account else PayerKind.PERSON
    wallet = Wallet(holder, tuple(postings.purses_of(writer.db, holder)))
    kinds = (PurseKind.PAID_IN, PurseKind.OVERDRAFT, PurseKind.CREDIT)
    paid_in, overdraft, credit = map(wallet.purse, kinds)
    lost_too = [one for one in named if one.holder == holder and one.allowance is not None]
    purses = {one.guid: one for one in (*lost_too, *wallet.purses, paid_in, overdraft)}
    purses.pop(credit.guid, None)
    given: list[Right] = []
    for guid, purse in (*purses.items(), (credit.guid, credit)):
        part = min(check_amount(max(0, returned.get(guid, 0))), lost)
        lost -= part
        if part:
            given.append(Right(kind, purse, part))
    escrow.count(writer.db, site, epoch, holder, given)
