"""Guests: people whom a site is not told of, by its groups, and who have logged in there.

They are copied to that site like everybody else of whom it has a copy, for some time; whoever comes
again after that is asked for again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.node import identity_of
from spoold.model.record import Kind

if TYPE_CHECKING:
    from spoold.spool import store
    from spoold.spool.sqlite import SqliteStore

STAY_US = 30 * 86_400_000_000
GONE_MAX = 1000  # who go with one who comes
GUESTS_MAX = 20_000  # of a site at a time


def admit(writer: SqliteStore, change: store.AdmitGuest) -> None:
    """Somebody is a guest from now on; those whose time is over are none any more.

    Raises:
        OperationError: `not-possible`: the site has as many guests as any may have.
    """
    db = writer.db
    db.execute(
        "DELETE FROM guest WHERE (node, person) IN (SELECT node, person FROM guest "
        "WHERE admitted_us < ? ORDER BY admitted_us LIMIT ?)",
        (change.now_us - STAY_US, GONE_MAX),
    )
    node, person = change.node.bytes, change.person.bytes
    (count,) = db.execute(
        "SELECT count(*) FROM guest WHERE node = ? AND person != ?", (node, person)
    ).fetchone()
    if count >= GUESTS_MAX:
        raise OperationError(
            "not-possible",
            f"the site has {count} guests.",
            "Copy their groups to it, too: `spoold site approve NAME --group GROUP`.",
        )
    db.execute(
        "INSERT INTO guest VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (node, person, change.now_us)
    )
    told = {"node": node, "person": person}
    writer.add_record(Kind.GUEST_ADMITTED, identity_of(change.node), change.now_us, told)


def among(db: sqlite3.Connection, node: UUID, people: Sequence[bytes]) -> set[bytes]:
    """Those of the people who are guests of a site."""
    marks = ",".join("?" * len(people))
    rows = db.execute(
        f"SELECT person FROM guest WHERE node = ? AND person IN ({marks})", (node.bytes, *people)
    )
    return {person for (person,) in rows}
