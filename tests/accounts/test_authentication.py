"""Who comes in by card, PIN and password, and what guessing at machines brings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
from structlog.testing import capture_logs

from spoold.accounts import guard
from spoold.accounts.authentication import Credential, Method
from spoold.accounts.guard import (
    FREE_OF_CARD,
    FREE_OF_CARDS,
    FREE_OF_MACHINE,
    FREE_OF_MACHINE_PINS,
    FREE_OF_PINS,
    PINS_LONGEST_S,
)
from spoold.accounts.passwords import Passwords
from spoold.model.errors import OperationError
from spoold.model.record import Kind
from spoold.spool.store import PutCard, PutPin, PutUser, RemoveCard, RemoveUser
from support.directory import DIGESTS, authentication_of

MFD = "device:00000000-0000-4000-8000-0000000000d1"
OTHER = "device:00000000-0000-4000-8000-0000000000d2"
CARD, PIN, SHORT, PASSWORD = "04A1B2C3", "730194", "7301", "correct horse"
BY_CARD, BY_PIN = Credential(card=CARD), Credential(pin=PIN)


class House(SimpleNamespace):
    """Users with cards and PINs, and machines where they log in."""

    async def add(self, name="ada", card=CARD, pin=PIN, password="", **fields):
        commit = self.spool.journal.commit
        stored = await self.passwords.hash(password) if password else ""
        user = await commit(PutUser(name, 1, password=stored, is_new=True, fields=fields))
        if card:
            digests = tuple(DIGESTS.cards(card))
            user = await commit(PutCard(name, digests, "blue", card[-4:], 1))
        if pin:
            owner = None if len(pin) >= len(PIN) else user.guid
            user = await commit(PutPin(name, tuple(DIGESTS.pins(pin, owner)), 1))
        return user

    async def login(self, credential, where=MFD, **options):
        return await self.authentication.authenticate(credential, where, **options)

    async def code(self, credential, where=MFD) -> str:
        """ "" for who comes in, else why not."""
        try:
            await self.login(credential, where)
        except OperationError as error:
            return error.code
        return ""

    async def refusals(self):
        records = await self.spool.reader.records(1, 1000)
        return [one for one in records if one.kind == Kind.LOGIN_REFUSED]


@pytest.fixture
def house(spool) -> House:
    passwords = Passwords(memory_kib=64)
    return House(
        spool=spool, passwords=passwords, authentication=authentication_of(spool, passwords)
    )


# -- who comes in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credential", "method"),
    [
        (BY_CARD, Method.CARD),
        (BY_PIN, Method.PIN),
        (Credential(card=CARD, pin=PIN), Method.CARD_AND_PIN),
        (Credential(name="EXAMPLE\\Ada", password=PASSWORD), Method.PASSWORD),
    ],
)
async def test_a_user_comes_in_by_whatever_was_given(house, credential, method):
    """And the answer says how."""
    user = await house.add(password=PASSWORD, groups=("staff",), full_name="Ada Lovelace")
    login = await house.login(credential)
    assert (login.user, login.method) == (user, method)
    assert [(one.number, one.label, one.ending) for one in user.cards] == [(1, "blue", "B2C3")]
    assert user.has_pin


@pytest.mark.parametrize(
    "credential",
    [
        Credential(card="04A1B2C4"),
        Credential(pin="730195"),
        Credential(card=CARD, pin="730195"),
        Credential(card=CARD, pin=""" '; DROP TABLE card; --"""),
        Credential(card="x" * 65536),
        Credential(card="\u202e\0../../\ud800"),
        Credential(pin="x" * 65536),
        Credential(pin="".join(chr(ord(c) + 0xFEE0) for c in PIN)),
        Credential(name="ada", password="wrong"),
        Credential(name="ada" * 20000, password=PASSWORD),
    ],
    ids=range(10),
)
async def test_what_is_wrong_is_refused_and_does_no_harm(house, credential):
    """Whatever it is made of."""
    await house.add(password=PASSWORD)
    assert await house.code(credential) == "unauthorized"
    assert await house.code(BY_CARD) == ""


@pytest.mark.parametrize(
    "credential",
    [
        Credential(),
        Credential(name="ada"),
        Credential(card=CARD, password="x"),
        Credential("1", "2", "3", "4"),
    ],
)
async def test_half_a_credential_is_no_way_to_log_in(house, credential):
    """That is a mistake of the machine, and counts as no failure."""
    await house.add()
    assert await house.code(credential) == "bad-request"
    assert await house.refusals() == []


async def test_a_machine_says_how_people_log_in_there(house):
    """Another way is refused before anything is looked at."""
    await house.add()
    with pytest.raises(OperationError) as caught:
        await house.login(BY_CARD, methods=frozenset({Method.CARD_AND_PIN}))
    assert (caught.value.code, "card+pin" in str(caught.value)) == ("forbidden", True)


async def test_a_short_pin_counts_beside_its_card_only(house):
    """Two people may have the same; alone it finds nobody."""
    await house.add(pin=SHORT)
    await house.add("bob", card="99", pin=SHORT)
    assert await house.code(Credential(pin=SHORT)) == "unauthorized"
    assert (await house.login(Credential(card="99", pin=SHORT))).user.name == "bob"
    assert (await house.login(Credential(card=CARD, pin=SHORT))).user.name == "ada"


async def test_nothing_that_was_shown_is_told(house):
    """Not by the credential itself, the log, or the journal."""
    shown = Credential(CARD, PIN, "ada", PASSWORD)
    assert repr(shown) == "Credential()"
    await house.add()
    with capture_logs() as logs:
        for credential in (Credential(card="5555"), Credential(pin="192837"), BY_CARD):
            await house.code(credential)
    told = f"{logs}{await house.spool.reader.records(1, 100)}"
    for secret in (CARD, PIN, "5555", "192837"):
        assert secret not in told


async def test_who_is_disabled_or_removed_does_not_come_in(house):
    """However well proven, and from the commit on."""
    await house.add(password=PASSWORD)
    credentials = (BY_CARD, BY_PIN, Credential(name="ada", password=PASSWORD))
    for disabled, code in ((True, "unauthorized"), (False, ""), (True, "unauthorized")):
        change = PutUser("ada", 2, fields={"disabled": disabled})
        await house.spool.journal.commit(change)
        assert {await house.code(one) for one in credentials} == {code}
    await house.spool.journal.commit(RemoveUser("ada", 3))
    assert {await house.code(one) for one in credentials} == {"unauthorized"}


async def test_a_card_that_was_taken_away_does_not_come_in(house):
    """At once; the PIN still does."""
    await house.add()
    await house.spool.journal.commit(RemoveCard("ada", 1, 2))
    assert await house.code(BY_CARD) == "unauthorized"
    assert await house.code(BY_PIN) == ""


# -- first-time association ----------------------------------------------------------------------


async def test_a_new_card_becomes_that_of_who_proves_to_be_a_user(house):
    """By password or PIN; from then on it is enough."""
    await house.add(card="", password=PASSWORD)
    for card, proof in (
        (CARD, {"name": "ada", "password": PASSWORD}),
        ("0077BEEF", {"pin": PIN}),
    ):
        login = await house.authentication.associate(Credential(card, **proof), MFD, 5)
        assert login.user.name == "ada"
        assert (await house.login(Credential(card=card))).user == login.user
    assert [one.ending for one in login.user.cards] == ["B2C3", "BEEF"]
    added = [one for one in await house.spool.reader.records(1, 99) if one.kind == Kind.CARD_ADDED]
    assert {one.actor for one in added} == {login.user.identity}


async def test_a_card_of_somebody_else_stays_theirs(house):
    """Whose it is is not told, and who asks for many has to wait."""
    await house.add()
    await house.add("bob", card="", pin="", password=PASSWORD)
    proof = Credential(CARD, "", "bob", PASSWORD)
    codes = []
    for _ in range(FREE_OF_MACHINE + 1):
        with pytest.raises(OperationError) as caught:
            await house.authentication.associate(proof, MFD, 5)
        codes.append(caught.value.code)
        assert "ada" not in str(caught.value)
    assert set(codes) == {"conflict"}
    assert await house.code(BY_CARD) == "busy"
    assert (await house.login(BY_CARD, OTHER)).user.name == "ada"


async def test_a_wrong_password_associates_nothing(house):
    """Nor does a card alone."""
    await house.add(card="", password=PASSWORD)
    for proof, code in (({"name": "ada", "password": "x"}, "unauthorized"), ({}, "bad-request")):
        with pytest.raises(OperationError) as caught:
            await house.authentication.associate(Credential(CARD, **proof), MFD, 5)
        assert caught.value.code == code
    assert await house.code(BY_CARD) == "unauthorized"


# -- guessing ------------------------------------------------------------------------------------


async def test_a_machine_where_pins_are_guessed_has_to_wait(house, mock_clock):
    """Longer and longer, also for a right one; cards and passwords there, and others, do not."""
    await house.add(password=PASSWORD)
    codes = [await house.code(Credential(pin=f"90210{n}")) for n in range(7)]
    assert codes == ["unauthorized"] * (FREE_OF_MACHINE_PINS + 1) + ["busy"]
    assert await house.code(BY_PIN) == "busy"
    assert await house.code(BY_CARD) == ""
    assert await house.code(BY_PIN, OTHER) == ""
    assert await house.code(Credential(name="ada", password=PASSWORD)) == ""
    mock_clock.jump(1.0)
    assert await house.code(BY_PIN) == ""


@pytest.mark.slow
async def test_a_stolen_card_does_not_try_all_pins(house, mock_clock):
    """At whatever machines: of a day's forty tries one in 250 hits one of four digits."""
    await house.add(pin=SHORT, password=PASSWORD)
    tries, waits = 0, 0
    while waits < 24 * 60:
        guess = Credential(card=CARD, pin=f"{tries:04}")
        if await house.code(guess, f"device:{tries}") == "busy":
            waits += 1
            mock_clock.jump(60.0)
        else:
            tries += 1
    assert FREE_OF_CARD < tries <= 40
    assert await house.code(Credential(card=CARD, pin=SHORT), "device:x") == "busy"
    assert await house.code(Credential(name="ada", password=PASSWORD), "device:y") == ""
    mock_clock.jump(3600.0)
    assert await house.code(Credential(card=CARD, pin=SHORT), "device:x") == ""
    codes = [await house.code(Credential(card=CARD, pin="1111"), "device:x") for _ in range(6)]
    assert codes == ["unauthorized"] * 6, "the owner has come, and may mistype again"


async def test_many_guesses_at_once_are_not_many_free_ones(house):
    """They are looked at one after the other."""
    await house.add()
    codes = []

    async def guess(number):
        codes.append(await house.code(Credential(pin=f"{number:06}")))

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(guess, number)
    assert codes.count("unauthorized") == FREE_OF_MACHINE_PINS + 1


async def test_typing_errors_of_a_large_house_add_up_to_no_wait(house, mock_clock):
    """Every tenth PIN is wrong, ten logins a minute at one machine, all day: nobody waits."""
    names = [f"user{number}" for number in range(60)]
    for number, name in enumerate(names):
        await house.add(name, card="", pin=f"7301{number:03}")
    codes = []
    for step in range(1200):
        pin = "555555" if step % 10 == 9 else f"7301{step % 60:03}"
        codes.append(await house.code(Credential(pin=pin)))
        mock_clock.jump(60.0)
    assert "busy" not in codes
    assert codes.count("unauthorized") == 120


@pytest.mark.slow
async def test_brute_force_of_pins_over_many_machines_and_restarts_stays_inside_the_allowance(
    tmp_path, spool_at, mock_clock
):
    """20 machines try as fast as they may for six hours, and the daemon is killed again and again:
    no more PINs are looked at than one node's allowance."""
    started = trio.current_time()
    machines = [f"device:{n}" for n in range(20)]
    looked_at = next_pin = 0

    def clock():
        return 1_700_000_000_000_000 + int((trio.current_time() - started) * 1e6)

    for _ in range(24):
        async with spool_at(tmp_path) as spool:
            house = House(
                spool=spool,
                passwords=None,
                authentication=authentication_of(spool, Passwords(memory_kib=64), clock),
            )
            await house.authentication.start()
            for _ in range(30):  # a quarter of an hour, in half minutes
                for machine in machines:
                    while True:
                        next_pin += 1
                        code = await house.code(Credential(pin=f"{next_pin % 10**6:06}"), machine)
                        if code == "busy":
                            break
                        looked_at += 1
                mock_clock.jump(30.0)
    hours = (trio.current_time() - started) / 3600
    assert hours == pytest.approx(6)
    assert FREE_OF_PINS <= looked_at <= FREE_OF_PINS + 10 + hours * 3600 / PINS_LONGEST_S


@pytest.mark.slow
async def test_one_machine_cannot_use_up_what_the_node_allows(house, mock_clock):
    """It waits so much longer that it takes several: the others log in most of the time."""
    await house.add()
    mine = theirs = 0
    for number in range(24 * 60):
        mine += await house.code(Credential(pin=f"9{number:05}"), OTHER) == "unauthorized"
        theirs += await house.code(BY_PIN) == ""
        mock_clock.jump(60.0)
    assert mine <= 75
    assert theirs > 24 * 60 * 0.75


async def test_what_fails_at_another_node_keeps_nobody_out_here(house, mock_clock):
    """It counts for that node, whatever machines it names, and for no other."""
    await house.add()

    async def code(number: int, node: str, credential=BY_CARD) -> str:
        try:
            await house.login(credential, f"device:{number}", node=node)
        except OperationError as error:
            return error.code
        return ""

    wrong = [Credential(card=f"99{number}") for number in range(FREE_OF_CARDS + 1)]
    for number, one in enumerate(wrong):
        assert await code(number, "node:1", one) == "unauthorized"
    assert await code(1000, "node:1") == "busy"
    assert await code(1000, "node:2") == ""
    assert await house.code(BY_CARD) == ""


async def test_waits_live_through_a_restart(tmp_path, spool_at, mock_clock):
    """And nothing that is kept for them names the account, the machine or the PIN."""
    name = "adalovelace"
    for _ in range(3):
        async with spool_at(tmp_path) as spool:
            house = House(spool=spool, passwords=Passwords(memory_kib=64), authentication=None)
            house.authentication = authentication_of(spool, house.passwords)
            await house.authentication.start()
            codes = [
                await house.code(Credential(name=name, password=f"guess {n}"), "192.0.2.7")
                for n in range(6)
            ]
    assert codes[-1] == "busy"
    db = (tmp_path / "spool.db").read_bytes()
    assert name.encode() not in db


async def test_tries_that_have_to_wait_write_nothing(house):
    """A flood costs no disk."""
    await house.add()
    for number in range(FREE_OF_MACHINE_PINS + 1):
        await house.code(Credential(pin=f"{number:06}"))
    commits = house.spool.journal.commits
    assert {await house.code(Credential(pin="000001")) for _ in range(50)} == {"busy"}
    assert house.spool.journal.commits == commits


async def test_what_is_old_is_not_kept(house, monkeypatch):
    """The table of failures does not grow for ever."""
    monkeypatch.setattr(guard, "TIDY_AFTER_ROWS", 4)
    monkeypatch.setattr(guard, "KEPT_S", -1.0)
    for number in range(8):
        await house.code(Credential(pin=f"{number:06}"), f"device:{number}")
    rows = await house.spool.reader._all("SELECT count(*) FROM throttle")
    assert rows[0][0] < 4
