"""Real daemons side by side: one hands jobs on to another, or is a site of the other."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from support.peers import wait_until
from support.ports import own_port
from support.process import CONFIG, Daemon, all_jobs, running

WITH_MUTUAL = CONFIG.replace("mutual = []", 'mutual = ["127.0.0.1:0"]')


def config_of(name: str, mutual: int = 0) -> str:
    """A node of this name, with this port for client certificates."""
    named = WITH_MUTUAL.replace('name = "crash"', f'name = "{name}"')
    return named.replace('mutual = ["127.0.0.1:0"]', f'mutual = ["127.0.0.1:{mutual}"]')


class HqAndSite:
    """An application server, `hq`, and a site: processes that are killed and started again.

    `tls` is the name of who listens on it, `more` are further tables of the configurations, by
    name. Printers of `paper` write there.
    """

    def __init__(self, folder: Path, site: str, tls: str, **more: str) -> None:
        self.site = site
        self.paper = folder / "paper"
        self._tls, self._more = tls, more
        self._folders = {"hq": folder / "hq", site: folder / site}
        self._nodes: dict[str, Daemon] = {}
        self._stack = ExitStack()
        for one in (self.paper, *self._folders.values()):
            one.mkdir()

    def __enter__(self) -> Self:
        self._port = self._stack.enter_context(own_port())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Daemon:
        return self._nodes[name]

    def _config(self, name: str) -> str:
        if name == self.site:
            config = config_of(name).replace("[node]", '[node]\nrole = "site"')
        else:
            config = config_of(name, self._port)
        if name == self._tls:
            config = config.replace("tls = []", 'tls = ["127.0.0.1:0"]')
        return config + self._more.get(name, "")

    def start(self, name: str, crash_point: str = "") -> Daemon:
        node = running(self._folders[name], crash_point, config=self._config(name))
        self._nodes[name] = self._stack.enter_context(node)
        return self._nodes[name]

    def start_both(self, who: str = "", point: str = "") -> tuple[Daemon, Daemon]:
        """The application server and the site; `who` is killed when it first comes to `point`."""
        hq, site = (self.start(name, f"{point}:1" if name == who else "") for name in self._folders)
        return hq, site

    def join(self) -> None:
        token = self["hq"].call("site.invite", name=self.site, is_approved=True)["token"]
        self[self.site].call("site.enter", server=f"127.0.0.1:{self._port}", token=token)

    def enrol_panel(self, printer: str, card: str) -> tuple[Path, str]:
        """An MFD at this printer, and ada, who has a card: the CA's certificate and its token."""
        hq = self["hq"]
        hq.call("user.add", name="ada")
        hq.call("user.add-card", name="ada", card=card)
        panel = hq.call("device.enrol", name="panel", printers=[printer], credential="token")
        ca = self.paper.with_name("ca.pem")
        ca.write_text(hq.call("node.ca")["pem"])
        return ca, panel["token"]

    def end(self) -> None:
        for name in (self.site, "hq"):
            self[name].end()

    def wait_killed(self, name: str) -> None:
        """Until it was killed at its point; then it is started again."""
        wait_until(lambda: self[name].process.poll() is not None)
        assert self[name].process.returncode == -signal.SIGKILL
        self.start(name)

    def sheets(self) -> list[bytes]:
        return [one.read_bytes() for one in self.paper.iterdir()]


def credentials(owner: Daemon, folder: Path, users: tuple[str, ...] = ("*",)) -> Path:
    """A file with which a node may hand jobs on to `owner`, or a provider submit there."""
    given = owner.call("provider.enrol", name="branch", may_assert=list(users))
    file = folder / "branch.pem"
    file.touch(mode=0o600)
    file.write_text(given["key_pem"] + given["certificate_pem"] + given["ca_pem"])
    return file


def lead_to(first: Daemon, owner: Daemon, file: Path, name: str = "far") -> None:
    """A printer of `first` whose jobs go on to the printer `default` of `owner`."""
    port = owner.ports["mutual"].rpartition(":")[2]
    first.call(
        "printer.add",
        name=name,
        uri=f"spoold://localhost:{port}/default",
        options={"credentials": str(file), "connect_timeout_s": 2},
    )


def job_of(daemon: Daemon, title: str) -> dict | None:
    """The one job with this title; more than one is a failure."""
    found = [job for job in all_jobs(daemon.control) if job["title"] == title]
    assert len(found) < 2, found
    return found[0] if found else None


def wait_job(daemon: Daemon, title: str, state: str, seconds: float = 60.0) -> dict:
    """The job, once it is in this state."""

    def look():
        job = job_of(daemon, title)
        return job if job is not None and job["state"] == state else None

    return wait_until(look, seconds)
