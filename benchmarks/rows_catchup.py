"""The row of a site that was cut off: how fast its records go up, and what others notice of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from benchmarks import peers
from benchmarks.alone import fill
from benchmarks.control import Control
from benchmarks.paced import Clients, p99_ms
from benchmarks.report import Finding
from benchmarks.rows import Bench
from spoold.daemon.identity import node_guid
from spoold.spool.sqlite import open_store

RECORDS = 1_000_000
RECORDS_QUICK = 4_000
PEOPLE = 500
BESIDE_S = 20.0  # of jobs before, and as many after: what is usual in this hour
DEADLINE_S = 1200.0
RECORDS_S = 10_000.0
SLOWER = 1.5


# -- what a site has done alone ----------------------------------------------------------------


async def _work_alone(data_dir: Path, guid: UUID, records: int) -> int:
    """Jobs that were taken, printed and charged, as a site that was cut off has them."""
    writer, store = await open_store(data_dir, _now_us(), os.urandom, guid)
    try:
        return int(await writer.run(fill, store, records, PEOPLE))
    finally:
        await writer.close()
        store.close()


def _now_us() -> int:
    return time.time_ns() // 1000


# -- the row -----------------------------------------------------------------------------------


def _stop(spoold: peers.Spoold) -> None:
    """Its data stay."""
    spoold.process.send_signal(signal.SIGTERM)
    spoold.process.wait(20)


def _join(hq: peers.Spoold, site: peers.Spoold, name: str) -> None:
    with hq.control() as control:
        token = control.call("site.invite", name=name, is_approved=True)["token"]
    with site.control() as control:
        control.call("site.enter", server=f"127.0.0.1:{hq.mutual_port}", token=token)


def _standing(control: Control, name: str) -> dict[str, Any]:
    sites = control.call("journal.status")["sites"]
    found: dict[str, Any] = next((one for one in sites if one["name"] == name), {"position": 0})
    return found


def _catch_up(hq: peers.Spoold, site: peers.Spoold, name: str, records: int) -> float:
    """Seconds from the first record that arrives to the last one."""
    _join(hq, site, name)
    with hq.control() as control:
        peers.wait_until(
            "the first records", lambda: _standing(control, name)["position"] > 0, DEADLINE_S
        )
        begun, at_first = time.monotonic(), int(_standing(control, name)["position"])

        def is_there() -> bool:
            time.sleep(0.1)
            return bool(_standing(control, name)["position"] >= records)

        peers.wait_until("the last record", is_there, DEADLINE_S)
        took_s = time.monotonic() - begun
        if _standing(control, name)["quarantined"]:
            raise RuntimeError("records were quarantined")
    return took_s * records / (records - at_first)


def site_catchup(bench: Bench) -> Iterator[Finding]:
    """Records of a site that was cut off go up while jobs come in at the application server."""
    is_quick = bench.depth_jobs < 10_000
    records = RECORDS_QUICK if is_quick else RECORDS
    beside_s = BESIDE_S / 10 if is_quick else BESIDE_S
    rates, slower, usual, meanwhile, memory = [], [], [], [], []
    for pair in bench.each_pair():
        name = f"site{pair}"
        directory = bench.fresh()
        with closing(peers.Spoold(directory, name=name, role="site")) as site:
            _stop(site)
            begun = time.monotonic()
            data_dir = directory / "data"
            last = trio.run(_work_alone, data_dir, node_guid(data_dir), records)
            bench.say(f"  {last:,} records written alone in {time.monotonic() - begun:.0f} s")
            site.start()
            with bench.spoold(name="hq") as hq:
                with Clients(hq.raw_ports[0]) as before:
                    time.sleep(beside_s)
                with Clients(hq.raw_ports[0]) as clients:
                    rates.append(last / _catch_up(hq, site, name, last))
                with Clients(hq.raw_ports[0]) as after:
                    time.sleep(beside_s)
                usual.append(p99_ms(before.took_ms + after.took_ms))
                meanwhile.append(p99_ms(clients.took_ms))
                memory.append(max(hq.rss_mib(), site.rss_mib()))
        slower.append(meanwhile[-1] / usual[-1])
    about = f"a site returns with {records:,} records"
    yield Finding(f"{about}: taken in", "records/s", rates, RECORDS_S)
    yield Finding(
        f"{about}: p99 of jobs meanwhile, against before and after",
        "times",
        slower,
        SLOWER,
        at_most=True,
        notes={
            "usual_ms": [round(one, 2) for one in usual],
            "meanwhile_ms": [round(one, 2) for one in meanwhile],
            "rss_mib": round(max(memory), 1),
        },
    )


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {"site-catchup": site_catchup}
