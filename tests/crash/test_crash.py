"""The real process, killed at every named point: an acknowledged job is there afterwards, once.

Each crash point gets a daemon of its own, which kills itself with SIGKILL when it comes there for
the n-th time, under the load of raw and of frames senders. Then it is started again and asked.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from spoold.model.errors import OperationError
from support.load import Load
from support.peers import wait_until
from support.process import Daemon, all_jobs, injected, running, send_raw

# Each with how often it is passed before it kills: the first time, and in the thick of it.
CRASH_POINTS = [
    ("commit-before", 9),
    ("commit-before", 40),
    ("commit-after", 9),
    ("commit-after", 40),
    ("document-before-sync", 1),
    ("document-before-sync", 5),
    ("document-before-rename", 5),
    ("document-after-rename", 1),
    ("document-after-rename", 5),
    ("attempt-before-mark", 5),
    ("attempt-after-mark", 1),
    ("attempt-after-mark", 20),
    ("attempt-before-end", 5),
    ("attempt-before-end", 30),
]


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), CRASH_POINTS)
def test_killed_at_a_crash_point_nothing_acknowledged_is_lost(tmp_path, point, count):
    """Every acknowledged job is there after the restart, once, and prints."""
    with running(tmp_path, f"{point}:{count}") as daemon:
        load = Load(count)
        if daemon.port:
            load.run(daemon)
        for _ in range(500):  # what is under way may still come to the point
            if daemon.process.poll() is not None:
                break
            time.sleep(0.02)
        assert daemon.process.returncode == -signal.SIGKILL, "the point was never reached"
    with running(tmp_path) as daemon:
        # The client that got no answer sends again: still one job.
        acknowledged = load.acknowledged & load.titled
        load.send_again(daemon)
        _wait_until_printed(daemon)
        jobs = all_jobs(daemon.control)
        titles = [job["title"] for job in jobs if job["intake"] == "raw"]
        kept = {job["title"] for job in jobs if "submission-interrupted" not in job["reasons"]}
        assert acknowledged <= kept
        assert len(titles) == len(set(titles))
        uuids = [job["uuid"] for job in jobs if job["intake"] == "frames"]
        assert sorted(uuids) == sorted(load.sent.keys() - load.titled)
        ids = [job["id"] for job in jobs]
        assert len(ids) == len(set(ids))
        states = {job["state"] for job in jobs if "submission-interrupted" not in job["reasons"]}
        assert states <= {"completed"}
        printed = list((tmp_path / "data" / "printed").iterdir())
        assert len(printed) == sum(job["state"] == "completed" for job in jobs)
        assert daemon.end() == 0
    _check_left_overs(tmp_path / "data")


def _wait_until_printed(daemon: Daemon) -> None:
    for _ in range(1000):
        waiting = [job for job in all_jobs(daemon.control) if job["state"] in WAITING]
        if not waiting:
            return
        time.sleep(0.02)
    raise AssertionError(f"still waiting: {waiting[:3]} {daemon.log[-5:]}")


WAITING = {"pending", "processing", "processing-stopped"}


def _check_left_overs(data: Path) -> None:
    """No half-written name is left where documents or printed files are."""
    assert [path for path in (data / "printed").iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_quota_that_is_used_up_refuses_jobs_and_stops_nobody(tmp_path):
    """EDQUOT, which the database takes for a failed write: refusals, and later it goes on."""
    with running(tmp_path) as daemon:
        assert send_raw(daemon.port, b"%!PS before\n")
        with injected(daemon, "pwrite64,write,fallocate", "error=EDQUOT"):
            wait_until(lambda: not send_raw(daemon.port, b"%!PS never\n"))
            with pytest.raises(OperationError) as refusal:
                daemon.call("printer.pause", name="default")
            assert refusal.value.code == "spool-area-full"
            assert not send_raw(daemon.port, b"%!PS never\n")
        wait_until(lambda: send_raw(daemon.port, b"%!PS after\n"))
        daemon.call("printer.pause", name="default")
        assert daemon.end() == 0
    with running(tmp_path) as daemon:
        assert len(all_jobs(daemon.control)) >= 2
        assert daemon.end() == 0


@pytest.mark.slow
def test_a_sync_that_fails_stops_the_daemon_and_nothing_more_is_acknowledged(tmp_path):
    """EIO on the journal's sync: exit code 74, no acknowledgement after it, and a clean restart."""
    with running(tmp_path) as daemon:
        assert send_raw(daemon.port, b"%!PS before\n")
        with injected(daemon, "fdatasync,fsync", "error=EIO"):
            wait_until(lambda: not send_raw(daemon.port, b"%!PS never\n"))
            assert daemon.process.wait(60) == 74
            assert not send_raw(daemon.port, b"%!PS after\n")
    with running(tmp_path) as daemon:
        assert send_raw(daemon.port, b"%!PS again\n")
        assert daemon.end() == 0
