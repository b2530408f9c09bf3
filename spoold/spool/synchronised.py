"""How sources and the people who come from them are changed, recorded and folded; see `users`.

Who came from a source is remembered beside the user, by the source's own id for them. Whoever was
made by hand has no such row, and no round of synchronisation can reach them.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.purse import PurseKind
from spoold.model.record import Kind
from spoold.model.source import Source, settings_map, source_of
from spoold.model.text import plain
from spoold.model.user import CARDS_MAX, User
from spoold.spool import people, renaming, store, users
from spoold.spool.jobs import person
from spoold.spool.renaming import Renamed
from spoold.spool.rows import pack, unpack

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

SOURCES_MAX = 32
ROUND_NEWS = ("outcome", "message")
ROUND_COUNTS = ("added", "changed", "adopted", "disabled", "removed", "refused")
_SOURCES = "SELECT guid, name, fields, round, changed_us FROM source "


class KeptSource(NamedTuple):
    """A source, and how its last round went (empty before the first)."""

    source: Source
    round: dict[str, Any]
    changed_us: int = 0


class Sourced(NamedTuple):
    """A user who came from a source; `card` is the hash of the card that came along."""

    user: User
    id: str
    is_off: bool
    is_gone: bool
    card: bytes


class Origin(NamedTuple):
    """Where a user came from, and how the source knows them."""

    source: Source
    id: str
    is_gone: bool

    @property
    def is_asked(self) -> bool:
        """Whether the source is asked for the password of a user who has none here."""
        return self.source.logins and not self.is_gone


# -- look-ups ----------------------------------------------------------------------------------


def _source_of(row: tuple[Any, ...]) -> KeptSource:
    guid, name, packed, round_, changed_us = row
    source = source_of(UUID(bytes=guid), name, unpack(packed))
    return KeptSource(source, unpack(round_) if round_ else {}, changed_us)


def sources(db: sqlite3.Connection) -> list[KeptSource]:
    """All sources, by name."""
    return [_source_of(row) for row in db.execute(_SOURCES + "ORDER BY name").fetchall()]


def find_source(db: sqlite3.Connection, name: str) -> KeptSource | None:
    row = db.execute(_SOURCES + "WHERE name = ?", (name,)).fetchone()
    return None if row is None else _source_of(row)


def behind(db: sqlite3.Connection) -> tuple[str, ...]:
    """The names of the sources whose last round was not made."""
    rows = db.execute("SELECT name, round FROM source WHERE round IS NOT NULL ORDER BY name")
    return tuple(name for name, told in rows.fetchall() if unpack(told)["outcome"] != "done")


class PeoplePage(NamedTuple):
    """Users in the order of their rows: those who came from a source; and all others by name, with
    the guid of who was made by hand, None for who came from elsewhere. `last_id` 0: the last page.
    """

    made: list[Sourced]
    others: dict[str, UUID | None]
    last_id: int


def people_page(db: sqlite3.Connection, source: UUID, after_id: int, limit: int) -> PeoplePage:
    """At most `limit` users behind a row. Many pages rather than one long look: logins wait too."""
    rows = db.execute(
        users.SELECT_USER + "WHERE directory.person_id > ? ORDER BY directory.person_id LIMIT ?",
        (after_id, limit),
    ).fetchall()
    last_id = rows[-1][6] if rows else 0
    origins = {
        person_id: rest
        for person_id, *rest in db.execute(
            "SELECT person_id, source, id, is_off, is_gone, card FROM sourced "
            "WHERE person_id > ? AND person_id <= ?",
            (after_id, last_id),
        )
    }
    page = PeoplePage([], {}, last_id if len(rows) == limit else 0)
    for user, row in zip(users.users_of(db, rows), rows, strict=True):
        origin = origins.get(row[6])
        if origin is None:
            page.others[user.name] = user.guid
        elif origin[0] != source.bytes:
            page.others[user.name] = None
        else:
            _, id_, is_off, is_gone, card = origin
            page.made.append(Sourced(user, id_, bool(is_off), bool(is_gone), card or b""))
    return page


def origins_of(db: sqlite3.Connection, guids: list[UUID]) -> dict[UUID, Origin]:
    """Where users came from; who was made by hand is not in it."""
    found = ((guid, origin_of(db, guid)) for guid in guids)
    return {guid: origin for guid, origin in found if origin is not None}


def joined(db: sqlite3.Connection, person_id: int) -> tuple[bytes, ...]:
    """Keys of people who turned out to be this one: jobs and records from before name them."""
    rows = db.execute("SELECT key FROM joined WHERE person_id = ? ORDER BY key", (person_id,))
    return tuple(key for (key,) in rows)


def origin_of(db: sqlite3.Connection, guid: UUID) -> Origin | None:
    """The source of a user; none for who was made by hand."""
    row = db.execute(
        "SELECT sourced.id, sourced.is_gone, source.guid, source.name, source.fields, "
        "source.round, source.changed_us FROM person JOIN sourced ON person_id = person.id "
        "JOIN source ON source.guid = sourced.source WHERE person.key = ?",
        (guid.bytes,),
    ).fetchone()
    return None if row is None else Origin(_source_of(row[2:]).source, row[0], bool(row[1]))


# -- sources -----------------------------------------------------------------------------------


def unknown(name: str) -> OperationError:
    return OperationError(
        "not-found", f"there is no source {plain(name[:60])}.", "See `spoold source list`."
    )


def put_source(writer: SqliteStore, change: store.PutSource) -> Source:
    source = change.source
    known = writer.db.execute(
        "SELECT guid FROM source WHERE guid = ? OR name = ?", (source.guid.bytes, source.name)
    ).fetchall()
    if change.is_new and known:
        raise OperationError(
            "conflict",
            f"there is a source {source.name} already.",
            f"Change it: `spoold source set {source.name}`.",
        )
    if not change.is_new and known != [(source.guid.bytes,)]:
        raise unknown(source.name)
    (count,) = writer.db.execute("SELECT count(*) FROM source").fetchone()
    if change.is_new and count >= SOURCES_MAX:
        raise OperationError("not-possible", f"there are {count} sources.", "Remove one first.")
    fields = settings_map(source)
    writer.add_record(
        Kind.SOURCE_CHANGED,
        change.actor,
        change.now_us,
        {"source": source.guid.bytes, "name": source.name, **fields},
    )
    writer.db.execute(
        "INSERT INTO source (guid, name, fields, created_us, changed_us) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (guid) DO UPDATE SET fields = excluded.fields, "
        "changed_us = excluded.changed_us",
        (source.guid.bytes, source.name, pack(fields), change.now_us, change.now_us),
    )
    return source


def remove_source(writer: SqliteStore, change: store.RemoveSource) -> int:
    kept = find_source(writer.db, change.name)
    if kept is None:
        raise unknown(change.name)
    guid = kept.source.guid.bytes
    writer.add_record(
        Kind.SOURCE_REMOVED,
        change.actor,
        change.now_us,
        {"source": guid, "name": change.name},
    )
    writer.db.execute("DELETE FROM source WHERE guid = ?", (guid,))
    return writer.db.execute("DELETE FROM sourced WHERE source = ?", (guid,)).rowcount


def end_round(writer: SqliteStore, change: store.EndRound) -> None:
    """Note how it went; a round that changed nothing and went as the last one is no news."""
    kept = find_source(writer.db, change.source.name)
    if kept is None:
        raise unknown(change.source.name)
    news = {key: change.told.get(key) for key in ROUND_NEWS}
    if any(change.told.get(key) for key in ROUND_COUNTS) or news != {
        key: kept.round.get(key) for key in ROUND_NEWS
    }:
        counts = {key: change.told.get(key, 0) for key in ROUND_COUNTS}
        writer.add_record(
            Kind.PEOPLE_SYNCHRONISED,
            change.actor,
            change.now_us,
            {"source": kept.source.guid.bytes, "outcome": change.told.get("outcome"), **counts},
            {"message": change.told.get("message")},  # it may name an entry
        )
    writer.db.execute(
        "UPDATE source SET round = ? WHERE guid = ?", (pack(change.told), kept.source.guid.bytes)
    )


def forget_troubles(db: sqlite3.Connection) -> None:
    """What the last rounds had trouble with names people: whoever is erased must not be in it."""
    for kept in sources(db):
        if kept.round:
            told = {**kept.round, "message": "", "troubles": []}
            guid = kept.source.guid.bytes
            db.execute("UPDATE source SET round = ? WHERE guid = ?", (pack(told), guid))


# -- people ------------------------------------------------------------------------------------


def sync_user(writer: SqliteStore, change: store.SyncUser) -> str:
    """Everything that can be refused is looked at before anything is written."""
    trouble = ""
    card = change.card
    if card is not None and card.digests:
        holder = people.by_card(writer.db, card.digests)
        if holder is not None and holder.guid != change.guid:
            trouble = f"the card of {change.name} is {holder.name}'s here, and stays so."
            card = None
        elif holder is None and _count_cards(writer, change.guid) >= CARDS_MAX:
            trouble = f"{change.name} has {CARDS_MAX} cards here, and gets no more."
            card = None
    if change.guid is None:
        person_id = _add(writer, change)
    else:
        if change.adopts:
            _adopt(writer, change, change.guid)
        person_id = _change(writer, change, change.guid)
    if card is not None:
        _put_card(writer, change, person_id, card)
    return plain(trouble)


def _count_cards(writer: SqliteStore, guid: UUID | None) -> int:
    if guid is None:
        return 0
    (count,) = writer.db.execute(
        "SELECT count(*) FROM card JOIN person ON person.id = person_id WHERE person.key = ?",
        (guid.bytes,),
    ).fetchone()
    return int(count)


def _add(writer: SqliteStore, change: store.SyncUser) -> int:
    put = store.PutUser(
        change.name, change.now_us, is_new=True, actor=change.actor, fields=change.fields
    )
    users.put_user(writer, put)
    person_id, key = person(writer, change.name, change.now_us)
    _record_origin(writer, change, key)
    _insert(writer, change, person_id)
    return person_id


def _adopt(writer: SqliteStore, change: store.SyncUser, guid: UUID) -> None:
    """Somebody who was made by hand is the source's from now on, because an operator said so.

    Raises:
        OperationError: `not-found`; `conflict`: another source's.
    """
    user = users.find_by_guid(writer.db, guid)
    if user is None or user.name != change.name:
        raise users.unknown(change.name)
    if origin_of(writer.db, guid) is not None:
        raise OperationError("conflict", f"{plain(change.name[:60])} came from another source.")
    person_id, key = person(writer, change.name, change.now_us)
    _record_origin(writer, change, key)
    _insert(writer, change, person_id)


def _insert(writer: SqliteStore, change: store.SyncUser, person_id: int) -> None:
    writer.db.execute(
        "INSERT OR REPLACE INTO sourced (person_id, source, id, is_off, is_gone) "
        "VALUES (?, ?, ?, ?, 0)",
        (person_id, change.source.guid.bytes, change.id, change.is_off),
    )


def _change(writer: SqliteStore, change: store.SyncUser, guid: UUID) -> int:
    person_id, name = _own_row(writer, change.source, guid)
    if change.was and change.name != name:
        renaming.rename(
            writer, Renamed(person_id, guid, name, change.name), change.now_us, change.actor
        )
    else:
        change.name = name
    if change.fields:
        users.put_user(
            writer,
            store.PutUser(change.name, change.now_us, actor=change.actor, fields=change.fields),
        )
    writer.db.execute(
        "UPDATE sourced SET is_off = ?, is_gone = 0 WHERE person_id = ?",
        (change.is_off, person_id),
    )
    return person_id


def _own_row(writer: SqliteStore, source: Source, guid: UUID) -> tuple[int, str]:
    """The row and the name of a user who came from the source.

    Raises:
        OperationError: `not-found`: it is not the source's any more.
    """
    row = writer.db.execute(
        "SELECT person.id, person.name FROM person JOIN sourced ON sourced.person_id = person.id "
        "JOIN directory ON directory.person_id = person.id "
        "WHERE person.key = ? AND sourced.source = ?",
        (guid.bytes, source.guid.bytes),
    ).fetchone()
    if row is None:
        raise OperationError("not-found", "the user is not of this source any more.")
    return row[0], row[1]


def _record_origin(writer: SqliteStore, change: store.SyncUser, key: bytes) -> None:
    """An id of a directory names somebody: it stands where it can be erased."""
    writer.add_record(
        Kind.PERSON_SYNCHRONISED,
        change.actor,
        change.now_us,
        {"person": key, "source": change.source.guid.bytes},
        {"name": change.name, "id": change.id},
    )


def _put_card(
    writer: SqliteStore, change: store.SyncUser, person_id: int, card: store.CardOfSource
) -> None:
    """The card of the source in the place of the one that came from it before."""
    db = writer.db
    (old,) = db.execute(
        "SELECT card_number FROM sourced WHERE person_id = ?", (person_id,)
    ).fetchone()
    is_there = db.execute(
        "SELECT 1 FROM card WHERE person_id = ? AND number = ?", (person_id, old)
    ).fetchone()
    if is_there is not None:
        gone = store.RemoveCard(change.name, old, change.now_us, actor=change.actor)
        people.remove_card(writer, gone)
    number = None
    if card.digests:
        put = store.PutCard(
            change.name, card.digests, card.label, card.ending, change.now_us, change.actor
        )
        people.put_card(writer, put)
        (number,) = db.execute(
            f"SELECT number FROM card WHERE digest IN ({','.join('?' * len(card.digests))})",
            card.digests,
        ).fetchone()
    db.execute(
        "UPDATE sourced SET card = ?, card_number = ? WHERE person_id = ?",
        (card.digests[-1] if card.digests else None, number, person_id),
    )


def vanish_user(writer: SqliteStore, change: store.VanishUser) -> str:
    person_id, name = _own_row(writer, change.source, change.guid)
    if change.removes and not _has_balance(writer, change.guid):
        users.remove_user(writer, store.RemoveUser(name, change.now_us, change.actor))
        writer.db.execute("DELETE FROM sourced WHERE person_id = ?", (person_id,))
        return "remove"
    before = users.look_again(writer, name)
    if not before.disabled:
        put = store.PutUser(name, change.now_us, actor=change.actor, fields={"disabled": True})
        users.put_user(writer, put)
    writer.db.execute(
        "UPDATE sourced SET is_off = max(is_off, ?), is_gone = 1 WHERE person_id = ?",
        (not before.disabled, person_id),
    )
    return "disable"


def _has_balance(writer: SqliteStore, guid: UUID) -> bool:
    """Whether money is the user's or owed by them, or work goes on that they pay.

    An allowance is none: everybody may have one, and it ends by itself.
    """
    row = writer.db.execute(
        "SELECT 1 FROM purse WHERE holder = ? AND kind != ? AND balance != 0 UNION ALL "
        "SELECT 1 FROM charge WHERE holder = ? AND state = 'reserved' LIMIT 1",
        (guid.bytes, PurseKind.ALLOWANCE.value, guid.bytes),
    ).fetchone()
    return row is not None
