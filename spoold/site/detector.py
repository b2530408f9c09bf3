"""Whether the line counts as up: gone at once, back only after a while (pure).

In: when the line was connected, gave a sign of life, and was lost, in one monotonic time. Out: a
`LineState`. A line that flaps has to hold for longer each time before it counts again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from spoold.model.node import LineState

BACK_SIGNS = 3  # of life since it was connected again,
BACK_S = 2.0  # over so long: then it is back
BACK_MAX_S = 30.0
FLAPS_MAX = 3  # losses within the window; each further one doubles the time
FLAP_WINDOW_S = 60.0


@dataclass(slots=True)
class Detector:
    """`state` is what holds since the last call."""

    state: LineState = LineState.JOINING
    back_s: float = BACK_S
    _connected_at: float | None = None
    _signs: int = 0
    _losses: deque[float] = field(default_factory=deque)

    def connected(self, now: float) -> None:
        """The other side has answered hello. The first time that is enough."""
        self._connected_at = now
        self._signs = 0
        if self.state is LineState.JOINING:
            self.state = LineState.UP

    def heard(self, now: float) -> None:
        """A sign of life came."""
        if self._connected_at is None:
            return
        self._signs += 1
        self.look(now)

    def look(self, now: float) -> None:
        """Time has passed."""
        due = self.back_at(now)
        if due is not None and now >= due and self._signs >= BACK_SIGNS:
            self.state = LineState.UP

    def lost(self, now: float) -> None:
        """The line broke, was silent for too long, or could not be made."""
        if self.state is LineState.UP:
            self._losses.append(now)
        self._connected_at = None
        self.state = LineState.GONE

    def back_at(self, now: float) -> float | None:
        """From when on it may count as up again, if the signs of life go on; None: it does not
        wait for that.
        """
        if self.state is not LineState.GONE or self._connected_at is None:
            return None
        return self._connected_at + self.hold_s(now)

    def hold_s(self, now: float) -> float:
        """For how long a new connection has to hold."""
        while self._losses and self._losses[0] <= now - FLAP_WINDOW_S:
            self._losses.popleft()
        extra = max(0, len(self._losses) - FLAPS_MAX + 1)
        return min(BACK_MAX_S, self.back_s * float(2 ** min(extra, 10)))
