"""How many in a second, lately: counts by the second, of the last few seconds."""

from __future__ import annotations

from collections import deque

SECONDS = 10


class Rate:
    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque(maxlen=SECONDS + 1)

    def add(self, now_s: float, count: int) -> None:
        second = int(now_s)
        if self._counts and self._counts[-1][0] == second:
            count += self._counts.pop()[1]
        self._counts.append((second, count))

    def per_second(self, now_s: float) -> float:
        """Over the last seconds, or since the first count if that is less."""
        since = now_s - SECONDS
        counts = [(second, count) for second, count in self._counts if second >= since]
        if not counts:
            return 0.0
        return sum(count for _, count in counts) / max(1.0, now_s - counts[0][0])
