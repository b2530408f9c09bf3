"""Who is logged in at which MFD, and how that ends."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.model.mfd import MfdSettings, SessionEnd, secret_key
from spoold.release.mfds import Mfds
from spoold.release.news import Mode, News
from spoold.release.sessions import KEPT_S, Sessions
from spoold.spool.store import (
    ForgetSessions,
    PutCard,
    PutMfd,
    PutPin,
    PutUser,
    RemoveCard,
    RemoveUser,
    RevokeMfd,
)


class Place(SimpleNamespace):
    """A spool with MFDs and sessions, and short ways to use them."""

    async def mfd(self, name="panel", **settings):
        return await self.spool.journal.commit(
            PutMfd(uuid4(), name, self.spool.wall_clock(), MfdSettings(**settings))
        )

    async def user(self, name="ada"):
        return await self.spool.journal.commit(PutUser(name, self.spool.wall_clock(), is_new=True))

    async def emptied(self):
        """Nobody is logged in."""
        ended = trio.Event()
        self.sessions.listen(lambda key, reason: ended.set())
        with trio.fail_after(30):
            while len(self.sessions):
                await ended.wait()

    async def why_ended(self, mfd, id_) -> str:
        with pytest.raises(OperationError) as caught:
            await self.sessions.find(mfd, id_)
        assert caught.value.code == "session-ended"
        return caught.value.message


@asynccontextmanager
async def opened(spool):
    """MFDs and sessions as a node has them after a start."""
    mfds = Mfds(spool.journal, spool.reader)
    await mfds.start()
    sessions = Sessions(spool.journal, spool.reader, mfds, spool.wall_clock, os.urandom)
    await sessions.start()
    place = Place(spool=spool, mfds=mfds, sessions=sessions, news=News(spool.journal, sessions))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.run)
        yield place
        nursery.cancel_scope.cancel()
    place.news.close()
    sessions.close()
    mfds.close()


@pytest.fixture
async def place(spool):
    async with opened(spool) as found:
        yield found


async def test_a_session_is_found_by_its_id_at_its_mfd_alone(place):
    """Another MFD learns nothing with the id, and nobody with another id."""
    here, there = await place.mfd("here"), await place.mfd("there")
    ada = await place.user()
    id_, session = await place.sessions.begin(here, ada, "card")
    found, user = await place.sessions.find(here, id_)
    assert (found.person, user.name, found.method) == (ada.guid, "ada", "card")
    assert await place.why_ended(there, id_) == "nobody is logged in."
    assert await place.why_ended(here, id_[:-1]) == "nobody is logged in."
    assert await place.why_ended(here, "x" * 100_000) == "nobody is logged in."
    assert id_ not in repr(session)


async def test_the_id_is_in_no_file(place, tmp_path):
    """What is kept of it is a hash: a copy of the spool opens no session."""
    id_, _ = await place.sessions.begin(await place.mfd(), await place.user(), "card")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(id_.encode() in path.read_bytes() for path in files)


async def test_one_person_is_logged_in_at_an_mfd(place):
    """Another login ends the session before; the same person may be at two MFDs."""
    here, there = await place.mfd("here"), await place.mfd("there")
    ada, bob = await place.user("ada"), await place.user("bob")
    first, _ = await place.sessions.begin(here, ada, "card")
    elsewhere, _ = await place.sessions.begin(there, ada, "pin")
    second, _ = await place.sessions.begin(here, bob, "card")
    assert await place.why_ended(here, first) == "nobody is logged in (another-login)."
    assert (await place.sessions.find(here, second))[1].name == "bob"
    assert (await place.sessions.find(there, elsewhere))[1].name == "ada"


async def test_a_logout_is_for_good(place):
    """And an ended session can still be told from one that never was."""
    mfd = await place.mfd()
    id_, session = await place.sessions.begin(mfd, await place.user(), "card")
    await place.sessions.end(session, SessionEnd.LOGOUT, "node")
    assert await place.why_ended(mfd, id_) == "nobody is logged in (logout)."
    assert (await place.sessions.find_any(mfd, id_)).end == "logout"
    with pytest.raises(OperationError, match="nobody is logged in"):
        await place.sessions.find_any(mfd, "other")


async def test_who_is_removed_or_loses_a_role_is_out_at_once(place):
    """Before the change's own commit returns nobody uses the session any more."""
    mfd = await place.mfd()
    ada = await place.user("ada")
    id_, _ = await place.sessions.begin(mfd, ada, "card")
    await place.spool.journal.commit(RemoveUser("ada", place.spool.wall_clock()))
    assert len(place.sessions) == 0
    assert await place.why_ended(mfd, id_) == "nobody is logged in (user-changed)."


async def test_what_is_taken_away_from_a_person_ends_their_session(place):
    """A card, the PIN, the password, or everything at once; an e-mail address does not."""
    commit, now_us = place.spool.journal.commit, place.spool.wall_clock
    taken_away = [
        lambda: RemoveCard("ada", 1, now_us()),
        lambda: PutPin("ada", (), now_us()),
        lambda: PutUser("ada", now_us(), password=""),
        lambda: PutUser("ada", now_us(), fields={"disabled": True}),
    ]
    mfd, user = await place.mfd(), await place.user()
    user = await commit(PutUser("ada", now_us(), password="hash"))
    for change in taken_away:
        await commit(PutUser("ada", now_us(), fields={"disabled": False}))
        await commit(PutCard("ada", (b"digest",), "", "", now_us()))
        user = await commit(PutPin("ada", (b"pin",), now_us()))
        id_, _ = await place.sessions.begin(mfd, user, "card")
        await commit(PutUser("ada", now_us(), fields={"email": "ada@example.org"}))
        assert (await place.sessions.find(mfd, id_))[1].email == "ada@example.org"
        await commit(change())
        assert "user-changed" in await place.why_ended(mfd, id_)


async def test_a_revoked_mfd_has_no_session_and_gets_none(place):
    """Its session ends with it."""
    mfd = await place.mfd()
    ada = await place.user()
    id_, _ = await place.sessions.begin(mfd, ada, "card")
    await place.spool.journal.commit(RevokeMfd("panel", place.spool.wall_clock()))
    assert await place.why_ended(mfd, id_) == "nobody is logged in (device-revoked)."
    with pytest.raises(OperationError, match="revoked"):
        await place.sessions.begin(mfd, ada, "card")


@pytest.mark.slow
async def test_a_session_that_nobody_uses_ends(place):
    """After the MFD's idle time-out, and the journal says so."""
    mfd = await place.mfd(idle_s=0)
    id_, _ = await place.sessions.begin(mfd, await place.user(), "card")
    await place.emptied()
    assert await place.why_ended(mfd, id_) == "nobody is logged in (idle)."


async def test_a_session_lives_through_a_restart(spool):
    """The same id finds it; who was changed meanwhile has to log in again."""
    async with opened(spool) as before:
        here, there = await before.mfd("here"), await before.mfd("there")
        ada, bob = await before.user("ada"), await before.user("bob")
        stays, _ = await before.sessions.begin(here, ada, "card")
        ends, _ = await before.sessions.begin(there, bob, "card")
    await spool.journal.commit(RemoveUser("bob", spool.wall_clock()))
    async with opened(spool) as after:
        assert (await after.sessions.find(here, stays))[1].name == "ada"
        assert await after.why_ended(there, ends) == "nobody is logged in (user-changed)."


async def test_a_session_that_was_idle_before_the_restart_ends(spool):
    """The time in which nobody served counts, too."""
    clock = spool.wall_clock
    async with opened(spool) as before:
        mfd = await before.mfd(idle_s=60)
        id_, _ = await before.sessions.begin(mfd, await before.user(), "card")
    spool.wall_clock = lambda: clock() + 61_000_000
    async with opened(spool) as after:
        await after.emptied()
        assert await after.why_ended(mfd, id_) == "nobody is logged in (idle)."


async def test_ended_sessions_are_forgotten_in_time(place):
    """Open ones stay, however old."""
    here, there = await place.mfd("here"), await place.mfd("there")
    ada = await place.user()
    gone, session = await place.sessions.begin(here, ada, "card")
    kept, _ = await place.sessions.begin(there, ada, "card")
    await place.sessions.end(session, SessionEnd.LOGOUT, "node")
    later_us = place.spool.wall_clock() + KEPT_S * 1_000_000
    assert await place.spool.journal.commit(ForgetSessions(later_us, 10)) == 1
    assert await place.spool.reader.session(secret_key(gone)) is None
    assert await place.spool.reader.session(secret_key(kept)) is not None


async def test_a_token_is_found_by_its_hash_until_it_is_replaced(place):
    """The new one takes the place of the old one; a revoked MFD has none."""
    guid, now_us = uuid4(), place.spool.wall_clock()

    async def put(token):
        change = PutMfd(guid, "panel", now_us, MfdSettings(), token_key=secret_key(token))
        await place.spool.journal.commit(change)

    await put("first")
    assert place.mfds.by_token("first").name == "panel"
    await put("second")
    assert place.mfds.by_token("first") is None
    assert place.mfds.by_token("second").guid == guid
    await place.spool.journal.commit(RevokeMfd("panel", now_us))
    assert place.mfds.by_token("second") is None
    assert place.mfds.by_guid(guid) is None
    assert place.mfds.by_name("panel").revoked


async def test_a_follower_hears_of_mode_jobs_and_the_end(place):
    """Each job by its newest state; of too many only that there were some."""
    mfd, ada = await place.mfd(), await place.user("ada")
    printer = await place.spool.add_printer()
    _, session = await place.sessions.begin(mfd, ada, "card")
    with place.news.following(session, "ada") as follower:
        await follower.wait()
        assert follower.mode is Mode.ONLINE
        await place.spool.add_job(printer, owner="bob")
        job = await place.spool.add_job(printer, owner="ada")
        await follower.wait()
        assert list(follower.jobs) == [job.job_id]
        for _ in range(100):
            await place.spool.add_job(printer, owner="ada")
        assert follower.is_behind
        place.news.set_mode(Mode.STOPPING)
        assert follower.mode is Mode.STOPPING
        await place.sessions.end(session, SessionEnd.LOGOUT, "node")
        assert follower.end is SessionEnd.LOGOUT
    assert len(place.news) == 0


async def test_what_was_revoked_between_login_and_session_opens_none(place):
    """A card that is taken away while it lies on the reader lets nobody in."""
    mfd, ada = await place.mfd(), await place.user("ada")
    change = PutUser("ada", place.spool.wall_clock() + 1, password="hash")
    await place.spool.journal.commit(change)
    with pytest.raises(OperationError, match="being changed"):
        await place.sessions.begin(mfd, ada, "card")
