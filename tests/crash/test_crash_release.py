"""The real process, killed while held jobs are counted, cleared and released.

What was acknowledged waits afterwards, or was released, once; what is counted and cleared by the
node itself goes on by itself.
"""

from __future__ import annotations

import http.client
import signal

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.model.errors import OperationError
from spoold.provider.receipt import Unreachable
from support.load import ask_ipp
from support.peers import wait_until
from support.process import Daemon, all_jobs, running

# The jobs are counted, cleared and released one after the other: each takes a few commits.
CRASH_POINTS = [
    ("job-counted", 1),
    ("job-counted", 7),
    ("job-released", 1),
    ("job-released", 5),
    ("commit-before", 12),
    ("commit-before", 25),
    ("commit-after", 13),
    ("commit-after", 26),
]
JOBS = 6
PAGE, PAID_IN = 500, 1_000_000  # in 1/10,000


def print_to(daemon: Daemon, printer: str, title: str) -> bool:
    """Whether the job was acknowledged."""
    where = ipp.uri("printer-uri", f"ipp://127.0.0.1/printers/{printer}")
    asked = (where, ipp.name_("job-name", title))
    body = f"{title}\f".encode()
    try:
        return ask_ipp(daemon, Operation.PRINT_JOB, *asked, body=body).code == Status.SUCCESSFUL_OK
    except (OSError, http.client.HTTPException):
        return False


def release_all(daemon: Daemon) -> None:
    """Until nothing waits at a gate; the daemon may be killed by it."""
    for job in all_jobs(daemon.control):
        if "job-release-wait" in job["reasons"]:
            daemon.call("job.release", job=job["id"], to="safe")


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), CRASH_POINTS)
def test_killed_at_a_crash_point_every_held_job_prints_once(tmp_path, point, count):
    """Counted or not, cleared or not, released or not: one job, one charge, one printed file."""
    with running(tmp_path) as daemon:
        printed = tmp_path / "data" / "printed"
        for name in ("safe", "paid"):
            (printed / name).mkdir()
        safe, paid = (printed / name for name in ("safe", "paid"))
        daemon.call("printer.add", name="safe", uri=safe.as_uri(), release="hold", charging="on")
        daemon.call("printer.add", name="paid", uri=paid.as_uri(), charging="on")
        daemon.call("price.set", rates=[{"price": PAGE}])
        daemon.call("user.add", name="ada", roles=["user"])
        daemon.call("account.adjust", name="user:ada", amount=PAID_IN, reason="test")
        daemon.call("printer.add", name="roam", release="find-me", releases_at=["safe"])
        assert daemon.end() == 0
    acknowledged: set[str] = set()
    with running(tmp_path, f"{point}:{count}") as daemon:
        for number in range(JOBS):
            for printer in ("roam", "paid"):
                title = f"{printer}-{number}"
                if print_to(daemon, printer, title):
                    acknowledged.add(title)
        try:
            release_all(daemon)
        except (Unreachable, OperationError):
            pass  # it was killed meanwhile
        assert daemon.process.wait(60) == -signal.SIGKILL, "the point was never reached"
    with running(tmp_path) as daemon:
        jobs = {job["title"]: job for job in all_jobs(daemon.control)}
        assert acknowledged <= set(jobs)
        release_all(daemon)
        wait_until(lambda: all(job["state"] == "completed" for job in all_jobs(daemon.control)))
        files = [path for folder in (safe, paid) for path in folder.iterdir() if path.is_file()]
        assert sorted(path.read_text() for path in files) == sorted(f"{title}\f" for title in jobs)
        money = daemon.call("account.show", name="user:ada")
        assert money["balance"] == PAID_IN - PAGE * len(jobs)  # each page once, nothing reserved
        assert daemon.end() == 0
