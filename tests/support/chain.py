"""Whether the hashes of a node's own journal hold: every record belongs to the one before it."""

from __future__ import annotations

from spoold.codec import record as codec
from spoold.spool import sending
from spoold.spool.reader import SqliteReader

_ANCHOR = f"SELECT id, anchor_position, anchor_hash FROM chain WHERE id = ({sending.OWN_CHAIN})"


async def verified(reader: SqliteReader, records_max: int = 10_000) -> int:
    """Check the hashes from the anchor on; the position up to which they hold."""
    ((chain, position, previous),) = await reader.look(lambda db: db.execute(_ANCHOR).fetchall())
    while True:
        rows = await reader.look(sending.stored, chain, position + 1, records_max)
        for at, header, payload, personal, hash_ in rows:
            if at != position + 1 or codec.link(previous, header, payload) != hash_:
                return int(position)
            codec.decode(header, payload, personal, hash_)
            position, previous = position + 1, hash_
        if len(rows) < records_max:
            return int(position)
