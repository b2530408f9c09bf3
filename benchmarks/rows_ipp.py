"""The rows that speak IPP to spoold: Print-Job, Get-Jobs, and large documents."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from benchmarks import ipp, load, peers
from benchmarks.answers import read_http
from benchmarks.report import Finding
from benchmarks.rows import MIB, Bench, Measured, accept_cups, load_run, measure

LISTED_JOBS = 20_000


def _print_jobs(bench: Bench, connections: int) -> Measured:
    spec = {"kind": "ipp", "queues": ["q0"]}
    with bench.spoold() as spoold:
        load_run(**spec, port=spoold.port, connections=8, jobs=200)
        return measure(
            spoold, **spec, port=spoold.port, connections=connections, seconds=bench.accept_s
        )


def ipp_accept(bench: Bench) -> Iterator[Finding]:
    """Print-Jobs a second over kept connections, by both servers."""
    for connections in (8, 64):
        ours, stock, written = [], [], []
        for _ in bench.each_pair():
            ours.append(_print_jobs(bench, connections))
            stock.append(accept_cups(bench, connections=connections))
            written.append(accept_cups(bench, "DirtyCleanInterval 0", connections=connections))
        for goal, peer, theirs in (
            (1.0, "CUPS as it comes (nothing durable)", stock),
            (5.0, "CUPS, DirtyCleanInterval 0", written),
        ):
            yield Finding(
                f"Print-Job 4 KiB, {connections} kept connections",
                "jobs/s",
                [one.rate for one in ours],
                goal,
                peer,
                [one.rate for one in theirs],
                notes={"spoold": ours[-1].costs(), "peer": theirs[-1].costs()},
            )


def _pages_ms(port: int, times: int) -> list[float]:
    """How long a page of 50 jobs takes on a kept connection."""
    found = []
    request = ipp.post("/printers/q0", port, ipp.get_jobs("q0", 50))
    with load.connect({"host": "127.0.0.1", "port": port}) as kept:
        for _ in range(times):
            began = time.monotonic()
            kept.sendall(request)
            if not ipp.is_success(read_http(kept)):
                raise RuntimeError("a page of jobs was refused")
            found.append((time.monotonic() - began) * 1000)
    return sorted(found)


def get_jobs(bench: Bench) -> Iterator[Finding]:
    """All attributes of 20,000 jobs in one Get-Jobs, and what others wait for meanwhile."""
    jobs = min(LISTED_JOBS, bench.depth_jobs)
    spec = {"queue": "q0", "module": "listing"}
    with bench.spoold() as spoold, bench.cups() as cups:
        cups.add_printer("q0", 9, paused=True)
        for port in (spoold.port, cups.port):
            load_run(kind="ipp", queues=["q0"], port=port, connections=8, jobs=jobs)
        ours, theirs, probed, probed_cups = [], [], [], []
        before = spoold.rss_mib()
        for _ in bench.each_pair():
            ours.append(peers.load(**spec, port=spoold.port))
            theirs.append(peers.load(**spec, port=cups.port))
            probed.append(peers.load(**spec, port=spoold.port, probe=True))
            probed_cups.append(peers.load(**spec, port=cups.port, probe=True))
        grown = spoold.rss_mib() - before
        pages = _pages_ms(spoold.port, 300)
    name = f"Get-Jobs, all attributes of {jobs:,} jobs"
    yield Finding(f"{name}: first byte", "ms", [o["first_ms"] for o in ours], 20, at_most=True)
    yield Finding(
        f"{name}: whole",
        "ms",
        [one["whole_ms"] for one in ours],
        3.0,
        "CUPS",
        [one["whole_ms"] for one in theirs],
        at_most=True,
        notes={"bytes": ours[-1]["bytes"], "peer_bytes": theirs[-1]["bytes"]},
    )
    yield Finding(
        f"{name}: p99 of others",
        "ms",
        [one["probe_p99_ms"] for one in probed],
        20,
        at_most=True,
        notes={"max_ms": probed[-1]["probe_max_ms"], "peer": probed_cups[-1]},
    )
    yield Finding(f"{name}: memory that it takes", "MiB", [grown], 16, at_most=True)
    yield Finding(
        "a page of 50 jobs by Get-Jobs, median",
        "ms",
        [load.percentile(pages, 0.5)],
        5,
        at_most=True,
        notes={"p99_ms": load.percentile(pages, 0.99)},
    )


def ipp_bulk(bench: Bench) -> Iterator[Finding]:
    """A large chunked Print-Job into the spool, against the raw path."""
    ours, theirs = [], []
    spec = {"kind": "bulk", "size": bench.bulk_bytes}
    for _ in bench.each_pair():
        for found, more in ((ours, {"queue": "q0", "chunked": True}), (theirs, {})):
            with bench.spoold() as spoold:
                os.sync()
                found.append(peers.load(**spec, port=spoold.port, **more)["mib_s"])
    yield Finding(
        f"{bench.bulk_bytes // MIB} MiB by chunked Print-Job, durable",
        "MiB/s",
        ours,
        0.7,
        "spoold raw",
        theirs,
    )


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {
    "ipp-accept": ipp_accept,
    "ipp-jobs": get_jobs,
    "ipp-bulk": ipp_bulk,
}
