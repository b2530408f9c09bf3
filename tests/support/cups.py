"""A CUPS of the test's own: its directories, its port, its backends; nothing of the machine's."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from support.peers import wait_until
from support.ports import own_port

SERVER_BIN = Path("/usr/lib/cups")
START_S = 20

CUPSD_CONF = """\
LogLevel debug
MaxLogSize 0
Listen 127.0.0.1:{port}
Browsing No
WebInterface No
DefaultAuthType None
JobRetryInterval 1
JobRetryLimit 3
JobKillDelay 10
{extra}
<Location />
  Order allow,deny
  Allow all
</Location>
<Policy default>
  JobPrivateAccess all
  JobPrivateValues none
  <Limit All>
    Order allow,deny
    Allow all
  </Limit>
</Policy>
"""
CUPS_FILES_CONF = """\
ServerRoot {root}
ServerBin {root}/bin
RequestRoot {root}/spool
CacheDir {root}/cache
StateDir {root}/run
TempDir {root}/tmp
AccessLog {root}/access_log
ErrorLog {root}/error_log
PageLog {root}/page_log
FileDevice Yes
"""


JOB_TEST = """\
{
    OPERATION Get-Job-Attributes
    GROUP operation-attributes-tag
    ATTR charset attributes-charset utf-8
    ATTR naturalLanguage attributes-natural-language en
    ATTR uri job-uri $uri
}
"""


class Cups:
    """cupsd in `root`. `backends` is its directory of backends, with those of the package in it."""

    def __init__(self, root: Path, port: int, extra: str = "") -> None:
        self.root, self.port = root, port
        self.backends = root / "bin" / "backend"
        for name in ("spool", "cache", "run", "tmp", "bin/backend"):
            (root / name).mkdir(parents=True)
        for name in ("filter", "daemon", "notifier", "cgi-bin", "driver"):
            (root / "bin" / name).symlink_to(SERVER_BIN / name)
        for name in ("socket", "lpd", "ipp", "ipps"):
            (self.backends / name).symlink_to(SERVER_BIN / "backend" / name)
        (root / "cupsd.conf").write_text(CUPSD_CONF.format(port=self.port, extra=extra))
        (root / "cups-files.conf").write_text(CUPS_FILES_CONF.format(root=root))
        (root / "job.test").write_text(JOB_TEST)
        root.chmod(0o755)
        (root / "tmp").chmod(0o1777)
        self.start()

    def start(self) -> None:
        files = ["-c", self.root / "cupsd.conf", "-s", self.root / "cups-files.conf"]
        with (self.root / "stderr_log").open("ab") as log:
            self.process = subprocess.Popen(
                ["cupsd", "-f", *files], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._is_up, START_S)

    def _is_up(self) -> bool:
        assert self.process.poll() is None, (self.root / "stderr_log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def run(self, *command: object, check: bool = True) -> str:
        """What a program of CUPS says to this cupsd."""
        done = subprocess.run(
            [str(one) for one in command],
            capture_output=True,
            text=True,
            timeout=60,
            # lpoptions keeps what it is told at home.
            env={**os.environ, "CUPS_SERVER": f"127.0.0.1:{self.port}", "HOME": str(self.root)},
        )
        assert done.returncode == 0 or not check, (command, done.stderr, self.log()[-2000:])
        return done.stdout + done.stderr

    def add(self, queue: str, uri: str, *options: object) -> None:
        self.run("lpadmin", "-p", queue, "-E", "-v", uri, *options)

    def print(self, queue: str, *arguments: object) -> int:
        """The number of a new job."""
        said = self.run("lp", "-d", queue, *arguments)
        found = re.search(rf"request id is {re.escape(queue)}-(\d+)", said)
        assert found is not None, said
        return int(found[1])

    def job(self, number: int) -> dict[str, str]:
        """The attributes of a job, as ipptool shows them."""
        uri = f"ipp://127.0.0.1:{self.port}/jobs/{number}"
        said = self.run("ipptool", "-tv", uri, self.root / "job.test", check=False)
        return dict(re.findall(r"^ +([\w-]+) \([^)]*\) = (.*)$", said, re.MULTILINE))

    def wait(self, number: int, state: str, seconds: float = 60.0) -> dict[str, str]:
        """The attributes of a job when it is in this state."""

        def look():
            job = self.job(number)
            return job if job.get("job-state") == state else None

        try:
            return wait_until(look, seconds)
        except AssertionError:
            raise AssertionError((self.job(number), self.log()[-4000:])) from None

    def log(self) -> str:
        path = self.root / "error_log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def cups(extra: str = "") -> Iterator[Cups]:
    """A CUPS that ends with the block, and its directory, in which its user can read."""
    with TemporaryDirectory(prefix="spoold-cups-") as folder, own_port() as port:
        running = Cups(Path(folder), port, extra)
        try:
            yield running
        finally:
            running.stop()
            running.stop(signal.SIGKILL)
