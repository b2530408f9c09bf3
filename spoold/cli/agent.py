"""`spoold provider agent`: what a print provider does beside its jobs, on its own machine.

It asks servers where may be printed without them, and tells them what was. Whoever submits does
both, too, with each job; the agent does them also while there are no jobs.
"""

from __future__ import annotations

import signal
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from spoold.cli import grammar
from spoold.cli.grammar import DONE, REFUSED, UNREACHABLE, Nouns, Parser
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.provider.alone import Alone, Paper, Told
    from spoold.provider.endpoint import Credentials
    from spoold.provider.receipt import Unreachable

EXAMPLES = """
spoold provider agent --server hq.example.org:9195 --credentials till.pem --state /var/lib/till
spoold provider agent --once --server hq.example.org:9195 --credentials till.pem --state state

exit codes of --once:
0   servers know of all that was printed without them
1   one was refused, and is tried again; or the certificate was
75  no server could be reached
"""
LOOK_S = 60.0
SOON_S = 5.0  # while there is something to tell


def add(verbs: Nouns[Parser]) -> None:
    parser = grammar.command(
        verbs,
        "agent",
        run,
        "report what a provider printed without a server, and ask where it may",
        EXAMPLES,
    )
    parser.add_argument("--server", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument(
        "--credentials",
        required=True,
        metavar="FILE",
        help="key, certificate and CA in one PEM file that only its owner reads",
    )
    parser.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="the provider's own folder"
    )
    parser.add_argument("--once", action="store_true", help="do it once, and end")


def alone_of(state: Path) -> Alone:
    """Raises:
    ConfigError: the folder cannot be used.
    """
    from spoold.provider.alone import Alone
    from spoold.provider.notebook import Notebook

    def paper() -> Paper:
        from spoold.cli.paper import DevicePaper

        return DevicePaper()

    return Alone(Notebook(state), paper)


def complain_of(told: Told) -> None:
    """Say what servers did not take."""
    for note, error in told.refused:
        print(
            plain(f"spoold: {note.job_uuid} was printed on {note.uri}, and not reported: {error}"),
            file=sys.stderr,
        )


def run(args: Namespace) -> int:
    from spoold.provider.credentials import read_bundle
    from spoold.provider.receipt import Unreachable

    alone = alone_of(args.state)
    tls = read_bundle(args.credentials)
    if args.once:
        try:
            return REFUSED if _tell(alone, args.server, tls).refused else DONE
        except Unreachable as error:
            return _complain(error)
    signal.signal(signal.SIGTERM, _end)
    is_away = False
    while True:
        try:
            _tell(alone, args.server, tls)
            is_away = False
        except Unreachable as error:
            if not is_away:
                _complain(error)
            is_away = True
        time.sleep(SOON_S if is_away and alone.has_to_tell else LOOK_S)


def _complain(error: Unreachable) -> int:
    """Say that no server was reached; the exit code."""
    advice = "Look at the credentials, and at `spoold provider list` there."
    said = f"{error.message} {advice}" if error.is_for_good else str(error)
    print(plain(f"spoold: {said}"), file=sys.stderr)
    return REFUSED if error.is_for_good else UNREACHABLE


def _tell(alone: Alone, servers: list[str], tls: Credentials) -> Told:
    """Raises:
    Unreachable: no server can be reached.
    """
    from spoold.provider.direct import DirectProvider

    with DirectProvider(servers, tls=tls) as provider:
        told = alone.tell(provider, asks_again=True)
    if told.reported:
        print(f"{told.reported} reported.", flush=True)
    complain_of(told)
    return told


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(DONE)
