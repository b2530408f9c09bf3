"""A building and its application server under several faults at once, in any order."""

from __future__ import annotations

import os
import random
import shutil
import signal
from uuid import uuid4

import pytest

from support.building import LONG_S, spoold
from support.campaign import Campaign
from support.cutting import ALL_FAULTS
from support.peers import wait_until

pytestmark = [pytest.mark.slow(6), pytest.mark.campaign]

SEED = int(os.environ.get("SPOOLD_SEED", "1"))
STEPS = (3, 6)  # the fewest and the most of a round


class Nemesis:
    """Does one harm after the other; `heal` ends what lasts."""

    def __init__(self, building, backups, rng):
        self._building, self._backups, self._rng = building, backups, rng
        self._cut = None
        self._stopped = False
        self.done = []

    def step(self):
        nodes = (self.kill_hq, self.restore_hq, self.stop_hq, self.kill_site, self.back_up)
        harm = self._rng.choice((self.cut, self.mend, *nodes))
        self.done.append(harm.__name__)
        harm()

    def cut(self):
        self.mend()
        name = self._rng.choice(sorted(ALL_FAULTS))
        self.done.append(name)
        self._cut = ALL_FAULTS[name]
        self._cut.cut(self._building.wire)

    def mend(self):
        if self._cut is not None:
            self._cut.mend(self._building.wire)
        self._cut = None

    def stop_hq(self):
        """It stands still, for a part of a round."""
        self._building.hq.process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def go_on(self):
        if self._stopped:
            self._building.hq.process.send_signal(signal.SIGCONT)
        self._stopped = False

    def kill_hq(self):
        self._building.hq.end(signal.SIGKILL)
        self._stopped = False
        self._building.start_hq()

    def back_up(self):
        self.go_on()
        spoold("backup", str(self._backups), "--control", str(self._building.hq.control))

    def restore_hq(self):
        self._building.hq.end(signal.SIGKILL)
        self._stopped = False
        config = str(self._building.hq_folder / "spoold.toml")
        spoold("restore", str(self._backups), "--replace", "--config", config)
        for aside in (self._building.disks["hq"] / "data").glob("before-restore-*"):
            shutil.rmtree(aside)
        self._building.start_hq()

    def kill_site(self):
        self._building.site.end(signal.SIGKILL)
        self._building.start_site()

    def heal(self):
        self.mend()
        self.go_on()


def test_nothing_is_lost_whatever_happens_at_once(building, tmp_path):
    """After each round all that was acknowledged is there once, and changes of hq arrive."""
    rng = random.Random(SEED)
    campaign = Campaign()
    nemesis = Nemesis(building, tmp_path, rng)
    nemesis.back_up()
    rounds = 0
    while True:
        nemesis.done.clear()
        try:
            for _ in range(rng.randint(*STEPS)):
                nemesis.step()
                building.work(rng.randint(1, 4))
            nemesis.heal()
            building.work(1)
            building.settle()
            building.hq.call("user.add", name=f"user{uuid4().hex}")
            wait_until(building.is_copied, LONG_S)
        except BaseException:
            print(f"seed {SEED}, round {rounds}: {', '.join(nemesis.done)}")
            raise
        rounds += 1
        if campaign.is_over:
            break
    print(f"seed {SEED}: {rounds} rounds, {len(building.sent)} jobs")


async def test_all_of_it_verifies(building):
    """Both chains, the ledgers, and each record of the site at hq."""
    building.close()
    await building.verify()
