"""The rules that depend on wall time, in one place.

Wall time can jump. What is about to be thrown away or allowed by it asks here, with times in
microseconds since the epoch, and a clock that went back never makes anything older than it is.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

SECOND_US = 1_000_000


def older_than_us(now_us: int, age_s: float) -> int:
    """The time before which something is older than `age_s` seconds at `now_us`."""
    return now_us - int(age_s * SECOND_US)


def is_expired(now_us: int, since_us: int, keep_s: float) -> bool:
    """Whether what began at `since_us` has been kept for `keep_s` seconds."""
    return now_us >= since_us and since_us < older_than_us(now_us, keep_s)


TOLD_AGE_S = 10 * 366 * 86_400.0  # no record that comes from another node is older than that


def told_at_us(told_us: int, offset_us: int | None, now_us: int) -> int | None:
    """When something happened that another node tells at `now_us`, by the clock here; None: its
    clock was so wrong that nobody knows.

    `offset_us` is by how much the clock here was ahead of its own, where it had measured that.
    Nothing is to come: where their clocks are some seconds apart, it is now.
    """
    earliest_us = now_us - int(TOLD_AGE_S * SECOND_US)
    latest_us = now_us + int(JUMP_S * SECOND_US)
    is_off = offset_us is not None and abs(offset_us) > JUMP_S * SECOND_US
    for at_us in (told_us + offset_us, told_us) if is_off and offset_us else (told_us,):
        if earliest_us <= at_us <= latest_us:
            return min(at_us, now_us)
    return None


JUMP_S = 60.0  # more than a clock is set right by while everything is well
STOPPED_S = 7 * 86_400.0  # what may have passed while spoold did not run, and nobody counted
CONFIRMED_AFTER_S = 6 * 3600.0


class _WentBack(NamedTuple):
    """When a clock went back, what it would have shown then, and how much more it might have."""

    at_s: float
    expected_us: int
    allowed_s: float

    def behind_s(self, wall_us: int, monotonic_s: float) -> float:
        """How far the clock is still behind what it would show."""
        return (self.expected_us - wall_us) / SECOND_US + monotonic_s - self.at_s


class ExpiryClock:
    """The time by which things expire: the wall clock's, but not what it has jumped ahead by.

    A clock that jumps ahead would make everything too old at once. What it shows then counts when
    it has stayed there for `CONFIRMED_AFTER_S` of monotonic time; meanwhile time goes on from where
    it was. A clock that goes back is believed at once: nothing becomes older by that. For so long
    it is also known by how much it went back, and it may go forward again to where it would be.
    """

    def __init__(self, believed_us: int | None) -> None:
        """`believed_us` is what was believed when spoold last ran, or None."""
        self.believed_us = believed_us
        self.ahead_s = 0.0  # by which the wall clock is not believed
        self.set_back_s = 0.0  # by which it went back lately
        self._looked_at_s: float | None = None
        self._doubted_at_s: float | None = None
        self._went_back: _WentBack | None = None

    @property
    def is_doubtful(self) -> bool:
        return self._doubted_at_s is not None

    def look(self, wall_us: int, monotonic_s: float) -> int:
        """The time by which things expire now, in µs since the epoch."""
        before_s, self._looked_at_s = self._looked_at_s, monotonic_s
        if self.believed_us is None:
            self.believed_us = wall_us
        elapsed_s, allowed_s = 0.0, STOPPED_S
        if before_s is not None:
            elapsed_s, allowed_s = monotonic_s - before_s, JUMP_S
        expected_us = self.believed_us + int(elapsed_s * SECOND_US)
        ahead_s = (wall_us - expected_us) / SECOND_US
        if ahead_s < -JUMP_S and self._went_back is None:
            self._went_back = _WentBack(monotonic_s, expected_us, allowed_s)
        if ahead_s <= allowed_s or self._is_set_right(wall_us, monotonic_s):
            self._doubted_at_s = None
        elif self._doubted_at_s is None or abs(ahead_s - self.ahead_s) > JUMP_S:
            self._doubted_at_s = monotonic_s
        elif monotonic_s - self._doubted_at_s >= CONFIRMED_AFTER_S:
            self._doubted_at_s = None
        self.ahead_s = ahead_s if self.is_doubtful else 0.0
        self.believed_us = expected_us if self.is_doubtful else wall_us
        self._look_back(monotonic_s)
        return self.believed_us

    def _is_set_right(self, wall_us: int, monotonic_s: float) -> bool:
        back = self._went_back
        return back is not None and back.behind_s(wall_us, monotonic_s) >= -back.allowed_s

    def _look_back(self, monotonic_s: float) -> None:
        """Whether it is still to be told that the clock went back."""
        back, self.set_back_s = self._went_back, 0.0
        if back is None or self.believed_us is None:
            return
        behind_s = back.behind_s(self.believed_us, monotonic_s)
        if behind_s > JUMP_S and monotonic_s - back.at_s < CONFIRMED_AFTER_S:
            self.set_back_s = behind_s
        else:
            self._went_back = None


class Hold(NamedTuple):
    """How long a job is held: its job-hold-until, and when that ends; None: never by itself."""

    until: str
    release_us: int | None


NO_HOLD = "no-hold"
INDEFINITE = "indefinite"
HOLD_TIME = "time"  # ours: until a moment that was given (job-hold-until-time, PWG 5100.7)
# From which to which hour jobs may print, in local time; RFC 8011 5.2.2 leaves them to the site,
# these are CUPS's.
_HOURS = {
    "day-time": (6, 18),
    "evening": (18, 6),
    "night": (18, 6),
    "second-shift": (16, 24),
    "third-shift": (0, 8),
}
_WEEKEND = "weekend"
_SATURDAY = 5
HOLD_KEYWORDS = (NO_HOLD, INDEFINITE, *_HOURS, _WEEKEND)


def hold_of(until: str, at_us: int | None, now_us: int, zone: tzinfo | None = None) -> Hold | None:
    """How a job is held that asks for job-hold-until `until`, or for the moment `at_us`.

    None when it is not, or no longer. `zone` is where the site is; None: where this machine is.

    Raises:
        ValueError: there is no such keyword.
    """
    if at_us is not None:
        return Hold(HOLD_TIME, at_us) if at_us > now_us else None
    if until in ("", NO_HOLD):
        return None
    if until == INDEFINITE:
        return Hold(INDEFINITE, None)
    now = datetime.fromtimestamp(now_us / SECOND_US, zone)
    if until == _WEEKEND:
        days = _SATURDAY - now.weekday()
        return None if days <= 0 else Hold(until, _hour_us(now, 0, days))
    if until not in _HOURS:
        raise ValueError(f"{until[:60]!r} is no job-hold-until")
    begin, end = _HOURS[until]
    is_now = begin <= now.hour < end if begin < end else not end <= now.hour < begin
    return None if is_now else Hold(until, _hour_us(now, begin, now.hour >= begin))


def _hour_us(now: datetime, hour: int, days: int) -> int:
    """An hour of the day that is so many days from now, on the clock on the wall there."""
    then = now.replace(hour=hour, minute=0, second=0, microsecond=0, fold=0) + timedelta(days=days)
    return int(then.timestamp()) * SECOND_US
