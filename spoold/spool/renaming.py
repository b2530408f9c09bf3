"""How a person gets another name, and stays the same: cards, jobs, money and history go along.

In: whose name, and what it is from now on. Out: a record that says so, with both names where they
can be erased. It runs inside the writer's transaction, for commands and for sources of people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.record import Kind
from spoold.model.text import plain
from spoold.model.user import User
from spoold.spool import store, users

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


class Renamed(NamedTuple):
    """The row of a person, and the names before and after."""

    person_id: int
    guid: UUID
    was: str
    name: str


def rename_user(writer: SqliteStore, change: store.RenameUser) -> User:
    row = users.row_of(writer, change.name)
    (source,) = writer.db.execute(
        "SELECT max(source.name) FROM sourced JOIN source ON source.guid = sourced.source "
        "WHERE person_id = ?",
        (row[6],),
    ).fetchone()
    if source is not None:
        raise OperationError(
            "not-possible",
            f"{plain(change.name[:60])} is taken over from {plain(source[:60])}.",
            "Change the name there; it comes with the next round.",
        )
    who = Renamed(row[6], UUID(bytes=row[0]), change.name, change.new_name)
    rename(writer, who, change.now_us, change.actor)
    return users.look_again(writer, change.new_name)


def rename(writer: SqliteStore, who: Renamed, now_us: int, actor: str) -> None:
    """The same person under another name. Jobs that came under the new one are this user's.

    Raises:
        OperationError: `conflict`: that is another user's name.
    """
    if users.find(writer.db, who.name) is not None:
        raise OperationError("conflict", f"{plain(who.name[:60])} is another user's name.")
    writer.flush()
    db = writer.db
    claimed = db.execute("SELECT id, key FROM person WHERE name = ?", (who.name,)).fetchone()
    if claimed is not None:
        # Somebody has printed under the new name before it was known whose it is.
        ids = (who.person_id, claimed[0])
        db.execute("UPDATE job SET owner_id = ? WHERE owner_id = ?", ids)
        db.execute("UPDATE person SET name = NULL WHERE id = ?", (claimed[0],))
        db.execute("UPDATE joined SET person_id = ? WHERE person_id = ?", ids)
        db.execute("INSERT INTO joined VALUES (?, ?)", (claimed[1], who.person_id))
    writer.add_record(
        Kind.PERSON_RENAMED,
        actor,
        now_us,
        {"person": who.guid.bytes, "joined": claimed[1] if claimed is not None else None},
        {"name": who.name, "was": who.was},
    )
    db.execute("UPDATE person SET name = ? WHERE id = ?", (who.name, who.person_id))
    writer.people.clear()
    writer.lately.clear()
    writer.events.append(store.UserChanged(who.guid, who.name, ends_connections=True))
