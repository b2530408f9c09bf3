"""The rows that speak IPP to spoold: Print-Job, Get-Jobs, and large documents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmarks import ipp, load, peers
from benchmarks.answers import read_http
from benchmarks.report import Finding
from benchmarks.rows import MIB, Bench, Measured, accept_cups, load_run, measure
from spoold.codec import ipp as codec
from spoold.codec.ipp_names import JobState, Operation, Status

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
    spec = {"queue": "q0"}
    with bench.spoold() as spoold, bench.cups() as cups:
        cups.add_printer("q0", 9, paused=True)
        for port in (spoold.port, cups.port):
            load_run(kind="ipp", queues=["q0"], port=port, connections=8, jobs=jobs)
        ours, theirs, probed, probed_cups = [], [], [], []
        before = spoold.rss_mib()
        for _ in bench.each_pair():
            ours.append(peers.listing(**spec, port=spoold.port))
            theirs.append(peers.listing(**spec, port=cups.port))
            probed.append(peers.listing(**spec, port=spoold.port, probe=True))
            probed_cups.append(peers.listing(**spec, port=cups.port, probe=True))
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
    """A large chunked Print-Job into the spool, against raw from a client of equal cost."""
    ours: list[float] = []
    theirs: list[float] = []
    spec = {"kind": "bulk", "size": bench.bulk_bytes}
    for _ in bench.each_pair():
        for found, more in ((ours, {"queue": "q0", "chunked": True}), (theirs, {"copied": True})):
            with bench.spoold() as spoold:
                bench.touch_memory()
                found.append(peers.load(**spec, port=spoold.port, **more)["mib_s"])
    yield Finding(
        f"{bench.bulk_bytes // MIB} MiB by chunked Print-Job, durable",
        "MiB/s",
        ours,
        0.7,
        "spoold raw",
        theirs,
    )


def _print_job_request() -> bytes:
    """A Print-Job as `lp` with a few options sends it: 18 attributes, 21 values."""
    operation = [
        codec.charset("attributes-charset", "utf-8"),
        codec.language("attributes-natural-language", "en-us"),
        codec.uri("printer-uri", "ipp://server.example.org:9191/printers/frontdesk"),
        codec.name_("requesting-user-name", "alice"),
        codec.name_("job-name", "Jahresbericht 2026 für die Geschäftsleitung"),
        codec.mime("document-format", "application/pdf"),
        codec.name_("document-name", "report.pdf"),
        codec.boolean("ipp-attribute-fidelity", False),
    ]
    job = [
        codec.integer("copies", 2),
        codec.keyword("sides", "two-sided-long-edge"),
        codec.keyword("media", "iso_a4_210x297mm"),
        codec.enum_("print-quality", 4),
        codec.enum_("orientation-requested", 3),
        codec.resolution("printer-resolution", codec.Resolution(600, 600)),
        codec.range_("page-ranges", codec.Range(1, 4), codec.Range(7, 7)),
        codec.enum_("finishings", 3, 4),
        codec.name_("job-sheets", "none", "none"),
        codec.integer("job-priority", 50),
    ]
    groups = [codec.group(codec.Tag.OPERATION, operation), codec.group(codec.Tag.JOB, job)]
    return codec.encode(codec.Message((2, 0), Operation.PRINT_JOB, 1, groups))


def _print_job_answer(job_id: int) -> bytes:
    operation = [
        codec.charset("attributes-charset", "utf-8"),
        codec.language("attributes-natural-language", "en-us"),
    ]
    job = [
        codec.integer("job-id", job_id),
        codec.uri("job-uri", f"ipp://server.example.org:9191/jobs/{job_id}"),
        codec.enum_("job-state", JobState.PENDING),
        codec.keyword("job-state-reasons", "none"),
        codec.text("job-state-message", ""),
    ]
    groups = [codec.group(codec.Tag.OPERATION, operation), codec.group(codec.Tag.JOB, job)]
    return codec.encode(codec.Message((2, 0), Status.SUCCESSFUL_OK, 1, groups))


def ipp_codec(bench: Bench) -> Iterator[Finding]:
    """Decoding a Print-Job request and encoding its answer, a second, in one thread."""
    request = _print_job_request()
    rates = []
    for _ in bench.each_pair():
        done = 0
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < bench.accept_s:
            for _ in range(100):
                codec.Decoder().feed(request)
                _print_job_answer(done)
                done += 1
        rates.append(done / elapsed)
    yield Finding("IPP codec: Print-Job request and answer", "1/s", rates, 10_000)


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {
    "ipp-accept": ipp_accept,
    "ipp-jobs": get_jobs,
    "ipp-bulk": ipp_bulk,
    "ipp-codec": ipp_codec,
}
