"""Until when a site kept books of its own: as an application server, before it became a site.

What people booked there by hand counts up to the place in its journal at which it was first granted
rights. From then on balances are this node's alone, and nobody gets money by what a site says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from uuid import UUID

from spoold.spool import received

Place = tuple[UUID, int]  # an incarnation of a site's journal, and a position in it


def note(db: sqlite3.Connection, site: UUID, told: Iterable[Place]) -> None:
    """A site is granted rights; the first time its journal is as far as it has `told`, and at
    least as far as it is here.
    """
    if db.execute("SELECT 1 FROM own_books WHERE site = ?", (site.bytes,)).fetchone():
        return
    places = dict(told)
    for one in received.standings(db, site):
        places[one.incarnation] = max(one.position, places.get(one.incarnation, 0))
    db.executemany(
        "INSERT INTO own_books VALUES (?, ?, ?)",
        [(site.bytes, incarnation.bytes, position) for incarnation, position in places.items()],
    )


def kept_own(db: sqlite3.Connection, site: UUID, chain_id: int, position: int) -> bool:
    """Whether a site kept books of its own when it wrote this record."""
    known, last = db.execute(
        "SELECT count(*), max(own_books.position) FILTER (WHERE chain.id IS NOT NULL) "
        "FROM own_books LEFT JOIN chain ON chain.id = ? "
        "AND chain.incarnation = own_books.incarnation WHERE site = ?",
        (chain_id, site.bytes),
    ).fetchone()
    return not known or (last is not None and position <= last)
