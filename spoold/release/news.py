"""What a session is told while it lasts: its end, its person's jobs and balance, the node's mode.

Nothing here is more than the spool has. A follower that is slow hears the newest state of each
job, not each state; one that is too slow is told to list its jobs again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import trio

from spoold.model.mfd import Session, SessionEnd
from spoold.release.sessions import Sessions
from spoold.spool.journal import Journal
from spoold.spool.store import BalanceChanged, Charged, Event, JobMoved

K = TypeVar("K")

JOBS_MAX = 64  # that wait to be told, to one follower


class Mode(StrEnum):
    """How the node serves."""

    ONLINE = "online"
    OFFLINE = "offline"  # it answers alone: its upstream is away
    STOPPING = "stopping"  # it takes no more; go to another endpoint


class Follower:
    """What one session has not been told yet."""

    def __init__(self, session: Session, name: str, mode: Mode) -> None:
        self.session = session
        self.name = name
        self.mode: Mode | None = mode
        self.jobs: dict[int, JobMoved] = {}
        self.is_behind = False
        self.is_balance_changed = True
        self.end: SessionEnd | None = None
        self._bell = trio.Event()

    def ring(self) -> None:
        self._bell.set()

    async def wait(self) -> None:
        """Return when there is something to tell."""
        await self._bell.wait()
        self._bell = trio.Event()

    def put(self, moved: JobMoved) -> None:
        if len(self.jobs) >= JOBS_MAX and moved.job_id not in self.jobs:
            self.is_behind = True
            self.jobs.clear()
        self.jobs[moved.job_id] = moved
        self.ring()


class News:
    """Wakes those who follow a session."""

    def __init__(self, journal: Journal, sessions: Sessions) -> None:
        self._journal = journal
        self._sessions = sessions
        self._followers: dict[bytes, set[Follower]] = {}
        self._by_name: dict[str, set[Follower]] = {}
        self.mode = Mode.ONLINE
        self._mode_bell = trio.Event()
        journal.listen(self._hear)
        sessions.listen(self._hear_end)

    def close(self) -> None:
        self._journal.unlisten(self._hear)
        self._sessions.unlisten(self._hear_end)

    def __len__(self) -> int:
        return sum(map(len, self._followers.values()))

    def _hear(self, events: list[Event]) -> None:
        if not self._by_name:
            return
        for event in events:
            if type(event) is JobMoved:
                for follower in self._by_name.get(event.owner, ()):
                    follower.put(event)
            elif type(event) is Charged:
                self._tell_balance(event.charge.payer.guid)
            elif type(event) is BalanceChanged:
                self._tell_balance(event.holder)

    def _hear_end(self, key: bytes, reason: SessionEnd) -> None:
        for follower in self._followers.get(key, ()):
            follower.end = reason
            follower.ring()

    def _tell_balance(self, person: UUID) -> None:
        for followers in tuple(self._followers.values()):
            for follower in followers:
                if follower.session.person == person:
                    follower.is_balance_changed = True
                    follower.ring()

    def set_mode(self, mode: Mode) -> None:
        if mode is not self.mode:
            self.mode = mode
            self._mode_bell.set()
            self._mode_bell = trio.Event()
            for followers in self._followers.values():
                for follower in followers:
                    follower.mode = mode
                    follower.ring()

    async def wait_mode(self, known: Mode | None) -> Mode:
        """The node's mode, once it is another one than `known`."""
        while self.mode is known:
            await self._mode_bell.wait()
        return self.mode

    @contextmanager
    def following(self, session: Session, name: str) -> Iterator[Follower]:
        """What happens while this is open, and at the beginning mode and balance."""
        follower = Follower(session, name, self.mode)
        self._followers.setdefault(session.key, set()).add(follower)
        self._by_name.setdefault(name, set()).add(follower)
        if not self._sessions.is_open(session):
            follower.end = SessionEnd.LOGOUT
        follower.ring()
        try:
            yield follower
        finally:
            _discard(self._followers, session.key, follower)
            _discard(self._by_name, name, follower)


def _discard(where: dict[K, set[Follower]], key: K, one: Follower) -> None:
    where[key].discard(one)
    if not where[key]:
        del where[key]
