"""The copy of an application server's objects that a site keeps: applied, guarded, and looked up.

Objects keep their keys, so that jobs, records and certificates mean the same here and there. Each
page is one transaction, with how far the copy has come. A copy that is taken anew replaces what is
here object by object, and what it did not name goes at its end: nobody is ever unknown in between.

What came from upstream is changed there alone (`guarded`). What was the site's own and has the name
of something from upstream makes way: people of one name are one person, other things get another
name; each is a `Conflict` that operators are shown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.node import identity_of
from spoold.model.record import Kind
from spoold.spool import replica_people, replica_things, store
from spoold.spool.poison import POISON
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

SWEPT_TOGETHER = 1000
CONFLICTS_MAX = 1000  # that are kept; the oldest go

_APPLY: dict[str, Callable[[SqliteStore, bytes, dict[str, Any] | None, Taking], None]] = {
    "user": replica_people.apply_user,
    "printer": replica_things.apply_printer,
    "mfd": replica_things.apply_mfd,
    "provider": replica_things.apply_provider,
    "account": replica_things.apply_account,
    "prices": replica_things.apply_prices,
    "terms": replica_things.apply_terms,
}


@dataclass(frozen=True, slots=True)
class CopyState:
    """How the copy is. `current_us`: when it was last as upstream was, 0 never; `keys` sealed.

    `round` counts how often it was begun; `is_taking`: it is not as upstream was at any time.
    """

    upstream: UUID
    upstream_name: str
    told: bytes = field(default=b"", repr=False)
    round: int = 0
    is_taking: bool = True
    current_us: int = 0
    keys: bytes = field(default=b"", repr=False)


class Conflict(NamedTuple):
    """`became`: the name that it has now, or what was done about it."""

    kind: str
    name: str
    became: str
    happened_us: int


# -- look-ups ----------------------------------------------------------------------------------


def state(db: sqlite3.Connection) -> CopyState | None:
    """None: this node copies from nobody."""
    row = db.execute("SELECT fields FROM copy").fetchone()
    if row is None:
        return None
    found = unpack(row[0])
    return CopyState(**{**found, "upstream": UUID(bytes=found["upstream"])})


def count(db: sqlite3.Connection) -> dict[str, int]:
    """How many objects of each kind came from upstream."""
    return dict(db.execute("SELECT kind, count(*) FROM replica GROUP BY kind ORDER BY kind"))


def is_replica(db: sqlite3.Connection, kind: str, key: bytes | None) -> bool:
    """Whether an object came from upstream; without a key: whether any of its kind did."""
    which, values = ("AND key = ?", (kind, key)) if key is not None else ("", (kind,))
    row = db.execute(f"SELECT 1 FROM replica WHERE kind = ? {which} LIMIT 1", values).fetchone()
    return row is not None


def conflicts(db: sqlite3.Connection, limit: int = CONFLICTS_MAX) -> list[Conflict]:
    """What had to make way, the newest first."""
    rows = db.execute(
        "SELECT conflict.kind, coalesce(person.name, conflict.name), became, happened_us "
        "FROM conflict LEFT JOIN person ON conflict.kind = 'user' AND person.key = conflict.key "
        "ORDER BY conflict.id DESC LIMIT ?",
        (limit,),
    )
    return [Conflict(*row) for row in rows]


# -- applying ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Taking:
    """One change while it is applied: where the site's own things find another name."""

    site_name: str
    now_us: int
    conflicts: list[tuple[str, bytes, str, str]] = field(default_factory=list)
    erased: list[bytes] = field(default_factory=list)

    def note(self, kind: str, key: bytes, name: str, became: str) -> None:
        self.conflicts.append((kind, key, name, became))


def apply_objects(writer: SqliteStore, change: store.ApplyObjects) -> store.Applied:
    writer.flush()
    writer.lately.clear()
    db = writer.db
    before = state(db) or CopyState(change.upstream, change.upstream_name)
    number = before.round + change.is_anew
    writer.upstream = change.upstream_name
    taking = _take(writer, change, number)
    is_taking = before.is_taking or change.is_anew
    if is_taking and change.is_last:
        is_taking = not _sweep(writer, number, taking)
    is_whole = change.is_last and not is_taking
    after = {
        "upstream": change.upstream.bytes,
        "upstream_name": change.upstream_name,
        "told": change.told,
        "round": number,
        "is_taking": is_taking,
        "current_us": change.now_us if is_whole else before.current_us,
        "keys": before.keys if change.keys is None else change.keys,
    }
    db.execute(
        "INSERT INTO copy VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET fields = excluded.fields",
        (pack(after),),
    )
    _keep_conflicts(db, taking)
    if change.objects or change.is_anew or before.is_taking != is_taking:
        writer.add_record(
            Kind.OBJECTS_COPIED,
            identity_of(change.upstream),
            change.now_us,
            {"objects": len(change.objects), "round": number, "is_whole": is_whole},
        )
    return store.Applied(is_whole, len(taking.conflicts), tuple(taking.erased))


def _take(writer: SqliteStore, change: store.ApplyObjects, number: int) -> Taking:
    """Apply the objects, all at once first: one that makes no sense here is rare, and left out."""
    with writer.savepoint() as attempt:
        taking = Taking(change.site_name, change.now_us)
        try:
            for kind, key, one in change.objects:
                _apply(writer, kind, key, one, number, taking)
            return taking
        except POISON:
            attempt.undo()
    taking = Taking(change.site_name, change.now_us)
    for kind, key, one in change.objects:
        with writer.savepoint() as attempt:
            part = Taking(change.site_name, change.now_us)
            try:
                _apply(writer, kind, key, one, number, part)
            except POISON as error:
                attempt.undo()
                why = f"not copied: {type(error).__name__}; what was here before stays"
                part = Taking(change.site_name, change.now_us, [(kind, key, "", why)])
                writer.db.execute(
                    "UPDATE replica SET round = ? WHERE kind = ? AND key = ?", (number, kind, key)
                )
        taking.conflicts += part.conflicts
        taking.erased += part.erased
    return taking


def _apply(
    writer: SqliteStore,
    kind: str,
    key: bytes,
    one: dict[str, Any] | None,
    number: int,
    taking: Taking,
) -> None:
    apply = _APPLY.get(kind)
    if apply is None:
        return  # of a newer application server: nothing here knows what it is for
    is_there = one is not None and not one.get("is_erased")
    if not is_there and not is_replica(writer.db, kind, key):
        return
    apply(writer, key, one, taking)
    if is_there:
        writer.db.execute(
            "INSERT INTO replica VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET "
            "round = excluded.round",
            (kind, key, number),
        )
    else:
        writer.db.execute("DELETE FROM replica WHERE kind = ? AND key = ?", (kind, key))


def _sweep(writer: SqliteStore, number: int, taking: Taking) -> bool:
    """Remove what this copy did not name, some of it; whether that was all."""
    rows = writer.db.execute(
        "SELECT kind, key FROM replica WHERE round < ? LIMIT ?", (number, SWEPT_TOGETHER)
    ).fetchall()
    for kind, key in rows:
        _apply(writer, kind, key, None, number, taking)
    return len(rows) < SWEPT_TOGETHER


def _keep_conflicts(db: sqlite3.Connection, taking: Taking) -> None:
    if taking.conflicts:
        db.executemany(
            "INSERT INTO conflict (kind, key, name, became, happened_us) VALUES (?, ?, ?, ?, ?)",
            [(*one, taking.now_us) for one in taking.conflicts],
        )
        db.execute(
            "DELETE FROM conflict WHERE id <= (SELECT max(id) FROM conflict) - ?", (CONFLICTS_MAX,)
        )


# -- what belongs to whom ----------------------------------------------------------------------


def load(writer: SqliteStore, db: sqlite3.Connection) -> None:
    """Learn whose copy this is."""
    found = state(db)
    writer.upstream = None if found is None else found.upstream_name


Decide = Callable[[Any, Any], Any]
KeyOf = Callable[[sqlite3.Connection, Any], tuple[str, bytes | None] | None]


def guarded(decide: Decide, key_of: KeyOf) -> Decide:
    """`decide`, but for what came from upstream."""

    def guard(writer: SqliteStore, change: Any) -> Any:
        if writer.upstream is not None:
            found = key_of(writer.db, change)
            if found is not None and is_replica(writer.db, *found):
                raise foreign(writer.upstream, found[0])
        return decide(writer, change)

    return guard


def foreign(upstream: str, kind: str = "") -> OperationError:
    advice = "Change it there: it comes here by itself."
    if kind == "printer":
        advice += " While there is no line: `spoold site repair`."
    return OperationError("not-possible", f"it belongs to {upstream}.", advice)


def _key(sql: str, kind: str, *values: Any) -> KeyOf:
    """The key of what a change names by the attribute `values[0]`."""
    (name,) = values

    def find(db: sqlite3.Connection, change: Any) -> tuple[str, bytes | None] | None:
        row = db.execute(sql, (getattr(change, name),)).fetchone()
        return None if row is None else (kind, row[0])

    return find


_user = _key("SELECT key FROM person WHERE name = ?", "user", "name")
_mfd = _key("SELECT guid FROM mfd WHERE name = ?", "mfd", "name")
_provider = _key("SELECT guid FROM provider WHERE name = ?", "provider", "name")
_account = _key("SELECT guid FROM account WHERE name = ?", "account", "name")


def _user_by_guid(db: sqlite3.Connection, change: Any) -> tuple[str, bytes | None] | None:
    return None if change.guid is None else ("user", change.guid.bytes)


def _holder(db: sqlite3.Connection, change: Any) -> tuple[str, bytes | None] | None:
    """Whose money it is; that of everybody, or of a group, is upstream's as prices are."""
    kind, _, guid = change.allowance.to.partition(":")
    if kind in ("person", "account"):
        return ("user" if kind == "person" else "account", UUID(guid).bytes)
    return ("terms", None)


def _device(db: sqlite3.Connection, change: Any) -> tuple[str, bytes | None] | None:
    """A device belongs to whom one of its printers does."""
    row = db.execute(
        "SELECT printer.guid FROM device JOIN printer ON device_id = device.id "
        "JOIN replica ON replica.kind = 'printer' AND replica.key = printer.guid "
        "WHERE device.guid = ? AND printer.name IS NOT NULL LIMIT 1",
        (change.guid.bytes,),
    ).fetchone()
    return None if row is None else ("printer", row[0])


GUARDS: dict[type, KeyOf] = {
    store.PutUser: _user,
    store.RemoveUser: _user,
    store.RenameUser: _user,
    store.EnrolUser: _user,
    store.RevokeUser: _user,
    store.PutCard: _user,
    store.RemoveCard: _user,
    store.PutPin: _user,
    store.SyncUser: _user_by_guid,
    store.VanishUser: _user_by_guid,
    store.PutPrinter: lambda db, change: ("printer", change.printer.guid.bytes),
    store.RemovePrinter: _key("SELECT guid FROM printer WHERE id = ?", "printer", "printer_id"),
    store.PutDevice: _device,
    store.PutMfd: _mfd,
    store.RevokeMfd: _mfd,
    store.PutProvider: _provider,
    store.RevokeProvider: _provider,
    store.PutAccount: _account,
    store.RemoveAccount: _account,
    store.PutAllowance: _holder,
    store.PutPrices: lambda db, change: ("prices", None),
    store.PutTerms: lambda db, change: ("terms", None),
}
