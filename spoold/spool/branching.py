"""A branch of this node's own journal: records that another node has others in the place of.

After a disk was put back, the records behind the last one that both nodes have become an
incarnation of their own, with that one for its parent. They keep their positions and hashes. So it
goes with the incarnation in use, and with one before it whose fork nobody had seen by then.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.record import Kind
from spoold.spool import store, witness
from spoold.spool.rows import CHAIN_SHIFT, JOB_ID_MAX

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


class _Chain(NamedTuple):
    id: int
    incarnation: bytes
    position: int
    hash: bytes
    anchor: int
    anchor_hash: bytes


def branch_journal(writer: SqliteStore, change: store.BranchJournal) -> UUID:
    """See `BranchJournal`.

    Raises:
        OperationError: `bad-request`, there are no such records; `not-possible`, they are pruned.
    """
    writer.write_records()
    old, *younger = _from(writer, change.incarnation or writer.incarnation)
    ends_at = old.position if younger else writer.position
    if not 0 <= change.position <= ends_at - bool(younger):
        raise OperationError("bad-request", f"the journal ends at {ends_at}.")
    if change.position < old.anchor:
        raise OperationError(
            "not-possible", f"records before {old.anchor + 1} are not kept any more."
        )
    hash_ = _hash_at(writer.db, old, change.position)
    new = UUID(bytes=writer.random(16), version=4)
    head = old.hash if younger else writer.head_hash
    new_id = _insert(writer, old, new, change, hash_, ends_at, head)
    _move(writer.db, old.id, new_id, change.position)
    writer.db.execute(
        "UPDATE chain SET position = ?, hash = ? WHERE id = ?", (change.position, hash_, old.id)
    )
    if younger:
        _follow(writer, old, new, change.position, younger)
    else:
        writer.chain_id, writer.incarnation = new_id, new
    writer.add_record(
        Kind.JOURNAL_BRANCHED,
        change.actor,
        change.now_us,
        {"position": change.position, "incarnation": old.incarnation},
    )
    writer.events.append(store.JournalBranched(change.position))
    return new


def _from(writer: SqliteStore, incarnation: UUID) -> list[_Chain]:
    """An incarnation, and those after it, the last of which is in use."""
    rows = writer.db.execute(
        "SELECT id, incarnation, position, hash, anchor_position, anchor_hash FROM chain "
        "WHERE is_own = 1 AND id >= (SELECT id FROM chain WHERE is_own = 1 AND incarnation = ?) "
        "ORDER BY id",
        (incarnation.bytes,),
    ).fetchall()
    if not rows:
        raise OperationError("not-found", "there is no such incarnation of this journal.")
    return [_Chain(*row) for row in rows]


def _hash_at(db: sqlite3.Connection, chain: _Chain, position: int) -> bytes:
    if position == chain.anchor:
        return chain.anchor_hash
    row = db.execute(
        "SELECT hash FROM record WHERE id = ?", (chain.id << CHAIN_SHIFT | position,)
    ).fetchone()
    return bytes(row[0])


def _insert(
    writer: SqliteStore,
    old: _Chain,
    new: UUID,
    change: store.BranchJournal,
    hash_: bytes,
    ends_at: int,
    head: bytes,
) -> int:
    """The row of the branch. Job ids that were given out under the other records stay unused."""
    writer.last_job_id = min(writer.last_job_id + witness.JOB_IDS_SKIPPED, JOB_ID_MAX)
    id_ = writer.db.execute(
        "INSERT INTO chain (journal, incarnation, parent_incarnation, parent_position, "
        "parent_hash, is_own, started_us, position, hash, anchor_position, anchor_hash, "
        "last_job_id) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)",
        (
            writer.journal.bytes, new.bytes, old.incarnation, change.position, hash_,
            change.now_us, ends_at, head, change.position, hash_, writer.last_job_id,
        ),
    ).lastrowid  # fmt: skip
    assert id_ is not None
    return id_


def _follow(
    writer: SqliteStore, old: _Chain, new: UUID, position: int, younger: list[_Chain]
) -> None:
    """Put those that came after behind the branch: chains are in the order of their ids."""
    db = writer.db
    db.execute(
        "UPDATE chain SET parent_incarnation = ? WHERE is_own = 1 AND parent_incarnation = ? "
        "AND parent_position > ? AND incarnation != ?",
        (new.bytes, old.incarnation, position, new.bytes),
    )
    for chain in younger:
        (id_,) = db.execute("SELECT max(id) + 1 FROM chain").fetchone()
        db.execute("UPDATE chain SET id = ? WHERE id = ?", (id_, chain.id))
        _move(db, chain.id, id_, 0)
        writer.chain_id = id_


def _move(db: sqlite3.Connection, from_id: int, to_id: int, after: int) -> None:
    """Records of a chain behind a position are another chain's."""
    db.execute(
        "UPDATE record SET id = id - ? + ? WHERE id > ? AND id < ?",
        (
            from_id << CHAIN_SHIFT, to_id << CHAIN_SHIFT,
            from_id << CHAIN_SHIFT | after, from_id + 1 << CHAIN_SHIFT,
        ),
    )  # fmt: skip
