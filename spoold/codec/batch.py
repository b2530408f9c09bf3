"""Records of a journal on their way to another node: batches that follow one another.

A batch fits into one message. It says where it begins (`first`, and `previous`, the hash before),
holds records as they are stored, `[header, payload, personal or nil, hash]`, and ends with their
`count` and the last `hash`. Nothing is encoded again on the way: what is sent twice is the same.

Promised: whatever is read, `read` raises nothing but `RemoteProtocolError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from spoold.codec import record as codec
from spoold.codec.record import Encoded
from spoold.model.errors import RemoteProtocolError
from spoold.model.record import RECORD_BYTES_MAX, Record

BATCH_RECORDS_MAX = 500
BATCH_BYTES_MAX = 60 * 1024  # a message of frames has 64 KiB, with what is around the records
HASH_BYTES = 32
POSITION_MAX = (1 << 40) - 1
ROW_TYPES = frozenset({(bytes, bytes, bytes, bytes), (bytes, bytes, type(None), bytes)})
OVERHEAD_BYTES = 64  # of a record in a batch: the heads of its fields, and its hash


def fitting(records: Iterable[Encoded]) -> list[Encoded]:
    """The first of these records that fit into a batch together: one at least."""
    found: list[Encoded] = []
    size = 0
    for one in records:
        size += OVERHEAD_BYTES + len(one.header) + len(one.payload) + len(one.personal or b"")
        if found and (size > BATCH_BYTES_MAX or len(found) >= BATCH_RECORDS_MAX):
            break
        found.append(one)
    return found


def write(first: int, previous: bytes, records: Sequence[Encoded]) -> dict[str, Any]:
    """A batch as arguments of `site.records`; it has a record at least."""
    return {
        "first": first,
        "previous": previous,
        "records": [list(one) for one in records],
        "count": len(records),
        "hash": records[-1].hash,
    }


def read(args: Mapping[str, Any]) -> Iterator[Encoded]:
    """The records of a batch, each seen to follow the one before as it is asked for.

    Raises:
        RemoteProtocolError: at once, it is no batch; later, one of its records is none, or does
            not follow.
    """
    first, previous, rows = (args.get(name) for name in ("first", "previous", "records"))
    if type(first) is not int or not 1 <= first <= POSITION_MAX:
        raise _broken("a batch begins at a position")
    if not isinstance(previous, bytes) or len(previous) != HASH_BYTES:
        raise _broken("the hash before a batch has 32 bytes")
    if not isinstance(rows, list) or not 1 <= len(rows) <= BATCH_RECORDS_MAX:
        raise _broken(f"a batch has 1 to {BATCH_RECORDS_MAX} records")
    if first + len(rows) - 1 > POSITION_MAX:
        raise _broken(f"a journal ends at {POSITION_MAX} at the latest")
    if args.get("count") != len(rows) or args.get("hash") != _row(rows[-1]).hash:
        raise _broken("the end of the batch is not that of its records")
    return _linked(first, previous, rows)


def _linked(first: int, previous: bytes, rows: list[object]) -> Iterator[Encoded]:
    for position, row in enumerate(rows, first):
        one = _row(row)
        header, payload, _, hash_ = one
        if codec.link(previous, header, payload) != hash_:
            raise _broken(f"record {position} does not follow the one before")
        previous = hash_
        yield one


def understand(position: int, one: Encoded) -> Record:
    """What a record says that stands at a position of its chain.

    Raises:
        RemoteProtocolError: it says nothing. It is kept all the same: it must not block.
    """
    fact = codec.decode(*one)
    if fact.position != position:
        raise RemoteProtocolError("it says that it stands elsewhere")
    return fact


def _row(row: object) -> Encoded:
    if type(row) is not list or len(row) != 4:
        raise _broken("a record has four fields")
    if tuple(map(type, row)) not in ROW_TYPES:
        raise _broken("the fields of a record are bytes")
    one = Encoded(*row)
    if len(one.header) + len(one.payload) + len(one.personal or b"") > RECORD_BYTES_MAX:
        raise _broken(f"a record of more than {RECORD_BYTES_MAX} bytes")
    return one


def _broken(message: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, "bad-request")
