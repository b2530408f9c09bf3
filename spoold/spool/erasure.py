"""Erasing a person: everywhere, in small steps, and so that no copy of the file's pages is left.

In: a name. Out: the jobs and documents of that person are gone, the records that spoke of them have
no personal part any more, and the directory does not know them; chain and ledger still verify, over
a key that is nobody's. An erasure that was interrupted is done again from the beginning, by name.

Whoever was erased is noted by key in `erased`, outside of every backup: what a restored spool
brings back is erased again at the start. Deleted rows leave copies in the unused parts of a file's
pages, so that the file is written anew: a small one at once, a large one at the next start.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError, SpoolError
from spoold.model.job import ACTIVE
from spoold.model.text import plain
from spoold.model.transitions import JobEvent
from spoold.spool import erasing, migrations, replica
from spoold.spool.directories import sync_directory
from spoold.spool.documents import Documents
from spoold.spool.erasing import Person
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.rows import CHAIN_SHIFT, STATE
from spoold.spool.sqlite import SqliteStore
from spoold.spool.store import ChangeJob, ErasePerson, EraseRecords, RemoveJobs, RemoveUser

log = structlog.get_logger("spoold.spool")

STEP = 200  # jobs of one transaction
REWRITTEN_AT_ONCE_BYTES_MAX = 256 * 1024 * 1024
TRUNCATE_TRIES, TRUNCATE_PAUSE_S = 20, 0.05
ERASED = "erased"
PENDING = "rewrite-pending"


@dataclass(frozen=True, slots=True)
class Erased:
    """`is_rewritten`: no copy is left in the file; else there is none after the next start.

    `mentions` are the positions of records of others that name the person in a text, as titles and
    messages, `reasons` the number of such entries of the ledger: those stay as they are.
    """

    guid: UUID
    jobs: int
    records: int
    is_rewritten: bool
    mentions: tuple[int, ...] = ()
    reasons: int = 0


class Erasure:
    """One at a time."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        documents: Documents,
        store: SqliteStore,
        wall_clock: Callable[[], int],
        data_dir: Path,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._documents = documents
        self._store = store
        self._clock = wall_clock
        self._data_dir = data_dir
        self._turn = trio.Lock()

    async def start(self) -> None:
        """Erase again who was erased before and came back with a restored spool."""
        for key in await trio.to_thread.run_sync(_noted, self._data_dir / ERASED):
            person = await self._reader.look(erasing.find_by_key, key)
            if person is not None:
                log.warning("person_erased_again", person=str(UUID(bytes=key)))
                async with self._turn:
                    await self._erase(person, "node")

    async def erase(self, name: str, actor: str = "node") -> Erased:
        """Forget the person of this name.

        Raises:
            OperationError: `not-found`; `not-possible`: a job is being printed, or the person is
                upstream's, and erased there; `busy`.
        """
        async with self._turn:
            person = await self._reader.look(erasing.find_person, name)
            if person is None:
                raise OperationError(
                    "not-found",
                    f"nobody is called {plain(name[:60])} here.",
                    "See `spoold user list`, and `spoold job list --owner`.",
                )
            copied = await self._reader.look(replica.state)
            is_copied = await self._reader.look(replica.is_replica, "user", person.key)
            if copied is not None and is_copied:
                raise replica.foreign(copied.upstream_name)
            return await self._erase(person, actor)

    async def note(self, key: bytes) -> None:
        """Remember, durably, that somebody is erased: the next start erases who is still here.

        Raises:
            SpoolError: it could not be written.
        """
        await trio.to_thread.run_sync(self._note, key)

    async def erase_key(self, key: bytes) -> None:
        """Forget the person of this key, if there is one; a job that is printed now delays it."""
        async with self._turn:
            person = await self._reader.look(erasing.find_by_key, key)
            if person is None:
                return
            try:
                await self._erase(person, "node")
            except OperationError as error:
                log.warning("person_not_erased", person=str(UUID(bytes=key)), reason=str(error))

    async def _erase(self, person: Person, actor: str) -> Erased:
        await self._cancel_jobs(person, actor)
        with contextlib.suppress(OperationError):  # no user, only an owner of jobs
            await self._journal.commit(RemoveUser(person.name, self._clock(), actor))
        await self._journal.call(self._overwrite)
        try:
            jobs = await self._remove_jobs(person)
            reasons = await self._reader.look(erasing.count_reasons, person)
            records, mentions = await self._erase_records(person, jobs, actor)
        finally:
            await self._journal.call(self._overwrite_no_more)
        await trio.to_thread.run_sync(self._remove_copies)
        is_rewritten = await self._journal.call(self._rewrite)
        guid = UUID(bytes=person.key)
        log.info("person_erased", person=str(guid), jobs=len(jobs), records=records)
        return Erased(guid, len(jobs), records, is_rewritten, tuple(mentions), reasons)

    # -- jobs ----------------------------------------------------------------------------------

    async def _cancel_jobs(self, person: Person, actor: str) -> None:
        """Cancel what waits.

        Raises:
            OperationError: `not-possible`: something is being printed.
        """
        waiting = []
        for id_, state, is_finished in await self._jobs(person):
            if STATE[state] in ACTIVE:
                raise OperationError(
                    "not-possible",
                    f"job {id_} of this person is being printed.",
                    "Erase once more when it has ended, or cancel it.",
                )
            if not is_finished:
                waiting.append(id_)
        for id_ in waiting:
            with contextlib.suppress(OperationError):  # it has ended, or begun
                change = ChangeJob(id_, JobEvent.CANCEL, self._clock(), actor=actor)
                await self._journal.commit(change)

    async def _jobs(self, person: Person) -> list[tuple[int, int, bool]]:
        """(id, state, whether it has finished) of all jobs that somebody owns."""
        jobs: list[tuple[int, int, bool]] = []
        while True:
            after_id = jobs[-1][0] if jobs else 0
            found = await self._reader.look(erasing.jobs_of, person.id, after_id, STEP)
            if not found:
                return jobs
            jobs += found

    async def _remove_jobs(self, person: Person) -> set[int]:
        ids = [id_ for id_, _, is_finished in await self._jobs(person) if is_finished]
        for start in range(0, len(ids), STEP):
            change = RemoveJobs(tuple(ids[start : start + STEP]), self._clock())
            for file in await self._journal.commit(change):
                await trio.to_thread.run_sync(self._documents.remove, file)
        return set(ids)

    # -- records -------------------------------------------------------------------------------

    async def _erase_records(
        self, person: Person, removed: set[int], actor: str
    ) -> tuple[int, list[int]]:
        """How many were, and the positions of others that name the person all the same."""
        after_id = count = 0
        jobs, uuids, mentions = set(removed), list[bytes](), list[int]()
        while True:
            found = await self._reader.look(
                erasing.traces, person, jobs, after_id, erasing.ROWS_MAX
            )
            if not found.last_id:
                break
            if found.records:
                await self._journal.commit(EraseRecords(tuple(found.records)))
                count += len(found.records)
            after_id, jobs = found.last_id, found.jobs
            uuids += found.uuids
            mentions += [one & (1 << CHAIN_SHIFT) - 1 for one in found.mentions]
        await trio.to_thread.run_sync(self._note, person.key)
        change = ErasePerson(
            person.key,
            person.name,
            frozenset(jobs),
            tuple(dict.fromkeys(uuids)),
            after_id,
            self._clock(),
            actor,
        )
        last: int = await self._journal.commit(change)
        return count + last, mentions

    def _note(self, key: bytes) -> None:
        """In a thread: durably, before the name is gone; the file is to be written anew."""
        for name, line in ((ERASED, key.hex() + "\n"), (PENDING, "")):
            path = self._data_dir / name
            try:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                with open(fd, "a", encoding="ascii") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(fd)
            except OSError as error:
                advice = "Free space there, or look at its disk; then erase once more."
                raise SpoolError("write", str(path), error.strerror, advice) from error
        sync_directory(self._data_dir)

    def _remove_copies(self) -> None:
        """In a thread: of the spool before an upgrade; there is no way back over an erasure."""
        for version in migrations.copies(self._data_dir):
            path = self._data_dir / migrations.COPY.format(version)
            path.unlink(missing_ok=True)
            log.warning("upgrade_copy_removed", path=str(path), reason="a person was erased")

    # -- the file, in the writer's thread ------------------------------------------------------

    def _overwrite(self) -> None:
        self._store.db.execute("PRAGMA secure_delete = ON")

    def _overwrite_no_more(self) -> None:
        self._store.db.execute("PRAGMA secure_delete = OFF")

    def _rewrite(self) -> bool:
        db = self._store.db
        sizes = [db.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "page_size")]
        if sizes[0] * sizes[1] > REWRITTEN_AT_ONCE_BYTES_MAX:
            return False
        return rewrite(db, self._data_dir)


def _noted(path: Path) -> list[bytes]:
    """In a thread: the keys of those who were erased."""
    try:
        lines = path.read_text("ascii", "replace").split()
    except FileNotFoundError:
        return []
    found = []
    for line in dict.fromkeys(lines):
        with contextlib.suppress(ValueError):  # a line that was cut off
            found.append(bytes.fromhex(line))
    return found


def rewrite(db: sqlite3.Connection, data_dir: Path) -> bool:
    """Write the file anew, without what was deleted; False when there is no room for it now.

    Raises:
        sqlite3.Error: the disk failed.
    """
    try:
        db.execute("PRAGMA temp_store = FILE")  # it may not fit into memory
        db.execute("VACUUM")
        is_busy = _truncate(db)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            raise
        log.warning("spool_not_rewritten", reason=str(error))
        return False
    finally:
        db.execute("PRAGMA temp_store = MEMORY")
    if is_busy:
        return False
    (data_dir / PENDING).unlink(missing_ok=True)
    log.info("spool_rewritten")
    return True


def _truncate(db: sqlite3.Connection) -> bool:
    """Copy the log into the database and empty it; whether that cannot be done now.

    SQLite waits for whoever reads, and not for `checkpoints`, which is done in a moment.
    """
    for _ in range(TRUNCATE_TRIES):
        is_busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy:
            return False
        time.sleep(TRUNCATE_PAUSE_S)
    return True
