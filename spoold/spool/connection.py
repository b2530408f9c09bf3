"""aiosqlite's Connection and worker thread, with results delivered by Trio.

aiosqlite answers through an asyncio future's loop; here the future is one that reschedules a Trio
task, so that no asyncio loop runs. Cancelled before it is queued, a call never ran; once queued it
runs to its end, with a known outcome. The overridden names are private ones of aiosqlite 0.22,
hence the pin in pyproject and the contract test.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import aiosqlite
import outcome
import trio
from aiosqlite.core import _STOP_RUNNING_SENTINEL

from spoold.model.text import folded

T = TypeVar("T")

# The sqlite3 module takes int, float, str and bytearray as they are. For each other value it looks
# for an adapter, and makes an exception of its own for want of one: that took longer than anything
# else about a value. Half of those in the rows of a job are bytes, or nothing.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(type(None), lambda nothing: nothing)


class _TrioFuture:
    """What aiosqlite's worker needs of an asyncio future; it wakes a Trio task, or calls `then`."""

    __slots__ = ("_result", "_task", "_then", "_token")

    def __init__(self, then: Callable[[outcome.Maybe[Any]], None] | None = None) -> None:
        self._then = then
        self._token = trio.lowlevel.current_trio_token()
        self._task: trio.lowlevel.Task | None = None
        self._result: outcome.Maybe[Any] | None = None

    def get_loop(self) -> _TrioFuture:
        return self

    def call_soon_threadsafe(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            pass  # nobody is left to hear it

    def done(self) -> bool:
        return self._result is not None

    def set_result(self, value: Any) -> None:
        self._set(outcome.Value(value))

    def set_exception(self, error: BaseException) -> None:
        self._set(outcome.Error(error))

    def _set(self, result: outcome.Maybe[Any]) -> None:
        self._result = result
        if self._then is not None:
            self._then(result)
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task, result)

    async def wait(self, *, may_leave: bool = False) -> Any:
        """The result; `may_leave`: whoever waits may be cancelled, and what comes is dropped."""
        if self._result is not None:
            return self._result.unwrap()
        self._task = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            if not may_leave:
                return trio.lowlevel.Abort.FAILED
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)


class TrioConnection(aiosqlite.Connection):
    """An aiosqlite connection for Trio; `run` is one whole transaction in one hop."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._hand_over(functools.partial(fn, *args, **kwargs)).wait()

    def _hand_over(self, call: Callable[[], Any]) -> _TrioFuture:
        if not self._running or not self._connection:
            raise ValueError("the connection is closed")
        future = _TrioFuture()
        self._tx.put_nowait((future, call))  # type: ignore[arg-type]
        return future

    async def _connect(self) -> TrioConnection:
        if self._connection is None:
            future = _TrioFuture()
            self._tx.put_nowait((future, self._connector))  # type: ignore[arg-type]
            try:
                self._connection = await future.wait()
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> Any:
        self._running = False

        def close_and_stop() -> Any:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return _STOP_RUNNING_SENTINEL

        try:
            future: _TrioFuture | None = _TrioFuture()
        except RuntimeError:
            future = None
        self._tx.put_nowait((future, close_and_stop))  # type: ignore[arg-type]
        return future

    async def close(self) -> None:
        """Close after everything queued has run. Safe when already closed."""
        if self._connection is None:
            return
        # Closing is a checkpoint of the write-ahead log at most; a minute is far beyond that.
        with trio.move_on_after(60, shield=True):
            future = self.stop()
            if future is not None:
                await future.wait(may_leave=True)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function(*args)` in the connection's thread; it may use `raw`."""
        result: T = await self._execute(function, *args)
        return result

    def post(self, function: Callable[[], T], then: Callable[[outcome.Maybe[T]], None]) -> None:
        """Have `function()` called in the connection's thread, without anybody waiting for it.

        `then` gets its result in the Trio thread; it must not wait or raise.
        """
        self._tx.put_nowait((_TrioFuture(then), function))  # type: ignore[arg-type]

    async def run_within(self, seconds: float, function: Callable[..., T], *args: Any) -> T:
        """As `run`, but for at most so long; cancelling whoever waits does not end it before.

        Raises:
            trio.TooSlowError: the thread has not come back; nobody knows what it will have done.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        future = self._hand_over(functools.partial(function, *args))
        with trio.move_on_after(seconds, shield=True):
            result: T = await future.wait(may_leave=True)
            return result
        raise trio.TooSlowError

    @property
    def raw(self) -> sqlite3.Connection:
        """The sqlite3 connection, to be used only in this connection's thread."""
        return self._conn


class Connect(Protocol):
    """How a spool opens its databases: `connect`, unless the world is a simulated one."""

    async def __call__(self, path: str, *, read_only: bool = False) -> TrioConnection: ...


async def connect(path: str, *, read_only: bool = False) -> TrioConnection:
    """Open the database at `path`.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    connector = functools.partial(open_database, path, read_only=read_only)
    connection: TrioConnection = await TrioConnection(connector, 64)  # type: ignore[assignment]
    return connection


def open_database(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """The database at `path`, as every connection of a spool is opened. It knows `folded(text)`,
    for comparisons without case in any script, which SQLite's own `lower` leaves to ASCII.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    uri = f"file:{_quote(path)}" + ("?mode=ro" if read_only else "")
    database = sqlite3.connect(
        uri, uri=True, isolation_level=None, cached_statements=256, check_same_thread=False
    )
    database.create_function("folded", 1, folded, deterministic=True)
    return database


def _quote(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
