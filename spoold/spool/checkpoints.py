"""The write-ahead log is copied into the database beside the writer: no commit waits for that.

In: what was committed. Out: the same pages in the database file, synced, by a connection and a
thread of their own. The log itself begins anew with a commit that finds all of it copied; under a
load that leaves no such moment, the writer copies the last few pages itself once the log has
`LOG_PAGES` (see `sqlite`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Self

import trio

from spoold.spool import connection
from spoold.spool.journal import Journal
from spoold.spool.sqlite import SqliteStore
from spoold.spool.store import Event

ROWS_AT_ONCE = 500  # that were written since the last time: about as many pages, or twice


class Checkpoints:
    def __init__(
        self, own: connection.TrioConnection, journal: Journal, store: SqliteStore
    ) -> None:
        self._connection = own
        self._journal = journal
        self._store = store
        self._rows = 0  # that the writer had written when the last copying began
        self._due = trio.Event()

    @classmethod
    async def open(cls, data_dir: Path, journal: Journal, store: SqliteStore) -> Self:
        """For the spool that `sqlite.open_store` has opened before."""
        own = await connection.connect(str(data_dir / "spool.db"))
        await own.run(lambda: own.raw.execute("PRAGMA synchronous = FULL"))
        return cls(own, journal, store)

    async def close(self) -> None:
        await self._connection.close()

    async def run(self) -> None:
        """Copy whenever enough was written, for ever.

        Raises:
            StoreFailed: the disk failed; the daemon must stop.
        """
        self._journal.listen(self._hear)
        try:
            while True:
                await self._due.wait()
                self._due = trio.Event()
                self._rows = self._store.db.total_changes
                await self._connection.run(self._copy)
        finally:
            self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        if self._store.db.total_changes - self._rows >= ROWS_AT_ONCE:
            self._due.set()

    def _copy(self) -> None:
        """In the connection's thread; what others read or write meanwhile goes on."""
        try:
            self._connection.raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.DatabaseError as error:
            if not self._store.is_full(error):  # else the log is longer until there is room
                raise self._store.fail(error) from error
