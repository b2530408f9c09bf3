"""Secrets that the service manager hands over as files, by `LoadCredential=` (systemd.exec).

In: a path, or "credential:NAME", as people write it in the configuration or an option of a printer.
Out: where the file lies. They are read-only, and nobody but this service sees them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

PREFIX = "credential:"
VARIABLE = "CREDENTIALS_DIRECTORY"
OF_UNIT = Path("/run/credentials/spoold.service")  # while that runs; root can read them


def directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where the credentials lie; None when none were handed over."""
    text = environ.get(VARIABLE, "")
    return Path(text) if text.startswith("/") else None


def as_of_unit(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For a command that is given by hand: the surroundings, with what the unit has."""
    return {VARIABLE: str(OF_UNIT), **environ}


def is_name(text: str) -> bool:
    """Whether this is "credential:NAME", with a name that can be one."""
    name = text.removeprefix(PREFIX)
    return text.startswith(PREFIX) and "/" not in name and name not in ("", ".", "..")


def resolve(text: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The file that a path or "credential:NAME" stands for.

    Raises:
        FileNotFoundError: no credentials were handed over.
    """
    if not is_name(text):
        return Path(text)
    folder = directory(environ)
    if folder is None:
        raise FileNotFoundError(2, "the service manager hands no credentials over", text)
    return folder / text.removeprefix(PREFIX)


def found(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The credential of this name, when it was handed over."""
    folder = directory(environ)
    path = folder / name if folder is not None else None
    return path if path is not None and path.is_file() else None


def names(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What was handed over."""
    folder = directory(environ)
    return () if folder is None else tuple(sorted(os.listdir(folder)))


def is_private(path: Path, status: os.stat_result) -> bool:
    """Whether no other user can read the file. The mode of a credential shows the mask of its ACL,
    not who may read it.
    """
    return not stat.S_IMODE(status.st_mode) & 0o077 or path.parent == directory()
