"""The first of some servers to answer, for programs without async: each is tried in its own thread.

In: ways to open a line, in order of preference. Out: the first line, and why others came to none.
Who is slow has the next one tried beside it; when one has answered, the others are closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from spoold.net.blocking import CHECK_S, Check
from spoold.provider.course import HEAD_START_S, Lost
from spoold.provider.line import Line

Opener = Callable[[Check], Line]  # raises Lost


class _Abandoned(BaseException):
    """Nobody wants this line any more; nothing on the way takes it for its own."""


class _Attempt:
    """A line that is opened in a thread. `line` or `error` is there when it is put into `over`."""

    def __init__(self, number: int, opener: Opener, over: SimpleQueue[_Attempt]) -> None:
        self.number = number
        self.line: Line | None = None
        self.error: Exception | None = None
        self._is_wanted = True
        self._lock = threading.Lock()
        self._check: Check = self._check_wanted
        threading.Thread(target=self._run, args=(opener, over), daemon=True).start()

    def _run(self, opener: Opener, over: SimpleQueue[_Attempt]) -> None:
        try:
            line = opener(lambda: self._check())
        except _Abandoned:
            return
        except Exception as error:
            self.error = error
        else:
            with self._lock:
                if not self._is_wanted:
                    line.close()
                    return
                self.line = line
        over.put(self)

    def _check_wanted(self) -> None:
        if not self._is_wanted:
            raise _Abandoned

    def adopt(self, check: Check) -> Line:
        """The line, for the thread that calls; `check` is its own."""
        assert self.line is not None
        self._check = check
        return self.line

    def abandon(self) -> None:
        with self._lock:
            self._is_wanted = False
            if self.line is not None:
                self.line.close()


def first_line(
    openers: Sequence[Opener], failed: Callable[[int, Lost], None], check: Check
) -> tuple[int, Line] | None:
    """The number of the first opener that has a line, and the line; `failed` hears of the others.

    Each is begun `HEAD_START_S` after the one before it, or when all before it have failed. What
    `check` raises ends it all.
    """
    over: SimpleQueue[_Attempt] = SimpleQueue()
    running: dict[int, _Attempt] = {}
    winner: _Attempt | None = None
    begun, next_at = 0, 0.0
    try:
        while winner is None and (running or begun < len(openers)):
            now = time.monotonic()
            if begun < len(openers) and (not running or now >= next_at):
                running[begun] = _Attempt(begun, openers[begun], over)
                begun, next_at = begun + 1, now + HEAD_START_S
            check()
            try:
                one = over.get(timeout=min(CHECK_S, max(0.0, next_at - now) or CHECK_S))
            except Empty:
                continue
            del running[one.number]
            if one.error is None:
                winner = one
            elif isinstance(one.error, Lost):
                failed(one.number, one.error)
            else:
                raise one.error
    finally:
        for attempt in running.values():
            attempt.abandon()
    return None if winner is None else (winner.number, winner.adopt(check))
