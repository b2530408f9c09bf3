"""`spoold simulate mfd`: the simulated MFD on a terminal, or doing what the command line says."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from spoold.cli.grammar import DONE, REFUSED, UNREACHABLE, USAGE
from spoold.model.text import plain
from spoold.provider.course import Lost
from spoold.provider.endpoint import Tls
from spoold.simulate.mfd import Mfd
from spoold.simulate.mfd_terminal import Terminal

PROMPT = "> "
TOKEN_BYTES_MAX = 4096


def run(args: Namespace) -> int:
    """Exit code 1 when something was refused, and 75 when nobody answers, as for scripts."""
    try:
        token = ""
        if args.token_file is not None:
            with Path(args.token_file).open("rb") as file:
                token = file.read(TOKEN_BYTES_MAX).decode("ascii", "replace").strip()
        mfd = Mfd(args.server, Tls(args.ca, args.cert, args.key), token=token)
    except OSError as error:
        print(plain(f"spoold: {error.filename}: {error.strerror}."), file=sys.stderr)
        return USAGE
    return trio.run(_run, mfd, args.commands)


async def _run(mfd: Mfd, commands: list[str]) -> int:
    lines = _named(commands) if commands else _typed()
    async with mfd.opened(), trio.open_nursery() as nursery:
        terminal = Terminal(mfd, _say, nursery)
        try:
            server = await mfd.reach()
        except Lost as error:
            print(plain(f"spoold: {str(error).rstrip('.')}."), file=sys.stderr)
            if commands:
                return UNREACHABLE
        else:
            _say(f"Connected to {server}.")
        await terminal.run(lines)
        nursery.cancel_scope.cancel()
    return REFUSED if terminal.failures and commands else DONE


def _say(line: str) -> None:
    for one in line.split("\n"):
        print(plain(one), flush=True)


async def _named(commands: list[str]) -> AsyncIterator[str]:
    for command in commands:
        print(plain(f"{PROMPT}{command.split(' ')[0]}"), flush=True)
        yield command


async def _typed() -> AsyncIterator[str]:
    """Lines of the standard input. A thread that waits for one must not hold the end."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print("`help` lists what can be done here.")
    while True:
        if is_terminal:
            print(PROMPT, end="", flush=True)
        line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        if not line:
            return
        yield line
