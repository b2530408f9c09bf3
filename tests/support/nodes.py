"""Real daemons side by side, one of which hands jobs on to another."""

from __future__ import annotations

from pathlib import Path

from support.peers import wait_until
from support.process import CONFIG, Daemon, all_jobs

WITH_MUTUAL = CONFIG.replace("mutual = []", 'mutual = ["127.0.0.1:0"]')


def config_of(name: str, mutual: int = 0) -> str:
    """A node of this name, with this port for client certificates."""
    named = WITH_MUTUAL.replace('name = "crash"', f'name = "{name}"')
    return named.replace('mutual = ["127.0.0.1:0"]', f'mutual = ["127.0.0.1:{mutual}"]')


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
