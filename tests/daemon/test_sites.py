"""Sites join an application server, are seen on both sides, and go on."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
import trio

from spoold.daemon import joining
from spoold.daemon.config import Advertise
from spoold.daemon.joining import Token
from spoold.model.errors import IdentityError, OperationError
from spoold.model.node import LineState
from spoold.net.address import Address
from spoold.provider.client import Provider
from spoold.release.news import Mode
from support.houses import joined
from support.joining import joining_table, kinds
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def test_a_site_joins_is_approved_and_seen_on_both_sides(start):
    """Invite, join, approve: the line is up without a restart, and both sides say so."""
    hq, site = await start("hq"), await start("library", "site")
    invited = await hq.ask("site.invite", name="library")
    assert [one["state"] for one in (await hq.ask("site.list"))["sites"]] == ["invited"]
    answer = await site.ask("site.enter", server=hq.address, token=invited["token"])
    assert answer["state"] == "pending"
    assert site.services.news.mode is Mode.ONLINE  # alone, but nothing is missing
    assert (await hq.ask("status"))["sites_pending"] == ["library"]
    [listed] = (await hq.ask("site.list"))["sites"]
    assert (listed["name"], listed["state"], listed["line"]) == ("library", "pending", "")
    await hq.ask("site.approve", name="library")
    await site.line.wait_up()
    shown = await site.ask("site.line")
    assert (shown["state"], shown["line"], shown["upstream"]) == ("joined", "up", "hq")
    assert abs(shown["clock_offset_ms"]) < 1000
    await wait_until(lambda: hq.services.sites.here())
    [listed] = (await hq.ask("site.list"))["sites"]
    assert (listed["state"], listed["line"], listed["peer"]) == ("approved", "up", "127.0.0.1")
    assert listed["guid"] == str(site.services.node_guid)
    assert "node-joined" in await kinds(hq)


async def test_status_says_how_the_line_is_on_both_sides(start):
    """The site names its upstream and clock, the application server the sites that are missing."""
    hq, site = await start("hq"), await start("library", "site")
    assert (await site.ask("status"))["line"]["state"] == "alone"
    await joined(hq, site)
    line = (await site.ask("status"))["line"]
    assert (line["line"], line["upstream"], line["server"]) == ("up", "hq", hq.address)
    assert line["not_after_us"] > hq.services.wall_clock()
    await wait_until(lambda: hq.services.sites.here())
    status = await hq.ask("status")
    assert (status["line"], status["sites"], status["sites_gone"]) == (None, 1, [])
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)
    status = await site.ask("status")
    assert status["line"]["line"] == "gone"
    assert status["line"]["reason"].startswith(hq.address)
    again = await start("hq")
    assert (await again.ask("status"))["sites_gone"] == ["library"]


async def test_records_of_a_site_say_how_far_its_clock_is_off(start):
    """As measured in hello; before it nothing is said."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await site.ask("printer.add", name="local", uri="file:///nowhere", options={})
    records = (await site.ask("journal.read", **{"from": 1, "limit": 50}))["records"]
    assert records[0]["clock_offset_us"] is None
    assert abs(records[-1]["clock_offset_us"]) < 1_000_000


async def test_a_print_provider_hears_how_the_site_serves(start):
    """At once, and when the line goes; with where else to go."""
    hq = await start("hq")
    site = await start("library", "site")
    await joined(hq, site)
    heard = []
    async with (
        Provider([f"unix:{site.running.control}"], kind="cli") as control,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(
            control.call, "node.follow", {}, lambda _, told: heard.append(told["mode"])
        )
        await wait_until(lambda: heard)
        assert heard[0] == "online"
        await hq.stop()
        await wait_until(lambda: heard[-1] == "offline")
        nursery.cancel_scope.cancel()


async def test_a_token_lets_one_node_in_once(start):
    """Whoever finds a used token, one that is too old, or a made-up one, gets nothing."""
    hq, site = await start("hq"), await start("library", "site")
    other = await start("other", "site")
    invited = await hq.ask("site.invite", name="library", is_approved=True)
    await site.ask("site.enter", server=hq.address, token=invited["token"])
    with pytest.raises(OperationError, match="used, too old, or of nobody"):
        await other.ask("site.enter", server=hq.address, token=invited["token"])
    made_up = Token(Token.parse(invited["token"]).fingerprint, bytes(16))
    with pytest.raises(OperationError, match="used, too old, or of nobody"):
        await other.ask("site.enter", server=hq.address, token=str(made_up))
    with pytest.raises(OperationError, match="no whole token"):
        await other.ask("site.enter", server=hq.address, token=invited["token"][:-5])
    assert len((await hq.ask("site.list"))["sites"]) == 1


async def test_an_old_invitation_counts_no_more(start):
    """A token that lies around is worth nothing after its time."""
    hq, site = await start("hq"), await start("library", "site")
    invited = await hq.ask("site.invite", name="library", is_approved=True, ttl_s=60)
    real = hq.services.wall_clock
    later = replace(hq.services, wall_clock=lambda: real() + 61_000_000)
    table = joining_table(later)
    key = joining.make_key()
    with pytest.raises(OperationError, match="too old"):
        await table(joining.make_request(uuid4(), key), invited["token"])
    assert site.line.state is LineState.JOINING


async def test_a_name_is_free_again_after_its_site_was_revoked(start):
    """A machine that is gone for good leaves its name to the next one."""
    hq, site = await start("hq"), await start("library", "site")
    other = await start("other", "site")
    await joined(hq, site)
    invited = await hq.ask("site.invite", name="library", is_approved=True)
    with pytest.raises(OperationError, match="another site library"):
        await other.ask("site.enter", server=hq.address, token=invited["token"])
    await hq.ask("printer.add", name="hall", uri="file:///nowhere", options={}, owner="library")
    gone = await hq.ask("site.revoke", name="library")
    assert (gone["had_joined"], gone["printers"]) == (True, ["hall"])
    with pytest.raises(OperationError, match="library was revoked"):
        await hq.ask("site.approve", name="library")
    await joined(hq, other)
    states = [one["state"] for one in (await hq.ask("site.list"))["sites"]]
    assert sorted(states) == ["approved", "revoked"]


async def test_a_name_means_the_site_that_has_it_now(start):
    """The one that had it before is called by its GUID; its printers wait until they go on."""
    hq, site = await start("hq"), await start("library", "site")
    other = await start("other", "site")
    await joined(hq, site)
    old = str(site.services.node_guid)
    for name in ("hall", "attic"):
        uri = f"file:///nowhere/{name}"
        await hq.ask("printer.add", name=name, uri=uri, options={}, owner="library")
    await hq.ask("site.revoke", name="library")
    await joined(hq, other)
    await hq.ask("printer.set", name="attic", owner="library")
    shown = await hq.ask("printer.show", name="attic")
    assert (shown["owner"], shown["advice"]) == ("library", [])
    shown = await hq.ask("printer.show", name="hall")
    assert shown["owner"] == old
    assert f"was revoked, and jobs wait for nobody: `spoold printer rehome --from-site {old}`" in (
        " ".join(shown["advice"])
    )
    found = await hq.ask("printer.rehome", from_site=old, to="library", dry_run=True)
    assert found["printers"] == ["hall"]
    shown = await hq.ask("site.show", name="library")
    assert shown["guid"] == str(other.services.node_guid)


async def test_both_sides_restart_and_find_each_other(start):
    """The line comes back by itself: the site keeps its key, the server knows it."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    guid = site.services.node_guid
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    again = await start("library", "site")
    await again.line.wait_up()
    assert again.services.node_guid == guid
    port = hq.running.ports["mutual"]
    await hq.stop()
    await wait_until(lambda: again.line.state is LineState.GONE)
    assert again.services.news.mode is Mode.OFFLINE
    back = await start("hq", listen={"mutual": (Address(*port),)})
    await again.line.wait_up()
    assert again.services.news.mode is Mode.ONLINE
    assert back.services.sites.here()
    told = [one for one in await kinds(again) if one == "line-changed"]
    assert len(told) >= 3


async def test_an_invitation_makes_nobody_another_site(start):
    """Whoever is invited as one site cannot become a known one; invited again it gets a new key."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    guid, ask = site.services.node_guid, joining_table(hq.services)
    request = joining.make_request(guid, joining.make_key())
    foreign = await hq.ask("site.invite", name="annex", is_approved=True)
    with pytest.raises(OperationError, match="this node is the site library"):
        await ask(request, foreign["token"])
    assert site.line.is_connected
    again = await hq.ask("site.invite", name="library", is_approved=True)
    assert (await ask(request, again["token"]))["state"] == "approved"
    await wait_until(lambda: not site.line.is_connected)  # the key before is out


async def test_a_disk_that_is_full_does_not_end_a_site(start, monkeypatch):
    """What it cannot write down of its upstream it does without."""
    hq = await start("hq", advertise=Advertise(endpoints=("hq.example.org:9195",)))
    site = await start("library", "site")
    await joined(hq, site)
    membership = site.services.membership
    assert "hq.example.org:9195" in membership.servers()

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spoold.daemon.membership.write_file", full)
    membership.learn(["hq-2.example.org:9195", "no address"])
    assert not await membership.renew(hq.address)
    assert site.line.state is LineState.UP


async def test_a_guid_can_be_given_to_a_new_node_and_to_no_other(start):
    """Who a node is is settled at its first start."""
    given = uuid4()
    node = await start("hq", guid=given)
    assert node.services.node_guid == given
    await node.stop()
    with pytest.raises(IdentityError, match="the configuration names"):
        await start("hq", guid=uuid4())


async def test_an_application_server_joins_nobody(start):
    """The role is in the configuration; the refusal says so."""
    hq = await start("hq")
    invited = await hq.ask("site.invite", name="library")
    with pytest.raises(OperationError, match="application server"):
        await hq.ask("site.enter", server=hq.address, token=invited["token"])


async def test_jobs_go_on_at_an_application_server_while_a_site_joins(start):
    """Sites come to a server that is in use, and nobody there notices."""
    hq = await start("hq")
    await hq.ask("user.add", name="ada", password="correct horse battery staple")
    host, port = hq.running.ports["clear"]
    async with Provider([f"{host}:{port}"]) as provider:
        before = await provider.submit(b"one\f", printer="default")
        site = await start("library", "site")
        await joined(hq, site)
        after = await provider.submit(b"two\f", printer="default")
    assert after.job_id == before.job_id + 1
    assert [one["name"] for one in (await hq.ask("user.list"))["users"]] == ["ada"]


async def test_what_a_site_is_told_comes_over_its_own_line(start):
    """The application server dials nobody: events come on the line that the site opened."""
    hq, site = await start("hq"), await start("library", "site")  # the site listens nowhere
    await joined(hq, site)
    assert set(site.running.ports) == set()
    heard = []
    site.line.hear("sync-now", heard.append)
    await wait_until(lambda: hq.services.sites.tell(site.services.node_guid, "sync-now", {"n": 1}))
    await wait_until(lambda: heard == [{"n": 1}])


async def test_a_silent_application_server_is_noticed(start, monkeypatch):
    """Its process stands still, and its kernel goes on acknowledging."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    from spoold.net.outbox import Outbox

    async def never(self):
        await trio.sleep_forever()

    told = []
    site.line.listen(lambda state: told.append((state, site.line.reason)))
    monkeypatch.setattr(Outbox, "flush", never)  # what servers send by
    await wait_until(lambda: told)
    state, reason = told[0]
    assert state is LineState.GONE
    assert "silent" in reason


async def test_an_upload_over_a_slow_line_is_no_silence(start, monkeypatch):
    """While all that the site sends waits in a queue, the server's own beats keep the line."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    connection = site.line._connection
    monkeypatch.setattr(type(connection._outbox), "is_empty", property(lambda self: False))
    heard = connection.heard

    async def busy():  # bytes, but nothing that is answered
        while True:
            connection._outbox.put_nowait(len(EVENT).to_bytes(4, "big") + EVENT)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(busy)
        await wait_until(lambda: connection.heard - heard >= 8)
        nursery.cancel_scope.cancel()
    assert connection is site.line._connection
    assert site.line.state is LineState.UP


EVENT = b"\x83\xa2id\x7f\xa5event\xa4none\xa4args\x80"


async def test_an_invitation_says_where_to_join(start):
    """By what is advertised, else by the first name and the port for client certificates."""
    hq = await start("hq", advertise=Advertise(("hq.example.org", "192.0.2.7")))
    invited = await hq.ask("site.invite", name="library")
    assert invited["endpoints"] == [f"hq.example.org:{hq.running.ports['mutual'][1]}"]
