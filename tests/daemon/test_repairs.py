"""Local repair: a site that is cut off changes printers of its application server, for a while."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.net.address import Address
from support.houses import joined
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def cut_off(start):
    """A site whose application server has gone, and how to bring that back."""
    hq, site = await start("hq"), await start("library", "site")
    await hq.ask("printer.add", name="frontdesk", uri="socket://127.0.0.1:9")
    await joined(hq, site)
    await hq.ask("printer.set", name="frontdesk", owner="library")
    await hq.ask("printer.add", name="elsewhere", uri="socket://127.0.0.1:9")
    await wait_until(
        site.services.catalogue.look,
        holds=lambda found: "elsewhere" in found.by_name and found.by_name["frontdesk"].is_ours,
    )
    port = hq.running.ports["mutual"][1]
    with pytest.raises(OperationError, match="not cut off"):
        await site.ask("site.repair", name="frontdesk", paused=True)
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)

    async def back():
        again = await start("hq", listen={"mutual": (Address("127.0.0.1", port),)})
        await site.line.wait_up()
        return again

    return site, back


async def printer(house):
    known = await house.services.catalogue.look()
    found = known.by_name["frontdesk"]
    device = known.device_of(found)
    return found.paused, found.pause_reason, device.uri


async def until(house, expected):
    await wait_until(lambda: printer(house), holds=lambda found: found == expected)


async def overrides(house, count):
    with trio.fail_after(30):
        while True:
            found = (await house.ask("site.overrides"))["overrides"]
            if len(found) == count:
                return found
            await trio.sleep(0.02)


async def test_a_repair_is_shown_upstream_and_holds_for_all_once_it_is_accepted(start):
    """Until then the site's copy keeps it, whatever comes of the printer."""
    site, back = await cut_off(start)
    with pytest.raises(OperationError, match="printed by another node"):
        await site.ask("site.repair", name="elsewhere", paused=True)
    with pytest.raises(OperationError, match="it belongs to hq"):
        await site.ask("printer.pause", name="frontdesk", reason="jam")
    await site.ask("site.repair", name="frontdesk", paused=True, reason="jam")
    await site.ask("site.repair", name="frontdesk", uri="socket://127.0.0.1:10")
    assert await printer(site) == (True, "jam", "socket://127.0.0.1:10")
    hq = await back()
    shown = await overrides(hq, 2)
    assert {(one["site"], one["printer"], one["field"]) for one in shown} == {
        ("library", "frontdesk", "device"),
        ("library", "frontdesk", "paused"),
    }
    await hq.ask("printer.set", name="frontdesk", info="by the door")
    assert await printer(hq) == (False, "", "socket://127.0.0.1:9")
    advice = " ".join((await hq.ask("printer.show", name="frontdesk"))["advice"])
    assert "library has paused it, by a repair: `spoold site overrides list`" in advice
    assert "library has its device at socket://127.0.0.1:10" in advice
    assert (await hq.ask("status"))["overrides"] == 2
    await hq.ask("site.settle", name="frontdesk", accept=True)
    assert await printer(hq) == (True, "jam", "socket://127.0.0.1:10")
    await overrides(site, 0)
    await until(site, (True, "jam", "socket://127.0.0.1:10"))
    await hq.ask("printer.resume", name="frontdesk")
    await until(site, (False, "", "socket://127.0.0.1:10"))


async def test_a_repair_that_is_reverted_is_undone_at_the_site(start):
    """And both sides forget it."""
    site, back = await cut_off(start)
    await site.ask("site.repair", name="frontdesk", paused=True, reason="jam")
    hq = await back()
    await overrides(hq, 1)
    await hq.ask("site.settle", name="frontdesk", accept=False)
    await until(site, (False, "", "socket://127.0.0.1:9"))
    await overrides(site, 0)
    await overrides(hq, 0)


async def test_a_repair_that_was_accepted_is_over_even_if_the_printer_goes_on_meanwhile(start):
    """The site was not there to hear of either: nothing is left that nobody could settle."""
    site, back = await cut_off(start)
    await site.ask("site.repair", name="frontdesk", paused=True, reason="jam")
    await site.ask("site.repair", name="frontdesk", uri="socket://127.0.0.1:10")
    hq = await back()
    await overrides(hq, 2)
    await site.stop()
    await hq.ask("site.settle", name="frontdesk", accept=True)
    await hq.ask("printer.resume", name="frontdesk")
    site = await start("library", "site")
    await until(site, (False, "", "socket://127.0.0.1:10"))
    await overrides(site, 0)
    await overrides(hq, 0)


async def test_a_repair_that_the_site_does_not_know_any_more_can_be_reverted(start):
    """Its disk was put back; nobody has to accept what nobody wants, to be rid of it."""
    site, back = await cut_off(start)
    await site.ask("site.repair", name="frontdesk", uri="socket://127.0.0.1:10")
    hq = await back()
    await overrides(hq, 1)
    with sqlite3.connect(site.running.control.parent / "spool.db") as db:
        db.execute("DELETE FROM repair")
    db.close()
    await hq.ask("site.settle", name="frontdesk", accept=False)
    await overrides(hq, 0)
    assert (await printer(hq))[2] == "socket://127.0.0.1:9"


async def test_a_repair_that_is_taken_back_at_the_site_needs_nobody(start):
    """It is as if it had never been, but for the records."""
    site, back = await cut_off(start)
    await site.ask("site.repair", name="frontdesk", paused=True)
    await site.ask("site.repair", name="frontdesk", paused=False)
    assert await printer(site) == (False, "", "socket://127.0.0.1:9")
    assert (await site.ask("site.overrides"))["overrides"] == []
    await site.ask("printer.add", name="annex", uri="socket://127.0.0.1:9")
    with pytest.raises(OperationError, match="this node's own"):
        await site.ask("site.repair", name="annex", paused=True)
    hq = await back()
    await trio.sleep(0.5)
    await overrides(hq, 0)


async def test_a_repair_that_the_application_server_has_made_as_well_is_over(start):
    """Nobody is asked to settle what both say."""
    site, back = await cut_off(start)
    await site.ask("site.repair", name="frontdesk", uri="socket://127.0.0.1:10")
    await site.ask("site.repair", name="frontdesk", paused=True, reason="jam")
    hq = await back()
    await overrides(hq, 2)
    await hq.ask("printer.set", name="frontdesk", uri="socket://127.0.0.1:10")
    for house in (site, hq):
        [left] = await overrides(house, 1)
        assert left["field"] == "paused"
    assert await printer(site) == (True, "jam", "socket://127.0.0.1:10")


async def test_a_repair_of_a_device_holds_whatever_changes_of_its_other_printers(start):
    """Upstream speaks of the device with each of them."""
    site, back = await cut_off(start)
    hq = await back()
    await hq.ask("printer.add", name="sidedesk", uri="socket://127.0.0.1:9")
    await hq.ask("printer.set", name="sidedesk", owner="library")
    await wait_until(site.services.catalogue.look, holds=lambda found: "sidedesk" in found.by_name)
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)
    await site.ask("site.repair", name="frontdesk", uri="socket://127.0.0.1:10")
    hq = await back()
    await hq.ask("printer.set", name="sidedesk", info="by the door")
    await wait_until(
        site.services.catalogue.look,
        holds=lambda found: found.by_name["sidedesk"].info == "by the door",
    )
    assert await printer(site) == (False, "", "socket://127.0.0.1:10")
    await overrides(site, 1)


@pytest.mark.parametrize("gone", ["printer", "site"])
async def test_repairs_go_with_what_they_are_of(start, gone):
    """Nobody could settle them any more."""
    site, back = await cut_off(start)
    await site.ask("site.repair", name="frontdesk", paused=True, reason="jam")
    hq = await back()
    await overrides(hq, 1)
    if gone == "printer":
        await hq.ask("printer.remove", name="frontdesk")
        await overrides(site, 0)
    else:
        await hq.ask("site.revoke", name="library")
    await overrides(hq, 0)
    assert (await hq.ask("status"))["overrides"] == 0
