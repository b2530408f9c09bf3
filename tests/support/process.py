"""The real daemon as a process: started, watched, killed, asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from spoold.provider.blocking import ControlClient
from support.forking import COMMAND, Forked


def config_with(*ports: str, name: str = "") -> str:
    """A node that listens in the clear and on these `ports`: `tls`, `mutual`, `lpd`.

    The table `[listen]` stands last: what follows may add to it.
    """
    listen = {"clear": True, "tls": False, "mutual": False, **dict.fromkeys(ports, True)}
    named = f'name = "{name}"\n' if name else ""
    return f'[node]\n{named}data_dir = "data"\n[listen]\n' + "".join(
        f'{port} = ["127.0.0.1:0"]\n' if is_on else f"{port} = []\n"
        for port, is_on in listen.items()
    )


RAW_PORT = """
[[listen.raw]]
address = "127.0.0.1:0"
printer = "default"
"""
CONFIG = (
    config_with(name="crash")
    + """
[dispatch]
backoff_first_s = 0.1
backoff_max_s = 0.5
[drain]
deadline_s = 5
"""
)
ON_DISK = CONFIG.replace('"data"', '"disk/data"')  # for a disk that has only the data on it


class Daemon:
    """A spoold process. `ports` maps a label of the log to its address.

    `prefix` is a command that runs another one in its own place, as a recorder does; without one
    the process is forked from one that has imported spoold (`support.forking`). `machine` is a
    process on another machine of `support.link`, where it runs then. `module` is what is forked.
    """

    def __init__(
        self,
        folder: Path,
        crash_point: str = "",
        config: str = CONFIG,
        prefix: Sequence[str] = (),
        log_level: str = "info",
        machine: int = 0,
        module: str = COMMAND,
    ) -> None:
        (folder / "spoold.toml").write_text(config)
        self.control = folder / tomllib.loads(config)["node"]["data_dir"] / "control"
        self.errors = (folder / "stderr").open("ab")
        words = ("serve", "--config", str(folder / "spoold.toml"), "--log-level", log_level)
        environ = {**os.environ, "SPOOLD_CRASH_POINT": crash_point}
        self.process: Forked | subprocess.Popen[bytes]
        if prefix:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "spoold", *words],
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=environ,
            )
        else:
            module, enter = ("support.entering", (machine,)) if machine else (module, ())
            self.process = Forked(
                *enter, *words, module=module, stderr=self.errors.fileno(), environ=environ
            )
        self.ports: dict[str, str] = {}
        self.log: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        is_there = self._listening.wait(60) and (self.port or crash_point)
        if not is_there:
            self.end(signal.SIGKILL)
        assert is_there, self._last_words(folder)

    @property
    def port(self) -> int:
        """The clear port; 0 when the daemon was killed before it listened."""
        return int(self.ports.get("clear", ":0").rpartition(":")[2])

    def call(self, op: str, **args):
        """An operation through the control socket."""
        with ControlClient(str(self.control)) as client:
            return client.call(op, args)

    def _last_words(self, folder: Path) -> str:
        return "\n".join(self.log[-20:]) + (folder / "stderr").read_text()[-2000:]

    def _read(self) -> None:
        for line in self.process.stdout:
            self.log.append(line.decode())
            event = json.loads(line) if line.startswith(b"{") else {}
            if event.get("event") == "listening":
                self.ports[event["port"]] = event["address"]
                if event["port"] == "control":
                    self._listening.set()
        self._listening.set()

    def end(self, signal_number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        code = self.process.wait(60)
        self._reader.join()
        self.process.stdout.close()
        self.errors.close()
        return code


@contextmanager
def running(
    folder: Path,
    crash_point: str = "",
    config: str = CONFIG,
    prefix: Sequence[str] = (),
    log_level: str = "info",
    module: str = COMMAND,
):
    """A daemon with its data in `folder`/data; killed at the end if it still runs."""
    daemon = Daemon(folder, crash_point, config, prefix, log_level, module=module)
    try:
        yield daemon
    finally:
        daemon.end(signal.SIGKILL)


@contextmanager
def injected(daemon: Daemon, calls: str, fault: str):
    """While this is open, these system calls of the daemon have a fault (strace(1), inject)."""

    def is_held() -> bool:
        tasks = Path(f"/proc/{daemon.process.pid}/task").iterdir()
        try:
            return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
        except OSError:  # a thread has ended meanwhile
            return False

    trace = subprocess.Popen(
        [
            "strace", "-f", "-qq", "-o", "/dev/null", "-p", str(daemon.process.pid),
            "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}",
        ],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        while not is_held():
            assert trace.poll() is None, trace.stderr.read()
            time.sleep(0.01)
        yield
    finally:
        trace.terminate()
        trace.wait()
        trace.stderr.close()


def send_raw(port: int, body: bytes) -> bool:
    """Whether the daemon acknowledged the job: its FIN, and nothing else, is a yes."""
    try:
        with socket.create_connection(("127.0.0.1", port), 30) as sender:
            sender.settimeout(30)
            sender.sendall(body)
            sender.shutdown(socket.SHUT_WR)
            return sender.recv(1) == b""
    except OSError:
        return False


def all_jobs(control: Path) -> list[dict]:
    with ControlClient(str(control)) as client:
        found, after = [], 0
        while True:
            page = client.call("job.list", {"limit": 500, "after_id": after})
            found += page["jobs"]
            if page["next_after_id"] is None:
                return found
            after = page["next_after_id"]
