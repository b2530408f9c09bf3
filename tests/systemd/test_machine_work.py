"""The daemon does all of its work under the hardening of its unit."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.machine import Machine

pytestmark = pytest.mark.slow(3)

LPD = """
import socket
with socket.create_connection(("127.0.0.1", 515), 20) as link:
    def say(data):
        link.sendall(data)
        assert link.recv(1) == b"\\0", data
    control = b"Hbench\\nPada\\nJby-lpd\\nldfA001bench\\n"
    say(b"\\x02default\\n")
    say(b"\\x02%d cfA001bench\\n" % len(control))
    say(control + b"\\0")
    say(b"\\x035 dfA001bench\\n")
    say(b"page\\f\\0")
print("done")
"""
PDF = """%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj
4 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj
trailer<</Root 1 0 R/Size 5>>
%%EOF
"""


def wait(question: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return answer


def printed(host: Machine, printer: str) -> str:
    """What came out of a `file:` printer, once its jobs are done."""
    wait(
        lambda: (
            {job["state"] for job in host.spoold("job", "list", "--printer", printer)}
            == {"completed"}
        ),
        "the jobs are done",
    )
    return host.say("sh", "-c", f"cat /var/lib/spoold/{printer}/*")


def add_converting_printer(host: Machine, name: str, program: str) -> None:
    host.run("install", "-d", "-o", "spoold", "-g", "spoold", f"/var/lib/spoold/{name}")
    host.run(
        *("spoold", "printer", "add", name, f"file:///var/lib/spoold/{name}"),
        *("--format", "text/plain", "--convert", f"application/pdf -> text/plain: {program}"),
    )
    host.write("/srv/two-pages.pdf", PDF)


def test_pages_are_counted_in_a_confined_process(host: Machine) -> None:
    """The worker starts under the service's own filter, puts its own on top, and counts."""
    host.write("/srv/two-pages.pdf", PDF)
    host.run("cp", "/usr/lib/systemd/system/spoold.service", "/run/systemd/system/count.service")
    host.drop_in(
        "[Service]\nType=oneshot\nWatchdogSec=0\nRestart=no\nExecStart=\nExecReload=\n"
        "StateDirectory=count\nRuntimeDirectory=count\nStandardOutput=file:/run/counted\n"
        "ExecStart=spoold count --json /srv/two-pages.pdf\n",
        "count.service",
    )
    host.run("systemctl", "start", "count")
    [found] = json.loads(host.say("cat", "/run/counted"))
    assert found["pages"] == 2


def test_a_converter_runs(host: Machine) -> None:
    """A program that a printer names makes what the printer gets."""
    add_converting_printer(host, "shouting", "tr a-z A-Z")
    host.run(
        "spoold", "submit", "-P", "shouting", "--format", "application/pdf", "/srv/two-pages.pdf"
    )
    assert "MEDIABOX" in printed(host, "shouting")


def test_a_converter_has_no_network_where_the_unit_lets_it(host: Machine) -> None:
    """With the drop-in for converters a program sees a network with nobody in it."""
    host.network("ip", "link", "add", "nearby", "type", "veth", "peer", "name", "far")
    try:
        host.run("sh", "-c", "install -D /usr/share/doc/spoold/examples/converters.conf "
                 "/etc/systemd/system/spoold.service.d/test.conf")  # fmt: skip
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "spoold")
        add_converting_printer(host, "lonely", "cat /proc/self/net/dev")
        pdf = "/srv/two-pages.pdf"
        host.run("spoold", "submit", "-P", "lonely", "--format", "application/pdf", pdf)
        seen = printed(host, "lonely")
        assert "lo:" in seen
        assert "nearby" not in seen
    finally:
        host.network("ip", "link", "delete", "nearby")
        host.drop_in("")
        host.run("systemctl", "restart", "spoold")


def test_shared_printers_are_announced(host: Machine) -> None:
    """Multicast DNS works: the machine's addresses are seen, and others find the printer."""
    host.network("ip", "link", "add", "lan", "type", "veth", "peer", "name", "far")
    try:
        host.network("ip", "address", "add", "192.0.2.77/24", "dev", "lan")
        for end in ("lan", "far"):
            host.network("ip", "link", "set", end, "up", "multicast", "on")
        host.network("ip", "route", "add", "224.0.0.0/4", "dev", "lan")
        host.run("spoold", "printer", "set", "default", "--info", "Front desk", "--shared", "on")
        wait(
            lambda: "Front desk" in host.say("spoold", "printer", "discover"),
            "the printer is found",
            60,
        )
    finally:
        host.run("spoold", "printer", "set", "default", "--shared", "off")
        host.network("ip", "link", "delete", "lan")


def test_lpd_has_its_port_from_systemd(host: Machine) -> None:
    """Port 515 without any privilege of the daemon's, and without a line of configuration."""
    host.run("systemctl", "enable", "spoold-lpd.socket")
    host.run("systemctl", "restart", "spoold")
    with host.python(LPD) as sending:
        said = sending.communicate(timeout=30)[0]
    assert said.strip() == "done", said
    assert "by-lpd" in {job["title"] for job in host.spoold("job", "list")}
    host.run("systemctl", "disable", "--now", "spoold-lpd.socket")
    host.run("systemctl", "restart", "spoold")
    assert host.spoold("status")["printers"]


def test_the_examples_do_what_they_say(host: Machine) -> None:
    """All drop-ins of the package together: networks, ports, directories, secrets, reloading."""
    version = int(host.say("systemctl", "--version").split()[1])
    names = ["credentials", "file-printers", "lpd-source-ports", "networks"]
    names += ["notify-reload"] if version >= 253 else []
    private = "/etc/spoold/private"
    host.run("install", "-d", "-m", "0700", private)
    for secret in ("tls.crt", "tls.key", "desk.password"):
        host.write(f"{private}/{secret}", "secret", 0o600)
    host.run("install", "-d", "-o", "spoold", "-g", "spoold", "/srv/print")
    folder = "/etc/systemd/system/spoold.service.d"
    host.run("mkdir", "-p", folder)
    for name in names:
        host.run("cp", f"/usr/share/doc/spoold/examples/{name}.conf", folder)
    host.run("systemctl", "daemon-reload")
    try:
        host.run("systemctl", "restart", "spoold")
        pid = host.show("spoold", "MainPID")
        status = host.say("cat", f"/proc/{pid}/status")
        assert "CapEff:\t0000000000000400" in status  # CAP_NET_BIND_SERVICE, and no other
        assert set(host.say("ls", "/run/credentials/spoold.service").split()) == {
            "tls.crt", "tls.key", "desk.password",
        }  # fmt: skip
        assert "10.0.0.0/8" in host.show("spoold", "IPAddressAllow")
        host.run("spoold", "printer", "add", "paper", "file:///srv/print")
        host.run("sh", "-c", "echo page | spoold submit -P paper --title on-paper -")
        wait(lambda: host.say("ls", "/srv/print"), "the page is in the directory")
        host.run("systemctl", "reload", "spoold")
        assert host.show("spoold", "MainPID") == pid
        assert host.logged("SPOOLD_EVENT=configuration_unchanged")
    finally:
        for name in names:
            host.run("rm", "-f", f"{folder}/{name}.conf")
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "spoold")


def test_the_agent_of_a_provider_asks_servers_from_its_unit(host: Machine) -> None:
    """As the walk-through sets it up: it reads its credentials, and keeps what it was told."""
    host.run("sh", "-ec", "cd /root && spoold provider enrol cups-1 --may-assert '*'")
    pem = "umask 077; cd /root && cat cups-1.key cups-1.crt ca.crt >/etc/spoold/cups.pem"
    host.run("sh", "-ec", pem)
    host.run("sh", "-ec", "echo 'SERVERS=--server 127.0.0.1:9195' >/etc/spoold/agent")
    host.run("systemctl", "start", "spoold-agent")
    told = host.root / "var/lib/spoold-cups/printers.json"
    try:
        wait(told.exists, "servers said where it may print alone")
        assert host.show("spoold-agent", "ActiveState") == "active"
    finally:
        host.run("systemctl", "stop", "spoold-agent")


def test_a_backup_is_made_by_the_timer_and_restored(host: Machine) -> None:
    """The unit of the timer has one written; as the walk-through says it is put back."""
    host.run("sh", "-c", "echo page | spoold submit --title in-the-backup -")
    host.run("systemctl", "start", "spoold-backup.service")
    assert re.search(r"^backup +\d+ s ago$", host.run("spoold", "status").stdout, re.MULTILINE)
    host.run("sh", "-c", "echo page | spoold submit --title after-it -")
    host.run("systemctl", "stop", "spoold*")
    text = (Path(__file__).parents[2] / "systemd" / "README.md").read_text()
    section = text.partition("## Backup, restore")[2].partition("\n## ")[0]
    for command in [line[4:] for line in section.splitlines() if line.startswith("    ")]:
        host.run("sh", "-ec", command)
    titles = {job["title"] for job in host.spoold("job", "list", "--all")}
    assert "in-the-backup" in titles
    assert "after-it" not in titles
