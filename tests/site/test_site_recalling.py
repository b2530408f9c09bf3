"""Money that is called back from sites is withheld from all of them for a moment, and no longer."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio

from spoold.model.node import Node, NodeState
from spoold.model.offline import Want
from spoold.model.purse import Payer, PayerKind
from spoold.site.authority import EVENT, WANTED
from spoold.site.presence import Presence
from spoold.site.recalling import SPENT_S, Recalling
from support.money import PAGE
from support.rights import GUIDS, deployment

pytestmark = pytest.mark.slow
DEADLINE_S = 0.3  # none of what is called back comes


@pytest.fixture
async def hall(tmp_path, spool_at):
    async with deployment(tmp_path, spool_at) as made:
        await made.set_user(restricted=True)
        await made.pay(40)
        await made.sync("a")
        yield made


async def here(sites: Presence, name: str) -> Node:
    node = Node(GUIDS[name], name, NodeState.APPROVED, b"", 0, 0)
    await sites.greet(node, name, {}, 0)
    return node


def ahead(holder: UUID) -> Want:
    return Want(PayerKind.PERSON, holder, least=0, has=0, known=0)


async def test_who_asked_meanwhile_is_told_when_it_is_over(hall, mock_clock, nursery):
    """The clock stands still but for one jump, so that nothing is over too early."""
    mock_clock.autojump_threshold = 10.0  # real seconds in which nothing happens at all: it hangs
    spool, clock = hall.hq.spool, lambda: hall.now_us
    sites = Presence(clock)
    recalling = Recalling(spool.journal, spool.reader, sites, clock, DEADLINE_S)
    nursery.start_soon(recalling.run)
    ada = Payer(PayerKind.PERSON, hall.ada)
    asked = {"holders": [[False, hall.ada.bytes]]}
    with trio.fail_after(60):
        async with (
            sites.follow(await here(sites, "a")) as first,
            sites.follow(await here(sites, "b")) as second,
        ):
            assert recalling.withheld(GUIDS["b"], [ahead(hall.ada)]) == frozenset()
            nursery.start_soon(recalling.recall, ada, 1000 * PAGE)
            assert await first.take() == [(WANTED, asked)]
            assert recalling.withheld(GUIDS["b"], [ahead(hall.ada)]) == {hall.ada}
            mock_clock.jump(DEADLINE_S + 2 * SPENT_S)
            assert await second.take() == [(EVENT, asked)]
            assert recalling.withheld(GUIDS["b"], [ahead(hall.ada)]) == frozenset()
