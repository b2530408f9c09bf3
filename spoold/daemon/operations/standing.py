"""What somebody has in all: here, and at the other nodes that hold a part of it.

Money that a site may spend alone stands in none of the holder's purses at the application server,
and a site holds only that part: whoever stands at a machine wants to know of the sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from spoold.daemon.operations.access import LINES, SITES
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.rights import is_its
from spoold.daemon.operations.sites import site_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.model.purse import PayerKind
from spoold.spool.ledger_views import standing

KEY_BYTES = 16


class Has(NamedTuple):
    """In 1/10,000 of a currency. `available` is what can be spent, as far as nodes can be asked for
    their parts; None: without a limit.
    """

    balance: int
    available: int | None
    currency: str

    def and_more(self, balance: int, available: int | None) -> Has:
        endless = self.available is None or available is None
        both = None if endless else (self.available or 0) + (available or 0)
        return Has(self.balance + balance, both, self.currency)


async def standing_of(services: Services, person: UUID) -> Has:
    """What a person has in all; at a site whose application server cannot be asked in time, what
    may be spent there.
    """
    has = await _known(services, person)
    if services.alone is None:
        return has
    there = await services.alone.elsewhere(person)
    return has if there is None else has.and_more(*there)


async def _known(services: Services, person: UUID, but: UUID | None = None) -> Has:
    """What this node knows of: what is here, and what sites hold, `but` one of them."""
    found = await services.reader.look(standing, person, services.wall_clock())
    held = {site: amount for site, amount in found.at_sites.items() if site != but}
    there = sum(amount for site, amount in held.items() if services.sites.is_up(site))
    here = Has(found.wallet.balance, found.wallet.available, found.currency)
    return here.and_more(sum(held.values()), there)


async def elsewhere(call: Call) -> dict[str, Any]:
    """What a person has but for what the site that calls may spend of it."""
    site, services = await site_of(call), call.services
    person = UUID(bytes=call.args["holder"])
    if not await is_its(call, site, PayerKind.PERSON, person):
        raise OperationError("forbidden", "this site has no copy of this person.")
    has = await _known(services, person, site.guid)
    return {"balance": has.balance, "available": has.available}


OPERATIONS = (
    Operation(
        "site.standing",
        (Argument("holder", (bytes,), required=True, least=KEY_BYTES, most=KEY_BYTES),),
        SITES,
        LINES,
        elsewhere,
        "What a person has elsewhere, for a site.",
    ),
)
