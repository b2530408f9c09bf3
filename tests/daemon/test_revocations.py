"""People and cards that count no more, with whole daemons: at a site's machines, and what a site
that is cut off does not know."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.net.address import Address
from spoold.simulate.cable import Cable
from spoold.simulate.mfd import Mfd
from support.houses import ANYWHERE, House, joined
from support.waiting import wait_until

pytestmark = pytest.mark.slow

ADA, BOB, EVE = "04A1B2C3", "04A1B2C4", "04A1B2C5"


class Trust:
    """What an MFD believes: the CA of its deployment, whatever the address."""

    def __init__(self, pem: str) -> None:
        self.pem = pem

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.pem)
        context.check_hostname = False
        return context


@asynccontextmanager
async def panel(hq: House, house: House, token: str):
    """A machine at a node."""
    pem = (await hq.ask("node.ca"))["pem"]
    host, port = house.running.ports["tls"]
    async with Mfd([f"{host}:{port}"], Trust(pem), token=token).opened() as mfd:
        yield mfd


@asynccontextmanager
async def followed(mfd: Mfd):
    """Whoever is logged in at a machine hears within this that the session is over: `[reason]`."""
    heard: list[str] = []
    begun = trio.Event()

    async def follow() -> None:
        heard.append(await mfd.follow(lambda name, args: begun.set()))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await begun.wait()
            yield heard


async def furnish(hq: House) -> str:
    """Three people with a card each, and the token of a machine."""
    for name, card in (("ada", ADA), ("bob", BOB), ("eve", EVE)):
        await hq.ask("user.add", name=name)
        await hq.ask("user.add-card", name=name, card=card)
    made = await hq.ask("device.enrol", name="panel", credential="token", printers=["default"])
    return made["token"]


async def exposure(hq: House) -> list[tuple[str, str]]:
    shown = await hq.ask("site.show", name="library")
    assert shown.get("not_told", 0) == len(shown.get("untold", ()))
    return [(one["name"], one["what"]) for one in shown.get("untold", ())]


@pytest.mark.parametrize("where", ["hq", "site"])
async def test_whoever_loses_a_card_or_is_disabled_is_logged_out(start, where):
    """At the node itself and at a site's machine, while they stand there."""
    hq, site = await start("hq"), await start("library", "site", listen={"tls": ANYWHERE})
    token = await furnish(hq)
    await joined(hq, site)
    await wait_until(lambda: site.services.replica.current_us)
    house = {"hq": hq, "site": site}[where]
    revocations = (
        (ADA, "user.remove-card", {"name": "ada", "card": ADA}),
        (BOB, "user.set", {"name": "bob", "disabled": True}),
        (EVE, "user.remove", {"name": "eve"}),
    )
    async with panel(hq, house, token) as mfd:
        for card, op, args in revocations:
            await mfd.login(card=card)
            async with followed(mfd) as heard:
                await hq.ask(op, **args)
            assert heard == ["user-changed"]
            with pytest.raises(OperationError, match=r"wrong|nobody|not known|disabled"):
                await mfd.login(card=card)
    assert await exposure(hq) == []


async def test_what_a_site_that_is_cut_off_does_not_know_is_shown(start, nursery):
    """Until it is back, also after a restart of the application server; then it holds there."""
    hq, site = await start("hq"), await start("library", "site", listen={"tls": ANYWHERE})
    token = await furnish(hq)
    cable = Cable()
    await nursery.start(cable.run, hq.running.ports["mutual"][1])
    invited = await hq.ask("site.invite", name="library", is_approved=True)
    await site.ask("site.enter", server=f"127.0.0.1:{cable.port}", token=invited["token"])
    await site.line.wait_up()
    await wait_until(lambda: site.services.replica.current_us)
    await hq.ask("user.pin", name="eve", generate=True)  # gives, and takes nothing
    async with panel(hq, site, token) as mfd:
        await mfd.login(card=ADA)
        cable.cut()
        guid = site.services.node_guid
        await wait_until(lambda: not hq.services.sites.is_up(guid))
        assert await exposure(hq) == []
        await hq.ask("user.remove-card", name="ada", card=ADA)
        await hq.ask("user.set", name="bob", disabled=True)
        await hq.ask("user.set", name="eve", full_name="Eve")
        assert await exposure(hq) == [("bob", "user-changed"), ("ada", "card-removed")]
        assert (await hq.ask("status"))["sites_exposed"] == {"library": 2}
        assert (await mfd.resume())["user"] == "ada"  # nobody has told the site
        port = hq.running.ports["mutual"]
        await hq.stop()
        hq = await start("hq", listen={"mutual": (Address(*port),)})
        assert await exposure(hq) == [("bob", "user-changed"), ("ada", "card-removed")]
        async with followed(mfd) as heard:
            cable.mend()
        assert heard == ["user-changed"]
        with pytest.raises(OperationError):
            await mfd.login(card=ADA)
        with pytest.raises(OperationError):
            await mfd.login(card=BOB)
        await mfd.login(card=EVE)
    await wait_until(lambda: hq.services.sites.is_up(guid))
    assert await exposure(hq) == []
    assert (await hq.ask("status"))["sites_exposed"] == {}
