"""How sessions at MFDs start and end, in the writer's transaction, and how they are looked up.

A session that ended is kept for a while: what was made in it may be reported later.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.mfd import Session, SessionEnd
from spoold.model.record import Kind
from spoold.spool import store, users

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

_SELECT = "SELECT key, mfd, person, method, started_us, used_us, ended_us, reason FROM session "
NAMED_BYTES = 8  # of a session's hash, by which records name it


def find(db: sqlite3.Connection, key: bytes) -> Session | None:
    """The session, also when it is over."""
    row = db.execute(_SELECT + "WHERE key = ?", (key,)).fetchone()
    return None if row is None else _session_of(row)


def find_open(db: sqlite3.Connection) -> list[Session]:
    """Every session that has not ended."""
    rows = db.execute(_SELECT + "INDEXED BY session_open WHERE ended_us IS NULL")
    return [_session_of(row) for row in rows]


def _session_of(row: tuple[Any, ...]) -> Session:
    key, mfd, person, method, started_us, used_us, ended_us, reason = row
    return Session(
        key, UUID(bytes=mfd), UUID(bytes=person), method, started_us, used_us, ended_us, reason
    )


def start_session(writer: SqliteStore, change: store.StartSession) -> Session:
    """Whoever was logged in at this MFD is no more; a person may be at several."""
    db = writer.db
    row = db.execute("SELECT revoked FROM mfd WHERE guid = ?", (change.mfd.bytes,)).fetchone()
    if row is None or row[0]:
        raise OperationError("forbidden", "this MFD was revoked.", "Enrol it by another name.")
    user = users.find_by_guid(db, change.person)
    if user is None or user.disabled:
        raise OperationError(
            "unauthorized", "this user may not log in any more.", "Ask an administrator."
        )
    if user.changed_us != change.changed_us:
        raise OperationError("busy", "this user is being changed.", "Try again in a moment.")
    end_at(writer, change.mfd.bytes, SessionEnd.ANOTHER_LOGIN, change.now_us, change.actor)
    writer.add_record(
        Kind.SESSION_STARTED,
        change.actor,
        change.now_us,
        {
            "session": change.key[:NAMED_BYTES],
            "mfd": change.mfd.bytes,
            "person": change.person.bytes,
            "method": change.method,
        },
    )
    db.execute(
        "INSERT INTO session (key, mfd, person, method, started_us, used_us, ended_us, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, NULL, '')",
        (
            change.key, change.mfd.bytes, change.person.bytes, change.method,
            change.now_us, change.now_us,
        ),
    )  # fmt: skip
    made = Session(
        change.key, change.mfd, change.person, change.method, change.now_us, change.now_us
    )
    writer.events.append(store.SessionStarted(made))
    return made


def end_session(writer: SqliteStore, change: store.EndSession) -> bool:
    return _end(
        writer, "key = ?", (change.key,), change.reason, change.now_us, change.actor
    )  # fmt: skip


def end_at(
    writer: SqliteStore, mfd: bytes, reason: SessionEnd, now_us: int, actor: str
) -> bool:  # fmt: skip
    """End the open session at an MFD; whether there was one."""
    return _end(writer, "mfd = ?", (mfd,), reason, now_us, actor)


def _end(
    writer: SqliteStore,
    which: str,
    values: tuple[Any, ...],
    reason: SessionEnd,
    now_us: int,
    actor: str,
) -> bool:
    row = writer.db.execute(_SELECT + f"WHERE {which} AND ended_us IS NULL", values).fetchone()
    if row is None:
        return False
    session = _session_of(row)
    writer.add_record(
        Kind.SESSION_ENDED,
        actor,
        now_us,
        {
            "session": session.key[:NAMED_BYTES],
            "mfd": session.mfd.bytes,
            "person": session.person.bytes,
            "reason": reason.value,
        },
    )
    writer.db.execute(
        "UPDATE session SET ended_us = ?, reason = ? WHERE key = ?",
        (now_us, reason.value, session.key),
    )
    writer.events.append(store.SessionEnded(session.key, session.mfd, session.person, reason))
    return True


def touch_sessions(writer: SqliteStore, change: store.TouchSessions) -> None:
    writer.db.executemany(
        "UPDATE session SET used_us = ? WHERE key = ? AND ended_us IS NULL",
        [(used_us, key) for key, used_us in change.used_us.items()],
    )


def forget_sessions(writer: SqliteStore, change: store.ForgetSessions) -> int:
    return writer.db.execute(
        "DELETE FROM session WHERE key IN (SELECT key FROM session INDEXED BY session_ended "
        "WHERE ended_us IS NOT NULL AND ended_us < ? ORDER BY ended_us LIMIT ?)",
        (change.before_us, change.limit),
    ).rowcount
