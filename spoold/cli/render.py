"""What people read: tables that fit the terminal, sizes, ages and local times; or JSON.

Maps of an operation's answer enter, lines leave. Text of peers passes `plain`, so nothing in a
title can act on the terminal.
"""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spoold.model.text import plain

GAP = "  "
CELLS_MIN = 8  # what a column that gives way keeps


@dataclass(frozen=True, slots=True)
class Column:
    """`gives_way`: this column is cut when the line is too long for the terminal."""

    title: str
    align_right: bool = False
    gives_way: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table, its head first; no line is wider than `width` if columns give way."""
    shown = [[plain(cell) for cell in row] for row in rows]
    grid = [[column.title for column in columns], *shown]
    widths = [max(cells(row[index]) for row in grid) for index in range(len(columns))]
    if width is not None:
        over = sum(widths) + len(GAP) * (len(columns) - 1) - width
        yielding = [index for index, column in enumerate(columns) if column.gives_way]
        while over > 0 and (index := max(yielding, key=widths.__getitem__, default=-1)) >= 0:
            if widths[index] <= CELLS_MIN:
                break
            widths[index] -= 1
            over -= 1
    lines = []
    for row in grid:
        parts = []
        for cell, column, wide in zip(row, columns, widths, strict=True):
            fitted = cut(cell, wide)
            padding = " " * (wide - cells(fitted))
            parts.append(padding + fitted if column.align_right else fitted + padding)
        lines.append(GAP.join(parts).rstrip())
    return lines


def cells(text: str) -> int:
    """How many cells of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(c) for c in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis where it was cut."""
    if cells(text) <= width:
        return text
    kept, used = "", 1
    for character in text:
        used += _cells(character)
        if used > width:
            break
        kept += character
    return kept + "…"


def terminal_width() -> int | None:
    """The cells of a line on stdout; None when it is not a terminal."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
    except (OSError, ValueError):
        return None


def bytes_text(size: int | None) -> str:
    """`0`, `812 B`, `4.0 KiB`, `1.5 GiB`; `-` when unknown."""
    if size is None:
        return "-"
    if size < 1024:
        return f"{size} B" if size else "0"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1000 or unit == "TiB":
            break
    return f"{value:.1f} {unit}"


def counted(count: int, what: str) -> str:
    """`1 printer`, `3 printers`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def duration(seconds: float) -> str:
    """Two digits or so of a time span: `4 s`, `12 min`, `3 h`, `9 d`."""
    seconds = max(0.0, seconds)
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def clock(offset_ms: float | None) -> str:
    """How far another clock is ahead; to the millisecond while it is near: `-0.012 s`, `+3 h`."""
    if offset_ms is None:
        return "-"
    seconds = offset_ms / 1000
    if abs(seconds) < 60:
        return f"{seconds:+.3f} s"
    return f"{'+' if seconds > 0 else '-'}{duration(abs(seconds))}"


def age(at_us: int | None, now_us: int | None = None) -> str:
    """How long ago `at_us` was; `-` when it never was."""
    if not at_us:
        return "-"
    now = time.time() if now_us is None else now_us / 1e6
    return duration(now - at_us / 1e6)


def local_time(at_us: int | None) -> str:
    """`2025-03-01 14:05:33` in the local zone; `-` when it never was."""
    if not at_us:
        return "-"
    seconds, micros = divmod(at_us, 1_000_000)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + (
        f".{micros // 1000:03}" if micros else ""
    )


def readable(key: str, value: Any) -> tuple[str, Any]:
    """A name and a value for people, as the unit at the end of `key` asks."""
    stem, _, unit = key.rpartition("_")
    if unit == "us" and isinstance(value, int):
        return stem.replace("_", " "), local_time(value)
    if unit == "s" and isinstance(value, int | float):
        return stem.replace("_", " "), duration(value)
    if unit == "bytes" and isinstance(value, int):
        return stem.replace("_", " "), bytes_text(value)
    return key.replace("_", " "), value


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], none: str) -> None:
    """Print the table, or the sentence `none` when it has no rows."""
    for line in table(columns, rows, terminal_width()) if rows else [none]:
        print(line)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print what is known of one thing, a line each; what is empty is left out."""
    shown = [(name, words(value)) for name, value in fields]
    shown = [(name, text) for name, text in shown if text]
    wide = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        print(f"{name + ':':{wide + 1}} {text}")


def words(value: Any) -> str:
    """A value in words, safe to show: a list with commas, a map as NAME=VALUE."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(words(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{plain(str(key))}={words(one)}" for key, one in value.items())
    return plain(str(value))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON of an answer; bytes become hexadecimal text."""
    return json.dumps(value, ensure_ascii=True, indent=indent, default=bytes.hex)


def print_json(value: Any) -> None:
    print(json_text(value, indent=2))


def print_json_list(values: Iterable[Any]) -> None:
    """Print a JSON list, an element a line, as the elements come."""
    separator = "["
    for value in values:
        print(separator)
        print(json_text(value), end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")
