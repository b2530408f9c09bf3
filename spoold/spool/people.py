"""Cards, PINs and delegates of users: who is found by them, and how their changes are decided.

As in `users`: a change is decided inside the writer's transaction, look-ups run on any connection,
and no record carries a hash. What limits failed logins is kept here, too, without a record.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.model.user import CARDS_MAX, User
from spoold.spool import store
from spoold.spool.users import SELECT_USER, look_again, row_of, users_of

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


class Throttled(NamedTuple):
    """What is kept of failed logins under one key; see `accounts/guard.py`."""

    kind: str
    key: bytes
    failures: int
    last_us: int


# -- look-ups ----------------------------------------------------------------------------------


def _marks(values: tuple[bytes, ...]) -> str:
    return ",".join("?" * len(values))


def by_card(db: sqlite3.Connection, digests: tuple[bytes, ...]) -> User | None:
    """Whoever has a card of one of these hashes."""
    rows = db.execute(
        SELECT_USER + "JOIN card ON card.person_id = directory.person_id "
        f"WHERE card.digest IN ({_marks(digests)}) LIMIT 1",
        digests,
    )
    return next(iter(users_of(db, rows)), None)


def by_pin(db: sqlite3.Connection, digests: tuple[bytes, ...]) -> User | None:
    """Whoever has a PIN of one of these hashes."""
    rows = db.execute(SELECT_USER + f"WHERE directory.pin IN ({_marks(digests)}) LIMIT 1", digests)
    return next(iter(users_of(db, rows)), None)


def has_pin(db: sqlite3.Connection, guid: UUID, digests: tuple[bytes, ...]) -> bool:
    """Whether this user's PIN has one of these hashes."""
    row = db.execute(
        "SELECT 1 FROM person JOIN directory ON person_id = person.id "
        f"WHERE person.key = ? AND directory.pin IN ({_marks(digests)})",
        (guid.bytes, *digests),
    ).fetchone()
    return row is not None


def delegators(db: sqlite3.Connection, guid: UUID) -> list[User]:
    """Those who let this person release their jobs, by name; who is disabled does not any more."""
    rows = db.execute(
        SELECT_USER + "WHERE directory.person_id IN (SELECT delegate.person_id FROM delegate "
        "JOIN person AS other ON other.id = delegate.delegate_id WHERE other.key = ?) "
        "ORDER BY person.name",
        (guid.bytes,),
    )
    return [one for one in users_of(db, rows) if not one.disabled]


def throttles(db: sqlite3.Connection, since_us: int, limit: int) -> list[Throttled]:
    """What failed last, the oldest first."""
    rows = db.execute(
        "SELECT kind, key, count, last_us FROM throttle WHERE last_us >= ? "
        "ORDER BY last_us DESC LIMIT ?",
        (since_us, limit),
    ).fetchall()
    return [Throttled(*row) for row in reversed(rows)]


def count_users(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM directory").fetchone()[0])


def count_of_other_keys(db: sqlite3.Connection, key_ids: tuple[bytes, ...]) -> int:
    """How many cards and PINs were hashed under keys that this node does not have."""
    known = _marks(key_ids)
    (count,) = db.execute(
        f"SELECT (SELECT count(*) FROM card WHERE substr(digest, 1, 4) NOT IN ({known})) + "
        "(SELECT count(*) FROM directory WHERE pin IS NOT NULL "
        f"AND substr(pin, 1, 4) NOT IN ({known}))",
        (*key_ids, *key_ids),
    ).fetchone()
    return int(count)


# -- changes -----------------------------------------------------------------------------------


def put_card(writer: SqliteStore, change: store.PutCard) -> User:
    row = row_of(writer, change.name)
    holder = by_card(writer.db, change.digests)
    if holder is not None and holder.name != change.name:
        raise OperationError(
            "conflict",
            f"this card is one of {plain(holder.name[:60])}'s.",
            "Take it away there first: `spoold user card remove`.",
        )
    if holder is not None:
        writer.db.execute(
            f"UPDATE card SET label = ? WHERE digest IN ({_marks(change.digests)})",
            (change.label, *change.digests),
        )
        (number,) = writer.db.execute(
            f"SELECT number FROM card WHERE digest IN ({_marks(change.digests)})", change.digests
        ).fetchone()
    else:
        number = _add_card(writer, row[6], change)
    _record(
        writer,
        Kind.CARD_ADDED,
        change,
        row[0],
        {"card": number},
        {"label": change.label, "ending": change.ending},
    )
    return _touched(writer, row, change.name, change.now_us, revokes=False)


def _add_card(writer: SqliteStore, person_id: int, change: store.PutCard) -> int:
    count, last = writer.db.execute(
        "SELECT count(*), coalesce(max(number), 0) FROM card WHERE person_id = ?", (person_id,)
    ).fetchone()
    if count >= CARDS_MAX:
        raise OperationError(
            "not-possible",
            f"{plain(change.name[:60])} has {CARDS_MAX} cards.",
            "Take one away first: `spoold user card remove`.",
        )
    writer.db.execute(
        "INSERT INTO card (digest, person_id, number, label, ending, added_us) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (change.digests[-1], person_id, last + 1, change.label, change.ending, change.now_us),
    )
    return int(last) + 1


def remove_card(writer: SqliteStore, change: store.RemoveCard) -> User:
    row = row_of(writer, change.name)
    which = "number = ?"
    values: tuple[Any, ...] = (change.number,)
    if change.number is None:
        which, values = f"digest IN ({_marks(change.digests)})", change.digests
    found = writer.db.execute(
        f"SELECT number, label, ending FROM card WHERE person_id = ? AND {which}",
        (row[6], *values),
    ).fetchone()
    if found is None:
        raise OperationError(
            "not-found",
            f"{plain(change.name[:60])} has no such card.",
            "See `spoold user show`.",
        )
    number, label, ending = found
    _record(
        writer,
        Kind.CARD_REMOVED,
        change,
        row[0],
        {"card": number},
        {"label": label, "ending": ending},
    )
    writer.db.execute("DELETE FROM card WHERE person_id = ? AND number = ?", (row[6], number))
    return _touched(writer, row, change.name, change.now_us, revokes=True)


def put_pin(writer: SqliteStore, change: store.PutPin) -> User:
    row = row_of(writer, change.name)
    holder = by_pin(writer.db, change.digests)
    if holder is not None and holder.name != change.name:
        # Whose it is is told to nobody: who hears it could log in as that user.
        raise OperationError("conflict", "this PIN cannot be had.", "Take another, or --generate.")
    made = change.digests[-1] if change.digests else None
    is_set = "changed" if made else "none"
    _record(writer, Kind.PIN_CHANGED, change, row[0], {"pin": is_set}, {})
    writer.db.execute("UPDATE directory SET pin = ? WHERE person_id = ?", (made, row[6]))
    return _touched(writer, row, change.name, change.now_us, revokes=bool(row[7]))


def _record(
    writer: SqliteStore,
    kind: Kind,
    change: store.PutCard | store.RemoveCard | store.PutPin,
    key: bytes,
    payload: dict[str, Any],
    personal: dict[str, Any],
) -> None:
    writer.add_record(
        kind,
        change.actor,
        change.now_us,
        {"person": key, **payload},
        {"name": change.name, **personal},
    )


def _touched(
    writer: SqliteStore, row: tuple[Any, ...], name: str, now_us: int, *, revokes: bool
) -> User:
    writer.db.execute("UPDATE directory SET changed_us = ? WHERE person_id = ?", (now_us, row[6]))
    writer.events.append(store.UserChanged(UUID(bytes=row[0]), name, revokes=revokes))
    return look_again(writer, name)


def keep_throttles(writer: SqliteStore, change: store.KeepThrottles) -> None:
    writer.db.executemany("INSERT OR REPLACE INTO throttle VALUES (?, ?, ?, ?)", change.rows)
    if change.before_us is not None:
        writer.db.execute("DELETE FROM throttle WHERE last_us < ?", (change.before_us,))
