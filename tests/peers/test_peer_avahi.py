"""Avahi and the finder of CUPS see the printers that spoold shares, and spoold sees theirs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from spoold.codec import dnssd
from spoold.codec.ipp_capabilities import capabilities
from spoold.model.printer import Printer
from support import link as links
from support.link import FAR, NEAR, Avahi
from support.peers import wait_until
from support.process import Daemon

pytestmark = pytest.mark.slow

CONFIG = """
[node]
name = "library"
data_dir = "data"
[listen]
clear = ["192.0.2.1:9191"]
tls = ["192.0.2.1:9192"]
mutual = []
"""
OFFER = {
    "printer-make-and-model": "Example 4000",
    "urf-supported": ["RS300", "W8"],
    "document-format-supported": ["application/pdf", "image/urf"],
    "sides-supported": ["one-sided", "two-sided-long-edge"],
}


@pytest.fixture(scope="module")
def link():
    try:
        with links.link() as made:
            yield made
    except links.CannotMake as error:
        pytest.skip(f"no network namespaces here: {error}")


@pytest.fixture(scope="module")
def avahi(link, tmp_path_factory):
    """On the far machine."""
    made = Avahi(link, link.far, tmp_path_factory.mktemp("avahi"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def daemon(link, tmp_path_factory):
    """On the near machine, with the printer `default` shared."""
    daemon = Daemon(tmp_path_factory.mktemp("node"), config=CONFIG, prefix=link.near)
    daemon.call("printer.set", name="default", shared=True, info="Straße 5, Büro", offer=OFFER)
    try:
        wait_until(lambda: daemon.call("printer.show", name="default")["announced_as"])
    except AssertionError:
        pytest.fail("\n".join([str(daemon.call("printer.show", name="default")), *daemon.log]))
    yield daemon
    daemon.end(9)


def test_avahi_sees_the_printer(avahi, daemon):
    """Both services with their ports and every key of the record, under the name for people."""
    guid = daemon.call("printer.show", name="default")["guid"]
    for kind, port in ((dnssd.IPP, "9191"), (dnssd.IPPS, "9192")):
        found = wait_until(lambda kind=kind: avahi.browse(kind))["Straße 5, Büro"]
        assert (found.pop("address"), found.pop("port")) == (NEAR, port)
        host = found.pop("host")
        printer = Printer(1, guid, "default", 1, options=OFFER)
        plain = capabilities(OFFER)
        web = f"https://{host}:9192"
        assert found == dnssd.txt_record(printer, plain, web=web, is_tls=True)


@pytest.mark.parametrize("subtype", ["_print", "_universal"])
def test_avahi_finds_subtypes(avahi, daemon, subtype):
    """Clients that ask for printers of their kind alone find it."""
    kind = f"{subtype}._sub._ipp._tcp"
    assert list(wait_until(lambda: avahi.browse(kind), 20)) == ["Straße 5, Büro"]


def test_subtypes_are_no_kinds_of_service(avahi, daemon):
    """A list of all services shows the printer once for each protocol."""
    lines = wait_until(lambda: avahi.run("avahi-browse", "-apkt").splitlines())
    kinds = {line.split(";")[4] for line in lines if "Stra" in line}
    assert kinds == {"_ipp._tcp", "_ipps._tcp"}


def test_ippfind_prints_its_uri(avahi, daemon):
    """The finder of CUPS makes a URI of it, with the path that spoold answers."""
    found = avahi.run("ippfind", "-T", "5", "_ipps._tcp", "--path", "printers/default", "--print")
    assert found.startswith("ipps://library-")
    assert found.rstrip().endswith(".local:9192/printers/default")


def test_discover_finds_what_avahi_announces(link, avahi):
    """`spoold printer discover` on one machine, a service of Avahi on the other."""
    keys = ["rp=ipp/print", "ty=Example 5000", "UUID=22dab4ba-ffe5-4da5-8dfb-4d1c55c0d779"]
    command = ["avahi-publish", "-s", "Laser, upstairs", "_ipp._tcp", "631", *keys]
    with subprocess.Popen(
        [*link.far, *command], env=avahi.environment, stderr=subprocess.PIPE
    ) as publishing:
        try:
            publishing.stderr.readline()  # Established under name ...
            command = [sys.executable, "-m", "spoold", "printer", "discover", "--json"]
            found = json.loads(link.run(link.near, *command, "--timeout", "3"))
        finally:
            publishing.terminate()
    (one,) = [one for one in found if one["name"] == "Laser, upstairs"]
    assert one["make_and_model"] == "Example 5000"
    assert one["uri"] == f"ipp://{FAR}/ipp/print"
    assert one["host"] == "far.local"


def test_goodbye_is_heard(avahi, daemon):
    """When spoold ends, the printer is gone from the lists of others at once."""
    with avahi.watch(dnssd.IPP) as watching:
        seen = (line for line in watching.stdout if "Stra" in line)
        assert next(seen).startswith("+")
        assert daemon.end() == 0
        assert next(seen).startswith("-")
        watching.terminate()
