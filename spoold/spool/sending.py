"""Look-ups of this node's own journal for those who send it on: incarnations, and rows as stored.

Each takes the read connection (see `reader.look`) and is one short snapshot.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple
from uuid import UUID

from spoold.codec.batch import BATCH_RECORDS_MAX, fitting
from spoold.codec.record import Encoded
from spoold.spool.changes.receiving import Parent
from spoold.spool.rows import CHAIN_SHIFT

CURSOR = "upstream"  # the cursor of what the application server has acknowledged
OWN_CHAIN = "SELECT max(id) FROM chain WHERE is_own = 1"


class Chain(NamedTuple):
    """One incarnation of this node's journal: records behind `anchor`, up to `position`."""

    id: int
    incarnation: UUID
    position: int
    hash: bytes
    anchor: int
    anchor_hash: bytes
    parent: Parent | None


class Batch(NamedTuple):
    """Records as they are stored, from `first` on, after the hash `previous`."""

    first: int
    previous: bytes
    records: list[Encoded]

    @property
    def last(self) -> int:
        return self.first - 1 + len(self.records)


def own_chain(db: sqlite3.Connection) -> int:
    """The incarnation in which this node's journal goes on."""
    return int(db.execute(OWN_CHAIN).fetchone()[0])


def stored(
    db: sqlite3.Connection, chain: int, first: int, limit: int
) -> list[tuple[int, bytes, bytes, bytes | None, bytes]]:
    """Records of a chain from a position on: where, header, payload, personal part, hash."""
    base = chain << CHAIN_SHIFT
    return db.execute(
        "SELECT id - ?, header, payload, personal, hash FROM record WHERE id >= ? AND id < ? "
        "ORDER BY id LIMIT ?",
        (base, base | first, base + (1 << CHAIN_SHIFT), limit),
    ).fetchall()


def chains(db: sqlite3.Connection) -> list[Chain]:
    """Every incarnation, the oldest first; the last one is that in use."""
    rows = db.execute(
        "SELECT id, incarnation, position, hash, anchor_position, anchor_hash, "
        "parent_incarnation, parent_position, parent_hash FROM chain WHERE is_own = 1 ORDER BY id"
    )
    return [
        Chain(
            id_,
            UUID(bytes=incarnation),
            position,
            hash_,
            anchor,
            anchor_hash,
            None if parent is None else Parent(UUID(bytes=parent), at, parent_hash),
        )
        for id_, incarnation, position, hash_, anchor, anchor_hash, parent, at, parent_hash in rows
    ]


def batch(
    db: sqlite3.Connection, chain_id: int, after: int, limit: int = BATCH_RECORDS_MAX
) -> Batch | None:
    """The next records of a chain behind a position, as many as fit, at most `limit`; None: there
    are none.

    What was pruned is left out: then the batch begins later.
    """
    base = chain_id << CHAIN_SHIFT
    (anchor, anchor_hash) = db.execute(
        "SELECT anchor_position, anchor_hash FROM chain WHERE id = ?", (chain_id,)
    ).fetchone()
    after = max(after, anchor)
    rows = db.execute(
        "SELECT header, payload, personal, hash FROM record WHERE id > ? AND id < ? "
        "ORDER BY id LIMIT ?",
        (base | after, base + (1 << CHAIN_SHIFT), limit),
    )
    found = fitting(Encoded(*row) for row in rows)
    if not found:
        return None
    previous = anchor_hash if after == anchor else _hash(db, base | after)
    return Batch(after + 1, previous, found)


def _hash(db: sqlite3.Connection, id_: int) -> bytes:
    return bytes(db.execute("SELECT hash FROM record WHERE id = ?", (id_,)).fetchone()[0])


def hash_at(db: sqlite3.Connection, chain_id: int, position: int) -> bytes | None:
    """The hash of one record, or of the anchor; None where it is not kept."""
    row = db.execute(
        "SELECT hash FROM record WHERE id = ? UNION ALL "
        "SELECT anchor_hash FROM chain WHERE id = ? AND anchor_position = ?",
        (chain_id << CHAIN_SHIFT | position, chain_id, position),
    ).fetchone()
    return None if row is None else bytes(row[0])


def one_record(db: sqlite3.Connection, chain_id: int, position: int) -> Batch | None:
    """The one record at a position, as a batch."""
    found = batch(db, chain_id, position - 1, limit=1)
    return found if found is not None and found.first == position else None
