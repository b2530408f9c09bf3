"""PJL, HP's Printer Job Language, both ways and sans-IO (Technical Reference, ch. 4 and 7 to 9).

Client: functions that make the commands around a document, and `BackChannel`, which turns what the
device says into messages. Device: `CommandReader`, which splits a stream into commands and data;
the simulated printer is made of it. Nothing here raises on any bytes: devices say odd things.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

UEL: Final = b"\x1b%-12345X"
LINE_BYTES_MAX: Final = 4096
MESSAGE_BYTES_MAX: Final = 8192
NAME_CHARACTERS_MAX: Final = 80
HEAD_BYTES: Final = 65536  # where a JOB command of the document's own is looked for

_OPENINGS = (UEL, b"\x1bE" + UEL, b"@PJL")
_OWN_JOB = re.compile(rb"^(?:\x1b%-12345X|\x1bE)*@PJL[ \t]+JOB\b", re.MULTILINE | re.IGNORECASE)
_LANGUAGES = {
    "application/postscript": "POSTSCRIPT",
    "application/vnd.hp-pcl": "PCL",
    "application/vnd.hp-pclxl": "PCLXL",
    "application/pdf": "PDF",
}


# --- what we send ---------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """`text` as a PJL string: printable ASCII without quotes, at most 80 characters."""
    clean = "".join(c if c.isascii() and c.isprintable() and c != '"' else "_" for c in text)
    return f'"{clean[:NAME_CHARACTERS_MAX]}"'


def commands(*lines: str) -> bytes:
    """UEL, the lines as PJL commands, and nothing behind them: PJL is still open."""
    return UEL + b"".join(b"@PJL %b\r\n" % line.encode("ascii", "replace") for line in lines)


def question(token: str, *, page_count: bool = False, status: bool = False) -> bytes:
    """Ask a device about itself; what it says ends with an ECHO of `token`. Prints nothing."""
    lines = ["INFO STATUS"] if status else []
    lines += ["INFO PAGECOUNT"] if page_count else []
    return commands(*lines, f"ECHO {token}") + UEL


def opening(token: str, *, page_count: bool = False, follow_jobs: bool = False) -> bytes:
    """Before the document: an ECHO that shows who listens, the page counter, job reports on."""
    lines = [f"ECHO {token}"]
    lines += ["INFO PAGECOUNT"] if page_count else []
    lines += ["USTATUS JOB=ON"] if follow_jobs else []
    return commands(*lines) + UEL


_SIDES = {
    "one-sided": ("SET DUPLEX=OFF",),
    "two-sided-long-edge": ("SET DUPLEX=ON", "SET BINDING=LONGEDGE"),
    "two-sided-short-edge": ("SET DUPLEX=ON", "SET BINDING=SHORTEDGE"),
}
_COLORS = {"monochrome": ("SET RENDERMODE=GRAYSCALE",), "color": ("SET RENDERMODE=COLOR",)}


def job(
    name: str,
    title: str = "",
    copies: int = 1,
    media_type: str = "",
    sides: object = None,
    color: object = None,
) -> bytes:
    """Open a job of ours around a document. `copies` are collated sets (QTY).

    `sides` and `color` are keywords of `sides` and `print-color-mode` (RFC 8011, PWG 5100.13);
    others say nothing. They are defaults, which commands of the document itself override.
    """
    display = f" DISPLAY={quoted(title)}" if title else ""
    lines = [f"JOB NAME={quoted(name)}{display}"]
    lines += [f"SET QTY={copies}"] if copies > 1 else []
    lines += _SIDES.get(sides, ()) if isinstance(sides, str) else ()
    lines += _COLORS.get(color, ()) if isinstance(color, str) else ()
    language = _LANGUAGES.get(media_type.partition(";")[0].strip().lower())
    lines += [f"ENTER LANGUAGE={language}"] if language else []
    return commands(*lines)


def end_of_job(name: str) -> bytes:
    return commands(f"EOJ NAME={quoted(name)}") + UEL


def has_pjl(head: bytes) -> bool:
    """Does a document begin with PJL of its own?"""
    return head.startswith(_OPENINGS)


def has_own_job(head: bytes) -> bool:
    """Does a document open a job of its own? Then nothing may be put around or into it."""
    return has_pjl(head) and _OWN_JOB.search(head) is not None


# --- what the device says -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Echo:
    token: str


@dataclass(frozen=True, slots=True)
class JobReport:
    """USTATUS JOB. `event` is START, END or CANCELED; `result` is of those devices that say one."""

    event: str
    name: str = ""
    pages: int | None = None
    result: str = ""

    @property
    def is_end(self) -> bool:
        return self.event in ("END", "CANCELED")

    @property
    def is_canceled(self) -> bool:
        return self.event == "CANCELED" or "CANCEL" in self.result


@dataclass(frozen=True, slots=True)
class PageReport:
    """USTATUS PAGE: this page lies in the tray."""

    page: int


@dataclass(frozen=True, slots=True)
class PageCount:
    """INFO PAGECOUNT: all pages of the device's life."""

    pages: int


@dataclass(frozen=True, slots=True)
class Status:
    """INFO STATUS and USTATUS DEVICE. `code` is 0 where it cannot be read."""

    code: int
    display: str = ""
    is_online: bool = True

    @property
    def is_idle(self) -> bool:
        return self.code in _IDLE

    @property
    def reasons(self) -> tuple[str, ...]:
        """What keeps the device from printing, as printer-state-reasons (RFC 8011 5.4.12)."""
        found = [reason for codes, reason in _REASONS if self.code in codes]
        if not found and 40000 < self.code < 50000:
            found = ["other"]  # an operator is needed
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Other:
    """Anything else, as text: `?` for an unknown command, PostScript errors, greetings."""

    text: str = ""


Message = Echo | JobReport | PageReport | PageCount | Status | Other

_IDLE = frozenset({10000, 10001, 35078, 40000})
_REASONS = (
    (range(41000, 42000), "media-needed"),
    ((40019,), "output-area-full"),
    ((40021,), "cover-open"),
    ((40010,), "toner-empty"),
    ((10006, 40038), "toner-low"),
    ((40022, *range(42000, 43000)), "media-jam"),
    ((40079,), "paused"),
    (range(50000, 60000), "other"),  # hardware
)
_PAIR = re.compile(r'([A-Z][A-Z0-9 ]*?)\s*=\s*("[^"]*"?|[^\s"]*)', re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,10}")


@dataclass(slots=True)
class BackChannel:
    """Feed `receive` with what the device sent; it returns the messages that became complete."""

    _buffer: bytearray = field(default_factory=bytearray)

    def receive(self, data: bytes) -> list[Message]:
        self._buffer += data
        *whole, rest = bytes(self._buffer).split(b"\f")
        if len(rest) > MESSAGE_BYTES_MAX:  # no device says so much; and no end may ever come
            rest = b""
        self._buffer[:] = rest
        return [message for part in whole for message in _messages(part)]


def _messages(part: bytes) -> list[Message]:
    """A part may hold plain text in front of a PJL answer, which begins its own line."""
    text = part[-MESSAGE_BYTES_MAX:].decode("latin-1")
    before, found, answer = text.partition("@PJL")
    messages: list[Message] = [Other(before.strip())] if before.strip() else []
    if found:
        messages.append(_message(answer))
    return messages


def _message(answer: str) -> Message:
    head, *lines = [line.strip() for line in answer.splitlines() if line.strip()] or [""]
    kind, _, rest = head.partition(" ")
    subject = rest.split()[0].upper() if rest.split() else ""
    kind = kind.upper()
    if kind == "ECHO":
        return Echo(rest.strip())
    values = {k.strip().upper(): v.strip('"') for line in lines for k, v in _PAIR.findall(line)}
    if kind == "USTATUS" and subject == "JOB":
        event = lines[0].upper() if lines else ""
        if event in ("START", "END", "CANCELED", "CANCELLED"):
            pages = _NUMBER.fullmatch(values.get("PAGES", ""))
            return JobReport(
                "CANCELED" if event == "CANCELLED" else event,
                values.get("NAME", ""),
                int(pages[0]) if pages else None,
                values.get("RESULT", "").upper(),
            )
    if kind == "USTATUS" and subject == "PAGE" and lines and _NUMBER.fullmatch(lines[0]):
        return PageReport(int(lines[0]))
    if kind == "INFO" and subject == "PAGECOUNT" and lines:
        number = _NUMBER.fullmatch(values.get("PAGECOUNT", lines[0]))
        if number:
            return PageCount(int(number[0]))
    if (kind, subject) in (("INFO", "STATUS"), ("USTATUS", "DEVICE"), ("USTATUS", "TIMED")):
        code = _NUMBER.fullmatch(values.get("CODE", ""))
        is_online = values.get("ONLINE", "TRUE").upper() != "FALSE"
        return Status(int(code[0]) if code else 0, values.get("DISPLAY", ""), is_online)
    return Other(answer.strip())


# --- the device's side ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """One `@PJL` line: its first word in capitals, the rest as it came."""

    word: str
    rest: str = ""

    def value(self, key: str) -> str:
        """The value of `KEY=value` or `KEY="value"` in the line; "" without one."""
        found = re.search(rf'\b{re.escape(key)}\s*=\s*("[^"]*"|\S+)', self.rest, re.IGNORECASE)
        return found[1].strip('"') if found else ""


@dataclass(slots=True)
class CommandReader:
    """Splits a stream into PJL commands and document data (`bytes`).

    A stream begins as data. UEL opens PJL; `ENTER`, and anything that is no `@PJL` line, closes it.
    """

    _buffer: bytearray = field(default_factory=bytearray)
    _in_pjl: bool = False

    def receive(self, data: bytes) -> list[Command | bytes]:
        self._buffer += data
        events: list[Command | bytes] = []
        while self._buffer and self._step(events):
            pass
        return events

    def end(self) -> bytes:
        """The stream has ended; returns what was kept back as data."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _step(self, events: list[Command | bytes]) -> bool:
        """Take one thing off the buffer; False when that needs more bytes."""
        buffer = self._buffer
        if not self._in_pjl:
            at = buffer.find(UEL)
            take = at if at >= 0 else len(buffer) - _kept_back(buffer)
            if take:
                events.append(bytes(buffer[:take]))
                del buffer[:take]
            if at >= 0:
                del buffer[: len(UEL)]
                self._in_pjl = True
            return at >= 0
        if buffer[0] in b"\r\n":
            del buffer[0]
        elif buffer.startswith(UEL):
            del buffer[: len(UEL)]
        elif buffer.startswith(b"@PJL"):
            end = buffer.find(b"\n", 0, LINE_BYTES_MAX)
            if end < 0 and len(buffer) < LINE_BYTES_MAX:
                return False
            line = buffer[4 : end if end >= 0 else LINE_BYTES_MAX].decode("latin-1").strip()
            del buffer[: end + 1 if end >= 0 else LINE_BYTES_MAX]
            word, _, rest = line.partition(" ")
            if word:
                events.append(Command(word.upper(), rest.strip()))
            self._in_pjl = word.upper() != "ENTER"
        elif UEL.startswith(buffer) or b"@PJL".startswith(buffer):
            return False
        else:
            self._in_pjl = False
        return True


def _kept_back(buffer: bytearray) -> int:
    """How many bytes at the end may be the beginning of a UEL."""
    for count in range(min(len(UEL) - 1, len(buffer)), 0, -1):
        if UEL.startswith(buffer[-count:]):
            return count
    return 0
