"""Who is logged in at which MFD: sessions begin, are used, and end.

In: an MFD, and a person that has proven who it is. Out: a session's id, and from the id the
session again, over any connection of the same MFD, also after a restart of the node. It ends by a
logout, by the idle time-out, by another login at the MFD, and at once when the person is changed
in a way that takes something away, or the MFD is revoked. Memory follows the journal's events; the
journal never waits for memory.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.model.mfd import (
    IDLE_S,
    SECRET_CHARACTERS_MAX,
    SESSION_BYTES,
    Mfd,
    Session,
    SessionEnd,
    secret_key,
)
from spoold.model.user import User
from spoold.release.mfds import Mfds
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import (
    EndSession,
    Event,
    ForgetSessions,
    SessionEnded,
    SessionStarted,
    StartSession,
    TouchSessions,
    UserChanged,
)

log = structlog.get_logger("spoold.release")

LONGEST_S = 12 * 3600.0  # of a session that is used all the time
LOOK_INTERVAL_S = 1.0
TOUCH_INTERVAL_S = 30.0  # so much of a session's use may a crash forget
KEPT_S = 3 * 86_400  # an ended session, for what was made in it and is reported late
FORGET_INTERVAL_S = 600.0
FORGOTTEN_MAX = 1000  # at a time

Listener = Callable[[bytes, SessionEnd], None]


@dataclass(slots=True, eq=False)
class _Open:
    """`used_at` is Trio's clock."""

    session: Session
    used_at: float
    is_touched: bool = False


class Sessions:
    """`start`, then `run` for as long as the node serves."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        mfds: Mfds,
        wall_clock: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._mfds = mfds
        self._wall_clock = wall_clock
        self._random_bytes = random_bytes
        self._open: dict[bytes, _Open] = {}
        self._by_person: dict[UUID, set[bytes]] = {}
        self._ending: dict[bytes, SessionEnd] = {}  # over, and not committed so far
        self._work = trio.Event()
        self._listeners: list[Listener] = []

    def __len__(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        """Take up the sessions of before.

        A person who was changed since the session began logs in again: what the change was is not
        known any more.
        """
        self._journal.listen(self._hear)
        now_us = self._wall_clock()
        for session in await self._reader.open_sessions():
            user = await self._reader.user_by_guid(session.person)
            unused_s = max(0.0, (now_us - session.used_us) / 1e6)
            self._put(session, trio.current_time() - unused_s)
            if user is None or user.disabled or user.changed_us > session.started_us:
                self._over(session.key, SessionEnd.USER_CHANGED)

    def close(self) -> None:
        self._journal.unlisten(self._hear)

    # -- memory ----------------------------------------------------------------------------------

    def _put(self, session: Session, used_at: float) -> None:
        self._open[session.key] = _Open(session, used_at)
        self._by_person.setdefault(session.person, set()).add(session.key)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is SessionStarted:
                self._put(event.session, trio.current_time())
            elif type(event) is SessionEnded:
                self._ending.pop(event.key, None)
                self._drop(event.key, event.reason)
            elif type(event) is UserChanged and event.ends_sessions:
                for key in tuple(self._by_person.get(event.guid, ())):
                    self._over(key, SessionEnd.USER_CHANGED)

    def _over(self, key: bytes, reason: SessionEnd) -> None:
        """From now on nobody uses it; `run` commits that."""
        self._ending[key] = reason
        self._drop(key, reason)
        self._work.set()

    def _drop(self, key: bytes, reason: SessionEnd) -> None:
        found = self._open.pop(key, None)
        if found is None:
            return
        keys = self._by_person[found.session.person]
        keys.discard(key)
        if not keys:
            del self._by_person[found.session.person]
        for listener in tuple(self._listeners):
            listener(key, reason)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with the key and the reason when a session is over."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    # -- what is asked ---------------------------------------------------------------------------

    async def begin(self, mfd: Mfd, person: User, method: str) -> tuple[str, Session]:
        """A new session at `mfd`, and its id; the one before, if any, is over.

        Raises:
            OperationError: the MFD was revoked, or the person changed or removed, meanwhile.
        """
        id_ = urlsafe_b64encode(self._random_bytes(SESSION_BYTES)).decode()
        change = StartSession(
            secret_key(id_),
            mfd.guid,
            person.guid,
            method,
            person.changed_us,
            self._wall_clock(),
            mfd.identity,
        )
        session: Session = await self._journal.commit(change)
        log.info("session_started", device=mfd.name, method=method)
        return id_, session

    async def find(self, mfd: Mfd, id_: str) -> tuple[Session, User]:
        """The session and its person as of now; this counts as use of it.

        Raises:
            OperationError: `session-ended`: it is over, or none of this MFD.
        """
        found = self._open.get(secret_key(id_)) if len(id_) <= SECRET_CHARACTERS_MAX else None
        if found is None or found.session.mfd != mfd.guid:
            raise await self._ended(mfd, id_)
        session = found.session
        found.used_at = trio.current_time()
        found.is_touched = True
        user = await self._reader.user_by_guid(session.person)
        if user is None or user.disabled:
            self._over(session.key, SessionEnd.USER_CHANGED)
        if user is None or session.key not in self._open:
            raise await self._ended(mfd, id_)
        return session, user

    async def find_any(self, mfd: Mfd, id_: str) -> Session:
        """The session, also when it is over, as long as it is kept. No use of it.

        Raises:
            OperationError: `session-ended`: there is none such of this MFD.
        """
        session = await self._reader.session(secret_key(id_))
        if session is None or session.mfd != mfd.guid:
            raise await self._ended(mfd, id_)
        return session

    async def _ended(self, mfd: Mfd, id_: str) -> OperationError:
        key = secret_key(id_)
        reason: str = self._ending.get(key, "")
        if not reason:
            session = await self._reader.session(key)
            reason = session.end if session is not None and session.mfd == mfd.guid else ""
        told = f" ({reason})" if reason else ""
        return OperationError("session-ended", f"nobody is logged in{told}.", "Log in again.")

    def is_open(self, session: Session) -> bool:
        return session.key in self._open

    def left_s(self, session: Session) -> float:
        """In how many seconds it ends if nobody uses it."""
        found = self._open.get(session.key)
        if found is None:
            return 0.0
        return max(0.0, found.used_at + self._idle_s(session) - trio.current_time())

    async def end(self, session: Session, reason: SessionEnd, actor: str) -> None:
        """The session is over when this returns, and stays so."""
        await self._journal.commit(EndSession(session.key, reason, self._wall_clock(), actor))

    def _idle_s(self, session: Session) -> int:
        mfd = self._mfds.by_guid(session.mfd)
        return IDLE_S if mfd is None else mfd.settings.idle_s

    # -- time ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """End what nobody uses, keep what is used in mind, and forget what is long over."""
        touched_at = forgot_at = trio.current_time()
        while True:
            with trio.move_on_after(LOOK_INTERVAL_S):
                await self._work.wait()
            self._work = trio.Event()
            self._look()
            try:
                await self._commit_ends()
                now = trio.current_time()
                if now - touched_at >= TOUCH_INTERVAL_S:
                    touched_at = now
                    await self._touch(now)
                if now - forgot_at >= FORGET_INTERVAL_S:
                    forgot_at = now
                    before_us = self._wall_clock() - KEPT_S * 1_000_000
                    await self._journal.commit(ForgetSessions(before_us, FORGOTTEN_MAX))
            except StoreFailed:
                raise
            except SpoolError as error:  # a full disk; what is over stays over in memory
                log.warning("sessions_not_kept", reason=str(error))

    def _look(self) -> None:
        now, now_us = trio.current_time(), self._wall_clock()
        for key, found in tuple(self._open.items()):
            if now - found.used_at >= self._idle_s(found.session):
                self._over(key, SessionEnd.IDLE)
            elif now_us - found.session.started_us >= LONGEST_S * 1e6:
                self._over(key, SessionEnd.TOO_OLD)

    async def _commit_ends(self) -> None:
        ends = list(self._ending.items())
        if ends:
            now_us = self._wall_clock()
            changes = [EndSession(key, why, now_us) for key, why in ends]
            answers = await self._journal.commit_all(changes)
            for (key, _), answer in zip(ends, answers, strict=True):
                if type(answer) is bool:
                    self._ending.pop(key, None)

    async def _touch(self, now: float) -> None:
        now_us = self._wall_clock()
        used = {}
        for key, found in self._open.items():
            if found.is_touched:
                found.is_touched = False
                used[key] = now_us - int((now - found.used_at) * 1e6)
        if used:
            await self._journal.commit(TouchSessions(used))
