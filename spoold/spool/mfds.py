"""How changes of MFDs are decided, recorded and folded, and how MFDs are looked up; see `jobs`.

As with passwords, the hash of a token stands in the table alone: a record says that there is a new
one, and no more.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.mfd import Mfd, MfdSettings, SessionEnd
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.spool import sessions, store
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

CERTIFICATES_MAX = 200  # of one MFD, not revoked: the record of a revocation names them all
_SELECT = "SELECT guid, name, fields, token, revoked, created_us, changed_us FROM mfd "


def find_all(db: sqlite3.Connection) -> list[tuple[Mfd, bytes | None]]:
    """Every MFD, by name, with the hash of its token."""
    return [(_mfd_of(row), row[3]) for row in db.execute(_SELECT + "ORDER BY name")]


def find(db: sqlite3.Connection, guid: bytes) -> tuple[Mfd, bytes | None]:
    """An MFD that there is, with the hash of its token."""
    row = db.execute(_SELECT + "WHERE guid = ?", (guid,)).fetchone()
    return _mfd_of(row), row[3]


def _mfd_of(row: tuple[Any, ...]) -> Mfd:
    guid, name, packed, token, revoked, created_us, changed_us = row
    return Mfd(
        UUID(bytes=guid),
        name,
        _settings_of(unpack(packed)),
        token is not None,
        bool(revoked),
        created_us,
        changed_us,
    )


def _settings_of(fields: dict[str, Any]) -> MfdSettings:
    return MfdSettings(
        tuple(UUID(bytes=one) for one in fields["printers"]),
        fields["converter"],
        tuple(fields["methods"]),
        fields["idle_s"],
    )


def _fields(settings: MfdSettings) -> dict[str, Any]:
    return {
        "printers": [one.bytes for one in settings.printers],
        "converter": settings.converter,
        "methods": list(settings.methods),
        "idle_s": settings.idle_s,
    }


def unknown(name: str) -> OperationError:
    return OperationError(
        "not-found", f"there is no MFD {plain(name[:60])}.", "See `spoold device list`."
    )


def put_mfd(writer: SqliteStore, change: store.PutMfd) -> Mfd:
    db = writer.db
    row = db.execute(_SELECT + "WHERE name = ?", (change.name,)).fetchone()
    before = None if row is None else _mfd_of(row)
    if before is not None:
        _check_same(before, change)
    if change.serial is not None and len(_valid(writer, change.guid.bytes)) >= CERTIFICATES_MAX:
        raise OperationError(
            "not-possible",
            f"the MFD {plain(change.name)} has {CERTIFICATES_MAX} certificates.",
            "Revoke it, and enrol it by another name.",
        )
    settings = change.settings
    if settings is None:
        settings = before.settings if before is not None else MfdSettings()
    fields = _fields(settings)
    token = change.token_key
    if token is None and row is not None:
        token = row[3]
    writer.add_record(
        Kind.MFD_ENROLLED,
        change.actor,
        change.now_us,
        {
            "mfd": change.guid.bytes,
            "name": change.name,
            **fields,
            "serial": change.serial,
            "token": "changed" if change.token_key is not None else "kept" if token else "none",
        },
    )
    created_us = change.now_us if before is None else before.created_us
    db.execute(
        "INSERT INTO mfd (guid, name, fields, token, revoked, created_us, changed_us) "
        "VALUES (?, ?, ?, ?, 0, ?, ?) ON CONFLICT (guid) DO UPDATE SET "
        "fields = excluded.fields, token = excluded.token, changed_us = excluded.changed_us",
        (
            change.guid.bytes, change.name, pack(fields), token, created_us, change.now_us,
        ),
    )  # fmt: skip
    if change.serial is not None:
        db.execute(
            "INSERT INTO certificate (serial, holder, not_after_us, revoked) VALUES (?, ?, ?, 0)",
            (change.serial, change.guid.bytes, change.not_after_us),
        )
    made = Mfd(
        change.guid, change.name, settings, token is not None, False, created_us, change.now_us
    )
    ends_tokens = row is not None and row[3] is not None and token != row[3]
    writer.events.append(store.MfdChanged(made, token, ends_tokens=ends_tokens))
    return made


def _check_same(before: Mfd, change: store.PutMfd) -> None:
    if before.guid != change.guid:
        raise OperationError(
            "conflict", f"there is an MFD {plain(change.name)} already.", "Use another name."
        )
    if before.revoked:
        raise OperationError(
            "conflict", f"the MFD {plain(change.name)} was revoked.", "Enrol it by another name."
        )


def _valid(writer: SqliteStore, guid: bytes) -> list[str]:
    rows = writer.db.execute(
        "SELECT serial FROM certificate WHERE holder = ? AND revoked = 0", (guid,)
    )
    return [row[0] for row in rows]


def revoke_mfd(writer: SqliteStore, change: store.RevokeMfd) -> list[str]:
    """Its certificates and its token are refused for ever, and nobody is logged in there."""
    db = writer.db
    row = db.execute(_SELECT + "WHERE name = ?", (change.name,)).fetchone()
    if row is None:
        raise unknown(change.name)
    before = _mfd_of(row)
    serials = _valid(writer, row[0])
    writer.add_record(
        Kind.MFD_REVOKED,
        change.actor,
        change.now_us,
        {"mfd": row[0], "name": change.name, "serials": serials},
    )
    db.execute(
        "UPDATE mfd SET token = NULL, revoked = 1, changed_us = ? WHERE guid = ?",
        (change.now_us, row[0]),
    )
    db.execute("UPDATE certificate SET revoked = 1 WHERE holder = ?", (row[0],))
    sessions.end_at(writer, row[0], SessionEnd.DEVICE_REVOKED, change.now_us, change.actor)
    gone = replace(before, has_token=False, revoked=True, changed_us=change.now_us)
    writer.events.append(store.MfdChanged(gone, None, tuple(serials), ends_tokens=True))
    return serials
