"""What is measured. Each row starts its own servers and returns its findings.

Figures are taken in alternation (A, B, A, B), because a machine's speed drifts over minutes: the
ratio of a pair is what counts. Before each figure the disk is quiet (`os.sync`).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ipp, load, peers
from benchmarks.report import Finding

JOB_BYTES = 4096
MIB = 1 << 20


@dataclass(slots=True)
class Bench:
    """How much is measured, and where."""

    directory: Path
    pairs: int = 5
    accept_s: float = 4.0
    deliver_jobs: int = 4000
    deliver_peer_jobs: int = 600
    latency_jobs: int = 300
    bulk_bytes: int = 1 << 30
    depth_jobs: int = 100_000
    idle_connections: int = 5000
    stalled_jobs: int = 10_000
    say: Callable[[str], None] = print
    _made: int = field(default=0, init=False)

    def fresh(self) -> Path:
        self._made += 1
        return self.directory / f"peer-{self._made}"

    @contextmanager
    def spoold(self, **options: Any) -> Iterator[peers.Spoold]:
        with closing(peers.Spoold(self.fresh(), **options)) as spoold:
            yield spoold

    @contextmanager
    def cups(self, **options: Any) -> Iterator[peers.Cups]:
        with closing(peers.Cups(self.fresh(), **options)) as cups:
            yield cups

    def touch_memory(self) -> None:
        """As much of the page cache as a large document takes has been used, and is free.

        A virtual machine gets memory from its host at the first touch, which costs more than the
        document does; whoever is measured first would pay for the others.
        """
        path = self.directory / "touch"
        with path.open("wb", buffering=0) as touched:
            for _ in range(self.bulk_bytes // MIB):
                touched.write(bytes(MIB))
        path.unlink()
        os.sync()

    def each_pair(self) -> Iterator[int]:
        for pair in range(self.pairs):
            self.say(f"  pair {pair + 1} of {self.pairs}")
            yield pair


@dataclass(frozen=True, slots=True)
class Measured:
    """A load's result, with what the server spent on it."""

    result: dict[str, Any]
    cpu_s: float
    rss_mib: float

    @property
    def rate(self) -> float:
        rate: float = self.result["rate"]
        return rate

    def costs(self) -> dict[str, float]:
        return {
            "cpu_ms_a_job": round(self.cpu_s * 1000 / max(1, self.result["jobs"]), 4),
            "rss_mib": round(self.rss_mib, 1),
            "p50_ms": round(self.result["p50_ms"], 3),
            "p99_ms": round(self.result["p99_ms"], 3),
            "client_cpu_share": round(self.result["client_cpu_share"], 2),
        }


def measure(server: peers.Peer, **spec: Any) -> Measured:
    os.sync()
    before = server.cpu_s()
    result = load_run(**spec)
    return Measured(result, server.cpu_s() - before, server.rss_mib())


def load_run(**spec: Any) -> dict[str, Any]:
    return peers.load(size=JOB_BYTES, **spec)


def _raw(spoold: peers.Spoold, seconds: float, **more: Any) -> Measured:
    spec = {"kind": "raw", "ports": [spoold.port], "connections": 64, "seconds": seconds}
    return measure(spoold, **(spec | more))


def _frames(spoold: peers.Spoold, **more: Any) -> Measured:
    spec = {"kind": "frames", "port": spoold.port, "printer": "q0", "connections": 8, "depth": 32}
    return measure(spoold, **(spec | more))


def _accept_spoold(bench: Bench) -> Measured:
    with bench.spoold() as spoold:
        load_run(kind="raw", ports=[spoold.port], connections=8, jobs=200)
        return _raw(spoold, bench.accept_s)


def accept_cups(bench: Bench, extra: str = "", connections: int = 64) -> Measured:
    with bench.cups(extra=extra) as cups:
        cups.add_printer("q0", 9, paused=True)
        spec = {"kind": "ipp", "port": cups.port, "queues": ["q0"]}
        load_run(**spec, connections=8, jobs=200)
        return measure(cups, **spec, connections=connections, seconds=bench.accept_s)


def accept(bench: Bench) -> Iterator[Finding]:
    """Jobs a second into an empty spool, over 64 connections."""
    ours, stock, written = [], [], []
    for _ in bench.each_pair():
        ours.append(_accept_spoold(bench))
        stock.append(accept_cups(bench))
        written.append(accept_cups(bench, "DirtyCleanInterval 0"))
    rates = [one.rate for one in ours]
    for name, goal, theirs in (
        ("CUPS as it comes (nothing durable)", 2.5, stock),
        ("CUPS, DirtyCleanInterval 0", 15, written),
    ):
        yield Finding(
            "accept raw 4 KiB, 64 connections",
            "jobs/s",
            rates,
            goal,
            name,
            [one.rate for one in theirs],
            notes={"spoold": ours[-1].costs(), "peer": theirs[-1].costs()},
        )


def frames(bench: Bench) -> Iterator[Finding]:
    """Jobs a second over 8 kept connections, against one connection a job on the same daemon."""
    piped, plain = [], []
    for pair in bench.each_pair():
        with bench.spoold() as spoold:
            load_run(kind="raw", ports=[spoold.port], connections=8, jobs=200)
            _frames(spoold, jobs=200)
            for which in (0, 1) if pair % 2 else (1, 0):
                if which:
                    piped.append(_frames(spoold, seconds=bench.accept_s))
                else:
                    plain.append(_raw(spoold, bench.accept_s))
    yield Finding(
        "accept frames 4 KiB, 8 connections, pipelined",
        "jobs/s",
        [one.rate for one in piped],
        1.0,
        "spoold raw, 64 connections",
        [one.rate for one in plain],
        notes={"frames": piped[-1].costs(), "raw": plain[-1].costs()},
    )


def _drain(server: peers.Spoold | peers.Cups, sink: peers.Helper, printers: int, jobs: int) -> Any:
    """Resumes the printers and returns (jobs/s, ms of CPU a job) once all jobs have come out."""
    os.sync()
    before = server.cpu_s()
    for which in range(printers):
        server.resume(f"q{which}")
    while (counted := json.loads(sink.ask()))["jobs"] < jobs:
        if time.monotonic() - counted["last_at"] > 60 and counted["last_at"]:
            raise RuntimeError(f"{counted['jobs']} of {jobs} jobs came out, then none for 60 s")
        time.sleep(0.02)
    if counted["bytes"] != jobs * JOB_BYTES:
        raise RuntimeError(f"{counted['bytes']} bytes came out of {jobs} jobs")
    spent = server.cpu_s() - before
    return jobs / (counted["last_at"] - counted["first_at"]), spent * 1000 / jobs


def _deliver_spoold(bench: Bench, printers: int) -> Any:
    with (
        peers.sink(printers, counting=True) as (sink, ports),
        bench.spoold(printers=printers, paused=False) as spoold,
    ):
        for which, port in enumerate(ports):
            spoold.add_printer(f"q{which}", port, paused=True)
        jobs = bench.deliver_jobs * (1 if printers == 1 else 2)
        load_run(kind="raw", ports=spoold.raw_ports, connections=32, jobs=jobs)
        return _drain(spoold, sink, printers, jobs)


def _deliver_cups(bench: Bench, printers: int) -> Any:
    with peers.sink(printers, counting=True) as (sink, ports), bench.cups() as cups:
        queues = [f"q{which}" for which in range(printers)]
        for queue, port in zip(queues, ports, strict=True):
            cups.add_printer(queue, port, paused=True)
        jobs = bench.deliver_peer_jobs * (1 if printers == 1 else 2)
        load_run(kind="ipp", port=cups.port, queues=queues, connections=8, jobs=jobs)
        return _drain(cups, sink, printers, jobs)


def deliver(bench: Bench) -> Iterator[Finding]:
    """Jobs a second out of a filled spool to raw printers that take everything at once."""
    for printers, goal in ((1, 8.0), (8, 6.0)):
        ours, theirs = [], []
        for _ in bench.each_pair():
            ours.append(_deliver_spoold(bench, printers))
            theirs.append(_deliver_cups(bench, printers))
        yield Finding(
            f"deliver 4 KiB to {printers} raw printer{'s' if printers > 1 else ''}",
            "jobs/s",
            [rate for rate, _ in ours],
            goal,
            "CUPS",
            [rate for rate, _ in theirs],
            notes={"spoold_cpu_ms_a_job": ours[-1][1], "peer_cpu_ms_a_job": theirs[-1][1]},
        )


def _latencies(
    bench: Bench, port: int, before: bytes, *, half_close: bool, sink: peers.Helper
) -> tuple[float, float]:
    """p50 and p99, in ms, of one job at a time: from before connect to its last byte's arrival."""
    job_bytes = load.document(JOB_BYTES)
    found = []
    for which in range(bench.latency_jobs + 10):
        # The job before has left the server's books: this is about one job, not about a queue.
        time.sleep(0.02)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=60) as job:
            job.sendall(before + job_bytes)
            if half_close:
                job.shutdown(socket.SHUT_WR)
            job.recv(65536)
            _, at = sink.read().split()
        if which >= 10:
            found.append((float(at) - began) * 1000)
    found.sort()
    return load.percentile(found, 0.5), load.percentile(found, 0.99)


def latency(bench: Bench) -> Iterator[Finding]:
    """One job through an idle server to a raw printer."""
    ours, theirs = [], []
    for _ in bench.each_pair():
        with peers.sink() as (sink, ports), bench.spoold(paused=False) as spoold:
            spoold.add_printer("q0", ports[0], paused=False)
            ours.append(_latencies(bench, spoold.port, b"", half_close=True, sink=sink))
        with peers.sink() as (sink, ports), bench.cups() as cups:
            cups.add_printer("q0", ports[0], paused=False)
            request = ipp.post("/printers/q0", cups.port, ipp.print_job("q0"), JOB_BYTES)
            theirs.append(_latencies(bench, cups.port, request, half_close=False, sink=sink))
    for which, name in enumerate(("p50", "p99")):
        yield Finding(
            f"one job, connect to last byte at the printer, {name}",
            "ms",
            [one[which] for one in ours],
            1 / 3,
            "CUPS",
            [one[which] for one in theirs],
            at_most=True,
        )


def bulk_in(bench: Bench) -> Iterator[Finding]:
    """A large raw job into the spool, against the bare loop."""
    ours, theirs, cpu = [], [], []
    spec = {"kind": "bulk", "size": bench.bulk_bytes}
    for _ in bench.each_pair():
        with bench.spoold() as spoold:
            bench.touch_memory()
            before = spoold.cpu_s()
            ours.append(peers.load(**spec, port=spoold.port)["mib_s"])
            cpu.append((spoold.cpu_s() - before) * (1 << 30) / bench.bulk_bytes)
        directory = bench.fresh()
        directory.mkdir()
        with peers.Helper("bare", str(directory)) as bare:
            port = int(bare.read())
            bench.touch_memory()
            theirs.append(peers.load(**spec, port=port)["mib_s"])
        directory.rmdir()
    yield Finding(
        f"{bench.bulk_bytes // MIB} MiB in, durable, with digest",
        "MiB/s",
        ours,
        0.8,
        "bare loop",
        theirs,
        notes={"spoold_cpu_s_a_gib": cpu},
    )


def _through(
    bench: Bench, server: peers.Spoold | peers.Cups, sink: peers.Helper, **spec: Any
) -> tuple[float, float]:
    """MiB/s from connect to the last byte at the printer, and seconds of CPU a GiB."""
    bench.touch_memory()
    before = server.cpu_s()
    began = peers.load(kind="bulk", size=bench.bulk_bytes, port=server.port, **spec)["began_at"]
    while not (counted := json.loads(sink.ask()))["jobs"]:
        if time.monotonic() - began > 300:
            raise RuntimeError(f"{counted['open_bytes']} bytes came out in 300 s")
        time.sleep(0.02)
    if counted["bytes"] != bench.bulk_bytes:
        raise RuntimeError(f"{counted['bytes']} bytes came out")
    time.sleep(0.5)  # The server's books are part of its cost.
    spent = (server.cpu_s() - before) * (1 << 30) / bench.bulk_bytes
    return bench.bulk_bytes / MIB / (counted["last_at"] - began), spent


def bulk_through(bench: Bench) -> Iterator[Finding]:
    """A large job through to a raw printer."""
    ours, theirs = [], []
    for _ in bench.each_pair():
        with peers.sink(counting=True) as (sink, ports), bench.spoold(paused=False) as spoold:
            spoold.add_printer("q0", ports[0], paused=False)
            ours.append(_through(bench, spoold, sink))
        with peers.sink(counting=True) as (sink, ports), bench.cups() as cups:
            cups.add_printer("q0", ports[0], paused=False)
            theirs.append(_through(bench, cups, sink, queue="q0"))
    size = f"{bench.bulk_bytes // MIB} MiB through to a raw printer"
    peer = "CUPS (nothing synced)"
    yield Finding(size, "MiB/s", [one[0] for one in ours], 1.0, peer, [one[0] for one in theirs])
    yield Finding(
        f"{size}, CPU",
        "s/GiB",
        [one[1] for one in ours],
        1.0,
        peer,
        [one[1] for one in theirs],
        at_most=True,
    )


def _page_ms(spoold: peers.Spoold, times: int) -> list[float]:
    """How long pages of 50 jobs take: the first, the newest, in the middle, and filtered."""
    found = []
    with spoold.control() as control:
        middle = control.call("job.list", newest_first=True, limit=1)["jobs"][0]["id"] // 2
        pages: list[dict[str, Any]] = [
            {},
            {"newest_first": True},
            {"after_id": middle},
            {"printer": "q0", "states": ["pending-held"]},
        ]
        for which in range(times):
            began = time.monotonic()
            page = control.call("job.list", limit=50, **pages[which % len(pages)])
            found.append((time.monotonic() - began) * 1000)
            if len(page["jobs"]) != 50:
                raise RuntimeError(f"a page of 50 jobs had {len(page['jobs'])}")
    return sorted(found)


def _restart_s(spoold: peers.Spoold) -> float:
    """From the start of the killed daemon to the first raw job that it has acknowledged."""
    spoold.kill()
    began = time.monotonic()
    spoold.start()
    with socket.create_connection(("127.0.0.1", spoold.port), timeout=60) as job:
        job.sendall(load.document(JOB_BYTES))
        job.shutdown(socket.SHUT_WR)
        if job.recv(16):
            raise RuntimeError("the server answered a raw job with bytes")
    return time.monotonic() - began


def depth(bench: Bench) -> Iterator[Finding]:
    """A spool full of held jobs, against an empty one."""
    with bench.spoold() as full:
        filled = _frames(full, jobs=bench.depth_jobs, hold=True)
        bench.say(f"  filled at {filled.rate:,.0f} jobs/s")
        ours, empty, memory = [], [], []
        for _ in bench.each_pair():
            empty.append(_accept_spoold(bench).rate)
            ours.append(_raw(full, bench.accept_s).rate)
            memory.append(full.rss_mib())
        pages = _page_ms(full, 400)
        restarts = []
        for _ in bench.each_pair():
            restarts.append(_restart_s(full))
            memory.append(full.rss_mib())
    held = f"{bench.depth_jobs:,} held jobs"
    yield Finding(f"{held}: accept", "jobs/s", ours, 0.8, "empty spool", empty)
    yield Finding(
        f"{held}: a page of the listing, p99",
        "ms",
        [load.percentile(pages, 0.99)],
        50,
        at_most=True,
        notes={"p50_ms": load.percentile(pages, 0.5), "max_ms": pages[-1]},
    )
    yield Finding(f"{held}: kill -9 to accepting", "s", restarts, 2, at_most=True)
    yield Finding(f"{held}: memory", "MiB", [max(memory)], 250, at_most=True)


def _hold(**spec: Any) -> peers.Helper:
    """A helper that keeps connections open, once they stand."""
    helper = peers.Helper("load", json.dumps({"kind": "hold"} | spec))
    helper.read()
    return helper


def idle(bench: Bench) -> Iterator[Finding]:
    """Accepting while thousands of connections are open and silent."""
    for tls, goal_mib in ((False, 150), (True, 250)):
        ours, alone, memory = [], [], []
        name = f"{bench.idle_connections:,} idle connections, {'TLS' if tls else 'clear'}"
        for _ in bench.each_pair():
            # A new server each time: jobs that wait take memory too, and are not the question here.
            with bench.spoold() as spoold:
                load_run(kind="raw", ports=[spoold.port], connections=8, jobs=200)
                alone.append(_raw(spoold, bench.accept_s).rate)
                port = spoold.tls_port if tls else spoold.port
                count = bench.idle_connections
                with _hold(port=port, tls=tls, kinds=["idle"], connections=count) as held:
                    ours.append(_raw(spoold, bench.accept_s).rate)
                    memory.append(spoold.rss_mib())
                    ended = json.loads(held.finish())
                    if ended["reopened"]:
                        raise RuntimeError(f"{ended['reopened']} idle connections were closed")
        yield Finding(f"{name}: accept", "jobs/s", ours, 0.9, "without them", alone)
        yield Finding(f"{name}: memory", "MiB", memory, goal_mib, at_most=True)


def stalled(bench: Bench) -> Iterator[Finding]:
    """What one client after the other waits for its FIN while 300 others have stopped half way."""
    ours, alone, reopened = [], [], 0
    kinds = ["http-head", "frames-head", "frames-body", "raw-body"]
    spec = {"connections": 1, "jobs": bench.stalled_jobs}
    with bench.spoold() as spoold:
        load_run(kind="raw", ports=[spoold.port], connections=8, jobs=200)
        for _ in bench.each_pair():
            alone.append(_raw(spoold, 0, **spec).result["p99_ms"])
            with _hold(port=spoold.port, kinds=kinds, connections=300) as held:
                ours.append(_raw(spoold, 0, **spec).result["p99_ms"])
                reopened += json.loads(held.finish())["reopened"]
    yield Finding(
        "300 stalled clients: p99 of the others",
        "ms",
        ours,
        1.2,
        "without them",
        alone,
        at_most=True,
        allowance=2.0,
        notes={"stalled_clients_replaced": reopened},
    )


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {
    "accept": accept,
    "frames": frames,
    "deliver": deliver,
    "latency": latency,
    "bulk-in": bulk_in,
    "bulk-through": bulk_through,
    "depth": depth,
    "idle": idle,
    "stalled": stalled,
}
