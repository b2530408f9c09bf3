"""The rows of people at MFDs: logins, held jobs and releases, with a full directory and spool."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from benchmarks import peers
from benchmarks.report import Finding
from benchmarks.rows import Bench

DOCUMENT = b"\x1bE" + b"x" * 254
LOGINS_S = 200.0
LISTS_S = 100.0
RELEASES_S = 100.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """A directory of `users`, of whom the first ones stand at `mfds` machines; `jobs` are held."""

    users: int
    mfds: int
    jobs: int

    def card(self, which: int) -> str:
        return f"{0x04A10000 + which:08X}"


def _users(spoold: peers.Spoold, crowd: Crowd) -> None:
    with spoold.control() as control:
        names = [f"user{which}" for which in range(crowd.users)]
        control.call_all("user.add", ({"name": name} for name in names))
        control.call_all(
            "user.add-card",
            ({"name": name, "card": crowd.card(which)} for which, name in enumerate(names)),
        )


def _tokens(spoold: peers.Spoold, crowd: Crowd) -> list[str]:
    with spoold.control() as control:
        answers = control.call_all(
            "device.enrol",
            (
                {"name": f"panel{which}", "printers": ["q0"], "credential": "token"}
                for which in range(crowd.mfds)
            ),
        )
    return [one["token"] for one in answers]


def _jobs(spoold: peers.Spoold, crowd: Crowd) -> dict[int, list[int]]:
    """Held jobs of the people, those at machines in turn; the ids of each one's."""
    found: dict[int, list[int]] = {}
    owners = [which % crowd.mfds for which in range(crowd.jobs)]
    with spoold.control() as control:
        results = control.submit_all(
            (
                {"job_uuid": str(uuid4()), "printer": "q0", "user": f"user{owner}"}
                for owner in owners
            ),
            DOCUMENT,
        )
    for owner, result in zip(owners, results, strict=True):
        found.setdefault(owner, []).append(result["job_id"])
    return found


def _wait_counted(spoold: peers.Spoold, crowd: Crowd) -> None:
    """Until the pages of all jobs are known, as they are of jobs that were not sent all at once."""
    last = f"user{(crowd.jobs - 1) % crowd.mfds}"
    with spoold.control() as control:
        while any(
            one["pages"] is None
            for one in control.call("release.held", user=last, limit=200)["jobs"]
        ):
            time.sleep(1)


def _asked(
    bench: Bench, spoold: peers.Spoold, people: list[dict[str, Any]], phases: Iterable[Any]
) -> dict[str, Any]:
    """What a process of MFDs measured; every request was answered well."""
    file = bench.directory / f"people-{uuid4()}.json"
    file.write_text(json.dumps(people))
    spec: dict[str, Any] = {"port": spoold.tls_port, "people": str(file), "phases": list(phases)}
    found = peers.run("mfds", {**spec, "seconds": bench.accept_s * 2})
    file.unlink()
    for op, _ in spec["phases"]:
        if found[op]["failed"]:
            raise RuntimeError(f"{found[op]['failed']} of {op} failed: {found[op]['error']}")
    return found


def _finding(what: str, found: list[dict[str, Any]], goal_ms: float, **notes: Any) -> Finding:
    last = found[-1]
    told = {key: last[key] for key in ("p50_ms", "max_ms", "rate", "client_cpu_share")}
    p99 = [one["p99_ms"] for one in found]
    return Finding(f"{what}, p99", "ms", p99, goal_ms, at_most=True, notes={**told, **notes})


def mfd_login(bench: Bench) -> Iterator[Finding]:
    """Logins by card at a steady pace, from a thousand connected MFDs, in a large directory."""
    crowd = Crowd(bench.depth_jobs, min(1000, bench.idle_connections), 0)
    with bench.spoold() as spoold:
        began = time.monotonic()
        _users(spoold, crowd)
        bench.say(f"  {crowd.users:,} users with cards in {time.monotonic() - began:.0f} s")
        tokens = _tokens(spoold, crowd)
        before = spoold.rss_mib()
        people = [
            {"token": token, "card": crowd.card(which), "jobs": []}
            for which, token in enumerate(tokens)
        ]
        found, connected, memory = [], [], []
        for _ in bench.each_pair():
            one = _asked(bench, spoold, people, [("login", LOGINS_S)])
            found.append(one["login"])
            connected.append(crowd.mfds / one["connected_s"])
            memory.append(spoold.rss_mib())
    about = f"{LOGINS_S:g} logins/s by card, {crowd.users:,} users, {crowd.mfds:,} MFDs"
    yield _finding(about, found, 20.0)
    yield Finding(f"{crowd.mfds:,} MFDs connect with their tokens", "1/s", connected, 100)
    yield Finding(f"{about}: memory", "MiB", memory, 250, at_most=True, notes={"before": before})


def mfd_release(bench: Bench) -> Iterator[Finding]:
    """Lists of held jobs, and releases at a steady pace, with a spool full of held jobs."""
    each = int(RELEASES_S * bench.accept_s * 2)
    mfds = min(1000, bench.idle_connections)
    crowd = Crowd(mfds, mfds, max(bench.depth_jobs, each * bench.pairs + mfds))
    with peers.sink() as (_, ports), bench.spoold(paused=False) as spoold:
        spoold.add_printer("q0", ports[0], paused=False)
        with spoold.control() as control:
            control.call("printer.set", name="q0", release="hold")
        _users(spoold, crowd)
        tokens = _tokens(spoold, crowd)
        began = time.monotonic()
        jobs = _jobs(spoold, crowd)
        bench.say(f"  {crowd.jobs:,} held jobs in {time.monotonic() - began:.0f} s")
        _wait_counted(spoold, crowd)
        bench.say(f"  and counted in {time.monotonic() - began:.0f} s")
        listed, released = [], []
        for pair in bench.each_pair():
            share = -(-each // mfds)
            people = [
                {
                    "token": token,
                    "card": crowd.card(which),
                    "jobs": jobs[which][pair * share : (pair + 1) * share],
                }
                for which, token in enumerate(tokens)
            ]
            phases = [("jobs", LISTS_S), ("release", RELEASES_S)]
            one = _asked(bench, spoold, people, phases)
            listed.append(one["jobs"])
            released.append(one["release"])
    about = f"{crowd.jobs:,} held jobs, {mfds:,} MFDs"
    yield _finding(f"{about}: a list of somebody's", listed, 10.0, jobs_each=len(jobs[0]))
    yield _finding(f"{about}: {RELEASES_S:g} releases/s", released, 20.0)
    yield Finding(
        f"{about}: releases that were done",
        "1/s",
        [one["rate"] for one in released],
        0.95 * RELEASES_S,
    )


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {
    "mfd-login": mfd_login,
    "mfd-release": mfd_release,
}
