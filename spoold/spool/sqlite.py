"""The store over SQLite: one writer, write-ahead log, every commit synced.

`open_store` migrates the file, recognises a roll-back by its witness, and starts a new incarnation
then. `SqliteStore.apply` is called in the writer's thread only: it decides each change against the
tables, appends its record to the chain, folds it into the tables, and commits the group as one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from spoold.codec import record as codec
from spoold.model.errors import OperationError, SpoolError, SpoolFull, StoreFailed
from spoold.model.pricing import PriceList
from spoold.model.record import VERSION
from spoold.spool import connection, fold, inserts, lately, migrations, witness
from spoold.spool.claims import Claims
from spoold.spool.crashpoint import crash_point
from spoold.spool.directories import sync_directory
from spoold.spool.rows import CHAIN_SHIFT, JOB_ID_MAX
from spoold.spool.savepoint import Savepoint
from spoold.spool.store import Accepted, AcceptJob, AttachDocument, Change, Event, ReceiveRecords

APPLICATION_ID = 0x5350_4F4C  # "SPOL"
PAGE_BYTES = 4096
LOG_PAGES = 8000  # of the log, from which on a commit copies what `checkpoints` has not
RESERVE_BYTES = 16 * 1024 * 1024
PROBE_BYTES = 64 * 1024
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
BRINGS = (AcceptJob, AttachDocument)  # changes that bring what a full disk has no room for


_NEW_CHAIN = (
    "INSERT INTO chain (journal, incarnation, parent_incarnation, parent_position, parent_hash, "
    "is_own, started_us, position, hash, anchor_position, anchor_hash, last_job_id) "
    "VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)"
)


class SqliteStore:
    """The writer's side of the spool. Every method runs in the writer's thread."""

    def __init__(
        self, db: sqlite3.Connection, data_dir: Path, random_bytes: Callable[[int], bytes]
    ):
        self._db = db
        self._random = random_bytes
        self._witness = witness.Witness(data_dir / "witness")
        self._reserve = data_dir / "reserve"
        self._failed = False
        row = db.execute(
            "SELECT id, journal, incarnation, position, hash, last_job_id FROM chain "
            "WHERE is_own = 1 ORDER BY id DESC LIMIT 1"
        ).fetchone()
        self.chain_id: int = row[0]
        self.journal = UUID(bytes=row[1])
        self.incarnation = UUID(bytes=row[2])
        self.position: int = row[3]
        self._hash: bytes = row[4]
        self.last_job_id: int = row[5]
        self.clock_offset_us: int | None = None  # how far the upstream's clock is ahead
        self.people: dict[str, tuple[int, bytes]] = {}
        self.printers: dict[int, bytes] = {}  # id -> guid
        self.gates: dict[int, str] = {}  # printer -> the reason for which it keeps jobs; see gate
        self.price_lists: dict[int, PriceList] = {}  # by version, as they were asked for
        self.reserved: dict[int, bytes] = {}  # job -> key of its open reservation; see ledger
        self.upstream: str | None = None  # whose objects are copied here; see replica
        self.active: dict[int, tuple[Any, ...]] = {}  # jobs changed lately; see jobs.job_row
        self.lately = lately.Lately()
        self.printed_elsewhere: set[bytes] = set()  # uuids of jobs under way; see remote_jobs
        # What this transaction has gathered and not written yet.
        self._records: list[Any] = []
        self.jobs: list[Any] = []
        self.documents: list[Any] = []
        self.named: dict[
            UUID, tuple[AcceptJob, Accepted]
        ] = {}  # uuids accepted in this transaction
        self.events: list[Event] = []
        # Whether somebody waits for the end of this transaction: a large change takes less then,
        # and who they are: they are committed with it.
        self.others_wait: Callable[[], bool] = lambda: False
        self.join: Callable[[], list[Change]] = list
        self.claims = Claims()
        self._claimed: list[tuple[int, int]] = []
        self._entropy = b""
        fold.load(self, db)
        self._witness.note(self.incarnation, self.position, self.last_job_id)
        self._witness.sync()
        sync_directory(data_dir)

    # -- what the fold needs ---------------------------------------------------------------

    @property
    def db(self) -> sqlite3.Connection:
        return self._db

    def random(self, count: int) -> bytes:
        """`count` random bytes, drawn from the system in larger portions."""
        if len(self._entropy) < count:
            self._entropy = self._random(4096)
        taken, self._entropy = self._entropy[:count], self._entropy[count:]
        return taken

    def add_record(
        self,
        kind: str,
        actor: str,
        now_us: int,
        payload: dict[str, Any],
        personal: dict[str, Any] | None = None,
    ) -> int:
        """Append a record to the chain, in this transaction. Returns its position.

        Raises:
            OperationError: `too-large`; nothing was appended.
        """
        position = self.position + 1
        salt = self.random(codec.SALT_BYTES) if personal is not None else b""
        ahead = self.clock_offset_us
        try:
            made = codec.encode(
                self._hash, position, kind, VERSION, actor, now_us, ahead, payload, personal, salt
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise OperationError(
                "too-large", f"this does not fit into a record: {error}.", "Give less of it."
            ) from error
        self._records.append((self.chain_id << CHAIN_SHIFT | position, *made))
        self.position = position
        self._hash = made.hash
        return position

    def flush(self) -> None:
        """Write the gathered new jobs, so that statements of this transaction see them."""
        if self.jobs:
            inserts.insert_jobs(self._db, self.jobs)
            inserts.insert_documents(self._db, self.documents)
            self.jobs = []
            self.documents = []
            self.named = {}

    def add_rows(self, rows: list[Any]) -> None:
        """Write records, of this chain or of another."""
        inserts.insert_records(self._db, rows)

    @property
    def head_hash(self) -> bytes:
        return self._hash

    def savepoint(self) -> Savepoint:
        """A part of this transaction that can be undone by itself; `flush` before."""
        return Savepoint(self)

    def mark(self) -> tuple[Any, ...]:
        """Where the records and events of this transaction stand; see `go_back`."""
        return (
            self.position, self._hash, self.last_job_id, len(self._records), len(self.events),
        )  # fmt: skip

    def go_back(self, mark: tuple[Any, ...]) -> None:
        """Forget what was gathered since `mark`; the tables stand as they did then."""
        self.position, self._hash, self.last_job_id, records, events = mark
        del self._records[records:]
        del self.events[events:]
        self.people.clear()
        fold.load(self, self._db)

    def write_records(self) -> None:
        """Write the gathered records, for what moves them in this transaction."""
        self.add_rows(self._records)
        self._records = []

    def take_claim(self, printer_id: int) -> int | None:
        """The device that stands ready for the printer's next job; it does so no more."""
        device_id = self.claims.take(printer_id)
        if device_id is not None:
            self._claimed.append((printer_id, device_id))
        return device_id

    def next_job_id(self) -> int:
        if self.last_job_id >= JOB_ID_MAX:
            raise OperationError("busy", "the job ids of this spool are used up.")
        self.last_job_id += 1
        return self.last_job_id

    # -- the transaction -------------------------------------------------------------------

    def apply(self, changes: list[Change]) -> tuple[list[Any], list[Event]]:
        """See `store.Store.apply`."""
        if self._failed:
            raise StoreFailed("commit to", "the spool", "it failed before", "Restart spoold.")
        try:
            return self._apply(changes)
        except sqlite3.OperationalError as error:
            if not self.is_full(error):
                raise self.fail(error) from error
        except sqlite3.DatabaseError as error:
            raise self.fail(error) from error
        # The disk is full: new jobs are refused, and everything else may use the reserve.
        self._reserve.unlink(missing_ok=True)
        allowed: list[Change] = [change for change in changes if not isinstance(change, BRINGS)]
        try:
            answers, events = self._apply(allowed, joins=False) if allowed else ([], [])
        except sqlite3.DatabaseError as error:
            if self.is_full(error):  # the reserve is used up, too
                raise _full("commit to", "the spool") from error
            raise self.fail(error) from error
        rest = iter(answers)
        full = _full("accept", "a job")
        merged = [full if isinstance(c, BRINGS) else next(rest) for c in changes]
        return merged, events

    def fail(self, error: Exception) -> StoreFailed:
        """An I/O error: SQLite would carry on with the next commit; we never do."""
        self._failed = True
        return StoreFailed(
            "commit to",
            "the spool",
            error,
            "Check the disk and its cables; spoold stops and recovers at its next start.",
        )

    def _decide(self, changes: list[Change], answers: list[Any]) -> None:
        for change in changes:
            try:
                answers.append(fold.DECIDE[type(change)](self, change))
            except (OperationError, SpoolError) as refusal:
                answers.append(refusal)

    def _apply(self, changes: list[Change], *, joins: bool = True) -> tuple[list[Any], list[Event]]:
        before = (self.position, self._hash, self.last_job_id, self.chain_id, self.incarnation)
        self.events = []
        answers: list[Any] = []
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            self._decide(changes, answers)
            if joins and any(type(change) is ReceiveRecords for change in changes):
                late = self.join()
                changes += late
                self._decide(late, answers)
            self.flush()
            if self._records:
                inserts.insert_records(db, self._records)
                db.execute(
                    "UPDATE chain SET position = ?, hash = ?, last_job_id = ? WHERE id = ?",
                    (self.position, self._hash, self.last_job_id, self.chain_id),
                )
            crash_point("commit-before")
            db.execute("COMMIT")
            crash_point("commit-after")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self.position, self._hash, self.last_job_id, self.chain_id, self.incarnation = before
            self.people.clear()
            fold.load(self, db)
            for printer_id, device_id in self._claimed:
                self.claims.offer(printer_id, device_id)
            raise
        finally:
            self._claimed = []
            self._records = []
            self.jobs = []
            self.documents = []
            self.named = {}
        try:
            self._witness.note(self.incarnation, self.position, self.last_job_id)
        except OSError as error:
            if error.errno not in NO_ROOM:  # else it stays behind, as after a power cut
                raise self.fail(error) from error
        return answers, self.events

    def is_full(self, error: sqlite3.Error) -> bool:
        """Whether the disk is full, or a quota used up."""
        # SQLite knows no quotas: to it, what one refuses is a write that failed.
        return _says_full(error) or (
            _code(error) == sqlite3.SQLITE_IOERR_WRITE and self._is_over_quota()
        )

    def _is_over_quota(self) -> bool:
        probe = self._reserve.with_name("probe")
        try:
            probe.write_bytes(bytes(PROBE_BYTES))
        except OSError as error:
            return error.errno in NO_ROOM
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        return False

    def keep_reserve(self) -> None:
        """Set aside the space that control, release and journal use when the disk is full.

        Raises:
            OSError: there is no room for it now.
        """
        if not self._reserve.exists() or self._reserve.stat().st_size < RESERVE_BYTES:
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)

    def tidy(self) -> None:
        """Give freed pages back to the file system, and copy the log into the database.

        Raises:
            StoreFailed: the disk failed; the daemon must stop. A full one only ends the tidying.
        """
        try:
            self._db.execute("PRAGMA incremental_vacuum(2000)").fetchall()
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.DatabaseError as error:
            if not self.is_full(error):
                raise self.fail(error) from error

    def sync_witness(self) -> None:
        """Make what the witness has seen durable.

        Raises:
            StoreFailed: the disk failed; the daemon must stop.
        """
        try:
            self._witness.sync()
        except OSError as error:
            raise self.fail(error) from error

    def close(self) -> None:
        """Let go of the files; after a failure nothing is synced any more."""
        try:
            if not self._failed:
                self.sync_witness()
        finally:
            self._witness.close()


def _code(error: sqlite3.Error) -> int:
    """The extended result code. Errors of Python's module itself carry none."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code


def _says_full(error: sqlite3.Error) -> bool:
    # The index of the log is a file, too; the one reason why it cannot grow is a full disk.
    code = _code(error)
    return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE


def _full(operation: str, subject: str) -> SpoolFull:
    return SpoolFull(operation, subject, "the disk is full", "Free space in the data directory.")


async def open_store(
    data_dir: Path,
    now_us: int,
    random_bytes: Callable[[int], bytes],
    journal: UUID,
    *,
    begins_anew: bool = False,
    connect: connection.Connect = connection.connect,
) -> tuple[connection.TrioConnection, SqliteStore]:
    """Open or make the spool in `data_dir`, for this process alone (the caller holds the lock).

    `begins_anew`: it was restored, and goes on as a new incarnation, whatever the witness says.

    Raises:
        SpoolError: it is not a spool, newer than this program, damaged, or cannot be opened.
        SpoolFull: the disk has not the little room that this takes.
    """
    path = data_dir / "spool.db"
    try:
        # SQLite gives the files beside it the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        writer = await connect(str(path))
    except (OSError, sqlite3.Error) as error:
        raise SpoolError(
            "open", str(path), error, "Check the directory's owner and mode."
        ) from error
    try:
        opening = (_open, writer, data_dir, now_us, random_bytes, journal, begins_anew)
        try:
            store = await writer.run(*opening)
        except sqlite3.OperationalError as error:
            reserve = data_dir / "reserve"
            if not (_says_full(error) and reserve.exists()):
                raise
            reserve.unlink()  # this is what it is kept for
            store = await writer.run(*opening)
    except BaseException as error:
        await writer.close()
        if isinstance(error, sqlite3.Error) and _says_full(error):
            raise _full("open", str(path)) from error
        if isinstance(error, (sqlite3.Error, OSError)):
            advice = "Restore a backup, or move the file aside to begin anew."
            raise SpoolError("open", str(path), error, advice) from error
        raise
    return writer, store


def _open(
    writer: connection.TrioConnection,
    data_dir: Path,
    now_us: int,
    random_bytes: Callable[[int], bytes],
    journal: UUID,
    begins_anew: bool,
) -> SqliteStore:
    db = writer.raw
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise SpoolError("open", str(data_dir), "spool.db is not a spool", "Name another data_dir.")
    if not tables:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA locking_mode = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    db.execute("PRAGMA cache_size = -8192")
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA temp_store = MEMORY")
    migrations.migrate(db, data_dir)
    _begin_incarnation(db, data_dir, now_us, random_bytes, journal, begins_anew)
    return SqliteStore(db, data_dir, random_bytes)


def _begin_incarnation(
    db: sqlite3.Connection,
    data_dir: Path,
    now_us: int,
    random_bytes: Callable[[int], bytes],
    journal: UUID,
    begins_anew: bool,
) -> None:
    """Start the journal's first incarnation, or a new one when the spool was rolled back.

    The witness lies outside every backup: when it is missing, or has seen a later position than
    the spool holds, the positions and job ids of the lost part may be known elsewhere, so neither
    is used again.
    """
    own = db.execute(
        "SELECT id, incarnation, position, hash, last_job_id FROM chain WHERE is_own = 1 "
        "ORDER BY id DESC LIMIT 1"
    ).fetchone()
    seen = witness.read(data_dir / "witness")
    if own is None:
        parent: tuple[Any, ...] = (None, None, None)
        last_job_id = seen.last_job_id + witness.JOB_IDS_SKIPPED if seen else 0
    else:
        if seen is None:
            is_same = own[2] == 0
        else:
            is_same = seen.incarnation == UUID(bytes=own[1]) and seen.position <= own[2]
        if is_same and not begins_anew:
            return
        parent = (own[1], own[2], own[3])
        last_job_id = max(own[4], seen.last_job_id if seen else 0) + witness.JOB_IDS_SKIPPED
    identity = (journal.bytes, UUID(bytes=random_bytes(16), version=4).bytes)
    begin = (0, codec.GENESIS, 0, codec.GENESIS)
    db.execute(_NEW_CHAIN, (*identity, *parent, now_us, *begin, last_job_id))
