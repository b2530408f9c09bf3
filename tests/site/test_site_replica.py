"""What a site copies of its application server: taken whole, then live and in order."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from conftest import open_spool

from spoold.accounts.authentication import Authentication, Credential
from spoold.accounts.guard import Guard
from spoold.accounts.passwords import Passwords
from spoold.model.card import Digests
from spoold.model.node import Scope
from spoold.provider.course import Lost
from spoold.spool import accounts, people, replica
from spoold.spool.replication import Copy, Cursor
from spoold.spool.store import (
    ApplyObjects,
    ErasePerson,
    PutUser,
    RemoveCard,
    RemoveUser,
    RevokeProvider,
    RevokeUser,
    UserChanged,
)
from support.furnishing import DIGESTS, HASH, add, add_card, furnish
from support.old_spool import make_spool
from support.replicas import (
    HQ,
    HQ_KEY,
    SITE,
    SITE_KEY,
    VAULT,
    Wire,
    everything,
    replica_of,
    serve,
    two,
)


async def who(spool, number):
    found = await spool.reader.look(people.by_card, (DIGESTS.card(number),))
    return found and found.name


async def test_what_the_application_server_has_is_at_the_site(tmp_path):
    """Users with cards, PINs and delegates, printers, MFDs, providers, accounts, prices, terms."""
    async with two(tmp_path) as (hq, site):
        ada, printer = await furnish(hq)
        copy = await replica_of(site, Wire(serve(hq)))
        await copy.pull()

        found = await everything(site)
        assert found == await everything(hq)
        assert {kind for kind, _ in found} == {
            "user", "printer", "mfd", "provider", "account", "prices", "terms",
        }  # fmt: skip
        assert await who(site, "4711") == "ada"
        bob = await site.reader.user("bob")
        assert [one.name for one in await site.reader.look(people.delegators, bob.guid)] == ["ada"]
        (there,) = await site.reader.printers()
        assert there.owner == HQ
        assert replace(there, id=printer.id, device_id=printer.device_id, owner=None) == printer
        account = await site.reader.look(accounts.by_name, "works")
        assert account.members == (ada.guid,)
        assert (await site.reader.look(replica.state)).current_us > 0


async def test_a_change_is_one_object_and_what_is_as_it_was_is_not_sent_again(tmp_path):
    """A pull after one change carries that object alone, and the site's records carry no hash."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        copy = await replica_of(site, Wire(serve(hq)))
        await copy.pull()
        assert await copy.pull() == 0
        await add_card(hq, "bob", "4712")
        assert await copy.pull() == 1
        assert await who(site, "4712") == "bob"
        rows = await site.reader._all("SELECT payload, personal FROM record")
        secrets = (HASH.encode(), DIGESTS.card("4711"), b"t" * 32)
        assert not any(
            secret in (part or b"") for row in rows for part in row for secret in secrets
        )


async def test_passwords_are_sealed_in_the_files_of_the_site(tmp_path):
    """No file of the site's spool holds the hash of a password, or the keys of cards."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        await (await replica_of(site, Wire(serve(hq)))).pull()
        files = [path for path in (tmp_path / "site").iterdir() if path.is_file()]
        assert files
        for path in files:
            data = path.read_bytes()
            assert HASH.encode() not in data
            assert HQ_KEY not in data


async def test_a_page_that_is_cut_off_is_taken_again_and_a_restart_loses_nothing(tmp_path):
    """Wherever the line breaks, the copy goes on from its last page, also with another process."""
    async with two(tmp_path) as (hq, site):
        for number in range(30):
            await add(hq, f"user{number}")
        objects = serve(hq)
    async with two(tmp_path) as (hq, site):
        objects = serve(hq)
        for cuts in range(4):
            wire = Wire(objects)
            wire.cuts = cuts
            copy = await replica_of(site, wire)
            try:
                await copy.pull()
            except Lost:
                continue
        assert await everything(site) == await everything(hq)


async def test_what_was_taken_away_comes_before_everything_else(tmp_path):
    """With a hundred changes ahead of it, a lost card is refused with the first page."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        wire = Wire(serve(hq))
        copy = await replica_of(site, wire)
        await copy.pull()
        for number in range(20):
            await add(hq, f"user{number}")
        await hq.journal.commit(RemoveCard("ada", None, 1, (DIGESTS.card("4711"),)))
        first = await wire.objects.answer(wire.node(), copy._told, [], 1, wire.drop)
        assert first["objects"] == 1
        heard = []
        site.journal.listen(heard.extend)
        await copy.pull()
        assert await who(site, "4711") is None
        (event,) = [one for one in heard if type(one) is UserChanged and one.name == "ada"]
        assert event.ends_sessions
        assert heard.index(event) == 0


async def test_a_disabled_user_and_a_revoked_certificate_end_what_is_open(tmp_path):
    """The site's events say so, once."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        copy = await replica_of(site, Wire(serve(hq)))
        await copy.pull()
        heard = []
        site.journal.listen(heard.extend)
        await hq.journal.commit(PutUser("ada", 2, fields={"disabled": True}))
        await copy.pull()
        assert [one.ends_connections for one in heard if type(one) is UserChanged] == [True]
        heard.clear()
        await hq.journal.commit(RevokeProvider("desk", 2))
        await hq.journal.commit(RevokeUser("ada", 2))
        await copy.pull()
        assert {serial for one in heard for serial in one.serials} == {"aa11", "bb22"}
        assert await site.reader.revoked_serials() == ["aa11", "bb22"]


async def test_a_site_is_told_what_its_scope_says_and_nothing_else(tmp_path):
    """Users by groups, printers by name; who leaves the group goes; another scope is a new copy."""
    async with two(tmp_path) as (hq, site):
        _, printer = await furnish(hq)
        other = await hq.add_printer("archive")
        wire = Wire(serve(hq), Scope((str(printer.guid),), ("staff",)))
        copy = await replica_of(site, wire)
        await copy.pull()
        assert await site.reader.user("bob") is None
        assert [one.name for one in await site.reader.printers()] == ["frontdesk"]
        assert b"archive" not in wire.carried
        await hq.journal.commit(PutUser("ada", 2, fields={"groups": ()}))
        await copy.pull()
        assert await site.reader.user("ada") is None
        wire.scope = Scope((str(other.guid),), ())
        await copy.pull()
        assert [one.name for one in await site.reader.printers()] == ["archive"]
        assert await site.reader.user("bob") is not None
        assert await everything(site) == await everything(hq, wire.scope)


@pytest.mark.slow
async def test_a_copy_ahead_of_a_restored_server_is_taken_anew_and_nobody_is_unknown(tmp_path):
    """What the restored server does not know goes at the end; everybody else stays throughout."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
    shutil.copytree(tmp_path / "hq", tmp_path / "backup")
    async with two(tmp_path) as (hq, site):
        await add(hq, "carol")
        await hq.journal.commit(RemoveUser("bob", 2))
        await (await replica_of(site, Wire(serve(hq)))).pull()
        assert await site.reader.user("carol") is not None
    shutil.rmtree(tmp_path / "hq")
    shutil.copytree(tmp_path / "backup", tmp_path / "hq")
    async with two(tmp_path) as (hq, site):
        for number in range(20):  # it has counted on past where the site had seen it
            await add(hq, f"new{number}")
        wire = Wire(serve(hq))
        copy = await replica_of(site, wire)
        seen = []

        def look(events):
            seen.append(site.store.db.execute("SELECT count(*) FROM card").fetchone()[0])

        site.journal.listen(look)
        await copy.pull()
        assert set(seen) == {1}
        assert await site.reader.user("carol") is None
        assert await site.reader.user("bob") is not None
        assert await everything(site) == await everything(hq)


async def test_who_is_erased_upstream_is_erased_at_the_site(tmp_path):
    """The key is noted before the copy goes on, so that a restart erases as well."""
    async with two(tmp_path) as (hq, site):
        ada, _ = await furnish(hq)
        copy = await replica_of(site, Wire(serve(hq)))
        await copy.pull()
        await hq.journal.commit(RemoveUser("ada", 2))
        change = ErasePerson(ada.guid.bytes, "ada", frozenset(), (), 0, 2)
        await hq.journal.commit(change)
        await copy.pull()
        assert copy._erasure.noted == copy._erasure.erased == [ada.guid.bytes]
        assert await site.reader.user("ada") is None


async def test_cards_and_pins_log_in_at_the_site_from_the_copy(tmp_path):
    """By card, PIN and password, with the keys and the vault of the site; also after a restart."""
    async with two(tmp_path) as (hq, site):
        passwords = Passwords(memory_kib=64)
        ada, _ = await furnish(hq)
        hashed = await passwords.hash("correct horse")
        await hq.journal.commit(PutUser("ada", 2, password=hashed))
        await (await replica_of(site, Wire(serve(hq)))).pull()
        digests = Digests([SITE_KEY])
        await replica_of(site, Wire(serve(hq)), digests)
        guard = Guard(site.reader, site.journal, digests, site.wall_clock)
        door = Authentication(
            site.reader, site.journal, passwords, digests, guard, site.wall_clock, vault=VAULT
        )
        await door.start()
        for credential in (
            Credential(card="4711"),
            Credential(pin="482913"),
            Credential(card="4711", pin="482913"),
            Credential(name="ada", password="correct horse"),
        ):
            login = await door.authenticate(credential, "device:1")
            assert login.user.guid == ada.guid


@pytest.mark.slow
async def test_what_an_older_spool_holds_is_copied_as_well(tmp_path):
    """Objects that were there before anybody kept a log of them."""
    make_spool(tmp_path / "hq", 14)
    (tmp_path / "site").mkdir()
    async with open_spool(tmp_path / "hq") as hq, open_spool(tmp_path / "site", SITE) as site:
        await (await replica_of(site, Wire(serve(hq)))).pull()
        found = await everything(site)
        assert {kind for kind, _ in found} == {"printer", "provider"}
        assert found == await everything(hq)


@pytest.mark.slow
async def test_pages_of_any_size_come_to_the_same(tmp_path):
    """One object, a few, or more than one transaction of the site takes."""
    async with two(tmp_path) as (hq, site):
        for number in range(300):
            await add(hq, f"user{number}", groups=("all",) if number % 3 else ())
        for size in (1000, 7):
            copy = await replica_of(site, Wire(serve(hq)), page_objects=size)
            copy._told = b""
            await copy.pull()
            assert await everything(site) == await everything(hq)
        await hq.journal.commit_all([RemoveUser(f"user{number}", 2) for number in range(250)])
        copy._told = b""  # all of them are swept at the end
        await copy.pull()
        assert len(await everything(site)) == 50


async def test_an_object_that_makes_no_sense_here_holds_nothing_up(tmp_path):
    """One of a newer application server is left out and reported; those around it come."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        await (await replica_of(site, Wire(serve(hq)))).pull()
        there = await everything(site)
        odd = [
            ("user", b"k" * 16, {"name": "eve", "nothing": "else"}),
            ("printer", b"p" * 16, {"name": 7, "fields": b"\xc1", "device": None}),
            ("user", b"l" * 16, dict(there["user", (await site.reader.user("bob")).guid.bytes])),
            ("prices", b"9", {"from_us": 1, "fields": b"\x80"}),
            ("ufo", b"u" * 16, {"name": "x"}),
        ]
        odd[2][2]["name"] = "bob2"
        change = ApplyObjects(odd, b"", HQ, "hq", "library", False, True, 3)
        applied = await site.journal.commit(change)
        assert applied.conflicts == 3
        assert await site.reader.user("bob2") is not None
        assert await site.reader.user("eve") is None
        assert {
            key: state for key, state in (await everything(site)).items() if key in there
        } == there
        told = [(one.kind, one.became[:11]) for one in await site.reader.look(replica.conflicts)]
        assert told == [(kind, "not copied:") for kind in ("prices", "printer", "user")]


@pytest.mark.parametrize("error", [AssertionError, StopIteration, RecursionError, OverflowError])
async def test_nothing_that_an_object_raises_ends_the_site(tmp_path, monkeypatch, error):
    """It would come again at each start; the others of its page are there."""

    def fail(writer, key, one, taking):
        raise error

    monkeypatch.setitem(replica._APPLY, "terms", fail)
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        await (await replica_of(site, Wire(serve(hq)))).pull()
        (told,) = await site.reader.look(replica.conflicts)
        assert (told.kind, error.__name__ in told.became) == ("terms", True)
        assert await site.reader.user("bob") is not None


@pytest.mark.parametrize(
    "forged",
    [
        {"after": ("x", "", b"")},
        {"revoked": ("x", "", b"")},
        {"revoked": (1, ["user"], b"")},
        {"revoked": (2**63, "", b"")},
        {"seen": 2**63},
        {"seen": True},
        {"journal": 1},
    ],
)
def test_a_place_that_nobody_was_told_is_none(forged):
    """A site that makes one up gets a copy anew, and nothing falls over it."""
    told = Copy(b"j" * 16, b"i" * 16, b"s" * 16, Cursor(3, "user", b"k"), Cursor(2), 5, b"h" * 32)
    assert Copy.from_packed(told.packed()) == told
    assert Copy.from_packed(replace(told, **forged).packed()) is None
