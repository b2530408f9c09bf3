"""What HTTP and TLS want of the `ipp` driver: logins, upgrades, lengths, and certificates."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from spoold.daemon import authority
from spoold.driver import link
from spoold.driver.ipp_trust import fingerprint_of
from spoold.model.outcome import Deferred, Delivered
from spoold.net import tls
from spoold.net.connect import TcpNetwork

from .conftest import new_device

PAGES = b"page\f"
LARGE = bytes(200_000)
OTHER = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """The printer's TLS context, the fingerprint of its certificate, and a file with its CA."""

    def now_us() -> int:
        return time.time_ns() // 1000

    issuer = authority.Authority(*authority.make_ca(now_us), now_us)
    key, chain, _ = issuer.enrol_node(uuid4(), "printer", ["127.0.0.1"])
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca_file.write_bytes(issuer.ca_pem)
    leaf = chain.split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n"
    der = tls.ssl.PEM_cert_to_DER_cert(leaf.decode())
    return tls.server_context(chain, key), fingerprint_of(der), str(ca_file)


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("open sesame\n")
    path.chmod(0o600)
    return path


async def test_a_certificate_is_believed_as_the_options_say(ipp_printer_on, attempt, identity):
    """By its CA, by its fingerprint, or blindly: the document arrives over TLS."""
    context, fingerprint, ca_file = identity
    async with ipp_printer_on(context=context, is_tls=True) as printer:
        for options in (
            {"ca_file": ca_file},
            {"tls": "pin", "fingerprint": fingerprint},
            {"tls": "pin", "fingerprint": fingerprint.upper().removeprefix("SHA256:")},
            {"tls": "none"},
        ):
            driver, job = attempt(printer.uri, PAGES, **options)
            assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert len(printer.engine.papers) == 4


async def test_a_large_document_goes_over_tls(ipp_printer_on, attempt, identity):
    """Byte for byte, from a file, and its progress is told."""
    context, _, ca_file = identity
    body = bytes(range(256)) * 8000
    async with ipp_printer_on(context=context, is_tls=True) as printer:
        driver, job = attempt(printer.uri, body, in_file=True, ca_file=ca_file)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert printer.engine.papers[0].data == body
    assert job.progress[-1].bytes_sent == len(body)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "unable to get local issuer certificate"),
        ({"tls": "pin", "fingerprint": OTHER}, "its certificate is another now: sha256:"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file cannot be used"),
    ],
)
async def test_a_certificate_that_is_not_believed_gets_nothing(
    ipp_printer_on, attempt, identity, options, words
):
    """The job waits, and the operator reads why and what to do."""
    async with ipp_printer_on(context=identity[0], is_tls=True) as printer:
        driver, job = attempt(printer.uri, PAGES, **options)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "device-not-trusted"
    assert words in outcome.detail
    assert "fingerprint=" in outcome.detail
    assert not printer.requests
    assert job.marks == 0


@pytest.mark.parametrize("is_tls", [True, False])
async def test_the_fingerprint_can_be_asked_for(ipp_printer_on, identity, is_tls):
    """Of a printer with TLS at once, and of one with TLS by upgrade."""
    context, fingerprint, _ = identity
    async with ipp_printer_on(context=context, is_tls=is_tls) as printer:
        driver = link.driver_for(new_device(printer.uri), TcpNetwork())
        assert await driver.fingerprint() == fingerprint
    with pytest.raises(OSError, match="refused"):
        await driver.fingerprint()


async def test_tls_by_upgrade_where_the_printer_wants_it(ipp_printer_on, attempt, identity):
    """426 on ipp:// becomes TLS on the same port (RFC 2817), checked as TLS always is."""
    context, fingerprint, _ = identity
    async with ipp_printer_on("upgrade", context=context) as printer:
        pin = {"tls": "pin", "fingerprint": fingerprint}
        driver, job = attempt(printer.uri, LARGE, in_file=True, **pin)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
        driver, job = attempt(printer.uri, PAGES)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "device-not-trusted"
    assert [paper.data for paper in printer.engine.papers] == [LARGE]


async def test_a_login_goes_over_tls(ipp_printer_on, attempt, identity, password_file):
    """The password comes from its file; it is sent only when it is asked for."""
    context, fingerprint, _ = identity
    pin = {"tls": "pin", "fingerprint": fingerprint}
    login = {"user": "ada", "password_file": str(password_file)}
    async with ipp_printer_on(
        login=("ada", "open sesame"), context=context, is_tls=True
    ) as printer:
        driver, job = attempt(printer.uri, LARGE, in_file=True, **pin, **login)
        assert isinstance(await driver.deliver(job.delivery), Delivered)
    assert printer.engine.papers[0].data == LARGE


async def test_a_login_in_the_clear_brings_tls_by_upgrade(
    ipp_printer_on, attempt, identity, password_file
):
    """401 on ipp:// is answered with TLS first, and with the password then."""
    context, fingerprint, _ = identity
    pin = {"tls": "pin", "fingerprint": fingerprint}
    login = {"user": "ada", "password_file": str(password_file)}
    async with ipp_printer_on(login=("ada", "open sesame"), context=context) as printer:
        driver, job = attempt(printer.uri, PAGES, **pin, **login)
        assert isinstance(await driver.deliver(job.delivery), Delivered)


async def test_a_password_is_sent_in_the_clear_only_where_that_is_wanted(
    ipp_printer_on, attempt, password_file
):
    """A printer without TLS gets no login, unless the device's options say so."""
    login = {"user": "ada", "password_file": str(password_file)}
    async with ipp_printer_on(login=("ada", "open sesame")) as printer:
        driver, job = attempt(printer.uri, PAGES, **login)
        outcome = await driver.deliver(job.delivery)
        assert isinstance(outcome, Deferred)
        assert "clear_password=on" in outcome.detail
        driver, job = attempt(printer.uri, PAGES, clear_password="on", **login)
        assert isinstance(await driver.deliver(job.delivery), Delivered)


async def test_a_password_file_that_others_can_read_is_not_used(
    ipp_printer_on, attempt, password_file
):
    """So with one that is missing or empty; each says what is wrong with it."""
    login = {"user": "ada", "password_file": str(password_file), "clear_password": "on"}
    async with ipp_printer_on(login=("ada", "open sesame")) as printer:
        for break_it, words in (
            (lambda: password_file.chmod(0o640), "can be read by others"),
            (lambda: (password_file.chmod(0o600), password_file.write_text("")), "is empty"),
            (password_file.unlink, "cannot be read"),
        ):
            break_it()
            driver, job = attempt(printer.uri, PAGES, **login)
            outcome = await driver.deliver(job.delivery)
            assert isinstance(outcome, Deferred)
            assert (outcome.reason, words in outcome.detail) == ("device-wants-login", True)


async def test_a_wrong_password_is_told(ipp_printer_on, attempt, password_file):
    """Not tried again and again within an attempt."""
    login = {"user": "ada", "password_file": str(password_file), "clear_password": "on"}
    async with ipp_printer_on(login=("ada", "another")) as printer:
        driver, job = attempt(printer.uri, PAGES, **login)
        outcome = await driver.deliver(job.delivery)
    assert isinstance(outcome, Deferred)
    assert "does not take the login of ada" in outcome.detail


@pytest.mark.parametrize("fault", ["no-chunks", "no-expect", "no-continue"])
async def test_a_printer_that_knows_less_of_http_gets_the_document_once(
    ipp_printer_on, attempt, fault
):
    """No chunks, no Expect, no 100 Continue: each is learned, and costs one try at most."""
    options = {"chunked": "on", "expect_wait_s": "0.05"}
    async with ipp_printer_on(fault) as printer:
        driver, job = attempt(printer.uri, LARGE, in_file=True, **options)
        for _ in range(2):
            assert isinstance(await driver.deliver(job.delivery), Delivered)
        assert printer.requests.count("Send-Document") == 2
    assert [paper.data for paper in printer.engine.papers] == [LARGE, LARGE]
