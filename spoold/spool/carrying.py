"""The books of long ago: charges become sums by month, and their entries one that carries them.

What is carried has ended, and so have all its entries: charges that were settled or given back, and
what was booked by hand. Entries add up to zero, and so does their sum: balances, and the sum of the
ledger, are what they were. What usage says of whole months stays as it was; a refund of a charge
that is carried is not possible any more, and a report of it would be a new charge.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from spoold.model.charge import ChargeState
from spoold.model.purse import Period, span_at
from spoold.model.record import Kind
from spoold.spool import postings, store

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

CARRIED = b"carried"  # the key of the entry that stands for those of before


class Due(NamedTuple):
    """Entries and charges that are to be carried, of a stretch of the ledger.

    `last_id` is the last entry that was looked at; 0: the others are too young.
    """

    entries: set[int]
    charges: set[bytes]
    last_id: int


def due(db: sqlite3.Connection, before_us: int, after_id: int, limit: int, now_us: int) -> Due:
    """What is to be carried of the next entries behind one, by the order in which they came.

    One that a wrong clock has booked in the future stays, and keeps none of those behind it.
    """
    found = Due(set(), set(), 0)
    rows = db.execute(
        "SELECT id, key, charge, booked_us FROM entry WHERE id > ? ORDER BY id LIMIT ?",
        (after_id, limit),
    ).fetchall()
    for id_, key, charge, booked_us in rows:
        if booked_us >= max(before_us, now_us):
            continue
        if booked_us >= before_us:
            return found
        if key != CARRIED and charge is None:
            found.entries.add(id_)
        elif charge is not None and charge not in found.charges:
            entries = _ended(db, charge, before_us)
            found.entries.update(entries)
            if entries:
                found.charges.add(charge)
    return found._replace(last_id=rows[-1][0] if len(rows) == limit else 0)


def _ended(db: sqlite3.Connection, charge: bytes, before_us: int) -> list[int]:
    """The entries of a charge that has ended before a time; none of another one."""
    row = db.execute("SELECT state FROM charge WHERE key = ?", (charge,)).fetchone()
    if row is not None and row[0] == ChargeState.RESERVED:
        return []
    rows = db.execute("SELECT id, booked_us FROM entry WHERE charge = ?", (charge,)).fetchall()
    return [] if any(booked_us >= before_us for _, booked_us in rows) else [id_ for id_, _ in rows]


def carry(writer: SqliteStore, change: store.CarryLedger) -> int:
    """Carry what is due; answers how many entries that were."""
    db = writer.db
    found = due(db, change.before_us, change.after_id, change.limit, change.now_us)
    if not found.entries:
        return 0
    _add_up_charges(db, found.charges)
    position = writer.add_record(
        Kind.LEDGER_CARRIED,
        "node",
        change.now_us,
        {
            "before_us": change.before_us,
            "entries": len(found.entries),
            "charges": len(found.charges),
        },
    )
    _add_up_entries(db, found.entries, change, position)
    return len(found.entries)


def _add_up_charges(db: sqlite3.Connection, keys: set[bytes]) -> None:
    """Settled ones count in the sums of their months; the others leave nothing."""
    zone = ZoneInfo(postings.terms(db).zone)
    for key in keys:
        row = db.execute(
            "SELECT happened_us, coalesce(spender, x''), holder, coalesce(printer, x''), "
            "is_account, 1, impressions, color_impressions, sheets, "
            "CASE WHEN is_shadow THEN 0 ELSE amount - refunded END, "
            "CASE WHEN is_shadow THEN amount ELSE 0 END, flags != '' "
            "FROM charge WHERE key = ? AND state = 'settled'",
            (key,),
        ).fetchone()
        if row is not None:
            from_us = span_at(Period.MONTH, row[0], zone).from_us
            db.execute(
                "INSERT INTO charge_sum VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET charges = charges + 1, "
                "impressions = impressions + excluded.impressions, "
                "color_impressions = color_impressions + excluded.color_impressions, "
                "sheets = sheets + excluded.sheets, amount = amount + excluded.amount, "
                "shadow = shadow + excluded.shadow, flagged = flagged + excluded.flagged",
                (from_us, *row[1:]),
            )
        db.execute("DELETE FROM charge WHERE key = ?", (key,))


def _add_up_entries(
    db: sqlite3.Connection, ids: set[int], change: store.CarryLedger, position: int
) -> None:
    """The sum of what entries did to each purse, in the entry that carries them."""
    (carrying,) = db.execute(
        "INSERT INTO entry (key, cause, holder, charge, happened_us, booked_us, actor, reason, "
        "position) VALUES (?, 'carried', ?, NULL, ?, ?, 'node', '', ?) ON CONFLICT (key) DO UPDATE "
        "SET happened_us = excluded.happened_us, booked_us = excluded.booked_us, "
        "position = excluded.position RETURNING id",
        (CARRIED, postings.LEDGER.bytes, change.before_us, change.now_us, position),
    ).fetchone()
    every = [(one,) for one in ids]
    for (id_,) in every:
        # One posting for a purse: the row of the purse is its number.
        db.execute(
            "INSERT INTO posting SELECT ?, purse_id, purse_id, sum(amount), sum(amount) "
            "FROM posting WHERE entry_id = ? GROUP BY purse_id ON CONFLICT DO UPDATE SET "
            "amount = amount + excluded.amount, after = after + excluded.amount",
            (carrying, id_),
        )
    db.executemany("DELETE FROM posting WHERE entry_id = ?", every)
    db.executemany("DELETE FROM entry WHERE id = ?", every)
    db.execute("DELETE FROM posting WHERE entry_id = ? AND amount = 0", (carrying,))
