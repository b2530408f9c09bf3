"""One piece of disk work beside the loop, and what its failure means."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import outcome
import trio

from spoold.model.errors import SpoolError, SpoolFull, StoreFailed

# What a machine runs out of for a moment: no sync has failed.
SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Flight:
    """One write running in a thread of Trio's cache, awaited later."""

    __slots__ = ("_result", "_task", "_token")

    def __init__(self, function: Callable[[memoryview], None], data: memoryview) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._result: outcome.Outcome[None] | None = None
        self._task: trio.lowlevel.Task | None = None
        trio.lowlevel.start_thread_soon(lambda: function(data), self._deliver, "spoold-document")

    def _deliver(self, result: outcome.Outcome[None]) -> None:
        try:
            self._token.run_sync_soon(self._done, result)
        except trio.RunFinishedError:
            pass  # nobody is left to hear it

    def _done(self, result: outcome.Outcome[None]) -> None:
        self._result = result
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Return when the write has ended; the thread cannot be cancelled, so neither can this."""
        if self._result is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if isinstance(
            self._result, outcome.Error
        ):  # looked at, not unwrapped: asked twice at times
            error = self._result.error
            raise disk_error(error, "write") if isinstance(error, OSError) else error


def read_at(fd: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        raise disk_error(error, "read") from error


def disk_error(error: OSError, what: str) -> SpoolError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpoolFull(what, "a document", error, "Free space in the data directory.")
    if what == "sync" and error.errno not in SHORTAGE:
        advice = "Check the disk; spoold stops and recovers at its next start."
        return StoreFailed(what, "a document", error, advice)
    return SpoolError(what, "a document", error, "Check the disk that holds the data directory.")
