"""A line over a real wire between two machines: what it costs idle, and how soon its end shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from spoold.provider.blocking import ControlClient
from spoold.provider.receipt import Unreachable
from support.link import FAR, NEAR, CannotMake, link
from support.peers import wait_until

pytestmark = pytest.mark.slow

IDLE_S = 8
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
[listen]
clear = []
tls = []
mutual = []
[dnssd]
enabled = false
"""


class Machine:
    """A daemon in a process of its own, on its side of the wire."""

    def __init__(self, where, folder, name, config):
        self._where, self._file = where, folder / f"{name}.toml"
        self._file.write_text(config)
        self.control = folder / name / "control"
        self._log = folder / f"{name}.log"
        self.start()

    def start(self):
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._where, sys.executable, "-m", "spoold", "serve", "--config", self._file],
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, 20)

    def answers(self):
        try:
            return self.ask("status")["state"] == "up"
        except (Unreachable, OSError):
            return False

    def ask(self, op, **args):
        with ControlClient(self.control) as client:
            return client.call(op, args)

    def pid(self):
        """The daemon's own process, behind whatever entered the namespace."""
        found = subprocess.run(
            ["pgrep", "-f", str(self._file)], capture_output=True, text=True, check=True
        )
        return max(map(int, found.stdout.split()))

    def changes(self, state):
        """When the line went to this state, in seconds since the epoch."""
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
            self.process.terminate()
        self.process.wait(20)


@contextmanager
def machines(tmp_path):
    """`hq` and a site that has joined it, each on its machine, and the wire between them."""
    try:
        with link() as wire:
            hq = Machine(wire.near, tmp_path, "hq", HQ)
            site = Machine(wire.far, tmp_path, "library", SITE)
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


def gone_after(site, began, times):
    """How long after `began` the site noticed that the line is gone, once more than `times`."""
    wait_until(lambda: len(site.changes("gone")) > times, 10)
    return site.changes("gone")[-1] - began


def test_an_idle_line_costs_little(tmp_path):
    """Heartbeats and all else that a site does by itself: under 2 kB/s of IP, both ways."""
    with machines(tmp_path) as (_, site, wire):
        time.sleep(5)  # the copy and the journal have gone over
        before, packets = counted(wire)
        time.sleep(IDLE_S)
        after, now = counted(wire)
        rate = (after - before) / IDLE_S
        print(f"{rate:.0f} bytes/s, {(now - packets) / IDLE_S:.1f} packets/s")
        assert 100 < rate < IDLE_BYTES_S
        assert site.ask("site.line")["line"] == "up"


def test_nothing_reaches_the_site_from_the_application_server(tmp_path):
    """The site has no open port at all, and everything goes over the line that it opened."""
    with machines(tmp_path) as (hq, site, wire):
        sockets = wire.run(wire.far, "ss", "-Hltn")
        assert sockets.strip() == ""
        hq.ask("user.add", name="ada", password="correct horse battery staple")
        wait_until(lambda: site.ask("user.list")["users"], 10)
        peers = wire.run(wire.near, "ss", "-Htn", "state", "established")
        assert f"{NEAR}:9195" in peers
        assert FAR in peers


def test_the_end_of_a_line_shows_soon_however_it_ends(tmp_path):
    """A pulled cable, a process that stands still, and one that is killed; and the way back."""
    with machines(tmp_path) as (hq, site, wire):
        time.sleep(2)
        began = time.time()
        wire.pull()
        assert 0.2 < gone_after(site, began, 0) < 1.25
        began = time.time()
        wire.plug()
        wait_until(lambda: len(site.changes("up")) == 2, 30)
        assert site.changes("up")[-1] - began > 1.9

        pid = hq.pid()
        began = time.time()
        os.kill(pid, signal.SIGSTOP)
        try:
            silent_s = gone_after(site, began, 1)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert 0.2 < silent_s < 1.25
        wait_until(lambda: len(site.changes("up")) == 3, 30)

        began = time.time()
        os.kill(hq.pid(), signal.SIGKILL)
        reset_s = gone_after(site, began, 2)
        assert reset_s < 0.25
        hq.end()
        hq.start()
        wait_until(lambda: len(site.changes("up")) == 4, 30)
        print(f"silent: {silent_s * 1000:.0f} ms, reset: {reset_s * 1000:.0f} ms")
