"""The data directory is one process's alone: the daemon's, or that of a restore."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spoold.model.errors import ConfigError
from spoold.spool.directories import make_directory

STAGING = "restoring"  # what a restore prepares, in the data directory
READY = "ready"  # in it, once all of it is there: from then on it has to be finished


@contextmanager
def locked(data_dir: Path, *, restores: bool = False) -> Iterator[None]:
    """Hold the data directory until the end; it is made when there is none.

    Raises:
        ConfigError: it cannot be made or written, another spoold has it, or a restore into it was
            interrupted and nobody but another one may go on.
    """
    try:
        make_directory(data_dir)
        fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            "use the data directory",
            str(data_dir),
            error.strerror,
            "Make it writable for this user, or name another one as [node] data_dir.",
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                "use the data directory",
                str(data_dir),
                "another spoold has it",
                "Stop that one, or name another directory as [node] data_dir.",
            ) from error
        if not restores and (data_dir / STAGING / READY).exists():
            raise ConfigError(
                "use the data directory",
                str(data_dir),
                "a restore into it was interrupted",
                "Give the same `spoold restore` again; it goes on where it stopped.",
            )
        yield
    finally:
        os.close(fd)
