"""`spoold device …`: machines behind printers, and MFDs with their certificates and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from spoold.cli import grammar
from support.commands import Run


@pytest.fixture
def token(run: Run, request: pytest.FixtureRequest) -> str:
    """The token of an MFD that is called like the test."""
    said = run(f"device enrol {request.node.name} --printer default --token")
    assert said.code == 0
    return said.out.strip()


def test_an_mfd_is_enrolled_listed_changed_and_revoked(run: Run, tmp_path: Path) -> None:
    """With files that only their owner reads, and a place beside the printer's device."""
    said = run(f"device enrol panel-1 --printer default --out {tmp_path}")
    assert said.out.startswith("MFD panel-1 is enrolled for default: ")
    assert (tmp_path / "panel-1.key").stat().st_mode & 0o777 == 0o600
    assert "CERTIFICATE" in (tmp_path / "panel-1.crt").read_text()
    row = next(line for line in run("device list").out.splitlines() if line.startswith("panel-1"))
    assert row.split()[1:4] == ["default", "any", "enrolled"]
    kinds = {one["kind"]: one for one in run("device list --json").json}
    assert kinds["mfd"]["name"] == "panel-1"
    assert kinds["device"]["uri"].startswith("file:")
    assert "panel-1" in run("device show default --json").json["mfds"]
    assert run("device set panel-1 --login card --login pin --idle 60").code == 0
    shown = run("device show panel-1 --json").json
    assert (shown["methods"], shown["idle_s"], shown["has_token"]) == (["card", "pin"], 60, False)
    for _ in "once", "as it is already":
        assert run("device set panel-1 --login any").code == 0
    assert run("device show panel-1 --json").json["methods"] == []
    assert "nothing is to be changed" in run("device set panel-1").err
    assert run("device revoke panel-1").out.startswith("MFD panel-1 is revoked")
    assert run("device enrol panel-1 --token").code == grammar.REFUSED


def test_a_token_is_shown_once_and_stands_nowhere(run: Run, token: str, server) -> None:
    """Not in the listing, not in the journal, not in a file of the spool."""
    assert token.startswith("spd-")
    assert len(token) > 40
    assert token not in run("device list --json").out
    assert token not in run("journal --from 1 --json").out
    data = server.running.control.parent
    files = [path for path in data.rglob("*") if path.is_file()]
    assert files
    assert not any(token.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("device enrol panel-2 --token", "would release nowhere"),
        ("device enrol panel-2 --token --printer nowhere", "there is no printer 'nowhere'"),
        ("device enrol panel-2 --token --printer default --idle 5", "It can be 10 to 3600"),
        (
            "device enrol panel-2 --token --printer default --card-converter hax",
            "there is no card converter",
        ),
        ("device set nobody --printer default", "there is no MFD nobody"),
        ("device revoke nobody", "there is no MFD nobody"),
        ("device show nobody", "there is no device 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(run: Run, command: str, told: str) -> None:
    """And nothing is enrolled by halves."""
    said = run(command)
    assert (said.code, told in said.err) == (grammar.REFUSED, True), said.err
    assert "panel-2" not in run("device list").out


def test_a_device_of_no_printer_is_counted_and_not_listed(run: Run, tmp_path: Path) -> None:
    """It stays known, as jobs name it; mistyped addresses do not fill the list."""
    assert run(f"printer add typo file://{tmp_path}/mistyped").code == 0
    assert "mistyped" in run("device list").out
    assert run("printer remove typo").code == 0
    said = run("device list").out
    assert ("mistyped" in said, "of printers that are gone: see --json" in said) == (False, True)
    assert "mistyped" in run("device list --json").out
