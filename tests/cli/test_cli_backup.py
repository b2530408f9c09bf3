"""`spoold backup`, `backup list`, `backup verify` and `restore` as an administrator gives them."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from spoold.daemon import manifest
from support.commands import Run


@pytest.mark.slow
def test_a_backup_is_taken_listed_verified_and_restored(run: Run, tmp_path: Path) -> None:
    """Each command says what it did, and a restore what there is to do next."""
    backups, data_dir = tmp_path / "backups", tmp_path / "data"
    for _ in range(3):
        taken = run(f"backup {backups} --keep 2")
        assert taken.code == 0, taken.err
    assert re.search(r"Z(-\d)?: jobs: \d+, [\d.]+ \w+, [\d.]+ \w+ of it new\.", taken.out)
    assert "Removed " in taken.out
    assert "guard it" in taken.out
    listed = run(f"backup list {backups}")
    assert len(listed.out.splitlines()) == 3
    verified = run(f"backup verify {backups}")
    assert verified.code == 0
    assert "whole" in verified.out
    restored = run(f"restore {backups} --data-dir {data_dir}")
    assert restored.code == 0, restored.err
    assert "is as it was at" in restored.out
    assert "Start the daemon now." in restored.out
    again = run(f"restore {backups} --data-dir {data_dir}")
    assert again.code == 1
    assert "--replace" in again.err
    assert run(f"restore {backups} --data-dir {data_dir} --replace --json").json["aside"]


def test_what_is_a_credential_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the backup, which has it not, and by the restore, after which it is needed."""
    (tmp_path / "handed").mkdir()
    (tmp_path / "handed" / "desk.password").write_text("not in any backup")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    taken = run(f"backup {tmp_path / 'backups'}")
    assert "hands them over: desk.password." in taken.out
    assert run(f"backup list {tmp_path / 'backups'} --json").json[0]["credentials"] == [
        "desk.password"
    ]
    restored = run(f"restore {tmp_path / 'backups'} --data-dir {tmp_path / 'data'}")
    assert "the credentials desk.password" in restored.out
    assert "LoadCredential=" in restored.out
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    config = tmp_path / "spoold.toml"  # of a unit that hands over what this command has not
    config.write_text(
        '[node]\ndata_dir = "again"\n'
        '[tls]\ncertificate = "credential:tls.crt"\nkey = "credential:tls.key"\n'
    )
    assert run(f"restore {tmp_path / 'backups'} --config {config}").code == 0


def _not_permitted(folder: Path) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", str(folder))


def test_what_cannot_be_backed_up_is_told_with_advice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that cannot be written, a directory without backups, and one of somebody else's."""
    (tmp_path / "file").write_text("")
    refused = run(f"backup {tmp_path / 'file' / 'backups'}")
    assert refused.code == 1
    assert "ReadWritePaths=" in refused.err
    assert f"{tmp_path / 'file'}" in refused.err
    assert run(f"backup verify {tmp_path}").code == 1
    assert "There is no backup in" in run(f"backup list {tmp_path}").out
    (tmp_path / "20250301T020000Z").mkdir()
    monkeypatch.setattr(manifest, "read_head", _not_permitted)
    for words in (f"list {tmp_path}", f"verify {tmp_path}"):
        said = run(f"backup {words}")
        assert (said.code, "Only root and the daemon's user may" in said.err) == (1, True)
    for words in (f"weigh {tmp_path}", "list", "verify"):
        assert run(f"backup {words}").code == 2
