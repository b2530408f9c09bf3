"""Shared printers on a link of two machines: announced, kept in step, withdrawn; and found."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from spoold.codec import dnssd
from spoold.daemon.announce import Announcer, Ports, Reach, reach_of
from spoold.daemon.config import DnsSd
from support import forking
from support import link as links
from support.link import FAR, NEAR
from support.peers import wait_until
from support.process import Daemon

CONFIG = """
[node]
name = "{name}"
data_dir = "data"
[listen]
clear = ["0.0.0.0:9191"]
tls = ["0.0.0.0:9192"]
mutual = []
"""
HALF = ("0.0.0.0", 9191)


def test_what_of_the_machine_is_reached():
    """Addresses count where a port listens; a name has the addresses that both ports have."""
    own = ("192.0.2.1", "198.51.100.1", "2001:db8::1")
    everywhere = Ports((HALF, ("::", 9191)), (("0.0.0.0", 9192), ("::", 9192)))
    assert reach_of(everywhere, own) == Reach(own, 9191, 9192)
    assert reach_of(Ports((HALF,)), own) == Reach(own[:2], 9191, 0)
    one = Ports((HALF,), (("192.0.2.1", 9192),))
    assert reach_of(one, own) == Reach(("192.0.2.1",), 9191, 9192)
    apart = Ports((("192.0.2.1", 9191),), (("198.51.100.1", 9192),))
    assert reach_of(apart, own) == Reach(("198.51.100.1",), 0, 9192)
    assert reach_of(Ports((("127.0.0.1", 9191),)), own) == Reach()


async def test_who_shares_nothing_does_not_load_the_library(spool, monkeypatch):
    """It is 5 MiB of a daemon, and a tenth of a second of its start."""
    monkeypatch.setitem(sys.modules, "spoold.net.dnssd", None)  # loading it would be an error
    await spool.add_printer()
    ports = Ports((HALF,))
    announcer = Announcer(spool.journal, spool.reader, ports, "hq", "hq.local", DnsSd)
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        await trio.testing.wait_all_tasks_blocked()
        announcer.stop_nowait()


@pytest.fixture
def link():
    try:
        with links.link() as made:
            yield made
    except links.CannotMake as error:
        pytest.skip(f"no network namespaces here: {error}")


@pytest.fixture
def node(link, tmp_path):
    """`node(name, where)`: a running daemon on the machine of this process."""
    with ExitStack() as stack:

        def start(name, where, config=CONFIG):
            folder = tmp_path / name
            folder.mkdir()
            daemon = Daemon(folder, config=config.format(name=name), machine=where)
            stack.callback(daemon.end, 9)
            return daemon

        yield start


def find(where, seconds) -> dict[tuple[str, str], dict]:
    """What answers on the link, by kind and name."""
    done = forking.run(where, seconds, module="support.finding")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {(one["kind"], one["name"]): one for one in found}


def wait_found(where, check, seconds=1.0) -> dict[tuple[str, str], dict]:
    """What answers on the link within `seconds`, once it is as `check` wants it."""

    def look():
        found = find(where, seconds)
        return found if check(found) else None

    return wait_until(look)


def announced(daemon, name="default") -> str:
    return daemon.call("printer.show", name=name)["announced_as"]


def wait_announced(daemon, *names):
    wait_until(lambda: announced(daemon) in names)


@pytest.mark.slow(8)
def test_shared_printers_are_announced(link, node):
    """A printer that is shared is found from the other machine, one that is not is not; changes
    are told, and the end is told, too.
    """
    daemon = node("library", link.near_pid)
    daemon.call("printer.add", name="private", uri="file:///tmp")
    assert find(link.far_pid, 1.0) == {}
    shown = daemon.call("printer.set", name="default", shared=True, info="Front desk")
    assert shown["advice"] == []
    wait_announced(daemon, "Front desk")
    both = {(dnssd.IPP, "Front desk"), (dnssd.IPPS, "Front desk")}
    found = wait_found(link.far_pid, lambda found: set(found) == both)
    one = found[dnssd.IPPS, "Front desk"]
    assert (one["port"], one["addresses"]) == (9192, [NEAR])
    assert one["txt"]["rp"] == "printers/default"
    assert one["txt"]["uuid"] == shown["guid"]

    daemon.call("printer.set", name="default", offer={"printer-make-and-model": "Example 9"})
    daemon.call("printer.set", name="default", location="Hall 1")
    told = {"note": "Hall 1", "ty": "Example 9"}.items()
    wait_found(
        link.far_pid,
        lambda found: (
            set(found) == both and all(told <= one["txt"].items() for one in found.values())
        ),
    )

    daemon.call("printer.set", name="default", info="Back door", rename="backdoor")
    wait_until(lambda: announced(daemon, "backdoor") == "Back door")
    found = wait_found(link.far_pid, lambda found: [name for _, name in found] == ["Back door"] * 2)
    assert found[dnssd.IPP, "Back door"]["txt"]["rp"] == "printers/backdoor"

    daemon.call("printer.set", name="backdoor", shared=False)
    wait_until(lambda: announced(daemon, "backdoor") == "")
    wait_until(lambda: find(link.far_pid, 1.0) == {})
    assert daemon.end() == 0


@pytest.mark.slow(6)
def test_two_nodes_with_one_name(link, node):
    """The second node that wants a name takes another one, which names the node, and tells it."""
    first, second = node("library", link.near_pid), node("annex", link.far_pid)
    first.call("printer.set", name="default", shared=True, info="Desk")
    wait_announced(first, "Desk")
    second.call("printer.set", name="default", shared=True, info="Desk")
    wait_announced(second, "Desk @ annex")
    homes = {(dnssd.IPP, "Desk"): [NEAR], (dnssd.IPP, "Desk @ annex"): [FAR]}
    wait_found(
        link.near_pid,
        lambda found: all(
            key in found and found[key]["addresses"] == home for key, home in homes.items()
        ),
        seconds=3.0,  # one of them is on this very machine
    )
    second.call("printer.set", name="default", offer={"printer-dns-sd-name": "Desk"})
    uri = f"ipp://{FAR}:9191/printers/default"
    told = link.run(link.near, "ipptool", "-tv", "-T", "10", uri, "get-printer-attributes.test")
    (line,) = [one for one in told.splitlines() if "printer-dns-sd-name" in one]
    assert line.endswith(" = Desk @ annex")


@pytest.mark.slow(7)
def test_a_name_that_was_taken_twice(link, node):
    """Nodes that meet after each took the same name part, each with its own."""
    first, second = node("library", link.near_pid), node("annex", link.far_pid)
    link.pull()
    for one in (first, second):
        one.call("printer.set", name="default", shared=True, info="Desk")
        wait_announced(one, "Desk")
    link.plug()
    find(link.near_pid, 2.0)  # the question to which both answer
    wait_until(
        lambda: announced(first) and announced(second) and announced(first) != announced(second),
        20,
    )
    wait_found(link.far_pid, lambda found: len({name for _, name in found}) == 2, seconds=3.0)


@pytest.mark.slow
def test_loopback_is_not_announced(link, node):
    """A node that nobody on the network reaches says so where it was told to share."""
    daemon = node("library", link.near_pid, CONFIG.replace("0.0.0.0", "127.0.0.1"))
    daemon.call("printer.set", name="default", shared=True, info="Desk")
    (advice,) = wait_until(lambda: daemon.call("printer.show", name="default")["advice"])
    assert "not announced: no address on the network is listened on" in advice
    assert announced(daemon) == ""


@pytest.mark.slow
def test_the_configuration_decides(link, node):
    """`dnssd.enabled = false` keeps everything quiet until the file is read again without it."""
    daemon = node("library", link.near_pid, CONFIG + "[dnssd]\nenabled = false\n")
    daemon.call("printer.set", name="default", shared=True, info="Desk")
    shown = daemon.call("printer.show", name="default")
    assert shown["advice"] == [
        "It is shared, but not announced: dnssd.enabled is off in the configuration."
    ]
    file = daemon.control.parent.parent / "spoold.toml"
    file.write_text(CONFIG.format(name="library"))
    daemon.call("daemon.reload")
    wait_announced(daemon, "Desk")
