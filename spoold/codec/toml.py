"""Writing TOML 1.0, which the standard library only reads: plain values in, text out.

Texts, whole numbers, fractions, switches, lists and maps; nil and what is nested deeper than
`LEVELS_MAX` raise ValueError.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

LEVELS_MAX = 16
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII).fullmatch
_ESCAPED = {
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
}


def table(path: Sequence[str], values: Mapping[str, Any]) -> str:
    """`[path]` and its values a line each; maps among them as tables of their own, behind."""
    lines = [f"[{'.'.join(map(key, path))}]"]
    inner = []
    for name, one in values.items():
        if isinstance(one, dict):
            inner.append(table((*path, name), one))
        else:
            lines.append(f"{key(name)} = {value(one)}")
    return "\n".join(lines) + "\n" + "".join(f"\n{text}" for text in inner)


def key(name: str) -> str:
    """A key, quoted where it has to be."""
    return name if _BARE(name) else _text(name)


def value(one: Any, levels: int = LEVELS_MAX) -> str:
    """A value on one line, maps as inline tables.

    Raises:
        ValueError: TOML has no such value.
    """
    if levels <= 0:
        raise ValueError("nested too deep")
    if isinstance(one, str):
        return _text(one)
    if isinstance(one, bool):
        return "true" if one else "false"
    if isinstance(one, int):
        return str(int(one))
    if isinstance(one, float) and math.isfinite(one):
        return repr(one)
    if isinstance(one, (list, tuple)):
        return f"[{', '.join(value(each, levels - 1) for each in one)}]"
    if isinstance(one, dict):
        pairs = (f"{key(name)} = {value(each, levels - 1)}" for name, each in one.items())
        return f"{{ {', '.join(pairs)} }}" if one else "{}"
    raise ValueError(f"TOML has no {type(one).__name__}")


def _text(text: str) -> str:
    return f'"{"".join(map(_character, text))}"'


def _character(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    number = ord(character)
    if 0xD800 <= number <= 0xDFFF:
        raise ValueError("a text has half of a surrogate pair")
    if character.isprintable():
        return character
    # What hides or acts on a terminal is written as its number.
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
