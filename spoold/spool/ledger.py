"""Charges: reserved before the work, settled by what was made, given back where they came from.

Every function runs inside the writer's transaction and decides before it writes. A key stands for
one charge: whoever asks again, after a lost answer or in another order, gets the charge as it is.
A settlement is never refused: the paper is out. What it takes beyond what was promised, or beyond
what the payer has, is flagged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.charge import Charge, ChargeState, Flag, check_key
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.money import check_amount
from spoold.model.offline import Beyond
from spoold.model.pricing import NO_PRICES, PriceList, Quote, quote
from spoold.model.purse import (
    Payer,
    PayerKind,
    PurseKind,
    Share,
    Wallet,
    limit_reached,
    split,
)
from spoold.model.usage import Usage, check_usage
from spoold.spool import accounts, charges, held, late_carry, leases, postings, shared_work, store
from spoold.spool.postings import Line, Opened, Own, lines_of
from spoold.spool.rows import NUMBER, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def load(writer: SqliteStore, db: sqlite3.Connection) -> None:
    """Learn which jobs have an open reservation."""
    writer.reserved = dict(
        db.execute("SELECT job_id, key FROM charge WHERE state = 'reserved' AND job_id IS NOT NULL")
    )
    writer.price_lists.clear()


# -- reserve, settle, cancel -------------------------------------------------------------------


def reserve(
    writer: SqliteStore,
    key: bytes,
    payer: Payer,
    quote: Quote,
    usage: Usage,
    printer_id: int | None,
    now_us: int,
    actor: str,
    enforce: bool,
    job_id: int | None = None,
    happened_us: int | None = None,
    beyond: Beyond | None = None,
) -> Charge:
    """Take what a piece of work will cost from the payer's purses.

    Without `enforce` it is counted and priced, and nobody pays. `beyond` is what a site that is
    alone lets pay for what the purses do not hold.

    Raises:
        OperationError: `account-limit-reached`: the purses do not hold it; `not-found`,
            `not-possible`: nobody can pay from there; `conflict`: the job has another reservation.
            Nothing was written.
    """
    kept = charges.find(writer.db, check_key(key))
    if kept is not None:
        return kept.charge
    check_usage(usage)
    check_amount(quote.total)
    if job_id is not None and job_id in writer.reserved:
        raise OperationError("conflict", "something is reserved for this job already.")
    if not postings.is_known(writer.db, payer):
        raise OperationError("not-found", "there is nobody of this key who could pay.")
    at_us = now_us if happened_us is None else happened_us
    shares: list[Share] = []
    if enforce:
        payer, opened = _payable(writer.db, payer, quote.total, at_us, beyond)
        shares = opened.wallet.spend(quote.total)
        postings.post_grants(writer, opened, now_us)
        wallet = opened.wallet
    else:
        wallet = Wallet(payer.guid)
    charge = Charge(
        key,
        ChargeState.RESERVED,
        payer,
        quote,
        usage,
        quote.total,
        at_us,
        _printer(writer, printer_id),
        job_id,
        None if job_id is None else _uuid(writer, job_id),
        is_shadow=not enforce,
    )
    _post(writer, charge, "reserve", wallet, shares, [], now_us, actor)
    return charges.keep(writer, charge, shares)


def _payable(
    db: sqlite3.Connection, payer: Payer, total: int, at_us: int, beyond: Beyond | None
) -> tuple[Payer, Opened]:
    """Who pays, with the wallet: the spare account where a person's purses do not hold it.

    Raises:
        OperationError: `account-limit-reached`, `not-found`, `not-possible`.
    """
    opened = postings.open_wallet(db, payer.kind, payer.guid, at_us)
    if opened.wallet.holds(total):
        return payer, opened
    spare = postings.spare_of(db, payer)
    if spare is not None:
        other = postings.open_wallet(db, spare.kind, spare.guid, at_us)
        if other.wallet.holds(total):
            return spare, other
    if beyond is not None and payer.kind is PayerKind.PERSON:
        wallet = opened.wallet
        if wallet.limit is not None:
            opened.wallet = replace(wallet, limit=wallet.limit + beyond.overdraft)
        if opened.wallet.holds(total):
            return payer, opened
        if beyond.account is not None:
            spare = Payer(PayerKind.ACCOUNT, beyond.account, "offline", payer.guid)
            other = postings.open_wallet(db, spare.kind, spare.guid, at_us)
            if other.wallet.holds(total):
                return spare, other
    account = accounts.by_guid(db, payer.guid) if payer.kind is PayerKind.ACCOUNT else None
    raise limit_reached(total, opened.wallet, "" if account is None else account.name)


def settle(
    writer: SqliteStore,
    key: bytes,
    usage: Usage | None,
    now_us: int,
    actor: str,
    happened_us: int | None = None,
    flags: Sequence[str] = (),
) -> Charge:
    """Charge for what was made (None: all that was reserved), and give back the rest.

    It is priced by the version of the price list by which it was reserved, and what is beyond the
    reservation belongs to the period of `happened_us`.

    Raises:
        OperationError: `not-found`: nothing was reserved under this key.
    """
    charge, shares = charges.found(writer, key)
    if charge.state is ChargeState.SETTLED:
        return charge
    made = usage is not None and usage.is_known
    priced = charge.quote
    if usage is not None and made:
        priced = quote(_prices(writer, charge.quote), check_usage(usage), charge.printer)
    told = [*charge.flags, *flags]
    was_canceled = charge.state is ChargeState.CANCELED
    if was_canceled:
        told.append(Flag.AFTER_CANCEL)
    elif priced.total > charge.reserved and Flag.NOT_RESERVED not in told:
        told.append(Flag.BEYOND_RESERVATION)
    at_us = now_us if happened_us is None else happened_us
    wallet, given, back = wallet_of(writer, charge, at_us, now_us), list(shares), list[Share]()
    if not charge.is_shadow:
        given, rest = split(shares, priced.total)
        back = wallet.give_back(rest)
        wallet = wallet.after(back)
        more = wallet.spend(priced.total - sum(one.amount for one in given))
        after = wallet.after(more).available
        if more and after is not None and after < 0:
            told.append(Flag.BEYOND_LIMIT)
        given, back = [*given, *more], [*back, *more]
    charge = replace(
        charge,
        state=ChargeState.SETTLED,
        quote=priced,
        usage=usage if usage is not None and made else charge.usage,
        flags=tuple(dict.fromkeys(map(str, told))),
        ended_us=now_us,
    )
    paid = [Line(Own.REVENUE.guid, sum(one.amount for one in given))]
    _post(writer, charge, "settle", wallet, back, paid, now_us, actor, at_us, given)
    _carry_on(writer, wallet, back, now_us, actor)
    return charges.keep(writer, charge, given)


def cancel(
    writer: SqliteStore, key: bytes, now_us: int, actor: str, flags: Sequence[str] = ()
) -> Charge:
    """Nothing was made: all that was reserved goes back. What is settled stays so.

    Raises:
        OperationError: `not-found`: nothing was reserved under this key.
    """
    charge, shares = charges.found(writer, key)
    if charge.state is not ChargeState.RESERVED:
        return charge
    wallet = wallet_of(writer, charge, now_us, now_us)
    back = wallet.give_back(shares)
    charge = replace(
        charge,
        state=ChargeState.CANCELED,
        flags=tuple(dict.fromkeys((*charge.flags, *map(str, flags)))),
        ended_us=now_us,
    )
    _post(writer, charge, "cancel", wallet, back, [], now_us, actor)
    _carry_on(writer, wallet, back, now_us, actor)
    return charges.keep(writer, charge, [])


def _carry_on(
    writer: SqliteStore, wallet: Wallet, back: Sequence[Share], now_us: int, actor: str
) -> None:
    """What has come back of a period behind which another one was granted meanwhile is carried over
    like the rest of it; at a site it goes to the application server for that.
    """
    others = (*wallet.in_order(), wallet.purse(PurseKind.CREDIT))
    plain = {one.guid for one in others if one.allowance is None}
    allowed = [one.purse for one in back if one.amount < 0 and one.purse not in plain]
    if allowed and leases.own(writer.db) is None:
        for purse in allowed:
            late_carry.carry_on(writer, wallet.holder, purse, now_us, actor)


def _post(
    writer: SqliteStore,
    charge: Charge,
    cause: str,
    wallet: Wallet,
    shares: Sequence[Share],
    more: Sequence[Line],
    now_us: int,
    actor: str,
    happened_us: int | None = None,
    given: Sequence[Share] = (),
) -> None:
    """Book a step of a charge: what does not go to, or come from, revenue is what is reserved.

    A site tells which purses have `given` what was paid.
    """
    lines = [*lines_of(shares), *more]
    lines.append(Line(Own.RESERVED.guid, -sum(line.amount for line in lines)))
    key = charge.key if cause == "reserve" else charge.key + b"/" + cause.encode()
    epoch = held.epoch_of(writer, wallet.holder, now_us)
    told: dict[str, Any] = {}
    if epoch is not None:
        told = {"epoch": epoch, "given": [[one.purse.bytes, one.amount] for one in given]}
    postings.post(
        writer,
        key,
        cause,
        wallet,
        lines,
        now_us,
        actor,
        happened_us=charge.happened_us if happened_us is None else happened_us,
        charge=charge.key,
        more={**charge.as_map(), **told},
    )


def wallet_of(writer: SqliteStore, charge: Charge, at_us: int, now_us: int) -> Wallet:
    """The wallet of a charge's payer; also of one who could not pay for anything new any more."""
    holder = charge.payer.guid
    if charge.is_shadow:
        return Wallet(holder)
    try:
        opened = postings.open_wallet(writer.db, charge.payer.kind, holder, at_us)
    except OperationError:
        purses = postings.purses_of(writer.db, holder)
        return Wallet(holder, tuple(one for one in purses if one.counts_at(at_us)))
    postings.post_grants(writer, opened, now_us)
    return opened.wallet


def _printer(writer: SqliteStore, printer_id: int | None) -> UUID | None:
    guid = None if printer_id is None else writer.printers.get(printer_id)
    return None if guid is None else UUID(bytes=guid)


def _uuid(writer: SqliteStore, job_id: int) -> UUID | None:
    writer.flush()
    row = writer.db.execute("SELECT uuid FROM job WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else UUID(bytes=row[0])


def _prices(writer: SqliteStore, quote: Quote) -> PriceList:
    """The version of the price list behind a quote."""
    version = quote.price_version
    found = writer.price_lists.get(version)
    if found is None:
        row = writer.db.execute(
            "SELECT fields FROM price_list WHERE version = ?", (version,)
        ).fetchone()
        found = NO_PRICES if row is None else PriceList.from_map(unpack(row[0]))
        writer.price_lists[version] = found
    return found


# -- jobs --------------------------------------------------------------------------------------


def job_ended(
    writer: SqliteStore, job_id: int, state: JobState, now_us: int, printed: int | None = None
) -> None:
    """Settle what was reserved for a job that has ended, by what its device has counted.

    A job that is completed without any count pays what was reserved, another one nothing. Nobody
    pays for more than was counted before the job was released: it is flagged instead. A job that is
    printed once more is released again, and charged for that release.
    """
    key = writer.reserved[job_id]
    charge = charges.found(writer, key).charge
    counted = _counted(writer, job_id) if printed is None else (printed, True)
    impressions, was_tried = counted
    usage = charge.usage
    if impressions is None:
        if state is JobState.COMPLETED:
            settle(writer, key, None, now_us, "node")
        else:
            cancel(writer, key, now_us, "node", (Flag.NOT_COUNTED,) if was_tried else ())
    elif not impressions:
        cancel(writer, key, now_us, "node")
    elif not usage.is_known:
        settle(writer, key, None, now_us, "node")
    else:
        flags = (Flag.MORE_PRINTED,) if impressions > usage.impressions else ()
        settle(writer, key, usage.limited_to(impressions), now_us, "node", flags=flags)


def _counted(writer: SqliteStore, job_id: int) -> tuple[int | None, bool]:
    """The impressions that devices counted for a job, if all did; and whether it was tried.

    An attempt in doubt counts as far as its device does: what it left is the job's paper, unless
    another attempt has printed that document.
    """
    found: dict[int, int | None] = {}
    rows = writer.db.execute(
        "SELECT document, outcome, evidence FROM attempt WHERE job_id = ? ORDER BY number",
        (job_id,),
    )
    for document, outcome, packed in rows:
        if outcome in ("deferred", ""):
            continue
        pages = unpack(packed).get("pages") if packed else None
        found[document] = pages if type(pages) is int and pages >= 0 else None
    known = [pages for pages in found.values() if pages is not None]
    return (sum(known) if found and len(known) == len(found) else None), bool(found)


# -- changes -----------------------------------------------------------------------------------


def reserve_change(writer: SqliteStore, change: store.Reserve) -> Charge:
    return reserve(
        writer,
        change.key,
        change.payer,
        change.quote,
        change.usage,
        change.printer_id,
        change.now_us,
        change.actor,
        change.is_enforced,
        change.job_id,
        change.happened_us,
        change.beyond,
    )


def settle_change(writer: SqliteStore, change: store.Settle) -> Charge:
    if change.unreserved is not None and charges.find(writer.db, change.key) is None:
        if there := _charged_at_a_site(writer, change, change.unreserved):
            return there
        _open_unreserved(writer, change, change.unreserved)
    return settle(
        writer,
        change.key,
        change.usage,
        change.now_us,
        change.actor,
        change.happened_us,
        change.flags,
    )


def cancel_change(writer: SqliteStore, change: store.Cancel) -> Charge:
    return cancel(writer, change.key, change.now_us, change.actor)


def cancel_of_job(writer: SqliteStore, job_id: int, now_us: int, actor: str) -> bool:
    """What is reserved for a job goes back; whether there was anything."""
    key = writer.reserved.get(job_id)
    if key is not None:
        cancel(writer, key, now_us, actor)
    return key is not None


def paid_elsewhere(writer: SqliteStore, change: store.PaidElsewhere) -> None:
    """See `PaidElsewhere`."""
    if cancel_of_job(writer, change.job_id, change.now_us, change.actor):
        return
    row = writer.db.execute(
        "SELECT 1 FROM job JOIN charge ON charge.job_id = job.id AND charge.state = 'settled' "
        "AND NOT is_shadow AND amount > refunded WHERE job.id = ? AND job.state = ?",
        (change.job_id, NUMBER[JobState.COMPLETED]),
    ).fetchone()
    if row is not None:
        raise OperationError("paid-here", "it came out here, and was paid, before it was offered.")


def _charged_at_a_site(
    writer: SqliteStore, change: store.Settle, asked: store.Reserve
) -> Charge | None:
    """The charge of the same work that was reported at a site before."""
    others = shared_work.under(writer.db, change.key) if shared_work.is_shared(change.key) else []
    if not others:
        return None
    usage = check_usage(asked.usage if change.usage is None else change.usage)
    printer = _printer(writer, asked.printer_id)
    priced = quote(_prices(writer, asked.quote), usage, printer) if usage.is_known else asked.quote
    return shared_work.same_as(others, printer, asked.payer, priced.total)


def _open_unreserved(writer: SqliteStore, change: store.Settle, asked: store.Reserve) -> None:
    """Begin the charge of work that nobody asked for before it was done: nothing is taken yet."""
    usage = check_usage(asked.usage if change.usage is None else change.usage)
    flags = [Flag.NOT_RESERVED.value]
    if usage.is_known:
        quote(_prices(writer, asked.quote), usage, _printer(writer, asked.printer_id))
    else:
        flags.append(Flag.NOT_COUNTED.value)
    if not postings.is_known(writer.db, asked.payer):
        raise OperationError("not-found", "there is nobody of this key who could pay.")
    charge = Charge(
        check_key(change.key),
        ChargeState.RESERVED,
        asked.payer,
        Quote(asked.quote.price_version, 0) if usage.is_known else asked.quote,
        replace(usage, lines=()),
        0,
        change.now_us if change.happened_us is None else change.happened_us,
        _printer(writer, asked.printer_id),
        asked.job_id,
        None if asked.job_id is None else _uuid(writer, asked.job_id),
        is_shadow=not asked.is_enforced,
        flags=tuple(flags),
    )
    wallet = Wallet(charge.payer.guid)
    _post(writer, charge, "reserve", wallet, [], [], change.now_us, change.actor)
    charges.keep(writer, charge, [])
