"""Command lines against a real daemon on free ports, in this process."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoold import cli
from support.commands import Run, Said, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("spoold")) as running:
        yield running


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line of `spoold` against the server, in this process."""
    assert server.running is not None
    monkeypatch.setenv("SPOOLD_CONTROL", str(server.running.control))
    monkeypatch.setenv("SPOOLD_SERVER", server.address("clear"))

    def run_command(command: str, *more: str) -> Said:
        capsys.readouterr()
        try:
            code = cli.main([*shlex.split(command), *more])
        except SystemExit as error:
            code = int(str(error.code))
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run_command


@pytest.fixture
def paused(run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The name of a printer of this test's own; its jobs stay where they are."""
    name = f"p{abs(hash(request.node.name)) % 10**8}"
    assert run(f"printer add {name} {(tmp_path / name).as_uri()}").code == 0
    assert run(f"printer pause {name}").code == 0
    return name


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    file = tmp_path / "letter.txt"
    file.write_text("Dear reader\n")
    return file
