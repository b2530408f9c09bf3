"""The row of a site's copy: how long the first one takes, and how soon a change is usable there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from benchmarks import peers
from benchmarks.control import Control
from benchmarks.report import Finding
from benchmarks.rows import Bench

USERS_A_PRINTER = 50
COPY_DEADLINE_S = 600
CHANGES_S = 20.0  # changes are made at this pace
FIRST_S = 30.0
USABLE_MS = 1000.0


def _fill(bench: Bench, hq: peers.Spoold) -> tuple[int, int]:
    """A directory of users with cards, and printers; how many."""
    users, printers = bench.depth_jobs, max(1, bench.depth_jobs // USERS_A_PRINTER)
    names = [f"user{which}" for which in range(users)]
    with hq.control() as control:
        control.call_all(
            "user.add",
            ({"name": one, "full_name": f"Person {one}", "groups": ["all"]} for one in names),
        )
        cards = ({"name": one, "card": f"{0x04A10000 + n:08X}"} for n, one in enumerate(names))
        control.call_all("user.add-card", cards)
        control.call_all(
            "printer.add",
            (
                {"name": f"p{which}", "uri": f"socket://127.{which >> 8}.{which & 255}.9:9"}
                for which in range(printers)
            ),
        )
    return users, printers


def _join(hq: peers.Spoold, site: peers.Spoold, name: str) -> None:
    with hq.control() as control:
        token = control.call("site.invite", name=name, is_approved=True)["token"]
    with site.control() as control:
        control.call("site.enter", server=f"127.0.0.1:{hq.mutual_port}", token=token)


def _first_copy(hq: peers.Spoold, site: peers.Spoold, name: str) -> float:
    """Seconds from joining to a whole copy."""
    begun = time.monotonic()
    _join(hq, site, name)
    with site.control() as control:

        def is_whole() -> bool:
            time.sleep(0.2)
            return bool(control.call("site.copy")["is_whole"])

        peers.wait_until("the first copy", is_whole, COPY_DEADLINE_S)
    return time.monotonic() - begun


def _knows(control: Control, card: str) -> bool:
    with contextlib.suppress(RuntimeError):
        return bool(control.call("user.find-card", card=card))
    return False


def _changes(bench: Bench, hq: peers.Spoold, site: peers.Spoold, pair: int) -> list[float]:
    """For each change, how many ms after its commit it was usable at the site, the least first."""
    took = []
    with hq.control() as here, site.control() as there:
        due = time.monotonic()
        for which in range(max(20, int(CHANGES_S * bench.accept_s * 2))):
            due += 1 / CHANGES_S
            time.sleep(max(0.0, due - time.monotonic()))
            card = f"{0x7F000000 + pair * 10_000 + which:08X}"
            # A card is taken away for each that is given: nobody has more than a few.
            name = f"user{pair * 1000 + which % 1000}" if bench.depth_jobs > 10_000 else "user0"
            here.call("user.add-card", name=name, card=card)
            begun = time.monotonic()
            peers.wait_until("a change", lambda card=card: _knows(there, card))  # type: ignore[misc]
            took.append((time.monotonic() - begun) * 1000)
            here.call("user.remove-card", name=name, card=card)
    return sorted(took)


def site_copy(bench: Bench) -> Iterator[Finding]:
    """The first copy of a large directory to a site that joins, and each later change."""
    first, usable, worst, memory = [], [], [], []
    with bench.spoold(name="hq") as hq:
        begun = time.monotonic()
        users, printers = _fill(bench, hq)
        bench.say(f"  {users:,} users, {printers:,} printers in {time.monotonic() - begun:.0f} s")
        for pair in bench.each_pair():
            options = {"name": f"site{pair}", "role": "site", "paused": False}
            with closing(peers.Spoold(bench.fresh(), **options)) as site:  # type: ignore[arg-type]
                first.append(_first_copy(hq, site, f"site{pair}"))
                took = _changes(bench, hq, site, pair)
                usable.append(took[min(len(took) - 1, int(0.99 * len(took)))])
                worst.append(took[-1])
                memory.append(site.rss_mib())
            with hq.control() as control:
                control.call("site.revoke", name=f"site{pair}")
    about = f"{users:,} users and {printers:,} printers"
    notes = {"users_a_s": round(users / min(first)), "site_rss_mib": round(max(memory), 1)}
    yield Finding(f"{about}: first copy", "s", first, FIRST_S, at_most=True, notes=notes)
    yield Finding(
        f"{about}: a change is usable at the site, p99",
        "ms",
        usable,
        USABLE_MS,
        at_most=True,
        notes={"max_ms": round(max(worst), 1)},
    )


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {"site-copy": site_copy}
