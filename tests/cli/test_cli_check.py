"""`spoold check` beside a running daemon, and before there is one."""

from __future__ import annotations

import socket
from pathlib import Path
from uuid import uuid4

import pytest

from spoold.cli import check
from spoold.cli.control import NotAnswering
from support.commands import Run, Server


@pytest.mark.slow
def test_a_node_that_runs_is_checked_with_its_printers(
    run: Run, server: Server, tmp_path: Path, paused: str
) -> None:
    """A line each; what is wrong has advice, and exit code 1."""
    assert server.running is not None
    config = tmp_path / "spoold.toml"
    no_ports = "[listen]\nclear=[]\ntls=[]\nmutual=[]\n"
    config.write_text(f'[node]\ndata_dir = "{server.running.control.parent}"\n{no_ports}')
    said = run(f"check --config {config} --printers")
    assert "ok       configuration: " in said.out
    assert "has run for" in said.out
    assert "devices answer" in said.out
    found = run(f"check --config {config} --json").json
    assert {"configuration", "data", "disk", "sync", "clock", "entropy", "files"} <= {
        one["what"] for one in found
    }
    config.write_text(f'[node]\ndata_dir = "data"\n{no_ports}')
    said = run(f"check --config {config} --printers")
    assert "the one that answers is of another node, library" in said.out
    assert "devices answer" not in said.out
    config.write_text("[node]\nname = 7\n")
    wrong = run(f"check --config {config}")
    assert wrong.code == 1
    assert "FAILED   configuration: " in wrong.out


def test_a_daemon_that_may_not_be_asked_is_no_missing_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and the ports are its own."""

    def refuse(_: object) -> None:
        raise NotAnswering("it cannot be reached: Permission denied. Only root may.")

    monkeypatch.setattr(check, "connect", refuse)
    config = tmp_path / "spoold.toml"
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "node-guid").write_text(f"{uuid4()}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        clear = f'clear = ["127.0.0.1:{taken.getsockname()[1]}"]'
        config.write_text(f'[node]\ndata_dir = "data"\n[listen]\n{clear}\ntls = []\nmutual = []\n')
        said = run(f"check --config {config}")
    assert "warning  daemon: it cannot be reached: Permission denied" in said.out
    assert "is the running daemon's" in said.out
