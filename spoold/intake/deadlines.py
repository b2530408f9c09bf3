"""Deadlines of connections, at the price of an attribute.

A cancel scope for each wait of each connection would cost a raw job a tenth of its time. Here a
connection carries the moment at which it is too late; one task looks at all of them a few times a
second and closes those that are, which wakes whoever waits on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Protocol

import trio

from spoold.net.stream import Stream

LOOK_INTERVAL_S = 0.25
FRESH_S = 1.0  # whoever was let in so shortly before a stop knows nothing of it, and may begin


class Pace(Protocol):
    """How fast a sender must be: silence has a deadline, and after a grace there is a rate."""

    @property
    def idle_deadline_s(self) -> float: ...
    @property
    def minimum_rate_bytes_s(self) -> int: ...
    @property
    def minimum_rate_grace_s(self) -> float: ...


class Watch:
    """The deadline of one connection, in Trio's time; `deadline` may be moved at any moment.

    What is too late is closed, and `is_expired` says so, unless there is an `on_late` to call.
    While `is_quiet` nothing has begun on the connection, and a daemon that stops closes it; later
    it calls `on_stop`, where there is one. `since` is when the client was let in.
    """

    __slots__ = (
        "deadline", "is_expired", "is_quiet", "is_told", "on_late", "on_stop", "since", "stream",
    )  # fmt: skip

    def __init__(self, stream: Stream, deadline: float, since: float = -inf) -> None:
        self.stream = stream
        self.deadline = deadline
        self.since = since
        self.is_told = False
        self.is_expired = False
        self.is_quiet = True
        self.on_late: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None

    def expire(self) -> None:
        self.is_expired = True
        self.stream.abort()


class Deadlines:
    """All watched connections of a node."""

    def __init__(self, look_interval_s: float = LOOK_INTERVAL_S) -> None:
        self._look_interval_s = look_interval_s
        self._is_stopping = False
        self._watches: dict[Watch, None] = {}  # in the order in which they came

    @contextmanager
    def watch(self, stream: Stream, seconds: float) -> Iterator[Watch]:
        """Watch a connection while this is open."""
        one = self.add(stream, seconds)
        try:
            yield one
        finally:
            self.remove(one)

    def add(self, stream: Stream, seconds: float) -> Watch:
        now = trio.current_time()
        one = Watch(stream, now + seconds, now)
        self._watches[one] = None
        return one

    def remove(self, one: Watch) -> None:
        self._watches.pop(one, None)

    def stop(self) -> None:
        """Close the connections on which nothing has begun; tell the others that care. What begins
        later, on a connection that was fresh then, hears of it as soon as it is looked at.
        """
        self._is_stopping = True
        self._wind_up()

    def _wind_up(self) -> None:
        now = trio.current_time()
        for one in list(self._watches):
            if one.is_quiet:
                if now - one.since >= FRESH_S:
                    one.expire()
            elif one.on_stop is not None and not one.is_told:
                one.is_told = True
                one.on_stop()

    async def run(self) -> None:
        """Close what is too late, for ever."""
        while True:
            await trio.sleep(self._look_interval_s)
            now = trio.current_time()
            for one in [one for one in self._watches if one.deadline <= now]:
                (one.on_late or one.expire)()
            if self._is_stopping:
                self._wind_up()
