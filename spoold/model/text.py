"""Text of peers, made safe to show: the one rule of log lines, tables and error messages."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """`text` on one line, without characters that act on a terminal or hide in it.

    Control, format, surrogate and line-breaking characters are shown as in a Python string.
    """
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if _acts(c) else c for c in text)


def folded(text: str) -> str:
    """`text` for a comparison that knows no case, whichever way its accents are written."""
    return unicodedata.normalize("NFC", text).casefold()


def _acts(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")
