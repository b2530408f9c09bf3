"""The options that a driver says it knows, and what may stand in them.

A driver lists its own as its `options`, made of `seconds`, `switches`, `files` and `texts`; what is
in a text it judges itself. One without such a list judges all of them itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from enum import StrEnum
from math import isfinite

from spoold.model.errors import OperationError
from spoold.model.printer import Device
from spoold.net.credentials import is_name


class Kind(StrEnum):
    SECONDS = "a number of seconds"
    SWITCH = "on or off"
    FILE = "the whole path of a file on the daemon's machine, or credential:NAME"
    TEXT = "text"


Options = Mapping[str, Kind]
SWITCHES = frozenset({"on", "yes", "true", "1", "off", "no", "false", "0"})


def seconds(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, Kind.SECONDS)


def switches(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, Kind.SWITCH)


def files(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, Kind.FILE)


def texts(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, Kind.TEXT)


def check(device: Device, known: Options) -> None:
    """Let through options that are known, with values that can be read.

    Raises:
        OperationError: `bad-request`, one is unknown, or its value means nothing.
    """
    for name, value in device.options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(known))}."
            raise OperationError(
                "bad-request",
                f"devices of {device.scheme}: have no option {name}.",
                f"{meant} `--option {name}=` takes it away.",
            )
        if not _can_be(value, known[name]):
            raise OperationError(
                "bad-request", f"{name}={value} cannot be.", f"Give {known[name].value}."
            )


def _can_be(value: str, kind: Kind) -> bool:
    if kind is Kind.SWITCH:
        return value.lower() in SWITCHES
    if kind is Kind.SECONDS:
        try:
            return isfinite(float(value)) and float(value) >= 0
        except ValueError:
            return False
    if kind is Kind.FILE:  # where the daemon stands is not where the administrator does
        return value.startswith("/") or is_name(value)
    return True
