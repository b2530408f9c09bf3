"""A line over a real wire between two machines: what it costs idle, and how soon its end shows."""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager

import pytest

from spoold.provider.blocking import ControlClient
from spoold.provider.receipt import Unreachable
from support.forking import Forked
from support.link import FAR, NEAR, CannotMake, link
from support.peers import wait_until

pytestmark = pytest.mark.slow(6)

IDLE_S = 5
IDLE_BYTES_S = 2000
ETHERNET_BYTES = 14  # of each packet, that the Internet Protocol knows nothing of
HQ = f"""
[node]
name = "hq"
data_dir = "hq"
[advertise]
names = ["{NEAR}"]
endpoints = ["{NEAR}:9195"]
[listen]
clear = []
tls = []
mutual = ["{NEAR}:9195"]
[dnssd]
enabled = false
"""
# It listens nowhere: whatever comes from elsewhere finds nothing.
SITE = """
[node]
name = "library"
role = "site"
data_dir = "library"
[upstream]
connect_timeout_s = 1.0
retry_max_s = 0.5
[listen]
clear = []
tls = []
mutual = []
[dnssd]
enabled = false
"""


class Machine:
    """A daemon in a process of its own, on its side of the wire: where the process `where` is."""

    def __init__(self, where, folder, name, config):
        self._where, self._file = where, folder / f"{name}.toml"
        self._file.write_text(config)
        self.control = folder / name / "control"
        self._log = folder / f"{name}.log"
        self.start()

    def start(self):
        with self._log.open("ab") as log:
            self.process = Forked(
                self._where, "serve", "--config", self._file, module="support.entering",
                stdout=log.fileno(), stderr=log.fileno(),
            )  # fmt: skip
        wait_until(self.answers)

    def answers(self):
        try:
            return self.ask("status")["state"] == "up"
        except (Unreachable, OSError):
            return False

    def ask(self, op, **args):
        with ControlClient(self.control) as client:
            return client.call(op, args)

    def changes(self, state):
        """The times at which the line went to this state, in seconds since the epoch."""
        records = []
        start = 1
        while page := self.ask("journal.read", **{"from": start, "limit": 500})["records"]:
            records += page
            start = page[-1]["position"] + 1
        return [
            one["event_us"] / 1e6
            for one in records
            if one["kind"] == "line-changed" and one["payload"]["line"] == state
        ]

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@contextmanager
def machines(tmp_path):
    """`hq` and a site that has joined it, each on its machine, and the wire between them."""
    try:
        with link() as wire:
            hq = Machine(wire.near_pid, tmp_path, "hq", HQ)
            site = Machine(wire.far_pid, tmp_path, "library", SITE)
            try:
                token = hq.ask("site.invite", name="library", is_approved=True)["token"]
                assert site.ask("site.enter", server=f"{NEAR}:9195", token=token)["line"] == "up"
                yield hq, site, wire
            finally:
                site.end()
                hq.end()
    except CannotMake as error:
        pytest.skip(f"no network namespaces here: {error}")


def counted(wire):
    """(bytes of IP, packets) that have passed the wire, both ways."""
    told = json.loads(wire.run(wire.near, "ip", "-s", "-j", "link", "show", "v0"))[0]["stats64"]
    packets = told["rx"]["packets"] + told["tx"]["packets"]
    return told["rx"]["bytes"] + told["tx"]["bytes"] - ETHERNET_BYTES * packets, packets


def is_up(site):
    return site.ask("site.line")["line"] == "up"


@contextmanager
def noticed(site):
    """The site has noticed, when this is left, that the line was gone; answers how soon it did.

    The figure of seconds is for who reads it; what they may be is measured elsewhere
    (`benchmarks`), on a machine without other work.
    """
    wait_until(lambda: is_up(site))
    times, began, took = len(site.changes("gone")), time.time(), []
    yield took
    wait_until(lambda: len(site.changes("gone")) > times)
    took.append(site.changes("gone")[times] - began)


def idle_rate(site, wire):
    """Bytes of IP a second while the line was up all along; None when it was not."""
    times = len(site.changes("gone"))
    before, _ = counted(wire)
    time.sleep(IDLE_S)
    after, _ = counted(wire)
    return (after - before) / IDLE_S if len(site.changes("gone")) == times else None


def test_an_idle_line_costs_little(tmp_path):
    """Heartbeats and all else that a site does by itself: under 2 kB/s of IP, both ways."""
    with machines(tmp_path) as (_, site, wire):
        wait_until(lambda: site.ask("journal.status")["upstream"]["lag"] == 0)

        def is_cheap():  # once the copy has gone over, too
            rate = idle_rate(site, wire)
            print(rate, "bytes/s")
            return rate is not None and 100 < rate < IDLE_BYTES_S

        wait_until(is_cheap)


def test_nothing_reaches_the_site_from_the_application_server(tmp_path):
    """The site has no open port at all, and everything goes over the line that it opened."""
    with machines(tmp_path) as (hq, site, wire):
        sockets = wire.run(wire.far, "ss", "-Hltn")
        assert sockets.strip() == ""
        hq.ask("user.add", name="ada", password="correct horse battery staple")
        wait_until(lambda: site.ask("user.list")["users"])
        peers = wire.run(wire.near, "ss", "-Htn", "state", "established")
        assert f"{NEAR}:9195" in peers
        assert FAR in peers


def test_the_end_of_a_line_shows_soon_however_it_ends(tmp_path):
    """A pulled cable, a process that stands still, and one that is killed; and the way back."""
    with machines(tmp_path) as (hq, site, wire):
        with noticed(site) as pulled_s:
            wire.pull()
        times, began = len(site.changes("up")), time.time()
        wire.plug()
        wait_until(lambda: len(site.changes("up")) > times)
        assert site.changes("up")[times] - began > 1.9  # it has to hold for a while

        with noticed(site) as silent_s:
            hq.process.send_signal(signal.SIGSTOP)
        hq.process.send_signal(signal.SIGCONT)

        with noticed(site) as killed_s:
            hq.process.kill()
        hq.end()
        hq.start()
        wait_until(lambda: is_up(site))
        for words, took in (("pulled", pulled_s), ("silent", silent_s), ("killed", killed_s)):
            print(f"{words}: {took[0] * 1000:.0f} ms")
        assert max(pulled_s + silent_s + killed_s) < 5
