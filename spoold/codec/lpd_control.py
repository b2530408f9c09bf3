"""The control file of LPD (RFC 1179, section 7): who sends what, and how it is to be printed.

In: the bytes of a control file, or a `ControlFile`. Out: the other. Unknown lines are skipped, as
senders add lines of their own; texts are NFC, with the bytes as sent beside them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from spoold.model import person
from spoold.model.errors import RemoteProtocolError

FILES_PER_JOB_MAX = 100
_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x1f\x7f]")
FORMATS = "flopdgnrtvc"  # the letters of RFC 1179 7.18 to 7.28 that print a file


@dataclass(slots=True)
class PrintFile:
    """A data file that the control file prints. `copies` counts its print lines."""

    name: bytes
    format: str = "f"
    copies: int = 1
    title: str = ""  # T, for `pr`
    source: str = ""  # N, the name of the file at the sender


@dataclass(slots=True)
class ControlFile:
    """RFC 1179 7. Texts are NFC; `raw` keeps the bytes as sent, by letter (the last line wins)."""

    host: str = ""  # H
    user: str = ""  # P
    job_name: str = ""  # J
    job_class: str = ""  # C
    banner_user: str = ""  # L
    mail: str = ""  # M
    indent: int | None = None  # I
    width: int | None = None  # W
    files: list[PrintFile] = field(default_factory=list)
    unlink: list[bytes] = field(default_factory=list)  # U
    raw: dict[str, bytes] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the sender calls the job: J, else the first N, else the first T."""
        sources = (file.source for file in self.files)
        titles = (file.title for file in self.files)
        return next(filter(None, (self.job_name, *sources, *titles)), "")


_TEXTS = {
    "H": "host",
    "P": "user",
    "J": "job_name",
    "C": "job_class",
    "L": "banner_user",
    "M": "mail",
}
_NUMBERS = {"I": "indent", "W": "width"}


def parse_control(body: bytes) -> ControlFile:
    """The control file in `body`. Unknown lines are skipped; print lines stay in their order.

    N names the print line before it, or the one behind it where the sender writes it first.

    Raises:
        RemoteProtocolError: it prints more than `FILES_PER_JOB_MAX` files.
    """
    control = ControlFile()
    by_name: dict[bytes, PrintFile] = {}
    title = source = ""
    unlink: dict[bytes, None] = {}
    last: PrintFile | None = None
    for line in body.split(b"\n"):
        letter, operand = line[:1].decode("latin-1"), line[1:].rstrip(b"\r\x00")
        if letter in _TEXTS:
            control.raw[letter] = operand
            setattr(control, _TEXTS[letter], person.decode_text(operand))
        elif letter in _NUMBERS:
            if operand.isdigit() and len(operand) <= 6:
                setattr(control, _NUMBERS[letter], int(operand))
        elif letter == "T":
            title = person.decode_text(operand)
        elif letter == "N":
            if last is not None and not last.source:
                last.source = person.decode_text(operand)
            else:
                source = person.decode_text(operand)
        elif letter == "U" and operand:
            unlink[operand] = None
        elif letter and letter in FORMATS and operand:
            known = by_name.get(operand)
            if known is not None:
                known.copies += 1
                last = known
                continue
            if len(by_name) >= FILES_PER_JOB_MAX:
                raise RemoteProtocolError(f"a control file prints over {FILES_PER_JOB_MAX} files")
            last = by_name[operand] = PrintFile(operand, letter, 1, title, source)
            title = source = ""
    control.files = list(by_name.values())
    control.unlink = list(unlink)
    return control


def build_control(control: ControlFile) -> bytes:
    """The bytes of a control file, its texts cut to the lengths that RFC 1179 allows.

    Control characters in a text become spaces; UTF-8 is never cut inside a character.
    """
    lines = [b"H" + text_bytes(control.host, 31), b"P" + text_bytes(control.user, 31)]
    for letter, text, bytes_max in (
        (b"J", control.job_name, 99),
        (b"C", control.job_class, 31),
        (b"L", control.banner_user, 31),
        (b"M", control.mail, 131),
    ):
        if text:
            lines.append(letter + text_bytes(text, bytes_max))
    lines += [b"I%d" % control.indent] if control.indent is not None else []
    lines += [b"W%d" % control.width] if control.width is not None else []
    for file in control.files:
        lines += [b"T" + text_bytes(file.title, 79)] if file.title else []
        lines += [file.format.encode("ascii") + file.name] * file.copies
        lines += [b"N" + text_bytes(file.source, 131)] if file.source else []
    lines += [b"U" + name for name in control.unlink]
    return b"".join(line + b"\n" for line in lines)


def text_bytes(text: str, bytes_max: int) -> bytes:
    """`text` on the wire: at most `bytes_max` bytes of UTF-8, control characters as spaces."""
    raw = _CONTROL_CHARACTERS.sub(b" ", text.encode("utf-8", "replace"))[:bytes_max]
    return raw.decode("utf-8", "ignore").encode("utf-8")
