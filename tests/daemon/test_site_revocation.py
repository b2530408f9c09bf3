"""Whoever is revoked at the application server is refused at the sites, too; whole daemons.

TLS at a site has no list of what the deployment's CA has revoked: the copy brings the serials.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from spoold.daemon import joining
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.net.connect import TcpNetwork
from spoold.net.context import client_context
from spoold.provider.connection import Connection
from spoold.provider.course import Lost, hello_arguments
from support.houses import ANYWHERE, joined
from support.waiting import wait_until

pytestmark = pytest.mark.slow

SOON_S = 10.0  # from the revocation to the end of what was open; under 1 s where nothing else runs


@pytest.fixture
async def pair(start):
    """hq, and a site that serves others on 9195."""
    hq, site = await start("hq"), await start("library", "site", listen={"mutual": ANYWHERE})
    await hq.ask("user.add", name="ada", roles=["operator"])
    await hq.ask("user.add-card", name="ada", card="04A1B2C3")
    await joined(hq, site)
    return hq, site


KINDS = {
    "provider": ("provider.enrol", {"name": "till"}, "provider.revoke", {"name": "till"}),
    "mfd": (
        "device.enrol",
        {"name": "panel", "credential": "certificate", "printers": ["default"]},
        "device.revoke",
        {"name": "panel"},
    ),
    "cli": ("user.enrol", {"name": "ada"}, "user.revoke", {"name": "ada"}),
}


class Somebody:
    """Who comes to a site with a certificate of hq."""

    def __init__(self, house, enrolled, kind):
        self.house = house
        self.hello = hello_arguments(kind, "", "test", 15.0)
        self.context = client_context(
            ca_pem=enrolled["ca_pem"].encode(),
            chain_pem=enrolled["certificate_pem"].encode(),
            key_pem=enrolled["key_pem"].encode(),
        )

    @asynccontextmanager
    async def connected(self):
        """Raises Lost: it is refused."""
        host, port = self.house.running.ports["mutual"]
        try:
            stream = await TcpNetwork().connect_tls(host, port, self.context, timeout_s=30)
        except OSError as error:
            raise Lost(str(error)) from error
        connection = Connection(stream, answer_timeout_s=10)
        raised = None

        async def run(task_status=trio.TASK_STATUS_IGNORED):
            nonlocal raised
            try:
                await connection.run(self.hello, task_status)
            except Lost as error:
                raised = error

        async with trio.open_nursery() as nursery:
            with suppress(RuntimeError):  # it ended before it was open
                await nursery.start(run)
            if raised is None:
                yield connection
            nursery.cancel_scope.cancel()
        connection.abort()
        if raised is not None:
            raise raised

    async def comes_in(self):
        try:
            async with self.connected():
                return True
        except Lost:
            return False

    async def until(self, is_in):
        await wait_until(self.comes_in, holds=lambda found: found is is_in)


async def is_refused(panel, op, args):
    try:
        await panel.call(op, args)
    except OperationError:
        return True
    return False


async def enrolled(hq, site, kind):
    enrol, args, _, _ = KINDS[kind]
    somebody = Somebody(site, await hq.ask(enrol, **args), kind)
    await somebody.until(is_in=True)
    return somebody


async def cut(site):
    """The line of a site ends, and does not come back before its servers do; how to undo that."""
    membership = site.services.membership
    membership.servers, servers = tuple, membership.servers
    site.line._connection.abort()
    await wait_until(lambda: site.line.state is LineState.GONE)

    async def undo():
        membership.servers = servers
        await site.line.wait_up()

    return undo


@pytest.mark.parametrize("kind", KINDS)
async def test_who_is_revoked_upstream_is_out_at_a_site_at_once(pair, kind):
    """What it had open there ends, and nothing opens again."""
    hq, site = pair
    somebody = await enrolled(hq, site, kind)
    _, _, revoke, args = KINDS[kind]
    async with somebody.connected() as connection:
        began = trio.current_time()
        await hq.ask(revoke, **args)
        await wait_until(lambda: not connection.is_open)
        assert trio.current_time() - began < SOON_S
    assert not await somebody.comes_in()


@pytest.mark.parametrize("kind", KINDS)
async def test_who_is_revoked_while_a_site_is_cut_off_is_out_when_its_line_is_back(pair, kind):
    """Cut off a site cannot know it, and goes on; with the line the word comes, and stays."""
    hq, site = pair
    somebody = await enrolled(hq, site, kind)
    _, _, revoke, args = KINDS[kind]
    undo = await cut(site)
    async with somebody.connected() as connection:
        await hq.ask(revoke, **args)
        assert await somebody.comes_in()
        assert connection.is_open
        await undo()
        await wait_until(lambda: not connection.is_open)
    assert not await somebody.comes_in()
    await cut(site)
    assert not await somebody.comes_in()


async def test_what_was_revoked_stays_out_after_a_restart_without_a_line(start, pair):
    """The serials stand in the copy."""
    hq, site = pair
    somebody = await enrolled(hq, site, "provider")
    await hq.ask("provider.revoke", name="till")
    await somebody.until(is_in=False)
    await hq.stop()
    await site.stop()
    again = await start("library", "site", listen={"mutual": ANYWHERE})
    somebody.house = again
    assert not await somebody.comes_in()


async def test_a_session_at_a_site_ends_with_the_rights_of_its_person(pair):
    """Who is disabled at hq is logged out at the MFDs of its sites, and comes in there no more."""
    hq, site = pair
    mfd = await enrolled(hq, site, "mfd")
    async with mfd.connected() as panel:
        session = (await panel.call("mfd.login", {"card": "04A1B2C3"}))["session"]
        assert (await panel.call("mfd.resume", {"session": session}))["user"] == "ada"
        began = trio.current_time()
        await hq.ask("user.set", name="ada", disabled=True)
        await wait_until(partial(is_refused, panel, "mfd.resume", {"session": session}))
        assert trio.current_time() - began < SOON_S
        assert await is_refused(panel, "mfd.login", {"card": "04A1B2C3"})
        assert panel.is_open


async def test_a_revoked_site_is_cut_off_and_stays_out(start, pair):
    """Its open line ends; no other try, nor its key, nor a restart or a token bring it back."""
    hq, site = pair
    connection = site.line._connection
    await hq.ask("site.revoke", name="library")
    await wait_until(lambda: not connection.is_open)
    await wait_until(lambda: site.line.state is LineState.GONE and not hq.services.sites.here())
    with pytest.raises(Lost):
        await site.line.call("site.stand", {}, 5)
    assert not await site.services.membership.renew(hq.address)
    await site.stop()
    again = await start("library", "site")
    server = again.services.membership.servers()[0]
    for _ in range(3):  # as often as it likes
        await again.line._attend(server)
        assert not again.line.is_connected
    assert not hq.services.sites.here()
    [listed] = (await hq.ask("site.list"))["sites"]
    assert listed["state"] == "revoked"
    with pytest.raises(OperationError, match=r"joined already.*restored to before"):
        await again.ask("site.enter", server=hq.address, token=await token(hq))


async def token(hq):
    return (await hq.ask("site.invite", name="annex", is_approved=True))["token"]


async def test_a_revoked_site_cannot_come_back_by_a_token_for_another(pair):
    """Its GUID is out for ever: an invitation of another name does not wash it clean."""
    hq, site = pair
    await hq.ask("site.revoke", name="library")
    await wait_until(lambda: not site.line.is_connected)
    membership = site.services.membership
    async with joining.open_door(
        TcpNetwork(), hq.address, "x", ca_pem=membership.member.ca_pem
    ) as (connection, _):
        key = joining.make_key()
        request = joining.make_request(site.services.node_guid, key)
        with pytest.raises(OperationError) as caught:
            await connection.call("site.join", {"request": request, "token": await token(hq)})
    assert caught.value.code in ("forbidden", "conflict")
