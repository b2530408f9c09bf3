"""PostScript by its Document Structuring Conventions (Adobe TN 5001, version 3.0).

A program says how many pages it makes only by running; DSC comments say it beforehand. A `%%Page:`
comment stands before each page and `%%Pages:` gives their number: both together are exact. Comments
of embedded documents and of data are passed over. Copies, sides and size are read where page
devices are set up outside of procedures. Without DSC nothing is known.
"""

from __future__ import annotations

import re

from spoold.codec.pages.contents import MediaSize, Sides, Tally, media_size_points
from spoold.codec.pages.document import WINDOW_BYTES, Damaged, Document

_EPS_BINARY = b"\xc5\xd0\xd3\xc6"
_COMMENT = re.compile(rb"%%([A-Za-z]{4,20}):?[ \t]*([^\r\n]{0,255})")
_SETTING = re.compile(
    rb"/(?:(#copies|NumCopies)\s+(\d{1,5})|(Duplex|Tumble)\s+(true|false)"
    rb"|PageSize\s*\[\s*(\d{1,6}(?:\.\d{0,9})?)\s+(\d{1,6}(?:\.\d{0,9})?)\s*\])"
)
_NEXT_JOB = re.compile(rb"\x04[\s\x04]*(?=%!)")
_NUMCOPIES = re.compile(rb"numcopies\s*\(\s*(\d{1,5})")
_NUMBER = re.compile(rb"\d{1,9}")
# What stands inside of these sets nothing up: it defines, or belongs to another document.
_SECTIONS = frozenset({b"Prolog", b"ProcSet", b"Resource", b"Font", b"Defaults", b"Emulation"})
_DEPTH_MAX = 1000


class NotStated(Exception):
    """Nothing but running the program tells how many pages it makes."""


class _Program:
    """One program of a job, as its comments come by."""

    def __init__(self, tally: Tally, is_conforming: bool, is_eps: bool) -> None:
        self._tally = tally
        self._is_conforming = is_conforming
        self._is_eps = is_eps
        self._stated: int | None = None
        self._marked = 0
        self._documents = 0  # how deep in embedded ones
        self._sections = 0
        self._copies: int | None = None
        self._duplex: bool | None = None
        self._is_tumble = False
        self._media: MediaSize | None = None

    @property
    def is_embedded(self) -> bool:
        return self._documents > 0

    def comment(self, word: bytes, rest: bytes) -> int:
        """Take a comment; returns how many bytes of data follow it."""
        if word == b"BeginDocument":
            self._documents = min(self._documents + 1, _DEPTH_MAX)
        elif word == b"EndDocument":
            self._documents = max(0, self._documents - 1)
        elif word in (b"BeginData", b"BeginBinary"):
            number = _NUMBER.match(rest)
            if number is not None and b"Lines" not in rest:
                return int(number[0])
        elif not self._documents:
            self._own_comment(word, rest)
        return 0

    def _own_comment(self, word: bytes, rest: bytes) -> None:
        if word == b"Page":
            self._end_page()
            self._marked += 1
            self._sections = 0
        elif word == b"Pages":
            number = _NUMBER.match(rest)
            if number is not None:
                self._stated = int(number[0])
        elif word == b"Requirements":
            copies = _NUMCOPIES.search(rest)
            self._copies = int(copies[1]) if copies else self._copies
            if b"duplex" in rest:
                self._duplex, self._is_tumble = True, b"tumble" in rest
        elif word == b"BeginFeature":
            self._feature(rest)
        elif word in (b"EndProlog", b"EndComments", b"BeginSetup"):
            self._sections = 0
        elif word.startswith(b"Begin") and word[5:] in _SECTIONS:
            self._sections += 1
        elif word.startswith(b"End") and word[3:] in _SECTIONS:
            self._sections = max(0, self._sections - 1)

    def _feature(self, rest: bytes) -> None:
        words = rest.split()
        if len(words) < 2 or words[0] != b"*Duplex":
            return
        if words[1] in (b"DuplexNoTumble", b"DuplexTumble"):
            self._duplex, self._is_tumble = True, words[1] == b"DuplexTumble"
        elif words[1] in (b"None", b"Simplex"):
            self._duplex = False

    def setting(self, found: re.Match[bytes]) -> None:
        """Take what is set up for the page device."""
        if self._documents or self._sections:
            return
        if found[1]:
            self._copies = int(found[2]) or self._copies
        elif found[3] == b"Duplex":
            self._duplex = found[4] == b"true"
        elif found[3] == b"Tumble":
            self._is_tumble = found[4] == b"true"
        else:
            self._media = media_size_points(float(found[5]), float(found[6]))

    def _sides(self) -> Sides | None:
        if self._duplex is None:
            return None
        if not self._duplex:
            return Sides.ONE_SIDED
        return Sides.SHORT_EDGE if self._is_tumble else Sides.LONG_EDGE

    def _end_page(self) -> None:
        if self._marked:
            self._tally.page(self._copies, self._sides(), self._media, None)

    def end(self) -> None:
        """The program has ended.

        Raises:
            NotStated: nothing says how many pages it makes.
        """
        self._end_page()
        if self._marked:
            if self._stated is not None and self._stated != self._marked:
                self._tally.doubt(f"it says {self._stated} pages and marks {self._marked}")
            elif not self._is_conforming:
                self._tally.doubt("it does not claim to follow the structuring conventions")
        elif self._stated:
            self._tally.doubt("it says how many pages, and does not mark them")
            self._tally.page(self._copies, self._sides(), self._media, None, count=self._stated)
        elif self._is_eps:
            self._tally.page(self._copies, self._sides(), self._media, None)
        else:
            raise NotStated("a PostScript program without page comments")


def count_postscript(document: Document, tally: Tally) -> int:
    """Count the programs of a PostScript document; returns where it ends.

    Raises:
        Damaged: the head of a binary EPS points outside of it.
        NotStated: a program has no page comments.
    """
    at, end = document.start, document.end
    if document.window(at, 4) == _EPS_BINARY:
        head = document.exactly(at, 12)
        begin, length = (int.from_bytes(head[n : n + 4], "little") for n in (4, 8))
        if begin + length > end - at:
            raise Damaged("its head points outside of it")
        at, end = at + begin, at + begin + length
    while at < end:
        at = _count_program(document.part(at, end), tally)
    return document.end


def _count_program(document: Document, tally: Tally) -> int:
    """One program; returns where the next one begins, or the end."""
    at = document.start
    first = document.window(at, 256).lstrip(b"\x04 \t\r\n\x00").splitlines()[:1]
    line = first[0] if first else b""
    if not line:
        return _behind_blanks(document)
    program = _Program(tally, line.startswith(b"%!PS-Adobe-"), b" EPSF-" in line)
    at += 1  # behind a Ctrl-D in front of it
    while at < document.end:
        data = _lines(document, at)
        document.allowance.spend(1)
        stop = len(data)
        next_job = _NEXT_JOB.search(data)
        if next_job is not None and not program.is_embedded:
            stop = next_job.start()
        taken = _take(program, document, data, stop, document.end - at)
        at += taken
        if taken == stop and stop < len(data):
            program.end()
            return at
    program.end()
    return document.end


def _take(program: _Program, document: Document, data: bytes, stop: int, room: int) -> int:
    """Take comments and settings of `data` up to `stop`; returns how far that goes, with data."""
    found = [
        *(one for one in _COMMENT.finditer(data, 0, stop) if _is_at_line(data, one.start())),
        *_SETTING.finditer(data, 0, stop),
    ]
    document.allowance.spend(len(found))
    behind = 0  # the data that stands in the comments, if any
    for one in sorted(found, key=re.Match.start):
        if one.start() < behind:
            continue
        if one.re is _SETTING:
            program.setting(one)
            continue
        length = program.comment(one[1], one[2])
        if length and one.end() + length < room:
            behind = one.end() + length
    return max(behind, stop)


def _is_at_line(data: bytes, at: int) -> bool:
    return at == 0 or data[at - 1] in b"\r\n\x04"


def _lines(document: Document, at: int) -> bytes:
    """Whole lines from `at` on: a comment is never cut."""
    data = document.window(at, WINDOW_BYTES)
    if at + len(data) >= document.end:
        return data
    end = max(data.rfind(b"\n"), data.rfind(b"\r"))
    return data[: end + 1] if end >= 0 else data


def _behind_blanks(document: Document) -> int:
    """Where something begins again behind a stretch of blanks; the end when nothing does."""
    at = document.start
    while at < document.end:
        data = document.window(at, WINDOW_BYTES)
        rest = data.lstrip(b"\x04 \t\r\n\x00")
        at += len(data) - len(rest)
        if rest:
            return at
    return at
