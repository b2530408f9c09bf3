"""A building whose line to its application server is cut, in every way that a line can be."""

from __future__ import annotations

import time

import pytest

from support.building import LONG_S
from support.cutting import FAULTS
from support.link import FAR
from support.peers import records, wait_until

pytestmark = pytest.mark.slow(2)


def gone(site):
    """How often the line went away."""
    return sum(one["payload"]["line"] == "gone" for one in records(site, "line-changed"))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_building_goes_on_without_its_line(building, fault):
    """Every job and release is taken meanwhile, and all is at hq once when the line is back."""
    # A line that was cut often has to hold for longer each time: a new site does not know of that.
    building.site.end()
    building.start_site()
    building.wait_line("up")
    building.work(2)
    before = gone(building.site)
    fault.cut(building.wire)
    building.work()
    wait_until(lambda: gone(building.site) > before, LONG_S)
    building.work()
    name = f"user{time.monotonic_ns()}"
    building.hq.call("user.add", name=name)
    fault.mend(building.wire)
    building.settle()
    wait_until(lambda: building.knows(name), LONG_S)


KNOCK = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), 0.5)
    except TimeoutError:
        print(port, "is silent")
"""


def test_nobody_gets_into_the_building(building):
    """The site listens on all its ports, and its firewall lets nothing in."""
    wire, ports = building.wire, ("9191", "9192", "9195")
    listening = wire.run(wire.far, "ss", "-Hltn")
    assert all(f"{FAR}:{port}" in listening for port in ports)
    said = wire.run(wire.near, "python3", "-c", KNOCK, FAR, *ports)
    assert said.splitlines() == [f"{port} is silent" for port in ports]


async def test_all_of_it_verifies(building):
    """Both chains, the ledgers, and each record of the site at hq."""
    building.close()
    await building.verify()
