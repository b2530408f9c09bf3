"""The journal's bytes and its hash chain.

`hash = SHA-256(previous hash + header + SHA-256(payload))`, over the bytes as stored: they are
never encoded again. The personal part is covered by SHA-256(salt + body) in the header; erasing
it leaves the digest behind.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

import msgpack

from spoold.model.errors import RemoteProtocolError
from spoold.model.record import RECORD_BYTES_MAX, Record

SALT_BYTES = 16
GENESIS = bytes(32)
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Encoded(NamedTuple):
    """A record as stored. `personal` is salt and body together, or None."""

    header: bytes
    payload: bytes
    personal: bytes | None
    hash: bytes


def encode(
    previous: bytes,
    position: int,
    kind: str,
    version: int,
    actor: str,
    event_us: int,
    clock_offset_us: int | None,
    payload: dict[str, Any],
    personal: dict[str, Any] | None,
    salt: bytes,
) -> Encoded:
    """Encode one record after the hash `previous`; `salt` is 16 random bytes.

    Raises:
        ValueError: the record is larger than 32 KiB. Its maker must bound what it puts in.
    """
    body = None if personal is None else salt + _pack(personal)
    covered = b"" if body is None else sha256(body).digest()
    header = _pack([position, kind, version, actor, event_us, clock_offset_us, covered])
    packed = _pack(payload)
    if len(header) + len(packed) + len(body or b"") > RECORD_BYTES_MAX:
        raise ValueError(f"a {kind} record is larger than {RECORD_BYTES_MAX} bytes")
    return Encoded(header, packed, body, link(previous, header, packed))


def link(previous: bytes, header: bytes, payload: bytes) -> bytes:
    """The hash of a record that follows `previous`."""
    return sha256(previous + header + sha256(payload).digest()).digest()


def decode(header: bytes, payload: bytes, personal: bytes | None, hash_: bytes) -> Record:
    """The record behind its stored bytes.

    Raises:
        RemoteProtocolError: the bytes are no record, or the personal part is not the one covered.
    """
    try:
        position, kind, version, actor, event_us, offset_us, covered = msgpack.unpackb(header)
        fields = msgpack.unpackb(payload)
        named = None
        if personal is not None:
            if sha256(personal).digest() != covered:
                raise RemoteProtocolError(f"record {position}: the personal part was changed")
            named = msgpack.unpackb(personal[SALT_BYTES:])
    except RemoteProtocolError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"not a record: {error}") from error
    if not (isinstance(fields, dict) and isinstance(position, int) and isinstance(kind, str)):
        raise RemoteProtocolError("not a record: wrong shape")
    return Record(position, kind, actor, event_us, fields, named, version, offset_us, hash_)
