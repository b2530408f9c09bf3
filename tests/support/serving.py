"""Servers for providers: real ones for frames, whose connections break or stall as a test says."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
import trio.testing

from spoold.intake.acceptance import Acceptance
from spoold.intake.deadlines import Deadlines
from spoold.intake.frames import Node, serve_frames
from spoold.intake.frames_link import Settings
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal
from spoold.net.listen import accept_loop, bind, bind_unix
from spoold.net.tcp import SocketStream
from spoold.provider.direct import DirectProvider
from spoold.spool.store import JobFilter
from support.limits import Limits
from support.ports import own_port

LARGE = bytes(range(256)) * 8192  # 2 MiB


class Faulty:
    """A server's stream with faults: it breaks or stalls after some bytes, or before an answer."""

    def __init__(self, stream, site):
        self._stream = stream
        self._site = site
        self.peer = stream.peer

    async def receive_some(self, bytes_max=65536):
        data = await self._stream.receive_some(bytes_max)
        site = self._site
        site.bytes_in += len(data)
        if site.stalls_after is not None and site.bytes_in > site.stalls_after:
            site.stalls_after = None
            await trio.sleep_forever()
        if site.cut_after is not None:
            site.cut_after -= len(data)
            if site.cut_after < 0:
                site.cut_after = None
                self._stream.abort()
                raise trio.BrokenResourceError("cut")
        return data

    async def receive_into(self, buffer):
        data = await self.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def send_all(self, data):
        if self._site.answers_to_lose and b"job_id" in bytes(data):
            self._site.answers_to_lose -= 1
            if not self._site.answers_to_lose and self._site.dies_then:
                self._site.close()
            self._stream.abort()
            raise trio.BrokenResourceError("cut")
        await self._stream.send_all(data)

    async def send_eof(self):
        await self._stream.send_eof()

    def abort(self):
        self._stream.abort()

    async def finish(self):
        await self._stream.finish()


class Site:
    """One server: a spool, and a listening socket that can be closed and opened again."""

    def __init__(self, name, spool, nursery, port):
        self.name = name
        self.spool = spool
        self.acceptance = Acceptance(
            spool.journal, spool.reader, spool.documents, Limits(), spool.wall_clock
        )
        self.endpoints = ()
        self.connections = 0
        self.bytes_in = 0
        self.cut_after = None
        self.stalls_after = None
        self.answers_to_lose = 0
        self.dies_then = False
        self._nursery = nursery
        self._port = port
        self._listener = None
        self._scope = None

    async def start(self):
        await self.acceptance.start()
        self.printer = await self.spool.add_printer()
        self.open()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self._port}"

    def open(self):
        (self._listener,) = bind(f"127.0.0.1:{self._port}")
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._accept, self._listener, self._scope)

    def open_unix(self, path):
        listener = bind_unix(path)
        self._nursery.start_soon(self._accept, listener, trio.CancelScope())

    def close(self):
        """Nobody listens any more, and every connection breaks."""
        self._scope.cancel()
        self._listener.close()

    async def _accept(self, listener, scope):
        with scope, listener:
            async with trio.open_nursery() as nursery:

                def handle(sock, _):
                    self.connections += 1
                    nursery.start_soon(self.serve, SocketStream(sock))

                with suppress(trio.ClosedResourceError):
                    await accept_loop(listener, handle)

    async def serve(self, stream):
        principal = Principal("address:127.0.0.1", Port.CLEAR, address="127.0.0.1")
        node = Node(f"guid-{self.name}", self.name, "application", "test", self.endpoints)
        faulty = Faulty(stream, self)
        with Deadlines().watch(stream, 60) as watch:
            await serve_frames(
                faulty, b"", principal, self.acceptance, self, node, Settings(), watch
            )

    async def call(self, principal, op, args, send_event):
        if op == "job.follow":
            for state in ("pending", "processing", "completed"):
                await send_event("job-state", {"state": state})
        elif op == "wait":
            await send_event("waiting", {})
            await trio.sleep_forever()
        elif op != "echo":
            raise OperationError("not-found", f"there is no operation {op}.", "Try echo.")
        return args

    async def bodies(self):
        bodies = {}
        for job in await self.spool.reader.jobs(JobFilter(limit=1000)):
            source = await self.spool.documents.open(job)
            bodies[job.title] = source.read_at(0, source.size)
            source.close()
        return bodies

    async def count(self):
        return len(await self.spool.reader.jobs(JobFilter(limit=1000)))


@asynccontextmanager
async def opened_site(name, spool_at, path):
    path.mkdir()
    with own_port() as port:
        async with spool_at(path) as spool, trio.open_nursery() as nursery:
            site = Site(name, spool, nursery, port)
            await site.start()
            yield site
            nursery.cancel_scope.cancel()


class Threaded:
    """The provider without async, for tests that are: each call runs in a thread."""

    def __init__(self, endpoints, **options):
        self._direct = DirectProvider(endpoints, **options)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        await trio.to_thread.run_sync(self._direct.close)

    @property
    def current(self):
        return self._direct.current

    async def submit(self, source, **job):
        if progress := job.get("progress"):
            job["progress"] = partial(trio.from_thread.run_sync, progress)
        return await trio.to_thread.run_sync(partial(self._direct.submit, source, **job))

    async def call(self, *arguments):
        return await trio.to_thread.run_sync(self._direct.call, *arguments)
