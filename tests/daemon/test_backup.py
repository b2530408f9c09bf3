"""Backups of an open spool, what interrupts them, and what a restore makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
import trio

from spoold.daemon import backup, manifest, restore
from spoold.daemon.identity import open_identity
from spoold.daemon.lock import READY, STAGING, locked
from spoold.model.errors import ConfigError, SpoolError, SpoolFull
from spoold.model.job import JobReason, JobState
from spoold.model.person import NOBODY
from spoold.model.record import Kind
from spoold.spool.store import AcceptJob, JobFilter

NOW_US = 1_700_000_000_000_000
NAME = "20231114T221320Z"  # of that moment


def quiet(what: str, done: int, total: int) -> None:
    """Nobody wants to know how far it is."""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "backups"


@pytest.fixture
async def node(tmp_path, spool_at):
    """An open spool with an identity, small jobs and three documents in files."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    identity = open_identity(data_dir, node_name="library", names=(), wall_clock=lambda: NOW_US)
    config_file = tmp_path / "spoold.toml"
    config_file.write_text("[node]\n")
    source = backup.Source(data_dir, config_file, identity.guid, "library", 0)
    async with spool_at(data_dir) as spool:
        printer = await spool.add_printer(paused=True)
        found = SimpleNamespace(source=source, spool=spool, printer=printer, data_dir=data_dir)
        for number in range(3):
            await spool.add_job(printer, b"small %d" % number)
            await add_large(found, os.urandom(300_000))
        yield found


async def add_large(node, body: bytes):
    """A job whose document lies in a file."""
    incoming = node.spool.documents.begin(uuid4().hex)
    await incoming.write(body)
    document = await incoming.keep("application/octet-stream")
    assert document.file
    return await node.spool.journal.commit(
        AcceptJob(node.printer.id, NOBODY, "address:127.0.0.1", document, NOW_US)
    )


async def take(node, place: Path, step=quiet, **more) -> backup.Made:
    return await trio.to_thread.run_sync(
        lambda: backup.make(node.source, place, NOW_US, step, **more)
    )


def documents_of(path: Path) -> dict[str, os.stat_result]:
    return {one.name: one.stat() for one in (path / "documents").glob("*/*")}


async def restored(path: Path, data_dir: Path, **more) -> restore.Restored:
    """Put a backup back, as the command does: outside of any Trio loop of ours."""
    wanted = {"replace": False, "prints": False, **more}
    return await trio.to_thread.run_sync(
        lambda: restore.restore(path, data_dir, NOW_US, quiet, **wanted)
    )


async def test_a_backup_of_an_open_spool_is_whole(node, place):
    """Jobs, documents, keys and configuration are in it, and each is what the manifest says."""
    made = await take(node, place)
    assert made.path == place / NAME
    assert made.head.jobs == made.head.waiting == 6
    assert made.head.documents == 3
    assert made.head.position == node.spool.journal.head
    found = restore.verify(made.path, quiet)
    assert found.is_whole
    names = set(manifest.read(made.path).entries)
    assert {"spool.db", "node-guid", "identity/ca-key.pem", "spoold.toml"} <= names
    assert not any("witness" in name for name in names)
    assert made.path.stat().st_mode & 0o077 == 0
    assert (made.path / "identity" / "ca-key.pem").stat().st_mode & 0o077 == 0


async def test_a_backup_says_what_was_a_credential(node, place, tmp_path):
    """It is not in it; whoever restores is told its name. Older backups say nothing of it."""
    node.source = replace(node.source, credentials=("ca-key.pem", "desk.password"))
    made = await take(node, place)
    assert manifest.read(made.path).head.credentials == ("ca-key.pem", "desk.password")
    done = await restored(made.path, tmp_path / "elsewhere")
    assert done.head.credentials == ("ca-key.pem", "desk.password")
    told = manifest.as_map(made.head)
    del told["credentials"]
    assert manifest.head_of(told).credentials == ()


async def test_the_next_backup_shares_what_the_one_before_holds(node, place):
    """A document is copied once; each backup is complete all the same, also alone."""
    first = await take(node, place)
    await add_large(node, os.urandom(200_000))
    second = await take(node, place)
    assert second.path.name == NAME + "-2"
    before, after = documents_of(first.path), documents_of(second.path)
    assert len(after) == 4
    assert {name: one.st_ino for name, one in before.items()}.items() <= {
        name: one.st_ino for name, one in after.items()
    }.items()
    assert second.copied_bytes < first.copied_bytes
    shutil.rmtree(first.path)
    assert restore.verify(second.path, quiet).is_whole


async def test_an_interrupted_backup_leaves_the_last_good_one(node, place):
    """Wherever it ends, the one before is as it was, and the next one begins clean."""
    first = await take(node, place)

    class Interrupted(Exception):
        pass

    for stop_at in range(1, 5):
        seen = 0

        def step(what: str, done: int, total: int, stop_at=stop_at) -> None:
            nonlocal seen
            seen += 1
            if seen == stop_at:
                raise Interrupted

        with pytest.raises(Interrupted):
            await take(node, place, step)
        assert [name for name, _ in backup.made(place)] == [NAME]
    (place / "20231114T221320Z-2.partial").mkdir()  # as a kill leaves it
    assert restore.verify(first.path, quiet).is_whole
    await take(node, place)
    assert sorted(os.listdir(place)) == [NAME, NAME + "-2", "lock"]


async def test_a_full_disk_leaves_the_last_good_backup(node, small_disk):
    """Without room it is refused before anything is written, or ends when there is none left."""
    first = await take(node, small_disk)
    filler = small_disk / "filler"

    def step(what: str, done: int, total: int) -> None:
        if what == "documents":
            subprocess.run(
                ["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True, check=False
            )

    await add_large(node, os.urandom(400_000))
    with pytest.raises(SpoolFull, match="Free space there"):
        await take(node, small_disk, step)
    with pytest.raises(SpoolFull, match="bytes, and"):
        await take(node, small_disk)
    assert [name for name, _ in backup.made(small_disk)] == [NAME]
    assert restore.verify(first.path, quiet).is_whole
    filler.unlink()
    await take(node, small_disk)


async def test_old_backups_go_only_when_asked_and_only_own(node, place):
    """--keep counts this node's; another node's in the same directory stay."""
    for _ in range(3):
        await take(node, place)
    other = place / "20200101T000000Z"
    shutil.copytree(place / NAME, other)
    listed = (other / manifest.NAME).read_bytes()
    (other / manifest.NAME).write_bytes(
        listed.replace(str(node.source.node_guid).encode(), str(uuid4()).encode())
    )
    made = await take(node, place, keep=2)
    assert made.removed == (NAME, NAME + "-2")
    left = [name for name, _ in backup.made(place)]
    assert left == [other.name, NAME + "-3", NAME + "-4"]


async def test_the_last_backup_is_the_newest_whatever_the_clock_says(node, place):
    """More than nine in a second, and a clock that went back: none is removed as it is made."""
    for now_us in (NOW_US,) * 11 + (NOW_US - 86_400_000_000,):
        taken = await trio.to_thread.run_sync(backup.make, node.source, place, now_us, quiet, 2)
        assert backup.made(place)[-1][0] == taken.path.name
    assert [name for name, _ in backup.made(place)] == [f"{NAME}-11", f"{NAME}-12"]


async def test_a_document_that_is_damaged_in_the_spool_is_told(node, place):
    """The rest is backed up, and the backup says how much it lacks."""
    first, second, _ = sorted(documents_of(node.data_dir))
    node.spool.documents.path(first).write_bytes(b"changed")
    node.spool.documents.path(second).unlink()
    made = await take(node, place)
    assert made.head.damaged == 2
    assert made.head.documents == 1
    assert restore.verify(made.path, quiet).is_whole  # it is what it says that it is


async def test_a_backup_beside_its_original_is_refused(node, tmp_path):
    """What lies in the data directory goes with it; and one around it would hold itself."""
    for directory in (node.data_dir / "backups", node.data_dir, tmp_path):
        with pytest.raises(SpoolError, match="in one another"):
            await take(node, directory)


async def test_nothing_is_removed_from_the_spool_while_it_is_backed_up(node, place):
    """A document whose job is forgotten in the midst of it is in the backup, and goes after it."""
    documents = node.spool.documents
    file = next(iter(documents_of(node.data_dir)))

    def step(what: str, done: int, total: int) -> None:
        if what == "database":
            documents.remove(file)

    with documents.keeping():
        made = await take(node, place, step)
        assert documents.path(file).exists()
    assert not documents.path(file).exists()
    assert made.head.damaged == 0
    assert file in documents_of(made.path)


@pytest.mark.parametrize("where", ["spool.db", "documents", "manifest.jsonl", "identity/ca.pem"])
async def test_verifying_finds_any_changed_byte(node, place, where):
    """In the database, in a document, in a key, and in the list of contents itself."""
    made = await take(node, place)
    path = made.path / where
    if path.is_dir():
        path = next(path.glob("*/*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if where == "manifest.jsonl":
        with pytest.raises(SpoolError):
            restore.verify(made.path, quiet)
    else:
        assert not restore.verify(made.path, quiet).is_whole


async def test_a_restored_node_knows_it_and_uses_no_number_twice(node, place, tmp_path, spool_at):
    """A new incarnation with its parent, ids far beyond, waiting jobs in doubt, identity as was."""
    made = await take(node, place)
    parent = node.spool.journal.identity[1]
    last = made.head.last_job_id
    elsewhere = tmp_path / "elsewhere"
    done = await restored(made.path, elsewhere)
    assert done.held == 6
    assert done.first_job_id == last + 1_000_001
    assert (elsewhere / "node-guid").read_text() == (node.data_dir / "node-guid").read_text()
    assert backup.last(elsewhere) == {"path": str(made.path), "made_us": NOW_US}
    async with spool_at(elsewhere) as spool:
        assert spool.journal.identity[1] == done.incarnation != parent
        jobs = await spool.reader.jobs(JobFilter(limit=10))
        assert len(jobs) == 6
        assert {job.state for job in jobs} == {JobState.PENDING_HELD}
        assert {job.reasons for job in jobs} == {(JobReason.JOB_IN_DOUBT.value,)}
        for job in jobs:
            (await spool.documents.open(job)).close()
        (note,) = await spool.reader.records(1, 1)
        assert note.kind == Kind.NODE_RESTORED
        assert note.payload == {
            "from": parent,
            "position": made.head.position,
            "made_us": NOW_US,
        }
        printer = (await spool.reader.printers())[0]
        assert (await spool.add_job(printer)).job_id == done.first_job_id


async def test_numbers_given_since_the_backup_are_not_given_again(node, place, spool_at):
    """The witness in the data directory has seen them, and it is in no backup."""
    made = await take(node, place)
    for _ in range(3):
        later = await node.spool.add_job(node.printer)
    copy = node.data_dir.parent / "later"
    shutil.copytree(node.data_dir, copy)
    done = await restored(made.path, copy, replace=True)
    assert done.first_job_id == later.job_id + 1_000_001
    assert done.aside is not None
    assert (done.aside / "spool.db").exists()
    assert not (copy / STAGING).exists()


async def test_a_restore_asks_before_it_replaces(node, place, tmp_path):
    """Without --replace a spool stays what it is; a running daemon's stays in any case."""
    made = await take(node, place)
    copy = tmp_path / "copy"
    shutil.copytree(node.data_dir, copy)
    with pytest.raises(SpoolError, match="--replace"):
        await restored(made.path, copy)
    with locked(copy), pytest.raises(ConfigError, match="another spoold has it"):
        await restored(made.path, copy, replace=True)


async def test_another_nodes_backup_takes_no_nodes_place(node, place, tmp_path):
    """Also with --replace: clients and witness are another one's."""
    made = await take(node, place)
    other = tmp_path / "other"
    other.mkdir()
    open_identity(other, node_name="annex", names=(), wall_clock=lambda: NOW_US)
    with pytest.raises(SpoolError, match="of another node, library"):
        await restored(made.path, other, replace=True)


async def test_who_was_erased_stays_erased_by_any_backups_word(node, place, tmp_path):
    """Those noted in this backup, in a later one, and in the directory that is replaced."""
    (node.data_dir / "erased").write_text("aa\n")
    made = await take(node, place)
    (node.data_dir / "erased").write_text("aa\nbb\n")
    await take(node, place)
    copy = tmp_path / "copy"
    shutil.copytree(node.data_dir, copy)
    (copy / "erased").write_text("aa\nbb\ncc\n")
    await restored(made.path, copy, replace=True)
    assert (copy / "erased").read_text().split() == ["aa", "bb", "cc"]
    await restored(made.path, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "erased").read_text().split() == ["aa", "bb"]


async def test_jobs_print_after_a_restore_if_that_is_asked_for(node, place, tmp_path, spool_at):
    """With `prints` they wait as they did."""
    made = await take(node, place)
    done = await restored(made.path, tmp_path / "elsewhere", prints=True)
    assert done.held == 0
    async with spool_at(tmp_path / "elsewhere") as spool:
        jobs = await spool.reader.jobs(JobFilter(limit=10))
        assert {job.state for job in jobs} == {JobState.PENDING}


async def test_a_damaged_backup_is_restored_as_far_as_it_is_good(node, place, tmp_path):
    """A document that changed is left out and told; a database that changed is not restored."""
    made = await take(node, place)
    file = next((made.path / "documents").glob("*/*"))
    file.write_bytes(b"changed")
    done = await restored(made.path, tmp_path / "one")
    assert done.damaged == (file.relative_to(made.path).as_posix(),)
    with (made.path / "spool.db").open("r+b") as database:
        database.seek(5000)
        database.write(b"changed")
    with pytest.raises(SpoolError, match="is not what was backed up"):
        await restored(made.path, tmp_path / "two")
    assert not (tmp_path / "two" / "spool.db").exists()


async def test_a_manifest_names_no_file_outside(node, place, tmp_path):
    """Whoever wrote it: nothing is read or written beside the backup and the data directory."""
    made = await take(node, place)
    contents = manifest.read(made.path)
    outside = tmp_path / "outside"
    outside.write_text("mine")
    entries = [*contents.entries.values(), manifest.Entry("../../outside", 4, "blake3:00")]
    (made.path / manifest.NAME).unlink()
    manifest.write(made.path, contents.head, entries)
    with pytest.raises(SpoolError, match="is not what was backed up"):
        await restored(made.path, tmp_path / "elsewhere")
    assert outside.read_text() == "mine"


async def test_no_daemon_starts_on_half_a_restore(tmp_path):
    """Until it is finished, only another restore may go on."""
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / READY).write_text("{}")
    with pytest.raises(ConfigError, match="a restore into it was interrupted"), locked(tmp_path):
        pass
