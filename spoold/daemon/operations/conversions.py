"""What an administrator says of converters: maps in, conversions of the model out; and back."""

from __future__ import annotations

import re
import shutil
from typing import Any

from spoold.daemon.operations.table import Argument
from spoold.dispatch.convert import PATH
from spoold.model.conversion import ARGUMENTS_MAX, Conversion
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal
from spoold.model.printer import Printer
from spoold.model.text import plain

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w.+-]*/[A-Za-z0-9][\w.+-]*", re.ASCII).fullmatch

CONVERSIONS = Argument(
    "conversions",
    (list,),
    most=16,
    each=Argument(
        "",
        (dict,),
        keys=(
            Argument("from", least=3, most=255, required=True, summary="A document format."),
            Argument("to", least=3, most=255, required=True, summary="One that it takes."),
            Argument(
                "command",
                (list,),
                least=1,
                most=ARGUMENTS_MAX,
                each=Argument("", most=512),
                required=True,
                summary="The program and its arguments.",
            ),
        ),
    ),
    summary="Programs that make documents what the printer takes; none takes them all away.",
)


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def read_conversions(name: str, value: Any) -> tuple[Conversion, ...]:
    """The conversions that `value` describes; the first of each source format counts.

    Raises:
        OperationError: `bad-request`: one cannot be.
    """
    if not isinstance(value, list):
        raise _bad(f"{name} is not a list.", "See `spoold printer set --help`, --convert.")
    found = []
    for one in value:
        for key in ("from", "to"):
            if not _MEDIA_TYPE(one[key]):
                raise _bad(
                    f"{plain(one[key][:60])!r} is no document format.",
                    "Use a media type, as application/pdf.",
                )
        command = tuple(one["command"])
        if not command[0] or any("\0" in word for word in command):
            raise _bad("a converter needs a program.", "Name one, as gs or /usr/bin/gs.")
        found.append(Conversion(one["from"].lower(), one["to"].lower(), command))
    return tuple(found)


def check_conversions(printer: Printer, principal: Principal, old: Printer | None = None) -> None:
    """Let a printer have its conversions, if they are not the old ones.

    Raises:
        OperationError: `forbidden`: not from here. `bad-request`: they do not go with the formats
            of the printer, or there is no such program.
    """
    if printer.conversions and (old is None or old.conversions != printer.conversions):
        if principal.port is not Port.CONTROL:
            raise OperationError(
                "forbidden",
                "programs are named on the machine that runs them alone.",
                "Use the command line there.",
            )
        for one in printer.conversions:
            if shutil.which(one.command[0], path=PATH) is None:
                raise _bad(
                    f"there is no program {plain(one.command[0][:100])!r} here.",
                    f"Install it, or name it with its whole path; looked in {PATH}.",
                )
    for one in printer.conversions:
        if not printer.formats or not printer.takes(one.target):
            raise _bad(
                f"{printer.name} is not said to take {one.target}.",
                f"Name what it takes: --format {one.target}.",
            )
        if printer.takes(one.source):
            raise _bad(
                f"{printer.name} takes {one.source} as it is.",
                "Leave the conversion out, or that format.",
            )


def conversion_map(conversion: Conversion) -> dict[str, Any]:
    return {
        "from": conversion.source,
        "to": conversion.target,
        "command": list(conversion.command),
    }
