"""The stage of `spoold demo`: what every show needs to speak, to run commands, and to leave.

A show narrates by `Stage.say` and runs commands of spoold for real by `Stage.command`. It ends on
Ctrl-C, SIGTERM or when the terminal goes away, and leaves nothing behind.
"""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import trio

from spoold.daemon import logs, process
from spoold.model.text import plain

RunCommand = Callable[[list[str]], str]  # a command line of spoold; what it wrote
LOOK_S = 0.05
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until(check: Callable[[], Awaitable[object]]) -> None:
    """Return when `check` is content; it is asked over and over."""
    while not await check():  # noqa: ASYNC110
        await trio.sleep(LOOK_S)


class Show(Protocol):
    async def run(self) -> bool:
        """Everything is shown; whether it went as it should. A show may stay for ever."""
        ...

    async def stop(self) -> None:
        """End in order what would not end well when it is cancelled."""
        ...


class Stage:
    """`folder` is there for as long as the show is; `say` gets each line of the narration."""

    def __init__(self, folder: Path, say: Callable[[str], None], run_command: RunCommand) -> None:
        self.folder = folder
        self.say = say
        self._run_command = run_command

    async def command(self, *words: str, control: Path | None = None, prompt: str = "$") -> str:
        """Run a command of spoold for real and show it with its answer; what it wrote.

        Without `control` the environment says which daemon is asked.
        """
        self.say(f"{prompt} spoold {shlex.join(words)}")
        where = [] if control is None else ["--control", str(control)]
        # Stopped meanwhile, a command would look for the server a while longer: it is left to that.
        answer = await trio.to_thread.run_sync(
            self._run_command, [*words, *where], abandon_on_cancel=True
        )
        for line in answer.splitlines():
            self.say(f"   {plain(line)}")
        self.say("")
        return answer


def run(make: Callable[[Stage], Show], run_command: RunCommand) -> int:
    """Show it until it ends or a signal comes; the exit code.

    Raises:
        SpooldError: something that it needs does not start, or failed.
    """
    logs.configure("error")
    try:
        with tempfile.TemporaryDirectory(prefix="spoold-demo-") as folder:
            return trio.run(_until_signal, Path(folder), make, run_command)
    except BaseExceptionGroup as group:
        cause = process.cause_of(group)
        if cause is None:
            raise
        raise cause from None


async def _until_signal(
    folder: Path, make: Callable[[Stage], Show], run_command: RunCommand
) -> int:
    # Commands have their output caught, which happens to the whole process: ours goes by itself.
    out = sys.stdout
    is_read = True
    is_right = True

    def say(line: str) -> None:
        nonlocal is_read
        try:
            print(line, file=out, flush=True)
        except OSError:
            if is_read:
                signal.raise_signal(signal.SIGTERM)  # nobody reads it any more: stop in order
            is_read = False

    show = make(Stage(folder, say, run_command))
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def play() -> None:
                nonlocal is_right
                is_right = await show.run()
                nursery.cancel_scope.cancel()

            nursery.start_soon(play)
            async for _ in signals:
                break
            say("")
            say("Stopping; nothing is left behind.")
            await show.stop()
            nursery.cancel_scope.cancel()
    return 0 if is_right else 1
