"""Look-ups of what other nodes have sent: how far each is, what is quarantined, rounds of sending.

Each takes the read connection (see `reader.look`) and is one short snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

from spoold.codec import record as codec
from spoold.model import policy
from spoold.model.errors import RemoteProtocolError
from spoold.model.record import OF_JOBS, Record
from spoold.spool.changes.receiving import FORKED, LEFT, OPEN
from spoold.spool.rows import CHAIN_SHIFT, pack

NOTHING = pack({})  # a payload, where only the header is looked at
LATER_MAX = 10_000  # records of one job
RANK = {LEFT: 0, OPEN: 1, FORKED: 2}


class Standing(NamedTuple):
    """One incarnation of another node's journal as it stands here; see `0014_received.sql`."""

    chain_id: int
    journal: UUID
    incarnation: UUID
    position: int
    hash: bytes
    head: int
    received_us: int
    state: str
    fork_position: int | None
    quarantined: int

    @property
    def lag(self) -> int:
        """How many records its sender has that are not here yet, as far as it has said."""
        return max(0, self.head - self.position)


class Quarantined(NamedTuple):
    chain_id: int
    journal: UUID
    incarnation: UUID
    position: int
    kind: str
    reason: str
    noticed_us: int


class Round(NamedTuple):
    """`ended_us` None and `result` "": it goes on."""

    id: int
    peer: UUID
    cause: str
    started_us: int
    ended_us: int | None
    first: int
    last: int
    records: int
    result: str


_STANDING = (
    "SELECT chain.id, chain.journal, chain.incarnation, chain.position, chain.hash, received.head, "
    "received.received_us, received.state, received.fork_position, (SELECT count(*) FROM "
    "quarantine WHERE quarantine.chain_id = chain.id) FROM chain JOIN received "
    "ON received.chain_id = chain.id "
)


def standings(db: sqlite3.Connection, journal: UUID | None = None) -> list[Standing]:
    """Every foreign incarnation, or those of one journal, the oldest first."""
    rows = (
        db.execute(_STANDING + "ORDER BY chain.id")
        if journal is None
        else db.execute(_STANDING + "WHERE chain.journal = ? ORDER BY chain.id", (journal.bytes,))
    )
    return [_standing(row) for row in rows]


def _standing(row: Sequence[Any]) -> Standing:
    id_, journal, incarnation, *rest = row
    return Standing(id_, UUID(bytes=journal), UUID(bytes=incarnation), *rest)


def latest(standings: Iterable[Standing]) -> dict[UUID, Standing]:
    """Of each journal the incarnation that tells how it is: the forked one, else that in use."""
    found: dict[UUID, Standing] = {}
    for one in standings:
        before = found.get(one.journal)
        if before is None or RANK[one.state] >= RANK[before.state]:
            found[one.journal] = one
    return found


class Stretch(NamedTuple):
    """The records of one incarnation that are kept, own or foreign, by the ids of their rows."""

    chain_id: int
    incarnation: UUID
    first: int
    last: int


def stretches(db: sqlite3.Connection, journal: UUID) -> list[Stretch]:
    """What is kept of every incarnation of a journal, the oldest first; empty ones are left out."""
    found = []
    for id_, incarnation in db.execute(
        "SELECT id, incarnation FROM chain WHERE journal = ? ORDER BY id", (journal.bytes,)
    ):
        first, last = (
            db.execute(
                f"SELECT {end}(id) FROM record WHERE id > ? AND id < ?",
                (id_ << CHAIN_SHIFT, (id_ + 1) << CHAIN_SHIFT),
            ).fetchone()[0]
            for end in ("min", "max")
        )
        if first is not None:
            found.append(Stretch(id_, UUID(bytes=incarnation), first, last))
    return found


def hash_at(
    db: sqlite3.Connection, journal: UUID, incarnation: UUID, position: int
) -> bytes | None:
    """The hash of a foreign record that is kept, or of the anchor."""
    row = db.execute(
        "SELECT id, anchor_position, anchor_hash FROM chain WHERE journal = ? AND incarnation = ? "
        "AND is_own = 0",
        (journal.bytes, incarnation.bytes),
    ).fetchone()
    if row is None:
        return None
    if row[1] == position:
        return bytes(row[2])
    found = db.execute(
        "SELECT hash FROM record WHERE id = ?", (row[0] << CHAIN_SHIFT | position,)
    ).fetchone()
    return None if found is None else bytes(found[0])


def has(
    db: sqlite3.Connection, journal: UUID, incarnation: UUID, position: int, hash_: bytes
) -> bool:
    """Whether a foreign record with this hash has come: b"" stands for any, as its sender does not
    keep it any more, and one that is not kept here has come.
    """
    row = db.execute(
        "SELECT position, anchor_position FROM chain WHERE journal = ? AND incarnation = ? "
        "AND is_own = 0",
        (journal.bytes, incarnation.bytes),
    ).fetchone()
    if row is None or position > row[0]:
        return False
    is_any = not hash_ or position < row[1]
    return is_any or hash_at(db, journal, incarnation, position) == hash_


def quarantined(db: sqlite3.Connection, after: tuple[int, int], limit: int) -> list[Quarantined]:
    """Records that could not be applied, behind (chain id, position)."""
    rows = db.execute(
        "SELECT quarantine.chain_id, chain.journal, chain.incarnation, quarantine.position, kind, "
        "reason, noticed_us FROM quarantine JOIN chain ON chain.id = quarantine.chain_id "
        "WHERE (quarantine.chain_id, quarantine.position) > (?, ?) "
        "ORDER BY quarantine.chain_id, quarantine.position LIMIT ?",
        (*after, limit),
    )
    return [
        Quarantined(id_, UUID(bytes=journal), UUID(bytes=incarnation), *rest)
        for id_, journal, incarnation, *rest in rows
    ]


def record(db: sqlite3.Connection, chain_id: int, position: int) -> Record | None:
    """A foreign record; None when it is not kept.

    Raises:
        RemoteProtocolError: it is none, and stands in quarantine for that.
    """
    row = db.execute(
        "SELECT header, payload, personal, hash FROM record WHERE id = ?",
        (chain_id << CHAIN_SHIFT | position,),
    ).fetchone()
    return None if row is None else codec.decode(*row)


def later(db: sqlite3.Connection, chain_id: int, position: int) -> list[int]:
    """The positions behind a record of a job at which more is told of that job, in order.

    They are searched for in all that is kept behind it: not for the writer.
    """
    try:
        found = record(db, chain_id, position)
    except RemoteProtocolError:
        return []
    uuid = None if found is None or found.kind not in OF_JOBS else found.payload.get("uuid")
    if not isinstance(uuid, bytes):
        return []
    base = chain_id << CHAIN_SHIFT
    rows = db.execute(
        "SELECT id FROM record WHERE id > ? AND id < ? AND instr(payload, ?) ORDER BY id LIMIT ?",
        (base | position, (chain_id + 1) << CHAIN_SHIFT, uuid, LATER_MAX),
    )
    return [id_ - base for (id_,) in rows]


def records(db: sqlite3.Connection, chain_id: int, first: int, limit: int) -> list[Record]:
    """Records of an incarnation from a position on; foreign ones that are none are left out."""
    base = chain_id << CHAIN_SHIFT
    found = []
    for row in db.execute(
        "SELECT header, payload, personal, hash FROM record WHERE id >= ? AND id < ? "
        "ORDER BY id LIMIT ?",
        (base | first, base + (1 << CHAIN_SHIFT), limit),
    ):
        try:
            found.append(codec.decode(*row))
        except RemoteProtocolError:
            continue
    return found


def last_before(
    db: sqlite3.Connection, chain_id: int, before_us: int, limit: int, now_us: int
) -> int | None:
    """The last of the oldest records of a foreign chain that were made before a time.

    At most `limit` are looked at, and mostly one; None: the oldest one is younger, or the only one.
    One that a wrong clock has given a time that cannot be is as old as those behind it.
    """
    base = chain_id << CHAIN_SHIFT
    rows = db.execute(
        "SELECT id - ?, header FROM record WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
        (base, base, base + (1 << CHAIN_SHIFT), limit),
    )
    last: int | None = None
    undated: list[int] = []
    for (position, header), _ in pairwise(rows):
        at_us = _time_of(header, now_us)
        if at_us is None:
            undated.append(position)
        elif at_us >= before_us:
            return last
        else:
            last = position
    # So many without a time would keep those behind them for ever.
    return undated[-1] if len(undated) == limit - 1 else last


def _time_of(header: bytes, now_us: int) -> int | None:
    """When a record was made, by the clock here; None: nobody knows."""
    try:
        found = codec.decode(header, NOTHING, None, b"")
        return policy.told_at_us(found.event_us, found.clock_offset_us, now_us)
    except (RemoteProtocolError, TypeError):
        return None


def rounds(db: sqlite3.Connection, limit: int, before: int = 0) -> list[Round]:
    """The last rounds of sending, or those before one, the newest first."""
    rows = db.execute(
        "SELECT id, peer, cause, started_us, ended_us, first, last, records, result FROM round "
        "WHERE ? = 0 OR id < ? ORDER BY id DESC LIMIT ?",
        (before, before, limit),
    )
    return [Round(id_, UUID(bytes=peer), *rest) for id_, peer, *rest in rows]
