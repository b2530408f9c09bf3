"""`spoold check` beside a running daemon, and before there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import Run


@pytest.mark.slow
def test_a_node_that_runs_is_checked_with_its_printers(
    run: Run, tmp_path: Path, paused: str
) -> None:
    """A line each; what is wrong has advice, and exit code 1."""
    config = tmp_path / "spoold.toml"
    config.write_text('[node]\ndata_dir = "data"\n[listen]\nclear=[]\ntls=[]\nmutual=[]\n')
    said = run(f"check --config {config} --printers")
    assert "ok       configuration: " in said.out
    assert "has run for" in said.out
    assert "devices answer" in said.out
    found = run(f"check --config {config} --json").json
    assert {"configuration", "data", "disk", "sync", "clock", "entropy", "files"} <= {
        one["what"] for one in found
    }
    config.write_text("[node]\nname = 7\n")
    wrong = run(f"check --config {config}")
    assert wrong.code == 1
    assert "FAILED   configuration: " in wrong.out
