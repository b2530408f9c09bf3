"""What people do to the ledger by hand: refunds, and what is given to a holder or taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from spoold.model.charge import Charge, ChargeState, check_key
from spoold.model.errors import OperationError
from spoold.model.money import check_amount, format_amount
from spoold.model.purse import (
    Payer,
    PayerKind,
    Purse,
    PurseKind,
    Share,
    Wallet,
    limit_reached,
    split,
)
from spoold.spool import charges, leases, postings, store
from spoold.spool.bounds import bounded_text
from spoold.spool.ledger import wallet_of
from spoold.spool.postings import Line, Own, lines_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

PURSES_MAX = 200  # of one holder at a time: an entry may speak of all of them


def _check_here(writer: SqliteStore) -> None:
    """Raises OperationError: what this node knows of money are rights that it was granted."""
    if writer.upstream is not None or leases.own(writer.db) is not None:
        raise OperationError(
            "not-possible",
            "this is a site: balances belong to its application server.",
            "Do it there.",
        )


def refund(writer: SqliteStore, change: store.Refund) -> Charge:
    _check_here(writer)
    charge, shares = charges.found(writer, change.charge)
    if postings.is_posted(writer.db, check_key(change.key)):
        return charge
    if charge.state is not ChargeState.SETTLED or charge.is_shadow:
        raise OperationError("not-possible", "nothing was paid for this.", "See the statement.")
    if not 0 < change.amount <= charge.net:
        raise OperationError(
            "not-possible",
            f"of this charge {format_amount(charge.net)} can be given back.",
            "Adjust the balance if it is to be more.",
        )
    kept, rest = split(shares, charge.net - change.amount)
    wallet = wallet_of(writer, charge, change.now_us, change.now_us)
    back = wallet.give_back(_at_hand(writer, wallet, rest, change.now_us))
    charge = replace(charge, refunded=charge.refunded + change.amount)
    postings.post(
        writer,
        change.key,
        "refund",
        wallet,
        [*lines_of(back), Line(Own.REVENUE.guid, -change.amount)],
        change.now_us,
        change.actor,
        charge=charge.key,
        reason=bounded_text(change.reason),
        more={"charge": charge.key, "refunded": charge.refunded},
    )
    writer.events.append(store.BalanceChanged(wallet.holder))
    return charges.keep(writer, charge, kept)


def _at_hand(
    writer: SqliteStore, wallet: Wallet, shares: Iterable[Share], now_us: int
) -> list[Share]:
    """What came from an allowance whose period is over is credit: there nobody could spend it."""
    purses = postings.purses_of(writer.db, wallet.holder)
    over = {one.guid for one in purses if not one.counts_at(now_us)}
    credit = wallet.purse(PurseKind.CREDIT).guid
    return [Share(credit, one.amount) if one.purse in over else one for one in shares]


def adjust(writer: SqliteStore, change: store.Adjust) -> int:
    """Give to a holder or take, as somebody has decided; an overdraft takes what is not there."""
    _check_here(writer)
    payer = Payer(change.kind, change.holder)
    if not postings.is_known(writer.db, payer):
        raise OperationError("not-found", "there is nobody of this key.")
    opened = postings.open_wallet(writer.db, change.kind, change.holder, change.now_us)
    wallet = opened.wallet
    if postings.is_posted(writer.db, check_key(change.key)):
        return wallet.balance
    amount = check_amount(change.amount)
    purse = _adjusted(change, wallet)
    if amount > 0:
        shares = wallet.receive(purse, amount)
    elif change.purse is None:
        shares = wallet.spend(-amount)
    elif purse.balance + amount < 0:
        raise limit_reached(-amount, Wallet(wallet.holder, (purse,)))
    else:
        shares = [Share(purse.guid, -amount)]
    postings.post_grants(writer, opened, change.now_us)
    own = Own.CASH if purse.kind is PurseKind.PAID_IN else Own.GIVEN
    postings.post(
        writer,
        change.key,
        "pay-in" if own is Own.CASH and amount > 0 else "pay-out" if own is Own.CASH else "adjust",
        wallet,
        [*lines_of(shares), Line(own.guid, -amount)],
        change.now_us,
        change.actor,
        opened=(purse,),
        reason=bounded_text(change.reason),
        more={"amount": amount},
    )
    writer.events.append(store.BalanceChanged(change.holder))
    if amount > 0:
        writer.events.append(store.MoneyCame(change.holder, change.kind is PayerKind.ACCOUNT))
    return wallet.balance + amount


def _adjusted(change: store.Adjust, wallet: Wallet) -> Purse:
    """The purse that an adjustment is of."""
    if change.amount == 0:
        raise OperationError("bad-request", "the amount is nothing.", "Name one.")
    kind = change.purse or PurseKind.CREDIT
    if kind in (PurseKind.ALLOWANCE, PurseKind.OVERDRAFT):
        raise OperationError(
            "bad-request",
            f"the purse {kind} is not filled by hand.",
            f"Use {PurseKind.CREDIT} or {PurseKind.PAID_IN}.",
        )
    if change.until_us is None:
        return wallet.purse(kind)
    if kind is not PurseKind.CREDIT or change.amount < 0 or change.until_us <= change.now_us:
        raise OperationError(
            "bad-request", "only credit ends, and at a time to come.", "Leave the time out."
        )
    if len(wallet.purses) >= PURSES_MAX:
        raise OperationError(
            "not-possible", f"there are {PURSES_MAX} purses already.", "Give credit without an end."
        )
    purse = Purse(wallet.holder, kind, 0, None, f"{change.until_us}", 0, change.until_us)
    return next((one for one in wallet.purses if one.guid == purse.guid), purse)
