"""Promises hold in a deployment that a seed disturbs, and bugs that somebody plants are found.

SPOOLD_SEED=17 replays one seed; SPOOLD_CAMPAIGN_S=600 gives them ten minutes. More is in README.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulation.campaign import Campaign, Failed, search
from simulation.planted import BUGS
from support.campaign import IS_LONG
from support.campaign import Campaign as Time

pytestmark = [pytest.mark.slow(3), pytest.mark.campaign]
WANTED = os.environ.get("SPOOLD_SEED")
SEEDS, TOGETHER = 300, 20  # of the short form, and of one test of it
SEARCHED = 500  # seeds within which a planted bug must be found


@pytest.fixture(scope="module")
def campaign():
    with Campaign() as made:
        yield made


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_promises_hold_for_every_seed(campaign, first):
    """Whatever goes wrong: jobs have one end and one paper, records and money add up."""
    for number in range(first, first + TOGETHER) if WANTED is None else [int(WANTED)]:
        check(campaign, number)


@pytest.mark.skipif(not IS_LONG, reason="SPOOLD_CAMPAIGN_S says for how long")
def test_promises_hold_for_as_many_seeds_as_there_is_time_for(campaign):
    """From where the short form ends."""
    left, number, begun_s = Time(), SEEDS, time.monotonic()
    while not left.is_over:
        check(campaign, number)
        number += 1
    print(f"\n{number - SEEDS} seeds in {time.monotonic() - begun_s:.0f} s")


def check(campaign: Campaign, number: int) -> None:
    try:
        campaign.run(number)
    except Failed as failed:
        trace = "\n".join(failed.trace)
        pytest.fail(f"{failed}\nSPOOLD_SEED={number} replays this:\n{trace}", pytrace=False)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(campaign, name):
    """Soon from a seed on that has found it; a long campaign searches from the first one on."""
    first = 0 if IS_LONG else BUGS[name].seed
    assert search(campaign, name, range(first, first + SEARCHED)) is not None


def test_a_seed_is_the_same_again(campaign):
    """In this process, and in another one whose hashes fall out otherwise."""
    first, second = campaign.run(5).digest, campaign.run(5).digest
    assert first == second
    command = [sys.executable, "-m", "simulation", "--seed", "5"]
    environ = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": "tests"}
    root = Path(__file__).parents[2]
    told = subprocess.run(
        command, env=environ, cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[-1] == first
