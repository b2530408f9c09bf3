"""Cards, PINs and delegates in the spool: found by an index, and in no record."""

from __future__ import annotations

import pytest

from spoold.model.errors import OperationError
from spoold.spool import people, users
from spoold.spool.store import PutCard, PutPin, PutUser, RemoveCard, RemoveUser, UserChanged
from support.directory import DIGESTS


def card_of(name, number, label=""):
    return PutCard(name, tuple(DIGESTS.cards(number)), label, number[-2:], 1)


async def add(spool, name="ada", **fields):
    return await spool.journal.commit(PutUser(name, 1, is_new=True, fields=fields))


async def test_no_record_holds_the_hash_of_a_card_or_pin(spool):
    """Neither in what stays nor in the part that can be erased."""
    await add(spool)
    await spool.journal.commit(card_of("ada", "123456", "blue"))
    await spool.journal.commit(PutPin("ada", tuple(DIGESTS.pins("730194")), 1))
    await spool.journal.commit(RemoveCard("ada", 1, 2))
    rows = await spool.reader.look(
        lambda db: db.execute("SELECT header, payload, personal FROM record").fetchall()
    )
    stored = b"".join(part for row in rows for part in row if part)
    for digest in (*DIGESTS.cards("123456"), *DIGESTS.pins("730194")):
        assert digest[4:] not in stored  # also without the name of its key
    assert b"123456" not in stored
    assert b"blue" in stored


async def test_what_a_removed_user_had_is_free_again(spool):
    """The card and the PIN become somebody else's."""
    ada = await add(spool)
    await add(spool, "bob", delegates=(ada.guid,))
    await spool.journal.commit(card_of("ada", "123456"))
    await spool.journal.commit(RemoveUser("ada", 2))
    changed = await spool.journal.commit(card_of("bob", "123456"))
    assert [one.number for one in changed.cards] == [1]
    found = await spool.reader.look(people.by_card, tuple(DIGESTS.cards("123456")))
    assert found == changed


async def test_a_revoked_card_and_a_new_pin_end_what_is_open_at_machines(spool):
    """A card that is added does not, nor does the first PIN."""
    heard: list[UserChanged] = []
    ada = await add(spool)
    spool.journal.listen(lambda events: heard.extend(events))
    for number in ("111111", "222222"):
        await spool.journal.commit(card_of("ada", number))
    for pin in ("730194", "730195"):
        await spool.journal.commit(PutPin("ada", tuple(DIGESTS.pins(pin, ada.guid)), 1))
    await spool.journal.commit(RemoveCard("ada", None, 2, tuple(DIGESTS.cards("111111"))))
    await spool.journal.commit(PutUser("ada", 3, fields={"email": "ada@example.org"}))
    await spool.journal.commit(PutUser("ada", 3, fields={"disabled": True}))
    ends = [one.ends_sessions for one in heard]
    assert ends == [False, False, False, True, True, False, True]
    assert [one.ends_connections for one in heard] == [False] * 6 + [True]


async def test_a_refused_change_leaves_all_as_it_was(spool):
    """A delegate that is nobody, a card of nobody's."""
    ada = await add(spool, groups=("staff",))
    for change in (
        PutUser("ada", 2, fields={"delegates": (users.UUID(int=5),), "groups": ("x",)}),
        PutUser("eve", 2, is_new=True, fields={"delegates": (users.UUID(int=5),)}),
        RemoveCard("ada", 7, 2),
        card_of("eve", "123456"),
        PutPin("eve", (), 2),
    ):
        with pytest.raises(OperationError) as caught:
            await spool.journal.commit(change)
        assert caught.value.code == "not-found"
    assert await spool.reader.user("ada") == ada
    assert await spool.reader.user("eve") is None


@pytest.mark.parametrize(
    ("look_up", "values"),
    [
        (users.find, ("ada",)),
        (users.find_by_guid, (users.UUID(int=1),)),
        (users.page, ("ada", 100)),
        (people.by_card, ((b"d" * 36, b"e" * 36),)),
        (people.by_pin, ((b"d" * 36, b"e" * 36),)),
        (people.has_pin, (users.UUID(int=1), (b"d" * 36,))),
        (people.delegators, (users.UUID(int=1),)),
        (people.throttles, (0, 10)),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_every_look_up_goes_by_an_index(spool, look_up, values):
    """With a hundred thousand users none of them looks at all of a table."""
    asked: list[str] = []

    def explain(db):
        db.set_trace_callback(asked.append)
        look_up(db, *values)
        db.set_trace_callback(None)
        return [
            row[3] for sql in asked for row in db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        ]

    plan = await spool.reader.look(explain)
    assert plan
    scans = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
    assert scans == []
