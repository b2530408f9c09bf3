"""One Get-Jobs of everything, and what another client waits for meanwhile.

Started as `python -m benchmarks.listing SPEC` with a JSON object; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from benchmarks import ipp
from benchmarks.answers import drain_http, read_http
from benchmarks.load import Spec, connect, percentile


def get_jobs(spec: Spec) -> dict[str, Any]:
    """One Get-Jobs, with all attributes: the first byte and the whole, from before the request.

    `probe`: another connection asks for a printer's state every 2 ms meanwhile, in a thread.
    """
    with connect(spec) as kept, connect(spec) as probe:
        request = ipp.get_jobs(spec["queue"], spec.get("limit"))
        other = ipp.post(f"/printers/{spec['queue']}", spec["port"], ipp.get_printer(spec["queue"]))
        waits: list[float] = []
        is_over = threading.Event()

        def ask() -> None:
            while not is_over.is_set():
                began = time.monotonic()
                probe.sendall(other)
                read_http(probe)
                waits.append((time.monotonic() - began) * 1000)
                time.sleep(0.002)

        asking = threading.Thread(target=ask)
        if spec.get("probe"):
            asking.start()
        began = time.monotonic()
        kept.sendall(ipp.post(f"/printers/{spec['queue']}", spec["port"], request))
        first, size = drain_http(kept)
        ended = time.monotonic()
        is_over.set()
        if spec.get("probe"):
            asking.join()
    waits.sort()
    return {
        "first_ms": (first - began) * 1000,
        "whole_ms": (ended - began) * 1000,
        "bytes": size,
        "probe_p99_ms": percentile(waits, 0.99) if waits else 0.0,
        "probe_max_ms": waits[-1] if waits else 0.0,
        "probes": len(waits),
    }


if __name__ == "__main__":
    print(json.dumps(get_jobs({"host": "127.0.0.1"} | json.loads(sys.argv[1]))), flush=True)
