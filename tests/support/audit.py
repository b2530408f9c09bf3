"""Is everything there that somebody was promised? A spool after a crash, opened as a start does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
from structlog.testing import capture_logs

from spoold.daemon.config import Retention
from spoold.daemon.identity import open_identity
from spoold.model.errors import SpoolError
from spoold.model.job import Job, JobReason, JobState
from spoold.spool.documents import Documents
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sqlite import open_store
from spoold.spool.store import JobFilter
from spoold.spool.upkeep import Upkeep
from support.chain import verified
from support.load import Load

OVER = (JobState.COMPLETED, JobState.CANCELED, JobState.ABORTED)
FOR_EVER = replace(Retention(), documents_s=1e9, finished_jobs_s=1e9)


def wall_clock() -> int:
    return time.time_ns() // 1000


def audit(data_dir: Path, load: Load, acknowledged: set[str]) -> list[str]:
    """What is wrong with the spool in `data_dir` after a power cut; empty when nothing is.

    `acknowledged` are the names of the jobs of `load` that must be there. Opening it is the
    recovery that a daemon's start does; it changes the directory.
    """
    data_dir.mkdir(mode=0o700, exist_ok=True)
    try:
        with capture_logs():
            return trio.run(_audit, data_dir, load, acknowledged)
    except Exception as error:
        return [f"it does not start: {error!r}"]


async def _audit(data_dir: Path, load: Load, acknowledged: set[str]) -> list[str]:
    identity = open_identity(data_dir, node_name="crash", names=(), wall_clock=wall_clock)
    writer, store = await open_store(data_dir, wall_clock(), os.urandom, identity.guid)
    reader = await SqliteReader.open(data_dir)
    journal = Journal(writer, store)
    documents = Documents(data_dir, reader)
    upkeep = Upkeep(journal, reader, documents, store, wall_clock, lambda: FOR_EVER)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)
            before = journal.head
            await upkeep.recover(wall_clock() + 1_000_000)
            problems = await _chain(reader, writer.raw.execute, before)
            jobs = await reader.jobs(JobFilter(limit=100_000))
            problems += await _jobs(jobs, documents, load, acknowledged, data_dir / "printed")
            journal.close_nowait()
    finally:
        await reader.close()
        await writer.close()
        store.close()
    return problems


async def _chain(reader: SqliteReader, execute: Callable[..., Any], before: int) -> list[str]:
    problems = []
    (said,) = execute("PRAGMA integrity_check").fetchone()
    if said != "ok":
        problems.append(f"integrity: {said}")
    (incarnations,) = execute("SELECT count(*) FROM chain").fetchone()
    if incarnations != 1:
        problems.append("a power cut was taken for a roll-back")
    holds_to = await verified(reader)
    if holds_to < before:
        problems.append(f"the chain ends at {holds_to} instead of {before}")
    return problems


async def _jobs(
    jobs: list[Job], documents: Documents, load: Load, acknowledged: set[str], printed: Path
) -> list[str]:
    problems = []
    found: dict[str, Job] = {}
    for job in jobs:
        name = str(job.uuid) if job.intake == "frames" else job.title
        if name not in load.sent:
            problems.append(f"job {job.id} was never sent: {name}")
        elif name in found:
            problems.append(f"twice: {name} is job {found[name].id} and job {job.id}")
        else:
            found[name] = job
            if job.document.stored == "none" and name not in acknowledged:
                continue  # made, and its document was on its way
            problems += await _whole(job, load.sent[name], documents)
            problems += _paper(job, load.sent[name], printed)
        if load.receipts.get(name, job.id) != job.id:
            problems.append(f"{name} was told the number {load.receipts[name]}, and is {job.id}")
    problems += [f"acknowledged and lost: {name}" for name in acknowledged - found.keys()]
    told = {number: name for name, number in load.receipts.items()}
    problems += [
        f"the number {number} of {name} was given again"
        for number, name in told.items()
        for other, job in found.items()
        if job.id == number and other != name
    ]
    return problems


async def _whole(job: Job, sent: bytes, documents: Documents) -> list[str]:
    if JobReason.DOCUMENT_DAMAGED in job.reasons:
        return [f"job {job.id} is damaged: {job.message}"]
    if job.document.stored == "gone":
        return [] if job.state in OVER else [f"job {job.id} is {job.state} without a document"]
    try:
        source = await documents.open(job)
    except SpoolError as error:
        return [str(error)]
    try:
        body = source.read_at(0, job.document.size + 1)
    finally:
        source.close()
    return [] if body == sent else [f"job {job.id} has {len(body)} bytes that were not sent"]


def _paper(job: Job, sent: bytes, printed: Path) -> list[str]:
    """What is called printed is there: the driver synced it before it said so."""
    if job.state is not JobState.COMPLETED:
        return []
    files = [path for path in printed.glob(f"*{job.uuid}*") if not path.name.startswith(".")]
    if [path.read_bytes() for path in files] == [sent]:
        return []
    return [f"job {job.id} is completed, and {len(files)} files were printed"]
