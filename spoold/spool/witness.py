"""The witness: how far this spool had come, kept outside the set that backups restore.

It is written after each commit without a sync of its own (a kill leaves it true) and synced now
and then (a power loss leaves it behind, never ahead). A spool behind its witness was rolled back.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_SHAPE = struct.Struct(">8s16sQQ")
_MAGIC = b"spoold-w"
# Job ids that a lost part of the spool may have given out: far more than any backup's age in jobs.
JOB_IDS_SKIPPED = 1_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    incarnation: UUID
    position: int
    last_job_id: int


def read(path: Path) -> Seen | None:
    """What the witness has seen; None when there is none, or it is torn."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) != _SHAPE.size + 4:
        return None
    body, sum_ = data[: _SHAPE.size], data[_SHAPE.size :]
    magic, incarnation, position, last_job_id = _SHAPE.unpack(body)
    if magic != _MAGIC or zlib.crc32(body).to_bytes(4, "big") != sum_:
        return None
    return Seen(UUID(bytes=incarnation), position, last_job_id)


class Witness:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, incarnation: UUID, position: int, last_job_id: int) -> None:
        """Write one small sector; whoever reads it after a kill sees this or the one before."""
        body = _SHAPE.pack(_MAGIC, incarnation.bytes, position, last_job_id)
        os.pwrite(self._fd, body + zlib.crc32(body).to_bytes(4, "big"), 0)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
