"""The incarnations of this node's journal."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple
from uuid import UUID


class Chain(NamedTuple):
    """An incarnation, and the one that it goes on from: after a restore, or a roll-back."""

    incarnation: UUID
    started_us: int
    parent_incarnation: UUID | None
    parent_position: int | None


def own(db: sqlite3.Connection) -> Chain:
    """The incarnation that records are added to."""
    incarnation, started_us, parent, position = db.execute(
        "SELECT incarnation, started_us, parent_incarnation, parent_position FROM chain "
        "WHERE is_own = 1 ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return Chain(UUID(bytes=incarnation), started_us, parent and UUID(bytes=parent), position)
