"""Printers that are asked what they can do, whose certificate is seen, and how they are."""

from __future__ import annotations

import ssl
import time
from uuid import uuid4

import pytest

from spoold.daemon import authority
from spoold.driver.ipp_trust import fingerprint_of
from spoold.net import tls
from spoold.simulate.ipp_printer import SimulatedIppPrinter
from support.asking import refused


@pytest.fixture
async def printer_on(nursery):
    async def switch_on(*faults, **options) -> SimulatedIppPrinter:
        printer = SimulatedIppPrinter(*faults, **options)
        await nursery.start(printer.run)
        return printer

    return switch_on


@pytest.fixture(scope="module")
def identity():
    """A printer's TLS context and the fingerprint of its certificate, for which nobody vouches."""

    def now_us() -> int:
        return time.time_ns() // 1000

    issuer = authority.Authority(*authority.make_ca(now_us), now_us)
    key, chain, _ = issuer.enrol_node(uuid4(), "printer", ["127.0.0.1"])
    leaf = chain.split(b"-----END")[0] + b"-----END CERTIFICATE-----\n"
    return tls.server_context(chain, key), fingerprint_of(ssl.PEM_cert_to_DER_cert(leaf.decode()))


async def test_a_new_printer_learns_what_its_device_can_do(desk, printer_on):
    """Abilities, formats, names and serial number; what was said stands before what was learned."""
    device = await printer_on()
    shown = await desk.ask(
        "printer.add",
        name="lobby",
        uri=device.uri,
        learn=True,
        info="By the door",
        offer={"media-default": "na_letter_8.5x11in"},
    )
    assert shown["formats"] == list(device.formats)
    assert shown["offer"]["sides-supported"] == ["one-sided", "two-sided-long-edge"]
    assert shown["offer"]["media-default"] == "na_letter_8.5x11in"
    assert (shown["info"], shown["location"]) == ("By the door", "In a test")
    assert shown["advice"] == ["It offers 15 attributes: `spoold printer show lobby`."]
    assert (await desk.ask("device.show", device="lobby"))["serial"] == "S1"


async def test_a_printer_learns_again_when_its_device_has_changed(desk, printer_on):
    """New firmware, new formats; nothing else of the printer changes."""
    device = await printer_on()
    await desk.ask("printer.add", name="lobby", uri=device.uri, info="By the door")
    assert (await desk.ask("printer.show", name="lobby"))["offer"] == {}
    device.formats = ("application/pdf",)
    shown = await desk.ask("printer.set", name="lobby", learn=True)
    assert shown["formats"] == ["application/pdf"]
    assert shown["offer"]["document-format-supported"] == ["application/pdf"]
    assert shown["info"] == "By the door"


async def test_a_printer_that_knows_only_pcl_comes_with_a_recipe(desk, printer_on):
    """Which converter clients without a driver will need, ready to be typed."""
    device = await printer_on(formats=("application/vnd.hp-PCL",))
    shown = await desk.ask("printer.add", name="old", uri=device.uri, learn=True)
    advice = shown["advice"][-1]
    assert "Clients without a driver send PDF" in advice
    assert (
        "spoold printer set old --convert 'application/pdf -> application/vnd.hp-pcl: gs" in advice
    )
    device = await printer_on(formats=("application/vnd.zebra-zpl",))
    shown = await desk.ask("printer.add", name="labels", uri=device.uri, learn=True)
    assert "no recipe" in shown["advice"][-1]


async def test_what_cannot_be_asked_cannot_be_learned_from(desk):
    """A raw port, a pool, a printer that is off: each is told."""
    raw = await refused(desk, "printer.add", name="p", uri="socket://127.0.0.1:9", learn=True)
    assert (raw.code, "--offer" in raw.advice) == ("bad-request", True)
    off = await refused(desk, "printer.add", name="p", uri="ipp://127.0.0.1:9", learn=True)
    assert (off.code, "without --learn" in off.advice) == ("not-possible", True)
    await desk.ask("printer.add", name="p", uri="ipp://127.0.0.1:9")
    pool = await refused(desk, "printer.add", name="pool", members=["p"], learn=True)
    assert pool.code == "bad-request"
    await desk.ask("printer.add", name="pool", members=["p"])
    assert (await refused(desk, "printer.set", name="pool", learn=True)).code == "bad-request"


async def test_the_certificate_of_a_printer_is_trusted_by_who_adds_it(desk, printer_on, identity):
    """Seen when the printer is added or moved, and written down; another is not trusted then."""
    context, fingerprint = identity
    device = await printer_on(context=context, is_tls=True)
    error = await refused(desk, "printer.add", name="safe", uri=device.uri)
    assert (error.code, fingerprint in error.message) == ("not-possible", True)
    assert "--option tls=pin" in error.advice
    shown = await desk.ask(
        "printer.add", name="safe", uri=device.uri, options={"tls": "pin"}, learn=True
    )
    assert shown["options"] == {"tls": "pin", "fingerprint": fingerprint}
    assert shown["advice"][0] == f"Its certificate is trusted from now on: {fingerprint}."
    assert shown["offer"]["color-supported"] is True
    other = "sha256:" + "0" * 64
    shown = await desk.ask("printer.set", name="safe", options={"fingerprint": other})
    assert shown["options"]["fingerprint"] == other
    shown = await desk.ask("printer.set", name="safe", options={"fingerprint": "", "tls": "pin"})
    assert shown["options"]["fingerprint"] == fingerprint


async def test_a_certificate_that_nobody_shows_cannot_be_pinned(desk, printer_on):
    """The printer is off, or speaks no TLS."""
    device = await printer_on()
    for uri in ("ipps://127.0.0.1:9", device.uri):
        error = await refused(desk, "printer.add", name="p", uri=uri, options={"tls": "pin"})
        assert (error.code, "fingerprint=HEX" in error.advice) == ("not-possible", True)


async def test_a_printer_that_is_off_can_be_added_all_the_same(desk):
    """Its certificate is checked with the first job."""
    assert (await desk.ask("printer.add", name="p", uri="ipps://127.0.0.1:9"))["advice"] == []


async def test_a_printer_is_shown_as_it_is_now(desk, printer_on, nursery):
    """Reasons, words and supplies of the device; and that it cannot be asked."""
    await nursery.start(desk.services.dispatcher.run)
    device = await printer_on("stopped")
    await desk.ask("printer.add", name="lobby", uri=device.uri)
    shown = await desk.ask("printer.show", name="lobby")
    assert (shown["reasons"], shown["message"]) == (["media-empty"], "Tray 1 is empty.")
    assert [one["name"] for one in shown["supplies"]] == ["Black", "Yellow"]
    said = await desk.ask("device.show", device="lobby")
    assert said["says"]["counters"] == {"impressions": 1000}
    device.set_faults()
    assert (await desk.ask("printer.show", name="lobby"))["reasons"] == []
    await desk.ask("printer.add", name="off", uri="ipp://127.0.0.1:9")
    assert "cannot be asked" in (await desk.ask("printer.show", name="off"))["advice"][-1]
