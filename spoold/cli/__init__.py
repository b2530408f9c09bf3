"""Operator commands: NOUN VERB in, an answer of the daemon out, as a table or as JSON.

They talk to the daemon through its control socket and never open the spool. Nothing here imports
what another command needs, or Trio before one does, so that a command costs little more than
starting Python.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

from spoold import __version__
from spoold.cli import grammar
from spoold.cli.control import NotRunning
from spoold.model.errors import OperationError, SpooldError
from spoold.model.text import plain

INTERRUPTED = 130  # as a shell says of SIGINT
BROKEN_PIPE = 141  # and of SIGPIPE

# The modules that declare commands, each with the words that its commands begin with.
MODULES = {
    "run": ("serve", "demo", "simulate"),
    "submit": ("submit",),
    "count": ("count",),
    "jobs": ("job",),
    "printers": ("printer",),
    "devices": ("device",),
    "status": ("status",),
    "node": ("node", "provider", "journal"),
    "sites": ("site",),
    "firewall": ("firewall",),
    "users": ("user",),
    "sources": ("source",),
    "cards": ("card",),
    "accounts": ("account",),
    "prices": ("price",),
    "usage": ("usage",),
    "backend": ("backend",),
    "imports": ("import",),
    "apply": ("apply", "export"),
    "backup": ("backup", "restore"),
    "check": ("check",),
}
EPILOG = """
start here:
  spoold demo                                   see jobs going in and coming out
  spoold demo --outage                          see a building go on when its line is cut
  spoold serve                                  an application server on this machine
  spoold printer add frontdesk socket://192.0.2.7:9100
  spoold submit -P frontdesk report.pdf
  spoold job list
"""


def parser(first: str = "") -> grammar.Parser:
    """The grammar of the command line: of commands that begin with the word `first`, or, if none
    does, the whole of it.
    """
    declaring = [module for module, words in MODULES.items() if first in words]
    top = grammar.Parser(
        prog="spoold", description="A print-job spooler and fail-over daemon.", epilog=EPILOG
    )
    top.add_argument("--version", action="version", version=f"spoold {__version__}")
    grammar.add_control(top)
    nouns = top.add_subparsers(metavar="COMMAND", required=True)
    for module in declaring or MODULES:
        import_module(f"{__name__}.{module}").add(nouns)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is what `grammar` lists."""
    words = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")  # what it lacks is written as \u6f22
    args = parser(words[0] if words else "").parse_args(words)
    try:
        code: int = args.handler(args)
        sys.stdout.flush()
        return code
    except (OperationError, SpooldError) as error:
        print(plain(f"spoold: {error}"), file=sys.stderr)
        return grammar.REFUSED
    except NotRunning as error:
        print(plain(f"spoold: {error}"), file=sys.stderr)
        return grammar.UNREACHABLE
    except UnicodeEncodeError as error:  # the words of a shell may be any bytes
        print(f"spoold: {error.object!a} is not UTF-8. Write it as UTF-8.", file=sys.stderr)
        return grammar.USAGE
    except (BrokenPipeError, KeyboardInterrupt) as error:
        return _ended_by(error)
    except BaseExceptionGroup as group:  # the same inside Trio
        known, rest = group.split((BrokenPipeError, KeyboardInterrupt))
        if known is None or rest is not None:
            raise
        return _ended_by(known)


def _ended_by(error: BaseException) -> int:
    is_broken = isinstance(error, BrokenPipeError)
    if isinstance(error, BaseExceptionGroup):
        is_broken = error.subgroup(BrokenPipeError) is not None
    if not is_broken:
        return INTERRUPTED
    # Whoever read our output has gone; keep Python from complaining at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
