"""Listings and look-ups over a read-only connection: each call is one short snapshot, or several
where many jobs are looked through, and others have their turn in between. What has to go through
very much in one look has a connection of its own (`report`).

Readers never checkpoint and never hold a snapshot across a wait, so that the write-ahead log can
always be copied back. Pages are keyset pages: the key of the last row of the one before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import trio

from spoold.codec import record as codec
from spoold.model.job import Document, Job, JobState
from spoold.model.mfd import Mfd, Session
from spoold.model.printer import Device, Printer
from spoold.model.record import Record
from spoold.model.user import User
from spoold.spool import (
    accepting,
    connection,
    depth,
    listing,
    mfds,
    people,
    posted,
    sending,
    sessions,
    users,
)
from spoold.spool.pages import Page, PageQuery, Search
from spoold.spool.rows import (
    ATTEMPT_SELECT,
    DOCUMENTS_PER_JOB,
    JOB_SELECT,
    STATE,
    attempt_of,
    device_of,
    document_id,
    job_of,
    printer_of,
    unpack,
)
from spoold.spool.store import Accepted, Attempt, Certificate, JobFilter, JobMoved, Provider

T = TypeVar("T")
Open = Callable[[], Awaitable[connection.TrioConnection]]
RECORDS_STEP = 4096
FUTURE_MAX = 100  # records that a wrong clock has dated, and that are looked over
_PRINTERS = "SELECT id, guid, name, device_id, fields FROM printer WHERE name IS NOT NULL "


class SqliteReader:
    """Every method reads the committed state at the moment of its call, or a later one."""

    def __init__(self, reader: connection.TrioConnection, open_another: Open) -> None:
        self._connection, self._open_another = reader, open_another
        self._reports: connection.TrioConnection | None = None
        self._reports_lock = trio.Lock()
        self._posted = posted.Posted(reader)

    @classmethod
    async def open(
        cls, data_dir: Path, connect: connection.Connect = connection.connect
    ) -> SqliteReader:
        """Open the spool that `sqlite.open_store` has opened before."""

        async def open_one() -> connection.TrioConnection:
            reader = await connect(str(data_dir / "spool.db"), read_only=True)
            try:
                await reader.run(_prepare, reader.raw)
            except BaseException:
                await reader.close()
                raise
            return reader

        return cls(await open_one(), open_one)

    async def close(self) -> None:
        if self._reports is not None:
            await self._reports.close()
        await self._connection.close()

    async def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            return self._connection.raw.execute(sql, values).fetchall()

        return await self._connection.run(run)

    async def _column(self, sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in await self._all(sql, *values)]

    # -- jobs ------------------------------------------------------------------------------

    async def job(self, job_id: int) -> Job | None:
        rows = await self._all(JOB_SELECT + "WHERE job.id = ?", job_id)
        return job_of(rows[0]) if rows else None

    async def job_by_uuid(self, uuid: UUID) -> Job | None:
        rows = await self._all(JOB_SELECT + "WHERE job.uuid = ?", uuid.bytes)
        return job_of(rows[0]) if rows else None

    async def first_answer(
        self, uuid: UUID, submitter: str, printer_guid: UUID
    ) -> tuple[Accepted, str] | None:
        """What a job-uuid was answered before, with the document's digest.

        Raises:
            OperationError: `conflict`, the uuid is another submitter's or another printer's.
        """
        return await self.look(accepting.first_answer, uuid, submitter, printer_guid.bytes)

    async def jobs(self, which: JobFilter) -> list[Job]:
        """At most `which.limit` jobs, in the order of their ids; see `listing`."""
        found: list[Job] = []
        after: int | None = which.after_id
        while after is not None:
            rest = replace(which, after_id=after, limit=which.limit - len(found))
            jobs, after = await self.look(listing.stretch, rest)
            found += jobs
        return found

    async def page(self, query: PageQuery) -> Page:
        """A page of a listing, in the order in which it is told."""
        search = Search(query)

        def step(db: sqlite3.Connection) -> Page | None:
            search.step(db)
            return search.page(db) if search.is_over else None

        while (page := await self.look(step)) is None:
            pass
        return page

    async def attempts(self, job_id: int) -> list[Attempt]:
        rows = await self._all(ATTEMPT_SELECT + "WHERE job_id = ? ORDER BY number", job_id)
        return [attempt_of(row) for row in rows]

    async def open_attempts(self) -> list[Attempt]:
        """Attempts without an end: after a start, those that a crash interrupted."""
        rows = await self._all(
            ATTEMPT_SELECT + "WHERE ended_us IS NULL AND job_id IN (SELECT id FROM job "
            "INDEXED BY job_unfinished WHERE finished_us IS NULL AND state IN (5, 6)) "
            "ORDER BY job_id, number"
        )
        return [attempt_of(row) for row in rows]

    async def job_with_document(self, job_id: int) -> posted.Found | None:
        """A job with its document's body or file, in one look: what a delivery begins with."""
        return await self.look(posted.find, job_id)

    def post_job_with_document(
        self, job_id: int, then: posted.Hear, bytes_max: int = posted.ANY_SIZE
    ) -> None:
        """As `job_with_document`, for who does not wait: `then` hears it in the Trio thread.

        It must not wait or raise. A document of more than `bytes_max` is not looked at: None.
        """
        self._posted.add(job_id, then, bytes_max)

    async def document_body(self, job_id: int, number: int = 1) -> bytes | None:
        """A document of a job that keeps it in its row; None when it is elsewhere or gone."""
        rows = await self._all(
            "SELECT body FROM document WHERE id = ?", document_id(job_id, number)
        )
        return rows[0][0] if rows else None

    async def documents(self, job_id: int) -> list[Document]:
        """All documents of a job, in their order; one of them of a job that was just opened."""
        rows = await self._all(
            "SELECT size, digest, format, stored, encoding, key_id, coalesce(name, '') "
            "FROM document WHERE id > ? AND id < ? ORDER BY id",
            document_id(job_id, 0),
            document_id(job_id + 1, 0),
        )
        return [Document(*row) for row in rows]

    async def document(self, job_id: int, number: int) -> tuple[Document, bytes | None, str] | None:
        """A document of a job with its body or its file; None when there is none."""
        rows = await self._all(
            "SELECT size, digest, format, stored, encoding, key_id, coalesce(name, ''), body, file "
            "FROM document WHERE id = ?",
            document_id(job_id, number),
        )
        return (Document(*rows[0][:7]), *rows[0][7:]) if rows else None

    async def files_of(self, job_id: int) -> list[str]:
        """The file of each document of a job; "" for one that is elsewhere or gone."""
        return await self._column(
            "SELECT file FROM document WHERE id > ? AND id < ? ORDER BY id",
            document_id(job_id, 0),
            document_id(job_id + 1, 0),
        )

    async def copies_asked(self, job_id: int) -> tuple[int, bool]:
        """A job's copies, whatever its documents say; and whether all make them by themselves."""
        rows = await self._all("SELECT copies, copies_embedded FROM job WHERE id = ?", job_id)
        return (rows[0][0], bool(rows[0][1])) if rows else (1, False)

    async def document_files(self, after: str, limit: int) -> list[tuple[str, int, int, int]]:
        """(file, job id, number of the document, size) of documents kept in files, by name."""
        return [
            (row[0], *divmod(row[1], DOCUMENTS_PER_JOB), row[2])
            for row in await self._all(
                "SELECT file, id, size FROM document WHERE stored = 'file' AND file > ? "
                "ORDER BY file LIMIT ?",
                after,
                limit,
            )
        ]

    async def waiting(self) -> list[JobMoved]:
        """Every pending job, oldest first, as an event whose `old` state is None."""
        rows = await self._all(
            "SELECT job.id, job.uuid, job.printer_id, job.state, job.reasons, job.priority, "
            "person.name, coalesce(job.size, document.size), job.position "
            "FROM job INDEXED BY job_unfinished JOIN person ON person.id = job.owner_id "
            "JOIN document ON document.id = job.id * 4096 + 1 "
            "WHERE job.finished_us IS NULL AND job.state = 3 "
            "AND job.printer_id IN (SELECT id FROM printer) ORDER BY job.id"
        )
        return [
            JobMoved(
                id_, UUID(bytes=uuid), printer_id, None, STATE[state],
                tuple(reasons.split()), priority, name or "", size, position,
            )
            for id_, uuid, printer_id, state, reasons, priority, name, size, position in rows
        ]  # fmt: skip

    async def counts(self) -> dict[int, dict[JobState, int]]:
        """How many unfinished jobs each printer has, by state."""
        return await self.look(depth.counts)

    async def interrupted(self, printer_id: int, since_us: int) -> int:
        """How many submissions to a printer broke off since a time."""
        rows = await self._all(
            "SELECT count(*) FROM job WHERE interrupted = 1 AND printer_id = ? AND created_us >= ?",
            printer_id,
            since_us,
        )
        return int(rows[0][0])

    async def following(self) -> list[tuple[int, int, JobState]]:
        """(job, the job that it is to follow, that one's state) of pending jobs, on one printer."""
        rows = await self._all(
            "SELECT job.id, job.after_id, first.state FROM job INDEXED BY job_after "
            "JOIN job AS first ON first.id = job.after_id WHERE job.after_id IS NOT NULL "
            "AND job.state = 3 AND first.printer_id = job.printer_id ORDER BY job.id"
        )
        return [(job_id, after_id, STATE[state]) for job_id, after_id, state in rows]

    async def overdue(self, now_us: int, limit: int) -> list[int]:
        """Ids of open jobs whose document has not come in its time, the longest overdue first."""
        return await self._column(
            "SELECT job_id FROM incoming WHERE deadline_us <= ? ORDER BY deadline_us LIMIT ?",
            now_us,
            limit,
        )

    async def released_by(self, now_us: int, limit: int) -> list[int]:
        """Ids of jobs whose hold ends by itself before or now, the earliest first."""
        return await self._column(
            "SELECT id FROM job INDEXED BY job_release WHERE release_us <= ? "
            "AND release_us IS NOT NULL ORDER BY release_us LIMIT ?",
            now_us,
            limit,
        )

    async def finished_before(self, before_us: int, limit: int) -> list[int]:
        """Ids of jobs that finished before a time, oldest first."""
        return await self._column(
            "SELECT id FROM job INDEXED BY job_finished WHERE finished_us < ? "
            "AND finished_us IS NOT NULL ORDER BY finished_us LIMIT ?",
            before_us,
            limit,
        )

    async def kept_before(self, before_us: int, limit: int) -> list[tuple[int, int]]:
        """The same, of those that keep their documents: each with the bytes of these."""
        return await self._all(
            "SELECT id, kept_bytes FROM job INDEXED BY job_kept WHERE finished_us < ? "
            "AND kept_bytes IS NOT NULL ORDER BY finished_us LIMIT ?",
            before_us,
            limit,
        )

    async def finished_totals(self) -> tuple[int, int]:
        """(finished jobs, bytes of the documents that they keep)."""
        return await self.look(depth.finished_totals)

    async def look(self, look_up: Callable[..., T], *values: Any) -> T:
        """What a look-up of another module finds: one short snapshot, as everything here, however
        many statements it makes.
        """
        return await self._connection.run(_in_snapshot, self._connection.raw, look_up, values)

    async def report(self, look_up: Callable[..., T], *values: Any) -> T:
        """As `look`, for what may take seconds: nobody but other reports waits behind it."""
        async with self._reports_lock:
            if self._reports is None:
                self._reports = await self._open_another()
        return await self._reports.run(_in_snapshot, self._reports.raw, look_up, values)

    # -- printers, devices, providers ------------------------------------------------------

    async def printers(self) -> list[Printer]:
        return [printer_of(*row) for row in await self._all(_PRINTERS + "ORDER BY name")]

    async def devices(self) -> list[Device]:
        rows = await self._all("SELECT id, guid, uri, fields FROM device ORDER BY id")
        return [device_of(*row) for row in rows]

    async def providers(self) -> list[Provider]:
        rows = await self._all(
            "SELECT provider.guid, provider.name, provider.fields, provider.revoked, "
            "group_concat(certificate.serial, ' '), max(certificate.not_after_us) FROM provider "
            "JOIN certificate ON certificate.holder = provider.guid "
            "GROUP BY provider.guid ORDER BY provider.name"
        )
        return [
            Provider(
                UUID(bytes=guid),
                name,
                tuple(serials.split()),
                tuple(unpack(fields)["may_assert"]),
                bool(revoked),
                not_after_us,
            )
            for guid, name, fields, revoked, serials, not_after_us in rows
        ]

    # -- users -----------------------------------------------------------------------------

    async def user(self, name: str) -> User | None:
        found = await self.look(users.find, name)
        return found[0] if found else None

    async def user_and_password(self, name: str) -> tuple[User, str] | None:
        """A user with the hash of the password, "" without one."""
        return await self.look(users.find, name)

    async def user_by_guid(self, guid: UUID) -> User | None:
        return await self.look(users.find_by_guid, guid)

    async def users(self, after: str, limit: int) -> list[User]:
        """At most `limit` users behind a name, by name."""
        return await self.look(users.page, after, limit)

    async def delegators(self, guid: UUID) -> list[User]:
        """Those who let this person release their jobs, by name."""
        return await self.look(people.delegators, guid)

    async def certificates(self, guid: UUID) -> list[Certificate]:
        """Every certificate that was given to a user, the one that is valid longest first."""
        return await self.look(users.certificates, guid)

    async def names(self, guids: list[UUID]) -> dict[UUID, str]:
        """The names of people by their keys; those who are not known any more are left out."""
        return await self.look(users.names, guids)

    # -- MFDs --------------------------------------------------------------------------------

    async def mfds(self) -> list[tuple[Mfd, bytes | None]]:
        """Every MFD, by name, with the hash of its token."""
        return await self.look(mfds.find_all)

    async def session(self, key: bytes) -> Session | None:
        """A session by the hash of its id, also when it is over."""
        return await self.look(sessions.find, key)

    async def open_sessions(self) -> list[Session]:
        return await self.look(sessions.find_open)

    async def revoked_serials(self) -> list[str]:
        return [row[0] for row in await self._all("SELECT serial FROM certificate WHERE revoked")]

    # -- the journal -----------------------------------------------------------------------

    async def records(self, from_position: int, limit: int) -> list[Record]:
        """Records of this node's journal from a position on, in order: of the incarnation in use,
        whichever that is by then.
        """

        def stored(db: sqlite3.Connection) -> list[tuple[int, bytes, bytes, bytes | None, bytes]]:
            return sending.stored(db, sending.own_chain(db), from_position, limit)

        rows = await self.look(stored)
        return [codec.decode(*row[1:]) for row in rows]

    async def record_before(self, before_us: int, now_us: int) -> int:
        """The position up to which the records were made before a time, or the anchor.

        Times jump with the clock, so it looks from the oldest on, in steps; a record inside of a
        step whose ends are old counts as old, and one that was made in the future is as old as
        those behind it: else it would keep all of them.
        """

        async def is_old(position: int) -> bool:
            for limit in (1, FUTURE_MAX):
                for one in await self.records(position, limit):
                    if one.event_us <= now_us:
                        return one.event_us < before_us
            return False

        last = await self.anchor()
        beyond = last + 1
        while await is_old(beyond):
            last, beyond = beyond, beyond + RECORDS_STEP
        while beyond - last > 1:
            middle = (last + beyond) // 2
            if await is_old(middle):
                last = middle
            else:
                beyond = middle
        return last

    async def anchor(self) -> int:
        """The position before the oldest record that is kept."""
        rows = await self._all(
            f"SELECT anchor_position FROM chain WHERE id = ({sending.OWN_CHAIN})"
        )
        return int(rows[0][0])

    async def cursors(self) -> dict[str, int]:
        return {row[0]: row[1] for row in await self._all("SELECT name, position FROM cursor")}


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA cache_size = -4096")


def _in_snapshot(db: sqlite3.Connection, look_up: Callable[..., T], values: tuple[Any, ...]) -> T:
    """What a look-up finds; nothing that is committed meanwhile is seen by a part of it."""
    db.execute("BEGIN")
    try:
        return look_up(db, *values)
    finally:
        if db.in_transaction:  # a failure of the disk ends it by itself
            db.execute("COMMIT")
