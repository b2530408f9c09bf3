"""Named places at which a crash campaign kills the process; free when no campaign runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_WANTED = os.environ.get("SPOOLD_CRASH_POINT", "")
_name, _, _count = _WANTED.partition(":")
_left = int(_count or 1)
hearer: Callable[[str], None] | None = None  # of a simulation, whose nodes are no processes


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL when `$SPOOLD_CRASH_POINT` is `NAME` or `NAME:NTH`."""
    global _left
    if hearer is not None:
        hearer(name)
    if _name == name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
