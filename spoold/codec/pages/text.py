"""Plain text: a page ends at a form feed, and where it is full.

How many lines a page takes, and where a long line is folded, is up to the device; 66 lines of any
length are assumed, so the count is never exact.
"""

from __future__ import annotations

import re

from spoold.codec.pages.contents import Tally
from spoold.codec.pages.document import WINDOW_BYTES, Document

LINES_A_PAGE = 66
UEL = b"\x1b%-12345X"
_BLANK = re.compile(rb"[ \t\r\n\x00\x04\x1a]*")


def count_text(document: Document, tally: Tally, lines_a_page: int = LINES_A_PAGE) -> int:
    """Count a text; returns where it ends."""
    at, lines, is_begun = document.start, 0, False
    tally.doubt(f"{lines_a_page} lines a page are assumed")
    last = b"\n"
    while at < document.end:
        data = document.window(at, WINDOW_BYTES)
        at += len(data)
        parts = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\f")
        document.allowance.spend(len(parts))
        for number, part in enumerate(parts):
            if number:  # a form feed stands before this part
                _pages(tally, lines + (last != b"\n"), lines_a_page)
                lines, is_begun, last = 0, False, b"\n"
            if part:
                lines += part.count(b"\n")
                is_begun = is_begun or _BLANK.fullmatch(part) is None
                last = part[-1:]
    if is_begun:
        _pages(tally, lines + (last != b"\n"), lines_a_page)
    return document.end


def _pages(tally: Tally, lines: int, lines_a_page: int) -> None:
    tally.page(count=max(1, -(-lines // lines_a_page)))
