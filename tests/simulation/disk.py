"""The disk of a simulated node: real SQLite on real files, run inline, and what a crash leaves.

In: a folder, and one seeded source of chance. Out: connections that spools open instead of those
with a thread each; and images of the files as a crash may leave them, at the last commit that was
synced or any later one. Torn writes and lost renames are proved elsewhere, over the real process
(tests/crash).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import outcome
import trio

from spoold.spool.connection import TrioConnection, open_database

SLOW, SLOW_S = 0.04, 0.3  # so often a commit takes its time, and how long at most
AWAY = 0.25  # how often others come to work while something is read
SYNCED = 2  # PRAGMA synchronous = FULL: a commit has been synced when it returns


class Crashed(Exception):
    """The node has crashed: nothing that it still does has any effect."""


class Disk:
    """The files of one life of a node. `nursery` lives as long as that."""

    def __init__(self, folder: Path, rng: Random, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.rng = rng
        self.nursery = nursery
        self.is_dead = False
        self._log = folder / "spool.db-wal"
        self._writer: InlineConnection | None = None
        self._reader: InlineConnection | None = None
        self._ends: list[int] = []  # of the log, after the last synced commit and each later one

    async def connect(self, path: str, *, read_only: bool = False) -> TrioConnection:
        await trio.lowlevel.checkpoint()
        made = InlineConnection(open_database(path, read_only=read_only), self, not read_only)
        if read_only:
            self._reader = made
        else:
            self._writer = made
        return made

    def begin(self) -> None:
        """The spool is open: from here on its log only grows, and commits are counted."""
        assert self._writer is not None
        self._writer.raw.execute("PRAGMA wal_autocheckpoint = 0")
        self._ends = [self._size()]

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def note_commit(self, db: sqlite3.Connection) -> None:
        size = self._size()
        if self._ends and size != self._ends[-1]:
            (synchronous,) = db.execute("PRAGMA synchronous").fetchone()
            if synchronous >= SYNCED:
                self._ends.clear()
            self._ends.append(size)

    def image(self, folder: Path) -> None:
        """What the next life finds, if this one ends here by a loss of power."""
        if self._writer is not None:
            self.note_commit(self._writer.raw)  # it may end just behind one
        end = self.rng.choice(self._ends)
        shutil.copytree(self.folder, folder)
        with (folder / self._log.name).open("r+b") as log:
            log.truncate(end)
        (folder / "spool.db-shm").unlink(missing_ok=True)

    async def pause(self) -> None:
        """A while that the disk takes; nobody is called off meanwhile."""
        chance = self.rng.random()
        if chance < SLOW:
            with trio.CancelScope(shield=True):
                await trio.sleep(chance / SLOW * SLOW_S)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def close(self) -> None:
        """Let the files go as they are: whoever closes last and may write would tidy them up."""
        for one in (self._writer, self._reader):
            if one is not None:
                one.close_nowait()


class InlineConnection(TrioConnection):
    """A connection whose calls run in the Trio thread, after a while and before another one: a
    crash in between finds the commit done or not done, and nobody told.
    """

    def __init__(self, db: sqlite3.Connection, disk: Disk, is_writer: bool) -> None:
        self._connection = db
        self._disk = disk
        self._is_writer = is_writer

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._do(partial(function, *args))

    async def run_within(self, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
        return await self.run(function, *args)  # it never takes as long as anybody waits

    def post(self, function: Callable[[], Any], then: Callable[[outcome.Maybe[Any]], None]) -> None:
        self._disk.nursery.start_soon(self._post, function, then)

    async def _post(
        self, function: Callable[[], Any], then: Callable[[outcome.Maybe[Any]], None]
    ) -> None:
        then(await outcome.acapture(self._do, function))

    async def _do(self, call: Callable[[], Any]) -> Any:
        disk = self._disk
        if not self._is_writer:
            if disk.rng.random() < AWAY:
                await trio.lowlevel.cancel_shielded_checkpoint()
            self._check()
            return call()
        await disk.pause()
        self._check()
        try:
            result = call()
        finally:
            disk.note_commit(self.raw)
        await disk.pause()
        self._check()
        return result

    def _check(self) -> None:
        if self._disk.is_dead:
            raise Crashed

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.close_nowait()

    def close_nowait(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
