"""What is asked of the ledger: wallets, statements, the money side of a job, usage in sums.

Each look-up is one short snapshot on any connection (`SqliteReader.look`). None of them grants an
allowance: a wallet is shown as it will be when somebody spends from it.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from heapq import merge
from operator import add, itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from spoold.model.charge import Charge
from spoold.model.errors import OperationError
from spoold.model.purse import Payer, PayerKind, Wallet
from spoold.spool import escrow
from spoold.spool.carrying import CARRIED
from spoold.spool.charges import SELECT_CHARGE, charge_of
from spoold.spool.postings import LEDGER, open_wallet, spare_of, terms


class PurseLine(NamedTuple):
    """What an entry did to a purse. `period` is that of an allowance, or empty; `until_us` is when
    what is in the purse ends, or None.
    """

    kind: str
    period: str
    until_us: int | None
    amount: int
    after: int

    @property
    def before(self) -> int:
        return self.after - self.amount


class Entry(NamedTuple):
    """One entry of the ledger, with what it did to the purses of its holder.

    `work` and `job_id` are those of its charge: "" and None for what was booked otherwise.
    """

    id: int
    cause: str
    happened_us: int
    booked_us: int
    actor: str
    reason: str
    charge: bytes | None
    work: str
    job_id: int | None
    lines: tuple[PurseLine, ...]

    @property
    def amount(self) -> int:
        """What the holder had more, or less, by it."""
        return sum(line.amount for line in self.lines)


class Story(NamedTuple):
    """A charge with its entries: what its payer's purses held before and after each step."""

    charge: Charge
    entries: tuple[Entry, ...]


def wallet_of(db: sqlite3.Connection, payer: Payer, at_us: int) -> Wallet:
    """What a payer can spend at a moment.

    Raises:
        OperationError: `not-found`, `not-possible`: there is no such account, or it is closed.
    """
    return open_wallet(db, payer.kind, payer.guid, at_us).wallet


def holds(db: sqlite3.Connection, payer: Payer, total: int, at_us: int) -> bool:
    """Whether a payer can spend `total` at a moment; why one cannot pay at all, the ledger says."""
    try:
        return wallet_of(db, payer, at_us).holds(total)
    except OperationError:
        return True


def wallets_of(db: sqlite3.Connection, payer: Payer, at_us: int) -> list[Wallet]:
    """The same, and the wallet of whoever pays where this payer cannot.

    Raises:
        OperationError: as `wallet_of`.
    """
    spare = spare_of(db, payer)
    return [wallet_of(db, one, at_us) for one in (payer, spare) if one is not None]


class Standing(NamedTuple):
    """What a holder has here, and what each site may spend beside that; `currency` is that of all
    amounts.
    """

    wallet: Wallet
    at_sites: dict[UUID, int]
    currency: str


def standing(db: sqlite3.Connection, person: UUID, at_us: int) -> Standing:
    """How a person stands at a moment, in one snapshot."""
    wallet = open_wallet(db, PayerKind.PERSON, person, at_us).wallet
    return Standing(wallet, escrow.at_sites(db, person, at_us), terms(db).currency)


# -- charges -----------------------------------------------------------------------------------


def charge_by_key(db: sqlite3.Connection, key: bytes) -> Story | None:
    row = db.execute(SELECT_CHARGE + "WHERE charge.key = ?", (key,)).fetchone()
    return None if row is None else _story(db, row)


def charges_of_job(db: sqlite3.Connection, job_id: int) -> list[Story]:
    """The charges of a job, oldest first: one for each time that it was released."""
    rows = db.execute(SELECT_CHARGE + "WHERE charge.job_id = ? ORDER BY charge.id", (job_id,))
    return [_story(db, row) for row in rows.fetchall()]


def _story(db: sqlite3.Connection, row: tuple[Any, ...]) -> Story:
    charge = charge_of(row).charge
    rows = db.execute(_ENTRY + "WHERE charge = ? ORDER BY entry.id", (charge.key,)).fetchall()
    return Story(charge, tuple(_entry(db, one) for one in rows))


# -- statements --------------------------------------------------------------------------------

_ENTRY = (
    "SELECT entry.id, cause, entry.happened_us, booked_us, actor, reason, charge, "
    "coalesce(work, ''), job_id FROM entry LEFT JOIN charge ON charge.key = entry.charge "
)
_PURSE = "purse.kind, CASE WHEN allowance IS NULL THEN '' ELSE purse.period END, purse.until_us"


def _entry(db: sqlite3.Connection, row: tuple[Any, ...]) -> Entry:
    lines = db.execute(
        f"SELECT {_PURSE}, posting.amount, posting.after FROM posting "
        "JOIN purse ON purse.id = purse_id WHERE entry_id = ? AND purse.holder != ? "
        "ORDER BY number",
        (row[0], LEDGER.bytes),
    )
    return Entry._make((*row, tuple(PurseLine(*line) for line in lines)))


def statement(
    db: sqlite3.Connection,
    holder: UUID,
    since_us: int | None,
    until_us: int | None,
    before_id: int,
    limit: int,
) -> list[Entry]:
    """At most `limit` entries of a holder, the last booked first, before an entry (0: from now).

    The one before all others stands for those that are kept no longer: see `carrying`.
    """
    rows = db.execute(
        _ENTRY + "WHERE entry.holder = ? AND entry.id < ? AND entry.happened_us >= ? "
        "AND entry.happened_us < ? ORDER BY entry.id DESC LIMIT ?",
        (
            holder.bytes,
            before_id or 2**62,
            -(2**62) if since_us is None else since_us,
            2**62 if until_us is None else until_us,
            limit,
        ),
    ).fetchall()
    found = [_entry(db, row) for row in rows]
    if len(found) < limit:
        found += _carried(db, holder, since_us, until_us)
    return found


def _carried(
    db: sqlite3.Connection, holder: UUID, since_us: int | None, until_us: int | None
) -> list[Entry]:
    """What the entries of long ago did to the purses of a holder, as one entry; or none."""
    row = db.execute(_ENTRY + "WHERE entry.key = ?", (CARRIED,)).fetchone()
    if row is None:
        return []
    at_us = row[2]
    if (since_us or at_us) > at_us or (until_us is not None and until_us <= at_us):
        return []
    lines = db.execute(
        f"SELECT {_PURSE}, amount, amount FROM purse JOIN posting "
        "ON entry_id = ? AND number = purse.id WHERE purse.holder = ? ORDER BY purse.id",
        (row[0], holder.bytes),
    )
    found = tuple(PurseLine(*line) for line in lines)
    return [Entry._make((*row, found))] if found else []


# -- usage -------------------------------------------------------------------------------------


class By(StrEnum):
    """What usage is added up for."""

    USER = "user"
    ACCOUNT = "account"
    PRINTER = "printer"


class Sum(NamedTuple):
    """What one user, account or printer has used: `key` is a GUID, or empty where none is known.

    `shadow` is what would have been paid had it been enforced.
    """

    key: bytes
    charges: int
    impressions: int
    color_impressions: int
    sheets: int
    amount: int
    shadow: int
    flagged: int

    def plus(self, other: Sum) -> Sum:
        """What both of the same key have used."""
        return Sum(self.key, *map(add, self[1:], other[1:]))


class _Key(NamedTuple):
    """The column that usage is added up for, and how the names of its indexes end."""

    column: str
    ending: str
    which: str = ""


_KEY = {
    By.USER: _Key("spender", "spender"),
    By.ACCOUNT: _Key("holder", "account", "AND is_account "),
    By.PRINTER: _Key("printer", "printer"),
}


def usage(
    db: sqlite3.Connection, by: By, since_us: int, until_us: int, after: bytes | None, limit: int
) -> list[Sum]:
    """Sums of what happened between two times, by key; at most `limit` behind the key `after`.

    Only what was settled counts. Of accounts only shared ones are listed. What is kept no longer
    counts by the months that began between these times. Nothing is looked at but what is on the
    page, which can be many charges all the same: ask by `SqliteReader.report`.
    """
    column, ending, which = _KEY[by]
    behind = "" if after is None else f"AND {column} > ? "
    values = (since_us, until_us, *(() if after is None else (after,)), limit)
    charges = db.execute(
        f"SELECT coalesce({column}, x''), count(*), sum(impressions), sum(color_impressions), "
        "sum(sheets), sum(iif(is_shadow, 0, amount - refunded)), sum(iif(is_shadow, amount, 0)), "
        f"sum(flags != '') FROM charge INDEXED BY charge_{ending} WHERE state = 'settled' "
        f"AND happened_us >= ? AND happened_us < ? {which}{behind}"
        f"GROUP BY {column} ORDER BY {column} LIMIT ?",
        values,
    ).fetchall()
    months = db.execute(
        f"SELECT {column}, sum(charges), sum(impressions), sum(color_impressions), sum(sheets), "
        f"sum(amount), sum(shadow), sum(flagged) FROM charge_sum INDEXED BY charge_sum_{ending} "
        f"WHERE from_us >= ? AND from_us < ? {which}{behind}"
        f"GROUP BY {column} ORDER BY {column} LIMIT ?",
        values,
    ).fetchall()
    found: dict[bytes, Sum] = {}
    for row in merge(charges, months, key=itemgetter(0)):
        one = Sum(*row)
        kept = found.get(one.key)
        found[one.key] = one if kept is None else kept.plus(one)
    return list(found.values())[:limit]
