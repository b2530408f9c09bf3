"""What a printer can be told: arguments and `--option` words in, fields and driver options out.

Pure: names become checked values here, and what exists is checked where it is changed. An empty
word takes a setting back to its default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from spoold.daemon.operations.conversions import CONVERSIONS, read_conversions
from spoold.daemon.operations.offer import OFFER
from spoold.daemon.operations.table import Argument, near
from spoold.model.errors import OperationError
from spoold.model.person import Known as HowKnown
from spoold.model.printer import Order, Printer, WhenInDoubt, WhenUnreachable
from spoold.model.release import (
    RULE_CHARACTERS_MAX,
    RULES_MAX,
    Charging,
    ReleaseMode,
    read_rule,
    read_sender,
)
from spoold.model.text import plain

OPTIONS_MAX = 32
KEEP_HELD_S_MAX = 366 * 86_400
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w.+-]*/[A-Za-z0-9][\w.+-]*", re.ASCII)
_SWITCH = {"on": True, "yes": True, "true": True, "1": True} | {
    "off": False, "no": False, "false": False, "0": False
}  # fmt: skip
_PORTS = {"socket": 9100, "lpd": 515, "ipp": 631, "ipps": 631, "spoold": 9195}

_NAMES = Argument("", least=1, most=127)
_RULE = Argument("", least=1, most=RULE_CHARACTERS_MAX)
ARGUMENTS = (
    Argument("uri", most=1024, summary="A device URI, as socket://192.0.2.7:9100."),
    Argument("members", (list,), most=64, each=_NAMES, summary="Printers: makes it a pool."),
    Argument("standby", (list,), most=64, each=_NAMES, summary="Members that help in need."),
    Argument(
        "options",
        (dict,),
        most=OPTIONS_MAX,
        each=Argument("", (str, bool, int, float), most=512),
        summary="Settings of the printer, and options of its driver.",
    ),
    Argument("order", choices=("", *Order)),
    Argument("in_doubt", choices=("", *WhenInDoubt)),
    Argument(
        "when_unreachable",
        choices=("", *WhenUnreachable),
        summary="What a provider does while it reaches no server.",
    ),
    Argument("formats", (list,), most=64, each=Argument("", most=255)),
    Argument("least_owner", choices=("", *HowKnown)),
    Argument("hold_new_jobs", (bool,)),
    Argument("accepting", (bool,)),
    Argument("info", most=127),
    Argument("location", most=127),
    Argument("geo_location", most=127, summary="A geo: URI, as geo:48.2,16.4."),
    Argument("organization", most=127),
    Argument("organizational_unit", most=127),
    Argument("more_info", most=1023, summary="The URI of a page about the printer."),
    Argument("shared", (bool,), summary="Announce it to the network (DNS-SD)."),
    Argument("release", choices=("", *ReleaseMode), summary="Whether jobs wait for their owners."),
    Argument("releases_at", (list,), most=64, each=_NAMES, summary="Where find-me jobs come out."),
    Argument(
        "keep_held_s",
        (int,),
        most=KEEP_HELD_S_MAX,
        summary="For how long a job waits for its owner; 0 is for ever.",
    ),
    Argument("charging", choices=("", *Charging), summary="Whether jobs are paid for."),
    Argument("default_account", most=255, summary="Who pays for jobs; ? lets somebody choose."),
    Argument("policies", (list,), most=RULES_MAX, each=_RULE, summary="Who may print what, when."),
    Argument("senders", (list,), most=RULES_MAX, each=_RULE, summary="Whose jobs of senders are."),
    Argument("owner", most=63, summary="The node that prints its jobs; empty is this one."),
    CONVERSIONS,
    OFFER,
)


def _bad(name: str, value: object, advice: str) -> OperationError:
    return OperationError("bad-request", f"{name} is {plain(str(value)[:60])!r}.", advice)


def switch(name: str, value: Any) -> bool:
    """`value` as a switch.

    Raises:
        OperationError: `bad-request`.
    """
    found = value if isinstance(value, bool) else _SWITCH.get(str(value).lower())
    if found is None:
        raise _bad(name, value, "Use on or off.")
    return found


def _keyword(of: type[StrEnum]) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        try:
            return of(str(value).lower())
        except ValueError:
            raise _bad(name, value, f"Use {', '.join(of)}.") from None

    return read


def _formats(name: str, value: Any) -> tuple[str, ...]:
    words = value if isinstance(value, list) else str(value).split(",")
    found = tuple(dict.fromkeys(word.strip().lower() for word in words if word.strip()))
    for word in found:
        if not _MEDIA_TYPE.fullmatch(word):
            raise _bad(name, word, "Use media types, as application/pdf,image/urf.")
    return found


def _text(name: str, value: Any) -> str:
    text = str(value)
    if len(text) > 127 or not text.isprintable():
        raise _bad(name, value, "Use at most 127 characters that can be printed.")
    return text


def _uri(*schemes: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        text = str(value)
        is_visible = text.isascii() and text.isprintable() and " " not in text
        if not is_visible or text.partition(":")[0].lower() not in schemes:
            raise _bad(name, value, f"Use a URI that begins with {' or '.join(schemes)}:.")
        return text

    return read


def _names(name: str, value: Any) -> tuple[str, ...]:
    words = value if isinstance(value, list) else str(value).split(",")
    return tuple(dict.fromkeys(word.strip() for word in words if word.strip()))


def _seconds(name: str, value: Any) -> int:
    text = str(value)
    if not text.isascii() or not text.isdecimal() or int(text) > KEEP_HELD_S_MAX:
        raise _bad(name, value, f"Use seconds, at most {KEEP_HELD_S_MAX}; 0 is for ever.")
    return int(text)


def _rules(read: Callable[[str], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    def read_all(name: str, value: Any) -> tuple[Any, ...]:
        texts = value if isinstance(value, list) else [value]
        return tuple(read(str(text)) for text in texts if str(text).strip())

    return read_all


_READ: dict[str, Callable[[str, Any], Any]] = {
    "order": _keyword(Order),
    "in_doubt": _keyword(WhenInDoubt),
    "when_unreachable": _keyword(WhenUnreachable),
    "least_owner": _keyword(HowKnown),
    "formats": _formats,
    "hold_new_jobs": switch,
    "accepting": switch,
    "info": _text,
    "location": _text,
    "geo_location": _uri("geo"),
    "organization": _text,
    "organizational_unit": _text,
    "more_info": _uri("http", "https"),
    "shared": switch,
    "conversions": read_conversions,
    "release": _keyword(ReleaseMode),
    "releases_at": _names,
    "keep_held_s": _seconds,
    "charging": _keyword(Charging),
    "default_account": _text,
    "policies": _rules(read_rule),
    "senders": _rules(read_sender),
}
_ALSO = {"hold": "hold_new_jobs"}
_DEFAULTS = {one.name: one.default for one in fields(Printer) if one.default is not MISSING}


def read_settings(args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The printer's fields, the driver's options ("" takes one away), and advice.

    Raises:
        OperationError: `bad-request`: a value cannot be.
    """
    given = {name: args[name] for name in _READ if args[name] is not None}
    driver: dict[str, str] = {}
    advice: list[str] = []
    for key, value in (args["options"] or {}).items():
        name = key.replace("-", "_")
        name = _ALSO.get(name, name)
        if name in _READ:
            given[name] = value
            continue
        if not key or not key.isprintable() or len(key) > 64:
            raise _bad("an option's name", key, "Use names as connect_timeout_s.")
        driver[key] = ("on" if value else "off") if isinstance(value, bool) else str(value)
        if question := near(name, (*_READ, *_ALSO)):
            advice.append(f"The option {plain(key)} goes to the driver. {question}")
    return read_fields(given), driver, advice


def read_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a printer; an empty value is the default.

    Raises:
        OperationError: `bad-request`: a value cannot be.
    """
    return {
        name: _DEFAULTS[name] if value == "" else _READ[name](name, value)
        for name, value in given.items()
    }


def merged(old: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """`old` with what is `given`; an empty value takes an option away."""
    return {key: value for key, value in {**old, **given}.items() if value}


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise OperationError(
            "bad-request",
            f"{plain(parts.netloc[:200])!r} names no port that can be.",
            "A port is a number from 1 to 65535; without one it is that of the scheme.",
        )
    return port


def read_uri(text: str) -> tuple[str, dict[str, str]]:
    """A device URI in the one form by which devices are compared, and the options of its query.

    Raises:
        OperationError: `bad-request`: it is no URI with a scheme.
    """
    advice = "Write one as socket://192.0.2.7:9100, lpd://192.0.2.7/queue or file:///directory."
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise OperationError("bad-request", f"{plain(text[:200])!r}: {error}.", advice) from None
    if not parts.scheme or not text.isprintable() or " " in text:
        raise OperationError("bad-request", f"{plain(text[:200])!r} is no device URI.", advice)
    if parts.scheme == "file":
        return text, {}
    port = _port(parts)
    user, at, where = parts.netloc.rpartition("@")
    if port is not None and port == _PORTS.get(parts.scheme):
        where = where.rpartition(":")[0]
    path = "" if parts.path == "/" else parts.path
    plain_parts = parts._replace(netloc=user + at + where.lower(), path=path, query="")
    return plain_parts.geturl(), dict(parse_qsl(parts.query, keep_blank_values=True)[:OPTIONS_MAX])
