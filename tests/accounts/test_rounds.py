"""Rounds of synchronisation against Debian's slapd and a real spool."""

from __future__ import annotations

import socket
import time
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import trio

from spoold.accounts import ldap, rounds
from spoold.accounts.rounds import Rounds
from spoold.model.errors import OperationError
from spoold.model.principal import Role
from spoold.model.source import source_of
from spoold.spool import erasing, people, synchronised
from spoold.spool.store import ErasePerson, PutCard, PutSource, PutUser, RemoveSource, RemoveUser
from support import slapd
from support.directory import DIGESTS
from support.slapd import dn
from support.waiting import wait_until

pytestmark = pytest.mark.slow  # each starts a slapd

ADA = slapd.person("ada", "Ada Lovelace", mail="ada@example.org", employeeNumber="04a1b2c3")
BOB = slapd.person("bob", "Bob Byte", mail="bob@example.org")
OTHERS = "".join(slapd.person(f"p{n}") for n in range(8))
STAFF = slapd.group("Staff", [dn("ada"), f"cn=Library,{slapd.GROUPS}"])
LIBRARY = slapd.group("Library", [dn("bob"), f"cn=Staff,{slapd.GROUPS}"])


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "slapd"
    folder.mkdir()
    with slapd.running(folder, ADA + BOB + OTHERS + STAFF + LIBRARY) as server:
        yield server


class Desk:
    """A source that is kept in a spool, and its rounds."""

    def __init__(self, spool, source):
        self.spool, self.source = spool, source
        self.rounds = Rounds(spool.journal, spool.reader, DIGESTS, spool.wall_clock)

    async def round(self, **options):
        self.steps = []
        options.setdefault("actor", "uid:0")
        return await self.rounds.round(self.source, show=self.steps.extend, **options)

    async def user(self, name):
        return await self.spool.reader.user(name)

    async def kept(self):
        return await self.spool.reader.look(synchronised.find_source, self.source.name)

    async def set(self, **settings):
        old = synchronised.settings_map(self.source)
        self.source = source_of(self.source.guid, self.source.name, {**old, **settings})
        await self.spool.journal.commit(PutSource(self.source, self.spool.wall_clock()))


async def desk_of(spool, directory, name="hq", **settings):
    source = source_of(uuid4(), name, {**directory.source, **settings})
    await spool.journal.commit(PutSource(source, spool.wall_clock(), True))
    return Desk(spool, source)


@pytest.fixture
async def desk(spool, directory):
    return await desk_of(
        spool,
        directory,
        attributes={"card": "employeeNumber"},
        card_converter="hex-to-decimal/1",
    )


def counts(told):
    return told.added, told.changed, told.disabled, told.removed


async def test_people_are_taken_over_once(desk):
    """Names, addresses, groups in groups and cards; a second round finds nothing to do."""
    told = await desk.round()
    assert (told.outcome, counts(told), told.troubles) == ("done", (10, 0, 0, 0), [])
    ada = await desk.user("ada")
    assert (ada.full_name, ada.email) == ("Ada Lovelace", "ada@example.org")
    assert (ada.groups, (await desk.user("bob")).groups) == (("library", "staff"),) * 2
    (card,) = ada.cards
    assert (card.label, card.ending) == ("hq", "5923")
    digests = tuple(DIGESTS.cards(str(0x04A1B2C3)))
    assert (await desk.spool.reader.look(people.by_card, digests)).name == "ada"
    head = desk.spool.journal.head
    told = await desk.round()
    assert (told.outcome, counts(told), desk.steps) == ("done", (0, 0, 0, 0), [])
    assert desk.spool.journal.head == head  # that nothing has changed is no record
    assert (await desk.kept()).round["seen"] == 10


async def test_a_dry_run_changes_nothing(desk):
    """It shows every step, and is no round that is remembered."""
    head = desk.spool.journal.head
    told = await desk.round(is_dry=True)
    assert (told.outcome, counts(told), len(desk.steps)) == ("planned", (10, 0, 0, 0), 10)
    assert desk.spool.journal.head == head
    assert await desk.user("ada") is None
    assert (await desk.kept()).round == {}


async def test_a_new_name_keeps_the_person(desk, directory):
    """GUID, card, jobs and rights stay; jobs sent under the new name beforehand come along."""
    await desk.round()
    ada = await desk.user("ada")
    printer = await desk.spool.add_printer(paused=True)
    first = await desk.spool.add_job(printer, owner="ada")
    early = await desk.spool.add_job(printer, owner="countess")
    directory.change(
        f"dn: {dn('ada')}\nchangetype: modrdn\nnewrdn: uid=countess\ndeleteoldrdn: 1\n\n"
        f"dn: {dn('countess')}\nchangetype: modify\nreplace: mail\nmail: c@example.org\n"
    )
    told = await desk.round()
    assert counts(told) == (0, 1, 0, 0)
    countess = await desk.user("countess")
    assert (countess.guid, countess.email, countess.cards) == (ada.guid, "c@example.org", ada.cards)
    assert await desk.user("ada") is None
    for job in (first, early):
        assert (await desk.spool.reader.job(job.job_id)).owner.name == "countess"
    later = await desk.spool.add_job(printer, owner="countess")
    assert (await desk.spool.reader.job(later.job_id)).owner.name == "countess"


async def test_erasing_somebody_reaches_what_came_before_a_new_name(desk, directory, spool):
    """Also jobs that were sent under the name before anybody knew whose it is."""
    await desk.round()
    printer = await spool.add_printer(paused=True)
    await spool.add_job(printer, owner="countess", title="Secret of a countess")
    directory.change(
        f"dn: {dn('ada')}\nchangetype: modrdn\nnewrdn: uid=countess\ndeleteoldrdn: 1\n\n"
    )
    await desk.round()
    found = await spool.reader.look(erasing.find_person, "countess")
    assert len(found.keys) == 2
    seen = await spool.reader.look(erasing.traces, found, set(), 0, 2000)
    kept = await spool.reader.look(_personal_parts)
    secret = {id_ for id_, part in kept.items() if b"ountess" in part or b"Lovelace" in part}
    assert secret
    assert secret <= set(seen.records)


def _personal_parts(db):
    return dict(db.execute("SELECT id, personal FROM record WHERE personal IS NOT NULL").fetchall())


async def test_whoever_was_made_by_hand_is_never_touched(desk, directory):
    """Not changed when a source knows the name, too, and not removed when it does not."""
    now_us = desk.spool.wall_clock()
    for name in ("ada", "robot"):
        await desk.spool.journal.commit(PutUser(name, now_us, is_new=True))
    told = await desk.round()
    assert (told.added, told.troubles) == (9, ["ada is a user already, and is left alone."])
    directory.remove(dn("bob"))
    assert counts(await desk.round()) == (0, 0, 0, 1)
    assert (await desk.user("ada")).full_name == ""
    assert await desk.user("robot") is not None


async def test_users_made_by_hand_can_be_adopted(desk, directory, spool):
    """Roles and money stay, names and groups come from the source, and they go with it."""
    made = PutUser("ada", spool.wall_clock(), frozenset({Role.OPERATOR, Role.USER}), is_new=True)
    ada = await spool.journal.commit(made)
    assert (await desk.round()).added == 9
    told = await desk.round(adopts=True, is_dry=True)
    assert [(step.action, step.name) for step in desk.steps] == [("adopt", "ada")]
    told = await desk.round(adopts=True)
    assert (told.adopted, counts(told), told.troubles) == (1, (0, 0, 0, 0), [])
    user = await desk.user("ada")
    assert (user.guid, user.roles, user.full_name) == (ada.guid, ada.roles, "Ada Lovelace")
    assert len(user.cards) == 1
    assert counts(await desk.round()) == (0, 0, 0, 0)
    directory.remove(dn("ada"))
    assert counts(await desk.round()) == (0, 0, 0, 1)


async def test_who_vanishes_is_removed_and_who_has_a_balance_disabled(desk, directory):
    """Who is disabled comes back when the source knows them again; a name is no person."""
    await desk.round()
    bob = await desk.user("bob")
    await pay(desk.spool, bob.guid)
    directory.remove(dn("bob"), dn("p0"))
    told = await desk.round()
    assert counts(told) == (0, 0, 1, 1)
    assert (await desk.user("bob")).disabled
    assert await desk.user("p0") is None
    assert counts(await desk.round()) == (0, 0, 0, 0)
    directory.add(BOB)  # with another id: somebody else of the same name
    told = await desk.round()
    assert told.troubles == ["bob is still somebody else here, and is left alone."]
    assert (await desk.user("bob")).disabled


async def test_somebody_who_comes_back_is_enabled_again(desk):
    """Out of the filter, and in it again: the same person with the same rights."""
    await desk.set(vanished="disable")
    await desk.round()
    ada = await desk.user("ada")
    await desk.set(people_filter="(&(objectClass=inetOrgPerson)(!(uid=ada)))")
    assert counts(await desk.round()) == (0, 0, 1, 0)
    assert (await desk.user("ada")).disabled
    await desk.set(people_filter="")
    assert counts(await desk.round()) == (0, 1, 0, 0)
    again = await desk.user("ada")
    assert (again.guid, again.disabled, again.cards) == (ada.guid, False, ada.cards)


async def test_people_come_from_active_directory(tmp_path, spool):
    """Known by objectGUID, in groups by memberOf, disabled where the account is; and they log in
    with its passwords.
    """
    guids = [UUID(int=n << 64 | 0x1234) for n in range(1, 6)]
    entries = "".join(
        [
            slapd.windows_person("ADA", guids[0], memberOf=f"cn=Print,{slapd.GROUPS}"),
            slapd.windows_person("bob", guids[1], 514, userPassword="bob's secret"),
            *(slapd.windows_person(f"p{n}", guids[n], userPassword="a secret") for n in (2, 3, 4)),
            slapd.windows_group("Print", f"cn=All,{slapd.GROUPS}"),
            slapd.windows_group("All"),
        ]
    )
    folder = tmp_path / "windows"
    folder.mkdir()
    with slapd.running(folder, entries, schema=slapd.WINDOWS) as directory:
        desk = await desk_of(spool, directory, flavour="active-directory", logins=True)
        assert (await desk.round()).added == 5
        ada = await desk.user("ada")
        assert (ada.full_name, ada.groups, ada.disabled) == ("ADA", ("all", "print"), False)
        assert (await desk.user("bob")).disabled
        directory.change(
            f"dn: cn=ADA,{slapd.PEOPLE}\nchangetype: modify\nreplace: sAMAccountName\n"
            "sAMAccountName: countess\n\n"
            f"dn: cn=bob,{slapd.PEOPLE}\nchangetype: modify\nreplace: userAccountControl\n"
            "userAccountControl: 512\n"
        )
        assert counts(await desk.round()) == (0, 2, 0, 0)
        assert (await desk.user("countess")).guid == ada.guid
        assert not (await desk.user("bob")).disabled
        assert await ldap.verify(desk.source, str(guids[2]), "a secret")
        assert not await ldap.verify(desk.source, str(guids[2]), "another secret")
        assert not await ldap.verify(desk.source, str(guids[1]), "a secret")
        assert not await ldap.verify(desk.source, str(UUID(int=99)), "a secret")


async def test_a_round_in_which_too_many_vanish_changes_nothing(desk, directory):
    """Until somebody says that it is right."""
    await desk.round()
    directory.remove(*[dn(f"p{n}") for n in range(4)])
    told = await desk.round()
    assert (told.outcome, counts(told)) == ("stopped", (0, 0, 0, 0))
    assert told.message == "4 of 10 users would go, which is more than 20 %"
    assert "spoold user sync hq --let-go" in told.advice
    assert await desk.user("p0") is not None
    assert (await desk.kept()).round["outcome"] == "stopped"
    assert counts(await desk.round(lets_go=True)) == (0, 0, 0, 4)


async def test_cards_follow_the_directory_and_stay_with_their_holders(desk, directory):
    """A new number is in the old one's place; one that is somebody else's stays there."""
    await desk.round()
    now_us = desk.spool.wall_clock()
    mine = tuple(DIGESTS.cards("17"))
    await desk.spool.journal.commit(PutCard("bob", mine, "by hand", "7", now_us))
    change = "dn: {}\nchangetype: modify\nreplace: employeeNumber\nemployeeNumber: {}\n\n"
    directory.change(change.format(dn("ada"), "ff"))
    assert counts(await desk.round()) == (0, 1, 0, 0)
    (card,) = (await desk.user("ada")).cards
    assert card.ending == "5"  # half of 255
    directory.change(change.format(dn("ada"), "11"))  # 17 as a decimal number
    told = await desk.round()
    assert told.troubles == ["the card of ada is bob's here, and stays so."]
    assert (await desk.spool.reader.look(people.by_card, mine)).name == "bob"
    directory.change(f"dn: {dn('ada')}\nchangetype: modify\ndelete: employeeNumber\n")
    await desk.round()
    assert (await desk.user("ada")).cards == ()
    assert len((await desk.user("bob")).cards) == 1


async def test_a_user_who_is_removed_by_hand_comes_again(desk):
    """As long as the directory has them; as a new user of the same person."""
    await desk.round()
    now_us = desk.spool.wall_clock()
    await desk.spool.journal.commit(RemoveUser("ada", now_us))
    assert counts(await desk.round()) == (1, 0, 0, 0)
    assert len((await desk.user("ada")).cards) == 1


async def test_two_sources_leave_each_other_alone(desk, directory, spool):
    """Whoever came from one is not taken over from the other, and stays when that is empty."""
    await desk.round()
    second = await desk_of(spool, directory, "branch", people_filter="(uid=p*)")
    told = await second.round()
    assert (counts(told), told.trouble) == ((0, 0, 0, 0), 8)
    await second.set(people_filter="(uid=nobody)")
    assert counts(await second.round()) == (0, 0, 0, 0)
    gone = await spool.journal.commit(RemoveSource("hq", spool.wall_clock()))
    assert gone == 10
    assert (await second.round()).outcome == "done"
    assert await desk.user("ada") is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"servers": ["ldap://127.0.0.1:9"]}, "no server answers as it should"),
        ({"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "no server answers as it should"),
        ({"password_file": "/nowhere-at-all"}, "/nowhere-at-all: No such file"),
        ({"password_file": "credential:ldap"}, "hands no credentials over"),
        ({"bind_dn": "cn=nobody,dc=example,dc=org"}, "refuses the login"),
        ({"bases": ["dc=nowhere"]}, "the search for people below dc=nowhere failed"),
        ({"group_bases": ["dc=nowhere"]}, "the search for groups below dc=nowhere failed"),
        ({"people_filter": "(uid=()"}, "the search for people"),
        ({"attributes": {"id": "employeeNumber"}}, "has no employeeNumber"),
    ],
)
async def test_a_round_that_fails_says_why_and_harms_nobody(desk, settings, said):
    """Everybody stays, the reason is kept where others look, and the next round is as ever."""
    await desk.round()
    good = synchronised.settings_map(desk.source)
    await desk.set(**settings)
    told = await desk.round()
    assert (told.outcome, counts(told)) == ("failed", (0, 0, 0, 0))
    assert said in told.message
    assert told.advice
    assert said in (await desk.kept()).round["message"]
    assert slapd.PASSWORD not in str(told)
    await desk.set(**good)
    assert counts(await desk.round()) == (0, 0, 0, 0)


async def test_the_next_server_is_asked_when_one_is_silent(desk, directory, monkeypatch):
    """In their order; STARTTLS and LDAPS alike, also when one accepts and says nothing."""
    monkeypatch.setattr(ldap, "CONNECT_S", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"ldaps://127.0.0.1:{silent.getsockname()[1]}"
        await desk.set(servers=["ldap://127.0.0.1:9", mute, directory.tls])
        assert (await desk.round()).added == 10


async def test_a_server_that_says_nothing_costs_nobody_anything(desk, monkeypatch):
    """The rest of the daemon goes on while somebody waits for it."""
    monkeypatch.setattr(ldap, "CONNECT_S", 2.0)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await trio.sleep(0.01)
            ticks += 1

    with socket.create_server(("127.0.0.1", 0)) as silent:
        await desk.set(servers=[f"ldaps://127.0.0.1:{silent.getsockname()[1]}"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            told = await desk.round()
            nursery.cancel_scope.cancel()
    assert told.outcome == "failed"
    assert "no answer within 2 s" in told.message
    assert ticks > 50  # of 200: this machine may have other work


async def test_an_answer_that_breaks_off_is_none(desk, directory):
    """The worker dies in the middle: nobody vanishes."""
    await desk.round()
    directory.stop()
    told = await desk.round()
    assert told.outcome == "failed"
    assert await desk.user("ada") is not None


async def test_rounds_are_made_by_schedule(desk, spool, monkeypatch):
    """A new source has time to be looked at; one that is synchronised by hand alone has all."""
    monkeypatch.setattr(rounds, "LOOK_INTERVAL_S", 0.05)
    assert not desk.rounds._is_due(await desk.kept())
    later_us = 3601 * 10**6
    scheduled = Rounds(spool.journal, spool.reader, DIGESTS, lambda: spool.wall_clock() + later_us)
    await desk.set(every_s=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduled.run)
        await trio.sleep(0.2)
        assert (await desk.kept()).round == {}
        await desk.set(every_s=3600)
        await wait_until(desk.kept, holds=lambda kept: kept.round)
        nursery.cancel_scope.cancel()
    assert (await desk.user("ada")).full_name == "Ada Lovelace"
    again = Rounds(spool.journal, spool.reader, DIGESTS, spool.wall_clock)
    assert not again._is_due(await desk.kept())  # after a restart, too


async def test_a_source_without_the_library_says_so(desk, monkeypatch):
    """LDAP is an extra of the package."""
    monkeypatch.setattr(ldap.importlib.util, "find_spec", lambda name: None)
    told = await desk.round()
    assert (told.outcome, told.message) == ("failed", "this spoold is without LDAP.")
    assert "pip install spoold[ldap]" in told.advice


async def test_what_would_send_a_password_in_clear_is_refused():
    """Unless somebody says that it may."""
    given = {
        "servers": ["ldap://dc"],
        "bases": ["dc=x"],
        "bind_dn": "cn=r",
        "password_file": "/p",
        "start_tls": False,
    }
    with pytest.raises(OperationError, match="in clear"):
        source_of(uuid4(), "hq", given)
    assert source_of(uuid4(), "hq", {**given, "clear_password": True})


@asynccontextmanager
async def crowd(tmp_path, spool, count):
    """A directory of many people, in groups."""
    folder = tmp_path / "crowd"
    folder.mkdir()
    names = [f"u{n:05}" for n in range(count)]
    entries = [slapd.person(name, f"User {name}", mail=f"{name}@example.org") for name in names]
    for n in range(0, count, 500):
        entries.append(slapd.group(f"g{n:05}", [dn(name) for name in names[n : n + 500]]))
    entries.append(slapd.group("all", [f"cn=g{n:05},{slapd.GROUPS}" for n in range(0, count, 500)]))
    with slapd.running(folder, "".join(entries)) as server:
        yield server, await desk_of(spool, server)


async def test_ten_thousand_people_come_in_a_sensible_time(tmp_path, spool):
    """And a round that finds no change is a matter of seconds."""
    async with crowd(tmp_path, spool, 10_000) as (server, desk):
        began = time.monotonic()
        told = await desk.round()
        first_s = time.monotonic() - began
        assert (told.outcome, told.added) == ("done", 10_000)
        server.remove(*[dn(f"u{n:05}") for n in range(100)])
        began = time.monotonic()
        told = await desk.round()
        second_s = time.monotonic() - began
        assert counts(told) == (0, 0, 0, 100)
        user = await desk.user("u09999")
        assert user.groups == ("all", "g09500")
        print(f"10,000 people: {first_s:.1f} s; again: {second_s:.1f} s")
        assert first_s < 30
        assert second_s < 10


async def pay(spool, guid):
    """Put money into somebody's purse."""
    from spoold.model.purse import PayerKind
    from spoold.spool.store import Adjust

    await spool.journal.commit(
        Adjust(uuid4().bytes, PayerKind.PERSON, guid, 10_000, "paid", spool.wall_clock(), "uid:0")
    )


async def test_a_source_that_cannot_be_asked_is_a_warning_and_erasing_leaves_no_name(
    desk, directory, spool
):
    """What a round had trouble with names people; an erased one is in none of it."""
    await spool.journal.commit(PutUser("ada", spool.wall_clock(), is_new=True))
    await desk.round()
    assert await spool.reader.look(synchronised.behind) == ()
    assert "ada" in str((await desk.kept()).round)
    ada = await desk.user("ada")
    await spool.journal.commit(
        ErasePerson(ada.guid.bytes, "ada", frozenset(), (), 0, spool.wall_clock())
    )
    assert "ada" not in str((await desk.kept()).round)
    directory.stop()
    await desk.round()
    assert await spool.reader.look(synchronised.behind) == ("hq",)
