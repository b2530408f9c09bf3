"""The rows of a node with years of work behind it: for how long an upgrade of it answers nobody,
and how soon it answers those who look at it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import msgpack

from benchmarks import peers
from benchmarks.control import Control
from benchmarks.paced import Looks, p99_ms
from benchmarks.report import Finding
from benchmarks.rows import Bench
from spoold.codec import record as codec
from spoold.daemon.identity import node_guid
from spoold.spool import migrations
from spoold.spool.rows import CHAIN_SHIFT
from spoold.spool.sqlite import APPLICATION_ID, PAGE_BYTES

RECORDS = 10_000_000
RECORDS_QUICK = 20_000
RECORDS_A_JOB = 4
JOBS_AT_ONCE = 5_000
DOWN_S = 60.0
HISTORY = 4 * 1_000_000  # records of as many finished jobs as are kept
HISTORY_QUICK = 4 * 5_000
LOOKS_S = 10.0
SEARCHES = 5
PEOPLE = 20_000
PEOPLE_QUICK = 100
STATUS_MS = 50.0
SEARCH_MS = 2000.0
USAGE_S = 10.0
OTHERS_MS = 50.0
DEADLINE_S = 600.0
DIGEST = "blake3:" + "0" * 64
EVIDENCE = msgpack.packb({"method": "ipp-job-state", "pages": 2})


# -- a spool of years ---------------------------------------------------------------------------


def _make_spool(data_dir: Path, guid: UUID, records: int, version: int) -> Path:
    """A spool of printed jobs and their records, as the first schema had them, brought up to
    `version` by the migrations until then.
    """
    path = data_dir / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -1000000")
        db.executescript(migrations.migrations()[1])
        _fill(db, guid, records)
        for number in range(2, version + 1):
            db.executescript(migrations.migrations()[number])
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("PRAGMA journal_mode = WAL")
    os.sync()
    return path


def _fill(db: sqlite3.Connection, guid: UUID, records: int) -> None:
    now_us = time.time_ns() // 1000
    packed = msgpack.packb({})
    db.execute("INSERT INTO person VALUES (1, ?, 'olga')", (os.urandom(16),))
    db.execute("INSERT INTO device VALUES (1, ?, 'socket://127.0.0.1:9', ?)", (guid.bytes, packed))
    db.execute("INSERT INTO printer VALUES (1, ?, 'default', 1, ?)", (guid.bytes, packed))
    previous, jobs = codec.GENESIS, records // RECORDS_A_JOB
    for first in range(1, jobs + 1, JOBS_AT_ONCE):
        ids = range(first, min(first + JOBS_AT_ONCE, jobs + 1))
        rows = []
        for id_ in ids:
            for number in range(RECORDS_A_JOB):
                position = (id_ - 1) * RECORDS_A_JOB + number + 1
                payload = {"job_id": id_, "uuid": os.urandom(16), "state": number, "size": 20_000}
                made = codec.encode(
                    previous, position, "job-changed", 1, "node", now_us, None, payload,
                    {"owner": "olga", "title": f"letter {id_}"} if not number else None, bytes(16),
                )  # fmt: skip
                rows.append((1 << CHAIN_SHIFT | position, *made))
                previous = made.hash
        db.execute("BEGIN")
        db.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?)", rows)
        db.executemany(
            "INSERT INTO job VALUES (?, ?, 1, 9, '', '', 1, 'claimed', '', 'address:127.0.0.1', "
            "'letter', '', 'raw', 50, 1, 0, NULL, 1, ?, ?, ?, 0, ?)",
            ((id_, os.urandom(16), now_us, now_us, now_us, id_ * RECORDS_A_JOB) for id_ in ids),
        )
        db.executemany(
            "INSERT INTO document VALUES (?, 20000, ?, 'text/plain', '', '', 'gone', '', NULL)",
            ((id_ * 4096 + 1, DIGEST) for id_ in ids),
        )
        db.executemany(
            "INSERT INTO attempt VALUES (?, 1, 1, 1, ?, ?, 'delivered', '', '', 20000, ?)",
            ((id_, now_us, now_us, EVIDENCE) for id_ in ids),
        )
        db.execute("COMMIT")
    db.execute(
        "INSERT INTO chain VALUES (1, ?, ?, NULL, NULL, NULL, 1, ?, ?, ?, 0, ?, ?)",
        (guid.bytes, os.urandom(16), now_us, jobs * RECORDS_A_JOB, previous, codec.GENESIS, jobs),
    )


def _charge(path: Path, people: int) -> None:
    """Each of its jobs was paid for, by one of so many people."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -1000000")
        keys = [os.urandom(16) for _ in range(people)]
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO person (key, name) VALUES (?, ?)",
            ((key, f"user{number}") for number, key in enumerate(keys)),
        )
        jobs = db.execute("SELECT id, uuid, finished_us FROM job").fetchall()
        db.executemany(
            "INSERT INTO charge (id, key, state, holder, is_account, spender, job_id, printer, "
            "work, impressions, color_impressions, sheets, amount, refunded, is_shadow, flags, "
            "happened_us, ended_us, fields) VALUES (?, ?, 'settled', ?, 0, ?, ?, ?, 'print', 2, "
            "0, 1, 500, 0, 0, '', ?, ?, ?)",
            (
                (id_, uuid, keys[id_ * 7919 % people], keys[id_ * 7919 % people], id_, bytes(16),
                 ended_us, ended_us, EVIDENCE)
                for id_, uuid, ended_us in jobs
            ),
        )  # fmt: skip
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
    os.sync()


# -- the rows ----------------------------------------------------------------------------------


def _stop(spoold: peers.Spoold) -> float:
    """Seconds that it takes."""
    begun = time.monotonic()
    spoold.process.send_signal(signal.SIGTERM)
    spoold.process.wait(60)
    return time.monotonic() - begun


def _forget(path: Path) -> None:
    """Nothing of it is in memory any more, as on a machine that has other work."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _fill_stopped(bench: Bench, spoold: peers.Spoold, records: int, version: int) -> Path:
    """Stop a new node, and give it another spool: where that is."""
    _stop(spoold)
    data_dir = spoold.directory / "data"
    for path in data_dir.glob("spool.db*"):
        path.unlink()
    (data_dir / "witness").unlink()
    begun = time.monotonic()
    path = _make_spool(data_dir, node_guid(data_dir), records, version)
    size_mib = path.stat().st_size >> 20
    bench.say(f"  {records:,} records, {size_mib:,} MiB in {time.monotonic() - begun:.0f} s")
    return path


def upgrade(bench: Bench) -> Iterator[Finding]:
    """A node with many records is stopped, and started as the next version: until it answers."""
    is_quick = bench.depth_jobs < 10_000
    records = RECORDS_QUICK if is_quick else RECORDS
    down, copies = [], []
    with closing(peers.Spoold(bench.fresh(), paused=False)) as spoold:
        before = migrations.newest() - 1
        path = _fill_stopped(bench, spoold, records, before)
        size_mib, data_dir = path.stat().st_size >> 20, path.parent
        copy = data_dir / migrations.COPY.format(before)
        for _ in bench.each_pair():
            _forget(path)
            begun = time.monotonic()
            spoold.start(DEADLINE_S)
            took_s = time.monotonic() - begun
            copies.append(copy.stat().st_size >> 20)
            down.append(took_s + _stop(spoold))
            for stale in data_dir.glob("spool.db*"):
                stale.unlink()
            copy.rename(path)
            os.sync()
    yield Finding(
        f"upgrade with {records:,} records: stop to answering",
        "s",
        down,
        DOWN_S,
        at_most=True,
        notes={"schema": before, "spool_mib": size_mib, "copy_mib": max(copies)},
    )


def _count_used(control: Control) -> int:
    """How many people have used anything, by all the pages of the sums."""
    count, after = 0, None
    while True:
        page = control.call("usage.sums", limit=500, after_id=after)
        count, after = count + len(page["sums"]), page["next_after_id"]
        if after is None:
            return count


def history(bench: Bench) -> Iterator[Finding]:
    """A node that keeps as many finished jobs as it may is looked at, and searched."""
    is_quick = bench.depth_jobs < 10_000
    records = HISTORY_QUICK if is_quick else HISTORY
    people = PEOPLE_QUICK if is_quick else PEOPLE
    status, searched, others, summed, beside = [], [], [], [], []
    with closing(peers.Spoold(bench.fresh(), paused=False)) as spoold:
        _charge(_fill_stopped(bench, spoold, records, migrations.newest()), people)
        spoold.start(DEADLINE_S)
        for _ in bench.each_pair():
            with Looks(spoold) as looks:
                time.sleep(LOOKS_S / 10 if is_quick else LOOKS_S)
            status.append(p99_ms(looks.took_ms))
            with spoold.control() as control, Looks(spoold, "job.show", job=1) as looks:
                begun = time.monotonic()
                for _ in range(SEARCHES):
                    control.call("job.list", title="that no job has")
                searched.append((time.monotonic() - begun) * 1000 / SEARCHES)
            others.append(p99_ms(looks.took_ms))
            with spoold.control() as control, Looks(spoold, "job.show", job=1) as looks:
                begun = time.monotonic()
                assert _count_used(control) == people
                summed.append(time.monotonic() - begun)
            beside.append(p99_ms(looks.took_ms))
    about = f"{records // RECORDS_A_JOB:,} finished jobs"
    yield Finding(f"{about}: `status`, p99", "ms", status, STATUS_MS, at_most=True)
    yield Finding(f"{about}: all searched for a title", "ms", searched, SEARCH_MS, at_most=True)
    yield Finding(f"{about}: `job show` meanwhile, p99", "ms", others, OTHERS_MS, at_most=True)
    yield Finding(f"{about}: `usage` of {people:,} people", "s", summed, USAGE_S, at_most=True)
    yield Finding(f"{about}: `job show` beside that, p99", "ms", beside, OTHERS_MS, at_most=True)


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {"upgrade": upgrade, "history": history}
