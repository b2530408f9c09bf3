"""Printers and what else an application server owns, at a site: kept, reported, made way for."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from spoold.model.errors import OperationError
from spoold.model.pricing import PriceList
from spoold.model.printer import Printer
from spoold.model.purse import Terms
from spoold.model.record import Kind
from spoold.model.release import ReleaseMode
from spoold.spool import accounts, replica
from spoold.spool.store import (
    PutAccount,
    PutCard,
    PutDevice,
    PutMfd,
    PutPin,
    PutPrices,
    PutPrinter,
    PutProvider,
    PutTerms,
    PutUser,
    RemoveCard,
    RemovePrinter,
    RemoveUser,
)
from support.furnishing import add, furnish
from support.replicas import Wire, everything, replica_of, serve, two


async def refused(spool, change) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await spool.journal.commit(change)
    return caught.value


async def test_what_belongs_to_the_application_server_is_changed_there(tmp_path):
    """Every change of a copied object is refused with that; the site's own can be changed."""
    async with two(tmp_path) as (hq, site):
        await furnish(hq)
        await (await replica_of(site, Wire(serve(hq)))).pull()
        (printer,) = await site.reader.printers()
        for change in (
            PutUser("ada", 2, fields={"disabled": True}),
            RemoveUser("ada", 2),
            PutCard("ada", (b"x",), "", "", 2),
            RemoveCard("ada", 1, 2),
            PutPin("ada", (), 2),
            PutPrinter(replace(printer, paused=True), 2),
            RemovePrinter(printer.id, 2),
            PutMfd(uuid4(), "panel", 2),
            PutProvider(uuid4(), "desk", "cc", (), 9, 2),
            PutAccount("works", 2, is_open=False),
            PutPrices(PriceList(0), 2),
            PutTerms(Terms(), 2),
        ):
            error = await refused(site, change)
            assert (error.code, error.message) == ("not-possible", "it belongs to hq.")
            assert error.advice.startswith("Change it there")
        await add(site, "porter")
        await site.journal.commit(PutUser("porter", 2, fields={"disabled": True}))
        assert await everything(hq) == {
            key: state
            for key, state in (await everything(site)).items()
            if state.get("name") != "porter"
        }


async def test_what_the_site_had_before_makes_way_and_is_reported(tmp_path):
    """People of one name are one person with their jobs; a printer gets the site's name behind."""
    async with two(tmp_path) as (hq, site):
        ada, _ = await furnish(hq)
        own = await site.add_printer("frontdesk", release=ReleaseMode.HOLD)
        pool = Printer(0, uuid4(), "pool", None, members=("frontdesk",))
        await site.journal.commit(PutPrinter(pool, 1))
        await add(site, "ada", "")
        accepted = await site.add_job(own, owner="ada")
        await site.add_job(own, owner="bob")
        await site.journal.commit(PutAccount("works", 1, is_new=True))
        await site.journal.commit(PutAccount("works/hall", 1, is_new=True))
        await site.journal.commit(PutPrices(PriceList(0), 1))
        await (await replica_of(site, Wire(serve(hq)))).pull()

        told = {
            (one.kind, one.name, one.became) for one in await site.reader.look(replica.conflicts)
        }
        assert told == {
            ("user", "ada", "the user of this name upstream"),
            ("printer", "frontdesk", "frontdesk-library"),
            ("account", "works", "works-library"),
            ("prices", "1", "the prices of upstream"),
        }
        rows = await site.reader.records(1, 1000)
        renamed = [one.payload for one in rows if one.kind == Kind.OBJECT_RENAMED]
        assert [(one["was"], one["name"]) for one in renamed] == [
            ("frontdesk", "frontdesk-library"),
            ("works", "works-library"),
        ]
        user = await site.reader.user("ada")
        assert user.guid == ada.guid
        job = await site.reader.job(accepted.job_id)
        assert job.owner.name == "ada"
        assert job.printer_id == own.id
        printers = {one.name: one for one in await site.reader.printers()}
        assert printers.keys() == {"frontdesk", "frontdesk-library", "pool"}
        assert printers["pool"].members == ("frontdesk-library",)
        assert await site.reader.look(accounts.by_name, "works-library/hall") is not None
        again = await site.add_job(own, owner="ada")
        assert (await site.reader.job(again.job_id)).owner.name == "ada"


@pytest.mark.parametrize("has", ["nothing", "another-info", "a-job", "a-pool"])
async def test_a_printer_that_a_node_made_for_itself_gives_way_if_nobody_used_it(tmp_path, has):
    """Every new node has one called `default`: that of the application server is meant then."""
    async with two(tmp_path) as (hq, site):
        for spool in (hq, site):
            device = await spool.journal.commit(PutDevice(uuid4(), "file:///printed", 1))
            made = Printer.automatic(uuid4(), device.id)
            own = await spool.journal.commit(PutPrinter(made, 1))
        if has == "another-info":
            await site.journal.commit(PutPrinter(replace(own, info="the one in the hall"), 1))
        elif has == "a-job":
            await site.add_job(own)
        elif has == "a-pool":
            pool = Printer(0, uuid4(), "pool", None, members=("default",))
            await site.journal.commit(PutPrinter(pool, 1))
        await (await replica_of(site, Wire(serve(hq)))).pull()
        printers = {one.name: one for one in await site.reader.printers()}
        told = [one.became for one in await site.reader.look(replica.conflicts)]
        assert printers["default"].guid != own.guid
        if has == "nothing":
            assert (len(printers), told) == (1, [])
            kinds = [one.kind for one in await site.reader.records(1, 1000)]
            assert Kind.PRINTER_REMOVED in kinds
        else:
            assert printers["default-library"].guid == own.guid
            assert told == ["default-library"]


async def test_a_printer_that_goes_upstream_stays_while_jobs_wait_on_it(tmp_path):
    """It takes no more and is the site's own then, so that its jobs can be moved."""
    async with two(tmp_path) as (hq, site):
        _, printer = await furnish(hq)
        copy = await replica_of(site, Wire(serve(hq)))
        await copy.pull()
        (there,) = await site.reader.printers()
        await site.add_job(there)
        await hq.journal.commit(RemovePrinter(printer.id, 2))
        await copy.pull()
        (kept,) = await site.reader.printers()
        assert not kept.accepting
        await site.journal.commit(PutPrinter(replace(kept, info="old"), 3))
