"""CUPS's own suites of IPP, run by ipptool against the running daemon: nothing fails.

What is skipped, and what is known to fail, stands in `ipptool-expected.toml` with the reasons, and
is compared exactly: a test that passes from now on must be taken out there.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import tomllib
from pathlib import Path

import pytest

from support.ipptool import make_samples, run_suite
from support.process import config_with

pytestmark = pytest.mark.slow

CONFIG = config_with("tls")
PASSWORD = "correct horse 7"
OFFER = {
    "document-format-supported": [
        "application/pdf", "application/postscript", "image/jpeg", "image/pwg-raster",
    ],
    "media-default": "na_letter_8.5x11in",
    "media-supported": ["na_letter_8.5x11in", "iso_a4_210x297mm", "na_index-4x6_4x6in"],
    "number-up-supported": [1, 2],
    "overrides-supported": ["document-number", "document-numbers", "pages"],
    "page-ranges-supported": True,
    "print-quality-supported": [3, 4, 5],
    "printer-resolution-supported": ["300x300dpi", "600x600dpi"],
    "pwg-raster-document-resolution-supported": [
        f"{dpi}x{dpi}dpi" for dpi in (150, 180, 300, 360, 600, 720)
    ],
    "pwg-raster-document-type-supported": ["black_1", "cmyk_8", "sgray_8", "srgb_8", "srgb_16"],
    "sides-supported": ["one-sided", "two-sided-long-edge", "two-sided-short-edge"],
}  # fmt: skip
EXPECTED = tomllib.loads((Path(__file__).parent / "ipptool-expected.toml").read_text())
SUITES = sorted(EXPECTED)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("ipptool"))


@pytest.fixture(scope="module")
def operator(daemon, folder):
    """A user who may steer printers."""
    daemon.call("user.add", name="op", roles=["operator"], password=PASSWORD)
    return f"op:{PASSWORD.replace(' ', '%20')}"


@pytest.fixture
def uri(daemon, operator, request):
    """A printer of its own for each test, with credentials for what needs them."""
    name = request.node.name.translate(str.maketrans("[].", "---")).strip("-")
    daemon.call("printer.add", name=name, uri=f"file:{daemon.control.parent}/printed", offer=OFFER)
    return f"ipp://{operator}@127.0.0.1:{daemon.port}/printers/{name}"


@pytest.fixture
def target(daemon, samples, uri, request):
    """The URI that a suite is run with: the printer's, or that of a job that waits on it."""
    kind = EXPECTED[request.node.callspec.params["suite"]].get("job")
    if kind is None:
        return uri
    name = uri.rpartition("/")[2]
    daemon.call("printer.pause", name=name)
    assert not run_suite(samples, uri, "print-job.test", "-f", "document-a4.pdf").failed
    (job,) = daemon.call("job.list", printer=name)["jobs"]
    return uri if kind == "held" else uri.replace(f"printers/{name}", f"jobs/{job['id']}")


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_passes(samples, target, suite):
    """No test fails that is not known to; what is skipped is skipped for a reason that is known."""
    expected = EXPECTED[suite]
    report = run_suite(samples, target, f"{suite}.test", "-f", "document-letter.pdf")
    skips = expected.get("skip", {}) | EXPECTED.get(expected.get("like"), {}).get("skip", {})
    assert set(report.failed) == set(expected.get("fail", {})), report.output[-6000:]
    assert set(report.skipped) - set(report.passed) == set(skips)
    assert report.passed or expected.get("fail"), report.output[-2000:]


@pytest.mark.parametrize("option", ["-C", "-L", "-E", "-S", "-h"])
def test_a_job_comes_in_every_way_of_http(samples, daemon, uri, option):
    """In chunks or with a length, after the switch to TLS, over TLS from the start."""
    if option == "-S":
        tls = daemon.ports["tls"].rpartition(":")[2]
        uri = uri.replace(f":{daemon.port}/", f":{tls}/")
    report = run_suite(samples, uri, "print-job.test", option, "-f", "document-a4.pdf")
    assert report.failed == [], report.output
    assert report.passed


def test_an_operation_that_needs_a_login_is_refused_without_one(samples, daemon, uri):
    """ipptool without a password is asked for one, over TLS alone, and the printer prints on."""
    name = uri.rpartition("/")[2]
    bare = f"ipp://127.0.0.1:{daemon.port}/printers/{name}"
    test = samples / "pause.test"
    test.write_text(
        '{ NAME "Pause" OPERATION Pause-Printer GROUP operation-attributes-tag\n'
        "ATTR charset attributes-charset utf-8\n"
        "ATTR naturalLanguage attributes-natural-language en\n"
        "ATTR uri printer-uri $uri\nSTATUS successful-ok }\n"
    )
    done = subprocess.run(
        ["ipptool", "-t", "-T", "5", bare, "pause.test"],
        cwd=samples,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert daemon.call("printer.show", name=name)["paused"] is False
    assert run_suite(samples, uri, "pause.test").failed == []
    assert daemon.call("printer.show", name=name)["paused"] is True


def switched(daemon, behind=b""):
    """A clear connection that asked for TLS (RFC 2817), with more behind the request."""
    clear = socket.create_connection(("127.0.0.1", daemon.port), 30)
    clear.sendall(
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: TLS/1.2,TLS/1.1\r\n\r\n" + behind
    )
    return clear, clear.recv(4096)


def test_a_clear_connection_goes_on_over_tls(daemon, folder):
    """101, a handshake with the certificate of the node, and the answer to the request over it."""
    clear, said = switched(daemon)
    assert said.startswith(b"HTTP/1.1 101 ")
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with context.wrap_socket(clear, server_hostname="localhost") as secure:
        assert secure.recv(4096).startswith(b"HTTP/1.1 200 ")  # to OPTIONS
        secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert secure.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_what_was_sent_in_the_clear_is_never_taken_for_tls(daemon):
    """A request that somebody put behind the switch is refused, and the connection with it."""
    clear, said = switched(daemon, b"POST /printers/default HTTP/1.1\r\nHost: localhost\r\n")
    with clear:
        assert said.startswith(b"HTTP/1.1 400 ")
        assert clear.recv(4096) == b""
