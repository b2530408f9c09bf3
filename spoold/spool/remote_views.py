"""What is asked about jobs of other nodes, as their records tell; each look-up is a short snapshot.

For listings, for people who want what waits for them elsewhere, and for operators who give a node
up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from spoold.model.job import JobReason, JobState
from spoold.spool import people
from spoold.spool.handed import HANDED_ON
from spoold.spool.rows import NUMBER, STATE

_HELD = NUMBER[JobState.PENDING_HELD]


class RemoteJob(NamedTuple):
    """A job of another node as listings show it; `owner` is a name, "" of one who is not known."""

    node: UUID
    job_id: int
    uuid: UUID
    printer: UUID | None
    owner: str
    state: JobState
    reasons: tuple[str, ...]
    title: str
    intake: str
    copies: int
    size: int
    format: str
    impressions: int | None
    media_sheets: int | None
    attempts: int
    created_us: int
    changed_us: int
    finished_us: int | None


_SELECT = (
    "SELECT remote_job.node, job_id, uuid, printer, coalesce(person.name, ''), state, reasons, "
    "title, intake, copies, size, format, impressions, media_sheets, attempts, created_us, "
    "changed_us, finished_us FROM remote_job LEFT JOIN person ON person.key = remote_job.owner "
)


def _job(row: Sequence[Any]) -> RemoteJob:
    node, job_id, uuid, printer, owner, state, reasons, *rest = row
    return RemoteJob(
        UUID(bytes=node),
        job_id,
        UUID(bytes=uuid),
        None if printer is None else UUID(bytes=printer),
        owner,
        STATE[state],
        tuple(reasons.split()),
        *rest,
    )


def by_number(db: sqlite3.Connection, node: UUID, job_id: int) -> RemoteJob | None:
    """A job by the number that its own node gave it; the newest where a restore gave it again."""
    row = db.execute(
        _SELECT + "WHERE remote_job.node = ? AND job_id = ? ORDER BY remote_job.id DESC LIMIT 1",
        (node.bytes, job_id),
    ).fetchone()
    return None if row is None else _job(row)


def by_uuid(db: sqlite3.Connection, uuid: UUID) -> list[RemoteJob]:
    """The job at each other node that has told of it."""
    rows = db.execute(_SELECT + "WHERE uuid = ? ORDER BY remote_job.id", (uuid.bytes,))
    return [_job(row) for row in rows]


class Waits(NamedTuple):
    """A job that waits for its owner at another node; names are "" where nothing is known."""

    key: int
    node: str
    printer: str
    job: RemoteJob


_WAITING = (
    _SELECT.replace(
        "SELECT ",
        "SELECT remote_job.id, (SELECT name FROM node WHERE guid = remote_job.node), "
        "(SELECT name FROM printer WHERE guid = remote_job.printer), ",
        1,
    )
    + "WHERE remote_job.owner = ? AND finished_us IS NULL "
    f"AND state = {_HELD} AND reasons LIKE '%{JobReason.JOB_RELEASE_WAIT}%' "
    "AND NOT EXISTS (SELECT 1 FROM node WHERE guid = remote_job.node AND state = 'revoked') "
)
_WAITING_BEHIND = (
    _WAITING.replace("FROM remote_job ", "FROM remote_job INDEXED BY remote_job_held ")
    + "AND remote_job.id > ? ORDER BY remote_job.id LIMIT ?"
)


def waits_for(db: sqlite3.Connection, user: UUID, after: int, limit: int) -> list[Waits]:
    """Jobs behind a key that wait for a user at other nodes, or for somebody who lets the user
    release theirs; not those of a site that was revoked, which nobody reaches any more.
    """
    found = [
        _waits(row)
        for owner in _owners(db, user)
        for row in db.execute(_WAITING_BEHIND, (owner.bytes, after, limit))
    ]
    return sorted(found, key=lambda one: one.key)[:limit]


def waiting_among(db: sqlite3.Connection, user: UUID, keys: Sequence[int]) -> dict[int, Waits]:
    """Those with these keys among the jobs of `waits_for`."""
    return {
        row[0]: _waits(row)
        for owner in _owners(db, user)
        for key in keys
        for row in db.execute(_WAITING + "AND remote_job.id = ?", (owner.bytes, key))
    }


class OnlyThere(NamedTuple):
    """Unfinished jobs that a node has and this one has not; `held` are those of them that wait for
    their owners.
    """

    jobs: int
    held: int


def only_at(db: sqlite3.Connection, node: UUID) -> OnlyThere:
    """What would be lost with the machine of another node, as far as it has told."""
    row = db.execute(
        f"SELECT count(*), coalesce(sum(state = {_HELD} AND "
        f"reasons LIKE '%{JobReason.JOB_RELEASE_WAIT}%'), 0) FROM remote_job "
        "INDEXED BY remote_job_unfinished WHERE node = ? AND finished_us IS NULL AND intake != ? "
        "AND NOT EXISTS (SELECT 1 FROM job WHERE job.uuid = remote_job.uuid)",
        (node.bytes, HANDED_ON),
    ).fetchone()
    return OnlyThere(*row)


def uuid_of(db: sqlite3.Connection, key: int) -> UUID | None:
    row = db.execute("SELECT uuid FROM remote_job WHERE id = ?", (key,)).fetchone()
    return None if row is None else UUID(bytes=row[0])


def _owners(db: sqlite3.Connection, user: UUID) -> list[UUID]:
    return [user, *(one.guid for one in people.delegators(db, user))]


def _waits(row: tuple[Any, ...]) -> Waits:
    return Waits(row[0], row[1] or "", row[2] or "", _job(row[3:]))


def page(
    db: sqlite3.Connection, node: UUID, before: int, limit: int, unfinished: bool = False
) -> list[tuple[int, RemoteJob]]:
    """The newest jobs of a node before a key (0: all), each with its key for the next page."""
    where = "WHERE remote_job.node = ? AND (? = 0 OR remote_job.id < ?) "
    if unfinished:
        where += "AND finished_us IS NULL "
    rows = db.execute(
        _SELECT.replace("SELECT ", "SELECT remote_job.id, ", 1)
        + where
        + "ORDER BY remote_job.id DESC LIMIT ?",
        (node.bytes, before, before, limit),
    )
    return [(row[0], _job(row[1:])) for row in rows]
