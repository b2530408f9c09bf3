"""People of a site's copy: a user as upstream has it, whoever was here under that name before.

A site knows people by name before it knows them by key: jobs came for them. Who turns out to be a
user of upstream gets upstream's key, and what was kept under the old one with it; the old key stays
known (`joined`), as records name it. Money is not: what was in the books here is in those of
upstream, and the purses of the old key stay for charges that were begun out of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoold.model.principal import Role
from spoold.model.record import Kind
from spoold.spool import store
from spoold.spool.rows import unpack

if TYPE_CHECKING:
    from spoold.spool.replica import Taking
    from spoold.spool.sqlite import SqliteStore

# Where a person's key stands in tables of what was paid.
_HOLDINGS = (
    "UPDATE entry SET holder = ? WHERE holder = ?",
    "UPDATE charge SET holder = ? WHERE holder = ? AND is_account = 0",
    "UPDATE charge SET spender = ? WHERE spender = ?",
)
_RIGHTS = ("roles", "scopes", "disabled")


def apply_user(
    writer: SqliteStore, key: bytes, state: dict[str, Any] | None, taking: Taking
) -> None:
    if state is None or state.get("is_erased"):
        if state is not None:
            taking.erased.append(key)
        remove(writer, key)
        return
    fields = unpack(state["fields"])
    for role in (*fields["roles"], *(one[0] for one in fields.get("scopes", ()))):
        Role(role)  # a role that nobody here knows makes nobody
    person_id, is_new = _person(writer, key, state["name"], taking)
    event = None if is_new else _difference(writer, person_id, key, state)
    _take_proofs(writer, person_id, state, taking)
    writer.db.execute(
        "INSERT INTO directory (person_id, fields, password, pin, created_us, changed_us) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (person_id) DO UPDATE SET "
        "fields = excluded.fields, password = excluded.password, pin = excluded.pin, "
        "created_us = excluded.created_us, changed_us = excluded.changed_us",
        (
            person_id, state["fields"], state["password"], state["pin"],
            state["created_us"], state["changed_us"],
        ),
    )  # fmt: skip
    _put_cards(writer, person_id, state["cards"], is_new)
    _put_delegates(writer, person_id, fields.get("delegates", ()), is_new)
    serials = put_certificates(writer, key, state["certificates"])
    guid = UUID(bytes=key)
    ends, revokes = event or (False, False)
    writer.events.append(
        store.UserChanged(
            guid, state["name"], serials, ends_connections=ends or bool(serials), revokes=revokes
        )
    )


def _difference(
    writer: SqliteStore, person_id: int, key: bytes, state: dict[str, Any]
) -> tuple[bool, bool]:
    """Whether what is open may stand for more than the user may do now, and a proof is gone."""
    row = writer.db.execute(
        "SELECT fields, password, pin FROM directory WHERE person_id = ?", (person_id,)
    ).fetchone()
    if row is None:
        return False, False
    before, after = unpack(row[0]), unpack(state["fields"])
    cards = {one[0] for one in state["cards"]}
    held = writer.db.execute("SELECT digest FROM card WHERE person_id = ?", (person_id,)).fetchall()
    return (
        any(before.get(name) != after.get(name) for name in _RIGHTS),
        bool(row[1] and row[1] != state["password"])
        or (row[2] is not None and row[2] != state["pin"])
        or any(digest not in cards for (digest,) in held),
    )


def _person(writer: SqliteStore, key: bytes, name: str, taking: Taking) -> tuple[int, bool]:
    """The row of the person of this key, who has this name from now on; and whether it is new."""
    db = writer.db
    rows = db.execute("SELECT id, key, name FROM person WHERE key = ? OR name = ?", (key, name))
    mine, other = None, None
    for id_, found, called in rows.fetchall():
        if found == key:
            mine = (id_, called)
        else:
            other = (id_, found)
    if mine is not None and mine[1] == name:
        return mine[0], False
    if other is not None:
        joined = _make_way(writer, other, mine, key, name, taking)
        if joined is not None:
            return joined, False
    if mine is None:
        id_ = db.execute("INSERT INTO person (key, name) VALUES (?, ?)", (key, name)).lastrowid
        assert id_ is not None
        return id_, True
    writer.people.pop(mine[1] or "", None)
    db.execute("UPDATE person SET name = ? WHERE id = ?", (name, mine[0]))
    return mine[0], False


def _make_way(
    writer: SqliteStore,
    other: tuple[int, bytes],
    mine: tuple[int, str | None] | None,
    key: bytes,
    name: str,
    taking: Taking,
) -> int | None:
    """Nobody else has the name any more; the row of who had it, when that is the person now."""
    db = writer.db
    other_id, other_key = other
    writer.people.pop(name, None)
    if db.execute("SELECT 1 FROM replica WHERE kind = 'user' AND key = ?", (other_key,)).fetchone():
        # Upstream has called it otherwise since: that comes with this page, or with the next one.
        passing = f"{name} ({other_key.hex()[:12]})"
        db.execute("UPDATE person SET name = ? WHERE id = ?", (passing, other_id))
        return None
    if db.execute("SELECT 1 FROM directory WHERE person_id = ?", (other_id,)).fetchone():
        taking.note("user", key, "", "the user of this name upstream")
        remove(writer, other_key)
    for statement in _HOLDINGS:
        db.execute(statement, (key, other_key))
    writer.add_record(
        Kind.PERSON_RENAMED,
        "node",
        taking.now_us,
        {"person": key, "joined": other_key},
        {"name": name, "was": name},
    )
    if mine is None:
        db.execute("UPDATE person SET key = ? WHERE id = ?", (key, other_id))
        db.execute("INSERT OR IGNORE INTO joined VALUES (?, ?)", (other_key, other_id))
        return other_id
    db.execute("UPDATE job SET owner_id = ? WHERE owner_id = ?", (mine[0], other_id))
    db.execute("UPDATE person SET name = NULL WHERE id = ?", (other_id,))
    db.execute("UPDATE joined SET person_id = ? WHERE person_id = ?", (mine[0], other_id))
    db.execute("INSERT OR IGNORE INTO joined VALUES (?, ?)", (other_key, mine[0]))
    return None


def _take_proofs(
    writer: SqliteStore, person_id: int, state: dict[str, Any], taking: Taking
) -> None:
    """Nobody else has this PIN, or one of these cards, any more."""
    db = writer.db
    losers = db.execute(
        "UPDATE directory SET pin = NULL WHERE pin = ? AND person_id != ? RETURNING person_id",
        (state["pin"], person_id),
    ).fetchall()
    for digest, *_ in state["cards"]:
        losers += db.execute(
            "DELETE FROM card WHERE digest = ? AND person_id != ? RETURNING person_id",
            (digest, person_id),
        ).fetchall()
    for (loser,) in losers:
        key, name = db.execute("SELECT key, name FROM person WHERE id = ?", (loser,)).fetchone()
        writer.events.append(store.UserChanged(UUID(bytes=key), name or "", revokes=True))
        if not db.execute(
            "SELECT 1 FROM replica WHERE kind = 'user' AND key = ?", (key,)
        ).fetchone():
            taking.note("user", key, "", "without a card or PIN that is somebody else's upstream")


def _put_cards(writer: SqliteStore, person_id: int, cards: list[list[Any]], is_new: bool) -> None:
    db = writer.db
    rows = [tuple(one) for one in cards]
    if not is_new:
        held = db.execute(
            "SELECT digest, number, label, ending, added_us FROM card WHERE person_id = ? "
            "ORDER BY number",
            (person_id,),
        ).fetchall()
        if held == rows:
            return
        db.execute("DELETE FROM card WHERE person_id = ?", (person_id,))
    for digest, number, label, ending, added_us in rows:
        db.execute(
            "INSERT INTO card (digest, person_id, number, label, ending, added_us) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (digest, person_id, number, label, ending, added_us),
        )


def _put_delegates(
    writer: SqliteStore, person_id: int, delegates: list[bytes], is_new: bool
) -> None:
    db = writer.db
    if not is_new:
        db.execute("DELETE FROM delegate WHERE person_id = ?", (person_id,))
    for key in delegates:
        # One who has not come yet, or does not come here, has a key and no name so far.
        db.execute("INSERT INTO person (key) VALUES (?) ON CONFLICT (key) DO NOTHING", (key,))
        db.execute(
            "INSERT INTO delegate SELECT id, ? FROM person WHERE key = ? ON CONFLICT DO NOTHING",
            (person_id, key),
        )


def put_certificates(
    writer: SqliteStore, holder: bytes, certificates: list[list[Any]]
) -> tuple[str, ...]:
    """Certificates that upstream knows of; the serials of those that are revoked since."""
    db = writer.db
    gone = []
    for serial, not_after_us, revoked in certificates:
        row = db.execute("SELECT revoked FROM certificate WHERE serial = ?", (serial,)).fetchone()
        if row is not None and bool(row[0]) >= bool(revoked):
            continue
        db.execute(
            "INSERT INTO certificate (serial, holder, not_after_us, revoked) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (serial) DO UPDATE SET revoked = excluded.revoked",
            (serial, holder, not_after_us, revoked),
        )
        if revoked:
            gone.append(serial)
    return tuple(gone)


def forget_certificates(writer: SqliteStore, holder: bytes) -> None:
    """They are of nobody here. Upstream may have revoked none: the holder may come again."""
    writer.db.execute("DELETE FROM certificate WHERE holder = ? AND revoked = 0", (holder,))


def remove(writer: SqliteStore, key: bytes) -> None:
    """Nobody comes in as this user any more; the person's jobs stay."""
    db = writer.db
    row = db.execute(
        "SELECT id, name FROM person JOIN directory ON person_id = person.id WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        return
    forget_certificates(writer, key)
    for table in ("directory", "card", "delegate", "sourced"):
        db.execute(f"DELETE FROM {table} WHERE person_id = ?", (row[0],))
    writer.events.append(store.UserChanged(UUID(bytes=key), row[1] or "", ends_connections=True))
