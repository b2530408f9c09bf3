"""A site that speaks version 1 of the line, written from FRAMES.md 11, without spoold's codecs.

It stays as it is when there is a version 2: as long as version 1 is spoken, an application server
has to do for this one all that is asked here. It offers no other version.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager

import msgpack
import trio

from spoold.net.connect import TcpNetwork
from spoold.net.context import client_context

MAGIC = b"\x00SPOOLD1"
GENESIS = bytes(32)


class Refused(Exception):
    def __init__(self, error):
        super().__init__(error["code"], error["message"], error.get("advice"))
        self.code = error["code"]


class Site:
    """`call` answers what the server says; `heard` are the events that came, by what was asked."""

    def __init__(self, stream):
        self._stream = stream
        self._data = bytearray()
        self._answers = {}
        self._id = 0
        self.heard = []

    async def call(self, op, args=None):
        """The result of one request.

        Raises:
            Refused.
        """
        answer = await self.ask(op, args)
        with trio.fail_after(30):
            await answer.wait()
        found = self._answers.pop(answer)
        if "error" in found:
            raise Refused(found["error"])
        return found["result"]

    async def ask(self, op, args=None):
        """Ask, and wait for nothing."""
        self._id += 1
        answer = trio.Event()
        self._answers[self._id] = answer
        data = msgpack.packb({"id": self._id, "op": op, "args": args or {}})
        start = MAGIC if self._id == 1 else b""
        await self._stream.send_all(start + len(data).to_bytes(4, "big") + data)
        return answer

    async def listen(self):
        """Hear the server, and answer its pings, until the connection ends."""
        while data := await self._stream.receive_some(65536):
            self._data += data
            while len(self._data) >= 4:
                end = 4 + int.from_bytes(self._data[:4], "big")
                if len(self._data) < end:
                    break
                message = msgpack.unpackb(bytes(self._data[4:end]))
                del self._data[:end]
                await self._take(message)

    async def _take(self, message):
        if message.get("op") == "ping":
            data = msgpack.packb({"id": message["id"], "result": {}})
            await self._stream.send_all(len(data).to_bytes(4, "big") + data)
        elif "event" in message:
            self.heard.append((message["event"], message["args"]))
        else:
            answer = self._answers[message["id"]]
            self._answers[answer] = message
            answer.set()


@asynccontextmanager
async def connected(address, member):
    """A `Site` on its line to `address`, before it has said hello."""
    host, _, port = address.rpartition(":")
    context = client_context(
        ca_pem=member.ca_pem.encode(),
        chain_pem=member.certificate_pem.encode(),
        key_pem=member.key_pem.encode(),
    )
    stream = await TcpNetwork().connect_tls(host, int(port), context, timeout_s=30)
    async with trio.open_nursery() as nursery:
        site = Site(stream)
        nursery.start_soon(site.listen)
        yield site
        nursery.cancel_scope.cancel()
    stream.abort()


class Chain:
    """Records of its journal, as version 1 writes them."""

    def __init__(self):
        self.hash = GENESIS
        self.position = 0

    def add(self, kind, payload, personal=None):
        """The next record: `[header, payload, personal, hash]`."""
        self.position += 1
        body = None if personal is None else bytes(16) + msgpack.packb(personal)
        covered = b"" if body is None else hashlib.sha256(body).digest()
        header = msgpack.packb(
            [self.position, kind, 1, "node", 1_700_000_000_000_000, None, covered]
        )
        packed = msgpack.packb(payload)
        inner = hashlib.sha256(packed).digest()
        self.hash = hashlib.sha256(self.hash + header + inner).digest()
        return [header, packed, body, self.hash]
