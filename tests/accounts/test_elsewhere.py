"""Passwords that a directory knows, against Debian's slapd."""

from __future__ import annotations

from uuid import uuid4

import pytest

from spoold.accounts.authentication import Authentication, Credential
from spoold.accounts.elsewhere import Elsewhere
from spoold.accounts.guard import Guard
from spoold.accounts.passwords import Passwords
from spoold.accounts.rounds import Rounds
from spoold.model.errors import OperationError
from spoold.model.source import settings_map, source_of
from spoold.spool.store import PutSource, PutUser
from support import slapd
from support.directory import DIGESTS

pytestmark = pytest.mark.slow  # each starts a slapd

RIGHT = "correct horse battery"
PEOPLE = slapd.person("ada", "Ada", userPassword=RIGHT) + slapd.person("bob", "Bob")


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "slapd"
    folder.mkdir()
    with slapd.running(folder, PEOPLE) as server:
        yield server


class Door:
    def __init__(self, spool, source):
        self.spool, self.source = spool, source
        passwords = Passwords(memory_kib=64)
        guard = Guard(spool.reader, spool.journal, DIGESTS, spool.wall_clock)
        self.authentication = Authentication(
            spool.reader,
            spool.journal,
            passwords,
            DIGESTS,
            guard,
            spool.wall_clock,
            Elsewhere(spool.reader),
        )

    async def login(self, name, password):
        credential = Credential(name=name, password=password)
        where = f"192.0.2.{len(name)}"
        login = await self.authentication.authenticate(credential, where)
        return login.user

    async def set(self, **settings):
        old = settings_map(self.source)
        self.source = source_of(self.source.guid, "hq", {**old, **settings})
        await self.spool.journal.commit(PutSource(self.source, self.spool.wall_clock()))


@pytest.fixture
async def door(spool, directory):
    source = source_of(uuid4(), "hq", {**directory.source, "logins": True})
    await spool.journal.commit(PutSource(source, spool.wall_clock(), True))
    rounds = Rounds(spool.journal, spool.reader, DIGESTS, spool.wall_clock)
    assert (await rounds.round(source, actor="uid:0")).added == 2
    return Door(spool, source)


async def refused(awaitable):
    with pytest.raises(OperationError) as caught:
        await awaitable
    return caught.value.code


async def test_the_directory_says_whether_a_password_is_right(door):
    """Only the right one, only for whom it is; who has none there never gets in."""
    assert (await door.login("ada", RIGHT)).name == "ada"
    assert await refused(door.login("ada", "wrong horse battery")) == "unauthorized"
    assert await refused(door.login("bob", RIGHT)) == "unauthorized"
    assert await refused(door.login("ada", "")) in ("unauthorized", "bad-request")
    assert await refused(door.login("nobody", RIGHT)) == "unauthorized"


async def test_a_password_of_the_directory_counts_only_where_it_shall(door):
    """Not when the source is not asked, not for users by hand, not beside a password here."""
    now_us = door.spool.wall_clock()
    await door.set(logins=False)
    assert await refused(door.login("ada", RIGHT)) == "unauthorized"
    await door.set(logins=True)
    own = await Passwords(memory_kib=64).hash("a password of here")
    await door.spool.journal.commit(PutUser("ada", now_us, password=own))
    assert (await door.login("ada", "a password of here")).name == "ada"
    assert await refused(door.login("ada", RIGHT)) in ("unauthorized", "busy")


async def test_a_new_password_counts_at_once_and_a_disabled_user_never(door, directory):
    """What the directory says is asked anew each time."""
    directory.change(
        f"dn: {slapd.dn('ada')}\nchangetype: modify\nreplace: userPassword\n"
        "userPassword: another horse battery\n"
    )
    assert (await door.login("ada", "another horse battery")).name == "ada"
    change = PutUser("ada", door.spool.wall_clock(), fields={"disabled": True})
    await door.spool.journal.commit(change)
    assert await refused(door.login("ada", "another horse battery")) == "unauthorized"


async def test_a_directory_that_is_gone_is_nobodys_failure(door, directory):
    """Who cannot be asked about is told to come back, and waits for nothing then."""
    directory.stop()
    for _ in range(3):
        assert await refused(door.login("ada", RIGHT)) == "busy"
    directory.start()
    assert (await door.login("ada", RIGHT)).name == "ada"


@pytest.mark.parametrize("password", [RIGHT + "\0", "*", ")(uid=*", "\\2a", "ä" * 200])
async def test_passwords_are_only_ever_passwords(door, password):
    """Nothing in one reaches a filter or a name, and none is cut off."""
    for name in ("ada", "bob"):
        assert await refused(door.login(name, password)) == "unauthorized"
