"""The real process, killed while MFDs report what was made.

What was reported before or after the kill, once, twice or in another order, is charged once; the
session that was open goes on, and one that was closed stays closed.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.provider.course import Lost
from spoold.provider.endpoint import Tls
from spoold.simulate.mfd import Mfd
from support.process import CONFIG, Daemon, running

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"
WORKS = 12
PAGES = 3
PRICE = 100  # 1/10,000 a page
WITH_TLS = CONFIG.replace("tls = []", 'tls = ["127.0.0.1:0"]')
CRASH_POINTS = [  # the first two commits may be those of the start
    ("commit-before", 4),
    ("commit-after", 4),
    ("commit-after", 5),
    ("commit-before", 6),
    ("commit-after", 7),
]


def furnish(daemon: Daemon, folder: Path) -> str:
    """A printer that charges, Ada without a limit, and the token of an MFD."""
    daemon.call("printer.set", name="default", charging="on")
    daemon.call("price.set", rates=[{"price": PRICE}])
    daemon.call("user.add", name="ada", password=PASSWORD, restricted=False)
    (folder / "ca.crt").write_text(daemon.call("node.ca")["pem"])
    enrolled = daemon.call("device.enrol", name="panel", printers=["default"], credential="token")
    return enrolled["token"]


def mfd_of(daemon: Daemon, folder: Path, token: str) -> Mfd:
    return Mfd([daemon.ports["tls"]], Tls(folder / "ca.crt"), token=token)


async def work(mfd: Mfd, session: str, turns: trio.Semaphore, number: int) -> None:
    """Half of the work is asked for first; all of it is reported."""
    async with turns:
        await _work(mfd, session, f"work-{number}", number)


async def _work(mfd: Mfd, session: str, key: str, number: int) -> None:
    mfd.session = session
    if number % 2:
        try:
            await mfd.authorize("copy", key, pages=PAGES + 2)
        except OperationError as error:
            if error.code != "conflict":  # it was reported before the kill
                raise
    await mfd.report("copy", key, [{"impressions": PAGES}])


async def all_at_once(mfd: Mfd, session: str) -> None:
    """Until the node is killed, or all is done; a few at a time, so that it takes some commits."""
    turns = trio.Semaphore(3)
    try:
        async with mfd.opened(), trio.open_nursery() as nursery:
            for number in range(WORKS):
                nursery.start_soon(work, mfd, session, turns, number)
    except* Lost:
        pass


async def begin(mfd: Mfd) -> str:
    async with mfd.opened():
        await mfd.login(name="ada", password=PASSWORD)
        await mfd.logout()
        return (await mfd.login(name="ada", password=PASSWORD))["session"]


async def balance(mfd: Mfd, session: str) -> int:
    async with mfd.opened():
        mfd.session = session
        return (await mfd.resume())["balance"]


@pytest.mark.parametrize(("point", "count"), CRASH_POINTS)
def test_what_was_made_is_charged_once_whatever_is_killed(tmp_path, point, count):
    """At each of some commits the node dies; every report is sent again, twice."""
    with running(tmp_path, config=WITH_TLS) as daemon:
        token = furnish(daemon, tmp_path)
        session = trio.run(begin, mfd_of(daemon, tmp_path, token))
        daemon.end(signal.SIGKILL)
    with running(tmp_path, crash_point=f"{point}:{count}", config=WITH_TLS) as daemon:
        trio.run(all_at_once, mfd_of(daemon, tmp_path, token), session)
        assert daemon.process.wait(30) == -signal.SIGKILL
    with running(tmp_path, config=WITH_TLS) as daemon:
        for _ in range(2):
            trio.run(all_at_once, mfd_of(daemon, tmp_path, token), session)
        paid = trio.run(balance, mfd_of(daemon, tmp_path, token), session)
        assert paid == -WORKS * PAGES * PRICE
