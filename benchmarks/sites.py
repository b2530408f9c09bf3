"""Many sites in one process that were cut off, and come back at the same moment.

Started as `python -m benchmarks.sites SPEC` with a JSON object. It writes down what each site has
done alone, joins them all and says `ready`; for each line that comes they return, and it prints a
JSON object when everything is upstream: `ends_s`, from the begin to the last acknowledgement of
each site; `longest_s`, the longest that one had to wait for the next; `records`; `lost`, how often
a line was given up.

What goes over the lines is real: `site.line.Line` and `site.uplink.Uplink`, each with the site's
own certificate and records. Their spools are only read; and they beat once a second instead of four
times, for they share a core that each real one has for itself.

server         the application server, HOST:PORT
directory      where their spools are, and stay
tokens         one invitation for each site
records        how many each has, about
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import structlog
import trio

from benchmarks.alone import fill
from spoold.daemon import joining
from spoold.daemon.authority import key_pem_of
from spoold.daemon.joining import Token
from spoold.model.node import LineState
from spoold.model.printer import Printer
from spoold.net.connect import TcpNetwork
from spoold.net.context import client_context
from spoold.net.stream import Stream
from spoold.site.line import Line, Settings
from spoold.site.uplink import Uplink
from spoold.spool import sending
from spoold.spool.sqlite import open_store
from spoold.spool.store import PutDevice, PutPrinter

PEOPLE = 40
JOINING_AT_ONCE = 8
BEAT_S = 1.0
LOOK_S = 0.05


class Papers:
    """A site's, once it has joined."""

    def __init__(self, server: str, ca_pem: str, chain_pem: str, key_pem: bytes) -> None:
        self._server = server
        self._context = client_context(
            ca_pem=ca_pem.encode(), chain_pem=chain_pem.encode(), key_pem=key_pem
        )

    async def wait_joined(self) -> None:
        await trio.lowlevel.checkpoint()

    def servers(self) -> Sequence[str]:
        return (self._server,)

    def context(self) -> ssl.SSLContext:
        return self._context

    def believe(self, stream: Stream) -> None:
        """Its name and CA were looked at."""

    async def renew(self, server: str) -> bool:
        await trio.lowlevel.checkpoint()
        return False


class Spool:
    """A site's journal and reader, as far as an uplink needs them; nothing more is written."""

    is_failed = False

    def __init__(self, directory: Path) -> None:
        path = f"{(directory / 'spool.db').absolute().as_uri()}?mode=ro&immutable=1"
        self._db = sqlite3.connect(path, uri=True, isolation_level=None)
        [chain] = sending.chains(self._db)
        self.head = chain.position
        (guid,) = self._db.execute("SELECT journal FROM chain").fetchone()
        self.guid = UUID(bytes=guid)
        self.identity = (str(self.guid), str(chain.incarnation))

    def close(self) -> None:
        self._db.close()

    def listen(self, listener: object) -> None:
        pass

    unlisten = listen

    async def commit(self, change: object) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    def hand_over(self, changes: object) -> None:
        pass

    async def look(self, look: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return look(self._db, *args)

    async def cursors(self) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        return {}

    async def anchor(self) -> int:
        await trio.lowlevel.checkpoint()
        return 0


class Site:
    """One that has joined. `ended_s` is when everything was upstream."""

    def __init__(self, spool: Spool, papers: Papers) -> None:
        self._spool = spool
        self._papers = papers
        self.records = spool.head

    def begin(self) -> None:
        """Nothing of what was before counts."""
        self.lost = 0
        self.ended_s: float | None = None
        self.waited_s = 0.0
        self._moved_s = time.monotonic()
        self._position = 0
        line = Line(self._papers, TcpNetwork(), _now_us, self._about, Settings(beat_s=BEAT_S))
        line.listen(self._hear)
        # The journal and the reader of a node, as far as it asks them.
        self.uplink = Uplink(line, self._spool, self._spool, _now_us)  # type: ignore[arg-type]
        self.tasks: tuple[Callable[[], Awaitable[None]], ...] = (line.run, self.uplink.run)

    async def _about(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        own, incarnation = self._spool.identity
        return {
            "software": "benchmark",
            "journal": own,
            "incarnation": incarnation,
            "position": self._spool.head,
        }

    def _hear(self, state: LineState) -> None:
        self.lost += state is LineState.GONE

    def look(self) -> bool:
        """Whether everything is upstream; notes how long it waits."""
        now_s, position = time.monotonic(), self.uplink.standing.acknowledged
        if self.ended_s is None:
            self.waited_s = max(self.waited_s, now_s - self._moved_s)
            if position != self._position:
                self._moved_s, self._position = now_s, position
            if position == self._spool.head:
                self.ended_s = now_s
        return self.ended_s is not None


def _now_us() -> int:
    return time.time_ns() // 1000


async def write(directory: Path, records: int) -> None:
    """What a site has done alone."""
    writer, store = await open_store(directory, _now_us(), os.urandom, uuid4())
    try:
        [device], _ = store.apply([PutDevice(uuid4(), "file:///nowhere", _now_us())])
        store.apply([PutPrinter(Printer(0, uuid4(), "q0", device.id), _now_us())])
        await writer.run(fill, store, records, PEOPLE)
    finally:
        await writer.close()
        store.close()


async def join(server: str, spool: Spool, token: str) -> Papers:
    key, parsed = joining.make_key(), Token.parse(token)
    network = TcpNetwork()
    async with joining.open_door(network, server, "site", fingerprint=parsed.fingerprint) as door:
        connection, ca_pem = door
        args = {"request": joining.make_request(spool.guid, key), "token": token}
        answer = await joining.ask(connection, args)
    return Papers(server, ca_pem, answer["certificate_pem"], key_pem_of(key))


async def join_all(spec: dict[str, Any], spools: list[Spool]) -> list[Site]:
    limit = trio.CapacityLimiter(JOINING_AT_ONCE)
    sites: list[Site] = []

    async def one(spool: Spool, token: str) -> None:
        async with limit:
            sites.append(Site(spool, await join(spec["server"], spool, token)))

    async with trio.open_nursery() as nursery:
        for spool, token in zip(spools, spec["tokens"], strict=True):
            nursery.start_soon(one, spool, token)
    return sites


async def come_back(sites: list[Site]) -> dict[str, Any]:
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for site in sites:
            site.begin()
            for task in site.tasks:
                nursery.start_soon(task)
        going = sites
        while going := [site for site in going if not site.look()]:  # noqa: ASYNC110
            await trio.sleep(LOOK_S)
        nursery.cancel_scope.cancel()
    return {
        "ends_s": sorted(site.ended_s - began for site in sites if site.ended_s is not None),
        "longest_s": max(site.waited_s for site in sites),
        "records": sum(site.records for site in sites),
        "lost": sum(site.lost for site in sites),
    }


async def main(spec: dict[str, Any], places: Sequence[Path], new: Sequence[Path]) -> None:
    for place in new:
        await write(place, spec["records"])
    spools = [Spool(place) for place in places]
    sites = await join_all(spec, spools)
    print("ready", flush=True)
    while await trio.to_thread.run_sync(sys.stdin.readline):
        print(json.dumps(await come_back(sites)), flush=True)
    for spool in spools:
        with closing(spool):
            pass


def prepare() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    spec = json.loads(sys.argv[1])
    places = [Path(spec["directory"]) / str(number) for number in range(len(spec["tokens"]))]
    new = [place for place in places if not place.exists()]
    for place in new:
        place.mkdir()
    trio.run(main, spec, places, new)


if __name__ == "__main__":
    prepare()
