"""Certificates, keys, names and doors between a site and its application server."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import trio

from spoold.codec.dnssd import host_name
from spoold.daemon import authority, joining, membership
from spoold.daemon.config import Advertise
from spoold.daemon.identity import PeerIdentity
from spoold.daemon.principals import GRACE_US, Principals
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.net.address import Address
from spoold.net.connect import TcpNetwork
from spoold.provider.client import Provider
from spoold.provider.connection import Connection
from spoold.provider.course import Lost, hello_arguments
from spoold.provider.endpoint import Tls
from spoold.provider.receipt import Unreachable
from spoold.release.news import Mode
from support.houses import ANYWHERE, joined
from support.joining import joining_table, kinds
from support.waiting import wait_until

pytestmark = pytest.mark.slow

DAY_US = 86_400_000_000


async def test_a_server_of_another_deployment_is_not_believed(start):
    """The token says whose CA is right: a false server learns nothing of the secret."""
    hq, false = await start("hq"), await start("false")
    site = await start("library", "site")
    invited = await hq.ask("site.invite", name="library", is_approved=True)
    with pytest.raises(OperationError, match="not the one that the token is for"):
        await site.ask("site.enter", server=false.address, token=invited["token"])
    assert "certificate-refused" not in await kinds(false)
    host, port = hq.running.ports["tls"]
    with pytest.raises(OperationError, match="no site joins at this port"):
        await site.ask("site.enter", server=f"{host}:{port}", token=invited["token"])
    answer = await site.ask("site.enter", server=hq.address, token=invited["token"])
    assert answer["state"] == "joined"


async def test_revoking_ends_the_line_at_once_and_for_ever(start):
    """Neither its certificate nor its key lets it in again."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await hq.ask("site.revoke", name="library")
    await wait_until(lambda: site.line.state is LineState.GONE)
    assert site.services.news.mode is Mode.OFFLINE
    # Until it tries again.
    await wait_until(lambda: kinds(hq), holds=lambda found: "certificate-refused" in found)
    assert not site.line.is_connected
    assert not hq.services.sites.here()
    [listed] = (await hq.ask("site.list"))["sites"]
    assert listed["state"] == "revoked"
    request = joining.make_request(site.services.node_guid, private_key(site.services.membership))
    with pytest.raises(OperationError, match="revoked"):
        await joining_table(hq.services)(request)


def private_key(membership):
    [key] = authority.private_keys(membership.member.key_pem.encode())
    return key


async def test_a_site_that_slept_too_long_comes_back_by_its_key(start, monkeypatch):
    """Its certificate is too old: it asks for another one at the door, without a token."""
    monkeypatch.setattr(authority, "SITE_DAYS", 2 / 86_400)
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await site.stop()
    ends_us = site.services.membership.not_after_us
    await wait_until(lambda: hq.services.wall_clock() > ends_us)
    again = await start("library", "site")
    before = again.services.membership.member.certificate_pem
    assert again.services.membership.not_after_us < hq.services.wall_clock()
    await again.line.wait_up()
    assert again.services.membership.member.certificate_pem != before
    assert "certificate-refused" in await kinds(hq)  # the old one was shown first


async def test_a_site_whose_certificate_was_made_by_a_clock_that_was_ahead_comes_back(start):
    """Once that is set right the certificate does not count yet: the site gets another one."""
    hq, site = await start("hq"), await start("library", "site")
    ca = hq.services.identity
    right, ca._clock = ca._clock, lambda: right() + 30 * DAY_US
    invited = await hq.ask("site.invite", name="library", is_approved=True)
    await site.ask("site.enter", server=hq.address, token=invited["token"])
    ahead = site.services.membership.member.certificate_pem
    ca._clock = right
    await site.line.wait_up()
    assert site.services.membership.member.certificate_pem != ahead
    assert "certificate-refused" in await kinds(hq)  # the other one was shown first


async def test_times_in_certificates_do_not_end_the_line(start, monkeypatch):
    """A site whose clock is years ahead takes every certificate for too old, and still joins."""
    monkeypatch.setattr(authority, "NODE_DAYS", 1 / 86_400)
    hq, site = await start("hq"), await start("library", "site")
    await trio.sleep(1.5)  # the server's certificate has ended, as such a clock would see it
    await joined(hq, site)
    assert site.line.state is LineState.UP


async def test_a_certificate_is_renewed_before_its_end(start, monkeypatch):
    """Nobody has to think of it: two thirds of its life, and there is another one."""
    hq, site = await start("hq"), await start("library", "site")
    monkeypatch.setattr(authority, "SITE_DAYS", 1 / 24)  # backdated by an hour: half over
    await joined(hq, site)
    membership = site.services.membership
    before = membership.member.certificate_pem
    later = membership._wall_clock() + 1500 * 1_000_000
    monkeypatch.setattr(membership, "_wall_clock", lambda: later)
    monkeypatch.setattr(authority, "SITE_DAYS", 90)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(membership.run)
        await wait_until(lambda: membership.member.certificate_pem != before)
        nursery.cancel_scope.cancel()
    assert site.line.state is LineState.UP


async def test_asking_often_makes_few_certificates(start):
    """Who has a key can make the CA sign next to nothing: the same, unless names change."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    ask = joining_table(hq.services)
    membership = site.services.membership
    names = joining.names_in(membership.member.server_pem)
    request = joining.make_request(site.services.node_guid, private_key(membership), names)
    answers = [await ask(request) for _ in range(5)]
    assert len({one["certificate_pem"] for one in answers}) == 1
    assert len([one for one in await kinds(hq) if one == "node-certified"]) == 1
    request = joining.make_request(
        site.services.node_guid, private_key(membership), [*names, "new.example.org"]
    )
    assert "new.example.org" in joining.names_in((await ask(request))["server_pem"])


async def test_a_site_gets_its_name_when_another_one_has_it_no_more(start, monkeypatch):
    """As when a machine is replaced: the new one has joined before the old one was revoked."""
    monkeypatch.setattr(membership, "NAMES_AGAIN_S", 0.05)
    monkeypatch.setattr(membership, "RENEW_AGAIN_S", 0.05)
    name = "print.example.org"
    hq, old, new = [
        await start(house, role, advertise=Advertise(names=(name,) if role == "site" else ()))
        for house, role in (("hq", "application"), ("old", "site"), ("new", "site"))
    ]
    await joined(hq, old, "old")
    await joined(hq, new, "new")

    def names() -> list[str]:
        return joining.names_in(new.services.membership.member.server_pem)

    assert name in joining.names_in(old.services.membership.member.server_pem)
    assert name not in names()
    await hq.ask("site.revoke", name="old")
    await wait_until(lambda: name in names())


async def test_a_key_that_is_not_known_gets_nothing(start):
    """Another key under the GUID of a site is somebody else."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    with pytest.raises(OperationError) as caught:
        await joining_table(hq.services)(
            joining.make_request(site.services.node_guid, joining.make_key())
        )
    assert caught.value.code == "unauthorized"


async def test_the_door_without_a_certificate_opens_nothing_else(start):
    """Who names the door of those who join can ask for a certificate, and for nothing more."""
    hq = await start("hq")
    async with joining.open_door(
        TcpNetwork(), hq.address, "x", ca_pem=hq.services.identity.ca_pem.decode()
    ) as (connection, _):
        for op in ("status", "site.hello", "job.list", "site.list", "printer.list"):
            with pytest.raises(OperationError) as caught:
                await connection.call(op, {})
            assert caught.value.code in ("forbidden", "bad-request"), op
        with pytest.raises(OperationError) as caught:
            await connection.call("submit", {"job_uuid": str(uuid4()), "printer": "default"})
        assert caught.value.code == "forbidden"


async def test_without_that_name_a_certificate_is_asked_for(start):
    """The door stands beside the port, not in its place."""
    hq = await start("hq")
    host, port = hq.running.ports["mutual"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stream = await TcpNetwork().connect_tls(host, port, context, timeout_s=30)
    connection = Connection(stream, answer_timeout_s=30)
    with pytest.raises(Lost) as caught:
        await connection.run(hello_arguments("node", "x", "x", 15.0))
    assert caught.value.is_distrusted


async def test_a_site_cannot_pass_for_its_application_server(start):
    """With what a site got it can serve its own clients, and no other site believes it."""
    hq, site = await start("hq"), await start("library", "site", listen={"mutual": ANYWHERE})
    other = await start("annex", "site")
    await joined(hq, site)
    ca_pem = hq.services.identity.ca_pem.decode()
    for pem in ("certificate_pem", "server_pem"):
        der = ssl.PEM_cert_to_DER_cert(getattr(site.services.membership.member, pem))
        with pytest.raises(Lost, match=r"not believed"):
            joining.check_upstream(der, ca_pem)
    invited = await hq.ask("site.invite", name="annex", is_approved=True)
    with pytest.raises(OperationError, match="not the one that the token is for"):
        await other.ask("site.enter", server=site.address, token=invited["token"])


async def test_a_site_serves_those_who_trust_its_deployment(start, tmp_path):
    """Who was enrolled at the application server goes to the site with the same certificates."""
    hq = await start("hq")
    site = await start("library", "site", listen={"mutual": ANYWHERE, "tls": ANYWHERE})
    enrolled = await hq.ask("provider.enrol", name="till", may_assert=["*"])
    files = {}
    for name in ("key_pem", "certificate_pem", "ca_pem"):
        files[name] = tmp_path / name
        files[name].write_text(enrolled[name])
    tls = Tls(files["ca_pem"], files["certificate_pem"], files["key_pem"])
    host, port = site.running.ports["tls"]
    with pytest.raises(ssl.SSLCertVerificationError):
        await TcpNetwork().connect_tls(host, port, tls.context(), timeout_s=30)
    await joined(hq, site)
    printed = (tmp_path / "printed").as_uri()
    await site.ask("printer.add", name="local", uri=printed)
    stream = await TcpNetwork().connect_tls(host, port, tls.context(), timeout_s=30)
    stream.abort()
    shown = (await hq.ask("site.show", name="library"))["serves_as"]
    assert "127.0.0.1" in shown
    assert (await site.ask("node.ca"))["fingerprint"] == (await hq.ask("node.ca"))["fingerprint"]
    async with Provider([site.address], tls=tls) as provider:
        await wait_for_answer(provider)
        await hq.stop()
        receipt = await provider.submit(b"alone\f", printer="local")
    assert receipt.node_guid == str(site.services.node_guid)


async def test_certificates_that_end_in_an_outage_have_a_grace(start):
    """While the line is gone nobody can renew them; when it is back, it is time to."""
    hq = await start("hq")
    port = hq.running.ports["mutual"]
    site = await start("library", "site", listen={"mutual": ANYWHERE})
    enrolled = await hq.ask("provider.enrol", name="till", may_assert=["*"])
    await joined(hq, site)
    over_us = site.services.wall_clock() - 1
    ended = PeerIdentity("provider", UUID(enrolled["guid"]), "till", enrolled["serial"], over_us)
    judge = Principals(site.services, None, None, lambda *_: None, lambda *_: None)._is_in_time
    assert not judge(ended)
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)
    assert judge(ended)
    assert not judge(replace(ended, not_after_us=ended.not_after_us - GRACE_US))
    await start("hq", listen={"mutual": (Address(*port),)})
    await site.line.wait_up()
    assert not judge(ended)


async def wait_for_answer(provider):
    """The site knows the provider as soon as its copy does."""
    with trio.fail_after(30):
        while True:
            with contextlib.suppress(Unreachable):
                return await provider.call("status", {})
            await trio.sleep(0.2)


async def test_a_site_gets_no_name_that_is_anothers(start):
    """Whoever invites a site does not hand out the names of the application server with it."""
    hq = await start("hq", advertise=Advertise(("hq.example.org",), ("hq-2.example.org:9195",)))
    wanted = ("hq.example.org", "HQ-2.example.org", "library.example.org")
    site = await start("library", "site", advertise=Advertise(wanted))
    await joined(hq, site)
    shown = (await hq.ask("site.show", name="library"))["serves_as"]
    assert "library.example.org" in shown
    assert not [one for one in shown if one.lower().startswith("hq")]
    other = await start("annex", "site", advertise=Advertise(("library.example.org",)))
    await joined(hq, other, "annex")
    assert "library.example.org" not in (await hq.ask("site.show", name="annex"))["serves_as"]


async def test_a_site_does_not_get_the_name_of_its_application_server_on_the_link(start):
    """Which nobody has advertised: it is in the certificate all the same."""
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    membership, guid = site.services.membership, site.services.node_guid
    names = joining.names_in(membership.member.server_pem)
    wanted = [*names, host_name("hq", hq.services.node_guid), "new.example.org"]
    answer = await joining_table(hq.services)(
        joining.make_request(guid, private_key(membership), wanted)
    )
    assert set(joining.names_in(answer["server_pem"])) == {*names, "new.example.org"}
