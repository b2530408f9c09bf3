"""Foreign records in the writer's transaction: their place in the chain, and how they are kept.

A batch that follows what is here is taken: stored as it came, applied, cited by a record of our
own, and the position of its chain moves, all in one commit. What came before is skipped when its
hash is that of the record here. Anything else is a fork: the sender's disk was put back, and it
wrote other records under positions that it had sent. Nothing of a fork is taken.

A record that cannot be applied is kept in its place and noted in `quarantine`: it never holds up
those behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from spoold.codec import batch
from spoold.codec import record as codec
from spoold.codec.record import Encoded
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.model.record import OF_JOBS, Kind, Record
from spoold.spool import applying, rights, store
from spoold.spool.changes.receiving import FORKED, LEFT, OPEN
from spoold.spool.crashpoint import crash_point
from spoold.spool.poison import POISON
from spoold.spool.rows import CHAIN_SHIFT

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore

REASON_CHARACTERS_MAX = 300
KIND_CHARACTERS_MAX = 64
TAKEN_AT_ONCE = 96  # records, in one transaction; fewer, but so many, if somebody waits for it:
LEAST_TAKEN = 4
ONE_BY_ONE = 16  # at once, of records among which one cannot be applied
ROUNDS_MAX = 500  # that are kept of a site
CHAINS_MAX = 256  # incarnations of a site's journal: a restore a week for five years
QUARANTINE_MAX = 100_000  # records of a site


class _Chain(NamedTuple):
    id: int
    position: int
    hash: bytes
    anchor: int
    state: str


def receive_records(writer: SqliteStore, change: store.ReceiveRecords) -> store.Received:
    """See `ReceiveRecords`.

    Raises:
        OperationError: `conflict`: that is this node's own journal; `not-possible`: there is more
            of it than any site has.
    """
    if change.journal == writer.journal:
        raise OperationError(
            "conflict",
            "this is the journal of this node itself.",
            "A copy of a data directory needs an identity of its own.",
        )
    chain = _find(writer.db, change.journal, change.incarnation)
    if chain is None:
        if not _may_begin(writer.db, change):
            return store.Received(0, codec.GENESIS, OPEN)
        if _is_parted(writer, change):
            return store.Received(0, codec.GENESIS, FORKED)
        chain = _begin(writer, change)
    if chain.state == FORKED:
        return store.Received(chain.position, chain.hash, FORKED)
    if change.first > chain.position + 1:
        if not change.is_oldest:
            return store.Received(chain.position, chain.hash, chain.state)
        chain = _skip(writer, chain, change)
    fork = _fork(writer.db, chain, change)
    if fork is not None:
        _mark(writer, chain, change, change.incarnation, fork)
        return store.Received(chain.position, chain.hash, FORKED)
    return _take(writer, chain, change)


def _find(db: sqlite3.Connection, journal: UUID, incarnation: UUID) -> _Chain | None:
    row = db.execute(
        "SELECT chain.id, chain.position, chain.hash, chain.anchor_position, received.state "
        "FROM chain JOIN received ON received.chain_id = chain.id "
        "WHERE chain.journal = ? AND chain.incarnation = ?",
        (journal.bytes, incarnation.bytes),
    ).fetchone()
    return None if row is None else _Chain(*row)


# -- the begin of an incarnation ---------------------------------------------------------------


def _may_begin(db: sqlite3.Connection, change: store.ReceiveRecords) -> bool:
    """Whether the first records of an incarnation that is new here are the first there are."""
    return change.first == 1 or change.is_oldest or _branches(change)


def _branches(change: store.ReceiveRecords) -> bool:
    """Whether it goes on, in other records, from one of another incarnation."""
    parent = change.parent
    return (
        parent is not None
        and parent.position + 1 == change.first
        and parent.hash == change.previous
    )


def _is_parted(writer: SqliteStore, change: store.ReceiveRecords) -> bool:
    """Whether it goes on from a record that is another one here: a fork that nobody has settled.

    Its sender should have sent that one and those before it as an incarnation of their own.
    """
    parent = change.parent
    if parent is None or not parent.position:
        return False
    chain = _find(writer.db, change.journal, parent.incarnation)
    if chain is None or not chain.anchor < parent.position <= chain.position:
        return False
    if hash_at(writer.db, chain.id, parent.position) == parent.hash:
        return False
    if chain.state != FORKED:
        _mark(writer, chain, change, parent.incarnation, parent.position)
    return True


def _check_most(db: sqlite3.Connection, rows: str, journal: UUID, most: int, what: str) -> None:
    """Raises OperationError: `not-possible`: a site has so many already."""
    (count,) = db.execute(f"SELECT count(*) FROM {rows}", (journal.bytes,)).fetchone()
    if count >= most:
        raise OperationError(
            "not-possible",
            f"there are {count} {what} of this journal here already.",
            "See `spoold journal quarantine` at the application server; "
            "`spoold site revoke` ends it, if the site is somebody else's by now.",
        )


def _begin(writer: SqliteStore, change: store.ReceiveRecords) -> _Chain:
    _check_most(writer.db, "chain WHERE journal = ?", change.journal, CHAINS_MAX, "incarnations")
    parent = change.parent
    position, hash_ = change.first - 1, change.previous
    parents = (
        (None, None, None)
        if parent is None
        else (parent.incarnation.bytes, parent.position, parent.hash)
    )
    id_ = writer.db.execute(
        "INSERT INTO chain (journal, incarnation, parent_incarnation, parent_position, "
        "parent_hash, is_own, started_us, position, hash, anchor_position, anchor_hash, "
        "last_job_id) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, 0)",
        (
            change.journal.bytes, change.incarnation.bytes, *parents, change.now_us, position,
            hash_, position, hash_,
        ),
    ).lastrowid  # fmt: skip
    assert id_ is not None
    writer.db.execute(
        "INSERT INTO received VALUES (?, ?, ?, 'open', NULL, NULL)",
        (id_, change.head, change.now_us),
    )
    if parent is not None:  # whatever was wrong with that one, its sender has gone on
        writer.db.execute(
            "UPDATE received SET state = ? WHERE chain_id IN (SELECT id FROM chain "
            "WHERE journal = ? AND id != ?)",
            (LEFT, change.journal.bytes, id_),
        )
        rights.thaw(writer, change.journal, change.incarnation)
        writer.events.append(store.SiteWentBack(change.journal))
    if position and not _branches(change):
        _note_missing(writer, change, 0)
    return _Chain(id_, position, hash_, position, OPEN)


def _skip(writer: SqliteStore, chain: _Chain, change: store.ReceiveRecords) -> _Chain:
    """The sender does not keep what is missing here any more: it is lost, and said to be."""
    _note_missing(writer, change, chain.position)
    position, hash_ = change.first - 1, change.previous
    writer.db.execute(
        "UPDATE chain SET position = ?, hash = ?, anchor_position = ?, anchor_hash = ? "
        "WHERE id = ?",
        (position, hash_, position, hash_, chain.id),
    )
    return chain._replace(position=position, hash=hash_, anchor=position)


def _note_missing(writer: SqliteStore, change: store.ReceiveRecords, after: int) -> None:
    writer.add_record(
        Kind.RECORDS_MISSING,
        change.actor,
        change.now_us,
        {
            "journal": change.journal.bytes,
            "incarnation": change.incarnation.bytes,
            "from": after + 1,
            "to": change.first - 1,
        },
    )
    missing = store.RecordsMissing(change.journal, change.incarnation, after + 1, change.first - 1)
    writer.events.append(missing)


# -- forks -------------------------------------------------------------------------------------


def _fork(db: sqlite3.Connection, chain: _Chain, change: store.ReceiveRecords) -> int | None:
    """The position at or before which the sender's records are not ours; None: they agree.

    The hash of a record covers all that stand before it: one comparison will do.
    """
    last = change.first - 1 + len(change.records)
    at = min(last, chain.position)
    sent = change.previous if at < change.first else change.records[at - change.first].hash
    if at == chain.position:
        kept = chain.hash
    elif at <= chain.anchor:
        kept = sent  # it is pruned here: nobody can tell any more
    else:
        kept = hash_at(db, chain.id, at)
    return at if kept != sent or change.is_behind else None


def hash_at(db: sqlite3.Connection, chain_id: int, position: int) -> bytes:
    """The hash of a record that is kept; b"" where there is none."""
    row = db.execute(
        "SELECT hash FROM record WHERE id = ?", (chain_id << CHAIN_SHIFT | position,)
    ).fetchone()
    return b"" if row is None else bytes(row[0])


def _mark(
    writer: SqliteStore,
    chain: _Chain,
    change: store.ReceiveRecords,
    incarnation: UUID,
    at: int,
) -> None:
    """Quarantine a chain: nothing more is taken into it."""
    writer.db.execute(
        "UPDATE received SET state = ?, fork_position = ?, fork_us = ? WHERE chain_id = ?",
        (FORKED, at, change.now_us, chain.id),
    )
    writer.add_record(
        Kind.JOURNAL_FORKED,
        change.actor,
        change.now_us,
        {
            "journal": change.journal.bytes,
            "incarnation": incarnation.bytes,
            "position": at,
            "kept": chain.position,
        },
    )
    rights.freeze(writer, change.journal)
    writer.events.append(store.JournalForked(change.journal, incarnation, at))


# -- taking ------------------------------------------------------------------------------------


def _take(writer: SqliteStore, chain: _Chain, change: store.ReceiveRecords) -> store.Received:
    new = change.records[chain.position + 1 - change.first :][:TAKEN_AT_ONCE]
    if not new:
        _note_head(writer, chain, change)
        return store.Received(chain.position, chain.hash, chain.state)
    if chain.state == LEFT:
        chain = _reopen(writer, chain, change)
    first = chain.position + 1
    site = applying.Site(change.journal, chain.id, change.now_us)
    count, poisoned = _apply(writer, site, first, new)
    new = new[:count]
    base = chain.id << CHAIN_SHIFT
    writer.add_rows(
        [
            (
                base | position,
                one.header,
                one.payload,
                None if position in site.erased else one.personal,
                one.hash,
            )
            for position, one in enumerate(new, first)
        ]
    )
    last, hash_ = first - 1 + len(new), new[-1].hash
    crash_point("received-before-position")
    writer.db.execute(
        "UPDATE chain SET position = ?, hash = ? WHERE id = ?", (last, hash_, chain.id)
    )
    _note_head(writer, chain, change)
    writer.add_record(
        Kind.RECORDS_RECEIVED,
        change.actor,
        change.now_us,
        {
            "journal": change.journal.bytes,
            "incarnation": change.incarnation.bytes,
            "from": first,
            "to": last,
            "hash": hash_,
            **({"quarantined": sorted(poisoned)} if poisoned else {}),
        },
    )
    writer.events.append(
        store.RecordsReceived(change.journal, change.incarnation, last, change.head, len(new))
    )
    return store.Received(last, hash_, chain.state, len(new), len(poisoned))


def _reopen(writer: SqliteStore, chain: _Chain, change: store.ReceiveRecords) -> _Chain:
    """Its sender is in that incarnation again, or has still something of it to send."""
    for before, after, which in ((OPEN, LEFT, "!="), (LEFT, OPEN, "=")):
        writer.db.execute(
            f"UPDATE received SET state = ? WHERE state = ? AND chain_id {which} ? "
            "AND chain_id IN (SELECT id FROM chain WHERE journal = ?)",
            (after, before, chain.id, change.journal.bytes),
        )
    writer.events.append(store.SiteWentBack(change.journal))
    return chain._replace(state=OPEN)


def _note_head(writer: SqliteStore, chain: _Chain, change: store.ReceiveRecords) -> None:
    writer.db.execute(
        "UPDATE received SET head = ?, received_us = ? WHERE chain_id = ?",
        (change.head, change.now_us, chain.id),
    )


def _apply(
    writer: SqliteStore, site: applying.Site, first: int, records: Sequence[Encoded]
) -> tuple[int, dict[int, str]]:
    """Apply records in order, some or all of them; how many, and the reasons of those that cannot
    be, by position.

    All at once first: what makes no sense is rare, and then it is done again one by one.
    """
    writer.flush()
    with writer.savepoint() as attempt:
        try:
            count = 0
            for count, one in enumerate(records):
                if count >= LEAST_TAKEN and writer.others_wait():
                    break
                position = first + count
                applying.apply(writer, site, position, batch.understand(position, one))
            else:
                count = len(records)
            site.write(writer)
            return count, {}
        except POISON:
            attempt.undo()
    site.forget()
    kept = "quarantine WHERE chain_id IN (SELECT id FROM chain WHERE journal = ?)"
    _check_most(writer.db, kept, site.journal, QUARANTINE_MAX, "records in quarantine")
    poisoned: dict[int, str] = {}
    records = records[:ONE_BY_ONE]
    for position, one in enumerate(records, first):
        with writer.savepoint() as attempt:
            kind = ""
            try:
                fact = batch.understand(position, one)
                kind = fact.kind
                applying.apply(writer, site, position, fact)
                site.write(writer)
            except POISON as error:
                attempt.undo()
                site.forget()
                poisoned[position] = _reason(error)
                _quarantine(writer, site, position, kind, poisoned[position])
    return len(records), poisoned


def _reason(error: BaseException) -> str:
    """Why, without what the record holds: that may be personal, and cannot be erased here."""
    if isinstance(error, OperationError):
        return error.message[:REASON_CHARACTERS_MAX]
    if isinstance(error, RemoteProtocolError):
        return str(error)[:REASON_CHARACTERS_MAX]
    return f"it is not as such records are ({type(error).__name__})"


def _quarantine(
    writer: SqliteStore, site: applying.Site, position: int, kind: str, reason: str
) -> None:
    kind = kind[:KIND_CHARACTERS_MAX]
    writer.db.execute(
        "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?) ON CONFLICT (chain_id, position) "
        "DO UPDATE SET reason = excluded.reason",
        (site.chain_id, position, kind, reason, site.now_us),
    )
    writer.events.append(store.RecordQuarantined(site.journal, position, kind, reason))


def retry_quarantined(writer: SqliteStore, change: store.RetryQuarantined) -> int:
    """A newer program may understand what an older one did not."""
    row = writer.db.execute(
        "SELECT journal FROM chain WHERE id = ? AND is_own = 0", (change.chain_id,)
    ).fetchone()
    if row is None:
        raise OperationError("not-found", "there is no such journal here.")
    site = applying.Site(UUID(bytes=row[0]), change.chain_id, change.now_us)
    applied = 0
    for position, *later in change.positions:
        writer.flush()
        with writer.savepoint() as attempt:
            try:
                first = _kept(writer.db, change.chain_id, position, is_quarantined=True)
                if first is None:
                    continue
                applying.apply(writer, site, position, first)
                for behind in later:
                    again = _kept(writer.db, change.chain_id, behind, is_quarantined=False)
                    if again is not None and again.kind in OF_JOBS:
                        applying.apply(writer, site, behind, again)
                site.write(writer)
            except POISON:
                attempt.undo()
                site.forget()
                continue
        writer.db.execute(
            "DELETE FROM quarantine WHERE chain_id = ? AND position = ?",
            (change.chain_id, position),
        )
        applied += 1
    for position in site.erased:
        row = change.chain_id << CHAIN_SHIFT | position
        writer.db.execute("UPDATE record SET personal = NULL WHERE id = ?", (row,))
    return applied


def _kept(
    db: sqlite3.Connection, chain_id: int, position: int, *, is_quarantined: bool
) -> Record | None:
    """A foreign record, if it is in quarantine, or if it is not.

    Raises:
        RemoteProtocolError: it is none.
    """
    row = db.execute(
        "SELECT header, payload, personal, hash FROM record WHERE id = ? AND ? = EXISTS "
        "(SELECT 1 FROM quarantine WHERE chain_id = ? AND position = ?)",
        (chain_id << CHAIN_SHIFT | position, is_quarantined, chain_id, position),
    ).fetchone()
    return None if row is None else codec.decode(*row)


def prune_received(writer: SqliteStore, change: store.PruneReceived) -> int:
    """What is in quarantine goes with its record."""
    base, last = change.chain_id << CHAIN_SHIFT, change.position
    hash_ = hash_at(writer.db, change.chain_id, last)
    if not hash_:
        return 0
    writer.db.execute(
        "UPDATE chain SET anchor_position = ?, anchor_hash = ? WHERE id = ? AND is_own = 0",
        (last, hash_, change.chain_id),
    )
    writer.db.execute(
        "DELETE FROM quarantine WHERE chain_id = ? AND position <= ?", (change.chain_id, last)
    )
    return writer.db.execute(
        "DELETE FROM record WHERE id > ? AND id <= ?", (base, base | last)
    ).rowcount


# -- rounds ------------------------------------------------------------------------------------


def start_round(writer: SqliteStore, change: store.StartRound) -> int:
    db = writer.db
    db.execute(
        "UPDATE round SET ended_us = ?, result = 'cut off' WHERE ended_us IS NULL AND peer = ?",
        (change.now_us, change.peer.bytes),
    )
    id_ = db.execute(
        "INSERT INTO round (peer, cause, started_us, first, last, records, result) "
        "VALUES (?, ?, ?, ?, ?, 0, '')",
        (change.peer.bytes, change.cause, change.now_us, change.first, change.first - 1),
    ).lastrowid
    assert id_ is not None
    db.execute(
        "DELETE FROM round WHERE peer = ? AND id <= (SELECT id FROM round WHERE peer = ? "
        "ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (change.peer.bytes, change.peer.bytes, ROUNDS_MAX),
    )
    return id_


def finish_round(writer: SqliteStore, change: store.FinishRound) -> None:
    writer.db.execute(
        "UPDATE round SET ended_us = ?, last = ?, records = ?, result = ? WHERE id = ?",
        (
            change.now_us, change.last, change.records,
            change.result[:REASON_CHARACTERS_MAX], change.id,
        ),
    )  # fmt: skip
