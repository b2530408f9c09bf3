"""What is measured, as processes: CUPS and spoold with their own directories and ports, and the
helpers of this folder. Their processor time and memory come from /proc, children included.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import ipp
from benchmarks.control import Control

START_DEADLINE_S = 60
TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


_ports = itertools.count(20_000 + os.getpid() % 5_000)


def free_port() -> int:
    """A port that nobody has, never the same one again.

    It lies below the ports that the kernel gives to connections: a server that starts again after
    a load finds it free.
    """
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def wait_until(
    what: str, is_true: Callable[[], bool], deadline_s: float = START_DEADLINE_S
) -> None:
    """Returns when `is_true` says so. Raises: TimeoutError after the deadline."""
    ends_at = time.monotonic() + deadline_s
    while not is_true():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"{what} took over {deadline_s:g} s")
        time.sleep(0.005)


def _tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_s(pid: int) -> float:
    """User and system time of the process, its children, and those that it has reaped."""
    ticks = 0
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_S


def rss_mib(pid: int) -> float:
    """Resident memory of the process and its children."""
    pages = 0
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * PAGE_BYTES / (1 << 20)


class Peer:
    """A server with a process and a directory of its own."""

    process: subprocess.Popen[bytes]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o711)

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def rss_mib(self) -> float:
        return rss_mib(self.pid)

    def log_end(self) -> str:
        found = [path for path in self.directory.glob("*log") if path.is_file()]
        return "".join(path.read_text(errors="replace")[-2000:] for path in found)

    def _wait_listening(self, port: int, deadline_s: float = START_DEADLINE_S) -> None:
        def is_listening() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"{self.process.args!r} ended with {self.process.returncode}:\n{self.log_end()}"
                )
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
            return True

        wait_until("the start of a server", is_listening, deadline_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """The process is gone and so is its directory."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


CUPSD_CONF = """\
LogLevel warn
Listen 127.0.0.1:{port}
Browsing No
WebInterface No
DefaultAuthType None
MaxJobs 0
MaxClients 500
{extra}
<Location />
  Order allow,deny
  Allow all
</Location>
<Policy default>
  <Limit All>
    Order allow,deny
    Allow all
  </Limit>
</Policy>
"""

CUPS_FILES_CONF = """\
ServerRoot {root}
RequestRoot {root}/spool
CacheDir {root}/cache
StateDir {root}/run
TempDir {root}/tmp
DocumentRoot {root}/www
AccessLog {root}/access_log
ErrorLog {root}/error_log
PageLog {root}/page_log
"""


class Cups(Peer):
    """CUPS as Debian sets it up, but for ports, directories, limits and permissions."""

    def __init__(self, directory: Path, *, extra: str = "") -> None:
        super().__init__(directory)
        self.port = free_port()
        for name in ("spool", "cache", "run", "tmp", "www"):
            (directory / name).mkdir(mode=0o755)
        config, files = directory / "cupsd.conf", directory / "cups-files.conf"
        config.write_text(CUPSD_CONF.format(port=self.port, extra=extra))
        files.write_text(CUPS_FILES_CONF.format(root=directory))
        with (directory / "stderr_log").open("wb") as log:
            self.process = subprocess.Popen(
                ["cupsd", "-f", "-c", config, "-s", files],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_listening(self.port)

    def add_printer(self, name: str, port: int, *, paused: bool) -> None:
        request = ipp.add_raw_queue(name, f"socket://127.0.0.1:{port}", paused=paused)
        ipp.call(self.port, "/admin/", request)

    def resume(self, name: str) -> None:
        ipp.call(self.port, f"/printers/{name}", ipp.resume_printer(name))


SPOOLD_TOML = """\
[node]
name = "{name}"
role = "{role}"
data_dir = "data"
[listen]
clear = ["127.0.0.1:{clear}"]
tls = ["127.0.0.1:{tls}"]
mutual = ["127.0.0.1:{mutual}"]
raw_printer = "q0"
{raw}
[limits]
exempt = ["127.0.0.1"]
{limits}
"""


class Spoold(Peer):
    """spoold as it comes, but for ports and for the limit of connections of one address."""

    def __init__(
        self,
        directory: Path,
        *,
        printers: int = 1,
        paused: bool = True,
        limits: str = "",
        name: str = "benchmark",
        role: str = "application",
    ) -> None:
        super().__init__(directory)
        self.port, self.tls_port, self.mutual_port = free_port(), free_port(), free_port()
        self.raw_ports = [free_port() for _ in range(printers)]
        raw = "".join(
            f'[[listen.raw]]\naddress = "127.0.0.1:{port}"\nprinter = "q{which}"\n'
            for which, port in enumerate(self.raw_ports)
        )
        (directory / "spoold.toml").write_text(
            SPOOLD_TOML.format(
                name=name,
                role=role,
                clear=self.port,
                tls=self.tls_port,
                mutual=self.mutual_port,
                raw=raw,
                limits=limits,
            )
        )
        self._environment = {
            key: value for key, value in os.environ.items() if not key.endswith("_DIRECTORY")
        }
        self.start()
        if paused:
            for which in range(printers):
                self.add_printer(f"q{which}", 9, paused=True)

    def start(self, deadline_s: float = START_DEADLINE_S) -> None:
        """The daemon listens when this returns; its ports and data stay the same."""
        with (self.directory / "spoold.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "spoold",
                    "serve",
                    "--config",
                    self.directory / "spoold.toml",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        self._wait_listening(self.port, deadline_s)

    def control(self) -> Control:
        """A connection to the control socket, which listens a moment after the ports."""
        ends_at = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                return Control(self.directory / "data" / "control")
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > ends_at:
                    raise
                time.sleep(0.005)

    def add_printer(self, name: str, port: int, *, paused: bool) -> None:
        with self.control() as control:
            control.call("printer.add", name=name, uri=f"socket://127.0.0.1:{port}")
            if paused:
                control.call("printer.pause", name=name, reason="benchmark")

    def resume(self, name: str) -> None:
        with self.control() as control:
            control.call("printer.resume", name=name)


class Helper:
    """A process of this folder that talks over its standard streams, one JSON value a line."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def read(self) -> str:
        """One line. Raises: RuntimeError when the process ended instead."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        return line

    def ask(self, line: str = "") -> str:
        if self.process.stdin:
            self.process.stdin.write(line + "\n")
        return self.read()

    def finish(self) -> str:
        """Ends its standard input and returns what it still has to say."""
        said, _ = self.process.communicate(timeout=60)
        return said

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


def load(**spec: Any) -> dict[str, Any]:
    """Runs one load to its end. Raises: RuntimeError when a job of it failed."""
    result = run("load", spec)
    if result.get("failed"):
        raise RuntimeError(f"{result['failed']} jobs failed, the first one: {result['error']}")
    return result


def listing(**spec: Any) -> dict[str, Any]:
    """Runs one Get-Jobs to its end."""
    return run("listing", spec)


def run(module: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Runs a module of this folder with a JSON object, and returns the one that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", json.dumps(spec)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def sink(printers: int = 1, *, counting: bool = False) -> Iterator[tuple[Helper, list[int]]]:
    """Raw printers that count, and their ports."""
    with Helper("sink", str(printers), *(["--count"] if counting else [])) as helper:
        yield helper, json.loads(helper.read())
