"""The row of many sites that come back at once: what they wait for, and what others notice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import peers
from benchmarks.paced import Clients, Looks, p99_ms
from benchmarks.report import Finding
from benchmarks.rows import Bench

SITES, SITES_QUICK = 200, 8
RECORDS = 2_000
BEFORE_S = 10.0
FAIR = 1.25  # the slowest site against the median
STARVED_S = 10.0
STATUS_MS = 100.0
JOBS_MS = 100.0


def _invite(hq: peers.Spoold, sites: int) -> list[str]:
    names = ({"name": f"site{number}", "is_approved": True} for number in range(sites))
    with hq.control() as control:
        return [one["token"] for one in control.call_all("site.invite", names)]


def site_return(bench: Bench) -> Iterator[Finding]:
    """Sites that were cut off together come back together, with what they have done alone."""
    is_quick = bench.depth_jobs < 10_000
    sites = SITES_QUICK if is_quick else SITES
    spools = bench.fresh()
    spools.mkdir()
    fair, starved, status, jobs, rates, before, memory, lost = ([] for _ in range(8))
    for _ in bench.each_pair():
        with bench.spoold(name="hq") as hq:
            spec = {
                "server": f"127.0.0.1:{hq.mutual_port}",
                "directory": str(spools),
                "tokens": _invite(hq, sites),
                "records": RECORDS,
            }
            with peers.Helper("sites", json.dumps(spec)) as helper:
                helper.read()  # they have joined
                with Clients(hq.raw_ports[0]) as clients:
                    time.sleep(BEFORE_S / 10 if is_quick else BEFORE_S)
                before.append(p99_ms(clients.took_ms))
                with Clients(hq.raw_ports[0]) as clients, Looks(hq) as looks:
                    found: dict[str, Any] = json.loads(helper.ask())
            memory.append(hq.rss_mib())
        ends_s = found["ends_s"]
        fair.append(ends_s[-1] / ends_s[len(ends_s) // 2])
        starved.append(found["longest_s"])
        status.append(p99_ms(looks.took_ms))
        jobs.append(p99_ms(clients.took_ms))
        rates.append(found["records"] / ends_s[-1])
        lost.append(found["lost"])
    shutil.rmtree(spools)
    about = f"{sites} sites return at once"
    yield Finding(f"{about}: the slowest against the median", "times", fair, FAIR, at_most=True)
    yield Finding(
        f"{about}: what one waits for the next acknowledgement, the longest",
        "s",
        starved,
        STARVED_S,
        at_most=True,
        notes={"records_s": [round(one) for one in rates], "lines_lost": lost},
    )
    yield Finding(f"{about}: `status` meanwhile, p99", "ms", status, STATUS_MS, at_most=True)
    yield Finding(
        f"{about}: 50 jobs a second meanwhile, p99",
        "ms",
        jobs,
        JOBS_MS,
        at_most=True,
        notes={
            "before_ms": [round(one, 2) for one in before],
            "rss_mib": round(max(memory), 1),
        },
    )


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {"site-return": site_return}
