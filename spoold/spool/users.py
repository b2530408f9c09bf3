"""How changes of users are decided, recorded and folded, and how users are looked up.

As in `jobs`, whatever decides runs inside the writer's transaction. The hash of a password is the
one thing that a table holds and no record says: journals are followed, exported and kept by others,
and a record tells no more than that the password was changed. The look-ups run on any connection.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.principal import Role
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.model.user import User
from spoold.spool import store
from spoold.spool.jobs import person
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

CERTIFICATES_MAX = 200  # of one user, not revoked: the record of a revocation names them all
_COLUMNS = (
    "person.key, person.name, directory.fields, directory.created_us, directory.changed_us, "
    "directory.password, directory.person_id"
)
_USER = f"SELECT {_COLUMNS} FROM directory JOIN person ON person.id = person_id "
# From the index of names on: a page does not look at more people than stand before its end.
_BY_NAME = f"SELECT {_COLUMNS} FROM person CROSS JOIN directory ON person_id = person.id "


# -- look-ups ----------------------------------------------------------------------------------


def _user_of(row: tuple[Any, ...]) -> User:
    key, name, packed, created_us, changed_us, password = row[:6]
    roles = frozenset(Role(one) for one in unpack(packed)["roles"])
    return User(UUID(bytes=key), name, roles, bool(password), created_us, changed_us)


def find(db: sqlite3.Connection, name: str) -> tuple[User, str] | None:
    """The user called `name`, with the hash of the password ("" without one)."""
    row = db.execute(_USER + "WHERE person.name = ?", (name,)).fetchone()
    return None if row is None else (_user_of(row), row[5])


def find_by_guid(db: sqlite3.Connection, guid: UUID) -> User | None:
    row = db.execute(_USER + "WHERE person.key = ?", (guid.bytes,)).fetchone()
    return None if row is None else _user_of(row)


def page(db: sqlite3.Connection, after: str, limit: int) -> list[User]:
    """At most `limit` users behind a name, by name."""
    rows = db.execute(
        _BY_NAME + "WHERE person.name > ? ORDER BY person.name LIMIT ?", (after, limit)
    )
    return [_user_of(row) for row in rows]


def certificates(db: sqlite3.Connection, guid: UUID) -> list[store.Certificate]:
    """Every certificate that was given to a user, the one that is valid longest first."""
    rows = db.execute(
        "SELECT serial, not_after_us, revoked FROM certificate WHERE holder = ? "
        "ORDER BY not_after_us DESC, serial",
        (guid.bytes,),
    )
    return [store.Certificate(serial, until_us, bool(gone)) for serial, until_us, gone in rows]


def names(db: sqlite3.Connection, guids: list[UUID]) -> dict[UUID, str]:
    """The names of people by their keys; removed users keep theirs until they are erased."""
    found = {}
    for guid in guids:
        row = db.execute("SELECT name FROM person WHERE key = ?", (guid.bytes,)).fetchone()
        if row is not None and row[0]:
            found[guid] = row[0]
    return found


# -- changes -----------------------------------------------------------------------------------


def _row(writer: SqliteStore, name: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None
    row = writer.db.execute(_USER + "WHERE person.name = ?", (name,)).fetchone()
    if row is None:
        raise unknown(name)
    return row


def unknown(name: str) -> OperationError:
    return OperationError(
        "not-found", f"there is no user {plain(name[:60])}.", "See `spoold user list`."
    )


def put_user(writer: SqliteStore, change: store.PutUser) -> User:
    if change.is_new:
        return _add_user(writer, change)
    row = _row(writer, change.name)
    before = _user_of(row)
    roles = before.roles if change.roles is None else change.roles
    password = row[5] if change.password is None else change.password
    _record_change(writer, change, before.guid, roles)
    writer.db.execute(
        "UPDATE directory SET fields = ?, password = ?, changed_us = ? WHERE person_id = ?",
        (_fields(row[2], roles), password, change.now_us, row[6]),
    )
    writer.events.append(
        store.UserChanged(before.guid, change.name, ends_connections=roles != before.roles)
    )
    return User(before.guid, before.name, roles, bool(password), before.created_us, change.now_us)


def _add_user(writer: SqliteStore, change: store.PutUser) -> User:
    if find(writer.db, change.name) is not None:
        raise OperationError(
            "conflict",
            f"there is a user {plain(change.name[:60])} already.",
            "Change it with `spoold user set`.",
        )
    roles = change.roles or frozenset({Role.USER})
    password = change.password or ""
    person_id, key = person(writer, change.name, change.now_us)
    guid = UUID(bytes=key)
    _record_change(writer, change, guid, roles)
    writer.db.execute(
        "INSERT INTO directory (person_id, fields, password, created_us, changed_us) "
        "VALUES (?, ?, ?, ?, ?)",
        (person_id, _fields(None, roles), password, change.now_us, change.now_us),
    )
    writer.events.append(store.UserChanged(guid, change.name))
    return User(guid, change.name, roles, bool(password), change.now_us, change.now_us)


def _fields(packed: bytes | None, roles: frozenset[Role]) -> bytes:
    """The packed fields with these roles; what a later spoold put there stays."""
    fields = unpack(packed) if packed else {}
    made: bytes = pack({**fields, "roles": sorted(roles)})
    return made


def _record_change(
    writer: SqliteStore, change: store.PutUser, guid: UUID, roles: frozenset[Role]
) -> None:
    password = {None: "kept", "": "none"}.get(change.password, "changed")
    if change.is_new and change.password is None:
        password = "none"
    writer.add_record(
        Kind.USER_CHANGED,
        change.actor,
        change.now_us,
        {
            "person": guid.bytes,
            "is_new": change.is_new,
            "roles": sorted(roles),
            "password": password,
        },
        {"name": change.name},
    )


def remove_user(writer: SqliteStore, change: store.RemoveUser) -> list[str]:
    """Take away what the user came in with; the user's jobs stay."""
    row = _row(writer, change.name)
    serials = _revoke(writer, change, Kind.USER_REMOVED, row[0])
    writer.db.execute("DELETE FROM directory WHERE person_id = ?", (row[6],))
    return serials


def enrol_user(writer: SqliteStore, change: store.EnrolUser) -> None:
    key = _row(writer, change.name)[0]
    if key != change.guid.bytes:
        raise unknown(change.name)
    if len(_valid(writer, key)) >= CERTIFICATES_MAX:
        raise OperationError(
            "not-possible",
            f"the user {plain(change.name[:60])} has {CERTIFICATES_MAX} certificates.",
            "Revoke them first: `spoold user revoke`.",
        )
    writer.add_record(
        Kind.USER_ENROLLED,
        change.actor,
        change.now_us,
        {"person": key, "serial": change.serial, "not_after_us": change.not_after_us},
        {"name": change.name},
    )
    writer.db.execute(
        "INSERT INTO certificate (serial, holder, not_after_us, revoked) VALUES (?, ?, ?, 0)",
        (change.serial, key, change.not_after_us),
    )


def revoke_user(writer: SqliteStore, change: store.RevokeUser) -> list[str]:
    """The certificates of a user are refused for ever; the user and the password stay."""
    key = _row(writer, change.name)[0]
    if not _valid(writer, key):
        raise OperationError(
            "not-possible",
            f"the user {plain(change.name[:60])} has no certificates.",
            "See `spoold user show`.",
        )
    return _revoke(writer, change, Kind.USER_REVOKED, key)


def _valid(writer: SqliteStore, key: bytes) -> list[str]:
    """The serials of a user's certificates that are not revoked."""
    rows = writer.db.execute(
        "SELECT serial FROM certificate WHERE holder = ? AND revoked = 0", (key,)
    )
    return [row[0] for row in rows]


def _revoke(
    writer: SqliteStore, change: store.RemoveUser | store.RevokeUser, kind: Kind, key: bytes
) -> list[str]:
    serials = _valid(writer, key)
    writer.add_record(
        kind,
        change.actor,
        change.now_us,
        {"person": key, "serials": serials},
        {"name": change.name},
    )
    writer.db.execute("UPDATE certificate SET revoked = 1 WHERE holder = ?", (key,))
    writer.events.append(
        store.UserChanged(UUID(bytes=key), change.name, tuple(serials), ends_connections=True)
    )
    return serials
