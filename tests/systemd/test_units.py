"""The unit files themselves: what systemd says of them, without starting anything."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = ("spoold.service", "spoold@.service")
# What a node among several has differently: its own names.
DIFFERENT = {"execstart", "statedirectory", "runtimedirectory", "runtimedirectorypreserve"}


def read(name: str) -> dict[str, list[str]]:
    """The settings of [Service]; a key may come more than once."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (UNITS / name).read_text().splitlines():
        if line.startswith("["):
            section = line
        elif "=" in line and not line.startswith("#") and section == "[Service]":
            key, _, value = line.partition("=")
            found.setdefault(key.lower(), []).append(value)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tenths"), [*((name, 11) for name in SERVICES), ("spoold-agent.service", 14)]
)
def test_exposure_is_low(name: str, tenths: int) -> None:
    """systemd-analyze gives at most 1.1 of 10; 1.4 to the agent, which runs as root."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={tenths}", UNITS / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_one_node_among_several_is_as_hardened_as_a_single_one() -> None:
    """The template differs in names alone."""
    single, several = (read(name) for name in SERVICES)
    assert {key for key in single | several if single.get(key) != several.get(key)} == DIFFERENT


def test_each_socket_has_its_name() -> None:
    """FileDescriptorName= is what the configuration calls the port."""
    for name in ("clear", "tls", "mutual", "lpd", "control"):
        unit = configparser.ConfigParser(strict=False)
        unit.optionxform = str
        unit.read(UNITS / f"spoold-{name}.socket")
        assert unit["Socket"]["FileDescriptorName"] == name
        assert unit["Socket"]["Service"] == "spoold.service"
        assert "spoold.service" in unit["Install"]["WantedBy"].split()
