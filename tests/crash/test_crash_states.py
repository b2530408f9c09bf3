"""The states in which a power cut may leave the disk of a short run: none breaks a promise.

The real daemon takes and prints jobs under strace. Its record is followed call by call, and at each
call the disk is made as a power cut might leave it (`support.disk` has the rules), opened as a
start does it, and audited: what was acknowledged up to that call is there, whole and once; what was
not is whole or not there; the journal's chain holds; what is called printed was printed.

CI looks at a sample of the states. The long form looks at all of them, and at those of further
runs, for as long as `SPOOLD_CAMPAIGN_S` says:

    SPOOLD_CAMPAIGN_S=600 tests/run -s tests/crash/test_crash_states.py
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from support import trace
from support.audit import audit
from support.campaign import IS_LONG, Campaign
from support.disk import Dice, Disk, Survivors, Tree, steps, write_tree
from support.load import Answers, Load
from support.peers import wait_until
from support.process import ON_DISK, running

pytestmark = [pytest.mark.slow(3), pytest.mark.campaign]

CONFIG = f"""{ON_DISK}
[documents]
inline_bytes_max = "8 KiB"
[retention]
documents_s = 0
sweep_interval_s = 0.2
"""
SIZES = (10, 3000, 20_000, 70_000)
SAMPLE_SHARE = 0.07  # of the states, in the short form
DICE = 3  # random states at each moment
ALL, NOTHING = Survivors(True), Survivors(False)


class Run(NamedTuple):
    """A recorded run of the daemon. The disk in `folder` was empty when it began."""

    folder: Path
    calls: list[trace.Call]
    load: Load


class Cut(NamedTuple):
    """A disk after a power cut, and what had been promised by then."""

    tree: Tree
    acknowledged: frozenset[str]
    call: trace.Call


def record(folder: Path, seed: int) -> Run:
    """A run from the first start to the stop: jobs, deliveries, removals of documents."""
    (folder / "disk").mkdir()
    load = Load(seed, SIZES)
    documents = folder / "disk" / "data" / "documents"
    with running(folder, config=CONFIG, prefix=trace.command(folder / "record")) as daemon:
        load.run(daemon, raw_senders=2, ipp_senders=1, jobs=3)
        wait_until(lambda: not list(documents.glob("*/*")), 30)  # printed, and removed
        assert daemon.end() == 0
    return Run(folder, trace.read(folder / "record", daemon.process.pid), load)


Choose = Callable[[Disk], Iterable[Survivors]]


def some(random: Random) -> Choose:
    """What of the disk's unsynced changes may survive: all, nothing, and chances of each kind; in
    the short form a sample of that.
    """

    def choose(disk: Disk) -> Iterator[Survivors]:
        makers = [lambda: ALL, lambda: NOTHING, *[lambda: Dice(random, disk)] * DICE]
        for make in makers:
            if IS_LONG or random.random() <= SAMPLE_SHARE:
                yield make()
        if IS_LONG:
            yield from disk.choices()

    return choose


def cuts(
    run: Run, choose: Choose, lies: Callable[[str], bool] = lambda path: False
) -> Iterator[Cut]:
    """Power cuts at every moment at which the disk, or what was promised, changes.

    `choose` says which of the states that the disk may be in are looked at.
    """
    (nothing := run.folder / "nothing").mkdir(exist_ok=True)
    disk, answers = Disk(run.folder / "disk", nothing, lies), Answers(run.load)
    seen: set[int] = set()
    for call, is_end in steps(run.calls):
        if is_end:
            answers.leave(call)
            has_changed = disk.leave(call)
        else:
            has_changed = answers.enter(call)
            disk.enter(call)
        if not has_changed:
            continue
        acknowledged = frozenset(answers.acknowledged)
        for survivors in choose(disk):
            tree = disk.tree(survivors)
            key = hash((acknowledged, tuple(sorted(tree.items()))))
            if key not in seen:
                seen.add(key)
                yield Cut(tree, acknowledged, call)
    assert answers.acknowledged == run.load.acknowledged  # nothing was told that is not in it


def problems_of(run: Run, cut: Cut) -> list[str]:
    """What is wrong after a start on the disk that the power cut left."""
    root = run.folder / "left"
    shutil.rmtree(root, ignore_errors=True)
    write_tree(cut.tree, root)
    return audit(root / "data", run.load, set(cut.acknowledged))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return record(tmp_path_factory.mktemp("run"), 1)


def test_no_power_cut_breaks_a_promise(run, tmp_path_factory):
    """In every state that the disk may be in, what was acknowledged is there, whole and once."""
    campaign, states, runs = Campaign(), 0, 0
    random = Random(runs)
    while not (runs and campaign.is_over):
        if runs:
            run = record(tmp_path_factory.mktemp(f"run-{runs}"), runs)
        runs += 1
        assert run.load.acknowledged == run.load.sent.keys()
        for cut in cuts(run, some(random)):
            problems = problems_of(run, cut)
            assert problems == [], f"seed {runs}, after {cut.call}"
            states += 1
            if IS_LONG and campaign.is_over:
                break
    print(f"crash states: {states} of {runs} runs, 0 broken promises")
    assert states >= 100


@pytest.mark.parametrize(
    ("what", "lies"),
    [
        ("documents", lambda path: "/incoming/" in path),
        ("names-of-documents", lambda path: "/documents/" in path),
        ("journal", lambda path: path.endswith("-wal")),
        ("printed-files", lambda path: "/printed/" in path),
        ("data-directory", lambda path: path.endswith("/disk/data")),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_missing_sync_is_seen(run, what, lies):
    """A disk on which one kind of sync does nothing loses what was promised, and this notices."""
    found = cuts(run, lambda disk: [NOTHING], lies)
    assert any(problems_of(run, cut) for cut in found if cut.acknowledged), what
