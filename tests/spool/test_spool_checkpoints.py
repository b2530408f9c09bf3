"""The log goes into the database beside the writer; a disk that fails there ends the writing."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from spoold.model.errors import StoreFailed
from spoold.model.record import Kind
from spoold.spool import checkpoints
from spoold.spool.checkpoints import Checkpoints
from spoold.spool.store import AddRecord
from support.waiting import wait_until

LIMIT_S = 20.0


@asynccontextmanager
async def copying(own):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(own.run)
        await trio.testing.wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


def in_database(data_dir) -> int:
    """Up to which position the journal stands in the database file itself, without the log."""
    uri = f"{(data_dir / 'spool.db').absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as db:
        try:
            return db.execute("SELECT position FROM chain").fetchone()[0]
        except (sqlite3.DatabaseError, TypeError):  # it is being copied, or nothing is there yet
            return 0


async def write(spool, count):
    facts = [AddRecord(Kind.NODE_STARTED, {}, 1) for _ in range(count)]
    await spool.journal.commit_all(facts)


async def test_what_was_committed_comes_into_the_database_by_itself(spool, tmp_path):
    """Nobody waits for it; the log is not as long that the writer would do it."""
    own = await Checkpoints.open(tmp_path, spool.journal, spool.store)
    async with copying(own):
        assert in_database(tmp_path) < spool.journal.head + 1
        await write(spool, checkpoints.ROWS_AT_ONCE)
        await wait_until(lambda: in_database(tmp_path) == spool.journal.head)
    await own.close()


async def write_beside(own, spool):
    """Until copying ends."""
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(own.run)
            await trio.testing.wait_all_tasks_blocked()
            await write(spool, checkpoints.ROWS_AT_ONCE)


class Failing:
    """A connection whose copying fails."""

    def __init__(self, code):
        self.tries = 0
        self.raw = SimpleNamespace(execute=self._execute)
        self._code = code

    def _execute(self, sql):
        self.tries += 1
        error = sqlite3.OperationalError(sql)
        error.sqlite_errorcode = self._code
        raise error

    async def run(self, function):
        await trio.lowlevel.checkpoint()
        function()


async def test_a_disk_that_fails_ends_the_writing(spool):
    """What it has and has not is not known: nothing is committed any more."""
    own = Checkpoints(Failing(sqlite3.SQLITE_IOERR), spool.journal, spool.store)
    with pytest.raises(ExceptionGroup) as raised:
        await write_beside(own, spool)
    assert raised.group_contains(StoreFailed)
    with pytest.raises(StoreFailed):
        spool.store.apply([AddRecord(Kind.NODE_STARTED, {}, 1)])


async def test_a_full_disk_is_tried_again(spool):
    """The log goes on without, for as long as there is no room in the database."""
    failing = Failing(sqlite3.SQLITE_FULL)
    async with copying(Checkpoints(failing, spool.journal, spool.store)):
        await write(spool, checkpoints.ROWS_AT_ONCE)
        await wait_until(lambda: failing.tries == 1)
        await write(spool, checkpoints.ROWS_AT_ONCE)
        await wait_until(lambda: failing.tries == 2)
