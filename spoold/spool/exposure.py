"""What was taken away from people and machines, and a site that is cut off does not know of.

There a lost card still opens, and somebody who has left still prints, until its line is back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from spoold.codec.record import decode
from spoold.spool import store

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

_NAMES = {
    "user": "SELECT name FROM person WHERE key = ?",
    "mfd": "SELECT name FROM mfd WHERE guid = ?",
    "provider": "SELECT name FROM provider WHERE guid = ?",
}


class Untold(NamedTuple):
    """Somebody who may do less than a site knows. `what` is the kind of the record that says so,
    `since_us` its time: "" and None when it is kept no longer. `name` "": erased.
    """

    kind: str
    key: UUID
    name: str
    what: str
    since_us: int | None


def told_up_to(db: sqlite3.Connection, site: UUID) -> int | None:
    """Up to where a site was told when its line ended; None: its line has not ended so far."""
    row = db.execute("SELECT revoked FROM told WHERE site = ?", (site.bytes,)).fetchone()
    return None if row is None else int(row[0])


def count_untold(db: sqlite3.Connection, revoked: int) -> int:
    """How many have less than was told up to a position."""
    (count,) = db.execute("SELECT count(*) FROM object WHERE revoked >= ?", (revoked,)).fetchone()
    return int(count)


def counts_untold(db: sqlite3.Connection, sites: Mapping[UUID, int | None]) -> dict[UUID, int]:
    """The same for sites, by what they were told up to, None: when their lines ended. Those are
    left out that were told everything.
    """
    found: dict[UUID, int] = {}
    for site, known in sites.items():
        since = told_up_to(db, site) if known is None else known
        count = 0 if since is None else count_untold(db, since)
        if count:
            found[site] = count
    return found


def untold(db: sqlite3.Connection, revoked: int, limit: int) -> list[Untold]:
    """The first of them, the last change first."""
    rows = db.execute(
        "SELECT object.kind, object.key, header, payload, hash FROM object "
        "LEFT JOIN record ON record.id = object.revoked WHERE object.revoked >= ? "
        "ORDER BY object.revoked DESC LIMIT ?",
        (revoked, limit),
    ).fetchall()
    found = []
    for kind, key, header, payload, hash_ in rows:
        row = db.execute(_NAMES[kind], (key,)).fetchone() if kind in _NAMES else None
        name = (row[0] or "") if row else ""
        one = Untold(kind, UUID(bytes=key), name, "", None)
        if header is not None:
            record = decode(header, payload, None, hash_)
            one = one._replace(what=record.kind, since_us=record.event_us)
        found.append(one)
    return found


def note_told(writer: SqliteStore, change: store.NoteTold) -> None:
    writer.db.execute(
        "INSERT INTO told VALUES (?, ?) ON CONFLICT (site) DO UPDATE SET revoked = ?",
        (change.site.bytes, change.revoked, change.revoked),
    )
