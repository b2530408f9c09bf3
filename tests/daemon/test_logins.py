"""Who comes in by name and password, and what guessing brings."""

from __future__ import annotations

import time
import unicodedata
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from spoold.accounts.guard import FREE_AT_HOME, FREE_OF_ADDRESS
from spoold.accounts.guard import FREE_OF_ACCOUNT as FREE_OF_NAME
from spoold.accounts.passwords import Passwords
from spoold.daemon import logins
from spoold.daemon.logins import Logins
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Role
from spoold.model.record import Kind
from spoold.spool.store import PutUser, RemoveUser
from support.directory import authentication_of

HERE, ELSEWHERE = "192.0.2.7", "198.51.100.1"
RIGHT = "correct horse"


class Counted(Passwords):
    """As in the daemon, but a check takes a millisecond, and is counted."""

    def __init__(self, **options) -> None:
        super().__init__(memory_kib=64, **options)
        self.checks = 0

    async def verify(self, stored, password, address):
        self.checks += 1
        return await super().verify(stored, password, address)


class Door(SimpleNamespace):
    """Where people log in."""

    async def add(self, name="ada", password=RIGHT, roles=(Role.USER,)):
        stored = await self.passwords.hash(password) if password else ""
        change = PutUser(name, 1, frozenset(roles), stored, is_new=True)
        return await self.spool.journal.commit(change)

    async def change(self, name="ada", password=None, roles=None):
        stored = await self.passwords.hash(password) if password else None
        granted = None if roles is None else frozenset(roles)
        await self.spool.journal.commit(PutUser(name, 2, granted, stored))

    async def code(self, name="ada", password=RIGHT, address=HERE) -> str:
        """ "" for who comes in, else why not."""
        try:
            await self.logins.login(name, password, address)
        except OperationError as error:
            return error.code
        return ""

    async def guess(self, count, name="ada", address=ELSEWHERE, password="guess {}"):
        return [await self.code(name, password.format(n), address) for n in range(count)]

    async def refusals(self):
        records = await self.spool.reader.records(1, 1000)
        return [one for one in records if one.kind == Kind.LOGIN_REFUSED]


def door_of(spool, **options) -> Door:
    passwords = Counted(**options)
    made = Logins(authentication_of(spool, passwords), spool.journal)
    return Door(spool=spool, passwords=passwords, logins=made)


@pytest.fixture
def door(spool) -> Door:
    return door_of(spool)


# -- who comes in --------------------------------------------------------------------------------


async def test_a_user_comes_in_with_the_roles_that_were_given(door):
    """By the key, under the one form of the name, and as anybody too."""
    user = await door.add(roles=(Role.OPERATOR, Role.USER))
    for name in ("ada", "ADA", "EXAMPLE\\Ada", "ada@EXAMPLE.ORG"):
        principal = await door.logins.login(name, RIGHT, HERE)
        assert (principal.identity, principal.name) == (f"user:{user.guid}", "ada")
        assert principal.roles == {Role.OPERATOR, Role.USER, Role.ANYBODY}
        assert (principal.port, principal.method) == (Port.TLS, "basic")
        assert (principal.address, principal.may_assert) == (HERE, ())


async def test_what_is_wrong_is_not_told(door):
    """An unknown name, a wrong password and a user without one are answered in the same words."""
    await door.add()
    await door.add("bob", password="")
    told = set()
    for name, password in (
        ("ada", "wrong"),
        ("eve", RIGHT),
        ("bob", "x"),
        ("", RIGHT),
        ("ada", ""),
    ):
        with pytest.raises(OperationError) as caught:
            await door.logins.login(name, password, HERE)
        told.add((caught.value.code, str(caught.value)))
    assert len(told) == 1
    assert told.pop()[0] == "unauthorized"


@pytest.mark.parametrize(
    "password",
    ["with:colons::", " spaces around ", "Zoë's Straße 1€", "x" * 256, "日本語パスワード"],
)
async def test_odd_passwords_are_passwords(door, password):
    """As they are, however the client composes its characters."""
    await door.add(password=unicodedata.normalize("NFC", password))
    assert await door.code(password=unicodedata.normalize("NFD", password)) == ""
    assert await door.code(password=password + " ", address=ELSEWHERE) == "unauthorized"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("a" * 1_000_000, RIGHT),
        ("ada", "x" * 1_000_000),
        ("ada\0", "correct\0horse"),
        ("\u202eada\ud800", "\udcff\udcfe"),
        ("../../ada'; --", RIGHT),
        ("*", RIGHT),
        ("@", ":"),
        ("\\", "\\"),
    ],
)
async def test_odd_names_and_passwords_do_no_harm(door, name, password):
    """They are wrong, and no more than that."""
    await door.add()
    assert await door.code(name, password) == "unauthorized"
    assert await door.code() == ""


async def test_a_long_name_of_a_user_is_a_name(door):
    """Up to what a name can have."""
    await door.add("ä" * 255)
    assert await door.code("Ä" * 255) == ""


# -- what is remembered --------------------------------------------------------------------------


async def test_a_login_with_every_request_is_checked_once(door, mock_clock):
    """For some minutes, from wherever it comes; then once more."""
    await door.add()
    for address in (HERE, ELSEWHERE, HERE):
        assert await door.code(address=address) == ""
    assert door.passwords.checks == 1
    mock_clock.jump(logins.REMEMBERED_S)
    assert await door.code() == ""
    assert door.passwords.checks == 2


async def test_the_same_login_many_times_at_once_is_checked_once(door):
    """A client that opens ten connections costs one hash, right or wrong."""
    await door.add()
    async with trio.open_nursery() as nursery:
        for password in (RIGHT, "wrong"):
            for _ in range(20):
                nursery.start_soon(door.code, "ada", password)
    assert door.passwords.checks == 2


async def test_a_client_that_hangs_up_leaves_the_check_to_the_next(door):
    """Whoever waits for the same answer gets it all the same."""
    await door.add()
    codes = []

    async def wait():
        codes.append(await door.code())

    async with trio.open_nursery() as nursery, trio.open_nursery() as leaving:
        leaving.start_soon(door.code)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(wait)
        await trio.lowlevel.checkpoint()
        leaving.cancel_scope.cancel()
    assert codes == [""]


async def test_a_change_counts_at_once(door):
    """New roles, a new password; the old one is wrong now, and one that was wrong may be right."""
    await door.add()
    assert await door.code() == ""
    assert await door.code(password="new password") == "unauthorized"
    await door.change(roles=(Role.USER, Role.HELP_DESK))
    assert Role.HELP_DESK in (await door.logins.login("ada", RIGHT, HERE)).roles
    await door.change(password="new password")
    assert await door.code() == "unauthorized"
    assert await door.code(password="new password") == ""
    await door.spool.journal.commit(RemoveUser("ada", 3))
    assert await door.code(password="new password") == "unauthorized"
    await door.add()
    assert await door.code() == ""


@pytest.mark.parametrize("new_password", ["", "new password", RIGHT])
async def test_a_change_during_the_check_counts(spool, new_password):
    """Nobody comes in by what was right when the check began; the right one is checked again."""
    door = door_of(spool)
    await door.add()
    begun, go_on = trio.Event(), trio.Event()
    verify = door.passwords.verify

    async def slow(stored, password, address):
        begun.set()
        await go_on.wait()
        return await verify(stored, password, address)

    door.passwords.verify = slow
    codes = {}

    async def enter(password):
        codes[password] = await door.code(password=password)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter, RIGHT)
        nursery.start_soon(enter, "new password")
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        if new_password:
            await door.change(password=new_password)
        else:
            await door.spool.journal.commit(RemoveUser("ada", 3))
        go_on.set()
    came_in = [password for password, code in codes.items() if not code]
    assert came_in == [one for one in codes if one == new_password]


async def test_nothing_that_is_remembered_is_the_password(door):
    """Neither the password nor its hash can be read from what is kept in memory."""
    await door.add()
    assert await door.code() == ""
    assert await door.code(password="wrong horse") == "unauthorized"
    kept = repr([vars(door.logins)[name] for name in ("_right", "_wrong", "_checking")])
    assert "horse" not in kept
    assert "argon2" not in kept


# -- guessing ------------------------------------------------------------------------------------


async def test_guessing_has_to_wait_longer_and_longer(door, mock_clock):
    """Not even the right password comes in then, and it costs no hash; later it does."""
    await door.add()
    codes = await door.guess(FREE_OF_NAME + 3)
    assert codes == ["unauthorized"] * (FREE_OF_NAME + 1) + ["busy"] * 2
    before = door.passwords.checks
    assert await door.code(address=ELSEWHERE) == "busy"
    with pytest.raises(OperationError, match="Try again in 1 s"):
        await door.logins.login("ada", RIGHT, ELSEWHERE)
    assert door.passwords.checks == before
    mock_clock.jump(1.0)
    assert await door.guess(2, password="more {}") == ["unauthorized", "busy"]
    mock_clock.jump(1.0)
    assert await door.code(address=ELSEWHERE) == "busy"
    mock_clock.jump(1.0)
    assert await door.code(address=ELSEWHERE) == ""


async def test_an_unknown_name_waits_like_a_known_one(door):
    """The waits do not tell who is a user."""
    await door.add()
    known = await door.guess(FREE_OF_NAME + 3, "ada", "198.51.100.1")
    assert await door.guess(FREE_OF_NAME + 3, "eve", "198.51.100.2") == known


async def test_nobody_locks_a_user_out_of_where_the_user_is_at_home(door):
    """Guesses from elsewhere, and of others from the same address, do not count there."""
    await door.add()
    assert await door.code() == ""
    await door.guess(FREE_OF_NAME + 5, address=ELSEWHERE)
    for number in range(FREE_OF_ADDRESS + 5):
        await door.code(f"eve{number}", RIGHT, HERE)
    assert await door.code("bob", RIGHT, HERE) == "busy"
    await door.change(roles=(Role.USER,))  # what was remembered is forgotten
    assert await door.code() == ""


async def test_guessing_at_home_has_to_wait_too(door):
    """A few typing errors are free there."""
    await door.add()
    assert await door.code() == ""
    codes = await door.guess(FREE_AT_HOME + 3, address=HERE)
    assert codes == ["unauthorized"] * (FREE_AT_HOME + 1) + ["busy"] * 2


@pytest.mark.parametrize(
    ("guesser", "neighbour"), [("{0}", "192.0.2.8"), ("2001:db8::{0}", "2001:db8:0:1::1")]
)
async def test_one_address_that_tries_many_names_has_to_wait(door, guesser, neighbour):
    """IPv6 counts by /64; whoever is elsewhere comes in."""
    await door.add()
    codes = []
    for number in range(FREE_OF_ADDRESS + 4):
        address = guesser.format(number) if ":" in guesser else HERE
        codes.append(await door.code(f"eve{number}", RIGHT, address))
    assert codes == ["unauthorized"] * (FREE_OF_ADDRESS + 1) + ["busy"] * 3
    assert await door.code(address=neighbour) == ""


async def test_many_guesses_at_once_are_not_many_free_ones(door):
    """What is being checked counts already."""
    await door.add()
    codes: list[str] = []

    async def guess(number):
        codes.append(await door.code("ada", f"guess {number}", f"198.51.100.{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(guess, number)
    assert codes.count("unauthorized") == FREE_OF_NAME + 1
    assert codes.count("busy") == 99 - FREE_OF_NAME


async def test_a_device_with_an_old_password_blocks_nobody(door):
    """The same wrong password again and again is refused at once, and does not count."""
    await door.add()
    assert {await door.code(password="old password") for _ in range(200)} == {"unauthorized"}
    assert door.passwords.checks == 1
    assert await door.code() == ""


async def test_a_crowd_with_right_passwords_behind_one_address_comes_in(door):
    """An office whose users all log in at nine."""
    names = [f"user{number}" for number in range(30)]
    for name in names:
        await door.add(name)
    codes = []

    async def enter(name):
        codes.append(await door.code(name))

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(enter, name)
    assert codes == [""] * 30


@pytest.mark.slow
async def test_a_flood_of_logins_delays_nobody_who_is_known(spool):
    """Hashes of the real cost from a hundred addresses: who is remembered comes in at once."""
    passwords = Passwords()
    door = Door(
        spool=spool,
        passwords=passwords,
        logins=Logins(authentication_of(spool, passwords), spool.journal),
    )
    await door.add()
    assert await door.code() == ""
    waits, codes = [], []

    async def flood(number):
        codes.append(await door.code(f"eve{number}", RIGHT, f"198.51.100.{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(flood, number)
        for _ in range(200):
            begun = time.perf_counter()
            assert await door.code() == ""
            await trio.sleep(0.002)
            waits.append(time.perf_counter() - begun)
        nursery.cancel_scope.cancel()
    assert sorted(waits)[100] < 1  # in the queue of the others it would be many times that
    assert "busy" in codes


# -- what is told --------------------------------------------------------------------------------


async def test_refusals_are_facts_that_a_flood_does_not_multiply(door, mock_clock):
    """One record a second that counts them; it names a user by key, and no password."""
    user = await door.add()
    await door.guess(3, address=HERE)
    mock_clock.jump(2.0)
    await door.code("my secret password", "x", ELSEWHERE)
    first, second = await door.refusals()
    assert first.payload == {"reason": "wrong-password", "person": user.guid.bytes, "count": 1}
    assert first.personal == {"address": HERE, "user": "ada"}
    assert second.payload == {"reason": "unknown-user", "person": None, "count": 3}
    assert second.personal == {"address": ELSEWHERE}
    assert first.actor == "client"


async def test_the_operator_has_an_event(door):
    """With the address and why; what nobody is called stays out, as it may be a password."""
    await door.add()
    with capture_logs() as told:
        await door.code(password="wrong")
        await door.code("my secret password", "x")
        await door.code()
    assert [(one["event"], one["client"], one["log_level"]) for one in told] == [
        ("login_refused", HERE, "warning"),
        ("login_refused", HERE, "warning"),
        ("login_succeeded", HERE, "debug"),
    ]
    assert [one.get("reason") for one in told] == ["wrong-password", "unknown-user", None]
    assert "secret" not in repr(told)
