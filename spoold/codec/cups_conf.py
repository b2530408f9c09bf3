"""The files in which CUPS keeps its queues: printers.conf, classes.conf, lpoptions, cupsd.conf.

In: their bytes, whole. Out: queues with every line that they hold, or `RemoteProtocolError` with
the number of the line that cannot be. Lines are read as cupsd reads them (`cupsFileGetConf`): a
name and the rest, `#` begins a comment unless a backslash stands before it, sections stand between
`<Printer NAME>` and `</Printer>`. A file that ends inside a section was cut off, and is refused:
half a file must not look like fewer queues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from spoold.codec.cups_options import parse_options
from spoold.model.errors import RemoteProtocolError
from spoold.model.person import decode_text

FILE_BYTES_MAX = 16 << 20
LINE_BYTES_MAX = 16 * 1024
QUEUES_MAX = 10_000
LINES_MAX = 1000  # of a section
LEVELS_MAX = 4

_ON = frozenset({"yes", "on", "true"})
_OFF = frozenset({"no", "off", "false"})


class Line(NamedTuple):
    """`<Kind` and `</Kind` are names of lines, too."""

    number: int
    name: str
    value: str


def _refused(number: int, cause: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"line {number}: {cause}")


def read_lines(data: bytes) -> Iterator[Line]:
    """The lines that are not empty or comments.

    Raises:
        RemoteProtocolError: a line is too long, or there are bytes that no text has.
    """
    if len(data) > FILE_BYTES_MAX:
        raise _refused(1, f"the file is over {FILE_BYTES_MAX >> 20} MiB long")
    for number, raw in enumerate(data.split(b"\n"), 1):
        if len(raw) > LINE_BYTES_MAX:
            raise _refused(number, f"it is over {LINE_BYTES_MAX} bytes long")
        if b"\0" in raw:
            raise _refused(number, "it has a zero byte; this is no text")
        text = _without_comment(decode_text(raw, LINE_BYTES_MAX))
        if not text:
            continue
        name, _, value = text.partition(" ")
        if name.startswith("<"):
            if not text.endswith(">"):
                raise _refused(number, "a section's line has no > at its end")
            name, _, value = text[:-1].partition(" ")
        yield Line(number, name, value.strip())


def _without_comment(text: str) -> str:
    """Up to the first `#`; behind a backslash it is one, and so are all that follow."""
    at = text.find("#")
    if at < 0:
        return text
    if at and text[at - 1] == "\\":
        return text[: at - 1] + text[at:]
    return text[:at].rstrip()


@dataclass(slots=True)
class Section:
    """`kind` in lower case, as `printer` or `defaultclass`."""

    kind: str
    name: str
    number: int
    lines: list[Line] = field(default_factory=list)


def read_sections(data: bytes) -> tuple[list[Line], list[Section]]:
    """The lines outside of sections, and the outermost sections with theirs.

    Raises:
        RemoteProtocolError: sections do not fit into each other, or the file ends inside one.
    """
    outside: list[Line] = []
    sections: list[Section] = []
    stack: list[Section] = []
    for line in read_lines(data):
        if line.name.startswith("</"):
            if not stack or stack[-1].kind != line.name[2:].lower():
                raise _refused(line.number, f"{line.name}> ends nothing that was begun")
            stack.pop()
        elif line.name.startswith("<"):
            if len(stack) >= LEVELS_MAX:
                raise _refused(line.number, f"over {LEVELS_MAX} sections in each other")
            stack.append(Section(line.name[1:].lower(), line.value, line.number))
            if len(stack) == 1:
                sections.append(stack[0])
            if len(sections) > QUEUES_MAX:
                raise _refused(line.number, f"over {QUEUES_MAX} sections")
        elif not stack:
            outside.append(line)
        elif len(stack) == 1:
            stack[0].lines.append(line)
            if len(stack[0].lines) > LINES_MAX:
                raise _refused(line.number, f"over {LINES_MAX} lines in a section")
    if stack:
        last = stack[-1]
        cause = f"<{last.kind.title()} {last.name}> has no end; the file may have been cut off"
        raise _refused(last.number, cause)
    return outside, sections


@dataclass(slots=True)
class CupsQueue:
    """A queue or a class, as its section says. `lines` are those that are not taken apart here."""

    name: str
    number: int
    is_class: bool = False
    is_default: bool = False
    uri: str = ""
    members: list[str] = field(default_factory=list)
    info: str = ""
    location: str = ""
    geo_location: str = ""
    organization: str = ""
    organizational_unit: str = ""
    make_and_model: str = ""
    is_stopped: bool = False
    state_message: str = ""
    accepting: bool = True
    shared: bool = False
    options: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)


_TEXTS = {
    "deviceuri": "uri",
    "info": "info",
    "location": "location",
    "geolocation": "geo_location",
    "organization": "organization",
    "organizationalunit": "organizational_unit",
    "makemodel": "make_and_model",
    "statemessage": "state_message",
}
_SWITCHES = {"accepting": "accepting", "shared": "shared"}


def read_queues(data: bytes) -> list[CupsQueue]:
    """The queues of printers.conf, or the classes of classes.conf, in their order.

    Raises:
        RemoteProtocolError: the file cannot be one of the two, or a queue stands there twice.
    """
    _, sections = read_sections(data)
    queues: list[CupsQueue] = []
    seen: set[str] = set()
    for section in sections:
        kind = section.kind.removeprefix("default")
        if kind not in ("printer", "class"):
            raise _refused(section.number, f"<{section.kind.title()}> is no queue")
        if not section.name:
            raise _refused(section.number, "the queue has no name")
        if section.name.lower() in seen:  # to CUPS, Desk is desk
            raise _refused(section.number, f"{section.name} stands there twice")
        seen.add(section.name.lower())
        queues.append(_queue(section, is_class=kind == "class"))
    return queues


def _queue(section: Section, *, is_class: bool) -> CupsQueue:
    queue = CupsQueue(
        section.name,
        section.number,
        is_class,
        is_default=section.kind.startswith("default"),
    )
    for line in section.lines:
        name = line.name.lower()
        if name in _TEXTS:
            setattr(queue, _TEXTS[name], line.value)
        elif name in _SWITCHES:
            setattr(queue, _SWITCHES[name], _switch(line))
        elif name == "state":
            queue.is_stopped = line.value.lower() == "stopped"
        elif name == "printer" and is_class:
            queue.members.append(line.value)
        elif name == "option":
            option, _, value = line.value.partition(" ")
            queue.options[option] = value.strip()
        else:
            queue.lines.append(line)
    return queue


def _switch(line: Line) -> bool:
    value = line.value.lower()
    if value not in _ON | _OFF:
        raise _refused(line.number, f"{line.name} is neither Yes nor No")
    return value in _ON


class Destination(NamedTuple):
    """A line of lpoptions: what a queue, or an instance of it, does by default."""

    number: int
    name: str
    instance: str
    is_default: bool
    options: dict[str, str]


def read_lpoptions(data: bytes) -> list[Destination]:
    """The destinations of an lpoptions file.

    Raises:
        RemoteProtocolError: a line is none.
    """
    found: list[Destination] = []
    for line in read_lines(data):
        kind = line.name.lower()
        if kind not in ("dest", "default"):
            raise _refused(line.number, f"{line.name[:40]} is neither Dest nor Default")
        place, _, options = line.value.partition(" ")
        name, _, instance = place.partition("/")
        if not name:
            raise _refused(line.number, "it names no queue")
        found.append(
            Destination(line.number, name, instance, kind == "default", parse_options(options))
        )
        if len(found) > QUEUES_MAX:
            raise _refused(line.number, f"over {QUEUES_MAX} destinations")
    return found
