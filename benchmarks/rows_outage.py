"""The row of an outage: releases at a site go on while its application server is cut off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from uuid import uuid4

from benchmarks import peers
from benchmarks.cable import Cable
from benchmarks.control import Control
from benchmarks.report import Finding
from benchmarks.rows import Bench

TRIALS_A_PAIR = 20
EVERY_S = 0.01
BEFORE_S, AFTER_S = 0.3, 1.0
MONEY = 1_000_000_000  # in 1/10,000
RESET_MS, SILENT_MS = 100.0, 1000.0
DOCUMENT = b"\x1bE" + b"x" * 254


def _prepare(hq: peers.Spoold, site: peers.Spoold, cable: Cable) -> None:
    """The site has joined over the cable, knows ada, and has a printer that holds her jobs."""
    with hq.control() as control:
        control.call("user.add", name="ada", restricted=True)
        control.call("account.adjust", name="user:ada", amount=MONEY, reason="benchmark")
        control.call("price.set", rates=[{"price": 1}], unknown="fixed", unknown_price=1)
        token = control.call("site.invite", name="site", is_approved=True)["token"]
    with site.control() as control:
        control.call("site.enter", server=f"127.0.0.1:{cable.port}", token=token)
        peers.wait_until("the copy", lambda: bool(control.call("price.list")["versions"]))
        control.call(
            "printer.add", name="desk", uri="socket://127.0.0.1:9", release="hold", charging="on"
        )
        control.call("printer.pause", name="desk", reason="benchmark")


def _jobs(control: Control, count: int) -> list[int]:
    asked = ({"job_uuid": str(uuid4()), "printer": "desk", "user": "ada"} for _ in range(count))
    found = [one["job_id"] for one in control.submit_all(asked, DOCUMENT)]
    peers.wait_until(
        "counting",
        lambda: not control.call("job.list", reason="job-being-counted")["jobs"],
        120,
    )
    return found


def _is_up(control: Control) -> bool:
    time.sleep(0.05)
    return bool(control.call("site.line")["line"] == "up")


def _trial(control: Control, jobs: Iterator[int], cut: Callable[[], None]) -> tuple[float, int]:
    """Release a job every 10 ms around a fault: ms from it to the next commit, and failures."""
    begun = time.monotonic()
    fault_at = begun + BEFORE_S + random.uniform(0, EVERY_S)
    cut_at = took_ms = None
    failed = 0
    due = begun
    while time.monotonic() < fault_at + AFTER_S:
        due += EVERY_S
        if cut_at is None and due > fault_at:
            time.sleep(max(0.0, fault_at - time.monotonic()))
            cut()
            cut_at = time.monotonic()
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            control.call("job.release", job=next(jobs))
        except RuntimeError:
            failed += 1
            continue
        if cut_at is not None and took_ms is None:
            took_ms = (time.monotonic() - cut_at) * 1000
    return (float("inf") if took_ms is None else took_ms), failed


def site_outage(bench: Bench) -> Iterator[Finding]:
    """Resets and silences of the line, while releases at the site go on."""
    worst: dict[str, list[float]] = {"reset": [], "silence": []}
    failures = 0
    with (
        bench.spoold(name="hq") as hq,
        bench.spoold(name="site", role="site", paused=False) as site,
        closing(Cable(hq.mutual_port)) as cable,
    ):
        _prepare(hq, site, cable)
        trials = max(2, round(TRIALS_A_PAIR * bench.accept_s / 4))
        a_trial = round((BEFORE_S + AFTER_S) / EVERY_S) + 10
        for _ in bench.each_pair():
            for kind, cut in (("reset", cable.reset), ("silence", cable.swallow)):
                with site.control() as control:
                    jobs = iter(_jobs(control, trials * a_trial))
                took = []
                for _ in range(trials):
                    with site.control() as control:
                        peers.wait_until("the line", partial(_is_up, control))
                        ms, failed = _trial(control, jobs, cut)
                    took.append(ms)
                    failures += failed
                    cable.mend()
                    # A line that was cut often has to hold for longer each time before it counts:
                    # a site that has just started does not know that.
                    site.kill()
                    site.start()
                worst[kind].append(max(took))
    notes = {"trials": trials * bench.pairs, "failed": failures}
    yield Finding(
        "the line is reset: from the fault to the next committed release, the worst",
        "ms",
        worst["reset"],
        RESET_MS,
        at_most=True,
        notes=notes,
    )
    yield Finding(
        "the line falls silent: from the fault to the next committed release, the worst",
        "ms",
        worst["silence"],
        SILENT_MS,
        at_most=True,
        notes=notes,
    )


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {"site-outage": site_outage}
