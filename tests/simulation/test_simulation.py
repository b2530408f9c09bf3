"""Promises hold in a deployment that a seed disturbs.

tests/run tests/simulation --seed 17                                 replays one seed
SPOOLD_CAMPAIGN_S=600 tests/run tests/simulation -m campaign -s      ten minutes of them
PYTHONPATH=tests python -m simulation.campaign --seeds 100000        see there for more
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulation.campaign import Campaign, Failed
from support.campaign import Campaign as Time

pytestmark = [pytest.mark.slow, pytest.mark.campaign]
SEEDS = 60  # in the short form


@pytest.fixture(scope="module")
def campaign():
    with Campaign() as made:
        yield made


def test_promises_hold_for_every_seed(campaign):
    """Whatever goes wrong: jobs have one end and one paper, records and money add up."""
    wanted = os.environ.get("SPOOLD_SEED")
    if wanted is not None:
        check(campaign, int(wanted))
        return
    left, number, begun_s = Time(), 0, time.monotonic()
    while number < SEEDS or not left.is_over:
        check(campaign, number)
        number += 1
    print(f"\n{number} seeds in {time.monotonic() - begun_s:.0f} s")


def check(campaign: Campaign, number: int) -> None:
    try:
        campaign.run(number)
    except Failed as failed:
        trace = "\n".join(failed.trace)
        pytest.fail(f"{failed}\nSPOOLD_SEED={number} replays this:\n{trace}", pytrace=False)


def test_a_seed_is_the_same_again(campaign):
    """In this process, and in another one whose hashes fall out otherwise."""
    first, second = campaign.run(5).digest, campaign.run(5).digest
    assert first == second
    command = [sys.executable, "-m", "simulation.campaign", "--seed", "5"]
    environ = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": "tests"}
    root = Path(__file__).parents[2]
    told = subprocess.run(
        command, env=environ, cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[-1] == first
