"""A server for frames in this process, and a client that speaks what a test says."""

from __future__ import annotations

import socket
from collections import deque
from uuid import uuid4

import trio
import trio.testing
from blake3 import blake3

from spoold.codec import frame
from spoold.codec.frame import Answer, FrameReader, Refusal
from spoold.intake.deadlines import Deadlines
from spoold.intake.frames import Node, serve_frames
from spoold.intake.frames_link import Settings
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal
from spoold.net.tcp import SocketStream
from spoold.spool.store import JobFilter

CLIENT = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")
NODE = Node("node-guid", "hq", "application", "spoold test", ("hq.example.org:9191",))
HELLO = {"versions": [1], "kind": "provider"}
LARGE = bytes(range(256)) * 2048  # 512 KiB: goes into a file


class Operations:
    """A router with the few operations that the tests call."""

    def __init__(self):
        self.calls = []
        self.running = 0
        self.most = 0
        self.go = trio.Event()

    async def call(self, principal, op, args, send_event):
        self.calls.append((principal, op, args))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if op == "wait":
                await self.go.wait()
            elif op == "job.follow":
                await send_event("job-state", {"state": "pending"})
                await trio.sleep_forever()
            elif op == "large":
                return {"text": ["x" * 8000] * 20}
            elif op != "echo":
                raise OperationError("not-found", f"there is no operation {op!r}.", "Try echo.")
            return args
        finally:
            self.running -= 1


class Client:
    """The client's half, a frame at a time."""

    def __init__(self, sock, done):
        self.stream = SocketStream(sock)
        self.done = done
        self._reader = FrameReader()
        self._items = deque()

    async def send(self, *pieces):
        await self.stream.send_all(b"".join(pieces))

    async def receive(self):
        """The next message; None at the end."""
        with trio.fail_after(30):
            while not self._items:
                data = await self.stream.receive_some()
                if not data:
                    self._reader.end()
                    return None
                self._items.extend(self._reader.feed(data))
        return self._items.popleft()

    async def answer(self, id_):
        """The answer to `id_`; events and other answers are skipped."""
        while True:
            item = await self.receive()
            assert item is not None, f"the connection ended before {id_} was answered"
            if isinstance(item, Answer | Refusal) and item.id == id_:
                return item

    async def hello(self, **args):
        await self.send(frame.MAGIC, frame.request(1, "hello", HELLO | args))
        return await self.answer(1)


def submit(id_, uuid, **args):
    args = {"job_uuid": str(uuid), "printer": "default", "digest_algorithm": "blake3"} | args
    return frame.request(id_, "submit", args)


def chunks(id_, body, offset=0, step=frame.CHUNK_BYTES_MAX):
    return b"".join(
        frame.chunk_head(id_, at, len(body[at : at + step])) + body[at : at + step]
        for at in range(offset, len(body), step)
    )


def end(id_, body):
    digest = f"blake3:{blake3(body).hexdigest()}"
    return frame.event(id_, "end", {"size": len(body), "digest": digest})


def eager(id_, body, uuid=None, **args):
    return submit(id_, uuid or uuid4(), eager=True, **args) + chunks(id_, body) + end(id_, body)


class Server:
    """Connections to one spool."""

    def __init__(self, spool, acceptance, nursery):
        self.spool = spool
        self.acceptance = acceptance
        self.operations = Operations()
        self.deadlines = Deadlines(0.05)
        nursery.start_soon(self.deadlines.run)
        self._nursery = nursery
        self.clients = []

    def connect(self, principal=CLIENT, stream=SocketStream, **settings):
        ours, theirs = socket.socketpair()
        done = trio.Event()
        self._nursery.start_soon(self._serve, stream(theirs), principal, settings, done)
        self.clients.append(Client(ours, done))
        return self.clients[-1]

    async def _serve(self, stream, principal, settings, done):
        first_bytes = await stream.receive_some(3)  # what a sniffing listener may have read
        with self.deadlines.watch(stream, 60) as watch:
            watch.is_quiet = False
            await serve_frames(
                stream,
                first_bytes,
                principal,
                self.acceptance,
                self.operations,
                NODE,
                Settings(**settings),
                watch,
            )
        done.set()

    async def jobs(self):
        return await self.spool.reader.jobs(JobFilter(limit=1000))

    async def body(self, job):
        source = await self.spool.documents.open(job)
        try:
            return source.read_at(0, source.size)
        finally:
            source.close()
