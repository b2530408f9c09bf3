"""The package: what installing, upgrading, removing and purging do, and what they leave alone.

They run in their order, and after the others: the last ones take the package away.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support.machine import KNOCK, Machine

pytestmark = pytest.mark.slow(3)

UNITS = [
    "spoold.service",
    "spoold-agent.service",
    "spoold-backup.timer",
    *(f"spoold-{name}.socket" for name in ("clear", "control", "lpd", "mutual", "tls")),
]


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a later version."""
    folder = tmp_path_factory.mktemp("newer") / "content"
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    text = control.read_text()
    control.write_text(text.replace("\nVersion: ", "\nVersion: 9:"))
    found = package.parent / "newer.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", folder, found],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return found


def test_installing_starts_nothing(installed: Machine) -> None:
    """User, directories and pages are there; no unit is enabled, and there is no configuration."""
    host = installed
    assert host.say("id", "--user", "--name", "spoold") == "spoold"
    modes = host.say("stat", "--format=%n %U %G %a", "/etc/spoold", "/var/lib/spoold")
    assert modes.splitlines() == [
        "/etc/spoold root spoold 750",
        "/var/lib/spoold spoold spoold 700",
    ]
    if host.show("spoold", "ActiveEnterTimestamp") == "":  # no other test has been here
        states = host.run("systemctl", "is-enabled", *UNITS, check=False).stdout.split()
        assert set(states) == {"disabled"}
        assert host.show("spoold", "ActiveState") == "inactive"
    pages = host.say("dpkg", "--listfiles", "spoold")
    assert "/usr/share/man/man1/spoold.1.gz" in pages
    assert "/usr/share/man/man5/spoold.toml.5.gz" in pages


def test_the_package_runs_what_is_in_it(installed: Machine) -> None:
    """No file of it is changed or written by anybody but root, and it finds its own libraries."""
    assert installed.say("dpkg", "--verify", "spoold") == ""
    assert installed.say("spoold", "--version").startswith("spoold ")
    others = ("!", "-user", "root", "-o", "-perm", "/022", "!", "-type", "l")
    assert installed.say("find", "/usr/lib/spoold", *others) == ""


def test_an_upgrade_keeps_data_and_goes_on(host: Machine, newer: Path) -> None:
    """A daemon that ran runs the new version, with its jobs; clients waited for it."""
    host.run("sh", "-c", "echo hello | spoold submit --title kept -")
    pid = host.show("spoold", "MainPID")
    with host.python(KNOCK, "8") as knocking:
        host.run("dpkg", "--install", f"/mnt/{newer.name}")
        assert knocking.communicate(timeout=60)[0].startswith("refused 0 ")
    assert host.show("spoold", "ActiveState") == "active"
    assert host.show("spoold", "MainPID") != pid
    assert "kept" in {job["title"] for job in host.spoold("job", "list", "--all")}


def test_removing_keeps_data_and_configuration(host: Machine, package: Path) -> None:
    """Nothing runs or listens any more; installed again, the node is the same."""
    guid = host.spoold("node", "show")["guid"]
    host.run("dpkg", "--remove", "spoold")
    assert host.run("find", "/proc", "-maxdepth", "1", "-user", "spoold").stdout == ""
    ports = host.say("sh", "-c", "cat /proc/net/tcp /proc/net/tcp6")
    assert not {f":{port:04X} " for port in (9191, 9192, 9195)} & set(ports.split())
    assert host.run("test", "-e", "/usr/lib/spoold", check=False).returncode == 1
    assert host.run("test", "-e", "/etc/spoold/spoold.toml", check=False).returncode == 0
    host.run("dpkg", "--install", f"/mnt/{package.name}")
    host.start()
    assert host.spoold("node", "show")["guid"] == guid
    assert "kept" in {job["title"] for job in host.spoold("job", "list", "--all")}


def test_purging_keeps_data_and_says_so(host: Machine) -> None:
    """Configuration and links of units go; jobs and keys stay until somebody deletes them."""
    said = host.run("dpkg", "--purge", "spoold")
    assert "rm -r /var/lib/spoold" in said.stderr
    assert host.run("test", "-e", "/etc/spoold/spoold.toml", check=False).returncode == 1
    assert host.run("test", "-e", "/var/lib/spoold/identity", check=False).returncode == 0
    left = host.say("find", "/etc/systemd", "/usr/lib/systemd", "-name", "spoold*").splitlines()
    assert [one for one in left if not one.endswith(".d")] == []


def commands_of(title: str) -> list[list[str]]:
    """The commands of a section of systemd/README.md, a list for each block of them."""
    text = (Path(__file__).parents[2] / "systemd" / "README.md").read_text()
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    blocks = [
        [re.split(r"\s+# ", line)[0].strip() for line in part.splitlines()]
        for part in section.split("\n\n")
        if part.startswith("    ")
    ]
    assert blocks
    return blocks


def printer_at(port: int) -> str:
    """A raw printer that takes one job, as a program."""
    return (
        f"import socket\nlink, _ = socket.create_server(('127.0.0.1', {port})).accept()\n"
        "while link.recv(65536):\n    pass\n"
    )


def test_the_walk_through_works_as_written(bare: Machine, package: Path) -> None:
    """The commands of systemd/README.md, on a machine that has nothing."""
    bare.run("rm", "-rf", "/var/lib/spoold", "/etc/spoold")
    [commands] = commands_of("In ten minutes")
    assert len(commands) > 5
    # There is no network from which to get what is only recommended.
    bare.write("/etc/apt/apt.conf.d/alone", 'APT::Install-Recommends "false";')
    folder = bare.say("mktemp", "-d")
    bare.run("cp", f"/mnt/{package.name}", folder)
    with bare.python(printer_at(9100)) as printing:
        for command in commands:
            bare.run("sh", "-ec", f"cd {folder} && {command}")
        assert printing.wait(60) == 0
    [job] = bare.spoold("job", "list", "--printer", "desk")
    assert job["state"] == "completed"


def test_a_site_joins_as_written(bare: Machine) -> None:
    """The same for a site: a second node on this machine, with a name and ports of its own."""
    installing, inviting, joining, printing = commands_of("A site in ten minutes more")
    file = "/etc/spoold/library.toml"
    bare.run("sh", "-ec", installing[1].replace("/etc/spoold/spoold.toml", file))
    bare.run("sed", "--in-place", "/^data_dir/d", file)
    ports = '[listen]\nclear = ["127.0.0.1:9291"]\ntls = []\nmutual = []\n'
    bare.run("tee", "--append", file, input=ports)
    bare.run("sh", "-ec", installing[2].replace("spoold", "spoold@library"))
    token = [bare.say("sh", "-ec", command) for command in inviting][-1]
    for command in joining:
        there = command.replace("spj-…", token).replace("print.example.org", "127.0.0.1")
        bare.run("env", "SPOOLD_CONTROL=/run/spoold-library/control", "sh", "-ec", there)
    with bare.python(printer_at(9101)) as printer:
        for command in printing:
            bare.run("sh", "-ec", command.replace("192.0.2.20:9100", "127.0.0.1:9101"))
        assert printer.wait(60) == 0
    [site] = bare.spoold("site", "list")
    assert (site["name"], site["line"]) == ("library", "up")
    version = bare.say("spoold", "--version").split()[1]
    assert version in site["software"]
