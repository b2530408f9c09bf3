"""Reading TOML values by a schema of dataclasses.

A dataclass is the schema of a table: a field's name is the key, its default the default, its
annotation `Annotated[type, reader]`. What TOML holds enters a reader, what the daemon uses leaves
it; `Wrong` says what cannot be, with advice.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from spoold.net.address import host_name

DAY_S = 86_400
MIB = 1024 * 1024
GIB = 1024 * MIB

Reader = Callable[[Any], Any]
SomeReader = TypeVar("SomeReader", bound=Reader)
_TAKES: dict[Reader, str] = {}


def takes(words: str) -> Callable[[SomeReader], SomeReader]:
    """Says of a reader what it takes, for the manual."""

    def note(reader: SomeReader) -> SomeReader:
        _TAKES[reader] = words
        return reader

    return note


def taken_by(reader: Reader) -> str:
    """What the reader takes, in a few words."""
    return _TAKES[reader]


class Wrong(Exception):
    """A value that cannot be; `key` grows on the way out to the whole dotted key."""

    def __init__(self, cause: str, advice: str, key: str = "") -> None:
        super().__init__(cause)
        self.cause, self.advice, self.key = cause, advice, key


_UNITS_S = {
    unit: factor
    for factor, units in (
        (0.001, "ms"),
        (1, " s sec second seconds"),
        (60, "m min minute minutes"),
        (3600, "h hour hours"),
        (DAY_S, "d day days"),
        (7 * DAY_S, "w week weeks"),
    )
    for unit in units.split(" ")
}
_UNITS_BYTES = {"": 1, "b": 1, "kib": 1024, "mib": MIB, "gib": GIB, "tib": 1024 * GIB}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def quantity(text: str, units: Mapping[str, float]) -> float:
    """The number in `text` times the unit that follows it.

    Raises:
        ValueError: there is no number, it is endless, or the unit is not in `units`.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"{text!r} is not a number with a unit")
    if math.isinf(found := float(match[1]) * units[match[2].lower()]):
        raise ValueError(f"{text[:20]!r}… is more than can be counted")
    return found


def duration_s(text: str) -> float:
    """The seconds in a text like `2s`, `90 min`, `30 days`; raises ValueError."""
    return quantity(text, _UNITS_S)


def _named(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "a list" if isinstance(value, list) else "a table")


@takes("a text")
def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"this is {_named(value)}", "Write a text in quotes.")
    if not value.isprintable() or not value.strip():
        raise Wrong("the text is empty or has control characters", "Write a plain text.")
    return value


@takes("a host name or IP address, without a port")
def host(value: Any) -> str:
    try:
        ip_address(text(value).partition("%")[0])
    except ValueError:
        try:
            host_name(value)
        except ValueError as error:
            raise Wrong(str(error), "Write names as print.example.org, without a port.") from None
    return str(value)


@takes("true or false")
def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"this is {_named(value)}", "Write true or false, without quotes.")
    return value


def number(
    least: float,
    most: float,
    units: Mapping[str, float],
    example: str,
    shown: Mapping[int, str] | None = None,
) -> Reader:
    """Reads a number, or a text with a unit, from `least` to `most`, which are told as `shown`."""

    def told(value: float) -> str:
        return _in_unit(value, shown) if shown else _plain(value)

    @takes(f"a number from {_plain(least)} to {_plain(most)}")
    def read(value: Any) -> float:
        if isinstance(value, str) and units:
            try:
                value = quantity(value, units)
            except ValueError as error:
                raise Wrong(str(error), f"Write for example {example}.") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong(f"this is {_named(value)}", f"Write for example {example}.")
        if not least <= value <= most:
            raise Wrong(f"{told(value)} is out of range", f"Use {told(least)} to {told(most)}.")
        return value

    return read


_SPANS = {DAY_S: "days", 3600: "h", 1: "s"}
_SIZES = {1024 * GIB: "TiB", GIB: "GiB", MIB: "MiB", 1: "bytes"}


def _in_unit(value: float, units: Mapping[int, str]) -> str:
    """The value in the largest unit that it is a whole number of."""
    factor = next((one for one in units if value >= one and value % one == 0), 1)
    return f"{_plain(value / factor)} {units[factor]}"


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def seconds(least: float, most: float) -> Reader:
    reader = number(least, most, _UNITS_S, '60 or "1 min"', _SPANS)
    span = f"from {_in_unit(least, _SPANS)} to {_in_unit(most, _SPANS)}"
    return takes(f'seconds, or a text as "1 min", {span}')(lambda value: float(reader(value)))


def size(least: int, most: int) -> Reader:
    reader = number(least, most, _UNITS_BYTES, '1048576 or "1 MiB"', _SIZES)
    words = (
        f'bytes, or a text as "1 MiB", from {_in_unit(least, _SIZES)} to {_in_unit(most, _SIZES)}'
    )
    return takes(words)(lambda value: int(reader(value)))


def whole(least: int, most: int) -> Reader:
    reader = number(least, most, {}, str(least))

    @takes(f"a whole number from {least} to {most}")
    def read(value: Any) -> int:
        if isinstance(value, float):
            raise Wrong(f"{value:g} is not a whole number", "Leave the fraction out.")
        return int(reader(value))

    return read


def one_of(*choices: str) -> Reader:
    @takes(" or ".join(f'"{choice}"' for choice in choices))
    def read(value: Any) -> str:
        if value not in choices:
            advice = f"Use {' or '.join(repr(choice) for choice in choices)}."
            raise Wrong(f"{value!r} is not one of the values", _meant(value, choices) or advice)
        return str(value)

    return read


def listed(read_one: Reader) -> Reader:
    """Reads a list of any length; a single value is not taken for a list of one."""

    @takes(f"a list; each element: {taken_by(read_one)}")
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(f"this is {_named(value)}", "Write a list: [ … ].")
        found = []
        for index, one in enumerate(value):
            try:
                found.append(read_one(one))
            except Wrong as wrong:
                rest = f".{wrong.key}" if wrong.key else ""
                raise Wrong(wrong.cause, wrong.advice, f"[{index}]{rest}") from None
        return tuple(found)

    return read


@takes("a path; a relative one starts at the folder of the file")
def path(value: Any) -> Path:
    return Path(text(value)).expanduser()


def table(shape: type[Any]) -> Reader:
    """Reads a table as the dataclass `shape`: the one walk over the schema."""

    @takes("a table")
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Wrong(f"this is {_named(value)}", "Write a table.")
        hints = get_type_hints(shape, include_extras=True)
        readers = {one.name: hints[one.name].__metadata__[0] for one in fields(shape)}
        needed = {
            one.name
            for one in fields(shape)
            if one.default is MISSING and one.default_factory is MISSING
        }
        found = {}
        for key, inner in value.items():
            if key not in readers:
                known = f"Known here: {', '.join(readers)}."
                raise Wrong("there is no such key", _meant(key, readers) or known, key)
            try:
                found[key] = readers[key](inner)
            except Wrong as wrong:
                dot = "." if wrong.key and not wrong.key.startswith("[") else ""
                raise Wrong(wrong.cause, wrong.advice, f"{key}{dot}{wrong.key}") from None
        if missing := sorted(needed - found.keys()):
            raise Wrong("a key is missing", f"Add {' and '.join(missing)}.")
        return shape(**found)

    return read


def _meant(word: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else ""
