"""People at MFDs of several nodes, and their held jobs: whole daemons on loopback."""

from __future__ import annotations

from spoold.daemon.config import Upstream
from spoold.provider.client import Provider
from support.houses import give_away, joined, wait_job
from support.panels import Hall, Panel
from support.waiting import wait_until

PATIENT = {"upstream": Upstream(question_deadline_s=10.0)}  # this machine has other work, too
CARD = "04A1B2C3"
LETTER = b"%!PS-Adobe-3.0\n%%Pages: 1\n%%Page: 1 1\nshowpage\n%%EOF\n"


async def hand_in(house, title, printer="roam", body=LETTER, user="ada", **more):
    host, port = house.running.ports["clear"]
    async with Provider([f"{host}:{port}"], learns_endpoints=False) as provider:
        await provider.submit(body, printer=printer, title=title, user=user, **more)


async def submit(house, title, printer="roam", body=LETTER, **more):
    await hand_in(house, title, printer, body, **more)
    return await wait_job(house, title, "pending-held")


async def panel_of(house, name="panel") -> Panel:
    """The MFD of this name at this house, where somebody has logged in by card."""
    await wait_until(lambda: house.services.mfds.by_name(name))
    panel = Panel(Hall(house), house.services.mfds.by_name(name).guid, name)
    await panel.login(card=CARD)  # the MFD came to the copy behind the card
    return panel


async def furnish(start, folder, **settings):
    """hq with a find-me printer, and a site that owns `desk`, where an MFD stands; Ada's card."""
    hq = await start("hq", **PATIENT)
    site = await start("library", "site", **PATIENT | settings)
    await joined(hq, site)
    await give_away(hq, site, folder)
    await hq.ask("printer.add", name="roam", release="find-me")
    await hq.ask("user.add", name="ada")
    await hq.ask("user.add-card", name="ada", card=CARD)
    await hq.ask("device.enrol", name="panel", printers=["desk"])
    return hq, site


async def listed(panel) -> list[dict]:
    answer = await panel.at("jobs")
    assert answer["unheard"] == []
    return answer["jobs"]
