"""Who has failed too often, and how long the next try has to wait. Pure: it takes the time.

A number of failures is free; each further one doubles the wait, up to a bound. A key that has not
failed for a while is forgotten, and so is the oldest of too many: no flood of keys takes memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil


@dataclass(slots=True)
class _Failures:
    count: float = 0.0
    last_s: float = 0.0


class Throttle:
    """Times are those of one clock, in seconds."""

    def __init__(
        self,
        free: int,
        *,
        first_s: float = 1.0,
        longest_s: float = 60.0,
        forget_s: float = 900.0,
        keys_max: int = 10_000,
    ) -> None:
        self._free = free
        self._first_s = first_s
        self._longest_s = longest_s
        self._forget_s = forget_s
        self._keys_max = keys_max
        self._failures: OrderedDict[Hashable, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def wait_s(self, key: Hashable, now_s: float) -> float:
        """How long this key has still to wait before its next try; 0 when it may try now."""
        found = self._failures.get(key)
        if found is None or found.count <= self._free or self._is_old(found, now_s):
            return 0.0
        doubled: float = self._first_s * 2.0 ** min(found.count - self._free - 1, 32)
        return max(0.0, found.last_s + min(doubled, self._longest_s) - now_s)

    def note(self, key: Hashable, now_s: float) -> None:
        """This key has failed, or tries: a try is a failure until it is `forgive`n."""
        found = self._failures.get(key)
        if found is None or self._is_old(found, now_s):
            found = self._failures[key] = _Failures()
        found.count += 1
        found.last_s = now_s
        self._failures.move_to_end(key)
        if len(self._failures) > self._keys_max:
            self._failures.popitem(last=False)

    def forgive(self, key: Hashable, share: float = 1.0) -> None:
        """One try of this key was no failure, or a share of one counts no more."""
        found = self._failures.get(key)
        if found is not None:
            found.count -= share
            if found.count <= 0:
                del self._failures[key]

    def count(self, key: Hashable) -> int:
        """How many failures of this key count, a share of one as a whole."""
        found = self._failures.get(key)
        return 0 if found is None else ceil(found.count)

    def restore(self, key: Hashable, count: int, last_s: float) -> None:
        """This key had failed so often before this process began; keys come oldest first."""
        self._failures[key] = _Failures(count, last_s)
        self._failures.move_to_end(key)
        if len(self._failures) > self._keys_max:
            self._failures.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """This key has never failed."""
        self._failures.pop(key, None)

    def _is_old(self, found: _Failures, now_s: float) -> bool:
        return now_s - found.last_s > self._forget_s
