"""Where the daemon's control socket is, and a client on it with errors that say what to do."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spoold.provider.blocking import ControlClient


class NotRunning(Exception):
    """Nobody answers on the control socket."""


def candidates(given: str | None, environ: Mapping[str, str]) -> list[Path]:
    """Where the socket may be: what was named alone, else where a daemon would put it."""
    if named := given or environ.get("SPOOLD_CONTROL"):
        return [Path(named)]
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    folders = [runtime] if runtime else []
    return [Path(folder) / "control" for folder in (*folders, "/run/spoold", "spoold-data")]


@contextmanager
def connect(args: Namespace) -> Iterator[ControlClient]:
    """A client of the daemon that runs here.

    Raises:
        NotRunning: there is no daemon, or we may not talk to it.
        OperationError: from calls, what the daemon refused.
    """
    from spoold.provider.blocking import ControlClient
    from spoold.provider.receipt import Unreachable

    where = candidates(getattr(args, "control", None), os.environ)
    path = next((one for one in where if _is_there(one)), None)
    if path is None:
        looked = ", ".join(str(one) for one in where)
        raise NotRunning(
            f"spoold is not running here ({looked}): start it with `spoold serve`, or name its "
            "socket with --control."
        )
    try:
        with ControlClient(path) as client:
            yield client
    except Unreachable as error:
        raise NotRunning(str(error)) from None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # in a directory that we may not read: connecting says so


def pages(client: ControlClient, op: str, args: dict[str, Any], key: str) -> Iterator[Any]:
    """Every element of a paged listing, page by page."""
    asked = dict(args)
    while True:
        answer = client.call(op, asked)
        yield from answer[key]
        if answer.get("next_after_id") is None:
            return
        asked["after_id"] = answer["next_after_id"]
