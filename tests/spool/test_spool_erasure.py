"""Erasing a person: what is gone, what still verifies, and what comes back and goes again."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest

from spoold.codec.record import GENESIS, SALT_BYTES, Encoded, link
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.purse import PayerKind, Period, PurseKind
from spoold.model.record import Kind
from spoold.model.transitions import JobEvent
from spoold.spool import erasure, ledger_views
from spoold.spool.erasing import find_by_key
from spoold.spool.erasure import ERASED, PENDING, Erasure, rewrite
from spoold.spool.ledger_views import By
from spoold.spool.sending import Batch
from spoold.spool.store import (
    AddRecord,
    Adjust,
    ChangeJob,
    PutCard,
    PutProvider,
    PutUser,
    Refund,
    RemoveJobs,
    RemoveUser,
    SetJob,
    Settle,
    StartAttempt,
)
from support.chain import verified
from support.directory import DIGESTS
from support.money import PAGE, Purses, pages
from support.sites import SITE, receive, stored

NAME = "xaviera-lovelace"
SAID = (NAME, "Xaviera Lovelace", "x.lovelace@example.org", "secret diary", "198.51.100.77")
SAID += ("her-group", "her account", "diary.odt", "blue badge")


def erasure_of(spool) -> Erasure:
    return Erasure(
        spool.journal, spool.reader, spool.documents, spool.store, spool.wall_clock, spool.data_dir
    )


def texts_in(data_dir) -> set[str]:
    """What of her can be read in any file of the spool."""
    found = set()
    for path in data_dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found |= {text for text in SAID if text.encode() in data}
    return found


async def live(spool, printer) -> UUID:
    """A user with a card, jobs that are finished, waiting and forgotten, and what records tell."""
    commit = spool.journal.commit
    fields = {"full_name": SAID[1], "email": SAID[2], "groups": ("her-group",)}
    user = await commit(PutUser(NAME, 1, is_new=True, fields=fields))
    await commit(PutCard(NAME, tuple(DIGESTS.cards("12345678")), "blue badge", "5678", 1))
    await commit(PutUser("bob", 1, is_new=True, fields={"delegates": (user.guid,)}))
    await commit(PutProvider(UUID(int=7), "till", "7f", (NAME, "bob"), 10**15, 1))
    attributes = {"document-name": "diary.odt", "job-account-id": "her account"}
    jobs = [
        (
            await spool.add_job(
                printer,
                owner=NAME,
                title="secret diary",
                client_host="198.51.100.77",
                attributes=attributes,
            )
        ).job_id
        for _ in range(4)
    ]
    for job in jobs[:2]:
        await commit(ChangeJob(job, JobEvent.CANCEL, 2, message=f"{NAME} gave it up"))
    await commit(RemoveJobs((jobs[0],), 3))
    await commit(SetJob(jobs[2], 3, title="secret diary, again"))
    await spool.add_job(printer, owner="bob", title="bob's letter")
    personal = {"address": "198.51.100.77", "user": NAME}
    payload = {"reason": "wrong-password", "person": user.guid.bytes, "count": 1}
    await commit(AddRecord(Kind.LOGIN_REFUSED, payload, 4, "client", personal))
    return user.guid


async def test_nothing_of_an_erased_person_is_left_in_any_file(spool):
    """Neither in tables nor records nor unused pages; and the chain still verifies."""
    printer = await spool.add_printer()
    guid = await live(spool, printer)
    head = spool.journal.head
    assert NAME in texts_in(spool.data_dir)
    done = await erasure_of(spool).erase(NAME, "uid:0")
    assert (done.guid, done.jobs, done.is_rewritten) == (guid, 3, True)
    assert done.records > 8
    assert texts_in(spool.data_dir) == set()
    assert await verified(spool.reader) == spool.journal.head > head
    records = await spool.reader.records(1, 1000)
    last = records[-1]
    assert (last.kind, last.actor, last.personal) == (Kind.PERSON_ERASED, "uid:0", None)
    assert last.payload == {"person": guid.bytes}
    assert not any(text in f"{records}" for text in SAID)


async def test_the_ledger_of_an_erased_person_still_adds_up(spool):
    """Purses and charges stay under a key that is nobody's; no reason says whose it was."""
    purses = await Purses(spool).start()
    guid = await purses.person(NAME)
    bob = await purses.person("bob")
    await purses.allow(3 * PAGE, period=Period.MONTH)
    commit = spool.journal.commit
    reason = f"for {NAME}"
    await commit(
        Adjust(b"1", PayerKind.PERSON, guid, 9 * PAGE, reason, 1, "uid:0", PurseKind.PAID_IN)
    )
    await purses.pay_in(bob, 9 * PAGE)
    await purses.reserve(b"done", guid, 5)
    await commit(Settle(b"done", pages(4), 2, "node"))
    await commit(Refund(b"back", b"done", PAGE, reason, 3, "uid:0"))
    await purses.reserve(b"open", guid, 2)
    await purses.reserve(b"bob's", bob, 1)
    had = await purses.purses(guid)
    await erasure_of(spool).erase(NAME)
    assert texts_in(spool.data_dir) == set()
    assert await purses.purses(guid) == had
    await purses.check()
    await purses.check_records()
    assert await verified(spool.reader) == spool.journal.head
    await commit(Settle(b"open", pages(1), 4, "node"))  # what was under way is charged in the end
    await purses.check()
    found = await spool.reader.look(ledger_views.usage, By.USER, 0, 10**18, None, 9)
    assert [(one[0], one.charges, one.amount) for one in found] == [(guid.bytes, 2, 4 * PAGE)]


async def test_others_keep_what_is_theirs(spool):
    """Their jobs, their names, and what the journal says of them."""
    printer = await spool.add_printer()
    guid = await live(spool, printer)
    await erasure_of(spool).erase(NAME)
    bob = await spool.reader.user("bob")
    assert bob is not None
    assert await spool.reader.delegators(guid) == []
    (provider,) = await spool.reader.providers()
    assert provider.may_assert == ("bob",)
    (job,) = [one for one in [await spool.reader.job(n) for n in range(1, 9)] if one]
    assert (job.owner.name, job.title) == ("bob", "bob's letter")
    accepted = [r for r in await spool.reader.records(1, 999) if r.kind == Kind.JOB_ACCEPTED]
    titles = [(r.personal or {}).get("title") for r in accepted]
    assert titles == [None, None, None, None, "bob's letter"]


async def test_what_others_wrote_about_somebody_is_told(spool):
    """Titles, messages and reasons that name the person as a word: they stay, and are counted."""
    printer = await spool.add_printer()
    purses = await Purses(spool).start()
    bob = await purses.person("bob")
    await spool.journal.commit(PutUser("lin", 1, is_new=True, fields={"full_name": "Lin Oh"}))
    await spool.add_job(printer, owner="lin", title="for lin oh")
    titles = ("Letter to Lin Oh", "LIN: call me", "linen", "berlin", "Lin Ohm", "no name")
    for title in titles:
        await spool.add_job(printer, owner="bob", title=title)
    await purses.journal.commit(
        Adjust(b"1", PayerKind.PERSON, bob, PAGE, "as lin asked", 1, "uid:0", PurseKind.PAID_IN)
    )
    done = await erasure_of(spool).erase("lin")
    records = {one.position: one for one in await spool.reader.records(1, 999)}
    told = [records[position].personal for position in done.mentions]
    named = [one.get("title") or one.get("reason") for one in told]
    assert named == ["Letter to Lin Oh", "LIN: call me", "Lin Ohm", "as lin asked"]
    assert done.reasons == 1
    assert (await verified(spool.reader)) == spool.journal.head


async def test_what_cannot_be_read_does_not_keep_anybody(spool):
    """Another node has sent it, and it is in quarantine; what may name her goes all the same."""
    guid = await live(spool, await spool.add_printer())
    salt, broken = bytes(SALT_BYTES), b"\xc1"
    sent = [
        (b"header", broken + guid.bytes, salt + b"\x81\xa1a\xa1b"),
        (b"header", broken, salt + broken + NAME.encode()),
        (b"header", broken, salt + broken + b"somebody else"),
        (b"header", b"\x91\x01", None),
    ]
    records, hash_ = [], GENESIS
    for header, payload, personal in sent:
        hash_ = link(hash_, header, payload)
        records.append(Encoded(header, payload, personal, hash_))
    chain = SimpleNamespace(incarnation=UUID(int=5), position=len(records), parent=None)
    await receive(spool, SITE, chain, Batch(1, GENESIS, records))
    erased = await erasure_of(spool).erase(NAME)
    assert erased.guid == guid
    assert texts_in(spool.data_dir) == set()
    assert [one[2] is None for one in await stored(spool)] == [True, True, False, True]


async def test_who_comes_back_is_another_person(spool):
    """The same name gets a new key; the old one stays nobody's."""
    printer = await spool.add_printer()
    guid = await live(spool, printer)
    await erasure_of(spool).erase(NAME)
    with pytest.raises(OperationError) as caught:
        await erasure_of(spool).erase(NAME)
    assert caught.value.code == "not-found"
    again = await spool.journal.commit(PutUser(NAME, 9, is_new=True))
    assert (again.guid != guid, again.email, again.cards) == (True, "", ())


async def test_an_owner_of_jobs_who_was_never_a_user_is_erased_too(spool):
    """By the name under which the jobs came in."""
    printer = await spool.add_printer()
    await spool.add_job(printer, owner=NAME, title="secret diary")
    done = await erasure_of(spool).erase(NAME)
    assert done.jobs == 1
    assert texts_in(spool.data_dir) == set()


async def test_a_removed_user_is_erased_too(spool):
    """What was left is the name of the jobs."""
    printer = await spool.add_printer()
    guid = await live(spool, printer)
    await spool.journal.commit(RemoveUser(NAME, 5))
    assert (await erasure_of(spool).erase(NAME)).guid == guid
    assert texts_in(spool.data_dir) == set()


async def test_nothing_is_erased_under_a_job_that_is_being_printed(spool):
    """It is refused, and all is as it was."""
    printer = await spool.add_printer()
    job = (await spool.add_job(printer, owner=NAME)).job_id
    await spool.journal.commit(StartAttempt(job, printer.device_id, printer.id, 5))
    with pytest.raises(OperationError) as caught:
        await erasure_of(spool).erase(NAME)
    assert caught.value.code == "not-possible"
    kept = await spool.reader.job(job)
    assert (kept.state, kept.owner.name) == (JobState.PROCESSING, NAME)


async def test_who_comes_back_with_a_restored_spool_is_erased_again(tmp_path, spool_at):
    """At the start, by the list of keys that no backup holds."""
    copy = tmp_path / "copy"
    (tmp_path / "data").mkdir()
    async with spool_at(tmp_path / "data") as spool:
        guid = await live(spool, await spool.add_printer())
        await spool.journal.call(lambda: spool.store.db.execute(f"VACUUM INTO '{copy}'"))
        await erasure_of(spool).erase(NAME)
    assert (tmp_path / "data" / ERASED).read_text() == f"{guid.bytes.hex()}\n"
    for name in ("spool.db", "witness"):
        (tmp_path / "data" / name).unlink()
    copy.rename(tmp_path / "data" / "spool.db")
    assert NAME in texts_in(tmp_path / "data")
    async with spool_at(tmp_path / "data") as spool:
        await erasure_of(spool).start()
        assert await spool.reader.look(find_by_key, guid.bytes) is None
        assert texts_in(tmp_path / "data") == set()
        assert await verified(spool.reader) == spool.journal.head


async def test_a_large_file_is_written_anew_at_the_next_start(spool, monkeypatch):
    """Until then it is noted that it has to be."""
    monkeypatch.setattr(erasure, "REWRITTEN_AT_ONCE_BYTES_MAX", 0)
    await live(spool, await spool.add_printer())
    done = await erasure_of(spool).erase(NAME)
    assert not done.is_rewritten
    assert (spool.data_dir / PENDING).exists()
    assert await spool.journal.call(lambda: rewrite(spool.store.db, spool.data_dir))
    assert not (spool.data_dir / PENDING).exists()
    assert texts_in(spool.data_dir) == set()


@pytest.mark.slow
async def test_an_erasure_that_is_cut_off_anywhere_is_done_again(tmp_path, spool_at):
    """After each of its commits: the chain verifies, the name is found, and once more is enough."""
    count = 0
    while True:
        count += 1
        data = tmp_path / f"{count}"
        data.mkdir()
        async with spool_at(data) as spool:
            guid = await live(spool, await spool.add_printer())
            commit, left, is_cut = spool.journal.commit, count, False

            async def commit_some(change, commit=commit):
                nonlocal left
                answer = await commit(change)
                left -= 1
                if not left:
                    raise Cut
                return answer

            spool.journal.commit = commit_some
            try:
                await erasure_of(spool).erase(NAME)
            except Cut:
                is_cut = True
            spool.journal.commit = commit
        async with spool_at(data) as spool:
            again = erasure_of(spool)
            assert await verified(spool.reader) == spool.journal.head
            if await spool.reader.look(find_by_key, guid.bytes) is not None:
                assert (await again.erase(NAME)).guid == guid
            elif (data / PENDING).exists():  # as the daemon does when it starts
                assert await spool.journal.call(lambda: rewrite(spool.store.db, spool.data_dir))
            assert texts_in(data) == set()
            assert await verified(spool.reader) == spool.journal.head
        if not is_cut:
            assert count > 5
            return


class Cut(Exception):
    """The daemon ended here."""
