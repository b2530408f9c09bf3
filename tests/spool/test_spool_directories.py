"""Directories that are durable when they are made."""

from __future__ import annotations

import os

import pytest

from spoold.spool import directories
from spoold.spool.directories import make_directory


def test_every_directory_that_is_made_is_durable(tmp_path, monkeypatch):
    """The name of each new one is synced where it stands; what was there is left alone."""
    synced = []
    monkeypatch.setattr(directories, "sync_directory", synced.append)
    make_directory(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700
    make_directory(tmp_path / "a" / "b" / "c")
    assert len(synced) == 3


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path):
    """Nothing is replaced."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        make_directory(tmp_path / "file")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        make_directory(tmp_path / "file" / "below")
    assert os.listdir(tmp_path) == ["file"]
