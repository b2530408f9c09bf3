"""What sites are told of the rights that they may have."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest

from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.site.authority import EVENT
from spoold.site.reclaiming import Reclaiming
from spoold.spool.store import BranchJournal
from support.money import PAGE
from support.rights import GUIDS, deployment


def listen(hall) -> list[tuple[UUID, str]]:
    """What sites are told from now on."""
    told: list[tuple[UUID, str]] = []
    sites = SimpleNamespace(
        tell=lambda site, event: told.append((site, event)), listen=lambda hear: None
    )
    Reclaiming(hall.hq.journal, sites, lambda: hall.now_us)
    return told


async def test_a_site_that_was_away_hears_who_got_money_meanwhile(tmp_path, spool_at):
    """Before it may be away again; one that was here has heard of it."""
    async with deployment(tmp_path, spool_at) as hall:
        told, hear = [], []
        sites = SimpleNamespace(tell=lambda *what: told.append(what), listen=hear.append)
        Reclaiming(hall.hq.journal, sites, lambda: hall.now_us)
        (line_changed,) = hear
        line_changed(GUIDS["a"], LineState.UP)
        line_changed(GUIDS["b"], LineState.UP)
        line_changed(GUIDS["a"], LineState.GONE)
        await hall.pay(40)
        assert told == []
        line_changed(GUIDS["a"], LineState.UP)
        assert told == [(GUIDS["a"], EVENT, {"holders": [[False, hall.ada.bytes]]})]


async def test_a_site_that_has_begun_anew_hears_that_it_may_have_rights_again(tmp_path, spool_at):
    """What it asked for before that was known was refused, and its people wait for it."""
    async with deployment(tmp_path, spool_at) as hall:
        told = listen(hall)
        await hall.pay(40)
        await hall.sync("a")
        await hall.ship("a")
        await hall.freeze("a")
        journal = hall.at["a"].spool.journal
        await journal.commit(BranchJournal(journal.head, hall.now_us))
        with pytest.raises(OperationError, match="gets no rights"):
            await hall.sync("a")
        assert told == []
        await hall.ship("a")
        assert told == [(GUIDS["a"], EVENT)]
        await hall.sync("a")
        await hall.reclaim()
        assert await hall.left("hq") + await hall.left("a") == 40 * PAGE
        await hall.check()


@pytest.mark.parametrize("has_asked", [True, False])
async def test_who_was_put_back_and_knows_of_no_fork_tells_it_too(tmp_path, spool_at, has_asked):
    """Else its rights are nobody's until it asks by itself; if it has, there is nothing to tell."""
    async with deployment(tmp_path, spool_at) as hall:
        told = listen(hall)
        await hall.pay(40)
        await hall.sync("a")
        await hall.ship("a")
        journal = hall.at["a"].spool.journal
        await journal.commit(BranchJournal(journal.head, hall.now_us))
        assert await hall.left("a") == 0
        if has_asked:
            await hall.sync("a")
        await hall.ship("a")
        assert told == ([] if has_asked else [(GUIDS["a"], EVENT)])
