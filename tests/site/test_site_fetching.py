"""What a site makes of offers that are not as it knows them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import trio

from spoold.site.fetching import Fetching

PRINTER = UUID("00000000-0000-4000-8000-0000000000aa")
ORIGIN = {
    "known": "authenticated",
    "by": "password",
    "submitter": "user:ada",
    "client_host": "10.0.0.9",
    "copies_embedded": False,
    "created_us": 1,
}
OFFER = {
    "job": 7,
    "job_uuid": "00000000-0000-4000-8000-0000000000bb",
    "printer": "desk",
    "printer_guid": str(PRINTER),
    "user": "ada",
    "title": "letter",
    "copies": 1,
    "priority": 50,
    "format": "application/pdf",
    "attributes": {},
    "size": 0,
    "digest": "sha256:00",
    "canceled": False,
    "released": False,
    "handed_on": ORIGIN,
}


class Above:
    """A line to an application server that offers one job, once."""

    def __init__(self, offer: dict[str, Any]) -> None:
        self.offers = [offer]
        self.took: dict[str, Any] = {}
        self.asked_again = trio.Event()

    def hear(self, event, hear) -> None: ...
    def listen(self, listener) -> None: ...
    async def wait_up(self) -> None: ...

    async def look(self, query, *args):
        return {}

    async def call(self, op, args, deadline_s):
        if op == "site.handed":
            return {"jobs": [], "next_after_id": None}
        if op == "site.jobs":
            if not self.offers:
                self.asked_again.set()
            jobs, self.offers = self.offers, []
            return {"jobs": jobs}
        if op == "site.took":
            self.took = args
            return {}
        return {"data": b"", "jobs": []}


async def nothing(*_: object) -> str:
    return "desk"


@pytest.mark.parametrize(
    "odd",
    [
        {"handed_on": ORIGIN | {"known": "by-heart"}},
        {"handed_on": {}},
        {"job_uuid": "seven"},
        {"digest": None},
    ],
)
async def test_an_offer_in_unknown_words_is_refused(odd):
    """It would end the daemon at each start; so it is told, and offered again later."""
    above = Above(OFFER | odd)
    fetching = Fetching(above, None, above, above, nothing, nothing, lambda: 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetching.run)
        with trio.fail_after(30):
            await above.asked_again.wait()
        nursery.cancel_scope.cancel()
    assert (above.took["job"], above.took["error"]) == (7, "not-possible")
    assert "Update this node" in above.took["message"]
