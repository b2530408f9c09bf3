"""Emergencies: held printers print at once, until a time that was set when it began."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from spoold.model.errors import OperationError
from spoold.model.record import Kind
from spoold.spool import store
from spoold.spool.bounds import bounded_text

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


class Emergency(NamedTuple):
    """When it was set last, and until when, who has set it, and why: a clock that shows a time
    before that was set back, and nobody knows how long it was to last.
    """

    since_us: int
    until_us: int
    actor: str
    reason: str


def find(db: sqlite3.Connection) -> Emergency | None:
    row = db.execute("SELECT since_us, until_us, actor, reason FROM emergency").fetchone()
    return None if row is None else Emergency(*row)


def set_emergency(writer: SqliteStore, change: store.SetEmergency) -> None:
    """See `SetEmergency`."""
    reason = bounded_text(change.reason)
    if change.until_us is None:
        if find(writer.db) is None:
            raise OperationError("not-possible", "there is no emergency.")
        writer.db.execute("DELETE FROM emergency")
    else:
        writer.db.execute(
            "INSERT INTO emergency VALUES (1, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "since_us = excluded.since_us, until_us = excluded.until_us, actor = excluded.actor, "
            "reason = excluded.reason",
            (change.now_us, change.until_us, change.actor, reason),
        )
    writer.add_record(
        Kind.EMERGENCY_CHANGED,
        change.actor,
        change.now_us,
        {"until_us": change.until_us},
        {"reason": reason} if reason else None,
    )
    writer.events.append(store.EmergencyChanged(change.until_us))
