"""Spools of every released version of the schema, opened by this program; and by an older one."""

from __future__ import annotations

import os
import shutil
import sqlite3

import pytest

from spoold.model.errors import SpoolError, SpoolFull
from spoold.model.job import JobState
from spoold.spool import migrations, snapshot
from spoold.spool.store import JobFilter
from support import kept_spools
from support.old_spool import make_spool


@pytest.mark.parametrize("version", range(1, migrations.newest()))
async def test_a_spool_of_any_version_is_taken_over(tmp_path, spool_at, version):
    """Jobs, documents, attempts, printers, providers and the journal are what they were."""
    data_dir = tmp_path / "data"
    make_spool(data_dir, version)
    async with spool_at(data_dir) as spool:
        jobs = await spool.reader.jobs(JobFilter(limit=10))
        assert [(job.id, job.title, job.owner.name) for job in jobs] == [
            (1, "job 1", "olga"),
            (2, "job 2", "olga"),
            (3, "job 3", "olga"),
        ]
        states = [JobState.COMPLETED, JobState.PENDING, JobState.PENDING_HELD]
        assert [job.state for job in jobs] == states
        assert await spool.reader.document_body(2) == b"page\f"
        assert len(await spool.reader.attempts(1)) == 1
        assert await spool.reader.finished_totals() == (1, 5)
        assert await spool.reader.kept_before(2**60, 9) == [(1, 5)]
        (printer,) = await spool.reader.printers()
        assert printer.name == "default"
        (provider,) = await spool.reader.providers()
        assert (provider.name, provider.serials) == ("mainframe", ("0a",))
        # Without its witness it goes on as a new incarnation, and knows the one before.
        assert (await spool.add_job(printer)).job_id == 1_000_004
    copy = data_dir / f"before-upgrade-{version}.db"
    assert snapshot.facts(copy).schema == version
    assert snapshot.facts(copy).jobs == 3
    assert snapshot.check(copy, lambda: None) == []


async def test_an_upgrade_that_was_interrupted_goes_on(tmp_path, spool_at):
    """Between two migrations: each is whole, and the first copy stays."""
    data_dir = tmp_path / "data"
    path = make_spool(data_dir, 1)
    shutil.copy(path, data_dir / "before-upgrade-1.db")
    db = sqlite3.connect(path)
    db.executescript(migrations.migrations()[2] + "PRAGMA user_version = 2;")
    db.close()
    async with spool_at(data_dir) as spool:
        assert len(await spool.reader.jobs(JobFilter(limit=10))) == 3
    assert sorted(one.name for one in data_dir.glob("before-*")) == [
        "before-upgrade-1.db",
        "before-upgrade-2.db",
    ]


async def test_copies_of_old_upgrades_do_not_pile_up(tmp_path, spool_at):
    """Two at most, and none after 30 days."""
    data_dir = tmp_path / "data"
    make_spool(data_dir, 6)
    for number in (1, 2, 3):
        (data_dir / f"before-upgrade-{number}.db").write_bytes(b"old")
    async with spool_at(data_dir):
        pass
    names = sorted(one.name for one in data_dir.glob("before-*"))
    assert names == ["before-upgrade-3.db", "before-upgrade-6.db"]
    for name in names:
        os.utime(data_dir / name, (0, 0))
    async with spool_at(data_dir):
        pass
    assert not list(data_dir.glob("before-*"))


async def test_without_room_for_the_copy_nothing_is_changed(small_disk, spool_at):
    """The older program goes on with it."""
    data_dir = small_disk / "data"
    path = make_spool(data_dir, 6)
    with pytest.raises(SpoolFull, match="go on with the older spoold"):
        async with spool_at(data_dir):
            pass
    assert snapshot.facts(path).schema == 6


async def test_an_older_program_refuses_a_newer_spool_with_a_way_back(tmp_path, spool_at):
    """It says what to do; and what it says works."""
    data_dir = tmp_path / "data"
    make_spool(data_dir, 6)
    async with spool_at(data_dir) as spool:
        incarnation = spool.journal.identity[1]
    db = sqlite3.connect(data_dir / "spool.db")
    db.execute("PRAGMA user_version = 9999")
    db.close()
    with pytest.raises(SpoolError, match=r"version 9999.*before-upgrade-6\.db to spool\.db"):
        async with spool_at(data_dir):
            pass
    for file in data_dir.glob("spool.db*"):
        file.unlink()
    (data_dir / "before-upgrade-6.db").rename(data_dir / "spool.db")
    async with spool_at(data_dir) as spool:
        assert spool.journal.identity[1] != incarnation
        assert len(await spool.reader.jobs(JobFilter(limit=10))) == 3


@pytest.mark.parametrize("name", kept_spools.NODES)
@pytest.mark.parametrize("version", kept_spools.VERSIONS)
async def test_spools_of_real_nodes_are_what_they_were(tmp_path, spool_at, name, version):
    """People, money, jobs, rights and journals of a deployment, by the version that made them."""
    journal, told = kept_spools.unpack(name, version, tmp_path / "data")
    async with spool_at(tmp_path / "data", journal) as spool:
        assert await kept_spools.facts(spool) == told
