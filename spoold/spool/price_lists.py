"""Versions of the price list: recorded, folded, and looked up; see `jobs` for the transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from spoold.model.pricing import NO_PRICES, PriceList, check_prices
from spoold.model.record import Kind
from spoold.spool import store
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def prices_at(db: sqlite3.Connection, at_us: int) -> PriceList:
    """The version of the price list that is in force at a moment."""
    row = db.execute(
        "SELECT fields FROM price_list WHERE from_us <= ? ORDER BY from_us DESC, version DESC "
        "LIMIT 1",
        (at_us,),
    ).fetchone()
    return NO_PRICES if row is None else PriceList.from_map(unpack(row[0]))


def prices_made_us(db: sqlite3.Connection) -> int:
    """When the newest version was made: it is no earlier now, whatever a clock shows."""
    row = db.execute("SELECT fields FROM price_list ORDER BY version DESC LIMIT 1").fetchone()
    return 0 if row is None else PriceList.from_map(unpack(row[0])).made_us


def next_prices_us(db: sqlite3.Connection, at_us: int) -> int | None:
    """When another version comes into force after a moment, as far as is known."""
    row = db.execute("SELECT min(from_us) FROM price_list WHERE from_us > ?", (at_us,)).fetchone()
    return None if row[0] is None else int(row[0])


def prices_of_version(db: sqlite3.Connection, version: int) -> PriceList | None:
    row = db.execute("SELECT fields FROM price_list WHERE version = ?", (version,)).fetchone()
    return None if row is None else PriceList.from_map(unpack(row[0]))


def page(db: sqlite3.Connection, after: int, limit: int) -> list[PriceList]:
    """At most `limit` versions behind one, the newest first; `after` 0 begins with the last."""
    rows = db.execute(
        "SELECT fields FROM price_list WHERE version < ? ORDER BY version DESC LIMIT ?",
        (after or 2**62, limit),
    )
    return [PriceList.from_map(unpack(row[0])) for row in rows]


def put_prices(writer: SqliteStore, change: store.PutPrices) -> PriceList:
    row = writer.db.execute("SELECT coalesce(max(version), 0) FROM price_list").fetchone()
    prices = replace(change.prices, version=row[0] + 1, made_us=change.now_us)
    check_prices(prices)
    writer.add_record(Kind.PRICES_CHANGED, change.actor, change.now_us, prices.as_map())
    writer.db.execute(
        "INSERT INTO price_list VALUES (?, ?, ?)",
        (prices.version, prices.from_us, pack(prices.as_map())),
    )
    writer.events.append(store.PricesChanged(prices.version))
    return prices
