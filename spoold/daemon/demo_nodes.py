"""Daemons of a demo, each a process of its own: started, asked, stopped.

In: a folder, a name, a role. Out: `ports` and `ask`, over the control socket. A node keeps its
configuration, data and log in the folder; it ends when its `run` is cancelled, and when the process
that started it is gone. `python -m spoold.daemon.demo_nodes CONFIG` is what runs there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from spoold.daemon import logs
from spoold.daemon.process import run as serve
from spoold.model.errors import ConfigError, SpoolError
from spoold.provider.client import Provider
from spoold.provider.receipt import Unreachable

START_S = 30.0
LOOK_S = 0.05
CONFIG = """\
[node]
name = "{name}"
role = "{role}"
data_dir = "{name}"
[listen]
clear = ["127.0.0.1:0"]
tls = ["127.0.0.1:0"]
mutual = ["127.0.0.1:0"]
[upstream]
retry_max_s = 1.0
[dispatch]
backoff_first_s = 0.5
backoff_max_s = 2.0
[drain]
deadline_s = 1.0
[dnssd]
enabled = false
"""


class Node:
    """`ports` maps a label of [listen] to a port of this machine; `pid` is its process."""

    def __init__(self, folder: Path, name: str, role: str = "application") -> None:
        self.name = name
        self.config = folder / f"{name}.toml"
        self.config.write_text(CONFIG.format(name=name, role=role))
        self.control = folder / name / "control"
        self.log = folder / f"{name}.log"
        self.ports: dict[str, int] = {}
        self.pid = 0
        self._client: Provider | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when it listens.

        Raises:
            ConfigError: it did not start; the message has what it said last.
        """
        words = [sys.executable, "-m", __name__, str(self.config)]
        with self.log.open("wb") as log:
            async with trio.open_nursery() as nursery:
                start = partial(
                    trio.run_process,
                    words,
                    stdin=subprocess.PIPE,  # nothing goes in: its end is ours
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                    start_new_session=True,  # Ctrl-C is for the demo, which ends it in its turn
                )
                process: trio.Process = await nursery.start(start)
                self.pid = process.pid
                await self._wait_listening(process)
                endpoint = f"unix:{self.control}"
                async with Provider([endpoint], kind="cli", learns_endpoints=False) as client:
                    self._client = client
                    task_status.started()
                    await trio.sleep_forever()

    async def _wait_listening(self, process: trio.Process) -> None:
        with trio.move_on_after(START_S):
            while process.returncode is None:
                for line in self.log.read_text().splitlines():
                    event = json.loads(line) if line.startswith("{") else {}
                    if event.get("event") == "listening":
                        port = str(event["address"]).rpartition(":")[2]
                        self.ports[event["port"]] = int(port) if port.isdigit() else 0
                if "control" in self.ports:  # the last one
                    return
                await trio.sleep(LOOK_S)
        lines = (line for line in self.log.read_text().splitlines() if line[:1] not in ("", "{"))
        cause = next(lines, "it ended, and said nothing").removeprefix("spoold: ")
        raise ConfigError("start", f"the node {self.name}", cause, "Is $TMPDIR full?")

    async def ask(
        self, op: str, on_event: Callable[[str, dict[str, Any]], None] | None = None, **args: Any
    ) -> dict[str, Any]:
        """The answer to an operation on its control socket.

        Raises:
            OperationError: it was refused. SpoolError: it does not answer, as it has ended.
        """
        assert self._client is not None
        try:
            return await self._client.call(op, args, on_event)
        except Unreachable as error:
            where = f"the node {self.name}"
            raise SpoolError("ask", where, "it has ended", "Start the demo again.") from error

    async def ask_all(self, op: str, rows: str, **args: Any) -> list[dict[str, Any]]:
        """What an operation lists under `rows`, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.ask(op, **args)
            found += answer[rows]
            if answer["next_after_id"] is None:
                return found
            args["after_id"] = answer["next_after_id"]


def _end_with_parent() -> None:
    """Whoever started this process has the other end of its standard input."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.configure("info")
    sys.exit(serve(sys.argv[1]))
