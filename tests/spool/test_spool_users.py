"""Users in the spool: what is kept, what records say of them, and how an older spool gets them."""

from __future__ import annotations

import sqlite3
from importlib import resources
from uuid import UUID, uuid4

import pytest

from spoold.codec.record import GENESIS
from spoold.model.errors import OperationError
from spoold.model.principal import Role
from spoold.model.record import Kind
from spoold.spool import sqlite
from spoold.spool.rows import pack
from spoold.spool.store import (
    EnrolUser,
    PutProvider,
    PutUser,
    RemoveUser,
    RevokeProvider,
    RevokeUser,
    UserChanged,
)
from spoold.spool.users import CERTIFICATES_MAX
from support.chain import verified

HASH = "$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHRzYWx0c2E$aGFzaA"
OPERATOR = frozenset({Role.OPERATOR, Role.USER})
YEAR_US = 1_800_000_000_000_000


async def add(spool, name="ada", roles=OPERATOR, password=HASH):
    return await spool.journal.commit(PutUser(name, 1, roles, password, is_new=True))


async def refused(spool, change) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await spool.journal.commit(change)
    return caught.value


async def records_of(spool, kind):
    return [one for one in await spool.reader.records(1, 1000) if one.kind == kind]


async def test_a_user_is_kept_and_is_the_person_whose_jobs_are_there(tmp_path, spool_at):
    """The key of the user is the one that records of earlier jobs name the owner by."""
    async with spool_at(tmp_path) as spool:
        printer = await spool.add_printer()
        await spool.add_job(printer, owner="ada")
        added = await add(spool)
        assert (added.name, added.roles, added.has_password) == ("ada", OPERATOR, True)
    async with spool_at(tmp_path) as spool:
        assert await spool.reader.user("ada") == added
        assert await spool.reader.user_by_guid(added.guid) == added
        assert await spool.reader.user_and_password("ada") == (added, HASH)
        (named,) = await records_of(spool, Kind.PERSON_NAMED)
        assert named.payload["person"] == added.guid.bytes
        assert await spool.reader.names([added.guid, uuid4()]) == {added.guid: "ada"}


async def test_what_is_not_named_stays(spool):
    """Roles alone, the password alone, and neither of the other person's."""
    added = await add(spool)
    await add(spool, "bob")
    changed = await spool.journal.commit(PutUser("ada", 2, roles=frozenset({Role.USER})))
    assert (changed.guid, changed.has_password) == (added.guid, True)
    assert await spool.reader.user_and_password("ada") == (changed, HASH)
    changed = await spool.journal.commit(PutUser("ada", 3, password=""))
    assert (changed.roles, changed.has_password) == ({Role.USER}, False)
    assert (changed.created_us, changed.changed_us) == (1, 3)
    assert await spool.reader.user("ada") == changed
    assert (await spool.reader.user_and_password("bob"))[1] == HASH


async def test_no_record_has_the_hash_and_names_are_personal(spool):
    """Who follows the journal learns that a password changed, and nobody's name by the payload."""
    user = await add(spool)
    for password in (HASH + "x", None, ""):
        await spool.journal.commit(PutUser("ada", 2, password=password))
    told = await records_of(spool, Kind.USER_CHANGED)
    assert [one.payload["password"] for one in told] == ["changed", "changed", "kept", "none"]
    await spool.journal.commit(EnrolUser(user.guid, "ada", "7f", YEAR_US, 3))
    await spool.journal.commit(RevokeUser("ada", 4))
    await spool.journal.commit(RemoveUser("ada", 5))
    for record in await spool.reader.records(1, 1000):
        assert "argon2" not in f"{record.payload}{record.personal}"
        assert "ada" not in f"{record.payload}{record.actor}"
    assert {one.personal["name"] for one in told} == {"ada"}
    assert HASH not in repr(PutUser("ada", 1, password=HASH))
    assert await verified(spool.reader) == spool.journal.head


async def test_a_name_is_of_one_user(spool):
    """The second one is told to change the first; an unknown one cannot be changed."""
    await add(spool)
    error = await refused(spool, PutUser("ada", 2, OPERATOR, HASH, is_new=True))
    assert (error.code, "user set" in error.advice) == ("conflict", True)
    for change in (PutUser("bob", 2), RemoveUser("bob", 2), RevokeUser("bob", 2)):
        error = await refused(spool, change)
        assert (error.code, error.advice) == ("not-found", "See `spoold user list`.")


async def test_a_removed_user_leaves_jobs_and_revoked_certificates(spool):
    """Back again, the user is the same person, and old certificates stay refused."""
    printer = await spool.add_printer()
    await spool.add_job(printer, owner="ada")
    first = await add(spool)
    await spool.journal.commit(EnrolUser(first.guid, "ada", "7f", YEAR_US, 2))
    assert await spool.journal.commit(RemoveUser("ada", 3)) == ["7f"]
    assert await spool.reader.user("ada") is None
    assert await spool.reader.user_by_guid(first.guid) is None
    assert (await spool.reader.job(1)).owner.name == "ada"
    second = await add(spool)
    assert second.guid == first.guid
    assert await spool.reader.revoked_serials() == ["7f"]
    (kept,) = await spool.reader.certificates(first.guid)
    assert (kept.serial, kept.revoked) == ("7f", True)


async def test_revoking_takes_the_certificates_alone(spool):
    """The user and the password stay; without certificates there is nothing to revoke."""
    user = await add(spool)
    assert (await refused(spool, RevokeUser("ada", 2))).code == "not-possible"
    for serial in ("7f", "80"):
        await spool.journal.commit(EnrolUser(user.guid, "ada", serial, YEAR_US, 2))
    assert sorted(await spool.journal.commit(RevokeUser("ada", 3))) == ["7f", "80"]
    assert await spool.reader.user_and_password("ada") == (user, HASH)
    assert (await refused(spool, EnrolUser(uuid4(), "ada", "81", YEAR_US, 4))).code == "not-found"


async def test_certificates_of_a_user_are_bounded(spool):
    """So that the record of a removal names them all."""
    user = await add(spool)
    enrolments = [
        EnrolUser(user.guid, "ada", f"{n:040x}", YEAR_US, 2) for n in range(CERTIFICATES_MAX + 1)
    ]
    answers = await spool.journal.commit_all(enrolments)
    assert [type(one) for one in answers] == [type(None)] * CERTIFICATES_MAX + [OperationError]
    assert "user revoke" in answers[-1].advice
    assert len(await spool.journal.commit(RemoveUser("ada", 3))) == CERTIFICATES_MAX


async def test_users_are_listed_by_name_in_pages(spool):
    """People who only have jobs are not users."""
    printer = await spool.add_printer()
    await spool.add_job(printer, owner="bert")
    for name in ("carl", "ada", "bob"):
        await add(spool, name)
    assert [one.name for one in await spool.reader.users("", 2)] == ["ada", "bob"]
    assert [one.name for one in await spool.reader.users("bob", 2)] == ["carl"]


async def test_listeners_hear_what_ends_connections(spool):
    """Fewer roles, a revocation and a removal do; a new password ends what is at machines alone."""
    heard: list[UserChanged] = []
    spool.journal.listen(lambda events: heard.extend(events))
    user = await add(spool)
    await spool.journal.commit(PutUser("ada", 2, password=HASH))
    await spool.journal.commit(PutUser("ada", 2, roles=OPERATOR))
    await spool.journal.commit(PutUser("ada", 2, roles=frozenset({Role.USER})))
    await spool.journal.commit(EnrolUser(user.guid, "ada", "7f", YEAR_US, 3))
    await spool.journal.commit(RemoveUser("ada", 4))
    assert heard == [
        UserChanged(user.guid, "ada"),
        UserChanged(user.guid, "ada", revokes=True),
        UserChanged(user.guid, "ada"),
        UserChanged(user.guid, "ada", ends_connections=True),
        UserChanged(user.guid, "ada", ("7f",), ends_connections=True),
    ]


def migrations() -> dict[int, str]:
    found = resources.files("spoold.spool.schema").iterdir()
    scripts = [one for one in found if one.name.endswith(".sql")]
    numbered = {int(one.name[:4]): one.read_text(encoding="utf-8") for one in scripts}
    assert sorted(numbered) == [*range(1, len(scripts) + 1)], "two migrations have one number"
    return numbered


async def test_an_older_spool_keeps_its_providers_and_gets_users(tmp_path, spool_at):
    """A spool of the first version, with a provider and its certificate, is opened by this one."""
    provider = UUID("00000000-0000-4000-8000-0000000000aa")
    db = sqlite3.connect(tmp_path / "spool.db")
    db.executescript(
        f"PRAGMA page_size = {sqlite.PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL; "
        f"PRAGMA application_id = {sqlite.APPLICATION_ID}; {migrations()[1]} "
        "PRAGMA user_version = 1;"
    )
    db.execute(
        "INSERT INTO chain (journal, incarnation, is_own, started_us, position, hash, "
        "anchor_position, anchor_hash, last_job_id) VALUES (?, ?, 1, 1, 0, ?, 0, ?, 0)",
        (provider.bytes, provider.bytes, GENESIS, GENESIS),
    )
    db.execute("INSERT INTO person (key, name) VALUES (?, 'ada')", (bytes(16),))
    db.execute(
        "INSERT INTO provider VALUES (?, 'till', ?, 0)", (provider.bytes, pack({"may_assert": []}))
    )
    db.execute("INSERT INTO certificate VALUES ('7f', ?, ?, 0)", (provider.bytes, YEAR_US))
    db.commit()
    db.close()
    async with spool_at(tmp_path) as spool:
        (found,) = await spool.reader.providers()
        assert (found.guid, found.serials) == (provider, ("7f",))
        await spool.journal.commit(PutProvider(provider, "till", "80", (), YEAR_US, 2))
        assert sorted(await spool.journal.commit(RevokeProvider("till", 3))) == ["7f", "80"]
        added = await add(spool)
        assert added.guid == UUID(bytes=bytes(16))
    async with spool_at(tmp_path) as spool:
        assert await spool.reader.user("ada") == added
        assert sorted(await spool.reader.revoked_serials()) == ["7f", "80"]
