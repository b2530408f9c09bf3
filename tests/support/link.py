"""Two machines on one wire: network namespaces with a veth pair, made as root or in a user's own.

`Link.near` and `Link.far` are commands that run another one on the first and the second machine;
`near_pid` and `far_pid` are processes there. Nothing on the wire leaves it. `Avahi` is the service
browser of most Unix desktops, on one of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEAR, FAR = "192.0.2.1", "192.0.2.2"
_READY = "ip link set lo up; echo ready; exec cat"


class CannotMake(Exception):
    """This user may not make namespaces here."""


class Link:
    """Ends with `close`."""

    def __init__(self) -> None:
        self._enter = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
        self._holders: list[subprocess.Popen] = []
        try:
            self._hold(unshare)
            self.near = self._prefix(self._holders[0])
            self.near_pid = self._holders[0].pid
            self._hold([*self.near, "unshare", "-n"])
            self.far = self._prefix(self._holders[1])
            self.far_pid = self._holders[1].pid
            other = str(self._holders[1].pid)
            self.run(self.near, "ip", "link", "add", "v0", "type", "veth",
                     "peer", "name", "v1", "netns", other)  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise CannotMake(str(error)) from error
        for where, name, address in ((self.near, "v0", NEAR), (self.far, "v1", FAR)):
            self.run(where, "ip", "address", "add", f"{address}/24", "dev", name)
            self.run(where, "ip", "link", "set", name, "up")

    def _hold(self, unshare: list[str]) -> None:
        """A process that keeps a namespace open."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        holder = subprocess.Popen([*unshare, "sh", "-c", _READY], **pipes)
        self._holders.append(holder)
        if holder.stdout.readline() != b"ready\n":
            raise OSError("no namespace")

    def _prefix(self, holder: subprocess.Popen) -> list[str]:
        return ["nsenter", "-t", str(holder.pid), *self._enter, "-n"]

    def run(self, where: list[str], *command: str, **more) -> str:
        """What the command writes; it must succeed."""
        done = subprocess.run(
            [*where, *command], stdout=subprocess.PIPE, text=True, timeout=60, check=True, **more
        )
        return done.stdout

    def pull(self) -> None:
        """Unplug the wire."""
        self.run(self.near, "ip", "link", "set", "v0", "down")

    def plug(self) -> None:
        self.run(self.near, "ip", "link", "set", "v0", "up")

    def close(self) -> None:
        for holder in reversed(self._holders):
            with holder:
                holder.stdin.close()


@contextmanager
def link() -> Iterator[Link]:
    """Two machines.

    Raises:
        CannotMake: not as this user.
    """
    made = Link()
    try:
        yield made
    finally:
        made.close()


_BUS = """<busconfig><type>system</type><listen>unix:path={bus}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>
"""
_AVAHI = """[server]
host-name=far
use-ipv6=no
disallow-other-stacks=no
"""
# Its files lie where no other Avahi of this machine sees them.
_START = """
mount -t tmpfs none /run && mkdir /run/avahi-daemon
dbus-daemon --nofork --nopidfile --config-file="$1" & bus=$!
while [ ! -S "$3" ]; do sleep 0.05; done
avahi-daemon --file="$2" --no-drop-root --no-chroot --no-proc-title --no-rlimits & avahi=$!
echo ready
cat
kill "$avahi" "$bus"; wait
"""


class Avahi:
    """An Avahi with a bus of its own; `run` runs a program that asks it."""

    def __init__(self, link: Link, where: list[str], folder: Path) -> None:
        self._link, self._where = link, where
        bus = folder / "bus"
        (folder / "bus.conf").write_text(_BUS.format(bus=bus))
        (folder / "avahi.conf").write_text(_AVAHI)
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}"}
        self._log = (folder / "avahi.log").open("wb")
        self._process = subprocess.Popen(
            [*where, "unshare", "-m", "sh", "-c", _START, "sh",
             folder / "bus.conf", folder / "avahi.conf", bus],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=self.environment,
        )  # fmt: skip
        assert self._process.stdout.readline() == b"ready\n", (folder / "avahi.log").read_text()
        self._wait_running()

    def _wait_running(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                self.run("avahi-browse", "-t", "_none._tcp", stderr=subprocess.DEVNULL)
                return
            except subprocess.CalledProcessError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def run(self, *command: str, **more) -> str:
        return self._link.run(self._where, *command, env=self.environment, **more)

    def browse(self, kind: str) -> dict[str, dict[str, str]]:
        """The services of a kind that answer now: name -> `host`, `address`, `port`, and their keys
        of the TXT record.
        """
        found = {}
        for line in self.run("avahi-browse", "-rpt", kind).splitlines():
            parts = line.split(";", 9)
            if parts[0] == "=":
                keys = re.findall(r'"([^"=]+)=([^"]*)"', parts[9])
                found[unescaped(parts[3])] = {
                    "host": parts[6], "address": parts[7], "port": parts[8], **dict(keys)
                }  # fmt: skip
        return found

    def watch(self, kind: str) -> subprocess.Popen:
        """A browser that writes a line for each service that comes (+) and goes (-)."""
        return subprocess.Popen(
            [*self._where, "stdbuf", "-oL", "avahi-browse", "-p", kind],
            stdout=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip

    def close(self) -> None:
        with self._process:
            self._process.stdin.close()
        self._log.close()


def unescaped(name: str) -> str:
    """A name as Avahi writes it, each odd octet as a backslash and three decimal digits."""
    octets = re.sub(
        rb"\\(\d{3}|.)",
        lambda one: bytes([int(one[1])]) if len(one[1]) == 3 else one[1],
        name.encode(),
    )
    return octets.decode()
