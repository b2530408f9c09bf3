"""Passwords that a directory has accepted, as verifiers that are sealed with a key of this node."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from spoold.spool import store

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


class Verifier(NamedTuple):
    sealed: bytes
    verified_us: int


def find(db: sqlite3.Connection, person: UUID) -> Verifier | None:
    row = db.execute(
        "SELECT sealed, verified_us FROM verifier WHERE person = ?", (person.bytes,)
    ).fetchone()
    return None if row is None else Verifier(*row)


def kept(db: sqlite3.Connection, people: list[UUID]) -> set[UUID]:
    """Those of these people whose password is remembered."""
    return {person for person in people if find(db, person) is not None}


def keep_verifier(writer: SqliteStore, change: store.KeepVerifier) -> None:
    """See `KeepVerifier`. It is no fact that anybody else should know of: there is no record."""
    if change.sealed is None:
        writer.db.execute("DELETE FROM verifier WHERE person = ?", (change.person.bytes,))
        return
    writer.db.execute(
        "INSERT INTO verifier VALUES (?, ?, ?) ON CONFLICT (person) DO UPDATE SET "
        "sealed = excluded.sealed, verified_us = excluded.verified_us",
        (change.person.bytes, change.sealed, change.now_us),
    )
