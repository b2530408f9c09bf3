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


class NotAnswering(NotRunning):
    """There is a daemon, and we may not talk to it, or it does not answer."""


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
    where = candidates(getattr(args, "control", None), os.environ)
    with _first_that_answers(where) as client:
        try:
            yield client
        except _unreachable() as error:
            raise NotRunning(str(error)) from None


def _first_that_answers(where: list[Path]) -> ControlClient:
    """A socket that a daemon left behind when it was killed is passed over."""
    from spoold.provider.blocking import ControlClient

    for path in where:
        try:
            return ControlClient(path)
        except _unreachable() as error:
            if not isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
                raise NotAnswering(str(error)) from None
    looked = ", ".join(str(one) for one in where)
    raise NotRunning(
        f"not running here ({looked}): start it with `spoold serve`, or name its "
        "socket with --control."
    )


def _unreachable() -> type[Exception]:
    from spoold.provider.receipt import Unreachable

    return Unreachable


def pages(client: ControlClient, op: str, args: dict[str, Any], key: str) -> Iterator[Any]:
    """Every element of a paged listing, page by page."""
    asked = dict(args)
    while True:
        answer = client.call(op, asked)
        yield from answer[key]
        if answer.get("next_after_id") is None:
            return
        asked["after_id"] = answer["next_after_id"]
