"""The option strings of CUPS: a job's options as backends get them, and lines of lpoptions.

In: `media=A4 sides=two-sided-long-edge job-name=Price\\ list collate`. Out: names and values, all
texts. As `cupsParseOptions` reads them (CUPS 2.4): values end at white space, `\\` takes the next
character as it is, quotes of either kind group, braces hold a collection whose text is kept, and a
name without a value is `true`, or `false` behind `no`. Every text is read; nothing is an error.
"""

from __future__ import annotations

from collections.abc import Iterator

OPTIONS_MAX = 1000
_SPACE = " \t\n\r\f\v"


def parse_options(text: str) -> dict[str, str]:
    """The options by name; the last of a name counts, and what is beyond the 1,000th is left."""
    found: dict[str, str] = {}
    for name, value in _pairs(text):
        found[name] = value
        if len(found) >= OPTIONS_MAX:
            break
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(text)
    while True:
        while at < end and text[at] in _SPACE:
            at += 1
        start = at
        while at < end and text[at] not in _SPACE and text[at] != "=":
            at += 1
        name = text[start:at]
        if not name:
            return
        while at < end and text[at] in _SPACE:
            at += 1
        if at < end and text[at] == "=":
            value, at = _value(text, at + 1)
            yield name, value
        elif name[:2].lower() == "no" and len(name) > 2:
            yield name[2:], "false"
        else:
            yield name, "true"


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, unquoted, and where it ends."""
    pieces: list[str] = []
    end = len(text)
    while at < end and text[at] not in _SPACE:
        character = text[at]
        if character in "'\"":
            piece, at = _quoted(text, at)
        elif character == "{":
            piece, at = _collection(text, at)
        elif character == "\\" and at + 1 < end:
            piece, at = text[at + 1], at + 2
        else:
            piece, at = character, at + 1
        pieces.append(piece)
    return "".join(pieces), at


def _quoted(text: str, at: int) -> tuple[str, int]:
    """What stands between the quote at `at` and the next one like it, or the end of the text."""
    quote, pieces, end = text[at], [], len(text)
    at += 1
    while at < end and text[at] != quote:
        if text[at] == "\\" and at + 1 < end:
            at += 1
        pieces.append(text[at])
        at += 1
    return "".join(pieces), at + 1


def _collection(text: str, at: int) -> tuple[str, int]:
    """The braces from `at` to the one that closes them, as they stand."""
    start, depth, end = at, 0, len(text)
    while at < end:
        character = text[at]
        if character == "\\":
            at += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
        at += 1
        if not depth:
            break
    at = min(at, end)
    return text[start:at], at
