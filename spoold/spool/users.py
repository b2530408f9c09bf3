"""How changes of users are decided, recorded and folded, and how users are looked up.

As in `jobs`, whatever decides runs inside the writer's transaction. The hashes of passwords, cards
and PINs are what a table holds and no record says: journals are followed, exported and kept by
others, and a record tells no more than that a password was changed, or which card is gone. (A site
that is to log people in while it is cut off needs all three; it gets them beside the journal, from
the tables.) The look-ups run on any connection. Cards and PINs: see `people`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.principal import Role, Scope
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.model.user import CardRef, User
from spoold.spool import replication, store
from spoold.spool.jobs import person
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

_IMPERSONAL = ("restricted", "overdraft", "disabled")  # fields that tell nothing about anybody
CERTIFICATES_MAX = 200  # of one user, not revoked: the record of a revocation names them all
_COLUMNS = (
    "person.key, person.name, directory.fields, directory.created_us, directory.changed_us, "
    "directory.password, directory.person_id, directory.pin IS NOT NULL"
)
SELECT_USER = f"SELECT {_COLUMNS} FROM directory JOIN person ON person.id = directory.person_id "
# From the index of names on: a page does not look at more people than stand before its end.
_BY_NAME = f"SELECT {_COLUMNS} FROM person CROSS JOIN directory ON person_id = person.id "
_TOGETHER = 500  # users whose cards are asked for at once


# -- look-ups ----------------------------------------------------------------------------------


def _user_of(row: tuple[Any, ...], cards: tuple[CardRef, ...] = ()) -> User:
    key, name, packed, created_us, changed_us, password, _, has_pin = row
    fields = unpack(packed)
    return User(
        guid=UUID(bytes=key),
        name=name,
        roles=frozenset(Role(one) for one in fields["roles"]),
        has_password=bool(password),
        created_us=created_us,
        changed_us=changed_us,
        full_name=fields.get("full_name", ""),
        email=fields.get("email", ""),
        groups=tuple(fields.get("groups", ())),
        restricted=fields.get("restricted", True),
        overdraft=fields.get("overdraft"),
        disabled=fields.get("disabled", False),
        cards=cards,
        has_pin=bool(has_pin),
        delegates=tuple(UUID(bytes=one) for one in fields.get("delegates", ())),
        default_account=fields.get("default_account", ""),
        scopes=tuple(
            Scope(Role(role), tuple(sites), tuple(printers), tuple(groups))
            for role, sites, printers, groups in fields.get("scopes", ())
        ),
    )


def users_of(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> list[User]:
    """The users behind rows of `SELECT_USER`, with their cards."""
    found = list(rows)
    cards: dict[int, list[CardRef]] = {}
    for start in range(0, len(found), _TOGETHER):
        ids = [row[6] for row in found[start : start + _TOGETHER]]
        for person_id, *card in db.execute(
            "SELECT person_id, number, label, ending, added_us FROM card WHERE person_id IN "
            f"({','.join('?' * len(ids))}) ORDER BY person_id, number",
            ids,
        ):
            cards.setdefault(person_id, []).append(CardRef(*card))
    return [_user_of(row, tuple(cards.get(row[6], ()))) for row in found]


def find(db: sqlite3.Connection, name: str) -> tuple[User, str] | None:
    """The user called `name`, with the hash of the password ("" without one)."""
    rows = db.execute(SELECT_USER + "WHERE person.name = ?", (name,)).fetchall()
    return (users_of(db, rows)[0], rows[0][5]) if rows else None


def find_by_guid(db: sqlite3.Connection, guid: UUID) -> User | None:
    rows = db.execute(SELECT_USER + "WHERE person.key = ?", (guid.bytes,))
    return next(iter(users_of(db, rows)), None)


def page(db: sqlite3.Connection, after: str, limit: int) -> list[User]:
    """At most `limit` users behind a name, by name."""
    rows = db.execute(
        _BY_NAME + "WHERE person.name > ? ORDER BY person.name LIMIT ?", (after, limit)
    )
    return users_of(db, rows)


def certificates(db: sqlite3.Connection, guid: UUID) -> list[store.Certificate]:
    """Every certificate that was given to a user, the one that is valid longest first."""
    rows = db.execute(
        "SELECT serial, not_after_us, revoked FROM certificate WHERE holder = ? "
        "ORDER BY not_after_us DESC, serial",
        (guid.bytes,),
    )
    return [store.Certificate(serial, until_us, bool(gone)) for serial, until_us, gone in rows]


def certified(db: sqlite3.Connection, guids: list[UUID], now_us: int) -> set[UUID]:
    """Those of these users who have a certificate that counts."""
    return {
        guid
        for guid in guids
        if any(not one.revoked and one.not_after_us > now_us for one in certificates(db, guid))
    }


def names(db: sqlite3.Connection, guids: list[UUID]) -> dict[UUID, str]:
    """The names of people by their keys; removed users keep theirs until they are erased."""
    found = {}
    for guid in guids:
        row = db.execute("SELECT name FROM person WHERE key = ?", (guid.bytes,)).fetchone()
        if row is not None and row[0]:
            found[guid] = row[0]
    return found


def with_default_account(db: sqlite3.Connection, name: str) -> list[str]:
    """The names of the users who name an account of this name or code as theirs."""
    rows = db.execute(
        "SELECT person.name, directory.fields FROM directory JOIN person ON person.id = person_id "
        "WHERE instr(directory.fields, ?) ORDER BY person.name",
        (name.encode(),),
    )
    return [who for who, packed in rows if unpack(packed).get("default_account") == name]


# -- changes -----------------------------------------------------------------------------------


def row_of(writer: SqliteStore, name: str) -> tuple[Any, ...]:
    """Raises:
    OperationError: `not-found`.
    """
    row: tuple[Any, ...] | None
    row = writer.db.execute(SELECT_USER + "WHERE person.name = ?", (name,)).fetchone()
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
    row = row_of(writer, change.name)
    before = _user_of(row)
    roles = before.roles if change.roles is None else change.roles
    password = row[5] if change.password is None else change.password
    packed = _fields(unpack(row[2]), roles, change)
    _put_delegates(writer, row[6], change)
    _record_change(writer, change, before.guid, roles)
    writer.db.execute(
        "UPDATE directory SET fields = ?, password = ?, changed_us = ? WHERE person_id = ?",
        (packed, password, change.now_us, row[6]),
    )
    after = look_again(writer, change.name)
    is_disabled = bool(change.fields.get("disabled")) and not before.disabled
    if is_disabled or before.roles - after.roles or before.scopes != after.scopes:
        replication.note_revocation(writer.db, "user", row[0])
    writer.events.append(
        store.UserChanged(
            before.guid,
            change.name,
            ends_connections=roles != before.roles or is_disabled or after.scopes != before.scopes,
            revokes=change.password is not None and bool(row[5]),
        )
    )
    return after


def look_again(writer: SqliteStore, name: str) -> User:
    """The user as this transaction leaves it."""
    found = find(writer.db, name)
    assert found is not None
    return found[0]


def _add_user(writer: SqliteStore, change: store.PutUser) -> User:
    if find(writer.db, change.name) is not None:
        raise OperationError(
            "conflict",
            f"there is a user {plain(change.name[:60])} already.",
            "Change it with `spoold user set`.",
        )
    roles = change.roles or frozenset({Role.USER})
    packed = _fields({}, roles, change)
    _known_delegates(writer, change)
    person_id, key = person(writer, change.name, change.now_us)
    guid = UUID(bytes=key)
    _record_change(writer, change, guid, roles)
    writer.db.execute(
        "INSERT INTO directory (person_id, fields, password, created_us, changed_us) "
        "VALUES (?, ?, ?, ?, ?)",
        (person_id, packed, change.password or "", change.now_us, change.now_us),
    )
    _put_delegates(writer, person_id, change)
    writer.events.append(store.UserChanged(guid, change.name))
    return look_again(writer, change.name)


def _fields(before: dict[str, Any], roles: frozenset[Role], change: store.PutUser) -> bytes:
    """The packed fields after this change; what a later spoold put there stays."""
    given = dict(change.fields)
    if "delegates" in given:
        given["delegates"] = [one.bytes for one in given["delegates"]]
    if "scopes" in given:
        given["scopes"] = _plain(given["scopes"])
    merged = {**before, **given, "roles": sorted(roles)}
    # A role that is given again later is not limited by what was said of it before.
    merged["scopes"] = [one for one in merged.get("scopes", ()) if Role(one[0]) in roles]
    made: bytes = pack(merged)
    return made


def _plain(scopes: Iterable[Scope]) -> list[list[Any]]:
    return [[one.role, one.sites, one.printers, one.groups] for one in scopes]


def _known_delegates(writer: SqliteStore, change: store.PutUser) -> list[int]:
    """The rows of the delegates that are named.

    Raises:
        OperationError: `not-found`: one is no user.
    """
    found = []
    for guid in change.fields.get("delegates", ()):
        row = writer.db.execute(SELECT_USER + "WHERE person.key = ?", (guid.bytes,)).fetchone()
        if row is None:
            raise unknown(str(guid))
        found.append(row[6])
    return found


def _put_delegates(writer: SqliteStore, person_id: int, change: store.PutUser) -> None:
    if "delegates" in change.fields:
        rows = [(one, person_id) for one in _known_delegates(writer, change)]
        writer.db.execute("DELETE FROM delegate WHERE person_id = ?", (person_id,))
        writer.db.executemany("INSERT INTO delegate VALUES (?, ?)", rows)


def _record_change(
    writer: SqliteStore, change: store.PutUser, guid: UUID, roles: frozenset[Role]
) -> None:
    """What was set, with what names or describes the person in the part that can be erased."""
    password = {None: "kept", "": "none"}.get(change.password, "changed")
    if change.is_new and change.password is None:
        password = "none"
    payload: dict[str, Any] = {
        "person": guid.bytes,
        "is_new": change.is_new,
        "roles": sorted(roles),
        "password": password,
    }
    personal: dict[str, Any] = {"name": change.name}
    for name, value in change.fields.items():
        if name == "delegates":
            payload[name] = [one.bytes for one in value]
        elif name == "scopes":
            payload[name] = _plain(value)
        else:
            (payload if name in _IMPERSONAL else personal)[name] = value
    writer.add_record(Kind.USER_CHANGED, change.actor, change.now_us, payload, personal)


def remove_user(writer: SqliteStore, change: store.RemoveUser) -> list[str]:
    """Take away what the user came in with; the user's jobs stay."""
    row = row_of(writer, change.name)
    serials = _revoke(writer, change, Kind.USER_REMOVED, row[0])
    for table in ("directory", "card", "delegate", "sourced"):
        writer.db.execute(f"DELETE FROM {table} WHERE person_id = ?", (row[6],))
    return serials


def enrol_user(writer: SqliteStore, change: store.EnrolUser) -> None:
    key = row_of(writer, change.name)[0]
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
    key = row_of(writer, change.name)[0]
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
