"""The states in which a power cut may leave a directory of backups: each that has a name is whole.

Three backups are taken under strace, the last of which removes the first. Their record is followed
call by call; at each call the directory is made as a power cut might leave it, and what is called a
backup there is verified byte by byte.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
import trio
from conftest import open_spool

from spoold.daemon import backup, restore
from spoold.daemon.identity import open_identity
from spoold.model.errors import SpoolError
from spoold.model.person import NOBODY
from spoold.spool.store import AcceptJob
from support import trace
from support.disk import Dice, Disk, Survivors, Tree, steps, write_tree

pytestmark = pytest.mark.slow(2)

NOW_US = 1_700_000_000_000_000
SCRIPT = f"""
import os
import sys
from pathlib import Path
from uuid import UUID
from spoold.daemon import backup
source = backup.Source(Path(sys.argv[1]), None, UUID(sys.argv[2]), "crash", 0)
for number in range(3):
    now_us = {NOW_US} + number * 1_000_000
    made = backup.make(source, Path(sys.argv[3]), now_us, lambda *_: None, keep=2)
    os.write(1, b"made " + made.path.name.encode())
"""
STATES_MAX = 400


class Run(NamedTuple):
    folder: Path
    calls: list[trace.Call]


class Cut(NamedTuple):
    """A directory after a power cut, and the backups that must be in it."""

    tree: Tree
    told: tuple[str, ...]
    call: trace.Call


async def fill(data_dir: Path) -> None:
    """A spool with documents inside of its database and in files."""
    async with open_spool(data_dir) as spool:
        printer = await spool.add_printer(paused=True)
        for size in (10, 200_000, 300_000):
            incoming = spool.documents.begin(uuid4().hex)
            await incoming.write(os.urandom(size))
            document = await incoming.keep("text/plain")
            await spool.journal.commit(AcceptJob(printer.id, NOBODY, "uid:0", document, NOW_US))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    data_dir, disk = folder / "data", folder / "disk"
    data_dir.mkdir()
    disk.mkdir()
    identity = open_identity(data_dir, node_name="crash", names=(), wall_clock=lambda: NOW_US)
    trio.run(fill, data_dir)
    process = subprocess.Popen(
        [
            *trace.command(folder / "record"),
            *(sys.executable, "-c", SCRIPT),
            *(str(data_dir), str(identity.guid), str(disk / "backups")),
        ],
        stdout=subprocess.DEVNULL,
    )
    assert process.wait(60) == 0
    return Run(folder, trace.read(folder / "record", process.pid))


def cuts(
    run: Run, random: Random, lies: Callable[[str], bool] = lambda path: False
) -> Iterator[Cut]:
    (nothing := run.folder / "nothing").mkdir(exist_ok=True)
    disk = Disk(run.folder / "disk", nothing, lies)
    told: list[str] = []
    for call, is_end in steps(run.calls):
        if not is_end:
            disk.enter(call)
            continue
        has_changed = disk.leave(call)
        if call.name == "write" and (said := call.strings()[0]).startswith(b"made "):
            told.append(said.split()[1].decode())
            has_changed = True
        if has_changed:
            for survivors in (Survivors(True), Survivors(False), Dice(random, disk)):
                yield Cut(disk.tree(survivors), tuple(told[-2:]), call)
    assert len(told) == 3


def problems_of(run: Run, cut: Cut) -> list[str]:
    """What is wrong with what is called a backup after a power cut."""
    root = run.folder / "left"
    shutil.rmtree(root, ignore_errors=True)
    write_tree(cut.tree, root)
    place = root / "backups"
    names = os.listdir(place) if place.is_dir() else []
    named = [one for one in names if backup.NAMED.fullmatch(one)]
    problems = [f"{name} was told, and is not there" for name in cut.told if name not in named]
    for name in named:
        try:
            found = restore.verify(place / name, lambda what, done, total: None)
        except SpoolError as error:
            problems.append(str(error))
        else:
            problems += [f"{name}: {one}" for one in (*found.problems, *found.damaged)]
    return problems


def test_whatever_a_power_cut_leaves_has_a_name_only_when_it_is_whole(run: Run) -> None:
    """Those that were told are there, but for one that a later backup may be removing."""
    found = list(cuts(run, Random(1)))
    step = max(1, len(found) // STATES_MAX)
    for cut in found[::step]:
        # While the third is taken and the first removed, the first was told, and may be gone.
        may_go = cut._replace(told=cut.told[-1:])
        assert problems_of(run, may_go) == [], cut.call.name
    last = found[-1]
    assert len(last.told) == 2
    assert problems_of(run, last) == []
    assert len(found) >= 150


@pytest.mark.parametrize(
    "lies",
    [
        lambda path: path.endswith("/spool.db"),
        lambda path: "/documents/" in path,
        lambda path: path.endswith("manifest.jsonl"),
        lambda path: path.endswith("/backups"),
    ],
    ids=["database", "documents", "manifest", "names"],
)
def test_a_missing_sync_is_seen(run: Run, lies: Callable[[str], bool]) -> None:
    """A disk on which one kind of sync does nothing breaks a backup, and this notices."""
    assert any(problems_of(run, cut) for cut in cuts(run, Random(1), lies))


def test_the_same_node_is_backed_up_all_along(run: Run) -> None:
    """What is verified is not empty: jobs and documents are in each."""
    found = backup.made(run.folder / "disk" / "backups")
    assert [(head.jobs, head.documents) for _, head in found] == [(3, 2)] * 2
    assert {UUID(head.node_guid).version for _, head in found} == {4}
