"""Log events to stdout: readable on a terminal, else a line of JSON each; to systemd with fields.

Events with their fields enter through structlog; no control or format character of a peer's text
leaves: it is escaped as in a Python string. A log that cannot be written is dropped: a full disk
behind stdout must not stop the spooler.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from spoold.daemon import journald
from spoold.model.text import plain

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str = "info", out: TextIO | None = None, pretty: bool | None = None) -> None:
    """Every logger of structlog now writes to `out` (stdout) what is at least `level`.

    `pretty` None asks whether `out` is a terminal.

    Raises:
        ValueError: `level` is not one of `LEVELS`.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    stream = sys.stdout if out is None else out
    is_journal = out is None and journald.is_behind(os.environ, sys.stdout)
    if pretty is None:
        pretty = stream.isatty()
    logger = journald.Journald(stream) if is_journal else _Lines(stream)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            _escape,
            _with_fields if is_journal else _pretty() if pretty else _json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=True,
    )


def _escape(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(plain(line) for line in str(value).split("\n"))
        elif not isinstance(value, int | float | None):
            event[key] = _escaped(value)
    return event


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {plain(str(key)): _escaped(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_escaped(one) for one in value]
    if isinstance(value, int | float | None):
        return value
    return plain(str(value))


def _json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    first = {key: event.pop(key) for key in ("at", "level", "event") if key in event}
    return json.dumps({**first, **event}, ensure_ascii=False)


def _with_fields(
    logger: WrappedLogger, method: str, event: EventDict
) -> tuple[tuple[str, EventDict], dict[str, Any]]:
    """The line, and what stands in it, as arguments of `Journald`."""
    return (_json(logger, method, dict(event)), event), {}


def _pretty() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        timestamp_key="at",
        pad_event_to=24,
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )


class _Lines:
    """The end of the chain: writes a line, and never raises for it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except (OSError, ValueError):  # no room, no reader, or closed
            pass

    debug = info = warning = warn = error = critical = fatal = exception = msg
