"""Credentials of the service manager: names become files, and who else could read them is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from spoold.net import credentials


def test_names_and_paths_become_files(tmp_path: Path) -> None:
    """ "credential:NAME" lies in the directory of the service manager; a path is what it is."""
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert credentials.resolve("credential:tls.key", environ) == tmp_path / "tls.key"
    assert credentials.resolve("/etc/key", environ) == Path("/etc/key")
    assert credentials.found("tls.key", environ) is None
    (tmp_path / "tls.key").write_text("secret")
    assert credentials.found("tls.key", environ) == tmp_path / "tls.key"


def test_without_the_service_manager_there_are_none() -> None:
    """The error names what was asked for."""
    assert credentials.found("tls.key", {}) is None
    with pytest.raises(FileNotFoundError, match="credential:tls"):
        credentials.resolve("credential:tls.key", {})


@pytest.mark.parametrize("text", ["credential:", "credential:..", "credential:a/b", "credential"])
def test_what_is_no_name_stays_a_path(text: str) -> None:
    """No name leads out of the directory."""
    assert not credentials.is_name(text)
    assert credentials.resolve(text, {}) == Path(text)


def test_a_credential_is_private_whatever_its_mode_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere nobody but the owner may have any right."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    for folder, mode, is_private in (
        ("handed", 0o440, True),
        ("own", 0o440, False),
        ("own", 0o600, True),
    ):
        path = tmp_path / folder / "password"
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
        path.chmod(mode)
        assert credentials.is_private(path, path.stat()) is is_private
