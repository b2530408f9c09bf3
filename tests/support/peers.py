"""What tests with foreign programs share: asking a daemon about its jobs, and running programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from spoold.provider.blocking import ControlClient
from support.process import Daemon, all_jobs

BACKENDS = Path("/usr/lib/cups/backend-available")  # where the package puts them


def wait_until(check: Callable, seconds: float = 30.0):
    """What `check` returns as soon as that is true; the last false answer fails the test."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"still {found!r} after {seconds:g} s"
        time.sleep(0.02)
    return found


def finished(daemon: Daemon, job_id: int) -> dict:
    """The job when it has come to its end: the daemon tells when."""
    with ControlClient(daemon.control) as client:
        for _ in client.stream("job.follow", {"job": str(job_id)}):
            pass
        return client.call("job.show", {"job": str(job_id)})


class Jobs:
    """The jobs that a daemon gets from now on."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._known = {job["id"] for job in all_jobs(daemon.control)}

    def new(self) -> list[dict]:
        return [job for job in all_jobs(self.daemon.control) if job["id"] not in self._known]

    def one(self) -> dict:
        """The only new job, when it is there."""
        (job,) = wait_until(self.new)
        return job

    def one_finished(self) -> dict:
        return finished(self.daemon, self.one()["id"])


def printed_files(folder: Path, job: dict) -> list[bytes]:
    """The files that the printer `default` made of a job."""
    found = sorted((folder / "data" / "printed").glob(f"*{job['uuid']}*"))
    return [path.read_bytes() for path in found]


def incoming(folder: Path) -> int:
    """The bytes of documents that are on their way in, the small ones left out."""
    found = 0
    for path in (folder / "data" / "incoming").iterdir():
        with suppress(FileNotFoundError):  # it has come in meanwhile
            found += path.stat().st_size
    return found


def records(daemon: Daemon, kind: str) -> list[dict]:
    """The journal's records of one kind."""
    found, start = [], 1
    with ControlClient(daemon.control) as client:
        while page := client.call("journal.read", {"from": start, "limit": 500})["records"]:
            found += [record for record in page if record["kind"] == kind]
            start = page[-1]["position"] + 1
    return found


class Backend:
    """A backend of CUPS, run as cupsd runs it."""

    def __init__(self, name: str, folder: Path) -> None:
        # A copy, because Debian lets only root execute some of them.
        self.program = folder / f"backend-{name}"
        shutil.copyfile(BACKENDS / name, self.program)
        self.program.chmod(0o755)
        # cupsd gives it a back channel (3) and a side channel (4); nobody speaks on either.
        self._side_channel = folder / f"side-channel-{name}"
        os.mkfifo(self._side_channel)
        self.log = folder / f"log-{name}"

    def start(
        self,
        uri: str,
        *arguments: str,
        title: str = "Weekly report",
        user: str = "cashier",
        copies: int = 1,
        stdin: int | None = subprocess.DEVNULL,
    ) -> subprocess.Popen:
        """Its process. `arguments` is the document's file; without it that is the input."""
        script = 'side=$1; log=$2; shift 2; exec "$@" >"$log" 2>&1 3>/dev/null 4<>"$side"'
        command = [self.program, "42", user, title, str(copies), "", *arguments]
        return subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", self._side_channel, self.log, *command],
            stdin=stdin,
            env={"DEVICE_URI": uri, "PRINTER": "queue", "PATH": "/usr/bin:/bin"},
        )

    def send(self, uri: str, *arguments: str, document: bytes | None = None, **job) -> None:
        """Send `document`, or the file of `arguments`; the backend is content when this returns."""
        stdin = subprocess.DEVNULL if document is None else subprocess.PIPE
        with self.start(uri, *arguments, stdin=stdin, **job) as process:
            try:
                process.communicate(document, timeout=60)
            finally:
                process.kill()
        assert process.returncode == 0, self.log.read_text()
