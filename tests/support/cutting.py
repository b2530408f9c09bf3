"""The ways in which the wire between two machines with firewalls can be cut, and mended."""

from __future__ import annotations

import subprocess

from support.link import NEAR


class Cable:
    """Pulled out, at one end."""

    def cut(self, wire):
        wire.pull()

    def mend(self, wire):
        wire.plug()


class Lost:
    """Packets vanish on their way to one machine, or to both, and nobody is told."""

    def __init__(self, *to):
        self._to = to

    def cut(self, wire):
        for where in self._to:
            _nft(wire, where, "add rule inet filter cut iif != lo drop")

    def mend(self, wire):
        for where in self._to:
            _nft(wire, where, "flush chain inet filter cut")


def _nft(wire, where, command):
    wire.run(getattr(wire, where), "nft", command)


class Lossy:
    """A part of all packets vanishes, both ways."""

    def cut(self, wire):
        for where in ("near", "far"):
            rule = "iif != lo numgen random mod 100 < 20 drop"
            _nft(wire, where, f"add rule inet filter cut {rule}")

    def mend(self, wire):
        for where in ("near", "far"):
            _nft(wire, where, "flush chain inet filter cut")


class Reset:
    """Whatever is connected is ended with a reset, once."""

    def cut(self, wire):
        # It complains of those that have ended already.
        wire.run(wire.far, "ss", "-K", "dst", NEAR, stderr=subprocess.DEVNULL)

    def mend(self, wire):
        pass


FAULTS = {  # each of which is noticed
    "pulled": Cable(),
    "black hole": Lost("near", "far"),
    "only to the building": Lost("near"),
    "only from the building": Lost("far"),
    "reset": Reset(),
}
ALL_FAULTS = {**FAULTS, "lossy": Lossy()}
