"""Guests of sites: admitted, found, and gone after their time."""

from __future__ import annotations

from uuid import uuid4

import pytest

from spoold.model.errors import OperationError
from spoold.spool import guests, replication
from spoold.spool.store import AdmitGuest, PutUser


async def test_a_guest_stays_for_its_time(spool):
    """Coming again within it changes nothing; the next one who comes after it ends it."""
    ada = await spool.journal.commit(PutUser("ada", 1, is_new=True))
    bob = await spool.journal.commit(PutUser("bob", 1, is_new=True))
    site, other = uuid4(), uuid4()
    people = (ada.guid.bytes, bob.guid.bytes)

    async def here(node):
        return await spool.reader.look(guests.among, node, people)

    before = await spool.reader.look(replication.newest)
    await spool.journal.commit(AdmitGuest(site, ada.guid, 10))
    told = await spool.reader.look(replication.newest)
    assert told > before
    assert (await here(site), await here(other)) == ({ada.guid.bytes}, set())
    await spool.journal.commit(AdmitGuest(site, ada.guid, guests.STAY_US))
    assert await here(site) == {ada.guid.bytes}
    await spool.journal.commit(AdmitGuest(site, bob.guid, guests.STAY_US + 11))
    assert await here(site) == {bob.guid.bytes}
    assert await spool.reader.look(replication.newest) > told


async def test_a_site_has_so_many_guests_and_no_more(spool, monkeypatch):
    """Those whom it has come again; other sites have room of their own."""
    monkeypatch.setattr(guests, "GUESTS_MAX", 2)
    site = uuid4()
    first, _, third = people = [uuid4() for _ in range(3)]
    for number, person in enumerate(people[:2]):
        await spool.journal.commit(AdmitGuest(site, person, number))
    with pytest.raises(OperationError, match="2 guests"):
        await spool.journal.commit(AdmitGuest(site, third, 3))
    await spool.journal.commit(AdmitGuest(site, first, 4))
    await spool.journal.commit(AdmitGuest(uuid4(), third, 5))
    await spool.journal.commit(AdmitGuest(site, third, guests.STAY_US + 2))
