"""A building and its application server that die, come back as of yesterday, or run out of disk."""

from __future__ import annotations

import signal
from contextlib import suppress
from uuid import uuid4

import pytest

from spoold.model.errors import OperationError
from spoold.provider.receipt import SubmitError
from support.building import LONG_S, spoold
from support.clock import Clock
from support.peers import wait_until

pytestmark = pytest.mark.slow(2)

DAY_S = 86_400


def test_a_full_disk_of_the_building_refuses_jobs_and_releases_others(building):
    """Nothing that was refused is there; with room again it goes on by itself."""
    building.work(2)
    waiting = building.submit()
    ballast = building.disks["site"] / "ballast"
    fill(ballast)
    wait_until(lambda: not accepts(building), LONG_S)
    building.release(waiting)
    ballast.unlink()
    wait_until(lambda: accepts(building), LONG_S)
    building.work()
    building.settle()


def test_a_full_disk_of_the_application_server_is_none_of_the_building(building):
    """What cannot be taken in waits at the site, and goes up when there is room again."""
    ballast = building.disks["hq"] / "ballast"
    wait_until(lambda: is_stuck(building.hq, ballast), LONG_S)
    building.work()
    ballast.unlink()
    building.settle()


def is_stuck(node, ballast):
    """Whether nothing can be changed there any more: what is kept back for a full disk is used."""
    fill(ballast)
    try:
        node.call("user.add", name=f"user{uuid4().hex}")
    except OperationError:
        return True
    return False


def fill(file):
    """Until there is no room any more; what is kept back for a full disk stays."""
    with file.open("ab", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(1 << 20))


def accepts(building):
    try:
        building.submit(timeout_s=2)
    except SubmitError:
        return False
    return True


@pytest.mark.parametrize("point", ["uplink-acknowledged:2", "commit-before:30", "commit-after:30"])
def test_a_site_killed_in_the_midst_loses_nothing(building, point):
    """In the midst of a commit, and of records on their way up."""
    with building.site_kept(point) as ends:
        building.work(8)
        wait_until(lambda: ends, LONG_S)
        assert ends == [-signal.SIGKILL]
    building.settle()


def test_a_site_killed_in_the_midst_of_an_upload_has_the_job_once(building):
    """The provider goes on where it was, with the site that was started again."""
    killed = []

    def kill(sent, size):
        if sent > size // 2 and not killed:
            killed.append(sent)
            building.site.process.kill()

    with building.site_kept() as ends:
        building.submit(8 << 20, progress=kill)
        assert ends == [-signal.SIGKILL]
    building.settle()


@pytest.mark.parametrize("is_restored", [False, True], ids=["as it was", "from a backup"])
def test_an_application_server_that_died_comes_back(building, tmp_path, is_restored):
    """As it was, and from yesterday's backup: the site sends again what that does not have, and
    forgets what was made at hq since.
    """
    hq, name = building.hq, f"user{int(is_restored)}"
    spoold("backup", str(tmp_path), "--control", str(hq.control))
    building.work()
    hq.call("user.add", name=name)
    wait_until(lambda: building.knows(name), LONG_S)
    building.settle()
    hq.end(signal.SIGKILL)
    building.work()
    if is_restored:
        config = str(building.hq_folder / "spoold.toml")
        spoold("restore", str(tmp_path), "--replace", "--config", config)
    building.start_hq()
    building.work()
    building.settle()
    wait_until(lambda: building.knows(name) is not is_restored, LONG_S)


def test_a_clock_that_is_set_back_does_no_harm(building, tmp_path):
    """By a day while the site runs, and by more than its certificate is old while it is down."""
    clock = Clock(tmp_path)
    building.site.end()
    building.start_site(around=clock.around)
    building.wait_line("up")
    building.work()
    clock.set(-DAY_S)
    building.work()
    building.settle()
    building.site.end()
    clock.set(-400 * DAY_S)
    building.start_site(around=clock.around)
    building.work()
    building.settle()
    building.site.end()
    building.start_site()
    building.work()
    building.settle()


async def test_all_of_it_verifies(building):
    """Both chains, the ledgers, and each record of the site at hq."""
    building.close()
    await building.verify()
