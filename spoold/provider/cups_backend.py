"""The CUPS backend: a job of a CUPS queue becomes a job of spoold, with fail-over.

In: what CUPS gives a backend (`cups_job`), and a file of credentials. Out: a job that a server has
durably, messages for CUPS on the standard error, and an exit code (`cups_messages`).

While a server is away or full the backend tries on, at growing intervals. It never ends with 1,
which stops a queue, or drops its jobs, for what waiting mends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

from spoold.model.errors import ConfigError, SpooldError
from spoold.provider.cups_job import Queue, Task
from spoold.provider.cups_messages import DONE, HOLD, RETRY_CURRENT, STOP, say

if TYPE_CHECKING:
    from spoold.provider.alone import Alone, Paper

DISCOVERY = 'network spoold "Unknown" "spoold print servers, with fail-over"\n'
PIECE_BYTES = 256 * 1024
MEMORY_BYTES_MAX = 4 << 20
NO_ROOM_PAUSE_S = 30.0


class Termination:
    """SIGTERM from CUPS: a job was canceled, or CUPS stops. `has_come` says so."""

    def __init__(self) -> None:
        self.has_come = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.has_come = True

    def sleep(self, seconds: float) -> None:
        """Until the time is over, or it comes."""
        ends_at = time.monotonic() + seconds
        while not self.has_come and time.monotonic() < ends_at:
            time.sleep(0.25)


def main(
    arguments: Sequence[str],
    credentials: str,
    state: str = "",
    paper: Callable[[], Paper] | None = None,
) -> int:
    """Do what CUPS asks; the exit code. `credentials` is a path, or empty for none.

    With a folder for its `state` and `paper` it can print without a server, where that is set.
    """
    if not arguments:
        sys.stdout.write(DISCOVERY)
        return DONE
    termination = Termination()
    try:
        return _run(arguments, credentials, os.environ, termination, state, paper)
    except SpooldError as error:
        say("ERROR", str(error))
        return STOP
    except Exception as error:  # ours: the queue goes on with other jobs
        import traceback

        for line in traceback.format_exc().splitlines():
            say("DEBUG", line)
        say("ERROR", f"spoold's backend has a bug: {type(error).__name__}: {error}.")
        return HOLD


def _run(
    arguments: Sequence[str],
    credentials: str,
    environ: Mapping[str, str],
    termination: Termination,
    state: str,
    paper: Callable[[], Paper] | None,
) -> int:
    """Raises:
    SpooldError: the queue or its credentials are wrong.
    """
    if "DEVICE_URI" not in environ:
        advice = "It is not for the command line: see `spoold submit`."
        raise ConfigError("run", "the CUPS backend", "CUPS did not start it", advice)
    queue = Queue.parse(environ["DEVICE_URI"])
    task = Task.parse(arguments, environ)
    # While filters are at work this takes no time of anybody's.
    from spoold.provider.cups_delivery import Delivery, credentials_of

    tls = credentials_of(queue, credentials)
    alone = _alone(state, paper)
    if task.files:
        return Delivery(queue, task, tls, termination, alone).run(task.files)
    try:
        document = _spooled(termination)
    except OSError as error:
        say("ERROR", f"no room for the document: {error.strerror or error}.")
        termination.sleep(NO_ROOM_PAUSE_S)  # CUPS tries again at once
        return RETRY_CURRENT
    if termination.has_come:
        return DONE
    if document is None:
        say("INFO", "There is nothing to print.")
        return DONE
    return Delivery(queue, task, tls, termination, alone).run([document])


def _alone(state: str, paper: Callable[[], Paper] | None) -> Alone | None:
    """Raises:
    ConfigError: the folder cannot be used.
    """
    if not state or paper is None:
        return None
    from spoold.provider.alone import Alone
    from spoold.provider.notebook import Notebook

    return Alone(Notebook(Path(state)), paper)


def _spooled(termination: Termination) -> bytes | BinaryIO | None:
    """The standard input; None when it is empty. A large one becomes a file without a name.

    It is read to its end also when CUPS ends the job: filters may wait for that.

    Raises:
        OSError: it could not be read, or not be kept.
    """
    pieces: list[bytes] = []
    size = 0
    file: BinaryIO | None = None
    while piece := os.read(0, PIECE_BYTES):
        size += len(piece)
        if termination.has_come:
            continue
        if file is not None:
            file.write(piece)
            continue
        pieces.append(piece)
        if size > MEMORY_BYTES_MAX:
            import tempfile

            file = tempfile.TemporaryFile()  # noqa: SIM115
            file.writelines(pieces)
            pieces.clear()
    if file is not None:
        file.flush()
        return file
    return b"".join(pieces) or None
