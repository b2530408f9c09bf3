"""The drill: a backup under load, a kill, a restore elsewhere; and each of them interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from spoold.provider.receipt import Unreachable
from support import forking
from support.load import Load
from support.peers import wait_until
from support.process import all_jobs, running

BACKUP_POINTS = [
    ("backup-after-database", 1),
    ("backup-after-document", 1),
    ("backup-after-document", 3),
    ("backup-before-name", 1),
]
SETTLED = {"completed", "pending-held"}
RESTORE_POINTS = [
    ("restore-before-ready", 1),
    ("restore-amid-aside", 1),
    ("restore-amid-aside", 2),
    ("restore-amid-swap", 1),
    ("restore-amid-swap", 3),
]


def spoold(*words: object, crash_point: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of spoold."""
    return forking.run(*words, environ={**os.environ, "SPOOLD_CRASH_POINT": crash_point})


def restored(backups: Path, data_dir: Path, *more: str) -> dict:
    done = spoold("restore", backups, "--data-dir", data_dir, "--json", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow(2)
def test_what_was_acknowledged_before_a_backup_survives_the_machine(tmp_path):
    """Backed up under load, killed, restored elsewhere: each job is there, and printing goes on."""
    here, there, backups = (tmp_path / name for name in ("here", "there", "backups"))
    here.mkdir()
    there.mkdir()
    load = Load(1)
    with running(here) as daemon:
        load.run(daemon)
        before = set(load.acknowledged)
        sender = threading.Thread(target=load.run, args=(daemon,), kwargs={"jobs": 1000})
        sender.start()
        made = [daemon.call("backup.make", directory=str(backups)) for _ in range(2)]
        daemon.end(signal.SIGKILL)
        sender.join()
        assert all(one["damaged"] == 0 for one in made)
        assert made[1]["position"] > made[0]["position"]
    done = spoold("backup", "verify", backups)
    assert done.returncode == 0, done.stderr
    told = restored(backups, there / "data")
    with running(there) as daemon:
        jobs = all_jobs(daemon.control)
        assert before <= {job["title"] for job in jobs} | {job["uuid"] for job in jobs}
        assert max(job["id"] for job in jobs) < told["first_job_id"]
        later = Load(2)
        later.run(daemon)

        def news() -> list[dict]:
            return [job for job in all_jobs(daemon.control) if job["id"] >= told["first_job_id"]]

        def are_printed() -> bool:
            states = [job["state"] for job in news()]
            return len(states) >= len(later.acknowledged) and set(states) <= SETTLED

        wait_until(are_printed)
        assert min(job["id"] for job in news()) == told["first_job_id"]
        node = daemon.call("node.show")
        assert node["incarnation"] == told["incarnation"]
        assert daemon.end() == 0


@pytest.mark.slow(2)
@pytest.mark.parametrize(("point", "count"), BACKUP_POINTS)
def test_a_daemon_killed_in_a_backup_leaves_the_last_good_one(tmp_path, point, count):
    """The one before is whole; the next one cleans up and is whole, too."""
    backups = tmp_path / "backups"
    load = Load(3)
    with running(tmp_path) as daemon:
        load.run(daemon)
        daemon.call("backup.make", directory=str(backups))
        first = spoold("backup", "verify", backups, "--json")
        load.run(daemon)
        daemon.end()
    with running(tmp_path, f"{point}:{count}") as daemon:
        with pytest.raises(Unreachable):
            daemon.call("backup.make", directory=str(backups))
        assert daemon.process.wait(30) == -signal.SIGKILL
    found = spoold("backup", "verify", backups, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == json.loads(first.stdout)
    with running(tmp_path) as daemon:
        daemon.call("backup.make", directory=str(backups))
    assert len(json.loads(spoold("backup", "list", backups, "--json").stdout)) == 2
    assert not list(backups.glob("*.partial"))
    assert spoold("backup", "verify", backups).returncode == 0


@pytest.mark.slow(2)
@pytest.mark.parametrize(("point", "count"), RESTORE_POINTS)
def test_a_restore_that_is_killed_is_finished_by_the_next(tmp_path, point, count):
    """In between no daemon starts on a half; after it the spool is that of the backup."""
    backups, data_dir = tmp_path / "backups", tmp_path / "data"
    load = Load(4)
    with running(tmp_path) as daemon:
        load.run(daemon)
        daemon.call("backup.make", directory=str(backups))
        before = {job["uuid"] for job in all_jobs(daemon.control)}
        load.run(daemon)
        daemon.end()
    words = ("restore", backups, "--data-dir", data_dir, "--replace")
    killed = spoold(*words, crash_point=f"{point}:{count}")
    assert killed.returncode == -signal.SIGKILL
    if point != "restore-before-ready":
        refused = spoold("serve", "--config", tmp_path / "spoold.toml")
        assert refused.returncode == 78
        assert "a restore into it was interrupted" in refused.stderr
    told = restored(backups, data_dir, "--replace")
    with running(tmp_path) as daemon:
        assert {job["uuid"] for job in all_jobs(daemon.control)} == before
        assert daemon.call("node.show")["incarnation"] == told["incarnation"]
        assert daemon.end() == 0
    assert not (data_dir / "restoring").exists()
