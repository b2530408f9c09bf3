"""`spoold check`: is this machine, and is this configuration, fit to run a node?

In: a configuration file, or none. Out: findings, in the order in which one would mend them, each
with advice where something is wrong. Nothing is changed: what is written to try the disk is removed
again, and ports are let go at once. It works beside a running daemon, and before there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from spoold.daemon import config as configuration
from spoold.daemon.config import Config
from spoold.model.errors import ConfigError
from spoold.net import credentials


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do if it is not well."""

    what: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked. `is_running`: its daemon answers on the control socket."""

    config: Config
    is_running: bool

    @property
    def data_dir(self) -> Path:
        return self.config.node.data_dir


Checker = Callable[[Subject], Iterable[Finding]]


def ok(what: str, text: str) -> Finding:
    return Finding(what, Verdict.OK, text)


def warning(what: str, text: str, advice: str) -> Finding:
    return Finding(what, Verdict.WARNING, text, advice)


def failed(what: str, text: str, advice: str) -> Finding:
    return Finding(what, Verdict.FAILED, text, advice)


def check(
    config_file: str | None, daemon: str | None, checkers: Iterable[Checker]
) -> Iterator[Finding]:
    """Look at the configuration, then at everything else by it.

    `daemon` is the GUID of the node that answers on the control socket; "" where one is there and
    may not be asked, None where there is none.
    """
    where = config_file or "the defaults"
    try:
        config = configuration.load(config_file, credentials.as_of_unit())
    except ConfigError as error:
        advice = f"{error.advice} What follows is looked at with the defaults."
        yield failed("configuration", f"{error.subject}: {error.cause}", advice)
        config = configuration.load(None, os.environ)
    else:
        yield ok("configuration", f"{where}: node {config.node.name}, {config.node.role}")
    subject = Subject(config, _is_of(config.node.data_dir, daemon))
    for checker in checkers:
        yield from checker(subject)


def _is_of(data_dir: Path, daemon: str | None) -> bool:
    """Whether the daemon that answers is the one of this data directory."""
    try:
        guid = (data_dir / "node-guid").read_text("ascii").strip()
    except FileNotFoundError:
        return False
    except (OSError, UnicodeError):
        return daemon is not None
    return daemon in (guid, "")
