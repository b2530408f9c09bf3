"""What was decided in advance for sites that are alone, as rows; `leases` says what holds where."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from uuid import UUID

from spoold.model.offline import OfflinePolicy
from spoold.model.record import Kind
from spoold.spool import store
from spoold.spool.leases import EVERY_SITE
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def put_policy(writer: SqliteStore, change: store.PutPolicy) -> None:
    site = change.site or EVERY_SITE
    if change.policy is None:
        writer.db.execute("DELETE FROM offline_policy WHERE site = ?", (site.bytes,))
        told = None
    else:
        told = change.policy.as_map()
        writer.db.execute(
            "INSERT INTO offline_policy VALUES (?, ?, ?) ON CONFLICT (site) DO UPDATE SET "
            "fields = excluded.fields, changed_us = excluded.changed_us",
            (site.bytes, pack(told), change.now_us),
        )
    payload = {"site": site.bytes, "policy": told}
    writer.add_record(Kind.POLICY_CHANGED, change.actor, change.now_us, payload)
    writer.events.append(store.PolicyChanged(change.site))


def find_all(db: sqlite3.Connection) -> dict[UUID | None, OfflinePolicy]:
    """Every policy that somebody has set, by its site; None is the one of all others."""
    rows = db.execute("SELECT site, fields FROM offline_policy ORDER BY site")
    return {
        (None if site == EVERY_SITE.bytes else UUID(bytes=site)): OfflinePolicy.from_map(
            unpack(packed)
        )
        for site, packed in rows
    }
