"""Limits that stand in nobody's way; a test names those that it is about."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """Of admission, and of how slowly something may come."""

    document_bytes_max: int = 64 * GIB
    job_bytes_max: int = 64 * GIB
    spool_share: float = 1.0
    reserve_bytes: int = 0
    idle_deadline_s: float = 5.0
    minimum_rate_bytes_s: int = 0
    minimum_rate_grace_s: float = 30.0
