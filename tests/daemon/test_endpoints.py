"""Where clients are told to go: by configuration, by what sites say, and as that changes."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from spoold.daemon.config import Advertise, AdvertiseTo, Config
from spoold.daemon.endpoints import Endpoints
from spoold.model.node import Node, NodeState
from spoold.provider.client import Provider
from spoold.provider.endpoint import Tls
from spoold.spool.store import NodeChanged
from support.houses import joined
from support.waiting import wait_until

LIBRARY, ANNEX = (
    Advertise(endpoints=(), to=(AdvertiseTo(networks=(ip_network(net),), endpoints=(name,)),))
    for net, name in (("10.1.0.0/16", "library:9192"), ("10.2.0.0/16", "annex:9192"))
)
ANYWHERE = Advertise(endpoints=("spare:9192",))


def node(name: str, state=NodeState.APPROVED) -> Node:
    from uuid import NAMESPACE_DNS, uuid5

    return Node(uuid5(NAMESPACE_DNS, name), name, state, b"", 0, 0)


def endpoints_of(found: Advertise) -> Endpoints:
    return Endpoints(lambda: Config(advertise=found), lambda _: None)


async def told_by(found: Advertise) -> dict:
    return {"more": await endpoints_of(found).own()}


async def test_own_endpoints_come_first_then_the_sites_of_the_clients_network():
    """A provider in the library hears of the library's server, one in the annex of the annex's."""
    endpoints = endpoints_of(Advertise(endpoints=("hq-1:9192", "hq-2:9192")))
    for name, found in (("annex", ANNEX), ("library", LIBRARY), ("spare", ANYWHERE)):
        assert await endpoints.greet(node(name), await told_by(found)) == {}
    own = ["hq-1:9192", "hq-2:9192"]
    assert endpoints.told_to("10.1.7.7") == [*own, "library:9192", "spare:9192"]
    assert endpoints.told_to("10.2.7.7") == [*own, "annex:9192", "spare:9192"]
    assert endpoints.told_to("192.0.2.1") == [*own, "spare:9192"]
    revoked = NodeChanged(node("spare", NodeState.REVOKED), ("1",))
    endpoints.hear([revoked])
    assert endpoints.told_to("192.0.2.1") == own


@pytest.mark.parametrize(
    "told",
    [
        {"endpoints": ["0.0.0.0:1"], "to": []},
        {"endpoints": [7], "to": []},
        {"endpoints": "x"},
        {"endpoints": [], "to": [{"networks": ["10.0.0.0/8"]}]},
        {"endpoints": [], "to": [{"networks": ["nowhere"], "endpoints": []}]},
        7,
    ],
)
async def test_what_a_site_says_and_makes_no_sense_is_left_out(told):
    """A site with another configuration, or a hostile one, changes nothing for clients."""
    endpoints = endpoints_of(Advertise(endpoints=("hq:9192",)))
    await endpoints.greet(node("library"), {"more": {"advertise": told}})
    assert endpoints.told_to("10.1.7.7") == ["hq:9192"]


@pytest.mark.slow
async def test_a_provider_that_is_connected_hears_of_a_site_that_comes(start, tmp_path):
    """Who is connected when a site joins knows where to go when the application server dies; a
    site that is revoked is asked no more.
    """
    hq = await start("hq")
    given = await hq.ask("provider.enrol", name="till", may_assert=["*"])
    file, ca = tmp_path / "till.pem", tmp_path / "ca.pem"
    file.write_text(given["key_pem"] + given["certificate_pem"])
    ca.write_text(given["ca_pem"])
    endpoint = hq.address.replace("127.0.0.1", "localhost")
    async with Provider([endpoint], tls=Tls(ca, file)) as provider:
        await provider.submit(b"%!PS\n", printer="default", user="ada")
        assert provider.endpoints == [endpoint]
        site = await start("library", "site", advertise=Advertise(endpoints=("localhost:9",)))
        await joined(hq, site)
        await wait_until(lambda: len(provider.endpoints) == 2)
        assert provider.endpoints == [endpoint, "localhost:9"]
        await hq.ask("site.revoke", name="library")
        await wait_until(lambda: provider.endpoints == [endpoint])


@pytest.mark.slow
async def test_a_site_that_is_away_is_named_by_an_application_server_that_has_restarted(start):
    """That is when it is wanted; once it is revoked it is named no more, not after a restart."""
    hq = await start("hq")
    site = await start("library", "site", advertise=LIBRARY)
    await joined(hq, site)

    def named() -> list[str]:
        return hq.services.endpoints.told_to("10.1.7.7")

    await wait_until(lambda: named() == ["library:9192"])
    await site.stop()
    await hq.stop()
    hq = await start("hq")
    assert named() == ["library:9192"]
    assert hq.services.endpoints.told_to("10.2.7.7") == []
    await hq.ask("site.revoke", name="library")
    await wait_until(lambda: named() == [])
    await hq.stop()
    hq = await start("hq")
    assert named() == []
