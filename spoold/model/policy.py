"""The rules that depend on wall time, in one place.

Wall time can jump. What is about to be thrown away or allowed by it asks here, with times in
microseconds since the epoch, and a clock that went back never makes anything older than it is.
"""

from __future__ import annotations

SECOND_US = 1_000_000


def older_than_us(now_us: int, age_s: float) -> int:
    """The time before which something is older than `age_s` seconds at `now_us`."""
    return now_us - int(age_s * SECOND_US)


def is_expired(now_us: int, since_us: int, keep_s: float) -> bool:
    """Whether what began at `since_us` has been kept for `keep_s` seconds."""
    return now_us >= since_us and since_us < older_than_us(now_us, keep_s)
