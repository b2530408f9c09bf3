"""The power goes while jobs come in, again and again: the real daemon, started on what is left.

Each episode begins with an empty disk. A daemon takes jobs over raw, frames and IPP until the power
is cut at some moment; what is left is audited (`support.audit`), and the next daemon starts on it.
At the end of an episode everything that was ever acknowledged is there, once, and prints.

The disk is a simulated one (`support.disk`): the daemon runs under strace, and what was not synced
is lost, torn or out of order. In the long form, for root, it is also a real one: an ext4 on a loop
device, shut down as by a power cut (EXT4_IOC_SHUTDOWN). CI runs an episode; the long form goes on
for as long as `SPOOLD_CAMPAIGN_S` says, and prints its figures:

    SPOOLD_CAMPAIGN_S=600 tests/run -s tests/crash/test_power_cut.py
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from support import trace
from support.audit import audit
from support.campaign import IS_LONG, Campaign
from support.disk import Dice, Disk, steps, write_tree
from support.load import Answers, Load
from support.peers import wait_until
from support.process import ON_DISK, Daemon, all_jobs, running

pytestmark = [pytest.mark.slow(6), pytest.mark.campaign]

CONFIG = f"""{ON_DISK}
[retention]
sweep_interval_s = 0.2
"""
SIZES = (10, 4000, 60_000, 300_000, *([1_500_000] if IS_LONG else []))
CUTS = 8 if IS_LONG else 3  # of one episode
LOAD_S = (0.05, 0.8 if IS_LONG else 0.3)  # after which the power goes
JOBS = 1000  # more than there is time for
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
IMAGE_BYTES = 4 << 30  # with holes: it takes what is written
WAITING = {"pending", "processing", "processing-stopped"}


class SimulatedDisk:
    """`root` is what is on it. The moment of a cut is chosen afterwards, from the record."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.root = folder / "disk"
        self._record = folder / "record"
        self._random = random

    def power_on(self) -> list[str]:
        """The command before that of the daemon."""
        self._disk = Disk(self.root)
        return trace.command(self._record)

    def cut(self, daemon: Daemon, load: Load) -> set[str]:
        """Cut the power; returns what had been acknowledged in this run by then."""
        daemon.end(signal.SIGKILL)
        calls = trace.read(self._record, daemon.process.pid)
        moments = list(steps(calls))
        # Most of them are of the start, whatever it is that comes in later.
        last = self._random.choice((len(moments), self._random.randrange(len(moments))))
        answers = Answers(load)
        for call, is_end in moments[:last]:
            if is_end:
                answers.leave(call)
                self._disk.leave(call)
            else:
                answers.enter(call)
                self._disk.enter(call)
        tree = self._disk.tree(Dice(self._random, self._disk))
        shutil.rmtree(self.root)
        write_tree(tree, self.root)
        return answers.acknowledged


class Ext4:
    """A real file system, mounted at `root`."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.root = folder / "disk"
        self.root.mkdir(exist_ok=True)
        self._image = folder / "image"
        with self._image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", str(self._image))
        self._mount()

    def power_on(self) -> list[str]:
        return []

    def cut(self, daemon: Daemon, load: Load) -> set[str]:
        # It stands still first: the cut takes its time, and what is told meanwhile is not lost yet.
        daemon.process.send_signal(signal.SIGSTOP)
        os.waitpid(daemon.process.pid, os.WUNTRACED)
        folder = os.open(self.root, os.O_RDONLY)
        fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(folder)
        daemon.end(signal.SIGKILL)
        self.close()
        self._mount()
        return set(load.acknowledged)

    def _mount(self) -> None:
        # A device of its own each time: where a copy of the mounts is held elsewhere, the one
        # before still stands for the file system that was shut down.
        self._device = _run("losetup", "--find", "--show", str(self._image))
        _run("mount", self._device, str(self.root))

    def close(self) -> None:
        wait_until(lambda: subprocess.run(["umount", self.root], check=False).returncode == 0)
        _run("losetup", "--detach", self._device)


def _run(*command: str) -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    return done.stdout.strip()


@contextmanager
def simulated(folder: Path, random: Random):
    disk = SimulatedDisk(folder, random)
    disk.root.mkdir()
    yield disk


@contextmanager
def ext4(folder: Path, random: Random):
    disk = Ext4(folder, random)
    try:
        yield disk
    finally:
        disk.close()


class Episode:
    """A spool from its first start on. `load` knows what was promised in it so far."""

    def __init__(self, folder: Path, disk, seed: int) -> None:
        self._folder = folder
        self._disk = disk
        self._random = Random(seed)
        self.load = Load(seed, SIZES)

    def cut(self) -> None:
        """Start the daemon on what is left, send jobs again and new ones, and cut the power."""
        load, before = self.load, set(self.load.acknowledged)
        with self._daemon(self._disk.power_on()) as daemon:
            sending = threading.Thread(target=self._send, args=(daemon,))
            sending.start()
            time.sleep(self._random.uniform(*LOAD_S))
            kept = before | self._disk.cut(daemon, load)
            sending.join()
        # What came after the moment of the cut has not been: nobody was told anything.
        load.acknowledged = kept
        load.receipts = {name: id_ for name, id_ in load.receipts.items() if name in kept}
        left = self._folder / "left"
        shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(self._disk.root, left, ignore=shutil.ignore_patterns("control"))
        assert audit(left / "data", load, load.acknowledged) == []

    def end(self) -> None:
        """A last start: all is there, and prints."""
        with self._daemon([]) as daemon:
            self.load.send_again(daemon)
            wait_until(lambda: WAITING.isdisjoint(job["state"] for job in all_jobs(daemon.control)))
            # What was made without its document waits for it; nobody was told more.
            jobs = [job for job in all_jobs(daemon.control) if "job-incoming" not in job["reasons"]]
            names = [job["uuid"] if job["intake"] == "frames" else job["title"] for job in jobs]
            assert self.load.acknowledged <= set(names)
            assert len(names) == len(set(names))
            assert {job["state"] for job in jobs} <= {"completed"}
            assert daemon.end() == 0
        assert audit(self._disk.root / "data", self.load, self.load.acknowledged) == []

    def _send(self, daemon: Daemon) -> None:
        self.load.send_again(daemon)
        self.load.run(daemon, raw_senders=2, ipp_senders=2, jobs=JOBS)

    def _daemon(self, prefix: list[str]):
        return running(self._folder, config=CONFIG, prefix=prefix)


DISKS = {"simulated": simulated, "ext4": ext4}


@pytest.mark.parametrize("kind", DISKS)
def test_what_was_acknowledged_survives_power_cuts(tmp_path, kind):
    """Whatever is lost with the power: acknowledged jobs are there, once, under their numbers."""
    if kind == "ext4" and not (IS_LONG and os.geteuid() == 0):
        pytest.skip("a real file system is for the long form, and for root")
    campaign, episodes, cuts, jobs = Campaign(), 0, 0, 0
    while not (episodes and campaign.is_over):
        folder = tmp_path / str(episodes)
        folder.mkdir()
        episodes += 1
        with DISKS[kind](folder, Random(episodes)) as disk:
            episode = Episode(folder, disk, episodes)
            for _ in range(CUTS):
                episode.cut()
                cuts += 1
            episode.end()
            jobs += len(episode.load.acknowledged)
        shutil.rmtree(folder)
    print(f"{kind}: {cuts} power cuts in {episodes} episodes, {jobs} acknowledged jobs, 0 lost")
