"""Names that survive a power cut: an entry of a directory is durable once the directory is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: it cannot be read, or the disk failed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory, and its parents, where there is none; what is made here is durable.

    Raises:
        OSError: it cannot be made, or the disk failed.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for depth, folder in enumerate(reversed(missing), 1):
        folder.mkdir(mode if depth == len(missing) else 0o755, exist_ok=True)
        with contextlib.suppress(PermissionError):  # names may be made there, and not be read
            sync_directory(folder.parent)
