"""A listener over a real spool, with ports as a test wants them."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import trio
import trio.testing

from spoold.codec.raw import Protocol
from spoold.intake.listener import Listener, Rules
from spoold.model.principal import Port, Principal
from spoold.net import listen
from support import limits
from support.waiting import wait_until


@dataclass(frozen=True)
class Limits(limits.Limits):
    connections_max: int = 100
    connections_per_address_max: int = 100
    exempt: tuple = ()
    handshake_deadline_s: float = 30.0
    header_deadline_s: float = 30.0
    idle_deadline_s: float = 30.0


async def anybody(stream):
    return Principal("address:" + stream.peer.rpartition(":")[0], Port.CLEAR)


class House:
    """A listener on loopback, and what its handlers saw."""

    def __init__(self, nursery, tmp_path, limits=Limits()):
        self.refused = []
        self.seen = []
        self.failure = None
        self.listener = Listener(
            dict.fromkeys((Protocol.RAW, Protocol.FRAMES, Protocol.HTTP), self.handle),
            limits,
            lambda event, peer: self.refused.append(event),
        )
        self.nursery = nursery
        self.clients = []
        self.path = tmp_path / "control"

    async def start(self, *rules):
        sockets = []
        for one in rules or (Rules(Port.CLEAR, anybody),):
            if one.port is Port.CONTROL:
                sockets.append((listen.bind_unix(self.path), one))
            else:
                sockets.append((listen.bind("127.0.0.1:0")[0], one))
        await self.nursery.start(self.listener.run, sockets)
        self.addresses = [sock.getsockname() for sock, _ in sockets]

    async def handle(self, opening):
        self.seen.append((opening.head, opening.is_ended))
        if self.failure is not None:
            raise self.failure
        if not opening.is_ended:
            while await opening.stream.receive_some():
                pass
        await opening.stream.finish()

    async def connect(self, number=0, source="127.0.0.1"):
        address = self.addresses[number]
        if isinstance(address, str):
            client = trio.socket.socket(socket.AF_UNIX)
        else:
            client = trio.socket.socket()
            await client.bind((source, 0))
        self.clients.append(client)
        await client.connect(address)
        return client

    async def is_refused(self):
        try:
            return await answer(await self.connect()) == (b"", "reset")
        except ConnectionResetError:
            return True  # it was quicker than our connect

    def close(self):
        for client in self.clients:
            client.close()

    async def nobody_is_left(self):
        listener = self.listener
        await wait_until(lambda: listener.connections == 0)
        assert set(listener.by_port.values()) == {0}
        assert listener._by_address == {}
        assert listener._by_identity == {}
        assert not listener.deadlines._watches


async def answer(client):
    """What the client sees until the end, and whether the end was an orderly one."""
    found = b""
    with trio.fail_after(30):
        while True:
            try:
                data = await client.recv(4096)
            except ConnectionResetError:
                return found, "reset"
            if not data:
                return found, "fin"
            found += data
