"""A line between two nodes in one process, that loses what a test wants to lose."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import trio

from spoold.codec import frame
from spoold.daemon.operations import uplink as operations
from spoold.daemon.operations.table import read_arguments
from spoold.model.node import LineState
from spoold.provider.course import Lost
from spoold.site.receiver import Receiver
from spoold.site.uplink import Uplink
from support.sites import HQ, SITE

ARGUMENTS = {one.name: one.arguments for one in operations.OPERATIONS}


def packed(value):
    """A map as it comes out of a message of frames."""
    (item,) = frame.FrameReader().feed(frame.request(1, "x", value))
    return item.args


class Wire:
    """The `Line` of an uplink. `loses` says for a call what is lost: `request`, `answer` or ""."""

    def __init__(self, hq, site=SITE):
        self.site = site
        self.calls = []
        self.loses = lambda op, args: ""
        self._listeners = []
        self.upstream = None
        self.is_connected = False
        self.connect(hq)

    def connect(self, hq):
        """A new connection, to whatever application server there is now."""
        self.receiver = Receiver(hq.journal, hq.reader, hq.wall_clock)
        self.upstream = SimpleNamespace(guid=HQ, name="hq")
        self.is_connected = True
        self._tell(LineState.UP)

    def cut(self):
        self.is_connected = False
        self._tell(LineState.GONE)

    def _tell(self, state):
        for listener in self._listeners:
            listener(state)

    def listen(self, listener):
        self._listeners.append(listener)

    async def call(self, op, args, deadline_s):
        await trio.lowlevel.checkpoint()
        self.calls.append(op)
        lost = self.loses(op, args)
        if not self.is_connected or lost == "request":
            raise Lost("the line is cut")
        read = read_arguments(ARGUMENTS[op], packed(args))
        if op == "site.records":
            answer = await self.receiver.take(self.site, read)
        elif op == "site.stand":
            answer = {"chains": await self.receiver.stand(self.site)}
        else:
            incarnation = UUID(read["incarnation"])
            found = await self.receiver.hash_at(self.site, incarnation, read["position"])
            answer = {"hash": found}
        if lost == "answer" or not self.is_connected:
            raise Lost("the line is cut")
        return packed(answer)


class Sending:
    """`async with Sending(site, wire) as uplink`: an uplink that runs, and tells `first` first."""

    def __init__(self, spool, wire, first=trio.lowlevel.checkpoint):
        self.uplink = Uplink(wire, spool.journal, spool.reader, spool.wall_clock)
        self.uplink.first = first
        self._nursery = trio.open_nursery()

    async def __aenter__(self):
        self._inner = await self._nursery.__aenter__()
        await self._inner.start(self.uplink.run)
        return self.uplink

    async def __aexit__(self, *error):
        self._inner.cancel_scope.cancel()
        return await self._nursery.__aexit__(*error)
