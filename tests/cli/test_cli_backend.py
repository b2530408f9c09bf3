"""`spoold backend …`: in place only where it is safe, and gone again without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from spoold import cli
from spoold.cli import backend
from spoold.daemon import authority
from spoold.daemon.authority import Authority

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root puts a backend in place")


def is_roots_alone(path: Path) -> bool:
    return all(
        one.lstat().st_uid == 0 and not (one.lstat().st_mode & 0o022 and not one.is_symlink())
        for one in (path, *path.parents)
    )


roots_alone = pytest.mark.skipif(
    not is_roots_alone(Path(backend.__file__)) or not is_roots_alone(Path(sys.executable)),
    reason="others than root can change this checkout, and are refused for that",
)


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "backend").mkdir(mode=0o755)
    return tmp_path / "backend"


@pytest.fixture
def credentials(tmp_path):
    def now_us():
        return time.time_ns() // 1000

    issuer = Authority(*authority.make_ca(now_us), now_us)
    key, chain, _ = issuer.enrol("provider", uuid4(), "cups", 30)
    path = tmp_path / "cups.pem"
    path.touch(0o600)
    path.write_bytes(key + chain + issuer.ca_pem)
    return path


@pytest.fixture
def run(directory, capsys):
    def run_command(*arguments: object) -> tuple[int, str, str]:
        words = ["backend", arguments[0], "--directory", directory, *arguments[1:]]
        try:
            code = cli.main([str(one) for one in words])
        except SystemExit as error:
            code = int(str(error.code))
        out, err = capsys.readouterr()
        return code, out, err

    return run_command


@as_root
@roots_alone
def test_install_show_remove(run, directory, credentials):
    """CUPS runs it as root, for it reads the credentials; then nothing of it is left."""
    path = directory / "spoold"
    code, out, _ = run("install", "--credentials", credentials)
    assert (code, str(path) in out) == (0, True)
    assert path.stat().st_mode & 0o777 == 0o700
    assert os.listdir(directory) == ["spoold"]
    code, out, _ = run("show", "--json")
    shown = json.loads(out)
    assert (code, shown["problems"], shown["runs_as_root"]) == (0, [], True)
    assert shown["credentials"] == str(credentials)
    discovered = subprocess.run([path], capture_output=True, text=True, timeout=60, env={})
    assert discovered.stdout.startswith('network spoold "Unknown" "')
    assert run("install", "--credentials", credentials)[0] == 0  # once more: the same
    assert run("remove")[0] == 0
    assert os.listdir(directory) == []
    code, out, _ = run("remove")
    assert (code, "There is no" in out) == (0, True)
    assert run("show")[0] == 1


@as_root
@roots_alone
def test_a_folder_of_its_own_is_made_and_shown(run, directory, credentials, tmp_path):
    """Root's alone, and only where servers know who reports to them."""
    state = tmp_path / "state"
    code, _, err = run("install", "--state", state)
    assert (code, "Give --credentials, too" in err, state.exists()) == (1, True, False)
    assert run("install", "--credentials", credentials, "--state", state)[0] == 0
    assert state.stat().st_mode & 0o777 == 0o700
    shown = json.loads(run("show", "--json")[1])
    assert (shown["state"], shown["problems"]) == (str(state), [])
    (state / "jobs").rmdir()
    state.rmdir()
    code, out, _ = run("show")
    assert (code, "it is not there" in out) == (1, True)
    path = directory / "spoold"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(one for one in lines if not one.startswith("STATE=")))
    shown = json.loads(run("show", "--json")[1])  # made by an earlier spoold
    assert (shown["state"], shown["credentials"]) == ("", str(credentials))


@as_root
@roots_alone
def test_the_backend_says_when_its_python_is_gone(run, directory, credentials):
    """An upgrade took it away: the queue stops with advice, and keeps its jobs."""
    run("install", "--credentials", credentials)
    path = directory / "spoold"
    path.write_text(path.read_text().replace(sys.executable, "/nowhere/python"))
    done = subprocess.run([path, "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert done.stderr.startswith("ERROR: /nowhere/python is not there")
    code, out, _ = run("show")
    assert (code, "/nowhere/python" in out) == (1, True)


@as_root
@roots_alone
def test_what_would_not_be_safe_is_refused(run, directory, credentials, tmp_path):
    """Credentials that others read, a directory that others write to, a file of somebody else."""
    credentials.chmod(0o644)
    code, _, err = run("install", "--credentials", credentials)
    assert (code, "chmod 600" in err) == (1, True)
    credentials.chmod(0o600)
    directory.chmod(0o775)
    code, _, err = run("install", "--credentials", credentials)
    assert (code, "others than root can write there" in err) == (1, True)
    directory.chmod(0o755)
    (directory / "spoold").write_text("#!/bin/sh\n# mine\n")
    for command in ("install", "remove"):
        code, _, err = run(command)
        assert (code, "somebody else made it" in err) == (1, True)
    assert (directory / "spoold").read_text() == "#!/bin/sh\n# mine\n"


@as_root
def test_a_python_that_others_can_change_is_never_run_as_root(
    run, directory, credentials, tmp_path, monkeypatch
):
    """Whoever could write to it would become root with the next job."""
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "python").symlink_to(sys.executable)
    loose.chmod(0o777)
    monkeypatch.setattr(sys, "executable", str(loose / "python"))
    code, _, err = run("install", "--credentials", credentials)
    assert (code, f"others than root can change {loose}" in err) == (1, True)
    assert os.listdir(directory) == []


@as_root
def test_a_python_that_the_user_of_cups_cannot_reach_is_refused(
    run, directory, tmp_path, monkeypatch
):
    """Without credentials CUPS runs the backend as its own user."""
    (tmp_path / "python").symlink_to(sys.executable)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    code, _, err = run("install")
    assert (code, "only root can enter" in err) == (1, True)
    assert "Or give --credentials" in err


def test_without_a_directory_of_backends_nothing_is_made(run, directory):
    """CUPS is not there, or somewhere else; and who is not root is told so."""
    directory.rmdir()
    code, _, err = run("install")
    wanted = "only root may" if os.geteuid() else "Is CUPS installed?"
    assert (code, wanted in err) == (1, True)
    assert not directory.exists()


def test_who_is_not_root_is_refused(run, directory, credentials, monkeypatch):
    """Before anything is looked at or written."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for command in ("install", "remove"):
        code, _, err = run(command)
        assert (code, "only root may" in err) == (1, True)
    assert os.listdir(directory) == []


def test_run_by_hand_the_backend_says_what_it_is(credentials):
    """Without a device URI nobody but a curious person has started it."""
    code = "import sys; from spoold.provider.cups_backend import main; sys.exit(main(['1'], ''))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env={}
    )
    assert done.returncode == 4
    assert "see `spoold submit`" in done.stderr
