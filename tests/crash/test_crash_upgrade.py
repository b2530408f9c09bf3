"""An upgrade of the schema, killed at its named points: the next start finishes it."""

from __future__ import annotations

import signal

import pytest

from spoold.spool import migrations, snapshot
from support.old_spool import make_spool
from support.process import all_jobs, running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "count"), [("upgrade-before-copy", 1), ("upgrade-between", 1), ("upgrade-between", 4)]
)
def test_an_upgrade_that_is_killed_is_finished_by_the_next_start(tmp_path, point, count):
    """Nothing of the spool is lost, and the copy of what it was before is whole."""
    version = 3
    make_spool(tmp_path / "data", version)
    with running(tmp_path, f"{point}:{count}") as daemon:
        assert daemon.process.wait(30) == -signal.SIGKILL
    with running(tmp_path) as daemon:
        assert {job["title"] for job in all_jobs(daemon.control)} == {"job 1", "job 2", "job 3"}
        assert daemon.end() == 0
    assert snapshot.facts(tmp_path / "data" / "spool.db").schema == migrations.newest()
    copy = tmp_path / "data" / f"before-upgrade-{version}.db"
    assert snapshot.facts(copy).schema == version
    assert snapshot.check(copy, lambda: None) == []
