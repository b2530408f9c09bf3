"""What an application server has that sites get copies of."""

from __future__ import annotations

from uuid import uuid4

from spoold.model.card import Digests
from spoold.model.pricing import PriceList, Rate
from spoold.model.principal import Role
from spoold.model.purse import Terms
from spoold.spool.store import (
    EnrolUser,
    PutAccount,
    PutCard,
    PutMfd,
    PutPin,
    PutPrices,
    PutProvider,
    PutTerms,
    PutUser,
)
from support.replicas import HQ_KEY

HASH = "$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHRzYWx0c2E$aGFzaA"
DIGESTS = Digests([HQ_KEY])
ROLES = frozenset({Role.USER})


async def add(spool, name="ada", password=HASH, **fields):
    return await spool.journal.commit(PutUser(name, 1, ROLES, password, is_new=True, fields=fields))


async def add_card(spool, name, number):
    await spool.journal.commit(PutCard(name, (DIGESTS.card(number),), "", "", 1))


async def furnish(hq):
    """Some of everything; answers ada and the printer."""
    bob = await add(hq, "bob")
    ada = await add(hq, "ada", groups=("staff",), delegates=(bob.guid,))
    await add_card(hq, "ada", "4711")
    await hq.journal.commit(PutPin("ada", (DIGESTS.pins("482913")[0],), 1))
    await hq.journal.commit(EnrolUser(ada.guid, "ada", "aa11", 9, 1))
    printer = await hq.add_printer("frontdesk", "socket://10.0.0.7:9100", location="hall")
    await hq.journal.commit(PutMfd(uuid4(), "panel", 1, token_key=b"t" * 32))
    await hq.journal.commit(PutProvider(uuid4(), "desk", "bb22", ("*",), 9, 1))
    await hq.journal.commit(PutAccount("works", 1, is_new=True, members=(ada.guid,)))
    await hq.journal.commit(PutPrices(PriceList(0, rates=(Rate(100),)), 1))
    await hq.journal.commit(PutTerms(Terms(currency="EUR"), 1))
    return ada, printer
