"""A CUPS whose queues print through our backend, a spoold that goes away and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from spoold.cli.backend import script
from support import forking
from support.cups import Cups
from support.process import Daemon, running

LARGE_BYTES = 60_000_000


def config(mutual: int, clear: int) -> str:
    """The same ports after a restart, for the queues of CUPS name them."""
    return f"""
[node]
data_dir = "data"
[listen]
clear = ["127.0.0.1:{clear}"]
tls = []
mutual = ["127.0.0.1:{mutual}"]
[drain]
deadline_s = 2
"""


class Site:
    """A CUPS, a spoold that may go away and come back, and credentials for the backend.

    At the port `nobody` nobody ever listens.
    """

    def __init__(self, folder: Path, mutual: int, clear: int, nobody: int) -> None:
        self.folder = folder
        self.mutual, self.clear, self.nobody = mutual, clear, nobody
        self.config = config(self.mutual, self.clear)
        self.pem = folder / "cups.pem"
        self.queues = 0

    def start(self):
        return running(self.folder / "spoold", config=self.config)

    def spoold(self, *arguments: object, control: Path) -> subprocess.CompletedProcess:
        return forking.run(*arguments, environ={**os.environ, "SPOOLD_CONTROL": str(control)})

    def enrol(self, daemon: Daemon, name: str, *users: str) -> Path:
        """The credentials of a provider in one file, as the README says how to make it."""
        asserts = [word for user in users for word in ("--may-assert", user)]
        done = self.spoold(
            *("provider", "enrol", name, *asserts, "--out", self.folder), control=daemon.control
        )
        assert done.returncode == 0, done.stderr
        names = (f"{name}.key", f"{name}.crt", "ca.crt")
        pem = self.folder / f"{name}.pem"
        pem.touch(0o600)
        pem.write_bytes(b"".join((self.folder / one).read_bytes() for one in names))
        return pem

    def put_backend(self, cups: Cups, credentials: Path, name: str = "spoold") -> None:
        """As `backend install` does it, but for its look at who else can write to this checkout."""
        path = cups.backends / name
        path.write_text(script(Path(sys.executable), credentials))
        path.chmod(0o700)

    def uri(self, query: str = "", printer: str = "default") -> str:
        return f"spoold://127.0.0.1:{self.mutual}/{printer}{query}"
